//! TIFF files that are sound but for some fields, written byte by byte from a structure that `arbitrary` draws.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;

#[derive(Debug, Arbitrary)]
pub struct File {
    big_endian: bool,
    big_tiff: bool,
    kind: Kind,
    /// Height and, after it, width of each page.
    height: u8,
    width: u8,
    pages: u8,
    seed: u8,
    text: Text,
    changes: Vec<Change>,
    /// The directory that the last one names as the next, if there is one of that number.
    back: Option<u8>,
}

/// What all pages have in common.
#[derive(Debug, Arbitrary)]
struct Kind {
    samples: u8,
    planar: bool,
    layout: Layout,
    stored: Stored,
    is_packed: bool,
}

#[derive(Debug, Arbitrary)]
enum Layout {
    Strips { rows: u8 },
    Tiles { across: u8, down: u8 },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Stored {
    U8,
    U16,
    F32,
}

/// A field that is not what it should be.
#[derive(Debug, Arbitrary)]
struct Change {
    page: u8,
    tag: Tag,
    what: What,
}

#[derive(Debug, Arbitrary)]
enum Tag {
    /// One of those that the reader looks at.
    Known(u8),
    Any(u16),
}

#[derive(Debug, Arbitrary)]
enum What {
    Removed,
    Value(u32),
    Type(u8),
    Count(u32),
    New { kind: u8, values: Vec<u32> },
}

/// What the first page says in words.
#[derive(Debug, Arbitrary)]
enum Text {
    None,
    ImageJ { images: Option<u16>, channels: Option<u8>, slices: Option<u8>, frames: Option<u8> },
    Tifffile { shape: Vec<u16>, axes: Option<[u8; 4]> },
    Ome { sizes: [u8; 3], order: u8, samples: u8, places: Vec<(u8, u8, Option<u8>)> },
    Other(String),
}

const KNOWN: [u16; 31] = [
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 284, 292, 293, 296, 317, 320, 322, 323,
    324, 325, 338, 339, 32_997, 32_998, 33_628, 33_629,
];

/// A field: its type, and the values that it has.
#[derive(Clone)]
struct Field {
    kind: u16,
    values: Vec<u64>,
    count: Option<u64>,
}

impl File {
    pub fn size(&self) -> [usize; 3] {
        [usize::from(self.pages % 4) + 1, usize::from(self.height % 40) + 1, usize::from(self.width % 40) + 1]
    }

    /// Samples of a pixel, and how many of them lie together.
    pub fn channels(&self) -> [usize; 2] {
        let samples = usize::from(self.kind.samples % 4) + 1;
        [samples, if self.kind.planar { 1 } else { samples }]
    }

    fn bytes_of_sample(&self) -> usize {
        match self.kind.stored {
            Stored::U8 => 1,
            Stored::U16 => 2,
            Stored::F32 => 4,
        }
    }

    /// The value of a sample: small, whole, and another one for each.
    pub fn value(&self, page: usize, row: usize, column: usize, channel: usize) -> u8 {
        (page * 89 + row * 31 + column * 7 + channel * 53 + usize::from(self.seed)) as u8
    }

    /// The bytes of a chunk, which begins at a row and column and holds samples of the channels from `first`.
    fn chunk(&self, page: usize, [top, left]: [usize; 2], [rows, columns]: [usize; 2], first: usize) -> Vec<u8> {
        let ([_, height, width], [_, together]) = (self.size(), self.channels());
        let mut bytes = Vec::new();
        for (row, column) in (top..top + rows).flat_map(|row| (left..left + columns).map(move |column| (row, column))) {
            for channel in first..first + together {
                let is_inside = row < height && column < width;
                let value = if is_inside { self.value(page, row, column, channel) } else { 0 };
                match (self.kind.stored, self.big_endian) {
                    (Stored::U8, _) => bytes.push(value),
                    (Stored::U16, true) => bytes.extend(u16::from(value).to_be_bytes()),
                    (Stored::U16, false) => bytes.extend(u16::from(value).to_le_bytes()),
                    (Stored::F32, true) => bytes.extend(f32::from(value).to_be_bytes()),
                    (Stored::F32, false) => bytes.extend(f32::from(value).to_le_bytes()),
                }
            }
        }
        if self.kind.is_packed { pack_bits(&bytes) } else { bytes }
    }

