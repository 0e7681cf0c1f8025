//! `unet preview`: the first samples of a training as a picture, and what they are in numbers, to look at before hours
//! of training. They are made by the functions that training makes them by.
//!
//! Shapes: C channels, S and O the sides of the network's input and output.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use crate::cli::PreviewArgs;
use crate::cli::native::Native;
use crate::data::folds;
use crate::data::labels::{IGNORED, LabelMap};
use crate::data::layout::Layout;
use crate::data::order::SampleSchedule;
use crate::data::slices::{ReadOptions, Slice, SliceSet};
use crate::data::spec::{GreyScaling, Recipe};
use crate::error::UsageError;
use crate::files::{create_parent, write_atomically};
use crate::output::logger::{Logger, ReadingBar, Volume};
use crate::output::pictures::samples::{Sample, SampleSheet};
use crate::recipe::batches::TrainingBatches;
use crate::recipe::normalisation::GreyMap;
use crate::recipe::preprocessing::MARGIN;
use crate::run::inputs::Needs;
use crate::run::{samples, sheets};

/// Share of the shown grey levels that those of a slice should span at least.
const LEAST_SPAN: f64 = 0.05;

/// Draws the first samples of a training on all slices into `args.out`, and prints what they are.
///
/// Errors: flags that make no sense, a picture that is there already, data that no training could use.
pub fn preview(args: &PreviewArgs) -> Result<()> {
    let native = Native::of_training(&args.native, None, Some(args.recipe), args.augment)?;
    require_png(args)?;
    if args.out.exists() && !args.overwrite {
        bail!("'{}' is there already; use --overwrite to replace it, or another --out", args.out.display());
    }
    let recipe = samples::recipe(args.recipe, &native);
    let slices = read(args, recipe)?;
    let logger = Logger::new(None, Volume::Full)?;
    describe(&slices, &logger);
    let used = describe_recipe(args, recipe, &native);
    logger.note(&used.join(", "));
    let mut sheet = SampleSheet::default();
    let shown = show(args, recipe, &native, &slices, &mut sheet, &logger)?;
    shown.describe(&slices, &logger);
    shown.warnings(recipe, &slices).iter().for_each(|warning| logger.warn(warning));
    let picture = sheet.draw(&title(args), &[&used[..], &[key(&slices)]].concat(), shown.legend(&slices))?;
    let picture = picture.context("no sample")?;
    create_parent(&args.out)?;
    write_atomically(&args.out, &picture.png()?)?;
    logger.note(&format!("picture: {}, {}x{}", args.out.display(), picture.height, picture.width));
    Ok(())
}

/// Errors: a name that promises another format.
fn require_png(args: &PreviewArgs) -> Result<(), UsageError> {
    let is_png = args.out.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("png"));
    if is_png {
        return Ok(());
    }
    let message = format!("--out '{}': the picture is a PNG; give a name that ends in .png", args.out.display());
    Err(UsageError::new(message))
}

/// The labelled slices of the dataset, for training by `recipe`.
///
/// Errors: those of training.
fn read(args: &PreviewArgs, recipe: Recipe) -> Result<SliceSet> {
    let map = args.dataset.label_map.as_deref().map(LabelMap::parse).transpose()?;
    let needs = Needs { layout: Layout::find(&args.dataset.data_dir)?, training: true, test: false };
    needs.require()?;
    let bar = ReadingBar::new(true);
    let options = ReadOptions {
        device: Device::Cpu,
        // Few slices are used: they are decoded when their turn comes.
        budget: 0,
        with_weights: false,
        map: map.as_ref(),
        trained: None,
        grey: samples::grey_choice(args.dataset.grey_range),
        by_image: recipe.is_by_image(),
        progress: &|done, count| bar.advance(done, count),
    };
    let mut slices = SliceSet::training(&needs.layout, &options)?;
    bar.end();
    slices.spec.recipe = recipe;
    if args.native.rare_class_share > 0.0 {
        slices.emphasise(&(0..slices.len()).collect::<Vec<_>>(), None, true);
    }
    Ok(slices)
}

