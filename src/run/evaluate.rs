//! `--exec_mode evaluate` and the second half of `train_and_evaluate`: scores of the validation slices.
//!
//! Shapes: H, W pixels, P planes of probabilities (`inference.rs`).

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::context::{Compute, Journal};
use super::inference::{self, PredictionOptions, SlicePredictor, constant_output, logits, softmax};
use super::inputs::TrainingData;
use super::sheets::{self, Slides};
use crate::data::slices::Slice;
use crate::data::spec::{DataSpec, Recipe};
use crate::engine::loss::{self, LossOptions, Losses};
use crate::engine::step_runner::StepRunner;
use crate::files::{write_atomically, write_json};
use crate::metrics::{self, ChallengeScores, Confusion, SliceScores, Summary};
use crate::model::unet::Predictor;
use crate::output::html::Part;
use crate::output::logger::Step;
use crate::output::pictures::confusion::confusion_matrix;
use crate::output::pictures::sheet::{self, Sheet};
use crate::recipe::batches::{Batch, preprocessed_images, preprocessed_labels, targets};
use crate::recipe::preprocessing::resize;

/// The scores of the validation slices. Losses and soft Dice are means at the network's output size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// In nats per pixel; lower is better.
    pub eval_ce_loss: f64,
    /// 1 - Dice; lower is better.
    pub eval_dice_loss: f64,
    /// The sum of both losses.
    pub eval_total_loss: f64,
    /// Soft Dice over all classes, 0 to 1; higher is better.
    pub eval_dice_score: f64,
    /// Scores of two classes without ignored pixels, at the size of the labels, to which the probabilities are resized
    /// as predictions are.
    #[serde(flatten)]
    pub challenge: Option<ChallengeScores>,
    /// Scores of each class, at the same size.
    #[serde(flatten)]
    pub classes: Summary,
}

/// What scoring the validation slices gives.
pub struct Scored {
    pub evaluation: Evaluation,
    confusion: Confusion,
    /// What to tell people of predictions or labels that cannot score well.
    warnings: Vec<String>,
}

impl Evaluation {
    /// Losses and scores by their keys, without those that this data does not have.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        self.losses().into_iter().chain(self.scores()).collect()
    }

    /// The number under `key` in eval.json; `None` where this data has none.
    pub fn score(&self, key: &str) -> Option<f64> {
        let all = self.figures().into_iter().chain(self.scores_of_classes());
        all.into_iter().find(|(name, _)| *name == key).map(|(_, score)| score)
    }

    fn losses(&self) -> [(&'static str, f64); 4] {
        [
            ("eval_ce_loss", self.eval_ce_loss),
            ("eval_dice_loss", self.eval_dice_loss),
            ("eval_total_loss", self.eval_total_loss),
            ("eval_dice_score", self.eval_dice_score),
        ]
    }

    /// The challenge's scores, or those of classes where there are none.
    fn scores(&self) -> Vec<(&'static str, f64)> {
        match &self.challenge {
            Some(challenge) => challenge.named().to_vec(),
            None => self.scores_of_classes(),
        }
    }

    fn scores_of_classes(&self) -> Vec<(&'static str, f64)> {
        let Summary { mean_dice, mean_iou, accuracy, .. } = self.classes;
        let named = [("mean_dice", mean_dice), ("mean_iou", mean_iou), ("accuracy", accuracy)];
        named.into_iter().filter_map(|(name, score)| Some((name, score?))).collect()
    }
}