    /// The chunks of a page.
    fn chunks(&self, page: usize) -> Vec<Vec<u8>> {
        let ([_, height, width], [samples, together]) = (self.size(), self.channels());
        let (size, is_tiled) = match self.kind.layout {
            Layout::Strips { rows } => ([usize::from(rows).clamp(1, height), width], false),
            Layout::Tiles { across, down } => {
                ([16 * (usize::from(down % 3) + 1), 16 * (usize::from(across % 3) + 1)], true)
            }
        };
        let mut chunks = Vec::new();
        for first in (0..samples).step_by(together) {
            for top in (0..height).step_by(size[0]) {
                for left in (0..width).step_by(size[1]) {
                    let rows = if is_tiled { size[0] } else { size[0].min(height - top) };
                    chunks.push(self.chunk(page, [top, left], [rows, size[1]], first));
                }
            }
        }
        chunks
    }

    /// The fields of a page whose chunks begin at these offsets.
    fn fields(&self, page: usize, chunks: &[Vec<u8>], offsets: Vec<u64>) -> BTreeMap<u16, Field> {
        let ([_, height, width], [samples, _]) = (self.size(), self.channels());
        let field = |kind: u16, values: Vec<u64>| Field { kind, values, count: None };
        let one = |value: usize| field(4, vec![value as u64]);
        let is_float = matches!(self.kind.stored, Stored::F32);
        let mut fields = BTreeMap::from([
            (256, one(width)),
            (257, one(height)),
            (258, field(3, vec![8 * self.bytes_of_sample() as u64; samples])),
            (259, one(if self.kind.is_packed { 32_773 } else { 1 })),
            (262, one(1)),
            (277, one(samples)),
            (284, one(if self.kind.planar { 2 } else { 1 })),
            (339, field(3, vec![if is_float { 3 } else { 1 }; samples])),
        ]);
        let counts = field(4, chunks.iter().map(|chunk| chunk.len() as u64).collect());
        match self.kind.layout {
            Layout::Strips { rows } => {
                let rows = usize::from(rows).clamp(1, height);
                fields.extend([(273, field(4, offsets)), (278, one(rows)), (279, counts)]);
            }
            Layout::Tiles { across, down } => {
                let side = |number: u8| one(16 * (usize::from(number % 3) + 1));
                fields.extend([(322, side(across)), (323, side(down)), (324, field(4, offsets)), (325, counts)]);
            }
        }
        if let (0, Some(text)) = (page, self.text.words()) {
            fields.insert(270, field(2, text.bytes().map(u64::from).chain([0]).collect()));
        }
        for change in self.changes.iter().filter(|change| usize::from(change.page) % self.size()[0] == page) {
            change.make(&mut fields);
        }
        fields
    }

    pub fn is_changed(&self) -> bool {
        !self.changes.is_empty() || self.back.is_some() || !matches!(self.text, Text::None)
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Output { bytes: Vec::new(), big_endian: self.big_endian, big_tiff: self.big_tiff };
        out.bytes.extend(if self.big_endian { b"MM" } else { b"II" });
        out.number(if self.big_tiff { 43 } else { 42 }, 2);
        if self.big_tiff {
            out.number(8, 2);
            out.number(0, 2);
        }
        let mut next = out.bytes.len();
        out.word(0);
        let mut starts = Vec::new();
        for page in 0..self.size()[0] {
            let chunks = self.chunks(page);
            let mut offsets = Vec::new();
            for chunk in &chunks {
                offsets.push(out.bytes.len() as u64);
                out.bytes.extend(chunk);
            }
            let fields = self.fields(page, &chunks, offsets);
            starts.push(out.bytes.len() as u64);
            out.put(next, out.bytes.len() as u64);
            next = out.directory(&fields);
        }
        if let Some(&start) = self.back.and_then(|back| starts.get(usize::from(back))) {
            out.put(next, start);
        }
        out.bytes
    }
}

impl Change {
    fn make(&self, fields: &mut BTreeMap<u16, Field>) {
        let tag = match self.tag {
            Tag::Known(index) => KNOWN[usize::from(index) % KNOWN.len()],
            Tag::Any(tag) => tag,
        };
        let types = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 16, 17];
        let new = || Field { kind: 4, values: vec![1], count: None };
        let field = match &self.what {
            What::Removed => {
                fields.remove(&tag);
                return;
            }
            What::New { kind, values } => Field {
                kind: types[usize::from(*kind) % types.len()],
                values: values.iter().take(64).map(|&value| value.into()).collect(),
                count: None,
            },
            What::Value(value) => {
                Field { values: vec![u64::from(*value)], ..fields.get(&tag).cloned().unwrap_or_else(new) }
            }
            What::Type(kind) => Field { kind: u16::from(*kind), ..fields.get(&tag).cloned().unwrap_or_else(new) },
            What::Count(count) => {
                Field { count: Some(u64::from(*count)), ..fields.get(&tag).cloned().unwrap_or_else(new) }
            }
        };
        fields.insert(tag, field);
    }
}

