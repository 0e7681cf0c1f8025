//! The planes that a file stores: a page for each, or several in a row behind one directory.
//!
//! Writers of large stacks (ImageJ above 4 GiB, MetaMorph, tifffile's `truncate`) have one directory for all planes.
//! A text that announces more planes than are there is refused, since a stack that was cut short, or lost pages in
//! another program, looks like that. Texts that announce fewer do not matter.
//! Not here: which planes are the channels of one image (`read`), OME-XML (`ome`).

use std::io::{Read, Seek};
use std::ops::Range;

use super::chunks::Chunk;
use super::description::{Channels, Promise, could_be_slices};
use super::directory::Scanner;
use super::page::{self, Numbered, Page};
use super::{Fault, Resolution};
use crate::data::samples::orientation_note;

/// What is in one file: at least one page, all of one size, type and number of channels.
pub struct FilePages {
    /// The first page alone keeps the palette, which is that of all.
    pub pages: Vec<Numbered>,
    /// Planes that each page stands for, in a row behind its own; at least 1.
    pub planes: Vec<u64>,
    /// Directories of the file, with those left out.
    pub directories: usize,
    pub big_endian: bool,
    pub resolution: Option<Resolution>,
    /// How planes become channels, if a text says so.
    pub channels: Option<Channels>,
    /// The OME-XML of the first directory.
    pub ome: Option<String>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Bytes of the file, and of those how many belong to no page.
    length: u64,
    unclaimed: u64,
}

impl FilePages {
    /// Reads and checks all directories of a file of `length` bytes.
    pub fn read<R: Read + Seek>(reader: &mut R, length: u64) -> Result<FilePages, Fault> {
        let (mut scanner, first) = Scanner::start(reader, length)?;
        let mut promises: Vec<(usize, Promise)> = Vec::new();
        let (mut ome, mut resolution, mut slices, mut is_first) = (None, None, false, true);
        let mut orientation: Option<String> = None;
        let (pages, left_out) = page::scan(&mut scanner, first, |scanner, directory, page| {
            // Only tifffile's text says something of later directories.
            let text = if is_first { scanner.description()? } else { scanner.description_if("{\"shape\"")? };
            if std::mem::take(&mut is_first) {
                resolution = scanner.resolution(&text);
            }
            if orientation.is_none() {
                orientation = orientation_note(scanner.orientation().unwrap_or(1));
            }
            slices |= could_be_slices(&text, page);
            promises.extend(Promise::read(scanner, &text, page).map(|promise| (directory, promise)));
            if directory == 0 && is_ome(&text) {
                ome = Some(text);
            }
            Ok(())
        })?;
        let mut file = FilePages {
            planes: vec![1; pages.len()],
            directories: pages.len() + left_out,
            pages,
            big_endian: scanner.big_endian,
            resolution,
            channels: None,
            ome,
            notes: orientation.into_iter().collect(),
            length,
            unclaimed: scanner.unclaimed,
        };
        file.note(left_out, slices);
        if file.ome.is_none() {
            file.keep(promises)?;
        }
        Ok(file)
    }

    fn note(&mut self, left_out: usize, slices: bool) {
        let samples = self.pages[0].page.pixel.samples;
        if left_out > 0 {
            self.notes
                .push(format!("{left_out} page(s) left out: thumbnails, smaller versions of other pages or masks"));
        }
        if slices {
            self.notes.push(format!(
                "the {samples} planes of a page are taken for colours, as tifffile stored them; if they are slices, \
                 save the stack again with photometric='minisblack'"
            ));
        }
    }

    /// Finds the planes that were promised, each by the directory of that number.
    pub fn keep(&mut self, promises: Vec<(usize, Promise)>) -> Result<(), Fault> {
        // Left out pages promise nothing.
        let position = |directory: usize| self.pages.binary_search_by_key(&directory, |page| page.directory).ok();
        let promises: Vec<(usize, Promise)> =
            promises.into_iter().filter_map(|(directory, promise)| Some((position(directory)?, promise))).collect();
        let mut starts: Vec<u64> = self.pages.iter().map(|numbered| start(&numbered.page)).collect();
        starts.sort_unstable();
        for (number, (first, promise)) in promises.iter().enumerate() {
            let end = promises.get(number + 1).map_or(self.pages.len(), |(next, _)| *next);
            self.planes[*first] = self.in_a_row(*first..end, promise, &starts)?;
            // No overflow: planes in a row lie within the file.
            let behind = (self.planes[*first] - 1) * self.pages[*first].page.stored_bytes();
            self.unclaimed = self.unclaimed.checked_sub(behind).ok_or_else(|| {
                Fault::damaged(format!(
                    "{} planes in a row overlap other pages, expected bytes of their own",
                    self.planes[*first]
                ))
            })?;
        }
        self.channels = match &promises[..] {
            [] => None,
            [(_, promise)] => promise.channels.clone(),
            [(_, first), others @ ..] => {
                if let Some((_, other)) = others.iter().find(|(_, other)| other.channels != first.channels) {
                    let problem = format!(
                        "a series of {} planes and one of {}, whose channels differ, expected one series",
                        first.planes, other.planes
                    );
                    return Err(Fault::unsupported(problem, "save each series as a file of its own"));
                }
                let several = first.channels.clone();
                several.filter(|channels| channels.stride == 1)
            }
        };
        Ok(())
    }

    /// Where the next page begins, or the file ends.
    fn end(&self, page: &Page, starts: &[u64]) -> u64 {
        let next = starts.partition_point(|&other| other <= start(page));
        starts.get(next).map_or(self.length, |&next| next.min(self.length))
    }

    /// How many planes the first of `pages` stands for. `starts`: where all pages begin, in ascending order.
    fn in_a_row(&self, pages: Range<usize>, promise: &Promise, starts: &[u64]) -> Result<u64, Fault> {
        let there = pages.len() as u64;
        if there >= promise.planes {
            return Ok(1);
        }
        let first = &self.pages[pages.start].page;
        let held = if there == 1 { planes_behind(first, self.end(first, starts)) } else { there };
        if held < promise.planes {
            return Err(Fault::damaged(format!(
                "{held} of {} pages, expected all that its {} announces",
                promise.planes, promise.source
            )));
        }
        Ok(promise.planes)
    }
}

/// Where the first strip or tile of a page is.
fn start(page: &Page) -> u64 {
    page.chunks.stored[0].offset
}

/// How many planes there is room for from the first strip of a page to the byte `end`, if they can follow each other;
/// at least 1.
fn planes_behind(page: &Page, end: u64) -> u64 {
    let strips = &page.chunks.stored;
    let follows = |pair: &[Chunk]| pair[0].offset + pair[0].bytes == pair[1].offset;
    let plain = page.compression.ratio == 1 && !page.chunks.tiled && strips.windows(2).all(follows);
    if plain { (end.saturating_sub(start(page)) / page.stored_bytes()).max(1) } else { 1 }
}

/// Whether a text is OME-XML, or XML that mentions it.
fn is_ome(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<') && text.contains("OME")
}
