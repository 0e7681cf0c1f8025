//! A row of `unet check`, and what the checks share.
//!
//! Shapes: H, W pixels.

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::data::border_weights::BorderTerm;
use crate::data::emphasis::EmphasisOptions;

/// The seed of everything that is drawn.
pub const SEED: u64 = 0;

/// What was measured; it has passed if `value` is at most `limit`.
#[derive(Debug, Serialize)]
pub struct CheckResult {
    pub name: String,
    pub value: f64,
    pub limit: f64,
}

impl CheckResult {
    pub fn passed(&self) -> bool {
        self.value <= self.limit
    }
}

/// The norm of the difference of `a` from `b`, as a part of the norm of `b`; infinite where a value is not finite.
pub fn distance(a: &[Tensor], b: &[Tensor]) -> f64 {
    let square = |tensor: Tensor| tensor.square().sum(Kind::Double).double_value(&[]);
    let exact = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (mut difference, mut norm) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        difference += square(exact(a) - exact(b));
        norm += square(exact(b));
    }
    let distance = (difference / norm).sqrt();
    if distance.is_finite() { distance } else { f64::INFINITY }
}

/// Weights of the background between objects for class indices `[1, H, W]` u8, on their device.
pub fn border_weights(labels: &Tensor) -> Tensor {
    let options = EmphasisOptions { border: Some(BorderTerm { weight: 10.0, sigma: 5.0 }), usual_class: None };
    let found = options.find(&labels.get(0).to_device(Device::Cpu)).weights.expect("asked for");
    found.unsqueeze(0).to_device(labels.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_norms_and_nothing_hides_in_them() {
        let tensors = |values: [[f32; 2]; 2]| values.map(|values| Tensor::from_slice(&values));
        let b = tensors([[3.0, 0.0], [0.0, 4.0]]);
        assert_eq!(distance(&tensors([[3.0, 0.5], [0.0, 4.0]]), &b), 0.1);
        assert_eq!(distance(&b, &b), 0.0);
        assert_eq!(distance(&tensors([[f32::NAN, 0.0], [0.0, 4.0]]), &b), f64::INFINITY);
        let row = |value| CheckResult { name: String::new(), value, limit: 1e-3 };
        assert!(row(1e-3).passed() && !row(1.1e-3).passed() && !row(f64::NAN).passed());
    }
}