/// Scores the validation slices of `data`, prints the means and writes `eval.json`.
pub fn evaluate(
    compute: &Compute,
    journal: &mut Journal,
    nets: &[Predictor],
    data: &TrainingData,
    options: PredictionOptions,
) -> Result<()> {
    let Journal { model_dir, logger, tracker } = journal;
    let predictor = SlicePredictor::new(compute, nets, &data.slices.spec, 1, options)?;
    logger.start_bar("evaluate", data.split.validation.len() as u64, 0);
    let mut slides = Slides::new(&data.slices.spec, data.split.validation.len(), compute.world.is_main());
    let mut show = |seen: Seen<'_>| {
        let dice = seen.dice(&data.slices.spec);
        if slides.wants(seen.turn, dice) {
            slides.add(seen.turn, sheets::caption(&data.slices, seen.number), dice, seen.slice, seen.planes);
        }
    };
    // A signal ends the process by itself now.
    let scored = score(compute, nets, &predictor, data, &mut show, &|done| logger.advance(done), &|| None)?;
    logger.end_bar();
    let ControlFlow::Continue(Scored { evaluation: scores, confusion, warnings }) = scored else {
        bail!("evaluation was stopped");
    };
    if !compute.world.is_main() {
        return Ok(());
    }
    warnings.iter().for_each(|text| logger.warn(text));
    let (losses, named) = (scores.losses(), scores.scores());
    logger.log(Step::Summary, &losses);
    logger.log(Step::Summary, &named);
    let names = data.slices.spec.class_names();
    if let Some(hint) = scores.challenge.and_then(|challenge| challenge.advice(&names)) {
        logger.note(&hint);
    }
    if scores.challenge.is_none() || !data.slices.kind.is_challenge() {
        logger.note(scores.classes.table().trim_end());
    }
    write_json(&model_dir.scores(), &scores)?;
    logger.note(&format!("scores: {}", model_dir.scores().display()));
    write_atomically(&model_dir.confusion_table(), &confusion.csv(&names)?)?;
    let title = format!("{} validation slices", data.split.validation.len());
    let picture = confusion_matrix(&title, &names, &confusion).and_then(|canvas| canvas.png());
    // A run is worth no less where a picture of it cannot be written.
    if let Err(error) = picture.and_then(|png| write_atomically(&model_dir.confusion_matrix(), &png)) {
        logger.warn(&format!("{error:#}"));
    }
    let sheet = contact_sheet(&predictor, data)?;
    tracker.evaluated(&scores.figures(), &sheet, logger);
    let viewer = slides.finish(sheets::source(&data.slices), data.split.validation.len());
    tracker.view(Part::Evaluation, viewer, logger);
    Ok(())
}

/// A few of the validation slices, predicted once more, at the labels' size.
fn contact_sheet(predictor: &SlicePredictor<'_>, data: &TrainingData) -> Result<Sheet> {
    let TrainingData { slices, split, .. } = data;
    let shown = sheet::choose(&split.validation);
    let all = format!("{} validation slices", split.validation.len());
    let mut sheet = sheets::of_set(slices, shown.len(), &all);
    for index in shown {
        let slice = slices.get(index)?;
        let planes = predictor.predict(std::slice::from_ref(&slice))?;
        sheets::add(&mut sheet, sheets::caption(slices, index), &slice, &planes[0]);
    }
    Ok(sheet)
}

/// Losses of a slice that ranks exchange: cross entropy and Dice loss.
const LOSSES: usize = 2;

/// A slice that was scored.
pub struct Seen<'a> {
    /// Which of the validation slices it is, and its number in the set.
    turn: usize,
    number: usize,
    slice: &'a Slice,
    /// Probabilities, `[P, H, W]` f32.
    planes: &'a Tensor,
    confusion: &'a Confusion,
}

impl Seen<'_> {
    /// Dice of the slice: of the second of two classes, else the mean over the classes that its labels have.
    fn dice(&self, spec: &DataSpec) -> Option<f64> {
        match spec.classes() {
            2 => self.confusion.scores(1).dice,
            _ => Summary::new(self.confusion, &spec.class_names()).mean_dice,
        }
    }
}

