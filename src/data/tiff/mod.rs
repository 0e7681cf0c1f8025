//! Multi-page TIFF stacks to and from memory.
//!
//! Source: TIFF 6.0, the BigTIFF extension and ImageJ's `ImageDescription` text; samples are decoded
//! and encoded by the `tiff` crate. `page` checks all pages of a file before memory is taken for
//! them, by way of `directory`, `pixel`, `format`, `compression` and `chunks`; `planes` finds what texts
//! (`description`) promise beyond them, and `set` what OME-XML (`ome`) places in other files; `read` shows the planes
//! one by one, as `decode` gives them; `write` streams pages to a file.
//! Not here: scaling of values, tensors, what channels mean.
//!
//! Pages, rows and columns count from 0 everywhere, in messages too.

mod chunks;
mod compression;
mod decode;
mod description;
mod directory;
mod fax;
mod format;
mod jpeg;
mod ome;
mod page;
mod pixel;
mod planes;
mod read;
mod sample;
mod set;
mod stand_in;
#[cfg(test)]
mod tests;
mod window;
mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use crate::data::samples::{SampleFormat, Samples};

pub use directory::orientation_of_exif;
pub use read::StackReader;
pub use write::{SampleKind, StackWriter};

/// Physical pixel size as the file gives it: carried from a stack to the files made from it, and compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// Pixels per unit as numerator and denominator, neither of them 0: XResolution, YResolution.
    x: (u32, u32),
    y: (u32, u32),
    /// ResolutionUnit: 1 none (or the ImageJ unit), 2 inch, 3 centimetre.
    unit: u16,
    /// ImageJ's unit, such as `micron`; printable ASCII.
    imagej_unit: Option<String>,
    /// ImageJ's distance between pages, in that unit; above 0.
    spacing: Option<f64>,
}

impl Resolution {
    /// Height and width of a pixel in nm; `None` where the unit is not one of length, or the inch of printers.
    pub fn pixel_nm(&self) -> Option<[f64; 2]> {
        let nm = match (self.imagej_unit.as_deref(), self.unit) {
            (Some("nm" | "nanometer"), _) => 1.0,
            // ImageJ writes the Greek letter as an escape.
            (Some("um" | "micron" | "microns" | "micrometer" | "\\u00B5m"), _) => 1e3,
            (Some("mm"), _) => 1e6,
            (Some("cm"), _) | (None, 3) => 1e7,
            _ => return None,
        };
        let side = |(pixels, units): (u32, u32)| nm * f64::from(units) / f64::from(pixels);
        Some([side(self.y), side(self.x)])
    }

    /// The unit as ImageJ wants it in its text, beside which it does not look at ResolutionUnit. As there, 72 dots per
    /// inch mean that nothing is known.
    fn unit_name(&self) -> Option<&str> {
        match (&self.imagej_unit, self.unit) {
            (Some(unit), _) => Some(unit),
            (None, 2) if self.x.0 != 72 * self.x.1 => Some("inch"),
            (None, 3) => Some("cm"),
            (None, _) => None,
        }
    }
}

/// Why a stack could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TiffError {
    /// The operating system does not open the file.
    #[error("cannot open '{}': {cause}; check the path and its permissions", path.display())]
    Open { path: PathBuf, cause: io::Error },
    /// The file is damaged, or is not a stack that this program takes.
    #[error("cannot read '{}'{}: {problem}; {advice}", path.display(), OnPage(*page))]
    Read { path: PathBuf, page: Option<usize>, problem: String, advice: &'static str },
    /// The operating system does not take the file.
    #[error("cannot write '{}': {cause}; check the folder, its permissions and the free space", path.display())]
    Write { path: PathBuf, cause: io::Error },
    /// The pages given to the writer are not those announced to it.
    #[error("cannot write '{}'{}: {problem}; {advice}", path.display(), OnPage(*page))]
    Page { path: PathBuf, page: Option<usize>, problem: String, advice: &'static str },
}

/// The page part of a message; nothing for the file as a whole.
struct OnPage(Option<usize>);

impl fmt::Display for OnPage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(page) => write!(f, " page {page} (first is 0)"),
            None => Ok(()),
        }
    }
}

/// A [`TiffError::Read`] that does not know its file yet.
#[derive(Debug)]
struct Fault {
    page: Option<usize>,
    problem: String,
    advice: &'static str,
}

impl Fault {
    const COPY: &'static str = "the file is damaged or cut short, copy or export it again";

    /// The file contradicts itself, or ends too soon.
    fn damaged(problem: impl Into<String>) -> Fault {
        Fault { page: None, problem: problem.into(), advice: Fault::COPY }
    }

    /// The file is sound, but not what this program takes.
    fn unsupported(problem: impl Into<String>, advice: &'static str) -> Fault {
        Fault { page: None, problem: problem.into(), advice }
    }

    fn memory(bytes: u64) -> Fault {
        Fault::unsupported(
            format!("{bytes} bytes of memory could not be reserved"),
            "use a smaller stack or a machine with more memory",
        )
    }

    fn on_page(self, page: usize) -> Fault {
        Fault { page: Some(page), ..self }
    }

    /// In another file of the stack.
    fn within(self, name: &str) -> Fault {
        let page = self.page.map(|page| format!(" page {page}")).unwrap_or_default();
        Fault { page: None, problem: format!("'{name}'{page}: {}", self.problem), ..self }
    }

    fn in_file(self, path: &Path) -> TiffError {
        TiffError::Read { path: path.to_owned(), page: self.page, problem: self.problem, advice: self.advice }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::damaged("the file ends too soon"),
            _ => Fault::unsupported(error.to_string(), "check the disk and its permissions"),
        }
    }
}

/// `row 3, column 7` of a sample of a page `[H, W, C]` that is not finite, with its value, and its channel if there are
/// several; `None` if all are finite.
fn find_non_finite(page: &[f32], width: usize, channels: usize) -> Option<String> {
    let at = page.iter().position(|sample| !sample.is_finite())?;
    let others = page[at + 1..].iter().filter(|sample| !sample.is_finite()).count();
    let (pixel, channel, value) = (at / channels, at % channels, page[at]);
    let (row, column) = (pixel / width, pixel % width);
    let channel = if channels > 1 { format!(", channel {channel}") } else { String::new() };
    let others = if others > 0 { format!(" (and {others} more of {})", page.len()) } else { String::new() };
    Some(format!("{value} at row {row}, column {column}{channel}{others}, expected a finite number"))
}
