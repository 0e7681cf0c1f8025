//! The geometry and grey levels that the network sees, as the reference's `data_loader.py` makes them:
//! every slice is resized to the network's output size and framed with mid-grey to its input size.
//!
//! Shapes: N images, C channels, H and W the size of the stored slices, P planes of labels.

use tch::{Kind, Tensor};

use crate::data::labels::IGNORED;
use crate::data::values::GreyRange;
use crate::native::cuda::copy_to_device;

/// Side of the network's input in pixels (paper, figure 1).
pub const INPUT_SIDE: i64 = 572;
/// Side of the network's output in pixels for that input.
pub const OUTPUT_SIDE: i64 = 388;
/// Pixels of frame on each side.
pub const MARGIN: i64 = (INPUT_SIDE - OUTPUT_SIDE) / 2;

/// Grey levels as f32: `black` becomes -1, `white` becomes 1, values beyond are clipped. Shape kept.
pub fn normalise(samples: &Tensor, range: GreyRange) -> Tensor {
    let mut levels = scale(samples, range);
    let _ = levels.clamp_(-1.0, 1.0);
    levels
}

/// The same without clipping.
pub fn scale(samples: &Tensor, range: GreyRange) -> Tensor {
    let half = (range.white - range.black) / 2.0;
    (samples.to_kind(Kind::Float) - range.black) / half - 1.0
}

/// The network's input: `[N, C, H, W]` stored samples to `[N, C, 572, 572]` f32 in [-1, 1], frame 0.
///
/// Bilinear without antialiasing, half-pixel centres: what `tf.image.resize` does.
pub fn images(samples: &Tensor, range: GreyRange) -> Tensor {
    let resized = resize(&normalise(samples, range), OUTPUT_SIDE, OUTPUT_SIDE);
    frame(&resized)
}

/// The network's target: `[N, H, W]` class indices to `[N, 388, 388]`, both u8.
///
/// Each class is resampled as a mask of its own; a pixel is of the class with the largest share, the lower of equals.
/// Two classes are those of the reference, which takes the second from one half on.
pub fn labels(classes: &Tensor, targets: Targets) -> Tensor {
    targets.decode(&resize(&targets.encode(classes), OUTPUT_SIDE, OUTPUT_SIDE))
}

/// How class indices are resampled: as planes of numbers from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    pub classes: usize,
    /// Whether some pixels are [`IGNORED`].
    pub has_ignored: bool,
}

impl Targets {
    /// Two classes are one plane, as 0 and 1 are their own shares.
    fn is_one_plane(self) -> bool {
        self.classes == 2 && !self.has_ignored
    }

    /// `[N, P, H, W]` f32 from class indices `[N, H, W]`.
    pub fn encode(self, classes: &Tensor) -> Tensor {
        if self.is_one_plane() {
            return classes.unsqueeze(1).to_kind(Kind::Float);
        }
        let mut values: Vec<u8> = (0..self.classes as u8).collect();
        values.extend(self.has_ignored.then_some(IGNORED));
        let values = copy_to_device(Tensor::from_slice(&values), classes.device()).view([1, -1, 1, 1]);
        classes.unsqueeze(1).eq_tensor(&values).to_kind(Kind::Float)
    }

    /// Class indices `[N, H, W]` u8 from planes `[N, P, H, W]`.
    pub fn decode(self, planes: &Tensor) -> Tensor {
        if self.is_one_plane() {
            return planes.squeeze_dim(1).ge(0.5).to_kind(Kind::Uint8);
        }
        let index = largest_plane(planes, 1);
        if self.has_ignored { index.masked_fill(&index.ge(self.classes as i64), i64::from(IGNORED)) } else { index }
    }

    /// Planes `[N, P, 388, 388]` with the frame of an image around them, which is of class 0 as in the reference:
    /// `[N, P, 572, 572]`.
    pub fn frame(self, planes: &Tensor) -> Tensor {
        if self.is_one_plane() {
            return frame(planes);
        }
        let first = planes.narrow(1, 0, 1) - 1.0;
        Tensor::cat(&[frame(&first) + 1.0, frame(&planes.narrow(1, 1, planes.size()[1] - 1))], 1)
    }
}

/// For each place the plane along `dim` with the largest number, the first of equals, u8. libtorch's argmax across
/// planes takes ten times as long on the CPU.
pub fn largest_plane(planes: &Tensor, dim: i64) -> Tensor {
    let mut largest = planes.select(dim, 0);
    let mut index = largest.zeros_like().to_kind(Kind::Uint8);
    for plane in 1..planes.size()[dim as usize] {
        let next = planes.select(dim, plane);
        index = index.masked_fill(&next.gt_tensor(&largest), plane);
        largest = largest.maximum(&next);
    }
    index
}

/// `[N, C, H, W]` f32 to `[N, C, height, width]` f32.
pub fn resize(images: &Tensor, height: i64, width: i64) -> Tensor {
    images.upsample_bilinear2d([height, width], false, None, None)
}

/// Zeros around the network's output area, `[N, C, 388, 388]` to `[N, C, 572, 572]`: mid-grey in an image.
pub fn frame(images: &Tensor) -> Tensor {
    images.constant_pad_nd([MARGIN, MARGIN, MARGIN, MARGIN])
}

