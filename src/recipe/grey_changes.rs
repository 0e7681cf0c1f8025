//! Random changes of grey levels in the training of the native recipe: brightness, contrast, gamma, noise and blur,
//! with the odds and ranges of nnU-Net. What is drawn depends on the sample alone, and is the same on every device.
//!
//! Shapes: C channels, H, W pixels.

use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

use super::windows::standard_normal;
use crate::native::cuda::copy_to_device;

/// What is done to one window; `None` for what was not drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GreyChange {
    /// Deviation of the noise, and the seed of its numbers.
    noise: Option<(f64, u64)>,
    /// Deviation of the Gaussian in pixels.
    blur: Option<f64>,
    /// Factor of the levels.
    brightness: Option<f64>,
    /// Factor of the distance from the mean.
    contrast: Option<f64>,
    /// Exponent of the levels from the darkest to the brightest.
    gamma: Option<f64>,
}

/// Probability and range of each change.
const NOISE: (f64, [f64; 2]) = (0.1, [0.0, 0.1]);
const BLUR: (f64, [f64; 2]) = (0.2, [0.5, 1.0]);
const BRIGHTNESS: (f64, [f64; 2]) = (0.15, [0.75, 1.25]);
const CONTRAST: (f64, [f64; 2]) = (0.15, [0.75, 1.25]);
const GAMMA: (f64, [f64; 2]) = (0.3, [0.7, 1.5]);

impl GreyChange {
    pub fn draw(rng: &mut impl Rng) -> Self {
        let mut draw = |(odds, [low, high]): (f64, [f64; 2])| {
            // Both numbers in each case, so that one change does not decide what the others draw.
            let (is_drawn, value) = (rng.random_bool(odds), rng.random_range(low..high));
            is_drawn.then_some(value)
        };
        let (variance, blur) = (draw(NOISE), draw(BLUR));
        let (brightness, contrast, gamma) = (draw(BRIGHTNESS), draw(CONTRAST), draw(GAMMA));
        let noise = variance.map(|variance| (variance.sqrt(), rng.random()));
        Self { noise, blur, brightness, contrast, gamma }
    }

    /// The changed image, `[C, H, W]` f32.
    pub fn apply(&self, image: Tensor) -> Tensor {
        let mut image = image;
        if let Some((deviation, seed)) = self.noise {
            image = &image + normal_numbers(&image.size(), seed, image.device()) * deviation;
        }
        if let Some(deviation) = self.blur {
            image = blurred(&image, deviation);
        }
        if let Some(factor) = self.brightness {
            image *= factor;
        }
        if let Some(factor) = self.contrast {
            let mean = image.mean(Kind::Float);
            let (low, high) = (image.min(), image.max());
            // As in nnU-Net, the range stays.
            image = ((&image - &mean) * factor + mean).clamp_tensor(Some(low), Some(high));
        }
        if let Some(exponent) = self.gamma {
            let low = image.min();
            let range = (image.max() - &low).clamp_min(1e-7);
            image = ((&image - &low) / &range).pow_tensor_scalar(exponent) * range + low;
        }
        image
    }
}

/// Normal numbers that depend on the seed alone.
fn normal_numbers(size: &[i64], seed: u64, device: Device) -> Tensor {
    let mut rng = crate::data::random::stream(seed, crate::data::random::Purpose::GreyChange, u64::MAX);
    let count: i64 = size.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| standard_normal(&mut rng) as f32).collect();
    copy_to_device(Tensor::from_slice(&numbers), device).view(size)
}

