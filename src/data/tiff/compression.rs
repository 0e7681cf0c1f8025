//! How the strips or tiles of a page are compressed, and to how much their bytes can expand.
//!
//! Source: TIFF 6.0 sections 9, 13 and 14, Technical Note 2 (JPEG), the list of libtiff's `tiff.h`; RFC 8878.
//! Not here: the check of a JPEG stream (`jpeg`), decoding (`decode`).

use std::io::{Read, Seek};

use super::Fault;
use super::directory::Scanner;
use super::fax::Coding;
use super::format::Stored;
use super::pixel::Pixel;

const COMPRESSION: u16 = 259;
const FILL_ORDER: u16 = 266;
const PREDICTOR: u16 = 317;
const JPEG_TABLES: u16 = 347;

pub const LZW: u64 = 5;
pub const JPEG: u64 = 7;
/// Upper bound of tables that JPEG strips share, in bytes: four quantization and eight Huffman tables take some 3000.
const MAX_JPEG_TABLES: u64 = 8192;

/// A compression that can be decoded.
#[derive(Debug)]
pub struct Compression {
    /// As in the file; 1 is none.
    pub code: u64,
    /// How many bytes of samples a stored byte can stand for at most; 1 if nothing is compressed.
    pub ratio: u64,
    /// 1 none, 2 horizontal, 3 floating point.
    pub predictor: u64,
    /// How rows are coded as by fax.
    pub fax: Option<Coding>,
    /// Whether the bits of each byte are in reversed order, as in some faxes.
    pub reversed: bool,
    /// What the streams of all strips or tiles share, if they are JPEG.
    pub jpeg_tables: Vec<u8>,
}

impl Compression {
    /// Reads and checks the compression of the current directory.
    pub fn read(scanner: &mut Scanner<impl Read + Seek>, stored: Stored, pixel: &Pixel) -> Result<Compression, Fault> {
        let code = scanner.integer(COMPRESSION)?.unwrap_or(1);
        let (name, ratio) = match code {
            1 => ("none", 1),
            // A bit stands for a blank row that is like the one above: as long as rows of 16,384 pixels.
            2..=4 => ("fax", 16384),
            // 12 bits stand for a string of at most 3837 bytes: each table entry adds one byte.
            LZW => ("LZW", 2560),
            // 2 bits stand for 258 bytes.
            8 | 32946 => ("Deflate", 1032),
            // 2 bytes stand for 128 bytes.
            32773 => ("PackBits", 64),
            // A block of 3 bytes of header and 1 byte that is repeated stands for at most 128 KiB.
            50000 => ("Zstandard", 32768),
            // A block of 8 x 8 samples takes at least 2 bits, one each for the codes "same mean as the last block" and
            // "the rest is 0": sequential streams without subsampling, which alone are read.
            JPEG => ("JPEG", 256),
            other => return Err(unsupported(other)),
        };
        let fax = if name == "fax" { Some(Coding::read(scanner, code)?) } else { None };
        if fax.is_some() && (stored != Stored::Bits(1) || pixel.samples_together() != 1) {
            return Err(Fault::unsupported(
                format!("{} samples in fax codes, expected one of 1 bit for each pixel", stored.name()),
                "save the stack uncompressed or with Deflate",
            ));
        }
        let reversed = !matches!(scanner.integer(FILL_ORDER)?, None | Some(1));
        if reversed && fax.is_none() {
            return Err(Fault::unsupported(
                "fill order 2 (reversed bits), expected 1",
                "save the stack again with another program",
            ));
        }
        let predictor = scanner.integer(PREDICTOR)?.unwrap_or(1);
        match (predictor, name) {
            (1, _) => {}
            (2, "LZW" | "Deflate" | "Zstandard") if !matches!(stored, Stored::Bits(_)) => {}
            (3, "LZW" | "Deflate" | "Zstandard") if matches!(stored, Stored::F32 | Stored::F64) => {}
            _ => {
                return Err(Fault::unsupported(
                    format!("predictor {predictor}, expected 1 for {} samples with compression {name}", stored.name()),
                    "save the stack without predictor",
                ));
            }
        }
        let jpeg_tables = if code == JPEG {
            check_jpeg(stored, pixel)?;
            scanner.raw(JPEG_TABLES, MAX_JPEG_TABLES)?
        } else {
            Vec::new()
        };
        Ok(Compression { code, ratio, predictor, fax, reversed, jpeg_tables })
    }
}

/// Refuses samples that JPEG cannot hold, or holds in a form of which none are known.
fn check_jpeg(stored: Stored, pixel: &Pixel) -> Result<(), Fault> {
    let problem = match (stored, pixel.samples_together()) {
        _ if pixel.palette.is_some() => "palette colour".to_string(),
        (Stored::U8, 1 | 3) => return Ok(()),
        (Stored::U8, samples) => format!("{samples} samples per pixel"),
        (other, _) => format!("{} samples", other.name()),
    };
    Err(Fault::unsupported(
        format!("{problem} with compression JPEG, expected 8-bit samples, 1 or 3 per pixel"),
        "save the stack uncompressed or with Deflate",
    ))
}

fn unsupported(code: u64) -> Fault {
    let name = match code {
        6 => "old JPEG",
        9 | 10 | 34661 => "JBIG",
        32809 => "ThunderScan",
        32908 | 32909 => "Pixar",
        33003..=33005 | 34712 => "JPEG 2000",
        34676 | 34677 => "SGI LogLuv",
        34887 => "LERC",
        34892 => "lossy JPEG of DNG",
        34925 => "LZMA",
        34933 => "PNG",
        22610 | 34934 => "JPEG XR",
        34927 | 50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        _ => "unknown",
    };
    Fault::unsupported(
        format!("compression {code} ({name}), expected none, PackBits, LZW, Deflate, Zstandard, JPEG or fax"),
        "save the stack uncompressed or with Deflate",
    )
}