/// Scores the validation slices, which are dealt out to the ranks. `show` sees those of this rank, `advance` is told
/// how many are done, and `signal` is the one that has asked this rank to stop: then all ranks stop, and there are no
/// scores.
pub fn score(
    compute: &Compute,
    nets: &[Predictor],
    predictor: &SlicePredictor<'_>,
    data: &TrainingData,
    show: &mut dyn FnMut(Seen<'_>),
    advance: &dyn Fn(u64),
    signal: &dyn Fn() -> Option<i32>,
) -> Result<ControlFlow<i32, Scored>> {
    let TrainingData { slices, split, .. } = data;
    let (spec, validation) = (&slices.spec, &split.validation);
    let world = &compute.world;
    let mut scorer = SliceScorer::new(compute, nets, predictor, spec)?;
    let has_challenge = scorer.has_challenge;
    let per_slice = LOSSES + if has_challenge { SliceScores::NUMBERS } else { 0 };
    // Each rank fills in those of its own slices; then come the confusion matrix, which is added up, and the signal
    // that each rank has got.
    let mut numbers = vec![0.0; per_slice * validation.len()];
    let mut confusion = Confusion::new(spec.classes());
    let own: Vec<(usize, usize)> =
        validation.iter().copied().enumerate().skip(world.rank).step_by(world.size).collect();
    for (turn, &(index, number)) in own.iter().enumerate() {
        if signal().is_some() {
            break;
        }
        slices.expect(own[turn..].iter().take(4).map(|&(_, number)| number));
        // One slice at a time: the means weigh each slice alike, and memory does not depend on --batch_size.
        let slice = slices.select(&[number])?;
        let (planes, found) = scorer.score(&slice)?;
        numbers[per_slice * index..][..per_slice].copy_from_slice(&found.numbers);
        show(Seen { turn: index, number, slice: &slice[0], planes: &planes, confusion: &found.confusion });
        confusion.merge(&found.confusion);
        advance(index as u64 + 1);
    }
    let counts = numbers.len();
    numbers.extend(confusion.numbers());
    let cells = numbers.len() - counts;
    numbers.extend((0..world.size).map(|rank| f64::from(signal().filter(|_| rank == world.rank).unwrap_or(0))));
    let numbers = world.sum(&numbers)?;
    let (numbers, rest) = numbers.split_at(counts);
    let (confusion_numbers, signals) = rest.split_at(cells);
    if let Some(&signal) = signals.iter().find(|signal| **signal > 0.0) {
        return Ok(ControlFlow::Break(signal as i32));
    }
    let confusion = Confusion::from_numbers(spec.classes(), confusion_numbers);
    let mean = |first: usize| numbers.iter().skip(first).step_by(per_slice).sum::<f64>() / validation.len() as f64;
    let (cross_entropy, dice_loss) = (mean(0), mean(1));
    let challenge: Vec<SliceScores> = match has_challenge {
        true => numbers.chunks(per_slice).map(|slice| SliceScores::from_numbers(&slice[LOSSES..])).collect(),
        false => Vec::new(),
    };
    let classes = Summary::new(&confusion, &spec.class_names());
    let predicted: Vec<u64> = classes.named().map(|(_, scores)| scores.predicted).collect();
    let warnings = constant_output(&predicted, spec).into_iter().chain(metrics::warnings(validation, &challenge));
    let evaluation = Evaluation {
        eval_ce_loss: cross_entropy,
        eval_dice_loss: dice_loss,
        eval_total_loss: cross_entropy + dice_loss,
        eval_dice_score: 1.0 - dice_loss,
        challenge: has_challenge.then(|| ChallengeScores::new(&challenge)),
        classes,
    };
    Ok(ControlFlow::Continue(Scored { evaluation, confusion, warnings: warnings.collect() }))
}

/// Predicts and scores slices, one at a time.
struct SliceScorer<'a> {
    nets: &'a [Predictor],
    predictor: &'a SlicePredictor<'a>,
    runner: StepRunner,
    spec: &'a DataSpec,
    options: LossOptions,
    /// Whether the labels have the challenge's scores: those of two classes without ignored pixels.
    has_challenge: bool,
}

