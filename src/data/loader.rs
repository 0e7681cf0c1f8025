//! Decodes one slice of a dataset: the channels of its image, and its labels as stored.
//!
//! Shapes: C channels, H, W pixels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use tch::Tensor;

use super::image_file::{Image, ImageFile, ImageInfo, MOST_CHANNELS};
use super::labels::Lookup;
use super::layout::{Case, LabelFiles};
use super::samples::{Palette, SampleBuffer, SampleFormat, Samples};
use super::tiff::Resolution;
use super::values::GreyRange;

/// What is added to a 16-bit sample to keep it as i16, the widest integer below 32 bits that libtorch computes with.
const U16_BIAS: i32 = 1 << 15;

/// The value of objects in labels that are merged from masks of single objects.
const OBJECT: u8 = 255;

/// A decoded slice on the host.
pub struct RawSlice {
    /// `[C, H, W]`: u8, i16 (the stored value minus 32,768) or f32.
    pub image: Tensor,
    pub format: SampleFormat,
    pub labels: Option<RawLabels>,
}

/// Label samples as stored, `[H, W, channels]`.
pub struct RawLabels {
    pub samples: SampleBuffer,
    pub channels: usize,
    pub palette: Option<Palette>,
    size: [i64; 2],
    /// Where the class indices will be: the samples themselves, of labels of 8 bits that wait for their map.
    place: Option<Tensor>,
}

impl RawLabels {
    /// Moves samples of 8 bits to where their class indices will be, so that a large stack is in memory once.
    pub fn settle(&mut self) {
        if let (SampleBuffer::U8(values), 1) = (&self.samples, self.channels) {
            self.place = Some(Tensor::from_slice(values).view(self.size));
            self.samples = SampleBuffer::U8(Vec::new());
        }
    }

    /// Class indices, `[H, W]` u8.
    pub fn classes(&self, lookup: &Lookup) -> Tensor {
        let (channels, palette) = (self.channels, self.palette.as_ref());
        let Some(place) = &self.place else {
            let classes = lookup.classes(self.samples.samples(), channels, palette);
            return Tensor::from_slice(&classes).view(self.size);
        };
        let mut values = vec![0u8; place.numel()];
        place.copy_data(&mut values, place.numel());
        let classes = lookup.classes(Samples::U8(&values), channels, palette);
        place.shallow_clone().copy_(&Tensor::from_slice(&classes).view(self.size));
        place.shallow_clone()
    }

    pub fn bytes(&self) -> u64 {
        bytes(self.samples.samples())
    }
}

/// Reads slices of `cases`; the files of the case that was read last stay open.
pub struct Loader {
    cases: Arc<[Case]>,
    open: Option<(usize, OpenCase)>,
}

struct OpenCase {
    images: Vec<ImageFile>,
    labels: Option<OpenLabels>,
    shape: CaseShape,
}

enum OpenLabels {
    One(ImageFile),
    Objects(Vec<PathBuf>),
}

/// What the files of a case hold, found to fit together.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseShape {
    pub pages: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub format: SampleFormat,
    pub has_alpha: bool,
    pub resolution: Option<Resolution>,
    /// What people should know of how its files are read, each with the file.
    pub notes: Vec<String>,
}

impl CaseShape {
    /// Height and width in pixels, and those of a pixel in nm where the file tells them.
    pub fn scale(&self) -> ([usize; 2], Option<[f64; 2]>) {
        ([self.height, self.width], self.resolution.as_ref().and_then(Resolution::pixel_nm))
    }
}

impl Loader {
    pub fn new(cases: Arc<[Case]>) -> Self {
        Self { cases, open: None }
    }

    /// The first image file of a case.
    pub fn path(&self, case: usize) -> &Path {
        &self.cases[case].images[0]
    }

    /// Opens the files of a case.
    ///
    /// Errors: files that cannot be read, and such as do not fit together.
    pub fn shape(&mut self, case: usize) -> Result<CaseShape> {
        Ok(self.open(case)?.shape.clone())
    }

    /// Samples of the images of a case that were rounded when its pages were decoded: whole numbers beyond 2^24.
    pub fn rounded(&mut self, case: usize) -> Result<u64> {
        Ok(self.open(case)?.images.iter().map(ImageFile::rounded).sum())
    }