/// A Gaussian over rows and columns; the edge is repeated.
fn blurred(image: &Tensor, deviation: f64) -> Tensor {
    const REACH: i64 = 3;
    let weights: Vec<f32> =
        (-REACH..=REACH).map(|x| (-((x * x) as f64) / (2.0 * deviation * deviation)).exp() as f32).collect();
    let sum: f32 = weights.iter().sum();
    let kernel = copy_to_device(Tensor::from_slice(&weights), image.device()) / f64::from(sum);
    let padded = image.unsqueeze(1).replication_pad2d([REACH, REACH, REACH, REACH]);
    let along = |x: &Tensor, size: [i64; 4]| x.conv2d(&kernel.view(size), None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1);
    along(&along(&padded, [1, 1, 2 * REACH + 1, 1]), [1, 1, 1, 2 * REACH + 1]).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::{Purpose, stream};
    use crate::testing::largest_difference;

    fn image() -> Tensor {
        (Tensor::arange(2 * 30 * 40, (Kind::Float, Device::Cpu)) * 0.7).sin().view([2, 30, 40])
    }

    #[test]
    fn nothing_drawn_changes_nothing() {
        assert_eq!(GreyChange::default().apply(image()), image());
    }

    #[test]
    fn each_change_follows_its_formula() {
        let only = |change: GreyChange| change.apply(image());
        let brighter = only(GreyChange { brightness: Some(1.2), ..GreyChange::default() });
        assert!(largest_difference(&brighter, &(image() * 1.2)) < 1e-6);
        let values = Vec::<f32>::try_from(image().view([-1])).unwrap();
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        let contrast = only(GreyChange { contrast: Some(0.8), ..GreyChange::default() });
        let (low, high) = (image().min().double_value(&[]), image().max().double_value(&[]));
        let expected: Vec<f64> =
            values.iter().map(|&value| ((f64::from(value) - mean) * 0.8 + mean).clamp(low, high)).collect();
        assert!(largest_difference(&contrast.view([-1]), &Tensor::from_slice(&expected)) < 1e-5);
        let gamma = only(GreyChange { gamma: Some(1.4), ..GreyChange::default() });
        let expected: Vec<f64> = values
            .iter()
            .map(|&value| ((f64::from(value) - low) / (high - low)).powf(1.4) * (high - low) + low)
            .collect();
        assert!(largest_difference(&gamma.view([-1]), &Tensor::from_slice(&expected)) < 1e-5);
    }

    /// A single bright pixel spreads as the product of two Gaussians, and keeps its sum.
    #[test]
    fn blur_is_a_gaussian() {
        let point = Tensor::zeros([1, 15, 15], (Kind::Float, Device::Cpu));
        let _ = point.narrow(1, 7, 1).narrow(2, 7, 1).fill_(1.0);
        let spread = GreyChange { blur: Some(0.8), ..GreyChange::default() }.apply(point);
        let weight = |x: i64| (-((x * x) as f64) / (2.0 * 0.64)).exp();
        let sum: f64 = (-3..=3).map(weight).sum();
        for (row, column) in [(7, 7), (7, 8), (9, 6), (7, 11)] {
            let inside = (row - 7i64).abs() <= 3 && (column - 7i64).abs() <= 3;
            let expected = if inside { weight(row - 7) * weight(column - 7) / (sum * sum) } else { 0.0 };
            assert!((spread.double_value(&[0, row, column]) - expected).abs() < 1e-6);
        }
        assert!((spread.sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn draws_have_the_odds_that_they_should_and_repeat() {
        let draw = |sample| GreyChange::draw(&mut stream(3, Purpose::GreyChange, sample));
        let draws: Vec<GreyChange> = (0..2000).map(draw).collect();
        let share = |is_drawn: fn(&GreyChange) -> bool| draws.iter().filter(|d| is_drawn(d)).count() as f64 / 2000.0;
        for (found, odds) in [
            (share(|d| d.noise.is_some()), 0.1),
            (share(|d| d.blur.is_some()), 0.2),
            (share(|d| d.brightness.is_some()), 0.15),
            (share(|d| d.contrast.is_some()), 0.15),
            (share(|d| d.gamma.is_some()), 0.3),
        ] {
            assert!((found - odds).abs() < 0.04, "{found} {odds}");
        }
        assert_eq!(draw(7), draws[7]);
        let noisy = GreyChange { noise: Some((0.3, 5)), ..GreyChange::default() };
        assert_eq!(noisy.apply(image()), noisy.apply(image()));
        let deviation = (noisy.apply(image()) - image()).std(false).double_value(&[]);
        assert!((deviation - 0.3).abs() < 0.02, "{deviation}");
    }
}
