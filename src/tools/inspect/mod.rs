//! `unet inspect`: how a dataset is laid out, what its files hold, how they will be mapped, and what is wrong with
//! each. Here it is found out; `report.rs` tells it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::cli::{GreyRangeChoice, InspectArgs};
use crate::data::findings::Mapped;
use crate::data::folds;
use crate::data::labels::LabelMap;
use crate::data::layout::{Case, Kind, LabelFiles, Layout, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, missing_stack};
use crate::data::repeats::{self, Fingerprint};
use crate::data::samples::SampleFormat;
use crate::data::scale::Scale;
use crate::data::scan::Scan;
use crate::data::spec::DataSpec;
use crate::data::values::{GreyChoice, GreyRange, GreyValues};
use crate::output::logger::ReadingBar;
use crate::run::samples;
use report::{Class, Grey, Labels, Report, Set, Size};

mod report;

/// Prints a paragraph per set of images, then the command that trains on them; or all of it as JSON.
///
/// Errors: a summary when anything would stop a run; the details are printed with their set.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let layout = Layout::find(&args.dataset.data_dir)?;
    let map = args.dataset.label_map.as_deref().map(LabelMap::parse).transpose()?;
    let inspection = Inspection { layout: &layout, map, grey: samples::grey_choice(args.dataset.grey_range) };
    let mut report = Report::new(layout.kind.name(), layout.notes.clone());
    report.problems = inspection.missing();
    report.problems.extend(layout.problems.iter().cloned());
    let mut training = inspection.set("training", &layout.training, None);
    // The mapping of the training images is kept.
    let trained =
        training.as_ref().map(|(_, found)| DataSpec { grey_ranges: found.ranges.clone(), ..DataSpec::isbi() });
    let mut test = inspection.set("test", &layout.test, trained.as_ref());
    if let (Some((_, training)), Some((_, test))) = (&training, &test) {
        report.comparison.extend(compare(training, test));
    }
    warn_of_repeats(&mut training, &mut test);
    if let (Some((_, training)), Some((set, test))) = (&training, &mut test) {
        // The pixels alone are compared, as the recipe is not known.
        set.warnings.extend(training.scale.compare(&test.scale, false));
    }
    if let (Some((_, training)), Kind::Folders | Kind::ObjectMasks | Kind::NnUnet) = (&training, layout.kind) {
        report.command = Some(command(args, training, &layout));
    }
    [report.training, report.test] = [training, test].map(|set| set.map(|(set, _)| set));
    let count = report.count_problems();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text(layout.kind == Kind::Stacks));
    }
    match count {
        0 => Ok(()),
        count => bail!("{count} problem(s) found in '{}', see above", args.dataset.data_dir.display()),
    }
}

struct Inspection<'a> {
    layout: &'a Layout,
    map: Option<LabelMap>,
    grey: GreyChoice,
}

/// What the comparison of two sets needs.
struct Found {
    channels: usize,
    slices: usize,
    scale: Scale,
    /// Where each image is from, and what tells whether two are equal.
    images: Vec<(String, Fingerprint)>,
    ranges: BTreeMap<SampleFormat, GreyRange>,
}

