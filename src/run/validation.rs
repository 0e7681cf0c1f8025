//! `--evaluate_every`: scores of the validation slices while training goes on, the best weights, and when to stop for
//! want of better ones.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::context::{Compute, Journal};
use super::evaluate::{Scored, score};
use super::inference::{PredictionOptions, SlicePredictor, tile};
use super::inputs::TrainingData;
use crate::checkpoint::{self, BestScore, ValidationState};
use crate::cli::config::Config;
use crate::cli::validation::Validation;
use crate::data::spec::DataSpec;
use crate::engine::trainer::Trainer;
use crate::output::logger::Step;

/// Scores the validation slices when it is time to, and remembers the best score.
pub struct Validator {
    /// `None`: never.
    options: Option<Validation>,
    tile: i64,
    state: Option<ValidationState>,
    /// How often the slices were scored in this process, and for how long.
    times: u32,
    duration: Duration,
    /// What the last scoring in this process found, in the metric that counts.
    last_score: Option<f64>,
}

/// What a validation means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    /// Too many validations without a better score.
    OutOfPatience,
    /// This signal ended the scoring before there were scores.
    Stopped(i32),
}

impl Validator {
    /// Goes on from `state`, that of the checkpoint where there is one.
    pub fn new(config: &Config, compute: &Compute, trainer: &Trainer, state: Option<ValidationState>) -> Self {
        let options = config.validation;
        let is_same = |best: &BestScore| options.is_none_or(|options| options.metric.key() == best.metric);
        // Another score than before has no best one yet. A run without validation hands on what it was given.
        let state = state.filter(|state| state.best.as_ref().is_none_or(is_same));
        let tile = tile(config, trainer.net.architecture, compute);
        Self { options, tile, state, times: 0, duration: Duration::ZERO, last_score: None }
    }

    /// What a checkpoint keeps.
    pub fn state(&self) -> Option<&ValidationState> {
        self.state.as_ref()
    }

    /// The name of the metric that counts, and what the last scoring in this process found; `None` before it.
    pub fn last_score(&self) -> Option<(String, f64)> {
        Some((self.options?.metric.key(), self.last_score?))
    }

    /// Time that validation has taken in this process.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether the slices are still to be scored after `step`, because a signal came before.
    pub fn is_due(&self, step: u64, last: u64) -> bool {
        self.due(step, last).is_some()
    }

    /// What to do where the slices are to be scored after `step`, and have not been yet. The last step is one of them
    /// where the best weights are kept, so that its own can be these.
    fn due(&self, step: u64, last: u64) -> Option<Validation> {
        let options = self.options?;
        let comes = step.is_multiple_of(options.every) || (step == last && options.keeps_best);
        let is_new = self.state.as_ref().is_none_or(|state| state.last != step);
        (step > 0 && comes && is_new).then_some(options)
    }

    /// Whether training has to stop for want of a better score.
    fn is_out_of_patience(&self) -> bool {
        let since_best = self.state.as_ref().map_or(0, |state| state.since_best);
        self.options.and_then(|options| options.patience).is_some_and(|patience| since_best >= patience)
    }

    /// Scores the validation slices after a step where that is due, and keeps its weights where they are the best. A
    /// signal ends the scoring; the run that goes on begins with it again.
    pub fn after_step(
        &mut self,
        last: u64,
        compute: &Compute,
        journal: &mut Journal,
        trainer: &Trainer,
        data: &TrainingData,
        signal: &dyn Fn() -> Option<i32>,
    ) -> Result<Verdict> {
        let (start, step) = (Instant::now(), trainer.progress.step);
        let Some(wanted) = self.due(step, last) else { return Ok(self.verdict()) };
        let Journal { model_dir, logger, tracker } = journal;
        logger.start_bar("validate", data.split.validation.len() as u64, 0);
        let nets = [trainer.network()?.prepare_for_prediction(compute.precision.0)?];
        let options = PredictionOptions { tile: self.tile, tta: false };
        let predictor = SlicePredictor::new(compute, &nets, &data.slices.spec, 1, options)?;
        let scored = score(compute, &nets, &predictor, data, &mut |_| {}, &|done| logger.advance(done), signal)?;
        logger.end_bar();
        let ControlFlow::Continue(Scored { evaluation, .. }) = scored else {
            return Ok(scored.break_value().map_or(Verdict::GoOn, Verdict::Stopped));
        };
        let figures = evaluation.figures();
        logger.log(Step::Train(step), &figures);
        tracker.validated(step, &figures, logger);
        let key = wanted.metric.key();
        // Absent where no class has pixels: nothing to compare.
        let found = evaluation.score(&key).unwrap_or(f64::NAN);
        self.last_score = Some(found).filter(|found| !found.is_nan());
        let is_best = self.remember(wanted, step, found);
        if is_best && wanted.keeps_best && compute.world.is_main() {
            let best = BestScore { metric: key, score: found, step };
            // Training is worth more than a file that can be made again.
            match keep(&best, &model_dir.best_weights(), trainer, &data.slices.spec, wanted) {
                Ok(()) => logger.note(&format!("best {} so far: {found:.4} after step {step}", best.metric)),
                Err(error) => logger.warn(&format!("{error:#}; training goes on, without the best weights so far")),
            }
        }
        self.times += 1;
        self.duration += start.elapsed();
        logger.start_bar("train", last, step);
        Ok(self.verdict())
    }

