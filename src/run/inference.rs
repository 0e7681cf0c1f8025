//! From slices to probabilities and classes: what evaluation, prediction and their benchmark share.
//!
//! Shapes: N images, C channels, H, W pixels, P planes: one for two classes, the probability of the second, else one
//! for each class.

use std::cell::RefCell;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::context::Compute;
use super::memory;
use crate::cli::config::Config;
use crate::data::slices::Slice;
use crate::data::spec::{DataSpec, Recipe};
use crate::engine::step_runner::StepRunner;
use crate::model::architecture::Architecture;
use crate::model::unet::Predictor;
use crate::recipe::batches::preprocessed_images;
use crate::recipe::normalisation::GreyMap;
use crate::recipe::preprocessing::{MARGIN, largest_plane, resize};
use crate::recipe::tiles::{Tile, fitting_output, tiles};

/// How slices are predicted, beside the recipe.
#[derive(Debug, Clone, Copy)]
pub struct PredictionOptions {
    /// Side of a tile's output in the native recipe.
    pub tile: i64,
    /// Whether the eight orientations of an image are averaged.
    pub tta: bool,
}

/// The side of a tile's output in the native recipe: what `--tile` asks for, else the largest whose prediction fits
/// into the share of memory that `--memory_share` allows.
pub fn tile(config: &Config, architecture: Architecture, compute: &Compute) -> i64 {
    const LARGEST: i64 = 1028;
    const SMALLEST: i64 = 68;
    if let Some(side) = config.native.tile {
        return fitting_output(side);
    }
    let budget = memory::budget(config.memory_share.max(0.1));
    let element = compute.precision.0.elt_size_in_bytes() as u64;
    let bytes = |side: i64| architecture.memory(config.batch_size as u64, side + 2 * MARGIN, element, false);
    let sides = (0..).map(|step| LARGEST - 64 * step).take_while(|side| *side >= SMALLEST);
    sides.into_iter().find(|&side| bytes(side) <= budget).unwrap_or(SMALLEST)
}

/// Predicts slices by the recipe that the networks were trained with. The probabilities of several are averaged.
pub struct SlicePredictor<'a> {
    members: Vec<Member<'a>>,
    recipe: Recipe,
    classes: usize,
    /// Images or tiles that are computed at a time.
    batch_size: usize,
    /// Side of a tile's output in the native recipe.
    tile: i64,
    /// Whether the eight orientations of an image are averaged.
    tta: bool,
}

/// A network of an ensemble, or the only one.
struct Member<'a> {
    net: &'a Predictor,
    runner: RefCell<StepRunner>,
}

impl<'a> SlicePredictor<'a> {
    /// `nets` are one network or more, all trained for `spec`.
    pub fn new(
        compute: &Compute,
        nets: &'a [Predictor],
        spec: &DataSpec,
        batch_size: usize,
        options: PredictionOptions,
    ) -> Result<Self> {
        let member = |net| Ok(Member { net, runner: RefCell::new(compute.step_runner()?) });
        let members = nets.iter().map(member).collect::<Result<_>>()?;
        let PredictionOptions { tile, tta } = options;
        Ok(Self { members, recipe: spec.recipe, classes: spec.classes(), batch_size, tile, tta })
    }

    /// Probabilities of each slice at its own size, `[P, H, W]` f32. Those of the native recipe are on the host.
    pub fn predict(&self, slices: &[Slice]) -> Result<Vec<Tensor>> {
        self.averaged(slices, &|slices| self.predict_once(slices))
    }

    /// Probabilities of each slice at the size of the network's output, as the reference recipe resizes it: `[P, 388,
    /// 388]` f32.
    pub fn predict_resized(&self, slices: &[Slice]) -> Result<Vec<Tensor>> {
        self.averaged(slices, &|slices| {
            let planes = self.predict_inputs(&preprocessed_images(slices))?;
            Ok((0..planes.size()[0]).map(|index| planes.get(index)).collect())
        })
    }

    /// Whether probabilities are those of one network in one orientation, with nothing to average.
    pub fn is_single(&self) -> bool {
        self.members.len() == 1 && !self.tta
    }

    /// What `once` predicts, averaged over the orientations where that is asked for.
    fn averaged(&self, slices: &[Slice], once: &dyn Fn(&[Slice]) -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
        if !self.tta {
            return once(slices);
        }
        let orientations = (0..4).flat_map(|turns| [(turns, false), (turns, true)]);
        let mut sums: Vec<Tensor> = Vec::new();
        for (turns, mirrored) in orientations {
            let turned: Vec<Slice> = slices.iter().map(|slice| oriented(slice, turns, mirrored)).collect();
            let planes = once(&turned)?.into_iter().map(|planes| restored(&planes, turns, mirrored));
            if sums.is_empty() {
                sums = planes.collect();
            } else {
                sums.iter_mut().zip(planes).for_each(|(sum, planes)| *sum += planes);
            }
        }
        Ok(sums.into_iter().map(|sum| sum / 8.0).collect())
    }

