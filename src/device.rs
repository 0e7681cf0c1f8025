//! The device that computes.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

use crate::cli::DeviceChoice;

/// The device for `choice`.
///
/// Errors: `cuda` where there is no usable GPU.
pub fn select(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::cuda_if_available()),
        DeviceChoice::Cuda if Cuda::is_available() => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda => bail!(
            "--device cuda: no usable GPU found; check that 'nvidia-smi' lists one and that libtorch is a CUDA build, \
             or use --device cpu"
        ),
    }
}

/// `cpu, 2 threads` or `cuda:0`.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => format!("cpu, {} threads", tch::get_num_threads()),
    }
}

/// Sets up kernels for fixed shapes and the reference's precision of f32.
pub fn prepare(device: Device) {
    if device.is_cuda() {
        Cuda::cudnn_set_benchmark(true);
    }
}

/// Waits until the device has done all work given to it.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}
