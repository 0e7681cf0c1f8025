//! Warnings of images that occur more than once where scores or masks are then better than those of new images.

use crate::cli::config::Config;
use crate::data::folds::Split;
use crate::data::repeats;
use crate::data::slices::SliceSet;
use crate::files;
use crate::output::logger::Logger;
use crate::output::manifest;
use crate::output::model_dir::ModelDir;

/// Warns where images that validate are among those that train.
pub fn warn_of_validation(slices: &mut SliceSet, split: &Split) {
    let of = |indices: &[usize]| slices.fingerprints(indices.iter().copied());
    let repeated = repeats::among(of(&split.validation), of(&split.train));
    if let Some(&[image, same]) = repeated.first() {
        slices.warnings.push(format!(
            "{} of {} images that validate are among those that train too, such as {}, which is {}: their scores say \
             nothing of new images; leave repeated images out, or keep them on one side (--split FILE)",
            repeated.len(),
            split.validation.len(),
            slices.name(image),
            slices.name(same)
        ));
    }
}

/// Warns where images of `test` are among those of `training` that train.
pub fn warn_of_test(test: &mut SliceSet, training: &SliceSet, split: &Split) {
    let known = training.fingerprints(split.train.iter().copied());
    let repeated = repeats::among(test.fingerprints(0..test.len()), known);
    if let Some(&[image, same]) = repeated.first() {
        test.warnings.push(format!(
            "{} of {} test images are training images too, such as {}, which is {}: their masks say nothing of new \
             images",
            repeated.len(),
            test.len(),
            test.name(image),
            training.name(same)
        ));
    }
}

/// Warns where slices that validate were trained on by a network in use: the one that is evaluated, others of its
/// ensemble, or the one that training begins with.
pub fn warn_of_trained(config: &Config, slices: &SliceSet, split: &Split, logger: &Logger) {
    let mode = config.exec_mode;
    let begins_with = config.training.init_from.as_deref().filter(|_| mode.trains() && !config.resume_training);
    let evaluated = (!mode.trains()).then_some(config.model_dir.as_path());
    let ensemble = config.ensemble.iter().map(AsRef::as_ref);
    for network in evaluated.into_iter().chain(begins_with).chain(ensemble) {
        let model_dir = ModelDir::new(if network.is_dir() { network } else { files::folder(network) });
        let trained = manifest::train_slices(&model_dir, &slices.sha256[0]).unwrap_or_default();
        let count = split.validation.iter().filter(|slice| trained.contains(slice)).count();
        if count > 0 {
            logger.warn(&format!(
                "{count} of {} validation slices were trained on by '{}' (train_slices in '{}'): scores say nothing of \
                 new images then; give the --crossvalidation_idx, --split and --seed of its training, or leave it out",
                split.validation.len(),
                network.display(),
                model_dir.config().display()
            ));
        }
    }
}
