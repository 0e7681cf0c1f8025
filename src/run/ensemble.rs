//! `--ensemble`: more networks, whose probabilities are averaged with those of the one in `--model_dir`.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::context::Compute;
use super::inputs::read_network;
use super::samples;
use super::weights::WeightFile;
use crate::checkpoint;
use crate::cli::config::Config;
use crate::data::spec::DataSpec;
use crate::model::unet::{Predictor, UNet};
use crate::output::logger::Logger;
use crate::output::model_dir::ModelDir;

/// The weight files of the other networks.
fn weight_files(config: &Config) -> Result<Vec<WeightFile>> {
    config.ensemble.iter().map(|folder| WeightFile::find(&ModelDir::new(folder), config.weights)).collect()
}

/// Their paths.
///
/// Errors: checkpoints of stopped runs that cannot be read.
pub fn files(config: &Config) -> Result<Vec<PathBuf>> {
    Ok(weight_files(config)?.into_iter().map(|file| file.path).collect())
}

/// Errors: a folder without weights.
pub fn require(config: &Config) -> Result<()> {
    files(config)?.iter().try_for_each(|file| checkpoint::require_weights(file))
}

/// `first` and the other networks, in the form that predicts.
///
/// Errors: networks for other channels, classes or label values than `spec`, or of another recipe.
pub fn join(
    config: &Config,
    compute: &Compute,
    logger: &Logger,
    first: UNet,
    spec: &DataSpec,
) -> Result<Vec<Predictor>> {
    let mut nets = vec![first.prepare_for_prediction(compute.precision.0)?];
    for WeightFile { path: file, warnings } in weight_files(config)? {
        warnings.iter().for_each(|text| logger.warn(text));
        compute.world.on_main("ensemble", || {
            let mut other = checkpoint::data_spec(&file)?;
            other.set_range(samples::grey_choice(config.grey_range));
            ensure!(
                other.is_alike(spec),
                "--ensemble: '{}' was trained on {}, the network of --model_dir on {}; networks are averaged where \
                 channels, grey levels, classes, label values and recipe are the same",
                file.display(),
                other.describe(),
                spec.describe()
            );
            Ok(())
        })?;
        // Each may have a width of its own.
        nets.push(read_network(compute, &file, None)?.prepare_for_prediction(compute.precision.0)?);
    }
    Ok(nets)
}
