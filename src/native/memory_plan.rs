//! Planned memory of a step on the CPU, which `--xla` uses there (`csrc/cpu/memory_plan/`).

use std::ffi::c_void;
use std::ptr::NonNull;

use anyhow::Result;

use super::ffi::{check, new_handle};

unsafe extern "C" {
    fn unet_cpu_plan_new(plan: *mut *mut c_void) -> i32;
    fn unet_cpu_plan_begin(plan: *mut c_void) -> i32;
    fn unet_cpu_plan_end(plan: *mut c_void, completed: i32) -> i32;
    fn unet_cpu_plan_free(plan: *mut c_void);
    #[cfg(test)]
    fn unet_cpu_plan_statistics(plan: *const c_void, requests: *mut i64, misses: *mut i64, bytes: *mut i64);
}

/// Planned memory of a step on the CPU (`cpu_plan.cpp`): its first completed step is recorded, later ones get their
/// tensors at the planned places of one arena. What does not fit the plan gets memory as without one.
#[derive(Debug)]
pub struct CpuPlan(NonNull<c_void>);

impl CpuPlan {
    pub fn new() -> Result<Self> {
        // SAFETY: on success the C++ side stores a new plan, which is freed by the handle made here.
        new_handle(|plan| unsafe { unet_cpu_plan_new(plan) }).map(Self)
    }

    /// Does `work` with the memory of this plan. A step that fails leaves the plan as it was.
    pub fn run<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let plan = self.0.as_ptr();
        // SAFETY: the plan lives as long as `self`. `step` ends it on this thread, in a panic too, and after any step
        // that began within `work`, so begin and end are nested.
        check(unsafe { unet_cpu_plan_begin(plan) })?;
        let step = CpuStep { plan, ended: false };
        let result = work()?;
        step.complete()?;
        Ok(result)
    }

    #[cfg(test)]
    pub fn statistics(&self) -> Statistics {
        let Statistics { mut requests, mut misses, mut bytes } = Statistics::default();
        // SAFETY: the plan lives; the three numbers are ours.
        unsafe { unet_cpu_plan_statistics(self.0.as_ptr(), &mut requests, &mut misses, &mut bytes) }
        Statistics { requests, misses, bytes }
    }
}

/// What the last step asked for: requests for memory, requests that did not fit the plan, and the bytes of the arena.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Statistics {
    pub requests: i64,
    pub misses: i64,
    pub bytes: i64,
}

impl Drop for CpuPlan {
    fn drop(&mut self) {
        // SAFETY: the plan is ours, and no step of it is in progress: `run` has borrowed it for that long. Tensors
        // share what they lie in.
        unsafe { unet_cpu_plan_free(self.0.as_ptr()) }
    }
}

/// A step in progress.
struct CpuStep {
    plan: *mut c_void,
    ended: bool,
}

impl CpuStep {
    fn complete(mut self) -> Result<()> {
        self.ended = true;
        // SAFETY: see `CpuPlan::run`.
        check(unsafe { unet_cpu_plan_end(self.plan, 1) })
    }
}

