//! The slices of a dataset, ready to compute with: kept in memory as far as there is room, else decoded when they are
//! needed. Both give the same bits.
//!
//! Shapes: C channels, H, W pixels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, bail};
use tch::{Device, Tensor};

use super::labels::{LabelMap, Lookup};
use super::layout::{Case, Kind, Layout, fail_with};
use super::loader::{Loader, RawSlice, kept_range};
use super::read_ahead::ReadAhead;
use super::samples::SampleFormat;
use super::scan::Scan;
use super::spec::DataSpec;
use super::tiff::Resolution;
use super::values::GreyRange;

/// A dataset on a GPU stays there up to this size; a larger one is copied slice by slice.
const MOST_DEVICE_BYTES: i64 = 4 << 30;

/// One slice on the device.
#[derive(Debug)]
pub struct Slice {
    /// `[C, H, W]`: u8, i16 (the stored value minus 32,768) or f32.
    pub image: Tensor,
    /// In units of `image`.
    pub range: GreyRange,
    /// Class indices, `[H, W]` u8.
    pub classes: Option<Tensor>,
}

impl Slice {
    /// A decoded slice as it is computed with; `range` in stored values.
    pub fn new(raw: RawSlice, range: GreyRange, lookup: Option<&Lookup>) -> Self {
        let classes = raw.labels.as_ref().zip(lookup).map(|(labels, lookup)| labels.classes(lookup));
        Self { range: kept_range(range, raw.format), image: raw.image, classes }
    }

    fn shallow_clone(&self) -> Self {
        let classes = self.classes.as_ref().map(Tensor::shallow_clone);
        Self { image: self.image.shallow_clone(), range: self.range, classes }
    }

    pub fn to_device(&self, device: Device) -> Self {
        let classes = self.classes.as_ref().map(|classes| classes.to_device(device));
        Self { image: self.image.to_device(device), range: self.range, classes }
    }

    /// Height and width.
    pub fn size(&self) -> [i64; 2] {
        let size = self.image.size();
        [size[1], size[2]]
    }
}

/// Where a slice comes from.
#[derive(Debug, Clone)]
pub struct SliceInfo {
    /// Index of its case.
    pub case: usize,
    pub page: usize,
    /// C, H, W.
    pub size: [usize; 3],
}

/// How a dataset is read.
pub struct ReadOptions<'a> {
    pub device: Device,
    /// Bytes of decoded slices that stay in memory.
    pub budget: u64,
    /// The map that the user gives.
    pub map: Option<&'a LabelMap>,
    /// What the network was trained on, where there is one.
    pub trained: Option<&'a DataSpec>,
    /// Told how many of how many cases were looked at.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

/// The slices of a dataset in a fixed order.
pub struct SliceSet {
    pub kind: Kind,
    pub cases: Arc<[Case]>,
    pub infos: Vec<SliceInfo>,
    /// What a network that trains on them is for.
    pub spec: DataSpec,
    /// Pixels of each class; empty without labels.
    pub class_pixels: Vec<u64>,
    /// SHA-256 of the images' and of the labels' raw samples.
    pub sha256: [String; 2],
    /// What the user should know, though nothing is amiss.
    pub warnings: Vec<String>,
    /// Physical size of the pixels of the first case.
    pub resolution: Option<Resolution>,
    formats: Vec<SampleFormat>,
    kept: Vec<Option<Slice>>,
    lookup: Option<Arc<Lookup>>,
    device: Device,
    ahead: Option<ReadAhead<RawSlice>>,
}

impl SliceSet {
    /// The images of `layout` with labels.
    ///
    /// Errors: every file that is missing, damaged or does not fit, a line each; labels that no map explains.
    pub fn training(layout: &Layout, options: &ReadOptions) -> Result<Self> {
        layout.require()?;
        if layout.training.is_empty() {
            bail!("no labelled images in '{}', which is laid out as {}", layout.root.display(), layout.kind.name());
        }
        Self::read(layout, layout.training.clone(), options)
    }

    /// The images of `layout` without labels.
    ///
    /// Errors: as [`Self::training`].
    pub fn test(layout: &Layout, options: &ReadOptions) -> Result<Self> {
        Self::read(layout, layout.test.clone(), options)
    }

