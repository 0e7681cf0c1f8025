//! `--init_from`: training that begins with the weights of another network.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::context::Compute;
use super::inputs::fresh_network_of;
use super::weights::WeightFile;
use crate::checkpoint;
use crate::cli::WeightsChoice;
use crate::cli::config::Config;
use crate::data::samples::SampleFormat;
use crate::data::spec::DataSpec;
use crate::data::values::GreyRange;
use crate::model::architecture::Architecture;
use crate::model::unet::UNet;
use crate::output::logger::Logger;
use crate::output::model_dir::ModelDir;

/// The weight file that `--init_from` names: a file, or the folder of a run.
fn file(path: &Path) -> Result<WeightFile> {
    match path.is_dir() {
        true => WeightFile::find(&ModelDir::new(path), WeightsChoice::Last),
        false => Ok(WeightFile { path: path.to_owned(), warnings: Vec::new() }),
    }
}

/// Errors: no weights where `--init_from` says, which is asked before any work.
pub fn require(config: &Config) -> Result<()> {
    match config.training.init_from.as_deref().filter(|_| !config.resume_training) {
        Some(path) => file(path).and_then(|file| checkpoint::require_weights(&file.path)).context("--init_from"),
        None => Ok(()),
    }
}

/// A network for data of `spec` with the weights at `path`. For another number of classes the head is fresh.
///
/// Errors: weights for other channels; another width than `--base_filters`, where that is given.
pub fn network(config: &Config, compute: &Compute, logger: &Logger, spec: &DataSpec, path: &Path) -> Result<UNet> {
    let mut made = None;
    // The other ranks get the values when training begins.
    let architecture = compute.world.on_main("initial weights", || {
        let WeightFile { path, warnings } = file(path)?;
        warnings.iter().for_each(|text| logger.warn(text));
        let old = checkpoint::load_weights(&path, config.base_filters, compute.device)?;
        let data = checkpoint::data_spec(&path)?;
        ensure!(
            data.channels == spec.channels,
            "--init_from: '{}' takes images of {} channel(s), the data has {}; give weights for such images, or leave \
             the flag out",
            path.display(),
            data.channels,
            spec.channels
        );
        let net = made.insert(transferred(config, compute, &old, spec)?);
        tell(logger, &path, &data, spec);
        Ok(net.architecture)
    })?;
    made.map_or_else(|| fresh_network_of(config, architecture, compute.device), Ok)
}

/// The weights of `old`, and a fresh head where the classes are others.
fn transferred(config: &Config, compute: &Compute, old: &UNet, spec: &DataSpec) -> Result<UNet> {
    let architecture = Architecture { classes: spec.classes() as i64, ..old.architecture };
    let fresh = fresh_network_of(config, architecture, compute.device)?;
    let (old, fresh) = (old.parameters(), fresh.parameters());
    let mut values = old.iter().zip(&fresh);
    UNet::new(architecture, &mut |name, shape| {
        let ((_, old), (_, fresh)) = values.next().with_context(|| format!("no value for '{name}'"))?;
        let value = if old.size() == shape { old } else { fresh };
        Ok(tch::no_grad(|| value.detach().copy()))
    })
}

fn tell(logger: &Logger, path: &Path, data: &DataSpec, spec: &DataSpec) {
    let head = if data.classes() == spec.classes() {
        String::new()
    } else {
        format!("; its head of {} classes is replaced by a fresh one of {}", data.classes(), spec.classes())
    };
    logger.note(&format!("training begins with '{}'{head}", path.display()));
    let is_other = |(format, range): (&SampleFormat, &GreyRange)| data.range(*format) != *range;
    if data.recipe != spec.recipe || spec.grey_ranges.iter().any(is_other) {
        logger.warn(&format!(
            "--init_from: '{}' was trained on {}, this run is for {}",
            path.display(),
            data.describe(),
            spec.describe()
        ));
    }
}
