//! The batches that training and evaluation compute with.
//!
//! Shapes: N images of C channels.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::augmentation::{self, Augmentation};
use super::grey_changes::GreyChange;
use super::normalisation::GreyMap;
use super::preprocessing::{self, Targets};
use super::windows::{Geometry, Window};
use crate::data::order::{Order, SampleSchedule};
use crate::data::random::{Purpose, stream};
use crate::data::slices::{Slice, SliceSet};
use crate::data::spec::{DataSpec, GreyScaling};

/// What one step trains on or one evaluation scores.
pub struct Batch {
    /// `[N, C, 572, 572]` f32 in [-1, 1]; windows of the native recipe have sides of their own.
    pub images: Tensor,
    /// Class indices, [`IGNORED`](crate::data::labels::IGNORED) among them, `[N, 388, 388]` i64.
    pub labels: Tensor,
    /// The number of the first sample, counted from the start of training; what is random in its step depends on it.
    pub first_sample: u64,
}

impl Batch {
    /// `images` `[N, C, 572, 572]` f32; `labels` `[N, 388, 388]` u8.
    pub fn new(images: Tensor, labels: &Tensor) -> Self {
        Self { images, labels: labels.to_kind(Kind::Int64), first_sample: 0 }
    }
}

/// Makes the training batches of one rank.
pub struct TrainingBatches<'a> {
    slices: &'a SliceSet,
    order: Order,
    schedule: SampleSchedule,
    rank: u64,
    seed: u64,
    samples: Samples,
}

/// How training samples are made of slices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Samples {
    /// Whole slices, resized.
    Reference { augment: bool },
    /// Windows at the stored resolution, with an output of `side` pixels.
    Native { side: i64, grey: GreyScaling, geometry: Geometry, grey_changes: bool },
}

impl<'a> TrainingBatches<'a> {
    /// Batches of the slices `chosen` of a set.
    pub fn new(
        slices: &'a SliceSet,
        chosen: &[usize],
        schedule: SampleSchedule,
        rank: u64,
        seed: u64,
        samples: Samples,
    ) -> Self {
        Self { slices, order: Order::new(chosen.to_vec(), seed), schedule, rank, seed, samples }
    }

    /// The slice numbers of the batch of `rank` in `step`, which counts from 1 over the whole training.
    pub fn slices(&mut self, step: u64, rank: u64) -> Vec<usize> {
        self.schedule.samples(step, rank).map(|sample| self.order.slice(sample)).collect()
    }

    /// The batch of this rank in `step`, which counts from 1 over the whole training.
    ///
    /// Errors: a slice that can no longer be read.
    pub fn batch(&mut self, step: u64) -> Result<Batch> {
        if !self.slices.is_in_memory() {
            let upcoming: Vec<usize> =
                (step..step + STEPS_AHEAD).flat_map(|step| self.slices(step, self.rank)).collect();
            self.slices.expect(upcoming);
        }
        let samples = self.schedule.samples(step, self.rank);
        let slices = self.slices(step, self.rank);
        let slices = self.slices.select(&slices)?;
        let first_sample = samples.start;
        let augment = match self.samples {
            Samples::Reference { augment } => augment,
            Samples::Native { side, grey, geometry, grey_changes } => {
                let window = NativeWindow { side, grey, geometry, grey_changes, targets: window_targets(self.slices) };
                let made = samples.zip(&slices).map(|(sample, slice)| window.sample(self.seed, sample, slice));
                let (images, labels): (Vec<_>, Vec<_>) = made.collect::<Result<Vec<_>>>()?.into_iter().unzip();
                let (images, labels) = (Tensor::stack(&images, 0), Tensor::stack(&labels, 0));
                return Ok(Batch { first_sample, ..Batch::new(images, &labels) });
            }
        };
        let targets = targets(&self.slices.spec);
        let images = preprocessed_images(&slices);
        let labels = preprocessed_labels(&slices, targets)?;
        if !augment {
            return Ok(Batch { first_sample, ..Batch::new(images, &labels) });
        }
        let draw = |sample| Augmentation::draw(&mut stream(self.seed, Purpose::Augmentation, sample));
        let transforms: Vec<Augmentation> = samples.map(draw).collect();
        let (images, labels) = augmentation::apply(&images, &labels, targets, &transforms);
        Ok(Batch { first_sample, ..Batch::new(images, &labels) })
    }
}

/// What a window of the native recipe is made by.
struct NativeWindow {
    side: i64,
    grey: GreyScaling,
    geometry: Geometry,
    grey_changes: bool,
    targets: Targets,
}

impl NativeWindow {
    /// Image `[C, S, S]` f32 and class indices `[O, O]` u8 of a sample.
    fn sample(&self, seed: u64, sample: u64, slice: &Slice) -> Result<(Tensor, Tensor)> {
        let Some(classes) = &slice.classes else { anyhow::bail!("these slices have no labels") };
        let mut rng = stream(seed, Purpose::Window, sample);
        let window = Window::draw(&mut rng, slice.size(), self.side, self.geometry);
        let image = GreyMap::of(slice, self.grey).apply(&slice.image, slice);
        let (image, labels) = window.apply(&image, classes, self.side, self.targets);
        if !self.grey_changes {
            return Ok((image, labels));
        }
        let change = GreyChange::draw(&mut stream(seed, Purpose::GreyChange, sample));
        Ok((change.apply(image), labels))
    }
}

/// How the labels of windows are resampled: what lies outside the image is ignored in any case.
fn window_targets(slices: &SliceSet) -> Targets {
    Targets { has_ignored: true, ..targets(&slices.spec) }
}

/// Steps whose slices are decoded before they are needed.
const STEPS_AHEAD: u64 = 4;

/// How the labels of a dataset are resampled.
pub fn targets(spec: &DataSpec) -> Targets {
    Targets { classes: spec.classes(), has_ignored: spec.has_ignored() }
}

/// The network's input for these slices, `[N, C, 572, 572]` f32.
pub fn preprocessed_images(slices: &[Slice]) -> Tensor {
    let alike = |a: &Slice, b: &Slice| a.size() == b.size() && a.image.kind() == b.image.kind() && a.range == b.range;
    if slices.iter().all(|slice| alike(slice, &slices[0])) {
        let images: Vec<&Tensor> = slices.iter().map(|slice| &slice.image).collect();
        return preprocessing::images(&Tensor::stack(&images, 0), slices[0].range);
    }
    let images: Vec<Tensor> =
        slices.iter().map(|slice| preprocessing::images(&slice.image.unsqueeze(0), slice.range)).collect();
    Tensor::cat(&images, 0)
}

/// The network's target for these slices, `[N, 388, 388]` u8.
///
/// Errors: slices without labels.
pub fn preprocessed_labels(slices: &[Slice], targets: Targets) -> Result<Tensor> {
    let classes: Option<Vec<&Tensor>> = slices.iter().map(|slice| slice.classes.as_ref()).collect();
    let Some(classes) = classes else { anyhow::bail!("these slices have no labels") };
    if classes.iter().all(|one| one.size() == classes[0].size()) {
        return Ok(preprocessing::labels(&Tensor::stack(&classes, 0), targets));
    }
    let labels: Vec<Tensor> =
        classes.iter().map(|classes| preprocessing::labels(&classes.unsqueeze(0), targets)).collect();
    Ok(Tensor::cat(&labels, 0))
}