    fn predict_once(&self, slices: &[Slice]) -> Result<Vec<Tensor>> {
        match self.recipe {
            Recipe::Reference => {
                let predicted = self.predict_inputs(&preprocessed_images(slices))?;
                let resized = |(index, slice): (i64, &Slice)| {
                    let [height, width] = slice.size();
                    resize(&predicted.narrow(0, index, 1), height, width).get(0)
                };
                Ok((0..).zip(slices).map(resized).collect())
            }
            Recipe::Native { grey } => {
                slices.iter().map(|slice| self.predict_tiles(slice, &GreyMap::of(slice, grey))).collect()
            }
        }
    }

    /// The tiles of a slice, joined.
    fn predict_tiles(&self, slice: &Slice, map: &GreyMap) -> Result<Tensor> {
        let [height, width] = slice.size();
        let planes = Tensor::empty([planes(self.classes), height, width], (Kind::Float, Device::Cpu));
        for batch in tiles([height, width], self.tile).chunks(self.batch_size) {
            let inputs: Vec<Tensor> = batch.iter().map(|tile| map.apply(&tile.input(&slice.image), slice)).collect();
            let outputs = self.predict_inputs(&Tensor::stack(&inputs, 0))?;
            for (index, tile) in (0..).zip(batch) {
                tile.put(&planes, &outputs.get(index));
            }
        }
        Ok(planes)
    }

    /// The network's inputs for these slices, as a benchmark times them: one for each, all of one size.
    pub fn inputs(&self, slices: &[Slice]) -> Tensor {
        match self.recipe {
            Recipe::Reference => preprocessed_images(slices),
            Recipe::Native { grey } => {
                let tile = Tile { start: [0, 0], size: [self.tile, self.tile] };
                let input = |slice: &Slice| GreyMap::of(slice, grey).apply(&tile.input(&slice.image), slice);
                Tensor::stack(&slices.iter().map(input).collect::<Vec<_>>(), 0)
            }
        }
    }

    /// Probabilities of network inputs: `[N, P, output side, output side]` f32.
    pub fn predict_inputs(&self, inputs: &Tensor) -> Result<Tensor> {
        let predict = |Member { net, runner }: &Member<'_>| probabilities(&mut runner.borrow_mut(), net, inputs);
        let (first, others) = self.members.split_first().context("no network")?;
        let mut sum = predict(first)?;
        for member in others {
            sum += predict(member)?;
        }
        Ok(if others.is_empty() { sum } else { sum / self.members.len() as f64 })
    }
}

/// A slice turned by quarters, and mirrored after that.
fn oriented(slice: &Slice, turns: i64, mirrored: bool) -> Slice {
    let turned = slice.image.rot90(turns, [1, 2]);
    let image = if mirrored { turned.flip([2]) } else { turned };
    Slice::unlabelled(image, slice.range)
}

/// Planes `[P, H, W]` of an oriented slice as those of the slice.
fn restored(planes: &Tensor, turns: i64, mirrored: bool) -> Tensor {
    let turned = if mirrored { planes.flip([2]) } else { planes.shallow_clone() };
    turned.rot90(-turns, [1, 2])
}

/// Softmax probabilities of a network, as those of `predict_inputs`.
fn probabilities(runner: &mut StepRunner, net: &Predictor, images: &Tensor) -> Result<Tensor> {
    let work = |[images]: [&Tensor; 1]| Ok([softmax(&net.forward(images)?)]);
    let [probabilities] = tch::no_grad(|| runner.run([images], work))?;
    Ok(probabilities)
}

/// Planes of probabilities for so many classes.
pub fn planes(classes: usize) -> i64 {
    if classes == 2 { 1 } else { classes as i64 }
}

/// `[N, P, H, W]` f32 from logits `[N, classes, H, W]` of any precision.
pub fn softmax(logits: &Tensor) -> Tensor {
    let probabilities = logits.to_kind(Kind::Float).softmax(1, Kind::Float);
    if logits.size()[1] == 2 { probabilities.narrow(1, 1, 1) } else { probabilities }
}

