//! The recipes: how slices become what the network sees, batches of them, and how the network's outputs become
//! probabilities of whole images again.
//!
//! The reference's recipe: slices -> preprocessing -> augmentation -> batches. The native one: slices -> normalisation
//! -> windows, grey changes -> batches; and tiles for prediction.

pub mod augmentation;
pub mod batches;
mod grey_changes;
mod mirror;
pub mod normalisation;
pub mod preprocessing;
pub mod tiles;
pub mod windows;
