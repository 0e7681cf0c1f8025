//! The slices that an exported file is checked with.
//!
//! Shapes: N images, C channels.

use std::path::Path;

use anyhow::{Result, bail};
use tch::{Device, Tensor};

use super::spec::ExportSpec;
use crate::data::layout::Layout;
use crate::data::slices::{ReadOptions, Slice, SliceSet};
use crate::data::spec::DataSpec;
use crate::data::values::{GreyChoice, GreyRange};
use crate::recipe::preprocessing::{MARGIN, frame, normalise, resize};
use crate::tools::phantom;

/// Sides of the phantom that stands in for a real slice.
const SYNTHETIC_SIDE: usize = 512;

/// The slices that the file is checked with: two, or one twice.
pub struct Slices {
    pub slices: [Slice; 2],
    /// Black and white in units of the file's samples.
    pub range: GreyRange,
    /// What messages call them.
    pub name: String,
}

impl Slices {
    /// Slices of the phantom, for a network that was trained on values of `range`: by default 8-bit ones.
    pub fn synthetic(range: Option<GreyRange>, channels: usize) -> Self {
        let phantom = phantom::generate(1 + channels, SYNTHETIC_SIDE, 0).test_volume;
        let side = SYNTHETIC_SIDE as i64;
        let samples = Tensor::from_slice(&phantom.into_iter().collect::<Vec<u8>>()).view([-1, side, side]);
        let bytes = GreyRange { black: 0.0, white: 255.0 };
        let slice = |first| Slice::unlabelled(samples.narrow(0, first, channels as i64), bytes);
        Self { slices: [slice(0), slice(1)], range: range.unwrap_or(bytes), name: "a synthetic slice".to_owned() }
    }

    /// Two slices of the images to predict in `data_dir`, or where there are none of the training images.
    pub fn read(data_dir: &Path, data: &DataSpec) -> Result<Self> {
        let layout = Layout::find(data_dir)?;
        let options = ReadOptions {
            device: Device::Cpu,
            budget: 0,
            with_weights: false,
            map: None,
            trained: Some(data),
            grey: GreyChoice::Auto,
            by_image: data.recipe.is_by_image(),
            progress: &|_, _| {},
        };
        let set = match layout.test.is_empty() {
            true => SliceSet::training(&layout, &options)?,
            false => SliceSet::test(&layout, &options)?,
        };
        if set.spec.channels != data.channels {
            let (found, wanted) = (set.spec.channels, data.channels);
            bail!("{} has {found} channel(s), the network takes {wanted}; give other --data_dir", set.name(0));
        }
        set.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let slices = [set.get(0)?, set.get(set.len() - 1)?];
        Ok(Self { slices, range: set.grey_range(), name: format!("the first slice of {}", set.name(0)) })
    }

    /// The first `count` slices as the file's input, `[N, C, height, width]` f32.
    pub fn images(&self, count: usize, [height, width]: [i64; 2], spec: &ExportSpec) -> Tensor {
        let image = |slice: &Slice| {
            let samples = normalise(&slice.image.unsqueeze(0), slice.range);
            match spec.padding {
                None => frame(&resize(&samples, height - 2 * MARGIN, width - 2 * MARGIN)),
                Some(_) => resize(&samples, height, width),
            }
        };
        Tensor::cat(&self.slices[..count].iter().map(image).collect::<Vec<_>>(), 0)
    }
}
