//! The flags of validation while training goes on.

use super::{Metric, RunArgs, WeightsChoice};
use crate::error::UsageError;

/// When the validation slices are scored while training goes on, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validation {
    /// Steps between two validations.
    pub every: u64,
    /// The score that the best weights have, and that patience waits for.
    pub metric: Metric,
    /// Whether the best weights are kept.
    pub keeps_best: bool,
    /// Validations in a row without a better score after which training stops.
    pub patience: Option<u64>,
}

impl Validation {
    /// Errors: flags of validation without --evaluate_every, or without a fold.
    pub fn new(args: &RunArgs) -> Result<Option<Self>, UsageError> {
        let refuse = |message: String| Err(UsageError::new(message));
        let RunArgs { keep_best, patience, .. } = *args;
        let Some(every) = args.evaluate_every else {
            let given = [(keep_best.is_some(), "keep_best"), (patience.is_some(), "patience")];
            return match given.iter().find(|(is_given, _)| *is_given) {
                Some((_, flag)) => refuse(format!(
                    "--{flag} is about the scores of --evaluate_every; add --evaluate_every N, or leave --{flag} out"
                )),
                None => Ok(None),
            };
        };
        if args.exec_mode.trains() && args.crossvalidation_idx.is_none() {
            return refuse(
                "--evaluate_every needs --crossvalidation_idx: without a fold there are no validation slices".into(),
            );
        }
        let metric = keep_best.unwrap_or(Metric::EvalTotalLoss);
        Ok(Some(Self { every, metric, keeps_best: keep_best.is_some(), patience }))
    }
}

/// Errors: best weights that the run does not keep.
pub fn check_weights(args: &RunArgs) -> Result<(), UsageError> {
    if args.weights == WeightsChoice::Best && args.exec_mode.trains() && args.keep_best.is_none() {
        return Err(UsageError::new(
            "--weights best uses the weights of --keep_best; add --evaluate_every N and --keep_best METRIC, or leave \
             --weights out"
                .to_owned(),
        ));
    }
    Ok(())
}
