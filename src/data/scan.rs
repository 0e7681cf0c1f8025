//! Looks at each file of a dataset once, before anything is computed: sizes, values, a checksum of the samples; and
//! keeps what there is room for in memory. A file that is amiss does not hide the others'.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

use super::labels::LabelValues;
use super::layout::Case;
use super::loader::{CaseShape, Loader, RawSlice};
use super::samples::{SampleFormat, Samples};
use super::values::{GreyBounds, GreyValues, Histogram};

/// What was found in the files of a dataset.
pub struct Scan {
    /// In the order of the cases; those of files that are amiss are left out.
    pub cases: Vec<ScannedCase>,
    pub grey: BTreeMap<SampleFormat, GreyValues>,
    pub labels: LabelValues,
    /// What people should know of how files are read, a line each.
    pub notes: Vec<String>,
    /// What is amiss, a line each, in the order of the cases.
    pub problems: Vec<String>,
    /// SHA-256 of the images' and of the labels' raw samples.
    pub sha256: [String; 2],
}

/// What was found in the files of a case.
pub struct ScannedCase {
    /// Index of the case.
    pub index: usize,
    pub shape: CaseShape,
    /// What was kept of each page.
    pub kept: Vec<Option<RawSlice>>,
    grey: GreyBounds,
    /// Pages of one value.
    pub flat_pages: usize,
    labels: LabelValues,
    /// Label values of each page; `None` for more than a map could list.
    pub page_labels: Vec<Option<LabelValues>>,
    /// SHA-256 of the raw samples, little-endian, page by page and row by row: of the images and of the labels.
    sha256: [String; 2],
}

impl Scan {
    /// Scans `cases` by several threads and keeps slices of `budget` bytes in all, those of weights for each pixel
    /// (f32) counted in if there will be some. `progress` is told how many cases are done.
    pub fn new(cases: &Arc<[Case]>, budget: u64, with_weights: bool, progress: &(dyn Fn(usize) + Sync)) -> Self {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let room = AtomicI64::new(i64::try_from(budget).unwrap_or(i64::MAX));
        let results = Mutex::new(Vec::new());
        let all_counts = Mutex::new(Histograms::new());
        let work = || {
            let mut loader = Loader::new(Arc::clone(cases));
            let mut counts = Histograms::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= cases.len() {
                    let mut all = all_counts.lock().unwrap_or_else(PoisonError::into_inner);
                    counts.iter().for_each(|(format, counts)| all.entry(*format).or_default().merge(counts));
                    return;
                }
                let result = scan_case(&mut loader, index, &room, with_weights, &mut counts)
                    .map_err(|error| (index, format!("{error:#}")));
                results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(cases.len());
        thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let counts = all_counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        Self::collect(results.into_inner().unwrap_or_else(PoisonError::into_inner), counts, cases)
    }

    fn collect(results: Vec<Result<ScannedCase, (usize, String)>>, mut counts: Histograms, all: &[Case]) -> Self {
        let (mut cases, mut failed) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(case) => cases.push(case),
                Err(failure) => failed.push(failure),
            }
        }
        cases.sort_by_key(|case| case.index);
        failed.sort();
        let mut bounds: BTreeMap<SampleFormat, GreyBounds> = BTreeMap::new();
        let mut labels = LabelValues::default();
        for case in &cases {
            bounds.entry(case.shape.format).or_default().merge(&case.grey);
            labels.merge(&case.labels);
        }
        let grey = bounds.into_iter().map(|(format, bounds)| {
            (format, GreyValues::from_parts(format, bounds, counts.remove(&format).unwrap_or_default()))
        });
        let grey = grey.collect();
        let mut problems: Vec<String> = failed.into_iter().map(|(_, problem)| problem).collect();
        problems.extend(channel_problems(&cases, all));
        let notes = cases.iter().flat_map(|case| case.shape.notes.iter().cloned()).collect();
        let sha256 = [0, 1].map(|part| combined(&cases, all, part));
        Self { cases, grey, labels, notes, problems, sha256 }
    }
}

/// How often each value occurs, by sample type.
type Histograms = BTreeMap<SampleFormat, Histogram>;