impl Inspection<'_> {
    /// Stacks that are not there.
    fn missing(&self) -> Vec<String> {
        let root = &self.layout.root;
        let is_missing = |name: &&str| self.layout.kind == Kind::Stacks && !root.join(name).is_file();
        let missing = [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME].into_iter().filter(is_missing);
        missing.map(|name| missing_stack(root, name)).collect()
    }

    /// What is in a set of images, of which a network may be `trained` on others; `None` without files.
    fn set(&self, what: &str, cases: &[Case], trained: Option<&DataSpec>) -> Option<(Set, Found)> {
        if cases.is_empty() {
            return None;
        }
        let cases: Arc<[Case]> = cases.into();
        let bar = ReadingBar::new(true);
        let scan = Scan::new(&cases, 0, false, &|done| bar.advance(done, cases.len()));
        bar.end();
        let mut set = Set { title: title(self.layout.kind, what, &cases), ..Set::default() };
        let found = self.images(&cases, &scan, trained, &mut set);
        set.problems.extend(scan.problems.iter().cloned());
        if set.channels > 0 && scan.labels.counts().next().is_some() {
            self.labels(&scan, found.slices, &mut set);
        }
        Some((set, found))
    }

    fn images(&self, cases: &[Case], scan: &Scan, trained: Option<&DataSpec>, set: &mut Set) -> Found {
        let mut sizes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        for case in &scan.cases {
            *sizes.entry([case.shape.height, case.shape.width]).or_default() += case.shape.pages;
        }
        let size = |([height, width], slices): ([usize; 2], usize)| Size { height, width, slices };
        set.sizes = sizes.into_iter().map(size).collect();
        set.channels = scan.cases.first().map_or(0, |case| case.shape.channels);
        set.notes = scan.few_notes().collect();
        set.with_alpha = scan.cases.iter().filter(|case| case.shape.has_alpha).count();
        let mut ranges = BTreeMap::new();
        for (&format, values) in &scan.grey {
            let range = match trained {
                Some(trained) => trained.range_of(values),
                None => values.range(self.grey),
            };
            let warning = trained.map_or(Ok(None), |trained| trained.compare(values));
            let told = range.as_ref().ok().copied();
            ranges.extend(told.map(|range| (format, range)));
            set.grey.push(grey(values, told));
            set.problems.extend(range.err().map(|error| format!("{error:#}")));
            match warning {
                Ok(warning) => set.warnings.extend(warning),
                Err(problem) => set.problems.push(problem.to_string()),
            }
        }
        if trained.is_none() {
            set.warnings.extend(scan.uneven(cases, &ranges));
        }
        set.warnings.extend(scan.outliers(&ranges));
        let slices = set.sizes.iter().map(|size| size.slices).sum();
        let images: Vec<(String, Fingerprint)> = scan.cases.iter().flat_map(|case| case.places(cases)).collect();
        let flat: usize = scan.cases.iter().map(|case| case.flat_pages()).sum();
        match flat {
            0 => {}
            flat if flat == slices => set.problems.push(format!("all {slices} images are of one value each")),
            flat => set.warnings.push(format!("{flat} of {slices} images are of one value each")),
        }
        let scale = Scale::of(scan.cases.iter().map(|case| case.shape.scale()));
        Found { channels: set.channels, slices, scale, images, ranges }
    }

    fn labels(&self, scan: &Scan, slices: usize, set: &mut Set) {
        let Mapped { map, pixels, warnings } = match scan.choose_map(self.layout, self.map.as_ref(), None) {
            Ok(mapped) => mapped,
            Err(error) => return set.problems.push(format!("{error:#}")),
        };
        let classes = map.names().zip(&pixels).map(|(name, &pixels)| Class { name: name.to_owned(), pixels }).collect();
        let [values, mapping, shares] = [scan.labels.shares(), map.describe(), map.describe_shares(&pixels)];
        set.labels = Some(Labels { values, mapping, shares, classes });
        if pixels.iter().filter(|&&pixels| pixels > 0).count() < 2 {
            set.problems.extend(warnings);
        } else {
            set.warnings.extend(warnings);
        }
        let has_own_folds = self.layout.description.as_ref().is_some_and(|description| !description.folds.is_empty());
        set.warnings.extend(folds::warn_of_few(slices).filter(|_| !has_own_folds));
    }
}

