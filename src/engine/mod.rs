//! One training step and what it is made of: device, precision, loss, optimiser, and how steps are carried out.

pub mod adam;
pub mod device;
mod ema;
mod finite_counters;
pub mod grad_scaler;
pub mod loss;
pub mod precision;
pub mod schedule;
pub mod shared_cores;
pub mod step_runner;
pub mod trainer;