    fn verdict(&self) -> Verdict {
        if self.is_out_of_patience() { Verdict::OutOfPatience } else { Verdict::GoOn }
    }

    /// Whether `score` after `step` is the best so far.
    fn remember(&mut self, options: Validation, step: u64, score: f64) -> bool {
        let (best, since_best) = match self.state.take() {
            Some(ValidationState { best, since_best, .. }) => (best, since_best),
            None => (None, 0),
        };
        let is_best = !score.is_nan() && best.as_ref().is_none_or(|best| is_better(options, score, best.score));
        let own = || BestScore { metric: options.metric.key(), score, step };
        self.state = Some(match is_best {
            true => ValidationState { last: step, since_best: 0, best: Some(own()) },
            false => ValidationState { last: step, since_best: since_best + 1, best },
        });
        is_best
    }

    /// Tells what share of the time validation has taken, and why training ends where it ran out of patience.
    pub fn summary(&self, training: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if self.times > 0 {
            let (seconds, share) = (self.duration.as_secs_f64(), self.duration.as_secs_f64() / training.as_secs_f64());
            lines.push(format!("validation: {} times, {seconds:.1} s, {:.1} % of the time", self.times, 100.0 * share));
        }
        if let (true, Some(options), Some(ValidationState { since_best, best, .. })) =
            (self.is_out_of_patience(), self.options, &self.state)
        {
            let metric = options.metric.key();
            let best = best.as_ref().map(|best| format!("; the best is {:.4}, after step {}", best.score, best.step));
            lines.push(format!(
                "training ends: no better {metric} in {since_best} validations (--patience){}",
                best.unwrap_or_default()
            ));
        }
        lines
    }
}

/// Whether `score` is better than `best`.
fn is_better(options: Validation, score: f64, best: f64) -> bool {
    if options.metric.is_higher_better() { score > best } else { score < best }
}

/// Writes the best weights, unless the file holds better ones of a later step: a run that was killed after them comes
/// to that step again.
fn keep(best: &BestScore, path: &Path, trainer: &Trainer, spec: &DataSpec, options: Validation) -> Result<()> {
    // A damaged file is replaced.
    let on_disk = checkpoint::best_score(path).unwrap_or(None);
    let is_ahead = on_disk.is_some_and(|other| {
        other.metric == best.metric && other.step > best.step && is_better(options, other.score, best.score)
    });
    if is_ahead {
        return Ok(());
    }
    checkpoint::save_weights(path, &trainer.network()?, spec, best.step, Some(best))
}

/// Errors: a score that the data does not have.
pub fn require_metric(options: Validation, spec: &DataSpec) -> Result<()> {
    ensure!(
        !options.metric.is_of_challenge() || (spec.classes() == 2 && !spec.has_ignored()),
        "--keep_best {}: that is a score of two classes without ignored pixels, the labels have {} ({}); use mean_dice \
         or eval_total_loss",
        options.metric.key(),
        spec.classes(),
        spec.class_names().join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Metric;

    fn validator(options: Validation) -> Validator {
        Validator { options: Some(options), tile: 4, state: None, times: 0, duration: Duration::ZERO, last_score: None }
    }

    #[test]
    fn the_best_score_is_the_highest_or_the_lowest_and_the_first_of_equals() {
        for (metric, scores, best) in [
            (Metric::MeanDice, [0.5, 0.7, 0.7, 0.6], 20),
            (Metric::EvalTotalLoss, [0.5, 0.7, 0.4, 0.4], 30),
            (Metric::Accuracy, [f64::NAN, 0.1, f64::NAN, 0.05], 20),
        ] {
            let options = Validation { every: 10, metric, keeps_best: true, patience: Some(2) };
            let mut validator = validator(options);
            let mut patience_ends = Vec::new();
            for (step, score) in (1..).map(|number| 10 * number).zip(scores) {
                validator.remember(options, step, score);
                patience_ends.push(validator.is_out_of_patience());
            }
            let state = validator.state().unwrap();
            assert_eq!((state.best.as_ref().unwrap().step, state.last), (best, 40), "{metric:?}");
            assert_eq!(patience_ends, [false, false, false, best == 20], "{metric:?}");
        }
    }

    #[test]
    fn validation_comes_every_so_many_steps_and_after_the_last_and_once() {
        let options = Validation { every: 10, metric: Metric::MeanDice, keeps_best: true, patience: None };
        let mut validator = validator(options);
        let due: Vec<u64> = (0..=25).filter(|&step| validator.due(step, 25).is_some()).collect();
        assert_eq!(due, [10, 20, 25]);
        validator.remember(options, 20, 0.5);
        assert!(validator.due(20, 25).is_none(), "a run that goes on from step 20 has been scored there");
        validator.options = Some(Validation { keeps_best: false, ..options });
        assert!(validator.due(25, 25).is_none());
    }
}
