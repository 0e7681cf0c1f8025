//! `--exec_mode evaluate` and the second half of `train_and_evaluate`: scores of the validation slices.

use anyhow::Result;
use serde::Serialize;
use tch::{Device, IndexOp, Kind, Tensor};

use crate::data::batches::Batch;
use crate::data::preprocess::resize;
use crate::data::stack::{LabelStack, TrainingStacks};
use crate::data::values::BACKGROUND;
use crate::logger::Step;
use crate::loss::{self, Losses};
use crate::model::unet::Predictor;
use crate::model_dir;
use crate::pictures::sheet::{self, Sheet};
use crate::predict::{background_probability, constant_output, softmax_of_background};
use crate::run::Run;
use crate::score::{self, SliceScores};

/// Of the validation slices: losses and Dice are means at the network's output size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// In nats per pixel; lower is better.
    pub eval_ce_loss: f64,
    /// 1 - Dice; lower is better.
    pub eval_dice_loss: f64,
    /// The sum of both losses.
    pub eval_total_loss: f64,
    /// Soft Dice over both classes, 0 to 1; higher is better.
    pub eval_dice_score: f64,
    /// At the size of the labels, to which the probabilities are resized as predictions are.
    #[serde(flatten)]
    pub challenge: score::Scores,
}

impl Scores {
    fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("eval_ce_loss", self.eval_ce_loss),
            ("eval_dice_loss", self.eval_dice_loss),
            ("eval_total_loss", self.eval_total_loss),
            ("eval_dice_score", self.eval_dice_score),
        ]
    }
}

/// Scores `slices`, prints the means and writes `eval.json`.
pub fn evaluate(run: &mut Run<'_>, net: &Predictor, stacks: &TrainingStacks, slices: &[usize]) -> Result<()> {
    let scores = score(run, net, stacks, slices)?;
    if !run.world.is_main() {
        return Ok(());
    }
    let (losses, challenge) = (scores.named(), scores.challenge.named());
    run.logger.log(Step::Summary, &losses);
    run.logger.log(Step::Summary, &challenge);
    model_dir::write_json(&run.model_dir.scores(), &scores)?;
    run.logger.note(&format!("scores: {}", run.model_dir.scores().display()));
    let sheet = contact_sheet(run, net, stacks, slices)?;
    let figures: Vec<_> = losses.into_iter().chain(challenge).collect();
    run.monitor.evaluated(&figures, &sheet, &run.logger);
    if run.config.exec_mode.trains() {
        run.monitor.draw_curves(&run.logger);
    }
    Ok(())
}

/// Numbers of a slice: cross entropy, Dice loss and share of background, then those of the challenge's scores.
const NUMBERS: usize = LOSSES + SliceScores::NUMBERS;
const LOSSES: usize = 3;

/// A few of `slices`, predicted once more, at the labels' size.
fn contact_sheet(run: &Run<'_>, net: &Predictor, stacks: &TrainingStacks, slices: &[usize]) -> Result<Sheet> {
    let TrainingStacks { images, labels } = stacks;
    let [_, height, width] = images.size();
    let (shown, mut execution) = (sheet::choose(slices), run.execution()?);
    let mut sheet = Sheet::new(&images.path, shown.len(), &format!("{} validation slices", slices.len()));
    for slice in shown {
        let probability = background_probability(&mut execution, net, &images.preprocessed(&[slice]), run.precision)?;
        let probability = resize(&probability, height, width).i((0, 0));
        let (image, label) = (images.select(&[slice]).i(0), labels.select(&[slice]).i(0));
        sheet.add(slice, &image, images.stored_range(), &probability, Some(&label));
    }
    Ok(sheet)
}

fn score(run: &mut Run<'_>, net: &Predictor, stacks: &TrainingStacks, slices: &[usize]) -> Result<Scores> {
    let mut execution = run.execution()?;
    let Run { precision, logger, world, .. } = run;
    // Dealt out to the ranks, each of which fills in its own.
    let mut numbers = vec![0.0; NUMBERS * slices.len()];
    logger.start_bar("evaluate", slices.len() as u64, 0);
    for (index, &slice) in slices.iter().enumerate().skip(world.rank).step_by(world.size) {
        // One slice at a time: the means weigh each slice alike, and memory does not depend on --batch_size.
        let batch = Batch::new(stacks.images.preprocessed(&[slice]), &stacks.labels.preprocessed(&[slice]));
        let work = |[images, labels]: [&Tensor; 2]| {
            let logits = net.forward(&images.to_kind(precision.0))?;
            let Losses { cross_entropy, dice_loss } = loss::losses(&logits, labels)?;
            let share = logits.argmax(1, false).eq(BACKGROUND).mean(Kind::Float);
            Ok([cross_entropy, dice_loss, share, softmax_of_background(&logits)])
        };
        let [losses @ .., background] = tch::no_grad(|| execution.run([&batch.images, &batch.labels], work))?;
        let (own_losses, own_scores) = numbers[NUMBERS * index..][..NUMBERS].split_at_mut(LOSSES);
        for (number, value) in own_losses.iter_mut().zip(&losses) {
            *number = value.double_value(&[]);
        }
        own_scores.copy_from_slice(&score_slice(&stacks.labels, slice, &background)?.numbers());
        logger.advance(index as u64 + 1);
    }
    logger.end_bar();
    let numbers = world.sum(&numbers)?;
    let mean = |first: usize| numbers.iter().skip(first).step_by(NUMBERS).sum::<f64>() / slices.len() as f64;
    let (cross_entropy, dice_loss) = (mean(0), mean(1));
    let challenge: Vec<SliceScores> =
        numbers.chunks(NUMBERS).map(|slice| SliceScores::from_numbers(&slice[LOSSES..])).collect();
    constant_output(mean(2)).into_iter().chain(score::warnings(slices, &challenge)).for_each(|text| logger.warn(&text));
    Ok(Scores {
        eval_ce_loss: cross_entropy,
        eval_dice_loss: dice_loss,
        eval_total_loss: cross_entropy + dice_loss,
        eval_dice_score: 1.0 - dice_loss,
        challenge: score::Scores::new(&challenge),
    })
}

/// The labels of a slice against the probability of background, `[1, 388, 388]` f32, made as large as they.
fn score_slice(labels: &LabelStack, slice: usize, background: &Tensor) -> Result<SliceScores> {
    let [_, height, width] = labels.size();
    let on_host = |tensor: Tensor| tensor.to_device(Device::Cpu).contiguous().view([-1]);
    let probability = Vec::<f32>::try_from(on_host(resize(background, height, width)))?;
    let classes = Vec::<u8>::try_from(on_host(labels.select(&[slice])))?;
    let is_inside: Vec<bool> = classes.into_iter().map(|class| i64::from(class) == BACKGROUND).collect();
    Ok(SliceScores::new(&is_inside, &probability, width as usize, tch::get_num_threads().max(1) as usize))
}