fn scan_case(
    loader: &mut Loader,
    index: usize,
    room: &AtomicI64,
    with_weights: bool,
    counts: &mut Histograms,
) -> anyhow::Result<ScannedCase> {
    let mut shape = loader.shape(index)?;
    let bytes_of_weights = if with_weights { shape.height * shape.width * size_of::<f32>() } else { 0 };
    let (mut grey, mut labels) = (GreyBounds::default(), LabelValues::default());
    let (mut flat_pages, mut page_labels) = (0, Vec::new());
    let counts = counts.entry(shape.format).or_default();
    let mut hashes = [Sha256::new(), Sha256::new()];
    let mut kept = Vec::with_capacity(shape.pages);
    for page in 0..shape.pages {
        let mut of_page = GreyBounds::default();
        let mut slice = loader.load(index, page, |samples| {
            of_page.add(samples);
            counts.add(samples);
            hash(&mut hashes[0], samples);
        })?;
        grey.merge(&of_page);
        flat_pages += usize::from(of_page.is_constant());
        if let Some(raw) = &slice.labels {
            let mut of_page = LabelValues::default();
            of_page.add(raw.samples.samples(), raw.channels, raw.palette.as_ref());
            labels.merge(&of_page);
            page_labels.push(of_page.is_small().then_some(of_page));
            hash(&mut hashes[1], raw.samples.samples());
        }
        let bytes = slice.bytes() as i64 + bytes_of_weights as i64;
        let fits = room.fetch_sub(bytes, Ordering::Relaxed) >= bytes;
        if !fits {
            room.fetch_add(bytes, Ordering::Relaxed);
        }
        if let Some(labels) = &mut slice.labels {
            labels.settle();
        }
        kept.push(fits.then_some(slice));
    }
    let rounded = loader.rounded(index)?;
    if rounded > 0 {
        shape.notes.push(format!(
            "'{}': {rounded} samples beyond 16777216 (2^24) were rounded, as images are 32-bit floats here",
            loader.path(index).display()
        ));
    }
    let sha256 = hashes.map(hexadecimal);
    Ok(ScannedCase { index, shape, kept, grey, flat_pages, labels, page_labels, sha256 })
}

impl RawSlice {
    /// What it takes in memory.
    fn bytes(&self) -> u64 {
        let image = self.image.numel() as u64 * self.format.bytes();
        image + self.labels.as_ref().map_or(0, |labels| labels.bytes())
    }
}

/// Problems where the images of a set differ in their channels: the odd ones, beside what most have.
fn channel_problems(cases: &[ScannedCase], all: &[Case]) -> Vec<String> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    cases.iter().for_each(|case| *counts.entry(case.shape.channels).or_default() += 1);
    let Some((&usual, _)) = counts.iter().max_by_key(|&(channels, count)| (count, channels)) else { return Vec::new() };
    let odd = cases.iter().filter(|case| case.shape.channels != usual);
    let name = |channels: usize| if channels == 1 { "1 channel".to_owned() } else { format!("{channels} channels") };
    odd.map(|case| {
        let path = all[case.index].images[0].display();
        let (found, usual) = (name(case.shape.channels), name(usual));
        format!("'{path}' has {found}, most images have {usual}; save all alike (slices stored as colours: as pages)")
    })
    .collect()
}

/// The checksum of a single case, or one of all cases' names, sizes and checksums.
fn combined(cases: &[ScannedCase], all: &[Case], part: usize) -> String {
    if let ([case], 1) = (cases, all.len()) {
        return case.sha256[part].clone();
    }
    let mut hash = Sha256::new();
    for case in cases {
        let CaseShape { pages, height, width, channels, .. } = case.shape;
        let (name, sum) = (&all[case.index].name, &case.sha256[part]);
        hash.update(format!("{name} {pages} {height} {width} {channels} {sum}\n"));
    }
    hexadecimal(hash)
}

fn hash(hash: &mut Sha256, samples: Samples<'_>) {
    match samples {
        Samples::U8(values) => hash.update(values),
        Samples::U16(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        Samples::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
