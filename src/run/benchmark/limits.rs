//! What a benchmark's figures are held against: the machine's speed at matrix products, and the memory in use.

use std::time::{Duration, Instant};

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::engine::device;
use crate::native::cuda;

/// Floating-point operations a second of libtorch's product of two large square matrices in dtype `kind`: the best of
/// some tries, written as a product or as a 1x1 convolution, which on some CPUs has faster kernels.
pub fn matmul_flops_per_second(device: Device, kind: Kind) -> f64 {
    let (side, products) = if device.is_cuda() { (8192, 20) } else { (2048, 1) };
    let matrix = || Tensor::rand([side, side], (Kind::Float, device)).to_kind(kind);
    let (a, b) = (matrix(), matrix());
    // A product with b read as [out, in, 1, 1] filters and a as an image of side / 64 x 64 pixels in channels-last
    // memory.
    let image = a.view([1, side / 64, 64, side]).permute([0, 3, 1, 2]);
    let filters = b.view([side, side, 1, 1]);
    let fastest = tch::no_grad(|| {
        let as_product = fastest(device, products, || a.matmul(&b));
        let as_convolution = fastest(device, products, || image.conv2d(&filters, None::<&Tensor>, 1, 0, 1, 1));
        as_product.min(as_convolution)
    });
    2.0 * (side as f64).powi(3) * f64::from(products) / fastest.as_secs_f64()
}

/// Bytes that a large copy within the device's memory reads and writes in a second.
pub fn copied_bytes_per_second(device: Device) -> f64 {
    let numbers: i64 = if device.is_cuda() { 1 << 27 } else { 1 << 26 };
    let from = Tensor::rand([numbers], (Kind::Float, device));
    let to = Tensor::empty([numbers], (Kind::Float, device));
    let copies = if device.is_cuda() { 20 } else { 1 };
    let fastest = fastest(device, copies, || {
        let mut to = to.shallow_clone();
        to.copy_(&from);
        to
    });
    f64::from(2 * 4 * copies) * numbers as f64 / fastest.as_secs_f64()
}

/// The shortest time in which the device does `count` times `work`, of at least three tries, within about a second.
fn fastest(device: Device, count: u32, work: impl Fn() -> Tensor) -> Duration {
    // The first call sets things up.
    drop(work());
    device::synchronize(device);
    let (start, mut fastest) = (Instant::now(), Duration::MAX);
    for number in 0..20 {
        if number >= 3 && start.elapsed() > Duration::from_secs(1) {
            break;
        }
        let before = Instant::now();
        (0..count).for_each(|_| drop(work()));
        device::synchronize(device);
        fastest = fastest.min(before.elapsed());
    }
    fastest
}

/// How long ago this process was started, its program's loading included; `None` where the system does not say (it is
/// Linux's /proc).
pub fn process_age() -> Option<Duration> {
    /// The unit of times in /proc/PID/stat, on every machine that Linux runs on with glibc.
    const TICKS_PER_SECOND: f64 = 100.0;
    /// starttime, counted behind the name, which may hold anything.
    const STARTED: usize = 19;
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    let started: f64 = status.rsplit_once(')')?.1.split_whitespace().nth(STARTED)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(now - started / TICKS_PER_SECOND).ok()
}

/// Most memory of this process so far, in bytes; `None` where the system does not say (it is Linux's VmHWM).
pub fn peak_process_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Most memory that libtorch has held on a GPU so far, in bytes; `None` for the CPU.
pub fn peak_device_bytes(device: Device) -> Result<Option<u64>> {
    match device {
        Device::Cuda(index) => cuda::peak_bytes(index).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ages_with_the_clock() {
        let Some(before) = process_age() else {
            eprintln!("skipped: this system does not tell the age of a process");
            return;
        };
        std::thread::sleep(Duration::from_millis(300));
        let grown = process_age().unwrap().checked_sub(before).unwrap();
        assert!(grown >= Duration::from_millis(280), "{grown:?}");
        assert!(before < Duration::from_secs(3600), "{before:?}");
    }

    #[test]
    fn a_copy_is_not_faster_than_any_memory() {
        let speed = copied_bytes_per_second(Device::Cpu);
        assert!((1e8..1e13).contains(&speed), "{speed}");
    }

    #[test]
    fn the_peak_grows_by_memory_that_is_used() {
        let Some(before) = peak_process_bytes() else {
            eprintln!("skipped: this system does not tell a process its peak memory");
            return;
        };
        // As much as the peak itself, whatever of that has been freed since.
        let used = vec![1u8; before as usize + (64 << 20)];
        assert!(used.iter().step_by(4096).all(|&byte| byte == 1));
        let after = peak_process_bytes().unwrap();
        assert!(after >= used.len() as u64, "{before}, then {after} with {} in use", used.len());
    }
}