/// Warnings of images that occur more than once among those with labels, and of test images among those.
fn warn_of_repeats(training: &mut Option<(Set, Found)>, test: &mut Option<(Set, Found)>) {
    let Some((training, known)) = training else { return };
    let prints = |found: &Found| -> Vec<Fingerprint> { found.images.iter().map(|(_, print)| *print).collect() };
    let (of, place) = (known.images.len(), |index: usize| &known.images[index].0);
    let known = prints(known);
    let repeated = repeats::within(&known);
    if let Some(&[image, same]) = repeated.first() {
        training.warnings.push(format!(
            "{} of {of} images repeat earlier ones, such as {}, which is {}: a fold that trains on one and validates \
             on the other has scores that say nothing of new images; leave repeated images out",
            repeated.len(),
            place(image),
            place(same)
        ));
    }
    let Some((test, found)) = test else { return };
    let repeated = repeats::among(prints(found).into_iter().enumerate(), known.into_iter().enumerate());
    if let Some(&[image, same]) = repeated.first() {
        test.warnings.push(format!(
            "{} of {} images are training images too, such as {}, which is {}: their masks say nothing of new images",
            repeated.len(),
            found.images.len(),
            found.images[image].0,
            place(same)
        ));
    }
}

/// A problem of training and test images that do not fit together.
fn compare(training: &Found, test: &Found) -> Option<String> {
    let (one, other) = (training.channels, test.channels);
    // A set whose files cannot be read has none.
    let is_other = one != other && one > 0 && other > 0;
    is_other.then(|| format!("training images have {one} channel(s), test images {other}; save both alike"))
}

fn grey(values: &GreyValues, range: Option<GreyRange>) -> Grey {
    Grey {
        samples: values.format.name(),
        low: values.bounds.low,
        high: values.bounds.high,
        mean: values.bounds.mean(),
        percentiles: values.percentiles(),
        range,
        clipped: range.map(|range| values.clipped(range)),
        filled: range.map(|range| values.filled(range)),
        is_of_type: range.is_some_and(|range| values.is_of_type(range)),
    }
}

/// The files of a set.
fn title(kind: Kind, what: &str, cases: &[Case]) -> String {
    let folder = |path: &Path| path.parent().unwrap_or(path).display().to_string();
    let labels = match &cases[0].labels {
        Some(LabelFiles::One(path)) => Some(path),
        Some(LabelFiles::Objects(paths)) => paths.first(),
        None => None,
    };
    let of = |path: &Path| match kind {
        Kind::Stacks => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Kind::ObjectMasks => path.parent().and_then(Path::parent).map_or_else(String::new, folder),
        Kind::Folders | Kind::NnUnet => folder(path),
    };
    let labels = labels.map(|path| of(path)).filter(|labels| *labels != of(&cases[0].images[0]));
    let labels = labels.map_or_else(String::new, |labels| format!(" with {labels}"));
    format!("{what}: {}{labels}", of(&cases[0].images[0]))
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_-./,:=+@%".contains(letter);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The command that trains on a dataset.
fn command(args: &InspectArgs, training: &Found, layout: &Layout) -> String {
    let mut words = vec![format!("unet --data_dir {}", quoted(&args.dataset.data_dir.display().to_string()))];
    words.push("--model_dir results --recipe native --augment".to_owned());
    words.extend(args.dataset.label_map.as_ref().map(|map| format!("--label_map {}", quoted(map))));
    if args.dataset.grey_range != GreyRangeChoice::Auto {
        words.push(format!("--grey_range {}", args.dataset.grey_range.name()));
    }
    let has_folds = layout.description.as_ref().is_some_and(|description| !description.folds.is_empty());
    if has_folds || training.slices > 4 {
        words.push("--exec_mode train_and_evaluate --crossvalidation_idx 0".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with what a shell makes of it.
    #[test]
    fn quoted_words_reach_a_program_as_they_are() {
        for word in
            ["data", "/a/b-c_1.tif", "0=a;255=b", "it's", "a b", "$HOME", "`id`", "a&b", "(x)", "\"", "a'b'c", "#1"]
        {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(quoted("/a/b-c_1.tif"), "/a/b-c_1.tif");
    }
}
