//! The network: what fixes its shapes, its layers, blocks and wiring, and what it costs. No loss, no training here.

pub mod architecture;
pub mod backend;
pub mod blocks;
pub mod convolution;
mod cost;
pub mod init;
pub mod ops;
pub mod shapes;
pub mod sides;
pub mod unet;