fn describe(slices: &SliceSet, logger: &Logger) {
    logger.note(&format!("data: {}", slices.describe()));
    if let Some(map) = &slices.spec.map {
        logger.note(&format!("classes of all labels: {}", map.describe_shares(&slices.class_pixels)));
    }
    slices.notes.iter().for_each(|note| logger.note(note));
    slices.warnings.iter().for_each(|warning| logger.warn(warning));
}

/// The recipe and its settings in words.
fn describe_recipe(args: &PreviewArgs, recipe: Recipe, native: &Native) -> [String; 2] {
    let grey = match recipe {
        Recipe::Reference => String::new(),
        Recipe::Native { .. } => format!(", grey levels by {}", native.grey_scaling.name()),
    };
    let changes = match (args.augment, recipe) {
        (false, _) => "none".to_owned(),
        (true, Recipe::Reference) => "flips, crops, brightness".to_owned(),
        (true, Recipe::Native { .. }) => {
            native.augmentations.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
        }
    };
    // The reference's samples have the size of the default.
    let output = native.patch;
    let rare = match (recipe, native.rare_class_share) {
        (Recipe::Native { .. }, share) if share > 0.0 => {
            format!(", {} % of the windows around rarer classes", 100.0 * share)
        }
        _ => String::new(),
    };
    let input = output + 2 * MARGIN;
    [
        format!("recipe: {}, input {input}x{input}, output {output}x{output}{grey}{rare}", recipe.name()),
        format!("augmentation: {changes}"),
    ]
}

/// Draws the samples into `sheet` and prints a line on each.
fn show(
    args: &PreviewArgs,
    recipe: Recipe,
    native: &Native,
    slices: &SliceSet,
    sheet: &mut SampleSheet,
    logger: &Logger,
) -> Result<Shown> {
    // The order is that of a training by one process, without a fold.
    let order = folds::split(slices.len(), args.seed, None).train;
    let schedule = SampleSchedule { first_step: 0, first_sample: 0, batch_size: 1, ranks: 1 };
    let samples = samples::samples(recipe, native, args.augment);
    let mut batches = TrainingBatches::new(slices, &order, schedule, 0, args.seed, samples);
    let mut shown = Shown { pixels: vec![0; slices.spec.classes()], ..Shown::default() };
    logger.note("grey levels of the network's input, where its output is:");
    for sample in 0..args.samples {
        let step = sample + 1;
        let slice = batches.slices(step, 0)[0];
        let batch = batches.batch(step)?;
        let (image, labels) = (batch.images.get(0), batch.labels.get(0));
        let [height, width] = slices.size(slice);
        let name = sheets::caption(slices, slice);
        logger.note(&format!("sample {sample}: {name}, {height}x{width}  {}", grey_levels(&image, labels.size()[0])));
        shown.count(sample, &labels)?;
        if let std::collections::btree_map::Entry::Vacant(place) = shown.spans.entry(slice) {
            place.insert(spans(&slices.get(slice)?, recipe));
        }
        let caption = format!("sample {sample}, {height}x{width}: {name}");
        sheet.add(Sample { caption, image: &image, shown: shown_range(recipe), labels: &labels });
    }
    Ok(shown)
}

/// The levels of the network's input that are shown black and white.
fn shown_range(recipe: Recipe) -> [f64; 2] {
    match recipe {
        Recipe::Reference | Recipe::Native { grey: GreyScaling::Range } => [-1.0, 1.0],
        // Deviations from the mean.
        Recipe::Native { grey: GreyScaling::Image } => [-2.5, 2.5],
    }
}

/// Minimum, mean and maximum of each channel of an input `[C, S, S]`, over the part where the output is, `output`
/// pixels wide.
fn grey_levels(image: &Tensor, output: i64) -> String {
    let centre = image.narrow(1, MARGIN, output).narrow(2, MARGIN, output);
    let channels = centre.size()[0];
    let of = |channel: i64| {
        let levels = centre.get(channel);
        let [low, high] = [levels.min(), levels.max()].map(|value| value.double_value(&[]));
        let mean = levels.mean(Kind::Double).double_value(&[]);
        let name = if channels == 1 { String::new() } else { format!("channel {channel}: ") };
        format!("{name}minimum {low:.3}  mean {mean:.3}  maximum {high:.3}")
    };
    (0..channels).map(of).collect::<Vec<_>>().join("  ")
}

