//! The data and the network that a run begins with.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use tch::{Device, Tensor};

use super::class_weights::class_weights;
use super::context::Compute;
use super::learnable;
use super::memory;
use super::repeats;
use super::samples;
use super::split::split;
use crate::checkpoint;
use crate::cli::InitChoice;
use crate::cli::config::{Config, Source};
use crate::cli::native::Border;
use crate::cli::split::SplitChoice;
use crate::data::border_weights::BorderTerm;
use crate::data::folds::Split;
use crate::data::labels::LabelMap;
use crate::data::layout::{Case, Kind, Layout, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, loose, missing_stack};
use crate::data::order::SampleSchedule;
use crate::data::slices::{ReadOptions, SliceSet};
use crate::data::spec::{DataSpec, Recipe};
use crate::engine::loss::LossOptions;
use crate::model::architecture::Architecture;
use crate::model::init::Init;
use crate::model::unet::UNet;
use crate::output::logger::{Logger, ReadingBar};
use crate::output::manifest::DatasetRecord;
use crate::recipe::batches::TrainingBatches;

/// Filters of the first level by default: the paper's.
const DEFAULT_BASE_FILTERS: i64 = 64;

/// The images that the mode needs.
pub struct Inputs {
    pub training: Option<TrainingData>,
    pub test: Option<TestData>,
    /// What the network in use is for.
    pub spec: DataSpec,
    /// Files that are left out.
    notes: Vec<String>,
}

/// Labelled slices, and which of them are kept for validation.
pub struct TrainingData {
    pub slices: SliceSet,
    pub split: Split,
    /// A factor for each class in the cross entropy.
    pub class_weights: Option<Vec<f64>>,
}

/// Images to predict.
pub enum TestData {
    /// The challenge's test stack, or what a benchmark times.
    Slices(Box<SliceSet>),
    /// Files that are read when their turn comes.
    Files(Vec<Case>),
}

impl TestData {
    pub fn slices(&self) -> Option<&SliceSet> {
        match self {
            Self::Slices(slices) => Some(slices),
            Self::Files(_) => None,
        }
    }
}

/// Which images of a dataset are needed.
pub struct Needs {
    pub layout: Layout,
    /// Labelled images.
    pub training: bool,
    /// Images to predict.
    pub test: bool,
}

impl Needs {
    /// Errors: no dataset, or images missing that the mode needs.
    fn of(config: &Config) -> Result<Option<Self>> {
        let Source::Dataset(folder) = &config.source else { return Ok(None) };
        let mode = config.exec_mode;
        let needs =
            Self { layout: Layout::find(folder)?, training: mode.trains() || mode.evaluates(), test: mode.predicts() };
        needs.require()?;
        Ok(Some(needs))
    }

    /// Errors: images that are missing.
    pub fn require(&self) -> Result<()> {
        let Self { layout, training, test } = self;
        let root = layout.root.display();
        if layout.kind == Kind::Stacks {
            let needed = [(TRAIN_VOLUME, *training), (TRAIN_LABELS, *training), (TEST_VOLUME, *test)];
            for (name, _) in needed.iter().filter(|(_, is_needed)| *is_needed) {
                ensure!(layout.root.join(name).is_file(), "{}", missing_stack(&layout.root, name));
            }
        }
        if *test && layout.test.is_empty() {
            bail!(
                "no images to predict in '{root}', which is laid out as {}; name files or folders with --input, and a \
                 folder for their masks with --output",
                layout.kind.name()
            );
        }
        layout.require()
    }
}

impl Inputs {
    /// Fails where images that the mode needs are missing, or a label map that is none.
    pub fn require(config: &Config) -> Result<()> {
        label_map(config)?;
        if let Source::Files { input, .. } = &config.source {
            loose::find(input)?;
        }
        Needs::of(config).map(drop)
    }

    /// Reads the images to `device`. `trained` is what the network in use was trained on.
    ///
    /// Errors: files that are missing, damaged or do not fit, and too few slices for the fold.
    pub fn read(config: &Config, device: Device, trained: Option<&DataSpec>, bar: &ReadingBar) -> Result<Self> {
        let Some(Needs { layout, training, test }) = Needs::of(config)? else {
            let Source::Files { input, .. } = &config.source else { bail!("no images") };
            let loose::Found { cases, notes } = loose::find(input)?;
            let spec = trained.cloned().unwrap_or_else(DataSpec::isbi);
            recipe(config, trained)?;
            return Ok(Self { training: None, test: Some(TestData::Files(cases)), spec, notes });
        };
        let map = label_map(config)?;
        let options = ReadOptions {
            device,
            budget: memory::budget(config.memory_share),
            with_weights: config.border.is_some(),
            map: map.as_ref(),
            trained,
            grey: samples::grey_choice(config.grey_range),
            by_image: config.recipe.is_some_and(|choice| samples::recipe(choice, &config.native).is_by_image()),
            progress: &|done, count| bar.advance(done, count),
        };
        let mut training = training.then(|| TrainingData::read(config, &layout, &options)).transpose()?;
        let recipe = recipe(config, trained)?;
        if let Some(data) = &mut training {
            data.slices.spec.recipe = recipe;
        }
        let in_memory = layout.kind == Kind::Stacks || config.benchmark.is_some();
        let test = match (test, in_memory) {
            (false, _) => None,
            (true, true) => {
                // What is trained now is what predicts.
                let trained = training.as_ref().map(|data| &data.slices.spec).or(trained);
                let mut slices = SliceSet::test(&layout, &ReadOptions { trained, ..options })?;
                slices.spec.recipe = recipe;
                if let Some(data) = &training {
                    repeats::warn_of_test(&mut slices, &data.slices, &data.split);
                }
                Some(TestData::Slices(Box::new(slices)))
            }
            (true, false) => Some(TestData::Files(layout.test.clone())),
        };
        let own = training.as_ref().map(|data| &data.slices.spec);
        let of_test = test.as_ref().and_then(TestData::slices).map(|slices| &slices.spec);
        let spec = own.or(trained).or(of_test).cloned().unwrap_or_else(DataSpec::isbi);
        let inputs = Self { training, test, spec, notes: layout.notes };
        inputs.require_channels(trained)?;
        Ok(inputs)
    }

