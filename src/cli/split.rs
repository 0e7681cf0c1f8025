//! How slices are split into training and validation: `--split`, `--folds` and `--crossvalidation_idx`.

use std::path::PathBuf;

use super::RunArgs;
use crate::error::UsageError;

/// How slices are split into training and validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitChoice {
    Reference,
    Disjoint,
    Blocks,
    File(PathBuf),
}

impl SplitChoice {
    pub fn new(text: String) -> Self {
        match text.as_str() {
            "reference" => Self::Reference,
            "disjoint" => Self::Disjoint,
            "blocks" => Self::Blocks,
            _ => Self::File(text.into()),
        }
    }

    /// For records.
    pub fn name(&self) -> String {
        match self {
            Self::Reference => "reference".to_owned(),
            Self::Disjoint => "disjoint".to_owned(),
            Self::Blocks => "blocks".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Errors: a fold that is not there, and flags of another split.
pub fn check_folds(args: &RunArgs, given: &[String]) -> Result<(), UsageError> {
    let has_count = matches!(args.split.as_deref(), Some("disjoint" | "blocks"));
    if given.iter().any(|name| name == "folds") && !has_count {
        let message = "--folds is the number of folds of --split disjoint or blocks; add one, or leave --folds out";
        return Err(UsageError::new(message.to_owned()));
    }
    // A file, or a dataset, has as many folds as it says.
    let is_of_file = args.split.as_deref().is_some_and(|split| !has_count && split != "reference");
    match args.crossvalidation_idx {
        Some(fold) if fold >= args.folds && !is_of_file => Err(UsageError::new(format!(
            "--crossvalidation_idx {fold}: there are {} folds, 0 to {}",
            args.folds,
            args.folds - 1
        ))),
        _ => Ok(()),
    }
}