impl Text {
    fn words(&self) -> Option<String> {
        Some(match self {
            Text::None => return None,
            Text::ImageJ { images, channels, slices, frames } => {
                let numbers = [
                    ("images", *images),
                    ("channels", channels.map(u16::from)),
                    ("slices", slices.map(u16::from)),
                    ("frames", frames.map(u16::from)),
                ];
                let lines = numbers.iter().filter_map(|(name, number)| Some(format!("{name}={}\n", (*number)?)));
                format!("ImageJ=1.54f\n{}hyperstack=true\n", lines.collect::<String>())
            }
            Text::Tifffile { shape, axes } => {
                let shape: Vec<u16> = shape.iter().take(6).copied().collect();
                let letter = |index: &u8| ['C', 'Z', 'T', 'Y', 'X', 'S'][usize::from(*index) % 6];
                let axes = axes.map(|axes| format!(", \"axes\": \"{}\"", axes.iter().map(letter).collect::<String>()));
                format!("{{\"shape\": {shape:?}{}}}", axes.unwrap_or_default())
            }
            Text::Ome { sizes: [c, z, t], order, samples, places } => {
                let order = ["XYCZT", "XYZCT", "XYTZC", "XYQZT"][usize::from(*order) % 4];
                let place = |(directory, planes, first): &(u8, u8, Option<u8>)| {
                    let first = first.map_or_else(String::new, |first| format!(" FirstZ=\"{first}\""));
                    format!("<TiffData IFD=\"{directory}\" PlaneCount=\"{planes}\"{first}/>")
                };
                let places: String = places.iter().take(8).map(place).collect();
                format!(
                    "<?xml version=\"1.0\"?><OME><Image><Pixels DimensionOrder=\"{order}\" SizeC=\"{c}\" SizeZ=\"{z}\" \
                     SizeT=\"{t}\"><Channel SamplesPerPixel=\"{samples}\"/>{places}</Pixels></Image></OME>"
                )
            }
            Text::Other(text) => text.clone(),
        })
    }
}

struct Output {
    bytes: Vec<u8>,
    big_endian: bool,
    big_tiff: bool,
}

impl Output {
    fn encode(&self, value: u64, size: usize) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes()[8 - size..].to_vec() } else { value.to_le_bytes()[..size].to_vec() }
    }

    fn number(&mut self, value: u64, size: usize) {
        let bytes = self.encode(value, size);
        self.bytes.extend(bytes);
    }

    fn word(&mut self, value: u64) {
        self.number(value, if self.big_tiff { 8 } else { 4 });
    }

    fn put(&mut self, at: usize, value: u64) {
        let bytes = self.encode(value, if self.big_tiff { 8 } else { 4 });
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    /// Writes a directory with its tables behind it; gives the place of the offset of the next one.
    fn directory(&mut self, fields: &BTreeMap<u16, Field>) -> usize {
        let (head, size, word) = if self.big_tiff { (8, 20, 8) } else { (2, 12, 4) };
        let mut table = self.bytes.len() + head + fields.len() * size + word;
        self.number(fields.len() as u64, head);
        let mut tables = Vec::new();
        for (tag, field) in fields {
            let bytes_of_value = match field.kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                5 | 10 | 12 | 16 | 17 | 18 => 8,
                _ => 4,
            };
            let values: Vec<u8> = field.values.iter().flat_map(|&value| self.encode(value, bytes_of_value)).collect();
            self.number(u64::from(*tag), 2);
            self.number(u64::from(field.kind), 2);
            self.word(field.count.unwrap_or(field.values.len() as u64));
            if values.len() <= word {
                let mut inline = values;
                inline.resize(word, 0);
                self.bytes.extend(inline);
            } else {
                self.word(table as u64);
                table += values.len();
                tables.extend(values);
            }
        }
        let next = self.bytes.len();
        self.word(0);
        self.bytes.extend(tables);
        next
    }
}

/// Runs of literal bytes.
fn pack_bits(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(128).flat_map(|run| std::iter::once(run.len() as u8 - 1).chain(run.iter().copied())).collect()
}
