//! `unet score`: the scores of a prediction stack on disk. `challenge` has those of two classes, `classes` those of any
//! number of classes.

mod challenge;
mod classes;
mod files;

use anyhow::{Result, bail};

use crate::cli::ScoreArgs;
use crate::data::tiff::StackReader;
use files::words;

/// Prints the scores of `args.prediction`, as a table or as JSON.
///
/// Errors: a stack that cannot be read, two of different size, and values that stand for no class or probability.
pub fn score(args: &ScoreArgs) -> Result<()> {
    let (labels, prediction) = (StackReader::open(&args.labels)?, StackReader::open(&args.prediction)?);
    let (size, predicted) = (labels.size(), prediction.size());
    if size != predicted {
        bail!(
            "'{}' holds {} and '{}' {}; each predicted page needs the label of its own size",
            args.labels.display(),
            words(size),
            args.prediction.display(),
            words(predicted)
        );
    }
    for (stack, path) in [(&labels, &args.labels), (&prediction, &args.prediction)] {
        if stack.channels() != 1 {
            bail!(
                "'{}' has {} channels, expected one; save slices as pages (tifffile takes three of them for colours \
                 unless it is told photometric='minisblack')",
                path.display(),
                stack.channels()
            );
        }
    }
    match classes::label_map(args)? {
        Some(map) => classes::score(args, &map),
        None => challenge::score(args, labels, prediction),
    }
}
