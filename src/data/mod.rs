//! Data flows one way: TIFF files -> stacks on the device -> folds -> preprocessing -> augmentation -> batches.

pub mod augment;
pub mod batches;
pub mod folds;
pub mod phantom;
pub mod preprocess;
pub mod random;
pub mod stack;
pub mod tiff;
pub mod values;
