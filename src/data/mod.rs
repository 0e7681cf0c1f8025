//! From files to samples: image files -> layouts (which belong together) -> a scan of all -> slices on the device ->
//! folds -> the order of samples. Not here: what the network sees of them (`recipe/`).

pub mod border_weights;
mod decoder;
pub mod emphasis;
pub mod findings;
pub mod folds;
pub mod image_file;
pub mod labels;
pub mod layout;
pub mod loader;
pub mod order;
pub mod random;
mod read_ahead;
pub mod repeats;
pub mod samples;
pub mod scale;
pub mod scan;
pub mod slices;
pub mod spec;
pub mod tiff;
pub mod values;
