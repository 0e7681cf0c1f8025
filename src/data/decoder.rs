//! One slice, and how it is made of its files when it is needed.
//!
//! Shapes: C channels, H, W pixels.

use std::sync::Arc;
use std::thread;

use anyhow::Result;
use tch::{Device, Tensor};

use super::emphasis::{Emphasis, EmphasisOptions};
use super::labels::Lookup;
use super::layout::Case;
use super::loader::{Loader, RawSlice, kept_range};
use super::read_ahead::ReadAhead;
use super::values::GreyRange;

/// One slice on the device.
#[derive(Debug)]
pub struct Slice {
    /// `[C, H, W]`: u8, i16 (the stored value minus 32,768) or f32.
    pub image: Tensor,
    /// In units of `image`.
    pub range: GreyRange,
    /// Class indices, `[H, W]` u8.
    pub classes: Option<Tensor>,
    /// What training attends to; nothing but in slices that it was asked for.
    pub emphasis: Emphasis,
}

impl Slice {
    /// A decoded slice as it is computed with; `range` in stored values.
    pub fn new(raw: RawSlice, range: GreyRange, lookup: Option<&Lookup>) -> Self {
        let classes = raw.labels.as_ref().zip(lookup).map(|(labels, lookup)| labels.classes(lookup));
        Self { classes, ..Self::unlabelled(raw.image, kept_range(range, raw.format)) }
    }

    /// An image without labels; `range` in units of `image`.
    pub fn unlabelled(image: Tensor, range: GreyRange) -> Self {
        Self { image, range, classes: None, emphasis: Emphasis::default() }
    }

    /// Tensors that are on `device` already are shared.
    pub fn to_device(&self, device: Device) -> Self {
        let classes = self.classes.as_ref().map(|classes| classes.to_device(device));
        let emphasis = self.emphasis.to_device(device);
        Self { image: self.image.to_device(device), range: self.range, classes, emphasis }
    }

    /// Height and width.
    pub fn size(&self) -> [i64; 2] {
        let size = self.image.size();
        [size[1], size[2]]
    }

    /// What image and weights take in memory.
    pub fn bytes(&self) -> i64 {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64;
        bytes(&self.image) + self.emphasis.weights.as_ref().map_or(0, bytes)
    }
}

/// Where a slice is, and how it is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Index of its case.
    pub case: usize,
    pub page: usize,
    /// The stored values that become -1 and 1.
    pub range: GreyRange,
    pub emphasis: EmphasisOptions,
}

/// Makes slices of their files, on the host.
#[derive(Clone)]
pub struct Decoder {
    pub cases: Arc<[Case]>,
    pub sources: Arc<[Source]>,
    pub lookup: Option<Arc<Lookup>>,
}

impl Decoder {
    fn loader(&self) -> Loader {
        Loader::new(Arc::clone(&self.cases))
    }

    fn decode(&self, loader: &mut Loader, index: usize) -> Result<Slice> {
        let Source { case, page, range, emphasis } = self.sources[index];
        let mut slice = Slice::new(loader.load(case, page, |_| {})?, range, self.lookup.as_deref());
        slice.emphasis = slice.classes.as_ref().map(|classes| emphasis.find(classes)).unwrap_or_default();
        Ok(slice)
    }
}

/// Slices that are decoded when they are needed, and a few of them ahead by background threads.
pub struct OnDemand {
    decoder: Decoder,
    ahead: ReadAhead<Slice>,
}

impl OnDemand {
    /// Starts the threads.
    pub fn new(decoder: Decoder) -> Self {
        let threads = thread::available_parallelism().map_or(1, |count| count.get().min(4));
        let ahead = ReadAhead::new(threads, || {
            let (decoder, mut loader) = (decoder.clone(), decoder.loader());
            move |index| decoder.decode(&mut loader, index)
        });
        Self { decoder, ahead }
    }

    /// Starts decoding these slices, which will be asked for next.
    pub fn expect(&self, upcoming: impl IntoIterator<Item = usize>) {
        self.ahead.ask(upcoming);
    }

    /// A slice on the host.
    ///
    /// Errors: a file that has changed or vanished since it was looked at.
    pub fn get(&self, index: usize) -> Result<Slice> {
        let decode = || self.decoder.decode(&mut self.decoder.loader(), index);
        self.ahead.take(index).unwrap_or_else(decode)
    }
}
