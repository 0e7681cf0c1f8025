//! A baseline JPEG encoder (ITU-T T.81), for previews of noisy pictures that PNG would make four times as large.
//!
//! Grey, or colour without subsampling. All components share the luminance tables of the standard's annex K. C
//! components.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

/// Quantisation steps of annex K.1 at quality 50, in the order in which coefficients are written.
const STEPS: [u16; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61,
    60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113,
    121, 112, 100, 120, 92, 101, 103, 99,
];
/// Annex K.3: how many codes have 1 to 16 bits, and their symbols.
const DC_COUNTS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const AC_COUNTS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];
const AC_SYMBOLS: [u8; 162] = [
    1, 2, 3, 0, 4, 17, 5, 18, 33, 49, 65, 6, 19, 81, 97, 7, 34, 113, 20, 50, 129, 145, 161, 8, 35, 66, 177, 193, 21,
    82, 209, 240, 36, 51, 98, 114, 130, 9, 10, 22, 23, 24, 25, 26, 37, 38, 39, 40, 41, 42, 52, 53, 54, 55, 56, 57, 58,
    67, 68, 69, 70, 71, 72, 73, 74, 83, 84, 85, 86, 87, 88, 89, 90, 99, 100, 101, 102, 103, 104, 105, 106, 115, 116,
    117, 118, 119, 120, 121, 122, 131, 132, 133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154,
    162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184, 185, 186, 194, 195, 196, 197, 198,
    199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234,
    241, 242, 243, 244, 245, 246, 247, 248, 249, 250,
];
/// A run of 16 zeros, and the end of a block.
const ZEROS: u8 = 0xf0;
const END: u8 = 0;

/// Grey levels, or interleaved RGB, row after row.
pub struct Picture<'a> {
    pub width: usize,
    pub height: usize,
    pub samples: &'a [u8],
}

/// Encodes a picture of at most 65,535 pixels a side. `quality` is that of libjpeg, 50 to 100.
pub fn encode(picture: &Picture<'_>, quality: u16) -> Vec<u8> {
    let Picture { width, height, samples } = *picture;
    let components = samples.len() / (width * height);
    let steps = STEPS.map(|step| ((step * (200 - 2 * quality) + 50) / 100).clamp(1, 255));
    let planes = planes(samples, components);
    let mut bits = Bits { bytes: header(picture, components, &steps), pending: 0, count: 0 };
    let tables = [codes(&DC_COUNTS, &DC_SYMBOLS), codes(&AC_COUNTS, &AC_SYMBOLS)];
    let (cosines, order) = (cosines(), zigzag());
    let mut previous = vec![0; components];
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            for (plane, previous) in planes.iter().zip(&mut previous) {
                let block = transform(&block(plane, [width, height], [left, top]), &cosines);
                let level = |at: usize| (block[order[at]] / f32::from(steps[at])).round() as i32;
                bits.put_block(&std::array::from_fn(level), previous, &tables);
            }
        }
    }
    bits.finish()
}

/// The samples around 0, one plane for each component: grey, or luminance and two differences of colour.
fn planes(samples: &[u8], components: usize) -> Vec<Vec<f32>> {
    if components == 1 {
        return vec![samples.iter().map(|&sample| f32::from(sample) - 128.0).collect()];
    }
    let weights = [[0.299, 0.587, 0.114], [-0.168_736, -0.331_264, 0.5], [0.5, -0.418_688, -0.081_312]];
    let plane = |index: usize| {
        let shift = if index == 0 { 128.0 } else { 0.0 };
        let value = |pixel: &[u8]| {
            pixel.iter().zip(weights[index]).map(|(&sample, weight)| f32::from(sample) * weight).sum::<f32>() - shift
        };
        samples.chunks_exact(3).map(value).collect()
    };
    (0..3).map(plane).collect()
}

/// Eight by eight samples; those beyond the edge repeat the last ones.
fn block(plane: &[f32], [width, height]: [usize; 2], [left, top]: [usize; 2]) -> [f32; 64] {
    std::array::from_fn(|at| plane[(top + at / 8).min(height - 1) * width + (left + at % 8).min(width - 1)])
}

/// `[frequency][place]` of the one-dimensional transform.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|frequency| {
        let scale = if frequency == 0 { 0.5 * FRAC_1_SQRT_2 } else { 0.5 };
        std::array::from_fn(|place| scale * ((2 * place + 1) as f32 * frequency as f32 * PI / 16.0).cos())
    })
}

/// The discrete cosine transform: coefficients, row after row.
fn transform(block: &[f32; 64], cosines: &[[f32; 8]; 8]) -> [f32; 64] {
    let sum = |values: &[f32; 64], start: usize, stride: usize, frequency: usize| -> f32 {
        (0..8).map(|place| values[start + place * stride] * cosines[frequency][place]).sum()
    };
    let rows: [f32; 64] = std::array::from_fn(|at| sum(block, at / 8 * 8, 1, at % 8));
    std::array::from_fn(|at| sum(&rows, at % 8, 8, at / 8))
}

/// Where in a block of rows each written coefficient is: from corner to corner along the diagonals.
fn zigzag() -> [usize; 64] {
    let mut places: Vec<(usize, usize)> = (0..8).flat_map(|y| (0..8).map(move |x| (y, x))).collect();
    places.sort_by_key(|&(y, x)| (y + x, if (y + x) % 2 == 0 { x } else { y }));
    std::array::from_fn(|at| 8 * places[at].0 + places[at].1)
}