/// The part of a framed image that the network answers for: `[.., 572, 572]` to `[.., 388, 388]`.
pub fn centre(images: &Tensor) -> Tensor {
    images.narrow(-2, MARGIN, OUTPUT_SIDE).narrow(-1, MARGIN, OUTPUT_SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::batches::{preprocessed_images, preprocessed_labels};
    use crate::testing::{largest_difference, shared, training_slices};

    const BYTES: GreyRange = GreyRange { black: 0.0, white: 255.0 };

    #[test]
    fn grey_levels_are_mapped_by_the_formula_and_clipped() {
        let range = GreyRange { black: 100.0, white: 300.0 };
        let levels = normalise(&Tensor::from_slice(&[-5.0f32, 100.0, 150.0, 300.0, 1e9]), range);
        assert_eq!(Vec::<f32>::try_from(levels).unwrap(), [-1.0, -1.0, -0.5, 1.0, 1.0]);
        let all = Tensor::arange(256, (Kind::Float, tch::Device::Cpu));
        assert!(normalise(&all, BYTES) == scale(&all, BYTES), "the range of a type clips nothing");
    }

    /// Bilinear resampling by the formula, in f64: half-pixel centres, edges repeated.
    fn resized_by_formula(image: &[Vec<f64>], side: usize) -> Vec<f64> {
        let place = |i: usize, length: usize| {
            let at = ((i as f64 + 0.5) * length as f64 / side as f64 - 0.5).clamp(0.0, (length - 1) as f64);
            let low = (at as usize).min(length.saturating_sub(2));
            (low, (low + 1).min(length - 1), at - low as f64)
        };
        let mut out = Vec::new();
        for y in 0..side {
            let (y0, y1, dy) = place(y, image.len());
            for x in 0..side {
                let (x0, x1, dx) = place(x, image[0].len());
                let row = |y: usize| image[y][x0] * (1.0 - dx) + image[y][x1] * dx;
                out.push(row(y0) * (1.0 - dy) + row(y1) * dy);
            }
        }
        out
    }

    #[test]
    fn images_of_any_size_are_resized_by_the_formula_and_framed_with_zero() {
        for (height, width) in [(512usize, 512usize), (101, 640), (388, 33)] {
            let bytes: Vec<u8> = (0..height * width).map(|i| (i * i / 7 + i / width) as u8).collect();
            let rows: Vec<Vec<f64>> =
                bytes.chunks(width).map(|row| row.iter().map(|&v| f64::from(v) / 127.5 - 1.0).collect()).collect();
            let ours = images(&Tensor::from_slice(&bytes).view([1, 1, height as i64, width as i64]), BYTES);
            assert_eq!(ours.size(), [1, 1, INPUT_SIDE, INPUT_SIDE]);
            let expected = Tensor::from_slice(&resized_by_formula(&rows, OUTPUT_SIDE as usize));
            assert!(largest_difference(&centre(&ours).reshape([-1]), &expected) < 1e-4);
            let framed = ours.abs().sum(Kind::Double) - centre(&ours).abs().sum(Kind::Double);
            assert_eq!(framed.double_value(&[]), 0.0);
        }
    }

    #[test]
    fn the_largest_plane_is_the_first_of_equals() {
        tch::manual_seed(4);
        // Few different numbers: many are equal.
        let planes = Tensor::randint(4, [2, 5, 7, 9], (Kind::Float, tch::Device::Cpu));
        let values = Vec::<f32>::try_from(planes.contiguous().view([-1])).unwrap();
        let found = Vec::<u8>::try_from(largest_plane(&planes, 1).contiguous().view([-1])).unwrap();
        for (place, found) in found.into_iter().enumerate() {
            let (image, pixel) = (place / 63, place % 63);
            let at = |plane: usize| values[(image * 5 + plane) * 63 + pixel];
            let expected = (1..5).fold(0, |best, plane| if at(plane) > at(best) { plane } else { best });
            assert_eq!(usize::from(found), expected);
        }
    }

    #[test]
    fn real_slices_equal_those_of_the_reference() {
        let Some(folder) = shared("isbi2012") else { return };
        let slices = training_slices(&folder);
        let two = Targets { classes: 2, has_ignored: false };
        for slice in [0, 17] {
            let (Some(image), Some(label)) = (
                shared(&format!("oracles/preprocessed-image-{slice:02}.npy")),
                shared(&format!("oracles/preprocessed-label-{slice:02}.npy")),
            ) else {
                return;
            };
            let image = Tensor::read_npy(image).unwrap().reshape([1, 1, INPUT_SIDE, INPUT_SIDE]);
            let slice = slices.select(&[slice]).unwrap();
            assert!(largest_difference(&preprocessed_images(&slice), &image) < 1e-6);
            let label = Tensor::read_npy(label).unwrap().reshape([1, OUTPUT_SIDE, OUTPUT_SIDE]);
            assert_eq!(largest_difference(&preprocessed_labels(&slice, two).unwrap(), &label), 0.0);
        }
    }
}
