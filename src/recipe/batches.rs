//! The batches that training and evaluation compute with.
//!
//! Shapes: N images of C channels; S and O the sides of a window's input and output.

use anyhow::Result;
use rand::RngExt;
use tch::{Kind, Tensor};

use super::augmentation::{self, Augmentation};
use super::grey_changes::GreyChange;
use super::normalisation::GreyMap;
use super::preprocessing::{self, MARGIN, Targets};
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
    /// What is added to the class weight of each pixel in the cross entropy, `[N, 388, 388]` f32; `None` for nothing.
    pub weights: Option<Tensor>,
    /// The number of the first sample, counted from the start of training; what is random in its step depends on it.
    pub first_sample: u64,
}

impl Batch {
    /// `images` `[N, C, 572, 572]` f32; `labels` `[N, 388, 388]` u8.
    pub fn new(images: Tensor, labels: &Tensor) -> Self {
        Self { images, labels: labels.to_kind(Kind::Int64), weights: None, first_sample: 0 }
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
    /// Windows at the stored resolution.
    Native(WindowOptions),
}

/// How windows of the native recipe are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowOptions {
    /// Side of their output in pixels.
    pub side: i64,
    pub grey: GreyScaling,
    pub geometry: Geometry,
    pub grey_changes: bool,
    /// Share of the windows that are placed around a pixel of one of the rarer classes.
    pub rare_class_share: f64,
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
            Samples::Native(options) => {
                let targets = window_targets(self.slices);
                let made =
                    samples.zip(&slices).map(|(sample, slice)| options.sample(self.seed, sample, slice, targets));
                return Ok(Batch { first_sample, ..WindowSample::stack(&made.collect::<Result<Vec<_>>>()?) });
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

/// A sample of the native recipe.
struct WindowSample {
    /// `[C, S, S]` f32.
    image: Tensor,
    /// Class indices, `[O, O]` u8.
    labels: Tensor,
    /// `[O, O]` f32.
    weights: Option<Tensor>,
}

impl WindowSample {
    fn stack(samples: &[Self]) -> Batch {
        let images: Vec<&Tensor> = samples.iter().map(|sample| &sample.image).collect();
        let labels: Vec<&Tensor> = samples.iter().map(|sample| &sample.labels).collect();
        let weights: Option<Vec<&Tensor>> = samples.iter().map(|sample| sample.weights.as_ref()).collect();
        let weights = weights.map(|weights| Tensor::stack(&weights, 0));
        Batch { weights, ..Batch::new(Tensor::stack(&images, 0), &Tensor::stack(&labels, 0)) }
    }
}

impl WindowOptions {
    /// The sample number `sample` of a training with `seed`, of this slice, as a batch of its own.
    pub fn batch(&self, seed: u64, sample: u64, slice: &Slice, targets: Targets) -> Result<Batch> {
        let made = self.sample(seed, sample, slice, targets)?;
        Ok(Batch { first_sample: sample, ..WindowSample::stack(&[made]) })
    }

    /// The sample number `sample`, of this slice.
    fn sample(&self, seed: u64, sample: u64, slice: &Slice, targets: Targets) -> Result<WindowSample> {
        let Some(classes) = &slice.classes else { anyhow::bail!("these slices have no labels") };
        let mut rng = stream(seed, Purpose::Window, sample);
        let mut window = Window::draw(&mut rng, slice.size(), self.side, self.geometry);
        if let Some(pixel) = self.rare_pixel(seed, sample, slice) {
            window = window.around(pixel, slice.size(), self.side);
        }
        let image = GreyMap::of(slice, self.grey).apply(&slice.image, slice);
        let (image, labels, weights) = match &slice.emphasis.weights {
            None => {
                let (image, labels) = window.apply(&image, classes, self.side, targets);
                (image, labels, None)
            }
            Some(weights) => {
                // A channel more, so that they are resampled as the image is.
                let channels = image.size()[0];
                let both = Tensor::cat(&[image, weights.unsqueeze(0)], 0);
                let (both, labels) = window.apply(&both, classes, self.side, targets);
                let weights = both.get(channels).narrow(0, MARGIN, self.side).narrow(1, MARGIN, self.side);
                (both.narrow(0, 0, channels), labels, Some(weights))
            }
        };
        if !self.grey_changes {
            return Ok(WindowSample { image, labels, weights });
        }
        let change = GreyChange::draw(&mut stream(seed, Purpose::GreyChange, sample));
        Ok(WindowSample { image: change.apply(image), labels, weights })
    }

    /// Row and column of the pixel that a sample is placed around; `None` for a random place.
    fn rare_pixel(&self, seed: u64, sample: u64, slice: &Slice) -> Option<[i64; 2]> {
        let pixels = slice.emphasis.rare_pixels.as_ref()?;
        let mut rng = stream(seed, Purpose::RareClass, sample);
        rng.random_bool(self.rare_class_share).then(|| pixels.draw(&mut rng)).flatten()
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

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::data::emphasis::{Emphasis, RarePixels};
    use crate::data::labels::IGNORED;
    use crate::data::values::GreyRange;
    use crate::testing::largest_difference;

    const TWO: Targets = Targets { classes: 2, has_ignored: true };
    const ALL: Geometry = Geometry { flips: true, rotation: true, scale: true, elastic: true };
    const OPTIONS: WindowOptions =
        WindowOptions { side: 36, grey: GreyScaling::Range, geometry: ALL, grey_changes: true, rare_class_share: 0.0 };

    /// A checkerboard with squares of 16 pixels, as image and as labels.
    fn board(height: i64, width: i64) -> Slice {
        let square = |count: i64| (Tensor::arange(count, (Kind::Int64, Device::Cpu)) / 16.0).floor();
        let parity = (square(height).unsqueeze(1) + square(width).unsqueeze(0)).remainder(2.0);
        let classes = parity.to_kind(Kind::Uint8);
        let image = (&parity * 255.0).to_kind(Kind::Uint8).unsqueeze(0);
        Slice { classes: Some(classes), ..Slice::unlabelled(image, GreyRange { black: 0.0, white: 255.0 }) }
    }

    fn weighted(slice: Slice, weights: Tensor) -> Slice {
        Slice { emphasis: Emphasis { weights: Some(weights), rare_pixels: None }, ..slice }
    }

    #[test]
    fn weights_are_resampled_as_the_labels_are_and_change_neither_them_nor_the_image() {
        let (mut resampled, mut ignored) = (0, 0);
        for sample in 0..12 {
            // Reached past its edge by some windows.
            let make = |slice: &Slice| OPTIONS.sample(4, sample, slice, TWO).unwrap();
            let plain = make(&board(90, 70));
            assert!(plain.weights.is_none());

            let even = make(&weighted(board(90, 70), Tensor::full([90, 70], 7.5, (Kind::Float, Device::Cpu))));
            assert!((even.weights.unwrap() - 7.5).abs().max().double_value(&[]) < 1e-5, "an even plane stays even");

            let slice = board(90, 70);
            let own = slice.classes.as_ref().unwrap().to_kind(Kind::Float) * 3.0;
            let squares = make(&weighted(slice, own));
            assert_eq!(squares.labels, plain.labels);
            assert!(largest_difference(&squares.image, &plain.image) < 1e-5);
            let weights = squares.weights.unwrap();
            assert_eq!(weights.size(), plain.labels.size());
            // Away from the edges of the squares a weight is that of its label.
            let is_inside = plain.labels.ne(i64::from(IGNORED));
            let differs = (&weights / 3.0 - plain.labels.to_kind(Kind::Float)).abs();
            let wrong = differs.greater(0.501).logical_and(&is_inside).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(wrong, 0, "sample {sample}");
            resampled += differs.greater(0.01).logical_and(&is_inside).sum(Kind::Int64).int64_value(&[]);
            ignored += is_inside.logical_not().sum(Kind::Int64).int64_value(&[]);
        }
        assert!(resampled > 0 && ignored > 0, "{resampled} {ignored}");
    }

    #[test]
    fn a_share_of_the_windows_is_around_rarer_classes_and_the_others_stay_where_they_were() {
        // One pixel of class 1 in a corner, where few windows are.
        let classes = Tensor::zeros([300, 300], (Kind::Uint8, Device::Cpu));
        let _ = classes.narrow(0, 250, 1).narrow(1, 40, 1).fill_(1);
        let values = Vec::<u8>::try_from(classes.reshape([-1])).unwrap();
        let image = Tensor::zeros([1, 300, 300], (Kind::Uint8, Device::Cpu));
        let rare_pixels = Some(std::sync::Arc::new(RarePixels::of(&values, 300, 0)));
        let slice = Slice {
            classes: Some(classes),
            emphasis: Emphasis { weights: None, rare_pixels },
            ..Slice::unlabelled(image, GreyRange { black: 0.0, white: 255.0 })
        };
        let windows = |share: f64| {
            let geometry = Geometry::default();
            let options = WindowOptions { rare_class_share: share, geometry, grey_changes: false, ..OPTIONS };
            let labels = |sample| options.sample(9, sample, &slice, TWO).unwrap().labels;
            (0..200).map(labels).collect::<Vec<_>>()
        };
        let has_pixel = |labels: &&Tensor| Tensor::eq(labels, 1).any().int64_value(&[]) == 1;
        let (none, some, all) = (windows(0.0), windows(0.33), windows(1.0));
        assert!(none.iter().filter(has_pixel).count() < 20);
        assert!((45..110).contains(&some.iter().filter(has_pixel).count()));
        assert!(all.iter().all(|labels| labels.int64_value(&[18, 18]) == 1), "the pixel is in the middle");
        let kept = some.iter().zip(&none).zip(&all).filter(|((some, none), all)| some == none || some == all).count();
        assert_eq!(kept, 200);
    }
}