/// Code and number of bits of each symbol.
fn codes(counts: &[u8; 16], symbols: &[u8]) -> [(u16, u8); 256] {
    let mut table = [(0, 0); 256];
    let (mut code, mut next) = (0, symbols.iter());
    for (length, &count) in (1..).zip(counts) {
        for &symbol in next.by_ref().take(usize::from(count)) {
            table[usize::from(symbol)] = (code, length);
            code += 1;
        }
        code <<= 1;
    }
    table
}

/// All that comes before the bits.
fn header(picture: &Picture<'_>, components: usize, steps: &[u16; 64]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, body: &[u8]| {
        bytes.extend([0xff, marker]);
        bytes.extend((body.len() as u16 + 2).to_be_bytes());
        bytes.extend(body);
    };
    segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    segment(0xdb, &[&[0][..], &steps.map(|step| step as u8)].concat());
    let [[high, low], [wide, narrow]] = [picture.height, picture.width].map(|side| (side as u16).to_be_bytes());
    let mut frame = vec![8, high, low, wide, narrow, components as u8];
    let mut scan = vec![components as u8];
    for component in 1..=components as u8 {
        frame.extend([component, 0x11, 0]);
        scan.extend([component, 0]);
    }
    segment(0xc0, &frame);
    segment(0xc4, &[&[0][..], &DC_COUNTS, &DC_SYMBOLS].concat());
    segment(0xc4, &[&[0x10][..], &AC_COUNTS, &AC_SYMBOLS].concat());
    scan.extend([0, 63, 0]);
    segment(0xda, &scan);
    bytes
}

/// What is written bit by bit, the highest first.
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    /// `length` is at most 16.
    fn put(&mut self, code: u16, length: u8) {
        self.pending = self.pending << length | u32::from(code);
        self.count += u32::from(length);
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.pending >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                // Else a decoder took it for a marker.
                self.bytes.push(0);
            }
        }
        self.pending &= (1 << self.count) - 1;
    }

    /// A symbol that ends with the number of bits of `value`, and these bits.
    fn put_value(&mut self, run: u8, value: i32, table: &[(u16, u8); 256]) {
        let length = (32 - value.unsigned_abs().leading_zeros()) as u8;
        let (code, bits) = table[usize::from(run << 4 | length)];
        self.put(code, bits);
        let own = if value < 0 { value + (1 << length) - 1 } else { value };
        self.put(own as u16, length);
    }

    fn put_block(&mut self, levels: &[i32; 64], previous: &mut i32, [dc, ac]: &[[(u16, u8); 256]; 2]) {
        self.put_value(0, levels[0] - *previous, dc);
        *previous = levels[0];
        let last = levels.iter().rposition(|&level| level != 0).unwrap_or(0);
        let mut run = 0;
        for &level in &levels[1..=last] {
            if level == 0 {
                run += 1;
                continue;
            }
            for _ in 0..run / 16 {
                let (code, bits) = ac[usize::from(ZEROS)];
                self.put(code, bits);
            }
            self.put_value(run % 16, level, ac);
            run = 0;
        }
        if last < 63 {
            let (code, bits) = ac[usize::from(END)];
            self.put(code, bits);
        }
    }

    /// Fills the last byte with ones.
    fn finish(mut self) -> Vec<u8> {
        self.put(0x7f, 7);
        self.bytes.extend([0xff, 0xd9]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zune_core::bytestream::ZCursor;
    use zune_core::colorspace::ColorSpace;
    use zune_core::options::DecoderOptions;
    use zune_jpeg::JpegDecoder;

    fn decoded(bytes: &[u8], colour: ColorSpace) -> (usize, usize, Vec<u8>) {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(colour);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let samples = decoder.decode().unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        (width, height, samples)
    }

    /// Waves of all frequencies with levels from black to white, on sides that are no multiples of 8.
    #[test]
    fn another_decoder_reads_what_was_written() {
        let (width, height) = (45, 30);
        for components in [1, 3] {
            let wave = |at: usize| {
                let (x, y, plane) = (at / components % width, at / components / width, at % components);
                let phase = (x * (3 + plane) + y * y) as f64 / 17.0;
                (127.5 + 127.5 * phase.sin()).round() as u8
            };
            let samples: Vec<u8> = (0..width * height * components).map(wave).collect();
            let bytes = encode(&Picture { width, height, samples: &samples }, 95);
            let colour = if components == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
            let (found_width, found_height, found) = decoded(&bytes, colour);
            assert_eq!((found_width, found_height, found.len()), (width, height, samples.len()));
            let errors = found.iter().zip(&samples).map(|(left, right)| f64::from(left.abs_diff(*right)).powi(2));
            let deviation = (errors.sum::<f64>() / samples.len() as f64).sqrt();
            assert!(deviation < 3.0, "{components} components: {deviation}");
        }
    }

    #[test]
    fn flat_pictures_keep_their_level_and_take_little_room() {
        for level in [0, 100, 255] {
            let samples = vec![level; 512 * 512];
            let bytes = encode(&Picture { width: 512, height: 512, samples: &samples }, 80);
            assert!(bytes.len() < 4096 + 1024, "{}", bytes.len());
            let (_, _, found) = decoded(&bytes, ColorSpace::Luma);
            assert!(found.iter().all(|&sample| sample.abs_diff(level) <= 1), "{level}: {}", found[0]);
        }
    }

    /// The order of T.81, figure A.6.
    #[test]
    fn coefficients_are_written_from_corner_to_corner() {
        let order = zigzag();
        assert_eq!(order[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(order[56..], [53, 60, 61, 54, 47, 55, 62, 63]);
    }
}
