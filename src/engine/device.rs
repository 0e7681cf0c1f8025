//! The device that computes.

use std::env;
use std::thread;

use anyhow::{Result, bail};
use tch::{Cuda, Device};

use crate::cli::DeviceChoice;
use crate::distributed::environment::RankInfo;
use crate::native::cuda;

/// The device for `choice`; `rank` is `None` for a process alone. Each process on a machine has a GPU of its own.
///
/// Errors: `cuda` where there is no usable GPU; fewer GPUs than processes.
pub fn select(choice: DeviceChoice, rank: Option<&RankInfo>) -> Result<Device> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let loaded = cuda::load();
    match choice {
        _ if loaded.is_ok() && Cuda::is_available() => {
            Ok(Device::Cuda(gpu_index(rank, Cuda::device_count() as usize)?))
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

/// Which of `count` visible GPUs is that of `rank`.
fn gpu_index(rank: Option<&RankInfo>, count: usize) -> Result<usize> {
    match rank {
        None => Ok(0),
        Some(rank) if rank.local_rank < count => Ok(rank.local_rank),
        // Slurm may show each process its own GPU alone.
        Some(rank) if count == 1 && rank.local_size.is_none() => Ok(0),
        Some(rank) => bail!(
            "process {} of this machine needs a GPU of its own, but {count} are visible; start at most {count} here, \
             or use --device cpu",
            rank.local_rank
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

/// How a GPU computes, for the whole process.
#[derive(Debug, Clone, Copy)]
pub struct GpuOptions {
    /// cuDNN takes kernels that add in a fixed order. Otherwise it chooses its kernels by trial, as shapes do not
    /// change.
    pub deterministic: bool,
    /// GPUs that can (Ampere and later) round the factors of f32 products to TF32, as the reference does.
    pub tf32: bool,
    /// Work goes to a stream that CUDA graphs can capture.
    pub captures: bool,
}

/// Sets up what all work on the device needs. Must come before any such work.
pub fn prepare(device: Device, options: GpuOptions) -> Result<()> {
    if let Device::Cuda(index) = device {
        choose_kernels(options.deterministic)?;
        cuda::allow_tf32(options.tf32)?;
        cuda::use_device(index, options.captures)?;
    }
    if let Some(threads) = fewer_threads(tch::get_num_threads(), env::var_os("OMP_NUM_THREADS").is_some()) {
        tch::set_num_threads(threads);
    }
    Ok(())
}

/// How many threads compute where a container's quota allows fewer cores than there are. libtorch counts the cores;
/// threads beyond the quota would be stopped in turn. `None` where `threads` are right, or the user's own choice.
fn fewer_threads(threads: i32, is_chosen: bool) -> Option<i32> {
    let allowed = thread::available_parallelism().map_or(i32::MAX, |count| count.get() as i32);
    (!is_chosen && allowed < threads).then_some(allowed)
}

/// How cuDNN chooses its kernels from now on: `deterministic` as in [`GpuOptions`].
pub fn choose_kernels(deterministic: bool) -> Result<()> {
    Cuda::cudnn_set_benchmark(!deterministic);
    cuda::require_deterministic(deterministic)
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
    use crate::native::distributed::Address;

    #[test]
    fn each_process_of_a_machine_has_its_own_gpu() {
        let address = Address { host: String::new(), port: 1, rank_0_serves: true, prefix: String::new() };
        let rank =
            |local_rank, local_size| RankInfo { rank: 9, size: 16, local_rank, local_size, address: address.clone() };
        assert_eq!(gpu_index(None, 8).unwrap(), 0);
        assert_eq!(gpu_index(Some(&rank(7, Some(8))), 8).unwrap(), 7);
        let error = gpu_index(Some(&rank(1, Some(8))), 1).unwrap_err().to_string();
        assert!(error.contains("1 are visible"), "{error}");
        assert_eq!(gpu_index(Some(&rank(3, None)), 1).unwrap(), 0);
    }

    #[test]
    fn threads_are_no_more_than_cores_unless_chosen() {
        let cores = thread::available_parallelism().unwrap().get() as i32;
        assert_eq!(fewer_threads(cores + 1, false), Some(cores));
        assert_eq!(fewer_threads(cores + 1, true), None);
        assert_eq!(fewer_threads(cores, false), None);
    }

    #[test]
    fn tf32_can_be_turned_on_and_off() {
        // What it is by default comes last.
        for allow in [true, false, true] {
            cuda::allow_tf32(allow).unwrap();
            assert_eq!(cuda::tf32_is_allowed().unwrap(), allow);
        }
    }
}
