//! `unet inspect`: how a dataset is laid out, what its files hold, how they will be mapped, and what is wrong with
//! each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::cli::InspectArgs;
use crate::data::labels::LabelMap;
use crate::data::layout::{Case, Kind, LabelFiles, Layout, TEST_VOLUME, TRAIN_LABELS, TRAIN_VOLUME, missing_stack};
use crate::data::samples::SampleFormat;
use crate::data::scan::Scan;
use crate::data::values::GreyRange;
use crate::output::logger::ReadingBar;

/// Prints a paragraph per set of images, then the command that trains on them.
///
/// Errors: a summary when anything would stop a run; the details are printed with their set.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let layout = Layout::find(&args.data_dir)?;
    let map = args.label_map.as_deref().map(LabelMap::parse).transpose()?;
    let mut inspection = Inspection { layout: &layout, map, problems: 0 };
    println!("layout: {}", layout.kind.name());
    layout.notes.iter().for_each(|note| println!("  note: {note}"));
    inspection.missing();
    layout.problems.iter().for_each(|problem| inspection.problem(problem));
    let training = inspection.set("training", &layout.training);
    let test = inspection.set("test", &layout.test);
    if let (Some(training), Some(test)) = (&training, &test) {
        inspection.compare(training, test);
    }
    match inspection.problems {
        0 => {
            println!("no problem found");
            if let (Some(training), Kind::Folders | Kind::ObjectMasks | Kind::NnUnet) = (&training, layout.kind) {
                println!("train with: {}", command(args, training, &layout));
            }
            Ok(())
        }
        count => bail!("{count} problem(s) found in '{}', see above", args.data_dir.display()),
    }
}

struct Inspection<'a> {
    layout: &'a Layout,
    map: Option<LabelMap>,
    problems: usize,
}

/// What was found of a set of images.
struct Found {
    channels: usize,
    slices: usize,
    ranges: BTreeMap<SampleFormat, Option<GreyRange>>,
}

impl Inspection<'_> {
    fn problem(&mut self, text: &str) {
        self.problems += 1;
        println!("  problem: {text}");
    }

    /// Stacks that are not there.
    fn missing(&mut self) {
        if self.layout.kind != Kind::Stacks {
            return;
        }
        for name in [TRAIN_VOLUME, TRAIN_LABELS, TEST_VOLUME] {
            if !self.layout.root.join(name).is_file() {
                self.problem(&missing_stack(&self.layout.root, name));
            }
        }
    }

    /// Prints what is in a set of images; `None` where none can be read.
    fn set(&mut self, what: &str, cases: &[Case]) -> Option<Found> {
        if cases.is_empty() {
            return None;
        }
        let cases: Arc<[Case]> = cases.into();
        let bar = ReadingBar::new(true);
        let scan = Scan::new(&cases, 0, false, &|done| bar.advance(done, cases.len()));
        bar.end();
        println!("{}", title(self.layout.kind, what, &cases));
        let found = self.images(&scan);
        scan.problems.iter().for_each(|problem| self.problem(problem));
        if found.is_some() && scan.labels.counts().next().is_some() {
            self.labels(&scan);
        }
        found
    }

    fn images(&mut self, scan: &Scan) -> Option<Found> {
        let first = scan.cases.first()?;
        let mut sizes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        for case in &scan.cases {
            *sizes.entry([case.shape.height, case.shape.width]).or_default() += case.shape.pages;
        }
        let slices = sizes.values().sum();
        let words = if self.layout.kind == Kind::Stacks { "pages" } else { "images" };
        let size = |([height, width], count): (&[usize; 2], &usize)| format!("{count} {words} of {height}x{width}");
        let most = 8;
        let mut text: Vec<String> = sizes.iter().take(most).map(size).collect();
        if sizes.len() > most {
            text.push(format!("{} more sizes", sizes.len() - most));
        }
        let channels = match first.shape.channels {
            1 => "grey".to_owned(),
            3 => "3 channels".to_owned(),
            channels => format!("{channels} channels"),
        };
        println!("  {}, {channels}", text.join(", "));
        let with_alpha = scan.cases.iter().filter(|case| case.shape.has_alpha).count();
        if with_alpha > 0 {
            println!("  note: the alpha channel of {with_alpha} images is left out");
        }
        scan.few_notes().for_each(|note| println!("  note: {note}"));
        let mut ranges = BTreeMap::new();
        for (&format, values) in &scan.grey {
            println!(
                "  {} samples: values {} to {}, mean {:.2}",
                format.name(),
                values.low,
                values.high,
                values.mean()
            );
            let range = values.range();
            match &range {
                Ok(range) => println!("  mapping: {} becomes -1, {} becomes 1", range.black, range.white),
                Err(error) => self.problem(&format!("{error:#}")),
            }
            ranges.insert(format, range.ok());
        }
        Some(Found { channels: first.shape.channels, slices, ranges })
    }

    fn labels(&mut self, scan: &Scan) {
        let described = self.layout.description.as_ref().map(|description| &description.map);
        let names = self.layout.kind.names_of_two();
        let map = LabelMap::choose(&scan.labels, self.map.as_ref(), None, described, names);
        let checked = map.and_then(|map| {
            let found = map.reading(&scan.labels);
            let warnings = map.require(&found)?;
            Ok((map.pixels(&found), warnings, map))
        });
        match checked {
            Ok((pixels, warnings, map)) => {
                println!("  labels: values {}", scan.labels.shares());
                println!("  mapping: {}", map.describe());
                println!("  classes: {}", map.describe_shares(&pixels));
                warnings.iter().for_each(|warning| println!("  warning: {warning}"));
            }
            Err(error) => self.problem(&format!("{error:#}")),
        }
    }

    /// Training and test images that a network would see differently.
    fn compare(&mut self, training: &Found, test: &Found) {
        if training.channels != test.channels {
            let (one, other) = (training.channels, test.channels);
            self.problem(&format!("training images have {one} channel(s), test images {other}; save both alike"));
        }
        if training.ranges != test.ranges {
            self.problem("training and test images are mapped differently; store them with one sample type");
        }
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

/// The command that trains on a dataset.
fn command(args: &InspectArgs, training: &Found, layout: &Layout) -> String {
    let quoted = |text: &str| if text.contains([' ', ';', '*', '\'']) { format!("'{text}'") } else { text.to_owned() };
    let mut words = vec![format!("unet --data_dir {}", quoted(&args.data_dir.display().to_string()))];
    words.push("--model_dir results --augment".to_owned());
    words.extend(args.label_map.as_ref().map(|map| format!("--label_map {}", quoted(map))));
    let has_folds = layout.description.as_ref().is_some_and(|description| !description.folds.is_empty());
    if has_folds || training.slices > 4 {
        words.push("--exec_mode train_and_evaluate --crossvalidation_idx 0".to_owned());
    }
    words.join(" ")
}
