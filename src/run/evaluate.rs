//! `--exec_mode evaluate` and the second half of `train_and_evaluate`: scores of the validation slices.

use anyhow::Result;
use serde::Serialize;
use tch::{Device, IndexOp, Kind, Tensor};

use super::context::{Compute, Journal};
use super::inference::{background_probability, constant_output, softmax_of_background};
use crate::data::stack::{LabelStack, TrainingStacks};
use crate::data::values::BACKGROUND;
use crate::engine::loss::{self, Losses};
use crate::files::write_json;
use crate::metrics::{self, ChallengeScores, SliceScores};
use crate::model::unet::Predictor;
use crate::output::logger::{Logger, Step};
use crate::output::pictures::sheet::{self, Sheet};
use crate::recipe::batches::{Batch, preprocessed_images, preprocessed_labels};
use crate::recipe::preprocessing::resize;

/// The scores of the validation slices. Losses and Dice are means at the network's output size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
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
    pub challenge: ChallengeScores,
}

impl Evaluation {
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
pub fn evaluate(
    compute: &Compute,
    journal: &mut Journal,
    net: &Predictor,
    stacks: &TrainingStacks,
    slices: &[usize],
) -> Result<()> {
    let Journal { model_dir, logger, tracker } = journal;
    let scores = score(compute, logger, net, stacks, slices)?;
    if !compute.world.is_main() {
        return Ok(());
    }
    let (losses, challenge) = (scores.named(), scores.challenge.named());
    logger.log(Step::Summary, &losses);
    logger.log(Step::Summary, &challenge);
    write_json(&model_dir.scores(), &scores)?;
    logger.note(&format!("scores: {}", model_dir.scores().display()));
    let sheet = contact_sheet(compute, net, stacks, slices)?;
    let figures: Vec<_> = losses.into_iter().chain(challenge).collect();
    tracker.evaluated(&figures, &sheet, logger);
    Ok(())
}

/// What a slice is exchanged as: cross entropy, Dice loss and share of background, then its challenge scores.
const NUMBERS: usize = LOSSES + SliceScores::NUMBERS;
const LOSSES: usize = 3;

/// A few of `slices`, predicted once more, at the labels' size.
fn contact_sheet(compute: &Compute, net: &Predictor, stacks: &TrainingStacks, slices: &[usize]) -> Result<Sheet> {
    let TrainingStacks { images, labels } = stacks;
    let [_, height, width] = images.size();
    let (shown, mut runner) = (sheet::choose(slices), compute.step_runner()?);
    let mut sheet = Sheet::new(&images.path, shown.len(), &format!("{} validation slices", slices.len()));
    for slice in shown {
        let probability = background_probability(&mut runner, net, &preprocessed_images(images, &[slice]))?;
        let probability = resize(&probability, height, width).i((0, 0));
        let (image, label) = (images.select(&[slice]).i(0), labels.select(&[slice]).i(0));
        sheet.add(slice, &image, images.stored_range(), &probability, Some(&label));
    }
    Ok(sheet)
}

fn score(
    compute: &Compute,
    logger: &mut Logger,
    net: &Predictor,
    stacks: &TrainingStacks,
    slices: &[usize],
) -> Result<Evaluation> {
    let (mut runner, world) = (compute.step_runner()?, &compute.world);
    // Dealt out to the ranks, each of which fills in its own.
    let mut numbers = vec![0.0; NUMBERS * slices.len()];
    logger.start_bar("evaluate", slices.len() as u64, 0);
    for (index, &slice) in slices.iter().enumerate().skip(world.rank).step_by(world.size) {
        // One slice at a time: the means weigh each slice alike, and memory does not depend on --batch_size.
        let batch =
            Batch::new(preprocessed_images(&stacks.images, &[slice]), &preprocessed_labels(&stacks.labels, &[slice]));
        let work = |[images, labels]: [&Tensor; 2]| {
            let logits = net.forward(images)?;
            let Losses { cross_entropy, dice_loss } = loss::losses(&logits, labels)?;
            let share = logits.argmax(1, false).eq(BACKGROUND).mean(Kind::Float);
            Ok([cross_entropy, dice_loss, share, softmax_of_background(&logits)])
        };
        let [losses @ .., background] = tch::no_grad(|| runner.run([&batch.images, &batch.labels], work))?;
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
    constant_output(mean(2))
        .into_iter()
        .chain(metrics::warnings(slices, &challenge))
        .for_each(|text| logger.warn(&text));
    Ok(Evaluation {
        eval_ce_loss: cross_entropy,
        eval_dice_loss: dice_loss,
        eval_total_loss: cross_entropy + dice_loss,
        eval_dice_score: 1.0 - dice_loss,
        challenge: ChallengeScores::new(&challenge),
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
