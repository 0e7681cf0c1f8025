//! Counters of steps whose losses or gradients are not finite, kept on the device so that no step waits for them.

use tch::{Device, Kind, Tensor};

use super::loss::Losses;

/// Counters of a process, all zero at its start.
pub struct FiniteCounters {
    /// Skipped steps, those whose gradients were not finite, `[1]` f32.
    skipped: Tensor,
    /// Consecutive skipped steps up to the last one, `[1]` f32.
    skipped_in_row: Tensor,
    /// 1 until a loss is not finite, then 0, `[1]` f64.
    all_good: Tensor,
    /// Steps before the first whose loss is not finite, `[1]` f64.
    good_steps: Tensor,
}

impl FiniteCounters {
    pub fn new(device: Device) -> Self {
        Self {
            skipped: Tensor::zeros([1], (Kind::Float, device)),
            skipped_in_row: Tensor::zeros([1], (Kind::Float, device)),
            all_good: Tensor::ones([1], (Kind::Double, device)),
            good_steps: Tensor::zeros([1], (Kind::Double, device)),
        }
    }

    /// Notes whether the losses of a step are finite.
    pub fn observe(&mut self, losses: &Losses) {
        tch::no_grad(|| {
            let _ = self.all_good.g_mul_(&losses.cross_entropy.isfinite());
            let _ = self.good_steps.g_add_(&self.all_good);
        });
    }

    /// Notes the end of a step; `found_inf` `[1]` f32 is 1 where a gradient was not finite, else 0.
    pub fn updated(&mut self, found_inf: &Tensor) {
        let _ = self.skipped.g_add_(found_inf);
        let _ = self.skipped_in_row.g_add_(found_inf).g_mul_(found_inf);
    }

    /// Skipped steps. Waits for the device, as the following do.
    pub fn skipped(&self) -> u64 {
        self.skipped.double_value(&[0]) as u64
    }

    /// Consecutive skipped steps up to the last one.
    pub fn skipped_in_row(&self) -> u64 {
        self.skipped_in_row.double_value(&[0]) as u64
    }

    /// Steps before the first whose loss is not finite.
    pub fn good_steps(&self) -> u64 {
        self.good_steps.double_value(&[0]) as u64
    }
}
