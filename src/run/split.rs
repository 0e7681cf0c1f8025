//! Which slices of a dataset train and which validate.

use anyhow::{Context, Result, ensure};

use crate::cli::config::{Config, Training};
use crate::cli::split::SplitChoice;
use crate::data::folds::{self, Folds, Split, split_of_file};
use crate::data::layout::Layout;
use crate::data::slices::SliceSet;

/// The slices that train and that validate: as `--split` says, else by the folds that the dataset brings, else by the
/// reference's.
pub fn split(config: &Config, layout: &Layout, slices: &SliceSet) -> Result<Split> {
    match config.training.crossvalidation_idx {
        Some(fold) => split_of_fold(config, layout, slices, fold),
        None => Ok(folds::split(slices.len(), config.training.seed, None)),
    }
}

/// The fold below `fold` that is the same split; `None` where there is none.
pub fn same_as(config: &Config, layout: &Layout, slices: &SliceSet, fold: usize) -> Option<usize> {
    let split = |fold| split_of_fold(config, layout, slices, fold).ok().map(Split::sorted);
    let own = split(fold)?;
    (0..fold).find(|&other| split(other).as_ref() == Some(&own))
}

fn split_of_fold(config: &Config, layout: &Layout, slices: &SliceSet, fold: usize) -> Result<Split> {
    let Training { seed, folds: count, split: choice, .. } = &config.training;
    let of_case = |name: &str| -> Vec<usize> {
        (0..slices.len()).filter(|index| slices.cases[slices.infos[*index].case].name == name).collect()
    };
    let by_count = |folds: Folds| {
        ensure!(*count <= slices.len(), "--folds {count}: there are {} slices; lower it", slices.len());
        Ok(folds.split(slices.len(), *seed, fold, *count))
    };
    let own = layout.description.as_ref().map(|description| &description.folds[..]).unwrap_or_default();
    match choice {
        Some(SplitChoice::Disjoint) => by_count(Folds::Disjoint),
        Some(SplitChoice::Blocks) => by_count(Folds::Blocks),
        Some(SplitChoice::File(path)) => {
            let read = || split_of_file(&std::fs::read_to_string(path)?, fold, slices.len(), of_case);
            read().with_context(|| {
                format!("cannot use --split '{}'; give reference, disjoint, blocks or a JSON file", path.display())
            })
        }
        None if !own.is_empty() => {
            let [train, validation] = own.get(fold).with_context(|| {
                format!("--crossvalidation_idx {fold}: 'splits_final.json' has the folds 0 to {}", own.len() - 1)
            })?;
            let of = |names: &[String]| names.iter().flat_map(|name| of_case(name)).collect();
            Ok(Split { train: of(train), validation: of(validation) })
        }
        None | Some(SplitChoice::Reference) => Ok(folds::split(slices.len(), *seed, Some(fold))),
    }
}
