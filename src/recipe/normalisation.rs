//! Grey levels of the native recipe.
//!
//! Shapes: C channels, H, W pixels.

use tch::{Kind, Tensor};

use super::preprocessing::{normalise, scale};
use crate::data::slices::Slice;
use crate::data::spec::GreyScaling;

/// What maps the stored samples of one image, found once for all of its tiles and windows.
pub enum GreyMap {
    /// By the range of the sample type.
    Range,
    /// Mean and deviation of each channel, `[C, 1, 1]` f32.
    Statistics { mean: Tensor, deviation: Tensor },
}

impl GreyMap {
    pub fn of(slice: &Slice, grey: GreyScaling) -> Self {
        match grey {
            GreyScaling::Range => Self::Range,
            GreyScaling::Image => {
                let levels = scale(&slice.image, slice.range);
                let mean = levels.mean_dim([1i64, 2].as_slice(), true, Kind::Float);
                let deviation = levels.std_dim([1i64, 2].as_slice(), false, true);
                // An image of one value stays one.
                Self::Statistics { mean, deviation: deviation.clamp_min(1e-5) }
            }
        }
    }

    /// A part of the image, `[C, H, W]` as stored, as f32.
    pub fn apply(&self, part: &Tensor, slice: &Slice) -> Tensor {
        match self {
            Self::Range => normalise(part, slice.range),
            // Values beyond the range of training are as good as others.
            Self::Statistics { mean, deviation } => (scale(part, slice.range) - mean) / deviation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::values::GreyRange;
    use tch::Device;

    #[test]
    fn each_channel_has_mean_0_and_deviation_1_or_the_range_of_its_type() {
        tch::manual_seed(1);
        let image = Tensor::randint(200, [3, 40, 50], (Kind::Uint8, Device::Cpu));
        let slice = Slice::unlabelled(image, GreyRange { black: 0.0, white: 255.0 });
        let own = GreyMap::of(&slice, GreyScaling::Image).apply(&slice.image, &slice);
        for channel in 0..3 {
            let levels = own.get(channel);
            assert!(levels.mean(Kind::Double).double_value(&[]).abs() < 1e-5);
            assert!((levels.std(false).double_value(&[]) - 1.0).abs() < 1e-5);
        }
        let range = GreyMap::of(&slice, GreyScaling::Range).apply(&slice.image.narrow(1, 3, 2), &slice);
        let sample = slice.image.double_value(&[2, 4, 7]);
        assert!((range.double_value(&[2, 1, 7]) - (sample / 127.5 - 1.0)).abs() < 1e-6);
        let flat = Slice { image: Tensor::full([1, 4, 4], 9, (Kind::Uint8, Device::Cpu)), ..slice };
        let flat = GreyMap::of(&flat, GreyScaling::Image).apply(&flat.image, &flat);
        assert!(flat.abs().max().double_value(&[]) < 0.01);
    }
}
