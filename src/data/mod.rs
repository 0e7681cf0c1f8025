//! From files to samples: TIFF files -> stacks on the device -> folds -> the order of samples. Not here: what the
//! network sees of them (`recipe/`).

pub mod folds;
pub mod order;
pub mod random;
pub mod stack;
pub mod tiff;
pub mod values;
