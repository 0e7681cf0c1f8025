//! The scores of the challenge, for labels of two classes.
//!
//! Memory: the labels with a byte per pixel, one page of the prediction, and what `SliceScores::new` takes.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::files::{reserved, words};
use crate::cli::ScoreArgs;
use crate::data::labels::{CHALLENGE_CLASSES, LabelMap, LabelValue, LabelValues};
use crate::data::tiff::{SampleFormat, Samples, StackReader};
use crate::data::values::GreyBounds;
use crate::metrics::{ChallengeScores, SliceScores, warnings, wrong_share};

/// Share of wrong pixels above which a prediction is more likely to be inverted than to be poor: noise has a half.
const LIKELY_INVERTED: f64 = 0.6;
/// What a probability may be outside of 0 to 1: sums of 32-bit floats, as a softmax computes them, are off by as much.
const ROUNDING: f64 = 1e-5;

/// Prints the scores, as a table or as JSON; warnings go to stderr. Both stacks are of one size.
///
/// Errors: labels of other than two values, and a prediction whose values are no probabilities.
pub fn score(args: &ScoreArgs, labels: StackReader, prediction: StackReader) -> Result<()> {
    let size = labels.size();
    let (white, high) = white(prediction, &args.prediction)?;
    let is_inside = read_labels(labels, &args.labels)?;
    if high > 0.0 && high < f64::from(white) / 2.0 {
        eprintln!(
            "warning: the largest sample of '{}' is {high}, and {white} stands for probability 1: nothing is the \
             inside of a cell at threshold 0.5; rescale the stack if it was stored in another way",
            args.prediction.display()
        );
    }
    let slices = score_slices(&is_inside, StackReader::open(&args.prediction)?, white)?;

    let numbers: Vec<usize> = (0..slices.len()).collect();
    warnings(&numbers, &slices).iter().for_each(|warning| eprintln!("warning: {warning}"));
    let wrong = wrong_share(&slices, size[1] * size[2]);
    if wrong > LIKELY_INVERTED {
        eprintln!(
            "warning: {:.0} % of the pixels are of the wrong class at threshold 0.5; white must be the inside of \
             cells, invert a prediction of membranes",
            100.0 * wrong
        );
    }
    let scores = ChallengeScores::new(&slices);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&scores)?);
    } else {
        println!("labels      {}: {}", args.labels.display(), words(size));
        println!("prediction  {}: 0 is membrane, {white} the inside of a cell", args.prediction.display());
        print!("\n{}", table(&scores));
    }
    Ok(())
}

/// The sample that stands for probability 1 (of a mask its other value than 0, else the white of the sample type), and
/// the largest one.
///
/// 16-bit samples of no more than 255 are taken for 8-bit ones.
fn white(prediction: StackReader, path: &Path) -> Result<(f32, f64)> {
    let format = prediction.format();
    let (mut grey, mut values) = (GreyBounds::default(), LabelValues::default());
    prediction.for_each_page(|_, page| {
        grey.add(page);
        values.add(page, 1, None);
    })?;
    if two_classes(&values).is_ok() {
        let inside = values.values().into_iter().rev().find_map(|value| match value {
            LabelValue::Grey(value @ 1..) => Some(value as f32),
            _ => None,
        });
        return Ok((inside.unwrap_or(1.0), grey.high));
    }
    let white = match format {
        SampleFormat::U8 => 255.0,
        SampleFormat::U16 if grey.high <= 255.0 => 255.0,
        SampleFormat::U16 => 65_535.0,
        SampleFormat::F32 if grey.low >= -ROUNDING && grey.high <= 1.0 + ROUNDING => 1.0,
        SampleFormat::F32 => bail!(
            "cannot use '{}' as a prediction: float samples from {} to {}, expected the probability of being inside a \
             cell, 0 to 1; rescale the stack",
            path.display(),
            grey.low,
            grey.high
        ),
    };
    Ok((white, grey.high))
}

/// Whether a pixel is inside a cell, `[P, H, W]`.
fn read_labels(labels: StackReader, path: &Path) -> Result<Vec<bool>> {
    let mut is_inside = reserved(&labels, path)?;
    let mut found = LabelValues::default();
    labels.for_each_page(|_, page| {
        found.add(page, 1, None);
        match page {
            Samples::U8(values) => is_inside.extend(values.iter().map(|&value| value != 0)),
            Samples::U16(values) => is_inside.extend(values.iter().map(|&value| value != 0)),
            Samples::F32(values) => is_inside.extend(values.iter().map(|&value| value != 0.0)),
        }
    })?;
    two_classes(&found).with_context(|| format!("cannot use '{}' as labels without --label_map", path.display()))?;
    Ok(is_inside)
}

/// Errors: other values than 0 and one of 1, 255 or 65,535.
fn two_classes(found: &LabelValues) -> Result<()> {
    let map = LabelMap::choose(found, None, None, None, CHALLENGE_CLASSES)?;
    if !map.is_plain_pair() {
        bail!("label values {}, expected 0 (membrane) and one of 1, 255 or 65535", found.shares());
    }
    Ok(())
}

fn score_slices(is_inside: &[bool], prediction: StackReader, white: f32) -> Result<Vec<SliceScores>> {
    let [_, height, width] = prediction.size();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut slices = Vec::new();
    prediction.for_each_page(|index, page| {
        let labels = &is_inside[index * height * width..][..height * width];
        slices.push(SliceScores::new(labels, &probability(page, white), width, threads));
    })?;
    Ok(slices)
}

/// Divided as f32, which decides what lies above a threshold: 8-bit 51 does above 0.2.
fn probability(page: Samples<'_>, white: f32) -> Vec<f32> {
    match page {
        Samples::U8(values) => values.iter().map(|&value| f32::from(value) / white).collect(),
        Samples::U16(values) => values.iter().map(|&value| f32::from(value) / white).collect(),
        Samples::F32(values) => values.iter().map(|&value| (value / white).clamp(0.0, 1.0)).collect(),
    }
}

fn table(scores: &ChallengeScores) -> String {
    let thresholds = [
        scores.v_rand_thin_threshold,
        scores.v_info_thin_threshold,
        scores.rand_error_2012_threshold,
        scores.pixel_error_2012_threshold,
        0.5,
        0.5,
    ];
    let mut text = format!("{:<16}  {:<8}  {:<9}  better\n", "score", "value", "threshold");
    for ((name, value), threshold) in scores.named().into_iter().zip(thresholds) {
        let better = if name.contains("error") { "lower" } else { "higher" };
        text += &format!("{name:<16}  {value:<8.6}  {threshold:<9.1}  {better}\n");
    }
    text
}
