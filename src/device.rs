//! The device that computes.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

use crate::cli::DeviceChoice;
use crate::native;

/// The device for `choice`.
///
/// Errors: `cuda` where there is no usable GPU.
pub fn select(choice: DeviceChoice) -> Result<Device> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let loaded = native::load_cuda();
    match choice {
        _ if loaded.is_ok() && Cuda::is_available() => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda => {
            let reason = loaded.err().map_or_else(|| "the driver shows none".to_owned(), |error| error.to_string());
            bail!(
                "--device cuda: no usable GPU found ({reason}); check that 'nvidia-smi' lists one and that libtorch is \
                 a CUDA build, or use --device cpu"
            )
        }
        _ => Ok(Device::Cpu),
    }
}

/// `cpu, 2 threads` or `cuda:0`.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => format!("cpu, {} threads", tch::get_num_threads()),
    }
}

/// Sets up what all work on the device needs; to be called before any. Lets cuDNN choose its kernels by trial, as shapes do
/// not change. `tf32` lets GPUs that can (Ampere and later) round the factors of f32 products to TF32, as the reference
/// does. `xla` puts all work on a stream that can be captured.
pub fn prepare(device: Device, tf32: bool, xla: bool) -> Result<()> {
    if let Device::Cuda(index) = device {
        Cuda::cudnn_set_benchmark(true);
        native::allow_tf32(tf32)?;
        if xla {
            native::use_own_stream(index)?;
        }
    }
    Ok(())
}

/// Waits until the device has done all work given to it.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf32_can_be_turned_on_and_off() {
        // What it is by default comes last.
        for allow in [true, false, true] {
            native::allow_tf32(allow).unwrap();
            assert_eq!(native::tf32_is_allowed().unwrap(), allow);
        }
    }
}