    /// Errors: images of other channels than the network takes, or than the training images have.
    fn require_channels(&self, trained: Option<&DataSpec>) -> Result<()> {
        let training = self.training.as_ref().map(|data| &data.slices);
        let sets = training.into_iter().chain(self.test.as_ref().and_then(TestData::slices));
        let wanted = trained.map_or(self.spec.channels, |spec| spec.channels);
        for slices in sets.filter(|slices| slices.len() > 0) {
            let found = slices.spec.channels;
            ensure!(
                found == wanted,
                "{} has {found} channel(s), the network takes {wanted}; give images like those it was trained on",
                slices.name(0)
            );
        }
        Ok(())
    }

    /// Goes on with `spec`, what the network in use is for, as rank 0 has read it.
    ///
    /// Errors: labels that were read by another map, where this rank has no weights to learn it from.
    pub fn require_spec(&mut self, spec: DataSpec) -> Result<()> {
        if let Some(data) = &self.training {
            let (own, wanted) = (&data.slices.spec, &spec);
            ensure!(
                own.classes() == wanted.classes() && own.channels == wanted.channels,
                "the labels were read as {}, the network was trained with {}; put the weights into --model_dir on each \
                 machine, or give --label_map",
                own.class_names().join(", "),
                wanted.class_names().join(", ")
            );
        }
        let training = self.training.as_ref().map(|data| &data.slices);
        for slices in training.into_iter().chain(self.test.as_ref().and_then(TestData::slices)) {
            ensure!(
                spec.grey_ranges.is_empty()
                    || slices.ranges().iter().all(|(&format, &range)| spec.range(format) == range),
                "grey levels were mapped in another way than in the training of the network; put the weights into \
                 --model_dir on each machine"
            );
        }
        self.spec = spec;
        Ok(())
    }

    /// Tells what was read.
    pub fn describe(&self, logger: &Logger) {
        if let Some(TrainingData { slices, split, .. }) = &self.training {
            let (train, validation) = (split.train.len(), split.validation.len());
            let size = slices.describe();
            logger.note(&format!("data: {size}, {train} to train, {validation} to validate"));
            self.describe_classes(slices, logger);
            if !slices.is_in_memory() {
                logger.note("data: not all in memory, the rest is read when needed (--memory_share)");
            }
        }
        match &self.test {
            Some(TestData::Slices(slices)) => logger.note(&format!("test data: {}", slices.describe())),
            Some(TestData::Files(cases)) => logger.note(&format!("test data: {} files", cases.len())),
            None => {}
        }
        self.notes.iter().for_each(|note| logger.note(note));
        let sets = self.training.iter().map(|data| &data.slices).chain(self.test.as_ref().and_then(TestData::slices));
        for slices in sets {
            slices.notes.iter().for_each(|note| logger.note(note));
            slices.warnings.iter().for_each(|warning| logger.warn(warning));
        }
    }

    /// A line on the classes, where they are others than the reference's.
    fn describe_classes(&self, slices: &SliceSet, logger: &Logger) {
        let Some(map) = slices.spec.map.as_ref().filter(|_| slices.kind != Kind::Stacks || slices.spec.classes() != 2)
        else {
            return;
        };
        logger.note(&format!("classes: {}", map.describe_shares(&slices.class_pixels)));
    }

    /// The images for `config.json`.
    pub fn datasets(&self) -> Vec<DatasetRecord> {
        let training = self.training.iter().flat_map(|data| DatasetRecord::of(&data.slices));
        let test = self.test.iter().filter_map(TestData::slices).flat_map(DatasetRecord::of);
        training.chain(test).collect()
    }
}

/// What no slice of a split does.
fn missing_side(split: &Split) -> &'static str {
    if split.train.is_empty() { "trains" } else { "validates" }
}

/// The map of `--label_map`.
fn label_map(config: &Config) -> Result<Option<LabelMap>> {
    config.label_map.as_deref().map(LabelMap::parse).transpose()
}

