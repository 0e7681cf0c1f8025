//! Checks the JPEG stream of a strip or tile before the decoder sees it, and leaves out what no sample depends on.
//!
//! The decoder takes memory by what the stream says of its size, fills a stream that ends too soon with grey, and
//! looks for more images in private segments. So it gets one frame of the size that was checked, with its tables, and
//! an end.
//! Source: ITU-T T.81 annex B; TIFF Technical Note 2. Not here: decoding (`decode`).

use super::Fault;

const SOF_BASELINE: u8 = 0xc0;
const SOF_EXTENDED: u8 = 0xc1;
const SOF_PROGRESSIVE: u8 = 0xc2;
const DHT: u8 = 0xc4;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const COMMENT: u8 = 0xfe;

/// What the stream of a strip or tile must hold.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub width: usize,
    /// Rows that are needed, and rows that a strip or tile has unless it is cut at the end of the page.
    pub rows: usize,
    pub full_rows: usize,
    pub components: usize,
}

/// One stream of `tables`, which strips share and can be empty, and the `stream` of a strip or tile.
pub fn join(tables: &[u8], stream: &[u8], frame: Frame) -> Result<Vec<u8>, Fault> {
    let mut joined = Vec::new();
    joined.try_reserve_exact(tables.len() + stream.len()).map_err(|_| Fault::memory(stream.len() as u64))?;
    joined.extend([0xff, SOI]);
    if !tables.is_empty() {
        for segment in Segments::of(tables)? {
            let (marker, bytes) = segment?;
            match marker {
                SOF_BASELINE..=SOF_PROGRESSIVE | SOS => {
                    return Err(Fault::damaged("an image in its JPEG tables, expected tables alone"));
                }
                _ => copy_tables(&mut joined, marker, bytes)?,
            }
        }
    }
    let (mut frames, mut scans) = (0, 0);
    for segment in Segments::of(stream)? {
        let (marker, bytes) = segment?;
        match marker {
            SOF_BASELINE | SOF_EXTENDED => {
                check_frame(bytes, frame)?;
                frames += 1;
                copy(&mut joined, marker, bytes);
            }
            SOF_PROGRESSIVE => {
                return Err(Fault::unsupported(
                    "progressive JPEG, expected sequential JPEG",
                    "save the stack uncompressed or with Deflate",
                ));
            }
            SOS => {
                scans += 1;
                copy(&mut joined, marker, bytes);
            }
            _ => copy_tables(&mut joined, marker, bytes)?,
        }
        if frames > 1 || scans > frame.components || (scans > 0 && frames == 0) {
            break;
        }
    }
    // Each scan takes the time of the whole image, however short it is.
    if frames != 1 || !(1..=frame.components).contains(&scans) {
        return Err(Fault::damaged(format!(
            "{frames} frames and {scans} scans in its JPEG stream, expected 1 frame and 1 to {} scans",
            frame.components
        )));
    }
    joined.extend([0xff, EOI]);
    Ok(joined)
}

fn copy(to: &mut Vec<u8>, marker: u8, bytes: &[u8]) {
    to.extend([0xff, marker]);
    to.extend_from_slice(bytes);
}

/// Copies a segment that samples depend on; leaves private ones and comments out.
fn copy_tables(to: &mut Vec<u8>, marker: u8, bytes: &[u8]) -> Result<(), Fault> {
    match marker {
        DHT | DQT | DRI => copy(to, marker, bytes),
        0xe0..=0xef | COMMENT => {}
        other => {
            return Err(Fault::damaged(format!("JPEG marker {other:#04x}, expected one of sequential JPEG")));
        }
    }
    Ok(())
}

/// Checks a frame header: length, precision, rows, columns, and 3 bytes for each component.
fn check_frame(bytes: &[u8], frame: Frame) -> Result<(), Fault> {
    let &[_, _, bits, y1, y0, x1, x0, components, ref rest @ ..] = bytes else {
        return Err(Fault::damaged("a JPEG frame header that ends too soon"));
    };
    let rows = usize::from(u16::from_be_bytes([y1, y0]));
    let columns = usize::from(u16::from_be_bytes([x1, x0]));
    let components = usize::from(components);
    let fits = columns == frame.width && (frame.rows..=frame.full_rows).contains(&rows);
    if bits != 8 || !fits || components != frame.components || rest.len() != 3 * components {
        return Err(Fault::damaged(format!(
            "a JPEG frame of {columns} x {rows} pixels with {components} samples of {bits} bits, \
             expected {} x {} with {} of 8 bits",
            frame.width, frame.full_rows, frame.components
        )));
    }
    if rest.chunks_exact(3).any(|component| component[1] != 0x11) {
        return Err(Fault::unsupported(
            "JPEG with subsampling, expected every sample at full resolution",
            "save the stack uncompressed or with Deflate",
        ));
    }
    Ok(())
}

/// The segments of a stream from its start (SOI) to its end (EOI), both left out. Each is a marker and the bytes from
/// its length on, for SOS with the entropy-coded data.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Result<Segments<'a>, Fault> {
        if !bytes.starts_with(&[0xff, SOI]) {
            return Err(Fault::damaged("no JPEG stream where one is announced"));
        }
        Ok(Segments { bytes, at: 2 })
    }

    /// The next segment; `None` at EOI.
    fn segment(&mut self) -> Option<Result<(u8, &'a [u8]), Fault>> {
        let short = || Some(Err(Fault::damaged("its JPEG stream ends too soon")));
        if self.bytes.get(self.at).is_some_and(|&byte| byte != 0xff) {
            return Some(Err(Fault::damaged("bytes between JPEG segments, expected none")));
        }
        // More bytes 0xff before a marker are padding.
        let Some(start) = self.bytes[self.at..].iter().position(|&byte| byte != 0xff) else { return short() };
        let marker = self.bytes[self.at + start];
        let from = self.at + start + 1;
        if marker == EOI {
            return None;
        }
        let Some(&[high, low]) = self.bytes.get(from..from + 2) else { return short() };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut end = from + length;
        if length < 2 || end > self.bytes.len() {
            return short();
        }
        if marker == SOS {
            // In entropy-coded data 0xff comes before 0 or is a restart marker.
            let ends = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
            let Some(data) = self.bytes[end..].windows(2).position(ends) else { return short() };
            end += data;
        }
        self.at = end;
        Some(Ok((marker, &self.bytes[from..end])))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(u8, &'a [u8]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.segment()
    }
}
