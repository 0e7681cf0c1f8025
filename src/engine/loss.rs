//! The training loss: cross entropy + 1 - soft Dice (reference `utils/model_fn.py`).
//!
//! Shapes: N images, C classes, H, W pixels.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::model::backend::Backend;
use crate::native::gpu_layers;

/// Keeps Dice defined for a class that is absent from both sides.
const DICE_EPSILON: f64 = 1e-6;

/// The terms of the loss, each a scalar f32 tensor on the device. Lower is better.
pub struct Losses {
    /// Mean over pixels, in nats.
    pub cross_entropy: Tensor,
    /// 1 - soft Dice, 0 to 1.
    pub dice_loss: Tensor,
}

impl Losses {
    /// What training minimises.
    pub fn total(&self) -> Tensor {
        &self.cross_entropy + &self.dice_loss
    }
}

/// Both terms for `logits` `[N, C, H, W]` of any float dtype and class indices `labels` `[N, H, W]` i64.
///
/// Computed in f32 (in f64 for f64 logits). Soft Dice is `(2 sum(p t) + e) / (sum(p^2) + sum(t^2) + e)` per image and
/// class on softmax probabilities, then the mean over images and all classes.
pub fn losses(logits: &Tensor, labels: &Tensor) -> Result<Losses> {
    if Backend::of(logits)?.has_losses(logits.size()[1]) {
        let (cross_entropy, dice_loss) = gpu_layers::losses(logits, labels, DICE_EPSILON)?;
        return Ok(Losses { cross_entropy, dice_loss });
    }
    let kind = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let log_probabilities = logits.to_kind(kind).log_softmax(1, kind);
    let classes = logits.size()[1];
    let class = Tensor::arange(classes, (Kind::Int64, labels.device())).view([1, classes, 1, 1]);
    let target = labels.unsqueeze(1).eq_tensor(&class).to_kind(kind);
    // Not libtorch's nll_loss2d, which on a GPU adds in an order of its own each time.
    let cross_entropy = (&log_probabilities * &target).sum(kind) / -(labels.numel() as f64);

    let probabilities = log_probabilities.exp();
    let sum = |x: Tensor| x.sum_dim_intlist([2i64, 3].as_slice(), false, kind);
    let overlap = sum(&probabilities * &target) * 2.0 + DICE_EPSILON;
    let size = sum(&probabilities * &probabilities) + sum(target) + DICE_EPSILON;
    let dice_loss = 1.0 - (overlap / size).mean(kind);
    Ok(Losses { cross_entropy, dice_loss })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the TensorFlow reference code; logits and labels are N, H, W and for logits C.
    #[derive(serde::Deserialize)]
    struct Case {
        shape_bhwc: [i64; 4],
        logits: Vec<f32>,
        labels: Vec<i64>,
        cross_entropy: f64,
        dice_loss: f64,
    }

    #[test]
    fn losses_equal_those_of_the_reference() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/losses.json")).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let [n, h, w, c] = case.shape_bhwc;
            let logits = Tensor::from_slice(&case.logits).view([n, h, w, c]).permute([0, 3, 1, 2]);
            let losses = losses(&logits, &Tensor::from_slice(&case.labels).view([n, h, w])).unwrap();
            assert!((losses.cross_entropy.double_value(&[]) - case.cross_entropy).abs() < 1e-6);
            assert!((losses.dice_loss.double_value(&[]) - case.dice_loss).abs() < 1e-6);
        }
    }

    #[test]
    fn an_absent_class_that_is_not_predicted_counts_as_found() {
        let labels = Tensor::ones([1, 4, 4], (Kind::Int64, tch::Device::Cpu));
        let certain = Tensor::from_slice(&[-50f32, 50.0]).view([1, 2, 1, 1]).expand([1, 2, 4, 4], false);
        let losses = losses(&certain, &labels).unwrap();
        assert!(losses.dice_loss.double_value(&[]).abs() < 1e-6);
        assert!(losses.cross_entropy.double_value(&[]).abs() < 1e-6);
    }
}
