//! `--ensemble`: more networks, whose probabilities are averaged with those of the one in `--model_dir`.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::context::Compute;
use super::inputs::read_network;
use crate::checkpoint;
use crate::cli::WeightsChoice;
use crate::cli::config::Config;
use crate::data::spec::DataSpec;
use crate::model::unet::{Predictor, UNet};
use crate::output::model_dir::ModelDir;

/// The weight files of the other networks.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    config.ensemble.iter().map(|folder| {
        let folder = ModelDir::new(folder);
        match config.weights {
            WeightsChoice::Last => folder.weights(),
            WeightsChoice::Best => folder.best_weights(),
        }
    })
}

/// Errors: a folder without weights.
pub fn require(config: &Config) -> Result<()> {
    files(config).try_for_each(|file| checkpoint::require_weights(&file))
}

/// `first` and the other networks, in the form that predicts.
///
/// Errors: networks for other channels, classes or label values than `spec`, or of another recipe.
pub fn join(config: &Config, compute: &Compute, first: UNet, spec: &DataSpec) -> Result<Vec<Predictor>> {
    let mut nets = vec![first.prepare_for_prediction(compute.precision.0)?];
    for file in files(config) {
        compute.world.on_main("ensemble", || {
            let other = checkpoint::data_spec(&file)?;
            ensure!(
                other.is_alike(spec),
                "--ensemble: '{}' was trained on {}, the network of --model_dir on {}; networks are averaged where \
                 channels, classes, label values and recipe are the same",
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
