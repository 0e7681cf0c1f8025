//! The network: its blocks from small to large, then the whole.

pub mod blocks;
pub mod layers;
pub mod unet;