impl TrainingData {
    fn read(config: &Config, layout: &Layout, options: &ReadOptions) -> Result<Self> {
        let mut slices = SliceSet::training(layout, options)?;
        let split = split(config, layout, &slices)?;
        let validates = config.exec_mode.evaluates() || config.validation.is_some();
        if split.train.is_empty() || (validates && split.validation.is_empty()) {
            if let Some(SplitChoice::File(path)) = &config.training.split {
                bail!("--split '{}': this fold has no slice that {}; list some", path.display(), missing_side(&split));
            }
            bail!(
                "'{}' holds {}: too few for --crossvalidation_idx, which keeps a fifth of at least 2 for validation",
                slices.cases[0].images[0].display(),
                slices.describe()
            );
        }
        learnable::require(config, layout, &mut slices, &split)?;
        if validates {
            repeats::warn_of_validation(&mut slices, &split);
        }
        let class_weights = class_weights(config, &slices)?;
        let border = config.border.map(|Border { weight, sigma }| BorderTerm { weight, sigma });
        let has_rare_classes = config.native.rare_class_share > 0.0;
        if border.is_some() || has_rare_classes {
            slices.emphasise(&split.train, border, has_rare_classes);
        }
        Ok(Self { slices, split, class_weights })
    }

    /// The batches of this rank; `first_step` and `first_sample` are those that were made before this process began.
    pub fn batches(
        &self,
        config: &Config,
        compute: &Compute,
        first_step: u64,
        first_sample: u64,
    ) -> TrainingBatches<'_> {
        let (batch_size, ranks) = (config.batch_size as u64, compute.world.size as u64);
        let schedule = SampleSchedule { first_step, first_sample, batch_size, ranks };
        let (rank, seed) = (compute.world.rank as u64, config.training.seed);
        let samples = samples::samples(self.slices.spec.recipe, &config.native, config.training.augment);
        TrainingBatches::new(&self.slices, &self.split.train, schedule, rank, seed, samples)
    }

    /// Which pixels count in the loss, and how much.
    pub fn loss(&self, device: Device) -> LossOptions {
        let weights = |weights: &Vec<f64>| {
            let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
            Tensor::from_slice(&weights).to_device(device)
        };
        let class_weights = self.class_weights.as_ref().map(weights);
        // Windows of the native recipe may reach past the edge of an image.
        let has_ignored = self.slices.spec.has_ignored() || self.slices.spec.recipe != Recipe::Reference;
        LossOptions { class_weights, has_ignored }
    }
}

/// The recipe of this run: the flag's, which must be that of the network in use where there is one.
fn recipe(config: &Config, trained: Option<&DataSpec>) -> Result<Recipe> {
    let chosen = |choice| samples::recipe(choice, &config.native);
    let Some(trained) = trained.map(|spec| spec.recipe) else {
        return Ok(config.recipe.map_or(Recipe::Reference, chosen));
    };
    if let Some(asked) = config.recipe.map(chosen).filter(|asked| asked.name() != trained.name()) {
        bail!(
            "--recipe {}: the network was trained by the {} recipe; leave the flag out to use that",
            asked.name(),
            trained.name()
        );
    }
    if trained == Recipe::Reference && config.native.tile.is_some() {
        bail!(
            "--tile: the network was trained by the reference recipe, which resizes whole images; leave the flag out"
        );
    }
    Ok(trained)
}

/// The network that training from the start makes for data of `spec`.
pub fn architecture(config: &Config, spec: &DataSpec) -> Architecture {
    Architecture {
        base_filters: config.base_filters.unwrap_or(DEFAULT_BASE_FILTERS),
        channels: spec.channels as i64,
        classes: spec.classes() as i64,
    }
}

/// The network that training from the start begins with.
pub fn fresh_network(config: &Config, spec: &DataSpec, device: Device) -> Result<UNet> {
    fresh_network_of(config, architecture(config, spec), device)
}

/// The same for any architecture.
pub fn fresh_network_of(config: &Config, architecture: Architecture, device: Device) -> Result<UNet> {
    let init = match config.training.init {
        InitChoice::Glorot => Init::Glorot,
        InitChoice::He => Init::He,
    };
    UNet::with_weights_by(init, architecture, config.training.seed, device)
}

/// The network of a weight file, whose width `--base_filters` may say.
pub fn trained_network(config: &Config, compute: &Compute, weights: &Path) -> Result<UNet> {
    read_network(compute, weights, config.base_filters)
}

/// The network of a weight file, read by rank 0. Another width than `base_filters` is an error, where that is given.
pub fn read_network(compute: &Compute, weights: &Path, base_filters: Option<i64>) -> Result<UNet> {
    let (world, device) = (&compute.world, compute.device);
    let mut read = None;
    let architecture = world.on_main("weights", || {
        let net = checkpoint::load_weights(weights, base_filters, device)?;
        Ok(read.insert(net).architecture)
    })?;
    let net = match read {
        Some(net) => net,
        None => UNet::with_fresh_weights(architecture, 0, device)?,
    };
    let parameters = net.parameters();
    world.broadcast(&parameters.iter().map(|(_, tensor)| *tensor).collect::<Vec<_>>())?;
    drop(parameters);
    Ok(net)
}
