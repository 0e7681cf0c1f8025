//! `--class_weights`: how much each class counts in the cross entropy.

use anyhow::{Result, ensure};

use crate::cli::ClassWeights;
use crate::cli::config::Config;
use crate::data::slices::SliceSet;

/// The factor of each class in the cross entropy.
pub fn class_weights(config: &Config, slices: &SliceSet) -> Result<Option<Vec<f64>>> {
    let classes = slices.spec.classes();
    match &config.training.class_weights {
        None => Ok(None),
        Some(ClassWeights::Given(weights)) => {
            ensure!(
                weights.len() == classes,
                "--class_weights has {} numbers for {classes} classes ({}); give one for each",
                weights.len(),
                slices.spec.class_names().join(", ")
            );
            Ok(Some(weights.clone()))
        }
        Some(ClassWeights::Balanced) => {
            let total: u64 = slices.class_pixels.iter().sum();
            // A class without pixels has nothing to weigh.
            let weight =
                |&pixels: &u64| if pixels == 0 { 1.0 } else { total as f64 / (classes as u64 * pixels) as f64 };
            Ok(Some(slices.class_pixels.iter().map(weight).collect()))
        }
    }
}
