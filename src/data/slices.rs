//! The slices of a dataset, ready to compute with: kept in memory as far as there is room, else decoded when they are
//! needed. Both give the same bits.
//!
//! Shapes: C channels, H, W pixels.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};
use tch::Device;

use super::border_weights::BorderTerm;
pub use super::decoder::Slice;
use super::decoder::{Decoder, OnDemand, Source};
use super::emphasis::EmphasisOptions;
use super::findings::Mapped;
use super::labels::{LabelMap, Lookup};
use super::layout::{Case, Kind, Layout, fail_with};
use super::repeats::Fingerprint;
use super::samples::SampleFormat;
use super::scale::Scale;
use super::scan::Scan;
use super::spec::DataSpec;
use super::tiff::Resolution;
use super::values::{GreyChoice, GreyRange};

/// A dataset on a GPU stays there up to this size; a larger one is copied slice by slice.
const MOST_DEVICE_BYTES: i64 = 4 << 30;

/// Where a slice comes from.
#[derive(Debug, Clone)]
pub struct SliceInfo {
    /// Index of its case.
    pub case: usize,
    pub page: usize,
    /// C, H, W.
    pub size: [usize; 3],
    pub fingerprint: Fingerprint,
}

/// How a dataset is read.
pub struct ReadOptions<'a> {
    pub device: Device,
    /// Bytes of decoded slices that stay in memory.
    pub budget: u64,
    /// Whether slices will get weights ([`SliceSet::emphasise`]), which need memory too.
    pub with_weights: bool,
    /// The map that the user gives.
    pub map: Option<&'a LabelMap>,
    /// What the network was trained on, where there is one. Its mapping of values is kept.
    pub trained: Option<&'a DataSpec>,
    /// Where there is none: which values become black and white.
    pub grey: GreyChoice,
    /// Whether each image is scaled by its own values, not by those of all.
    pub by_image: bool,
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
    /// The classes of each slice, a bit each; empty without labels.
    pub slice_classes: Vec<u64>,
    /// SHA-256 of the images' and of the labels' raw samples.
    pub sha256: [String; 2],
    /// What the user should know, though nothing is amiss.
    pub warnings: Vec<String>,
    /// How grey levels are mapped, where that is not by the range of their type.
    pub notes: Vec<String>,
    /// Physical size of the pixels of the first case.
    pub resolution: Option<Resolution>,
    formats: Vec<SampleFormat>,
    kept: Vec<Option<Slice>>,
    lookup: Option<Arc<Lookup>>,
    device: Device,
    on_demand: Option<OnDemand>,
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
        let scan = Scan::new(&cases, options.budget, options.with_weights, &|done| (options.progress)(done, count));
        fail_with(&layout.root, &scan.problems)?;
        let mut warnings = scan.warnings();
        let has_labels = cases.iter().any(|case| case.labels.is_some());
        let trained = options.trained.and_then(|spec| spec.map.as_ref());
        let mapped = if has_labels { Some(scan.map(layout, options.map, trained)?) } else { None };
        let (map, class_pixels) = match mapped {
            Some(Mapped { map, pixels, warnings: of_map }) => {
                warnings.extend(of_map);
                (Some(map), pixels)
            }
            None => (None, Vec::new()),
        };
        let slice_classes = map.as_ref().map(|map| scan.slice_classes(map)).unwrap_or_default();
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
        let ranges = scan.ranges(layout, options.trained, options.grey, &mut warnings)?;
        if options.trained.is_none() && !options.by_image {
            warnings.extend(scan.uneven(&cases, &ranges));
        }
        let scale = Scale::of(scan.cases.iter().map(|case| case.shape.scale()));
        let rescaled = options.trained.and_then(|trained| trained.compare_scale(&scale));
        warnings.extend(rescaled.map(|text| format!("the images in '{}': {text}", layout.root.display())));
        warnings.extend(scan.outliers(&ranges));
        let notes = scan.grey.iter().filter_map(|(format, values)| values.describe(ranges[format])).collect();
        let names = layout.description.as_ref().map(|description| description.channels.clone()).unwrap_or_default();
        let spec = DataSpec::new(channels, names, map, options.trained, &ranges, scale);
        let resolution = scan.cases.first().and_then(|case| case.shape.resolution.clone());
        let mut set = Self {
            kind: layout.kind,
            infos: Vec::new(),
            formats: Vec::new(),
            kept: Vec::new(),
            slice_classes,
            class_pixels,
            sha256: scan.sha256.clone(),
            warnings,
            notes,
            resolution,
            device: options.device,
            on_demand: None,
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
            for (page, (raw, fingerprint)) in case.kept.into_iter().zip(case.fingerprints).enumerate() {
                let size = [shape.channels, shape.height, shape.width];
                self.infos.push(SliceInfo { case: case.index, page, size, fingerprint });
                self.formats.push(shape.format);
                self.kept.push(raw.map(|raw| Slice::new(raw, ranges[&shape.format], self.lookup.as_deref())));
            }
        }
        self.move_to_device();
        self.decode_others_on_demand(&|_| EmphasisOptions::default());
    }

    /// Moves the slices in memory to a GPU if they are small enough together.
    fn move_to_device(&mut self) {
        let device = self.device;
        if device.is_cuda() && self.kept.iter().flatten().map(Slice::bytes).sum::<i64>() <= MOST_DEVICE_BYTES {
            self.kept.iter_mut().flatten().for_each(|slice| *slice = slice.to_device(device));
        }
    }

    /// Starts the threads that decode the slices that are not in memory, if there are any.
    fn decode_others_on_demand(&mut self, emphasis: &dyn Fn(usize) -> EmphasisOptions) {
        if self.kept.iter().all(Option::is_some) {
            return;
        }
        let source = |(index, (info, &format)): (usize, (&SliceInfo, &SampleFormat))| {
            let (range, emphasis) = (self.spec.range(format), emphasis(index));
            Source { case: info.case, page: info.page, range, emphasis }
        };
        let sources = self.infos.iter().zip(&self.formats).enumerate().map(source).collect();
        let (cases, lookup) = (Arc::clone(&self.cases), self.lookup.clone());
        self.on_demand = Some(OnDemand::new(Decoder { cases, sources, lookup }));
    }

    /// From now on the slices `chosen` come with what training attends to: weights by the term `border`, and with
    /// `rare_classes` the places of all classes but the most frequent one of the set. Slices in memory get it at once,
    /// by several threads, the others whenever they are decoded.
    pub fn emphasise(&mut self, chosen: &[usize], border: Option<BorderTerm>, rare_classes: bool) {
        let usual = (0..self.class_pixels.len()).max_by_key(|&class| (self.class_pixels[class], Reverse(class)));
        let usual_class = usual.filter(|_| rare_classes).map(|class| class as u8);
        let options = EmphasisOptions { border, usual_class };
        let mut by_slice = vec![EmphasisOptions::default(); self.len()];
        chosen.iter().for_each(|&index| by_slice[index] = options);
        let kept = self.kept.iter_mut().zip(&by_slice).filter(|(_, emphasis)| **emphasis == options);
        // Classes go to the host on this thread, which alone works with a GPU.
        let labelled = kept.filter_map(|(slice, _)| {
            let slice = slice.as_mut()?;
            let classes = slice.classes.as_ref()?.to_device(Device::Cpu);
            Some((slice, classes))
        });
        let labelled = Mutex::new(labelled.collect::<Vec<_>>().into_iter());
        let next = || labelled.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((slice, classes)) = next() {
                slice.emphasis = options.find(&classes);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
        thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        self.warn_of_no_border(border);
        self.move_to_device();
        self.decode_others_on_demand(&|index| by_slice[index]);
    }

    /// Warns where slices that are all in memory have no pixel between two objects.
    fn warn_of_no_border(&mut self, border: Option<BorderTerm>) {
        let Some(BorderTerm { weight, sigma }) = border.filter(|_| self.is_in_memory()) else { return };
        let mut weights = self.kept.iter().flatten().filter_map(|slice| slice.emphasis.weights.as_ref());
        if !weights.any(|weights| weights.max().double_value(&[]) > 0.0) {
            self.warnings.push(format!(
                "--border_weight {weight} changes nothing: no slice has two objects near each other, as --border_sigma \
                 {sigma} would have them"
            ));
        }
    }

    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Slices whose image is of one value.
    pub fn flat_slices(&self) -> usize {
        self.infos.iter().filter(|info| info.fingerprint.is_none()).count()
    }

    /// Whether all slices are in memory.
    pub fn is_in_memory(&self) -> bool {
        self.on_demand.is_none()
    }

    /// Starts decoding these slices, which will be asked for next.
    pub fn expect(&self, upcoming: impl IntoIterator<Item = usize>) {
        if let Some(on_demand) = &self.on_demand {
            on_demand.expect(upcoming.into_iter().filter(|&index| self.kept[index].is_none()));
        }
    }

    /// A slice on the device.
    ///
    /// Errors: a file that has changed or vanished since it was looked at.
    pub fn get(&self, index: usize) -> Result<Slice> {
        let slice = match (&self.kept[index], &self.on_demand) {
            (Some(slice), _) => return Ok(slice.to_device(self.device)),
            (None, Some(on_demand)) => on_demand.get(index)?,
            (None, None) => unreachable!("a slice is kept or decoded on demand"),
        };
        let size: Vec<i64> = self.infos[index].size.iter().map(|&side| side as i64).collect();
        if slice.image.size() != size {
            bail!("{} has changed since the run began; start again", self.name(index));
        }
        Ok(slice.to_device(self.device))
    }

    /// These slices, on the device.
    pub fn select(&self, indices: &[usize]) -> Result<Vec<Slice>> {
        indices.iter().map(|&index| self.get(index)).collect()
    }

    /// The stored values of the first slice that become -1 and 1.
    pub fn grey_range(&self) -> GreyRange {
        self.spec.range(self.formats.first().copied().unwrap_or(SampleFormat::U8))
    }

    /// The ranges by which values are mapped, unless all are those of their types.
    pub fn unusual_ranges(&self) -> Option<&BTreeMap<SampleFormat, GreyRange>> {
        (!self.notes.is_empty()).then_some(&self.spec.grey_ranges)
    }

    /// The range of each sample type that the slices have.
    pub fn ranges(&self) -> BTreeMap<SampleFormat, GreyRange> {
        self.formats.iter().map(|&format| (format, self.spec.range(format))).collect()
    }

    /// Height and width of a slice.
    pub fn size(&self, index: usize) -> [usize; 2] {
        let [_, height, width] = self.infos[index].size;
        [height, width]
    }

    /// Slices by their indices, each with what tells whether images are equal.
    pub fn fingerprints(&self, indices: impl IntoIterator<Item = usize>) -> Vec<(usize, Fingerprint)> {
        indices.into_iter().map(|index| (index, self.infos[index].fingerprint)).collect()
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