impl Drop for CpuStep {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: see `CpuPlan::run`. There is nothing to tell of a step that has failed already.
            let _ = check(unsafe { unet_cpu_plan_end(self.plan, 0) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
    use tch::{Device, Kind, Tensor};

    unsafe extern "C" {
        fn unet_cpu_lay_out(
            count: usize,
            bytes: *const i64,
            born: *const i64,
            died: *const i64,
            offsets: *mut i64,
            total: *mut i64,
        ) -> i32;
    }

    /// Offsets and the total for tensors of (bytes, born, died).
    fn lay_out(tensors: &[(i64, i64, i64)]) -> (Vec<i64>, i64) {
        let bytes: Vec<i64> = tensors.iter().map(|tensor| tensor.0).collect();
        let born: Vec<i64> = tensors.iter().map(|tensor| tensor.1).collect();
        let died: Vec<i64> = tensors.iter().map(|tensor| tensor.2).collect();
        let (mut offsets, mut total) = (vec![0; tensors.len()], 0);
        // SAFETY: all lists have one length and live through the call.
        let status = unsafe {
            unet_cpu_lay_out(
                tensors.len(),
                bytes.as_ptr(),
                born.as_ptr(),
                died.as_ptr(),
                offsets.as_mut_ptr(),
                &mut total,
            )
        };
        check(status).unwrap();
        (offsets, total)
    }

    fn values(count: i64, value: i64) -> Tensor {
        Tensor::full([count], value, (Kind::Int64, Device::Cpu))
    }

    fn address(tensor: &Tensor) -> usize {
        tensor.data_ptr() as usize
    }

    #[test]
    fn tensors_that_live_at_the_same_time_never_share_bytes() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for count in [0, 1, 2, 10, 200] {
            let tensors: Vec<(i64, i64, i64)> = (0..count)
                .map(|_| {
                    let born = rng.random_range(0..300);
                    (rng.random_range(1..5000), born, born + rng.random_range(1..60))
                })
                .collect();
            let (offsets, total) = lay_out(&tensors);
            for (i, &(bytes, born, died)) in tensors.iter().enumerate() {
                assert!(offsets[i] % 64 == 0 && offsets[i] + bytes <= total);
                for (j, &(other_bytes, other_born, other_died)) in tensors.iter().enumerate().skip(i + 1) {
                    let together = born < other_died && other_born < died;
                    let apart = offsets[i] + bytes <= offsets[j] || offsets[j] + other_bytes <= offsets[i];
                    assert!(
                        apart || !together,
                        "{:?} at {} and {:?} at {}",
                        tensors[i],
                        offsets[i],
                        tensors[j],
                        offsets[j]
                    );
                }
            }
        }
    }

    #[test]
    fn tensors_that_follow_each_other_share_memory() {
        let (offsets, total) = lay_out(&[(1000, 0, 2), (1000, 3, 5), (1024, 6, 9)]);
        assert_eq!((offsets, total), (vec![0, 0, 0], 1024));
        // The smallest gap that fits: of those that the second and the fourth leave, the latter.
        let (offsets, total) =
            lay_out(&[(4096, 0, 9), (1024, 0, 5), (900, 0, 9), (128, 0, 5), (100, 0, 9), (90, 6, 9)]);
        assert_eq!((offsets, total), (vec![0, 4096, 5120, 6080, 6208, 6080], 6336));
    }

    /// Three tensors, one of which is returned.
    fn small_work(count: i64) -> Result<Tensor> {
        let a = values(count, 1);
        let b = &a + 2;
        drop(a);
        Ok(b * 3)
    }

    #[test]
    fn replayed_steps_get_the_recorded_places_and_compute_the_same() {
        let mut plan = CpuPlan::new().unwrap();
        let expected = values(1000, 9);
        let mut requests = None;
        for step in 0..4 {
            let result = plan.run(|| small_work(1000)).unwrap();
            assert_eq!(result, expected);
            let statistics = plan.statistics();
            assert_eq!(statistics.misses, 0, "step {step}");
            assert!(statistics.bytes >= 16_000, "{statistics:?}");
            assert_eq!(*requests.get_or_insert(statistics.requests), statistics.requests);
        }
        // A smaller batch fits too; a larger one gets memory as without a plan.
        assert_eq!(plan.run(|| small_work(400)).unwrap(), values(400, 9));
        assert_eq!(plan.statistics().misses, 0);
        assert_eq!(plan.run(|| small_work(5000)).unwrap(), values(5000, 9));
        assert!(plan.statistics().misses > 0);
        assert_eq!(plan.run(|| small_work(1000)).unwrap(), expected);
        assert_eq!(plan.statistics().misses, 0);
    }

    #[test]
    fn a_tensor_that_outlives_its_step_keeps_its_values() {
        let mut plan = CpuPlan::new().unwrap();
        let mut kept = Vec::new();
        // Recorded as dying at once, then kept: the next step finds its place taken.
        for step in 0..5 {
            plan.run(|| {
                let tensor = values(5000, step);
                if step > 0 {
                    kept.push(tensor);
                }
                Ok(())
            })
            .unwrap();
        }
        let addresses: std::collections::HashSet<usize> = kept.iter().map(address).collect();
        assert_eq!(addresses.len(), 4);
        drop(plan);
        for (tensor, step) in kept.iter().zip(1..) {
            assert_eq!(*tensor, values(5000, step));
        }
    }

    #[test]
    fn a_step_that_fails_is_recorded_again_and_its_tensors_live_on() {
        let mut plan = CpuPlan::new().unwrap();
        let mut kept = None;
        let failed = plan.run(|| -> Result<()> {
            kept = Some(values(3000, 5));
            let _dropped = values(7, 7);
            bail!("no")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(plan.statistics().bytes, 0);
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plan.run(|| -> Result<()> { panic!() })));
        assert!(panicked.is_err());
        for _ in 0..3 {
            assert_eq!(plan.run(|| small_work(1000)).unwrap(), values(1000, 9));
        }
        assert!(plan.statistics().bytes > 0);
        // A replay that fails keeps the plan.
        assert!(plan.run(|| -> Result<()> { bail!("no, {}", values(1, 1)) }).is_err());
        assert_eq!(plan.run(|| small_work(1000)).unwrap(), values(1000, 9));
        assert_eq!(plan.statistics().misses, 0);
        assert_eq!(kept.unwrap(), values(3000, 5));
        // Outside a step nothing is planned.
        let requests = plan.statistics().requests;
        let _ = values(1000, 1);
        assert_eq!(plan.statistics().requests, requests);
    }

    #[test]
    fn plans_may_be_nested() {
        let (mut outer, mut inner) = (CpuPlan::new().unwrap(), CpuPlan::new().unwrap());
        for _ in 0..3 {
            let sum = outer.run(|| {
                let a = values(2000, 1);
                let b = inner.run(|| small_work(2000))?;
                Ok(a + b)
            });
            assert_eq!(sum.unwrap(), values(2000, 10));
        }
        assert_eq!((outer.statistics().misses, inner.statistics().misses), (0, 0));
    }

    #[test]
    fn tensors_may_be_made_and_freed_on_other_threads() {
        let mut plan = CpuPlan::new().unwrap();
        for step in 0..20 {
            let tensor = plan
                .run(|| {
                    let here = values(4000, step);
                    let there = std::thread::spawn(|| values(4000, -1));
                    let freed = values(4000, step + 1);
                    std::thread::spawn(move || drop(freed)).join().unwrap();
                    assert_eq!(there.join().unwrap(), values(4000, -1));
                    Ok(here)
                })
                .unwrap();
            std::thread::spawn(move || assert_eq!(tensor, values(4000, step))).join().unwrap();
        }
    }

    /// Steps that take and free at random, some as recorded and some not, each tensor with values of its own.
    #[test]
    fn random_steps_never_overwrite_a_living_tensor() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _plan in 0..20 {
            let mut plan = CpuPlan::new().unwrap();
            let mut alive: Vec<(i64, Tensor)> = Vec::new();
            let mut next = 0;
            for _step in 0..12 {
                // Half of the steps repeat the plan's first choices.
                let seed = if rng.random_bool(0.5) { 0 } else { rng.random() };
                plan.run(|| {
                    let mut choices = ChaCha8Rng::seed_from_u64(seed);
                    for _ in 0..60 {
                        if choices.random_bool(0.6) || alive.is_empty() {
                            let count = if choices.random_bool(0.2) { 40_000 } else { choices.random_range(1..3000) };
                            next += 1;
                            alive.push((next, values(count, next)));
                        } else {
                            let (value, tensor) = alive.swap_remove(choices.random_range(0..alive.len()));
                            assert_eq!(tensor, values(tensor.numel() as i64, value));
                        }
                    }
                    Ok(())
                })
                .unwrap();
            }
            drop(plan);
            for (value, tensor) in alive {
                assert_eq!(tensor, values(tensor.numel() as i64, value));
            }
        }
    }
}
