//! The scores of a stack of classes: for each class, with a confusion matrix (docs/metrics.md).
//!
//! Memory: the labels with a byte per pixel, and one page of the prediction with its classes.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::files::{reserved, words};
use crate::cli::ScoreArgs;
use crate::data::labels::{CHALLENGE_CLASSES, IGNORED, LabelMap, LabelValues, Lookup};
use crate::data::tiff::StackReader;
use crate::metrics::{Confusion, Summary};

/// The map by which both stacks are scored: that of `--label_map`, or a guess from their values where the labels have
/// more than two classes. `None`: labels of two classes, or of values that are not understood.
///
/// Errors: a map that cannot be read; values that it does not know; without one, a prediction whose values do not fit
/// the classes of the labels.
pub fn label_map(args: &ScoreArgs) -> Result<Option<LabelMap>> {
    if let Some(text) = &args.label_map {
        let map = LabelMap::parse(text)?;
        for (path, role) in [(&args.labels, "labels"), (&args.prediction, "a prediction")] {
            let cannot = || format!("cannot use '{}' as {role}", path.display());
            map.require(&values(path)?).with_context(cannot)?;
        }
        return Ok(Some(map));
    }
    let mut found = count(&args.labels)?;
    let is_of_many = found.not_whole().is_none()
        && LabelMap::guess(&found, CHALLENGE_CLASSES).is_ok_and(|map| map.classes.len() > 2);
    if !is_of_many {
        return Ok(None);
    }
    let cannot = || {
        let (prediction, labels) = (args.prediction.display(), args.labels.display());
        format!("cannot score '{prediction}' by the classes of '{labels}'; name those of both with --label_map")
    };
    let predicted = values(&args.prediction).with_context(cannot)?;
    // The values of both count, as either may lack a class that the other has.
    predicted.counts().for_each(|(value, count)| found.count(value, count));
    LabelMap::guess(&found, CHALLENGE_CLASSES).with_context(cannot).map(Some)
}

/// The values of a stack of classes.
///
/// Errors: samples that are no whole numbers.
fn values(path: &Path) -> Result<LabelValues> {
    let found = count(path)?;
    if let Some(sample) = found.not_whole() {
        bail!("'{}' has the sample {sample}, expected whole numbers that stand for classes", path.display());
    }
    Ok(found)
}

fn count(path: &Path) -> Result<LabelValues> {
    let mut found = LabelValues::default();
    StackReader::open(path)?.for_each_page(|_, page| found.add(page, 1, None))?;
    Ok(found)
}

/// Prints the scores by class, as a table or as JSON.
pub fn score(args: &ScoreArgs, map: &LabelMap) -> Result<()> {
    let confusion = confusion(args, &map.lookup(), map.classes.len())?;
    let names: Vec<String> = map.names().map(str::to_owned).collect();
    let summary = Summary::new(&confusion, &names);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("labels      {}: {}", args.labels.display(), words(StackReader::open(&args.labels)?.size()));
        println!("prediction  {}", args.prediction.display());
        println!("classes     {}", map.describe());
        print!("\n{}", summary.table());
    }
    Ok(())
}

/// Errors: a pixel whose label is a class, but whose prediction is ignored by the map.
fn confusion(args: &ScoreArgs, lookup: &Lookup, classes: usize) -> Result<Confusion> {
    let labels = StackReader::open(&args.labels)?;
    let mut truth: Vec<u8> = reserved(&labels, &args.labels)?;
    labels.for_each_page(|_, page| truth.extend(lookup.classes(page, 1, None)))?;
    let prediction = StackReader::open(&args.prediction)?;
    let [_, height, width] = prediction.size();
    let (mut confusion, mut open) = (Confusion::new(classes), 0u64);
    prediction.for_each_page(|index, page| {
        let truth = &truth[index * height * width..][..height * width];
        let predicted = lookup.classes(page, 1, None);
        open += no_class(truth, &predicted);
        if open == 0 {
            confusion.add(truth, &predicted);
        }
    })?;
    if open > 0 {
        bail!(
            "cannot use '{}' as a prediction: {open} pixels have values that the label map ignores, where the labels \
             have a class; give these values a class",
            args.prediction.display()
        );
    }
    Ok(confusion)
}

/// Pixels that have a label but no prediction.
fn no_class(labels: &[u8], predictions: &[u8]) -> u64 {
    let pairs = labels.iter().zip(predictions);
    pairs.filter(|&(&label, &prediction)| label != IGNORED && prediction == IGNORED).count() as u64
}
