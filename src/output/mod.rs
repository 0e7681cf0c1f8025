//! What a run leaves behind and shows: the model folder, its `config.json`, logs, the table of losses, pictures,
//! TensorBoard's events.

pub mod logger;
pub mod loss_table;
pub mod manifest;
pub mod model_dir;
pub mod pictures;
pub mod tensorboard;
pub mod tracker;