    /// Decodes the page `page` of a case; `see_image` is shown the samples of each of its files, `[H, W, C]`.
    pub fn load(&mut self, case: usize, page: usize, mut see_image: impl FnMut(Samples<'_>)) -> Result<RawSlice> {
        let OpenCase { images, labels, shape } = self.open(case)?;
        let mut channels = Vec::new();
        for file in images {
            let image = with_colours(file.page(page)?);
            see_image(image.samples.samples());
            channels.push(planes(&image));
        }
        let image = match &channels[..] {
            [all] => all.shallow_clone(),
            several => Tensor::cat(several, 0),
        };
        let size = [shape.height, shape.width];
        let labels = labels.as_mut().map(|labels| labels.load(page, size)).transpose()?;
        Ok(RawSlice { image, format: shape.format, labels })
    }

    fn open(&mut self, case: usize) -> Result<&mut OpenCase> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != case) {
            self.open = Some((case, OpenCase::new(&self.cases[case])?));
        }
        let Some((_, open)) = &mut self.open else { unreachable!("opened above") };
        Ok(open)
    }
}

impl OpenCase {
    fn new(case: &Case) -> Result<Self> {
        let images = case.images.iter().map(|path| ImageFile::open(path)).collect::<Result<Vec<_>>>()?;
        let infos: Vec<ImageInfo> = images.iter().map(ImageFile::info).collect();
        let mut shape = shape(case, &infos)?;
        let labels = match &case.labels {
            None => None,
            Some(LabelFiles::Objects(paths)) => Some(OpenLabels::Objects(paths.clone())),
            Some(LabelFiles::One(path)) => {
                let file = ImageFile::open(path)?;
                let info = file.info();
                check_labels(path, &info, &case.images[0], &shape)?;
                shape.notes.extend(notes(&info, path));
                Some(OpenLabels::One(file))
            }
        };
        Ok(Self { images, labels, shape })
    }
}

impl OpenLabels {
    fn load(&mut self, page: usize, [height, width]: [usize; 2]) -> Result<RawLabels> {
        let size = [height as i64, width as i64];
        match self {
            Self::One(file) => {
                let before = file.rounded();
                let Image { samples, channels, palette, .. } = file.page(page)?;
                ensure!(
                    file.rounded() == before,
                    "'{}' page {page} has {} label values beyond 16777216 (2^24), which are not kept apart; number the \
                     objects of each page from 1",
                    file.path().display(),
                    file.rounded() - before
                );
                Ok(RawLabels { samples, channels, palette, size, place: None })
            }
            Self::Objects(paths) => {
                let mut merged = vec![0; height * width];
                paths.iter().try_for_each(|path| add_object(&mut merged, path, [height, width]))?;
                Ok(RawLabels { samples: SampleBuffer::U8(merged), channels: 1, palette: None, size, place: None })
            }
        }
    }
}

/// What the image files of a case hold together.
fn shape(case: &Case, infos: &[ImageInfo]) -> Result<CaseShape> {
    let (first, name) = (&infos[0], case.images[0].display());
    for (info, path) in infos.iter().zip(&case.images).skip(1) {
        let (one, other) = ([first.pages, first.height, first.width], [info.pages, info.height, info.width]);
        ensure!(
            one == other && first.format == info.format,
            "'{name}' holds {} of {} samples and '{}' {} of {}; the channels of an image need one size and type",
            describe(one),
            first.format.name(),
            path.display(),
            describe(other),
            info.format.name()
        );
    }
    let channels: usize = infos.iter().map(image_channels).sum();
    ensure!(channels <= MOST_CHANNELS, "'{name}' has {channels} channels, expected at most {MOST_CHANNELS}");
    Ok(CaseShape {
        pages: first.pages,
        height: first.height,
        width: first.width,
        channels,
        format: first.format,
        has_alpha: infos.iter().any(|info| info.has_alpha),
        resolution: first.resolution.clone(),
        notes: infos.iter().zip(&case.images).flat_map(|(info, path)| notes(info, path)).collect(),
    })
}

