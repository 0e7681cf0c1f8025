//! The gradient scaler that float16 needs.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::precision::Precision;
use crate::native::optimizer;

/// Dynamic loss scaling (Micikevicius et al., 2018), with PyTorch's constants. All state is on the device.
///
/// For f32 and bfloat16 the scale is 1 and stays 1; the check for non-finite gradients is made all the same.
#[derive(Debug)]
pub struct GradScaler {
    /// `[]` f32.
    scale: Tensor,
    /// Updates since the scale last changed, `[]` i32.
    growth_tracker: Tensor,
    /// 1 when the last gradients held an infinity or NaN, `[1]` f32.
    found_inf: Tensor,
    dynamic: bool,
}

impl GradScaler {
    const INITIAL_SCALE: f64 = 65_536.0;
    const GROWTH_FACTOR: f64 = 2.0;
    const BACKOFF_FACTOR: f64 = 0.5;
    const GROWTH_INTERVAL: i64 = 2000;

    pub fn new(precision: Precision, device: Device) -> Self {
        let dynamic = precision.0 == Kind::Half;
        let scale = if dynamic { Self::INITIAL_SCALE } else { 1.0 };
        Self {
            scale: Tensor::full([] as [i64; 0], scale, (Kind::Float, device)),
            growth_tracker: Tensor::zeros([] as [i64; 0], (Kind::Int, device)),
            found_inf: Tensor::zeros([1], (Kind::Float, device)),
            dynamic,
        }
    }

    /// Whether the scale changes, as it does for float16.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// The loss to run backward from.
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        if self.dynamic { loss * &self.scale } else { loss.shallow_clone() }
    }

    /// Takes the scale out of `grads` in place, but for those in 16 bits, which could not hold small values without it.
    /// The result is `[1]` f32, 1 where any was not finite, else 0; and the factor that takes the scale out, `[]` f32.
    pub fn unscale(&mut self, grads: &[Tensor]) -> Result<(&Tensor, Tensor)> {
        let _ = self.found_inf.zero_();
        let inverse = self.scale.reciprocal();
        optimizer::unscale(grads, &mut self.found_inf, &inverse)?;
        Ok((&self.found_inf, inverse))
    }

    /// Halves the scale after an overflow, doubles it after 2,000 good updates.
    pub fn update(&mut self) {
        if self.dynamic {
            let _ = self.scale.internal_amp_update_scale_(
                &self.growth_tracker,
                &self.found_inf,
                Self::GROWTH_FACTOR,
                Self::BACKOFF_FACTOR,
                Self::GROWTH_INTERVAL,
            );
        }
    }

    /// State to save: scale and growth tracker.
    pub fn state(&self) -> (f64, i64) {
        (self.scale.double_value(&[]), self.growth_tracker.int64_value(&[]))
    }

    pub fn restore(&mut self, scale: f64, growth_tracker: i64) {
        let _ = self.scale.fill_(scale);
        let _ = self.growth_tracker.fill_(growth_tracker);
    }
}
