//! The device that computes.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

use crate::cli::DeviceChoice;
use crate::config::Config;
use crate::distributed::environment::Place;
use crate::native;

/// The device for `choice` of the process at `place`: each on a machine has a GPU of its own.
///
/// Errors: `cuda` where there is no usable GPU; fewer GPUs than processes.
pub fn select(choice: DeviceChoice, place: Option<&Place>) -> Result<Device> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let loaded = native::load_cuda();
    match choice {
        _ if loaded.is_ok() && Cuda::is_available() => {
            Ok(Device::Cuda(gpu_index(place, Cuda::device_count() as usize)?))
        }
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

/// Which of `count` visible GPUs is that of `place`.
fn gpu_index(place: Option<&Place>, count: usize) -> Result<usize> {
    match place {
        None => Ok(0),
        Some(place) if place.local_rank < count => Ok(place.local_rank),
        // Slurm may show each process its own GPU alone.
        Some(place) if count == 1 && place.local_size.is_none() => Ok(0),
        Some(place) => bail!(
            "process {} of this machine needs a GPU of its own, but {count} are visible; start at most {count} here, \
             or use --device cpu",
            place.local_rank
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

/// Sets up what all work on the device needs; to be called before any. Lets cuDNN choose its kernels by trial, as shapes do
/// not change, or with `--deterministic` only among those that add in a fixed order. GPUs that can (Ampere and later) round
/// the factors of f32 products to TF32, as the reference does, unless `--no_tf32`. `--xla` wants a stream that can be captured.
pub fn prepare(device: Device, config: &Config) -> Result<()> {
    if let Device::Cuda(index) = device {
        Cuda::cudnn_set_benchmark(!config.deterministic);
        native::require_deterministic(config.deterministic)?;
        native::allow_tf32(config.tf32)?;
        native::use_cuda_device(index, config.xla)?;
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
    use crate::native::Address;

    #[test]
    fn each_process_of_a_machine_has_its_own_gpu() {
        let address = Address { host: String::new(), port: 1, rank_0_serves: true, prefix: String::new() };
        let place =
            |local_rank, local_size| Place { rank: 9, size: 16, local_rank, local_size, address: address.clone() };
        assert_eq!(gpu_index(None, 8).unwrap(), 0);
        assert_eq!(gpu_index(Some(&place(7, Some(8))), 8).unwrap(), 7);
        let error = gpu_index(Some(&place(1, Some(8))), 1).unwrap_err().to_string();
        assert!(error.contains("1 are visible"), "{error}");
        assert_eq!(gpu_index(Some(&place(3, None)), 1).unwrap(), 0);
    }

    #[test]
    fn tf32_can_be_turned_on_and_off() {
        // What it is by default comes last.
        for allow in [true, false, true] {
            native::allow_tf32(allow).unwrap();
            assert_eq!(native::tf32_is_allowed().unwrap(), allow);
        }
    }
}