/// How much of the shown range the levels of each channel of a slice span, as the recipe maps them.
fn spans(slice: &Slice, recipe: Recipe) -> Vec<f64> {
    let grey = match recipe {
        Recipe::Reference => GreyScaling::Range,
        Recipe::Native { grey } => grey,
    };
    let levels = GreyMap::of(slice, grey).apply(&slice.image, slice);
    let [low, high] = shown_range(recipe);
    let span = |channel: i64| {
        let levels = levels.get(channel);
        (levels.max() - levels.min()).double_value(&[]) / (high - low)
    };
    (0..levels.size()[0]).map(span).collect()
}

/// What the samples hold together.
#[derive(Debug, Default)]
struct Shown {
    /// Pixels of each class in the outputs.
    pixels: Vec<u64>,
    ignored: u64,
    /// Samples all of whose pixels are ignored.
    without_labels: Vec<u64>,
    /// For each slice in use, [`spans`] of its channels.
    spans: BTreeMap<usize, Vec<f64>>,
}

impl Shown {
    /// Counts the labels of a sample, `[O, O]` i64.
    fn count(&mut self, sample: u64, labels: &Tensor) -> Result<()> {
        let labels = Vec::<u8>::try_from(labels.to_kind(Kind::Uint8).contiguous().view([-1]))?;
        let ignored = labels.iter().filter(|class| **class == IGNORED).count();
        if ignored == labels.len() {
            self.without_labels.push(sample);
        }
        self.ignored += ignored as u64;
        for (class, pixels) in (0..).zip(&mut self.pixels) {
            *pixels += labels.iter().filter(|label| **label == class).count() as u64;
        }
        Ok(())
    }

    /// Pixels of the outputs of which a class is known.
    fn labelled(&self) -> u64 {
        self.pixels.iter().sum()
    }

    /// Share of the outputs' pixels that are ignored, in percent.
    fn ignored_share(&self) -> f64 {
        100.0 * self.ignored as f64 / (self.labelled() + self.ignored).max(1) as f64
    }

    fn describe(&self, slices: &SliceSet, logger: &Logger) {
        if let Some(map) = &slices.spec.map {
            logger.note(&format!("classes of these samples: {}", map.describe_shares(&self.pixels)));
        }
        logger.note(&format!("ignored in these samples: {:.2} % of the pixels", self.ignored_share()));
    }

    /// Classes with their names and shares, and the ignored pixels where there are some.
    fn legend<'a>(&self, slices: &'a SliceSet) -> Vec<(u8, &'a str, String)> {
        let labelled = self.labelled().max(1) as f64;
        let names = slices.spec.map.iter().flat_map(LabelMap::names);
        let share = |pixels: u64| format!("{:.1} %", 100.0 * pixels as f64 / labelled);
        let classes = (0..).zip(names.zip(&self.pixels)).map(|(class, (name, &pixels))| (class, name, share(pixels)));
        let ignored = (self.ignored > 0).then(|| (IGNORED, "ignored", format!("{:.1} %", self.ignored_share())));
        classes.chain(ignored).collect()
    }

    /// What is amiss with the samples.
    fn warnings(&self, recipe: Recipe, slices: &SliceSet) -> Vec<String> {
        let is_flat = |spans: &&Vec<f64>| spans.iter().any(|span| *span < LEAST_SPAN);
        let flat = self.spans.values().filter(is_flat).count();
        let first = self.spans.iter().find(|(_, spans)| is_flat(spans));
        let grey = first.map(|(&index, spans)| {
            let channel = spans.iter().position(|span| *span < LEAST_SPAN).unwrap_or(0);
            let of = if spans.len() == 1 { String::new() } else { format!("channel {channel} of ") };
            let advice = match recipe {
                Recipe::Reference => "rescale the stored values, or train with --recipe native",
                Recipe::Native { grey: GreyScaling::Range } => {
                    "rescale the stored values, or leave out --grey_scaling range"
                }
                Recipe::Native { grey: GreyScaling::Image } => "look whether it is empty",
            };
            format!(
                "the grey levels of {flat} of {} slices span less than {:.0} % from black to white, those of {of}{} \
                 {:.1} %: the network sees almost one grey; {advice}",
                self.spans.len(),
                100.0 * LEAST_SPAN,
                slices.name(index),
                100.0 * spans[channel]
            )
        });
        let labels = (!self.without_labels.is_empty()).then(|| {
            let samples: Vec<String> = self.without_labels.iter().map(u64::to_string).collect();
            format!("all pixels of the samples {} are ignored: nothing is learned from them", samples.join(", "))
        });
        grey.into_iter().chain(labels).collect()
    }
}

