//! What a run leaves behind and shows: the model folder, its `config.json`, logs, the table of losses, pictures, the
//! report, TensorBoard's events.

pub mod html;
pub mod logger;
pub mod loss_table;
pub mod manifest;
pub mod model_dir;
pub mod pictures;
mod progress;
pub mod tensorboard;
pub mod tracker;
