//! The reference's recipe: how stored slices become the network's input and target, and batches of them.
//! Data flows one way: stacks -> preprocessing -> augmentation -> batches.

pub mod augmentation;
pub mod batches;
pub mod preprocessing;
