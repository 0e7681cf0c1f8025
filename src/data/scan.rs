//! Looks at each file of a dataset once, before anything is computed: sizes, values, a checksum of the samples; and
//! keeps what there is room for in memory. A file that is amiss does not hide the others'.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

use super::labels::LabelValues;
use super::layout::Case;
use super::loader::{CaseShape, Loader, RawSlice, rounding};
use super::repeats::{Fingerprint, Fingerprinter};
use super::samples::{SampleFormat, Samples};
use super::values::{GreyBounds, GreyValues};

/// What was found in the files of a dataset.
pub struct Scan {
    /// Cases in their order; those of files that are amiss are left out.
    pub cases: Vec<ScannedCase>,
    pub grey: BTreeMap<SampleFormat, GreyValues>,
    /// Grey values for each channel.
    pub channels: BTreeMap<SampleFormat, Vec<GreyValues>>,
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
    /// Two values of each page, which a thousandth of its samples is below and above ([`GreyValues::percentiles`]).
    pub percentiles: Vec<[f64; 2]>,
    /// What tells whether pages are equal.
    pub fingerprints: Vec<Fingerprint>,
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
        let all_values = Mutex::new(ChannelValues::new());
        let work = || {
            let mut loader = Loader::new(Arc::clone(cases));
            let mut values = ChannelValues::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= cases.len() {
                    let mut all = all_values.lock().unwrap_or_else(PoisonError::into_inner);
                    values.iter().for_each(|(format, values)| merge(all.entry(*format).or_default(), values));
                    return;
                }
                let result = scan_case(&mut loader, index, &room, with_weights, &mut values)
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
        let channels = all_values.into_inner().unwrap_or_else(PoisonError::into_inner);
        Self::collect(results.into_inner().unwrap_or_else(PoisonError::into_inner), channels, cases)
    }

    fn collect(results: Vec<Result<ScannedCase, (usize, String)>>, channels: ChannelValues, all: &[Case]) -> Self {
        let (mut cases, mut failed) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(case) => cases.push(case),
                Err(failure) => failed.push(failure),
            }
        }
        cases.sort_by_key(|case| case.index);
        failed.sort();
        let mut labels = LabelValues::default();
        let mut bounds: BTreeMap<SampleFormat, GreyBounds> = BTreeMap::new();
        // Cases are added in their order, on which sums of floats depend.
        for case in &cases {
            bounds.entry(case.shape.format).or_default().merge(&case.grey);
            labels.merge(&case.labels);
        }
        let grey = bounds.into_iter().map(|(format, bounds)| {
            let mut values = merged(format, &channels[&format]);
            values.bounds = bounds;
            (format, values)
        });
        let grey = grey.collect();
        let mut problems: Vec<String> = failed.into_iter().map(|(_, problem)| problem).collect();
        problems.extend(channel_problems(&cases, all));
        let notes = cases.iter().flat_map(|case| case.shape.notes.iter().cloned()).collect();
        let sha256 = [0, 1].map(|part| combined(&cases, all, part));
        Self { cases, grey, channels, labels, notes, problems, sha256 }
    }
}

/// The values of each channel, by sample type.
type ChannelValues = BTreeMap<SampleFormat, Vec<GreyValues>>;

/// Adds the values of each channel to those of `all`, which gets as many.
fn merge(all: &mut Vec<GreyValues>, channels: &[GreyValues]) {
    for (index, values) in channels.iter().enumerate() {
        match all.get_mut(index) {
            Some(all) => all.merge(values),
            None => all.push(values.clone()),
        }
    }
}

/// The values of all channels together.
fn merged(format: SampleFormat, channels: &[GreyValues]) -> GreyValues {
    let mut all = GreyValues::new(format);
    channels.iter().for_each(|values| all.merge(values));
    all
}

/// Adds the samples of an image `[H, W, C]` to the values of its channels.
fn add_channels(channels: &mut [GreyValues], samples: Samples<'_>) {
    fn every<T: Copy>(values: &[T], first: usize, step: usize) -> Vec<T> {
        values.iter().skip(first).step_by(step).copied().collect()
    }
    if let [only] = channels {
        return only.add(samples);
    }
    let count = channels.len();
    for (channel, values) in channels.iter_mut().enumerate() {
        match samples {
            Samples::U8(all) => values.add(Samples::U8(&every(all, channel, count))),
            Samples::U16(all) => values.add(Samples::U16(&every(all, channel, count))),
            Samples::F32(all) => values.add(Samples::F32(&every(all, channel, count))),
        }
    }
}

fn scan_case(
    loader: &mut Loader,
    index: usize,
    room: &AtomicI64,
    with_weights: bool,
    values: &mut ChannelValues,
) -> anyhow::Result<ScannedCase> {
    let mut shape = loader.shape(index)?;
    let bytes_of_weights = if with_weights { shape.height * shape.width * size_of::<f32>() } else { 0 };
    let (mut channels, mut percentiles) = (Vec::new(), Vec::new());
    let (mut grey, mut labels) = (GreyBounds::default(), LabelValues::default());
    let (mut fingerprints, mut page_labels) = (Vec::new(), Vec::new());
    let mut hashes = [Sha256::new(), Sha256::new()];
    let mut kept = Vec::with_capacity(shape.pages);
    for page in 0..shape.pages {
        let (mut of_channels, mut first) = (vec![GreyValues::new(shape.format); shape.channels], 0);
        let mut fingerprint = Fingerprinter::new([shape.height, shape.width]);
        let mut slice = loader.load(index, page, |samples| {
            // Each file has channels of its own.
            let of_file = samples.len() / (shape.height * shape.width);
            add_channels(&mut of_channels[first..first + of_file], samples);
            first += of_file;
            hash(&mut hashes[0], samples);
            fingerprint.add(samples);
        })?;
        let of_page = merged(shape.format, &of_channels);
        grey.merge(&of_page.bounds);
        fingerprints.push((!of_page.bounds.is_constant()).then(|| fingerprint.finish()));
        percentiles.push(of_page.percentiles());
        merge(&mut channels, &of_channels);
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
        shape.notes.push(format!("'{}': {}", loader.path(index).display(), rounding(rounded)));
    }
    let sha256 = hashes.map(hexadecimal);
    merge(values.entry(shape.format).or_default(), &channels);
    Ok(ScannedCase { index, shape, kept, grey, percentiles, fingerprints, labels, page_labels, sha256 })
}

impl ScannedCase {
    /// The file of a page, and the page where there are several; for messages.
    pub fn place(&self, all: &[Case], page: usize) -> String {
        let path = all[self.index].images[0].display();
        if self.shape.pages > 1 { format!("'{path}' page {page} (first is 0)") } else { format!("'{path}'") }
    }

    /// Each page's place, and what tells whether pages are equal.
    pub fn places<'a>(&'a self, all: &'a [Case]) -> impl Iterator<Item = (String, Fingerprint)> + 'a {
        self.fingerprints.iter().enumerate().map(|(page, print)| (self.place(all, page), *print))
    }

    /// Pages of one value.
    pub fn flat_pages(&self) -> usize {
        self.fingerprints.iter().filter(|print| print.is_none()).count()
    }
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
