//! Whether there is something to learn: images that are not of one value, labels of several classes, and folds that are
//! splits of their own.

use anyhow::{Result, bail, ensure};

use super::split::same_as;
use crate::cli::config::{Config, Training};
use crate::cli::split::SplitChoice;
use crate::data::folds::{self, Split};
use crate::data::layout::Layout;
use crate::data::slices::SliceSet;

/// Errors: training data of which nothing can be learnt. What a user may mean is a warning of `slices`; so is all of it
/// in a benchmark.
pub fn require(config: &Config, layout: &Layout, slices: &mut SliceSet, split: &Split) -> Result<()> {
    if !config.exec_mode.trains() {
        return Ok(());
    }
    let checked = check(slices, split).and_then(|warnings| {
        slices.warnings.extend(warnings);
        check_fold(config, layout, slices)
    });
    match checked {
        Ok(warning) => slices.warnings.extend(warning),
        Err(error) if config.benchmark.is_some() => slices.warnings.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The result are warnings.
fn check(slices: &SliceSet, split: &Split) -> Result<Vec<String>> {
    let (flat, count) = (slices.flat_slices(), slices.len());
    ensure!(
        flat < count,
        "each of the {count} images is of one value: there is nothing to learn; export them again, and look at them \
         with unet preview"
    );
    let mut warnings = Vec::new();
    if flat > 0 {
        warnings.push(format!("{flat} of {count} images are of one value each"));
    }
    let bits = |of: &[usize]| of.iter().fold(0, |bits, &index| bits | slices.slice_classes[index]);
    let all: Vec<usize> = (0..count).collect();
    let (found, trained) = (bits(&all), bits(&split.train));
    let names = slices.spec.class_names();
    let named = |bits: u64| {
        let names = names.iter().enumerate().filter(|(class, _)| bits >> class & 1 == 1);
        names.map(|(_, name)| format!("'{name}'")).collect::<Vec<_>>().join(", ")
    };
    if found.count_ones() < 2 {
        bail!(
            "all labels are of the class {}: there is nothing to learn; look whether the labels lost their values on \
             export, or give the classes with --label_map",
            named(found)
        );
    }
    let lost = named(found & !trained);
    if trained.count_ones() < 2 {
        bail!(
            "the {} training slices of this fold are all of the class {}, only those that validate have {lost}; give \
             another --crossvalidation_idx, --split or --seed",
            split.train.len(),
            named(trained)
        );
    }
    if !lost.is_empty() {
        warnings.push(format!("no training slice of this fold has the class {lost}, which cannot be learnt"));
    }
    Ok(warnings)
}

/// Errors: a fold of the reference that is the same split as a lower one. The result is a warning of other folds that
/// are, and of too few slices for the reference's.
fn check_fold(config: &Config, layout: &Layout, slices: &SliceSet) -> Result<Option<String>> {
    let Training { crossvalidation_idx, split, .. } = &config.training;
    let Some(fold) = *crossvalidation_idx else { return Ok(None) };
    let count = slices.len();
    let same = same_as(config, layout, slices, fold);
    let has_own = layout.description.as_ref().is_some_and(|description| !description.folds.is_empty());
    if !matches!(split, Some(SplitChoice::Reference)) && (split.is_some() || has_own) {
        return Ok(same.map(|other| {
            format!("--crossvalidation_idx {fold} is the same split as fold {other}; look at the folds of the dataset")
        }));
    }
    if let Some(other) = same {
        bail!(
            "--crossvalidation_idx {fold}: of {count} slices that is the same split as fold {other}, as the \
             reference's folds do not move with so few; give --split disjoint or blocks with --folds {count}"
        );
    }
    Ok(folds::warn_of_few(count))
}