    fn read(layout: &Layout, cases: Vec<Case>, options: &ReadOptions) -> Result<Self> {
        let cases: Arc<[Case]> = cases.into();
        let count = cases.len();
        let scan = Scan::new(&cases, options.budget, &|done| (options.progress)(done, count));
        fail_with(&layout.root, &scan.problems)?;
        let mut warnings = scan.warnings();
        let has_labels = cases.iter().any(|case| case.labels.is_some());
        let map = if has_labels { Some(scan.map(layout, options, &mut warnings)?) } else { None };
        let (map, class_pixels) = match map {
            Some((map, pixels)) => (Some(map), pixels),
            None => (None, Vec::new()),
        };
        let lookup = map.as_ref().map(|map| Arc::new(map.lookup()));
        let channels = scan.cases.first().map_or(1, |case| case.shape.channels);
        if let Some(description) =
            layout.description.as_ref().filter(|description| description.channels.len() != channels)
        {
            bail!(
                "'{}' names {} channels, the images have {channels}; correct channel_names in its dataset.json",
                layout.root.display(),
                description.channels.len()
            );
        }
        let ranges = scan.ranges(layout)?;
        let names = layout.description.as_ref().map(|description| description.channels.clone()).unwrap_or_default();
        let spec = DataSpec::new(channels, names, map, options.trained, &ranges);
        let resolution = scan.cases.first().and_then(|case| case.shape.resolution.clone());
        let mut set = Self {
            kind: layout.kind,
            infos: Vec::new(),
            formats: Vec::new(),
            kept: Vec::new(),
            class_pixels,
            sha256: scan.sha256.clone(),
            warnings,
            resolution,
            device: options.device,
            ahead: None,
            lookup,
            spec,
            cases,
        };
        set.keep(scan, &ranges);
        Ok(set)
    }

    /// Takes over the scanned slices; starts the threads that decode those that were not kept.
    fn keep(&mut self, scan: Scan, ranges: &BTreeMap<SampleFormat, GreyRange>) {
        for case in scan.cases {
            let shape = case.shape;
            for (page, raw) in case.kept.into_iter().enumerate() {
                let size = [shape.channels, shape.height, shape.width];
                self.infos.push(SliceInfo { case: case.index, page, size });
                self.formats.push(shape.format);
                self.kept.push(raw.map(|raw| Slice::new(raw, ranges[&shape.format], self.lookup.as_deref())));
            }
        }
        let bytes = |slice: &Slice| (slice.image.numel() * slice.image.kind().elt_size_in_bytes()) as i64;
        if self.kept.iter().flatten().map(bytes).sum::<i64>() <= MOST_DEVICE_BYTES && self.device.is_cuda() {
            let device = self.device;
            self.kept.iter_mut().flatten().for_each(|slice| *slice = slice.to_device(device));
        }
        if self.kept.iter().any(Option::is_none) {
            let threads = thread::available_parallelism().map_or(1, |count| count.get().min(4));
            let places: Arc<[(usize, usize)]> = self.infos.iter().map(|info| (info.case, info.page)).collect();
            let cases = Arc::clone(&self.cases);
            self.ahead = Some(ReadAhead::new(threads, || {
                let (mut loader, places) = (Loader::new(Arc::clone(&cases)), Arc::clone(&places));
                move |index| {
                    let (case, page) = places[index];
                    loader.load(case, page, |_| {})
                }
            }));
        }
    }

    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Whether all slices are in memory.
    pub fn is_in_memory(&self) -> bool {
        self.ahead.is_none()
    }

    /// Starts decoding these slices, which will be asked for next.
    pub fn expect(&self, upcoming: impl IntoIterator<Item = usize>) {
        if let Some(ahead) = &self.ahead {
            ahead.ask(upcoming.into_iter().filter(|&index| self.kept[index].is_none()));
        }
    }

    /// A slice on the device.
    ///
    /// Errors: a file that has changed or vanished since it was looked at.
    pub fn get(&self, index: usize) -> Result<Slice> {
        if let Some(slice) = &self.kept[index] {
            let is_there = slice.image.device() == self.device;
            return Ok(if is_there { slice.shallow_clone() } else { slice.to_device(self.device) });
        }
        let info = &self.infos[index];
        let load = || Loader::new(Arc::clone(&self.cases)).load(info.case, info.page, |_| {});
        let raw = self.ahead.as_ref().and_then(|ahead| ahead.take(index)).unwrap_or_else(load)?;
        let size: Vec<i64> = info.size.iter().map(|&side| side as i64).collect();
        if raw.image.size() != size {
            bail!("{} has changed since the run began; start again", self.name(index));
        }
        let range = self.spec.range(self.formats[index]);
        Ok(Slice::new(raw, range, self.lookup.as_deref()).to_device(self.device))
    }

