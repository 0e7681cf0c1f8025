//! What is to be predicted, and what is told of it beside the masks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::layout::Case;
use crate::run::inference::PredictionOptions;

/// What is predicted, and where the masks go.
pub struct Job<'a> {
    pub cases: &'a [Case],
    pub output: PathBuf,
    pub batch_size: usize,
    pub options: PredictionOptions,
    pub save_probabilities: bool,
    /// Whether masks that are there are replaced.
    pub overwrite: bool,
    /// What made the masks; kept beside them.
    pub record: Record,
}

/// What makes masks: two runs with the same make the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// SHA-256 of the weight file's header, which has the checksums of all weights.
    pub weights_sha256: String,
    pub precision: String,
    /// Whether eight orientations were averaged.
    #[serde(default)]
    pub tta: bool,
    /// `--grey_range`, where it takes the place of the training's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grey_range: Option<String>,
    /// Names and stored values of the classes, for people.
    pub classes: String,
}

/// The name of a case's results, without suffix.
pub fn stem(case: &Case) -> &Path {
    Path::new(Path::new(&case.name).file_name().unwrap_or_default())
}
