//! The network: its shape, its blocks from small to large, then the whole, then what it costs.

pub mod architecture;
pub mod blocks;
mod cost;
#[cfg(test)]
mod gpu_layers_test;
pub mod layers;
mod memory;
pub mod shapes;
pub mod unet;