    /// These slices, on the device.
    pub fn select(&self, indices: &[usize]) -> Result<Vec<Slice>> {
        indices.iter().map(|&index| self.get(index)).collect()
    }

    /// The stored values of the first slice that become -1 and 1.
    pub fn grey_range(&self) -> GreyRange {
        self.spec.range(self.formats.first().copied().unwrap_or(SampleFormat::U8))
    }

    /// Height and width of a slice.
    pub fn size(&self, index: usize) -> [usize; 2] {
        let [_, height, width] = self.infos[index].size;
        [height, width]
    }

    /// The file of a slice, and its page where the file has several; for messages.
    pub fn name(&self, index: usize) -> String {
        let info = &self.infos[index];
        let path = self.cases[info.case].images[0].display();
        let is_one_of_several = info.page > 0 || self.infos.get(index + 1).is_some_and(|next| next.case == info.case);
        if is_one_of_several { format!("'{path}' page {}", info.page) } else { format!("'{path}'") }
    }

    /// "30 pages of 512x512" (height x width), or "133 images of 256x256 to 1040x1388, 3 channels".
    pub fn describe(&self) -> String {
        let sizes = |part: usize| self.infos.iter().map(move |info| info.size[part]);
        let word = if self.kind == Kind::Stacks { "pages" } else { "images" };
        let smallest = self.infos.iter().min_by_key(|info| info.size[1] * info.size[2]);
        let largest = self.infos.iter().max_by_key(|info| info.size[1] * info.size[2]);
        let (Some(small), Some(large)) = (smallest, largest) else { return format!("no {word}") };
        let is_one_size = [1, 2].into_iter().all(|part| sizes(part).min() == sizes(part).max());
        let mut text = format!("{} {word} of {}x{}", self.len(), small.size[1], small.size[2]);
        if !is_one_size {
            text += &format!(" to {}x{}", large.size[1], large.size[2]);
        }
        if self.spec.channels != 1 {
            text += &format!(", {} channels", self.spec.channels);
        }
        text
    }
}

impl Scan {
    /// The range of each sample type that the set has.
    fn ranges(&self, layout: &Layout) -> Result<BTreeMap<SampleFormat, GreyRange>> {
        let range = |values: &super::values::GreyValues| {
            values
                .range()
                .map_err(|error| error.context(format!("cannot use the images in '{}'", layout.root.display())))
        };
        self.grey.iter().map(|(&format, values)| Ok((format, range(values)?))).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let with_alpha = self.cases.iter().filter(|case| case.shape.has_alpha).count();
        let alpha = format!("the alpha channel of {with_alpha} of {} images is left out", self.cases.len());
        (with_alpha > 0).then_some(alpha).into_iter().collect()
    }

    /// The label map, and the pixels of each class.
    fn map(&self, layout: &Layout, options: &ReadOptions, warnings: &mut Vec<String>) -> Result<(LabelMap, Vec<u64>)> {
        let mut choose = || -> Result<(LabelMap, Vec<u64>)> {
            let described = layout.description.as_ref().map(|description| &description.map);
            let trained = options.trained.and_then(|spec| spec.map.as_ref());
            let map = LabelMap::choose(&self.labels, options.map, trained, described, layout.kind.names_of_two())?;
            let found = map.reading(&self.labels);
            warnings.extend(map.require(&found)?);
            let pixels = map.pixels(&found);
            Ok((map, pixels))
        };
        let first = self.cases.first().and_then(|case| match &layout.training.get(case.index)?.labels {
            Some(super::layout::LabelFiles::One(path)) if layout.training.len() == 1 => {
                Some(path.display().to_string())
            }
            _ => None,
        });
        choose().map_err(|error| match first {
            Some(path) => error.context(format!("cannot use '{path}' as labels")),
            None => error.context(format!("cannot use the labels in '{}'", layout.root.display())),
        })
    }
}
