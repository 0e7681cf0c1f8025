//! The thread that reads images ahead of the network.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use anyhow::{Context, Result, ensure};

use crate::data::layout::Case;
use crate::data::loader::{CaseShape, Loader, RawSlice, rounding};
use crate::data::samples::SampleFormat;
use crate::data::scale::Scale;
use crate::data::spec::DataSpec;
use crate::data::tiff::Resolution;
use crate::data::values::{GreyRange, GreyValues};

/// Warnings of single files that are told at most.
const MOST_WARNINGS: usize = 5;

/// A page that is to be predicted.
#[derive(Debug, Clone)]
pub struct Page {
    /// Index of its case.
    pub case: usize,
    pub number: usize,
    /// Whether it is the last of its file.
    pub is_last: bool,
    /// Pages, height and width of its file.
    pub size: [usize; 3],
    /// The stored values that become -1 and 1.
    pub range: GreyRange,
    pub resolution: Option<Resolution>,
}

/// What the reader hands on.
pub enum Item {
    Page {
        page: Page,
        raw: Box<RawSlice>,
    },
    /// A file that cannot be read to its end.
    Failed {
        case: usize,
        problem: String,
    },
}

/// Reads the cases `indices` in order, images like those of `spec`, until nobody listens any more. The result are
/// warnings of [`read_case`].
pub fn read(cases: &[Case], indices: &[usize], spec: &DataSpec, listener: &SyncSender<Item>) -> Vec<String> {
    let mut loader = Loader::new(Arc::from(cases));
    let mut warnings = Vec::new();
    for &case in indices {
        let mut is_heard = true;
        let read = read_case(&mut loader, case, spec, |item| {
            is_heard = listener.send(item).is_ok();
            is_heard
        });
        match read {
            Ok(warning) => warnings.extend(warning),
            Err(error) => is_heard = listener.send(Item::Failed { case, problem: format!("{error:#}") }).is_ok(),
        }
        if !is_heard {
            break;
        }
    }
    shortened(warnings)
}

/// The first of many warnings.
fn shortened(mut warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(MOST_WARNINGS);
    warnings.truncate(MOST_WARNINGS);
    warnings.extend((more > 0).then(|| format!("and {more} more such warnings of files")));
    warnings
}

/// Hands on the pages of a file. The result are warnings: how the file is read, and values that are not like those of
/// training.
fn read_case(
    loader: &mut Loader,
    case: usize,
    spec: &DataSpec,
    mut send: impl FnMut(Item) -> bool,
) -> Result<Vec<String>> {
    let shape = loader.shape(case)?;
    let scale = Scale::of([shape.scale()]);
    let CaseShape { pages, height, width, channels, format, resolution, has_alpha, notes } = shape;
    let path = loader.path(case).to_owned();
    let name = |count: usize| if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") };
    ensure!(
        channels == spec.channels,
        "'{}' has {}, the network takes {}; give images like those it was trained on",
        path.display(),
        name(channels),
        name(spec.channels)
    );
    ensure!(
        pages == 1 || mask_suffix(&path) == "tif",
        "'{}' holds {pages} pages, its name is that of a single image; name it .tif",
        path.display()
    );
    let range = range(loader, case, pages, spec, format)?;
    // Finding the range may have decoded all pages.
    let before = loader.rounded(case)?;
    let mut values = GreyValues::new(format);
    for number in 0..pages {
        let raw = Box::new(loader.load(case, number, |samples| values.add(samples))?);
        let (is_last, size) = (number + 1 == pages, [pages, height, width]);
        let page = Page { case, number, is_last, size, range, resolution: resolution.clone() };
        if !send(Item::Page { page, raw }) {
            return Ok(Vec::new());
        }
    }
    let rounded = loader.rounded(case)? - before;
    let own = [
        has_alpha.then(|| "its alpha channel is left out".to_owned()),
        (rounded > 0).then(|| rounding(rounded)),
        spec.compare(&values)?,
        spec.compare_scale(&scale),
    ];
    let own = own.into_iter().flatten().map(|warning| format!("'{}': {warning}", path.display()));
    Ok(notes.into_iter().chain(own).collect())
}

/// The stored values that become -1 and 1: those of training, or for floats of a network of 0.1.0 that has seen none,
/// the smallest usual range that holds all pages of the file.
///
/// Errors: samples of another type than in training, to which its range does not suit.
fn range(loader: &mut Loader, case: usize, pages: usize, spec: &DataSpec, format: SampleFormat) -> Result<GreyRange> {
    let is_old = spec.grey_ranges.is_empty();
    if spec.grey_ranges.contains_key(&format) || (is_old && (format != SampleFormat::F32 || spec.float_range.is_some()))
    {
        return Ok(spec.range(format));
    }
    let mut values = GreyValues::new(format);
    for number in 0..pages {
        loader.load(case, number, |samples| values.add(samples))?;
    }
    let range = spec.compare(&values).and_then(|_| spec.range_of(&values));
    range.with_context(|| format!("cannot use '{}'", loader.path(case).display()))
}

/// The suffix of an image's mask: a TIFF for a TIFF, which may have several pages, else a PNG.
pub fn mask_suffix(image: &Path) -> &'static str {
    let suffix = image.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if suffix.starts_with("tif") { "tif" } else { "png" }
}
