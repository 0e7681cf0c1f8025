//! Random flips, crops and brightness, as the reference's `data_loader.py` draws them.
//!
//! Flip and crop are one affine map, so each image is sampled once; the whole batch in one call on its device.

use rand::{Rng, RngExt};
use tch::Tensor;

use super::preprocessing::{INPUT_SIDE, Targets, centre};
use crate::native::cuda::copy_to_device;

/// Largest share of the width or height that a crop takes from one side.
const MAX_CROP: f64 = 0.3;
/// Largest shift of brightness, of an image in [-1, 1].
const MAX_BRIGHTNESS: f64 = 0.2;

/// One image's transform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    flip_horizontally: bool,
    flip_vertically: bool,
    /// The part of the flipped image that is kept, as shares of its width and height.
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Added to the image before it is clipped to [-1, 1].
    brightness: f64,
}

impl Augmentation {
    /// Draws flips with p = 0.5, crop edges from U(0, 0.3) and brightness from U(-0.2, 0.2).
    pub fn draw(rng: &mut impl Rng) -> Self {
        Self {
            flip_horizontally: rng.random_bool(0.5),
            flip_vertically: rng.random_bool(0.5),
            left: rng.random_range(0.0..MAX_CROP),
            right: 1.0 - rng.random_range(0.0..MAX_CROP),
            top: rng.random_range(0.0..MAX_CROP),
            bottom: 1.0 - rng.random_range(0.0..MAX_CROP),
            brightness: rng.random_range(-MAX_BRIGHTNESS..MAX_BRIGHTNESS),
        }
    }

    /// The 2x3 matrix from output to source coordinates, both with -1 and 1 at the centres of the first
    /// and last pixel. Output row i reads source row `top * (H - 1) + i * (bottom - top)`.
    fn affine(&self) -> [f32; 6] {
        let sign = |flip| if flip { -1.0 } else { 1.0 };
        let (x, y) = (sign(self.flip_horizontally), sign(self.flip_vertically));
        [
            x * (self.right - self.left),
            0.0,
            x * (self.left + self.right - 1.0),
            0.0,
            y * (self.bottom - self.top),
            y * (self.top + self.bottom - 1.0),
        ]
        .map(|value| value as f32)
    }
}

/// Applies one transform per image to framed images and their labels.
///
/// Shapes: images `[N, C, 572, 572]` f32 in [-1, 1]; labels `[N, 388, 388]` u8 class indices; both kept.
pub fn apply(images: &Tensor, labels: &Tensor, targets: Targets, transforms: &[Augmentation]) -> (Tensor, Tensor) {
    let device = images.device();
    let count = transforms.len() as i64;
    let affine: Vec<f32> = transforms.iter().flat_map(Augmentation::affine).collect();
    let brightness: Vec<f32> = transforms.iter().map(|transform| transform.brightness as f32).collect();
    let affine = copy_to_device(Tensor::from_slice(&affine), device).view([count, 2, 3]);
    let brightness = copy_to_device(Tensor::from_slice(&brightness), device).view([count, 1, 1, 1]);

    let channels = images.size()[1];
    let grid = Tensor::affine_grid_generator(&affine, [count, channels + 1, INPUT_SIDE, INPUT_SIDE], true);
    let both = Tensor::cat(&[images, &targets.frame(&targets.encode(labels))], 1);
    let sampled = both.grid_sampler(&grid, BILINEAR, ZEROS_OUTSIDE, true);
    let images = (sampled.narrow(1, 0, channels) + brightness).clamp(-1.0, 1.0);
    let planes = sampled.narrow(1, channels, sampled.size()[1] - channels);
    (images, targets.decode(&centre(&planes)))
}

