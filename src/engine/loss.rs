//! The training loss: cross entropy + 1 - soft Dice (reference `utils/model_fn.py`).
//!
//! Shapes: N images, C classes, H, W pixels.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::data::labels::IGNORED;
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

/// Which pixels count in the loss, and how much.
#[derive(Debug, Default)]
pub struct LossOptions {
    /// A factor for each class in the cross entropy, `[C]` f32.
    pub class_weights: Option<Tensor>,
    /// Whether labels may be [`IGNORED`].
    pub has_ignored: bool,
}

/// Both terms for `logits` `[N, C, H, W]` of any float dtype and class indices `labels` `[N, H, W]` i64.
///
/// Computed in f32 (in f64 for f64 logits). Cross entropy is the mean over pixels, with class weights `sum(w l) /
/// sum(w)`. Soft Dice is `(2 sum(p t) + e) / (sum(p^2) + sum(t^2) + e)` per image and class on softmax probabilities,
/// then the mean over images and all classes. Ignored pixels are in none of these sums.
pub fn losses(logits: &Tensor, labels: &Tensor, options: &LossOptions) -> Result<Losses> {
    weighted_losses(logits, labels, None, options)
}

/// [`losses`] with weights of pixels: `w` of the cross entropy is the class weight, or 1, plus the pixel's own in
/// `weights` `[N, H, W]` f32.
pub fn weighted_losses(
    logits: &Tensor,
    labels: &Tensor,
    weights: Option<&Tensor>,
    options: &LossOptions,
) -> Result<Losses> {
    let is_plain = options.class_weights.is_none() && !options.has_ignored && weights.is_none();
    if is_plain && Backend::of(logits)?.has_losses(logits.size()[1]) {
        let (cross_entropy, dice_loss) = gpu_layers::losses(logits, labels, DICE_EPSILON)?;
        return Ok(Losses { cross_entropy, dice_loss });
    }
    let kind = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let log_probabilities = logits.to_kind(kind).log_softmax(1, kind);
    let classes = logits.size()[1];
    let class = Tensor::arange(classes, (Kind::Int64, labels.device())).view([1, classes, 1, 1]);
    // An ignored pixel is of no class.
    let target = labels.unsqueeze(1).eq_tensor(&class).to_kind(kind);
    // Not libtorch's nll_loss2d, which on a GPU adds in an order of its own each time.
    let cross_entropy = match &options.class_weights {
        None if is_plain => (&log_probabilities * &target).sum(kind) / -(labels.numel() as f64),
        class_weights => {
            let weighted = match class_weights {
                Some(weights) => &target * weights.to_kind(kind).view([1, classes, 1, 1]),
                None => target.shallow_clone(),
            };
            let weighted = match weights {
                Some(weights) => &weighted + &target * weights.to_kind(kind).unsqueeze(1),
                None => weighted,
            };
            // Where all is ignored both sums are 0, and so is their ratio.
            let total = weighted.sum(kind).clamp_min(1e-30);
            -((&log_probabilities * &weighted).sum(kind) / total)
        }
    };

    let all = log_probabilities.exp();
    let probabilities = match options.has_ignored {
        true => all * labels.ne(i64::from(IGNORED)).unsqueeze(1).to_kind(kind),
        false => all,
    };
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
            let losses =
                losses(&logits, &Tensor::from_slice(&case.labels).view([n, h, w]), &LossOptions::default()).unwrap();
            assert!((losses.cross_entropy.double_value(&[]) - case.cross_entropy).abs() < 1e-6);
            assert!((losses.dice_loss.double_value(&[]) - case.dice_loss).abs() < 1e-6);
        }
    }

    #[test]
    fn an_absent_class_that_is_not_predicted_counts_as_found() {
        let labels = Tensor::ones([1, 4, 4], (Kind::Int64, tch::Device::Cpu));
        let certain = Tensor::from_slice(&[-50f32, 50.0]).view([1, 2, 1, 1]).expand([1, 2, 4, 4], false);
        let losses = losses(&certain, &labels, &LossOptions::default()).unwrap();
        assert!(losses.dice_loss.double_value(&[]).abs() < 1e-6);
        assert!(losses.cross_entropy.double_value(&[]).abs() < 1e-6);
    }

    /// By the formulas, pixel by pixel in f64.
    #[test]
    fn weighted_losses_with_ignored_pixels_are_those_of_the_formulas() {
        let (classes, pixels) = (4usize, 30usize);
        tch::manual_seed(3);
        let logits = Tensor::randn([1, 4, 5, 6], (Kind::Double, tch::Device::Cpu)) * 2.0;
        let labels: Vec<i64> = (0..pixels as i64).map(|i| if i % 7 == 3 { 255 } else { i * i % 4 }).collect();
        let weights = [0.5, 1.0, 3.0, 0.0];
        let values = Vec::<f64>::try_from(logits.view([-1])).unwrap();
        let (mut ce, mut total) = (0.0, 0.0);
        let mut sums = [[0.0; 2]; 4];
        for (pixel, &label) in labels.iter().enumerate().filter(|(_, label)| **label != 255) {
            let exps: Vec<f64> = (0..classes).map(|class| values[class * pixels + pixel].exp()).collect();
            let sum: f64 = exps.iter().sum();
            let weight = weights[label as usize];
            ce -= weight * (exps[label as usize] / sum).ln();
            total += weight;
            for (class, [overlap, size]) in sums.iter_mut().enumerate() {
                let (p, t) = (exps[class] / sum, f64::from(u8::from(class as i64 == label)));
                *overlap += 2.0 * p * t;
                *size += p * p + t;
            }
        }
        let dice: f64 = sums.iter().map(|[overlap, size]| (overlap + 1e-6) / (size + 1e-6)).sum::<f64>() / 4.0;
        let class_weights = Some(Tensor::from_slice(&weights.map(|weight| weight as f32)));
        let options = LossOptions { class_weights, has_ignored: true };
        let found = losses(&logits, &Tensor::from_slice(&labels).view([1, 5, 6]), &options).unwrap();
        assert!((found.cross_entropy.double_value(&[]) - ce / total).abs() < 1e-12);
        assert!((found.dice_loss.double_value(&[]) - (1.0 - dice)).abs() < 1e-12);
    }

    /// By the formula, pixel by pixel in f64; the gradient by differences.
    #[test]
    fn pixels_count_by_the_weight_of_their_class_and_their_own() {
        let (classes, pixels) = (3usize, 20usize);
        tch::manual_seed(8);
        let logits = Tensor::randn([2, 3, 2, 5], (Kind::Double, tch::Device::Cpu));
        let labels: Vec<i64> = (0..pixels as i64).map(|i| if i % 6 == 4 { 255 } else { i * i % 3 }).collect();
        let border: Vec<f32> = (0..pixels).map(|i| if i % 3 == 0 { 0.0 } else { i as f32 / 2.0 }).collect();
        let by_formula = |values: &[f64], class_weights: &[f64]| {
            let (mut sum, mut total) = (0.0, 0.0);
            for (pixel, &label) in labels.iter().enumerate().filter(|(_, label)| **label != 255) {
                let (image, place) = (pixel / 10, pixel % 10);
                let exps = [0, 1, 2].map(|class| values[(image * classes + class) * 10 + place].exp());
                let weight = class_weights[label as usize] + f64::from(border[pixel]);
                sum -= weight * (exps[label as usize] / exps.iter().sum::<f64>()).ln();
                total += weight;
            }
            sum / total
        };
        let label = Tensor::from_slice(&labels).view([2, 2, 5]);
        let weights = Tensor::from_slice(&border).view([2, 2, 5]);
        let values = Vec::<f64>::try_from(logits.view([-1])).unwrap();
        for class_weights in [None, Some([0.5, 1.0, 3.0])] {
            let tensor = class_weights.map(|weights| Tensor::from_slice(&weights.map(|weight| weight as f32)));
            let options = LossOptions { class_weights: tensor, has_ignored: true };
            let input = logits.copy().set_requires_grad(true);
            let found = weighted_losses(&input, &label, Some(&weights), &options).unwrap();
            let class_weights = class_weights.unwrap_or([1.0; 3]);
            let expected = by_formula(&values, &class_weights);
            assert!((found.cross_entropy.double_value(&[]) - expected).abs() < 1e-12);
            found.cross_entropy.backward();
            let gradient = Vec::<f64>::try_from(input.grad().view([-1])).unwrap();
            for (index, found) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[index] += by;
                    by_formula(&values, &class_weights)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((found - expected).abs() < 1e-8, "logit {index}: {found}, {expected}");
            }
            // Dice does not know of weights, and weights of 0 change nothing.
            let without = losses(&logits, &label, &options).unwrap();
            assert_eq!(found.dice_loss, without.dice_loss);
            let zeros = weighted_losses(&logits, &label, Some(&weights.zeros_like()), &options).unwrap();
            assert_eq!(zeros.cross_entropy, without.cross_entropy);
        }
    }

    #[test]
    fn where_all_is_ignored_nothing_is_learnt_and_nothing_breaks() {
        let logits = Tensor::randn([1, 3, 4, 4], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let labels = Tensor::full([1, 4, 4], 255, (Kind::Int64, tch::Device::Cpu));
        let options = LossOptions { class_weights: None, has_ignored: true };
        let found = losses(&logits, &labels, &options).unwrap();
        found.total().backward();
        assert_eq!(found.total().double_value(&[]), 0.0);
        assert_eq!(logits.grad().abs().max().double_value(&[]), 0.0);
    }
}