/// The scores of one slice.
struct SliceNumbers {
    /// Losses, then the challenge's scores where there are some.
    numbers: Vec<f64>,
    confusion: Confusion,
}

impl<'a> SliceScorer<'a> {
    fn new(
        compute: &Compute,
        nets: &'a [Predictor],
        predictor: &'a SlicePredictor<'a>,
        spec: &'a DataSpec,
    ) -> Result<Self> {
        let runner = compute.step_runner()?;
        // Without class weights, so that losses of different runs can be compared.
        let options = LossOptions { class_weights: None, has_ignored: spec.has_ignored() };
        let has_challenge = spec.classes() == 2 && !spec.has_ignored();
        Ok(Self { nets, predictor, runner, spec, options, has_challenge })
    }

    /// Probabilities `[P, H, W]` f32 of a slice at its own size, and its scores.
    fn score(&mut self, slice: &[Slice]) -> Result<(Tensor, SliceNumbers)> {
        let labels = slice[0].classes.as_ref().context("a slice without labels")?;
        let (losses, planes) = match self.spec.recipe {
            Recipe::Reference => self.resized_losses(slice)?,
            Recipe::Native { .. } => {
                let planes = self.predictor.predict(slice)?.remove(0);
                let labels = labels.to_device(planes.device()).to_kind(Kind::Int64).unsqueeze(0);
                (loss::losses(&logits(&planes.unsqueeze(0)), &labels, &self.options)?, planes)
            }
        };
        let mut numbers = vec![losses.cross_entropy.double_value(&[]), losses.dice_loss.double_value(&[])];
        let labels = Vec::<u8>::try_from(on_host(labels))?;
        let mut confusion = Confusion::new(self.spec.classes());
        confusion.add(&labels, &Vec::<u8>::try_from(on_host(&inference::classes(&planes)))?);
        if self.has_challenge {
            let is_inside: Vec<bool> = labels.into_iter().map(|class| class == 1).collect();
            let probability = Vec::<f32>::try_from(on_host(&planes))?;
            let (width, threads) = (slice[0].size()[1] as usize, tch::get_num_threads().max(1) as usize);
            numbers.extend(SliceScores::new(&is_inside, &probability, width, threads).numbers());
        }
        Ok((planes, SliceNumbers { numbers, confusion }))
    }

    /// The losses of a slice at the network's output size, as the reference has them, and its probabilities at its own
    /// size. The losses of averaged probabilities are those of their logarithms.
    fn resized_losses(&mut self, slice: &[Slice]) -> Result<(Losses, Tensor)> {
        let batch = Batch::new(preprocessed_images(slice), &preprocessed_labels(slice, targets(self.spec))?);
        let (nets, options) = (self.nets, &self.options);
        let work = |[images, labels]: [&Tensor; 2]| {
            let logits = nets[0].forward(images)?;
            let Losses { cross_entropy, dice_loss } = loss::losses(&logits, labels, options)?;
            Ok([cross_entropy, dice_loss, softmax(&logits)])
        };
        let (losses, planes) = if self.predictor.is_single() {
            let [cross_entropy, dice_loss, planes] =
                tch::no_grad(|| self.runner.run([&batch.images, &batch.labels], work))?;
            (Losses { cross_entropy, dice_loss }, planes)
        } else {
            let planes = self.predictor.predict_resized(slice)?.remove(0).unsqueeze(0);
            (loss::losses(&logits(&planes), &batch.labels, options)?, planes)
        };
        let [height, width] = slice[0].size();
        Ok((losses, resize(&planes, height, width).get(0)))
    }
}

/// All values, row after row.
fn on_host(tensor: &Tensor) -> Tensor {
    tensor.to_device(Device::Cpu).contiguous().view([-1])
}