/// libtorch's numbers for `grid_sampler`.
const BILINEAR: i64 = 0;
const ZEROS_OUTSIDE: i64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::{Purpose, stream};
    use crate::recipe::preprocessing::{MARGIN, OUTPUT_SIDE, frame};
    use tch::{Device, IndexOp, Kind};

    const SIDE: usize = INPUT_SIDE as usize;

    /// The reference's steps one after the other, for one output pixel, in f64: flip, crop and resize.
    fn sampled(image: &[f32], transform: &Augmentation, row: usize, column: usize) -> f64 {
        let flipped = |y: usize, x: usize| {
            let y = if transform.flip_vertically { SIDE - 1 - y } else { y };
            let x = if transform.flip_horizontally { SIDE - 1 - x } else { x };
            f64::from(image[y * SIDE + x])
        };
        let last = (SIDE - 1) as f64;
        let y = transform.top * last + row as f64 * (transform.bottom - transform.top);
        let x = transform.left * last + column as f64 * (transform.right - transform.left);
        let (y0, x0) = ((y as usize).min(SIDE - 2), (x as usize).min(SIDE - 2));
        let (dy, dx) = (y - y0 as f64, x - x0 as f64);
        let line = |y: usize| flipped(y, x0) * (1.0 - dx) + flipped(y, x0 + 1) * dx;
        line(y0) * (1.0 - dy) + line(y0 + 1) * dy
    }

    #[test]
    fn batches_are_sampled_as_the_reference_samples_one_by_one() {
        let mut rng = stream(5, Purpose::Augmentation, 0);
        let transforms: Vec<Augmentation> = (0..6).map(|_| Augmentation::draw(&mut rng)).collect();
        let count = transforms.len() as i64;
        // Smooth images, so that a rounded coordinate cannot hide behind noise nor be blamed on it.
        let wave = Tensor::arange(INPUT_SIDE, (Kind::Float, Device::Cpu));
        let image = (&wave * 0.021).sin().unsqueeze(1) * (&wave * 0.033 + 0.5).cos().unsqueeze(0);
        let images = image.expand([count, 1, INPUT_SIDE, INPUT_SIDE], false).contiguous();
        let labels = image.narrow(0, MARGIN, OUTPUT_SIDE).narrow(1, MARGIN, OUTPUT_SIDE).ge(0.0).to_kind(Kind::Float);
        let label_images = frame(&labels.unsqueeze(0).unsqueeze(0));
        let labels = labels.expand([count, OUTPUT_SIDE, OUTPUT_SIDE], false).contiguous().to_kind(Kind::Uint8);

        let two = Targets { classes: 2, has_ignored: false };
        let (augmented, targets) = apply(&images, &labels, two, &transforms);
        assert_eq!(targets.size(), [count, OUTPUT_SIDE, OUTPUT_SIDE]);
        // Two classes as planes of their own are the same, but for ties.
        let many = Targets { classes: 3, has_ignored: true };
        let (again, as_planes) = apply(&images, &labels, many, &transforms);
        assert_eq!(crate::testing::largest_difference(&augmented, &again), 0.0);
        let differ = as_planes.ne_tensor(&targets).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!(differ < 1e-4, "{differ}");
        let source: Vec<f32> = image.contiguous().view([-1]).try_into().unwrap();
        let label_source: Vec<f32> = label_images.view([-1]).try_into().unwrap();
        let mut wrong_labels = 0;
        for (index, transform) in transforms.iter().enumerate() {
            let ours: Vec<f32> = augmented.i(index as i64).contiguous().view([-1]).try_into().unwrap();
            let target: Vec<u8> = targets.i(index as i64).contiguous().view([-1]).try_into().unwrap();
            for (row, column) in (0..SIDE).step_by(19).flat_map(|y| (0..SIDE).step_by(13).map(move |x| (y, x))) {
                let expected = (sampled(&source, transform, row, column) + transform.brightness).clamp(-1.0, 1.0);
                let found = f64::from(ours[row * SIDE + column]);
                assert!((found - expected).abs() < 1e-4, "image {index} at {row}, {column}: {found}, {expected}");
            }
            let (margin, side) = (MARGIN as usize, OUTPUT_SIDE as usize);
            for (row, column) in (0..side).step_by(7).flat_map(|y| (0..side).step_by(5).map(move |x| (y, x))) {
                let value = sampled(&label_source, transform, row + margin, column + margin);
                let expected = u8::from(value >= 0.5);
                // A value within rounding of one half may fall on either side.
                if (value - 0.5).abs() > 1e-4 && target[row * side + column] != expected {
                    wrong_labels += 1;
                }
            }
        }
        assert_eq!(wrong_labels, 0);
    }

    #[test]
    fn draws_stay_in_the_reference_ranges_and_reach_their_ends() {
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let draws: Vec<Augmentation> = (0..2000).map(|_| Augmentation::draw(&mut rng)).collect();
        assert!(draws.iter().all(|d| (0.0..0.3).contains(&d.left) && d.right > 0.7 && d.right <= 1.0));
        assert!(draws.iter().all(|d| (0.0..0.3).contains(&d.top) && d.bottom > 0.7 && d.bottom <= 1.0));
        assert!(draws.iter().any(|d| d.left > 0.29) && draws.iter().any(|d| d.bottom < 0.71));
        assert!(draws.iter().any(|d| d.brightness > 0.19) && draws.iter().any(|d| d.brightness < -0.19));
        let flips = draws.iter().filter(|d| d.flip_horizontally && d.flip_vertically).count();
        assert!((400..600).contains(&flips), "{flips} of 2000 flipped both ways");
    }
}