/// Errors: labels of another size than their image, or of a kind whose values mean nothing.
fn check_labels(path: &Path, info: &ImageInfo, image: &Path, shape: &CaseShape) -> Result<()> {
    let (labels, expected) = ([info.pages, info.height, info.width], [shape.pages, shape.height, shape.width]);
    // Why the numbers of pages differ, where the files say something of it.
    let hints: String = shape.notes.iter().cloned().chain(notes(info, path)).map(|note| format!(" ({note})")).collect();
    let hints = if shape.pages == 1 && shape.channels == info.pages && info.pages > 1 {
        format!("{hints} (the image has {} channels; if they are its slices, save it with a page for each)", info.pages)
    } else {
        hints
    };
    if labels != expected {
        bail!(
            "'{}' holds {} and '{}' {}; each image needs the label of its own size{hints}",
            image.display(),
            describe(expected),
            path.display(),
            describe(labels)
        );
    }
    ensure!(!info.is_lossy, "'{}' is a JPEG, which rounds values; save the labels as PNG or TIFF", path.display());
    ensure!(
        info.channels == 1 || info.format != SampleFormat::F32,
        "'{}' has {} channels of {} samples, expected labels of one channel, or in colours of 8 or 16 bits{hints}",
        path.display(),
        info.channels,
        info.format.name()
    );
    ensure!(
        matches!(info.channels, 1 | 3),
        "'{}' has {} channels, expected labels of one channel or in colour{hints}",
        path.display(),
        info.channels
    );
    Ok(())
}

/// What a file says of how it is read, with its name.
fn notes(info: &ImageInfo, path: &Path) -> Vec<String> {
    info.notes.iter().map(|note| format!("'{}': {note}", path.display())).collect()
}

/// A note on samples of an image that were rounded.
pub fn rounding(samples: u64) -> String {
    format!("{samples} samples beyond 16777216 (2^24) were rounded, as images are 32-bit floats here")
}

/// "30 pages of 512x512" (height x width); a single page goes without its number.
pub fn describe([pages, height, width]: [usize; 3]) -> String {
    if pages == 1 { format!("an image of {height}x{width}") } else { format!("{pages} pages of {height}x{width}") }
}

/// Adds the object of a mask: pixels that are not 0.
fn add_object(merged: &mut [u8], path: &Path, [height, width]: [usize; 2]) -> Result<()> {
    let mut file = ImageFile::open(path)?;
    let info = file.info();
    ensure!(
        [info.pages, info.height, info.width] == [1, height, width],
        "'{}' holds {}, its image {}; each mask needs the size of its image",
        path.display(),
        describe([info.pages, info.height, info.width]),
        describe([1, height, width])
    );
    ensure!(
        !info.is_lossy,
        "'{}' is a JPEG, whose rounding takes pixels beside an object for it; save the masks as PNG or TIFF",
        path.display()
    );
    let image = file.page(0)?;
    let mut mark = |index: usize| merged[index / image.channels] = OBJECT;
    match image.samples.samples() {
        Samples::U8(values) => (0..values.len()).filter(|&i| values[i] != 0).for_each(&mut mark),
        Samples::U16(values) => (0..values.len()).filter(|&i| values[i] != 0).for_each(&mut mark),
        Samples::F32(values) => (0..values.len()).filter(|&i| values[i] != 0.0).for_each(&mut mark),
    }
    Ok(())
}

/// The channels of an image; the indices of a palette become colours.
fn image_channels(info: &ImageInfo) -> usize {
    if info.palette.is_some() { 3 } else { info.channels }
}

/// A palette image as RGB.
fn with_colours(image: Image) -> Image {
    match (&image.palette, &image.samples) {
        (Some(Palette(colours)), SampleBuffer::U8(indices)) => {
            let colour = |&index: &u8| colours.get(usize::from(index)).copied().unwrap_or_default();
            let samples = SampleBuffer::U8(indices.iter().flat_map(colour).collect());
            Image { samples, channels: 3, palette: None, ..image }
        }
        _ => image,
    }
}

/// `[C, H, W]` as it is kept.
fn planes(image: &Image) -> Tensor {
    let values = match &image.samples {
        SampleBuffer::U8(values) => Tensor::from_slice(values),
        SampleBuffer::U16(values) => {
            let biased: Vec<i16> = values.iter().map(|&value| (i32::from(value) - U16_BIAS) as i16).collect();
            Tensor::from_slice(&biased)
        }
        SampleBuffer::F32(values) => Tensor::from_slice(values),
    };
    let [height, width, channels] = [image.height, image.width, image.channels].map(|side| side as i64);
    values.view([height, width, channels]).permute([2, 0, 1]).contiguous()
}

/// `range` in units of the samples as they are kept.
pub fn kept_range(range: GreyRange, format: SampleFormat) -> GreyRange {
    let bias = if format == SampleFormat::U16 { f64::from(U16_BIAS) } else { 0.0 };
    GreyRange { black: range.black - bias, white: range.white - bias }
}

fn bytes(samples: Samples<'_>) -> u64 {
    match samples {
        Samples::U8(values) => size_of_val(values) as u64,
        Samples::U16(values) => size_of_val(values) as u64,
        Samples::F32(values) => size_of_val(values) as u64,
    }
}