/// Numbers whose softmax are these probabilities `[N, P, H, W]`: their logarithms, `[N, classes, H, W]`. A probability
/// of 0 counts as 1e-7.
pub fn logits(probabilities: &Tensor) -> Tensor {
    let all = match probabilities.size()[1] {
        1 => Tensor::cat(&[1.0 - probabilities, probabilities.shallow_clone()], 1),
        _ => probabilities.shallow_clone(),
    };
    all.clamp_min(1e-7).log()
}

/// Class indices `[H, W]` u8 of probabilities `[P, H, W]`.
pub fn classes(probabilities: &Tensor) -> Tensor {
    if probabilities.size()[0] == 1 {
        return probabilities.squeeze_dim(0).gt(0.5).to_kind(Kind::Uint8);
    }
    largest_plane(probabilities, 0)
}

/// The name of the only class that pixels were given, of `pixels` of each class; `None` where there are several.
pub fn only_class<'a>(pixels: &[u64], names: &'a [String]) -> Option<&'a str> {
    let mut found = pixels.iter().zip(names).filter(|(pixels, _)| **pixels > 0);
    match (found.next(), found.next()) {
        (Some((_, name)), None) => Some(name),
        _ => None,
    }
}

/// A warning where all pixels of the output are of one class.
pub fn constant_output(pixels: &[u64], spec: &DataSpec) -> Option<String> {
    let names = spec.class_names();
    let class = only_class(pixels, &names)?;
    Some(format!(
        "every pixel of the output is {class}; the network has not learnt yet, or its input is unlike what it was \
         trained on"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::spec::GreyScaling;
    use crate::data::values::GreyRange;
    use crate::model::init::Init;
    use crate::model::unet::UNet;

    /// Odd sizes, smaller than a tile and larger, in one pass and in tiles of every size: the same to rounding.
    #[test]
    fn tiles_joined_are_a_single_pass() {
        let architecture = Architecture { base_filters: 2, channels: 3, classes: 3 };
        let predictor = UNet::with_weights_by(Init::He, architecture, 1, Device::Cpu).unwrap();
        let net = predictor.prepare_for_prediction(Kind::Float).unwrap();
        let range = GreyRange { black: 0.0, white: 255.0 };
        tch::manual_seed(2);
        for [height, width] in [[131i64, 77], [1, 50], [40, 200]] {
            let image = Tensor::randint(255, [3, height, width], (Kind::Uint8, Device::Cpu));
            let slice = [Slice::unlabelled(image, range)];
            for grey in [GreyScaling::Range, GreyScaling::Image] {
                let predict = |tile: i64, batch_size: usize| {
                    let runner = RefCell::new(StepRunner::new(false, Device::Cpu).unwrap());
                    let members = vec![Member { net: &net, runner }];
                    let recipe = Recipe::Native { grey };
                    let predictor = SlicePredictor { members, recipe, classes: 3, batch_size, tile, tta: false };
                    predictor.predict(&slice).unwrap().remove(0)
                };
                let whole = predict(1028, 1);
                assert_eq!(whole.size(), [3, height, width]);
                for (tile, batch_size) in [(20, 7), (36, 1), (100, 2)] {
                    let difference = crate::testing::largest_difference(&predict(tile, batch_size), &whole);
                    assert!(difference < 1e-5, "{height}x{width} in tiles of {tile}: {difference}");
                }
            }
        }
    }

    #[test]
    fn orientations_are_eight_and_are_undone() {
        let image = Tensor::arange(2 * 3 * 5, (Kind::Float, Device::Cpu)).view([2, 3, 5]);
        let slice = Slice::unlabelled(image, GreyRange { black: 0.0, white: 1.0 });
        let mut seen: Vec<Vec<f32>> = Vec::new();
        for (turns, mirrored) in (0..4).flat_map(|turns| [(turns, false), (turns, true)]) {
            let turned = oriented(&slice, turns, mirrored);
            assert_eq!(restored(&turned.image, turns, mirrored), slice.image);
            let values = Vec::<f32>::try_from(turned.image.contiguous().view([-1])).unwrap();
            assert!(!seen.contains(&values), "{turns} {mirrored}");
            seen.push(values);
        }
    }

    #[test]
    fn logits_of_probabilities_have_these_as_their_softmax() {
        let three = Tensor::randn([3, 4, 5], (Kind::Float, Device::Cpu)).softmax(0, Kind::Float);
        let again = logits(&three.unsqueeze(0)).softmax(1, Kind::Float).get(0);
        assert!(crate::testing::largest_difference(&again, &three) < 1e-6);
        let second = three.narrow(0, 1, 1);
        let two = logits(&second.unsqueeze(0)).softmax(1, Kind::Float).get(0);
        assert!(crate::testing::largest_difference(&two.narrow(0, 1, 1), &second) < 1e-6);
    }
}