/// The title of the picture.
fn title(args: &PreviewArgs) -> String {
    let name = args.dataset.data_dir.file_name().unwrap_or(args.dataset.data_dir.as_os_str()).to_string_lossy();
    let count = if args.samples == 1 { "first sample".to_owned() } else { format!("first {} samples", args.samples) };
    format!("{name}: the {count} of a training with seed {} (numbered from 0)", args.seed)
}

/// What the tiles of a pair are.
fn key(slices: &SliceSet) -> String {
    let channel = match slices.spec.channels {
        1 | 3 => String::new(),
        channels => format!(" (channel 0 of {channels})"),
    };
    format!("left: input of the network{channel}; the line frames what it answers for; right: the labels there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::values::GreyRange;

    #[test]
    fn spans_are_shares_of_what_is_shown_for_each_channel() {
        let samples: Vec<u8> = (0..2 * 100).map(|i| if i < 100 { 100 + i % 2 } else { i - 100 }).collect();
        let image = Tensor::from_slice(&samples).view([2, 10, 10]);
        let slice = Slice::unlabelled(image, GreyRange { black: 0.0, white: 255.0 });
        let range = spans(&slice, Recipe::Native { grey: GreyScaling::Range });
        assert_eq!(range.len(), 2);
        assert!((range[0] - 1.0 / 255.0).abs() < 1e-6 && (range[1] - 99.0 / 255.0).abs() < 1e-6, "{range:?}");
        assert_eq!(spans(&slice, Recipe::Reference), range);
        // Two values of equal number are a deviation beside their mean; 0 to 99 have a deviation of 28.866.
        let image = spans(&slice, Recipe::Native { grey: GreyScaling::Image });
        assert!((image[0] - 2.0 / 5.0).abs() < 1e-4 && (image[1] - 99.0 / 28.866 / 5.0).abs() < 1e-4, "{image:?}");
    }

    #[test]
    fn grey_levels_are_those_where_the_output_is() {
        let image = Tensor::full([2, 188, 188], 7.0, (Kind::Float, Device::Cpu));
        let values = Tensor::arange(32, (Kind::Float, Device::Cpu)).view([2, 4, 4]) / 10.0;
        image.narrow(1, MARGIN, 4).narrow(2, MARGIN, 4).copy_(&values);
        let expected = "channel 0: minimum 0.000  mean 0.750  maximum 1.500  \
                        channel 1: minimum 1.600  mean 2.350  maximum 3.100";
        assert_eq!(grey_levels(&image, 4), expected);
        assert_eq!(grey_levels(&image.narrow(0, 1, 1), 4), "minimum 1.600  mean 2.350  maximum 3.100");
    }

    #[test]
    fn ignored_pixels_have_no_part_in_the_shares_of_classes() {
        let mut shown = Shown { pixels: vec![0; 3], ..Shown::default() };
        let ignored = i64::from(IGNORED);
        shown.count(4, &Tensor::from_slice(&[0i64, 2, 2, ignored]).view([2, 2])).unwrap();
        shown.count(5, &Tensor::from_slice(&[ignored; 4]).view([2, 2])).unwrap();
        assert_eq!((shown.pixels.clone(), shown.ignored, shown.without_labels.clone()), (vec![1, 0, 2], 5, vec![5]));
        assert_eq!((shown.labelled(), shown.ignored_share()), (3, 62.5));
    }
}
