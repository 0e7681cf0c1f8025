//! The planes of a stack in their order, wherever they are: in one file, or by OME-XML in several files of a folder.
//!
//! Source: OME-TIFF specification, "Storage of multiple files". Not here: the text (`ome`), samples (`read`).

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Fault;
use super::description::{Channels, Promise};
use super::ome::{FileName, Image, Ome};
use super::page::{Page, check_alike};
use super::planes::FilePages;

/// The longest text of a companion file, in bytes.
const MAX_COMPANION: u64 = 64 << 20;

/// Opens another file of the folder.
pub type Opener<R> = fn(&Path) -> io::Result<R>;

/// The files of a stack and the order of their planes; all pages are alike.
pub struct Set {
    /// The first one is that which was named.
    pub files: Vec<SetFile>,
    /// Each begins where the one before ends.
    runs: Vec<Run>,
    /// In all; at least 1.
    pub planes: u64,
    /// How planes become channels.
    pub channels: Option<Channels>,
}

pub struct SetFile {
    pub path: PathBuf,
    pub content: FilePages,
}

/// Planes in a row behind a page.
struct Run {
    /// Number of the first one.
    first: u64,
    file: usize,
    page: usize,
}

/// Where a plane is.
pub struct PlaneAt<'a> {
    pub file: usize,
    pub page: &'a Page,
    /// Planes between the page's own and this one.
    pub behind: u64,
}

impl Set {
    /// Reads all directories of the file, and of those that its OME-XML names.
    pub fn read<R: Read + Seek>(reader: &mut R, path: &Path, open: Opener<R>) -> Result<Set, Fault> {
        let length = reader.seek(SeekFrom::End(0))?;
        let mut content = FilePages::read(reader, length)?;
        let mut files = vec![];
        if let Some(text) = content.ome.take() {
            let found = Ome::parse(&text)?;
            drop(text);
            files.push(SetFile { path: path.to_owned(), content });
            if let Some(ome) = found {
                return Builder { files, open, own: path }.build(ome);
            }
        } else {
            files.push(SetFile { path: path.to_owned(), content });
        }
        let content = &files[0].content;
        let channels = content.channels.clone();
        let order: Vec<(usize, usize)> = (0..content.pages.len()).map(|page| (0, page)).collect();
        Ok(Set::new(files, order, channels))
    }

    /// `order`: file and page of each run.
    fn new(files: Vec<SetFile>, order: Vec<(usize, usize)>, channels: Option<Channels>) -> Set {
        let mut planes = 0u64;
        let mut runs = Vec::with_capacity(order.len());
        for (file, page) in order {
            runs.push(Run { first: planes, file, page });
            planes = planes.saturating_add(files[file].content.planes[page]);
        }
        Set { files, runs, planes, channels }
    }

    /// The plane with this number, which is below `planes`.
    pub fn plane(&self, number: u64) -> PlaneAt<'_> {
        let run = self.runs.partition_point(|run| run.first <= number).saturating_sub(1);
        let Run { first, file, page } = self.runs[run];
        PlaneAt { file, page: &self.files[file].content.pages[page].page, behind: number - first }
    }

    /// The page that all are like.
    pub fn first(&self) -> &Page {
        &self.files[0].content.pages[0].page
    }

    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.files.iter().flat_map(|file| &file.content.pages).map(|numbered| &numbered.page)
    }
}

/// Puts a stack together from OME-XML.
struct Builder<'a, R> {
    files: Vec<SetFile>,
    open: Opener<R>,
    /// The file that was named.
    own: &'a Path,
}

impl<R: Read + Seek> Builder<'_, R> {
    fn build(mut self, ome: Ome) -> Result<Set, Fault> {
        let ome = self.with_metadata(ome)?;
        if ome.images.is_empty() {
            return Err(Fault::unsupported("OME-XML without images, expected one", "save the stack again without it"));
        }
        let samples = self.files[0].content.pages[0].page.pixel.samples as u64;
        let images: Vec<(&Image, [u64; 3])> =
            ome.images.iter().map(|image| (image, planes_of(image, samples))).collect();
        let promised = images.iter().fold(0u64, |sum, (_, sizes)| sum.saturating_add(product(sizes)));
        let place_of = self.open_files(&ome, promised)?;
        let channels = self.channels(&images)?;
        if let ([_], [page], [(image, sizes)]) = (&self.files[..], &self.files[0].content.pages[..], &images[..])
            && promised > 1
        {
            let promise = Promise { planes: promised, source: "OME-XML", channels: None };
            let promises = vec![(page.directory, promise)];
            self.files[0].content.keep(promises)?;
            // No overflow: all planes are in the file.
            let stride = image.order.iter().take_while(|&&axis| axis != 0).map(|&axis| sizes[axis]).product();
            return Ok(Set::new(self.files, vec![(0, 0)], channels.map(|c| Channels { stride, ..c })));
        }
        let order = self.order(&images, &place_of, promised)?;
        Ok(Set::new(self.files, order, channels))
    }

    /// The text that counts: of a companion file, where this one's says so.
    fn with_metadata(&self, ome: Ome) -> Result<Ome, Fault> {
        let Some(name) = ome.metadata_file.clone() else { return Ok(ome) };
        let path = self.beside(&name)?;
        let promise = || format!("a part of a set of files that '{name}' describes");
        let mut reader = (self.open)(&path).map_err(|error| {
            Fault::unsupported(
                format!("{}, which cannot be opened: {error}", promise()),
                "put all files into one folder",
            )
        })?;
        let mut bytes = Vec::new();
        reader.seek(SeekFrom::Start(0))?;
        reader.take(MAX_COMPANION).read_to_end(&mut bytes)?;
        if bytes.starts_with(b"II") || bytes.starts_with(b"MM") {
            return Err(Fault::unsupported(promise(), "name that file, which stands for all of them"));
        }
        let text = String::from_utf8_lossy(&bytes);
        match Ome::parse(&text)? {
            Some(found) if found.metadata_file.is_none() => Ok(Ome { uuid: ome.uuid, ..found }),
            _ => Err(Fault::damaged(format!("{}, which holds no OME-XML", promise()))),
        }
    }

    /// The path of another file of the folder.
    fn beside(&self, name: &str) -> Result<PathBuf, Fault> {
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(Fault::unsupported(
                format!("OME-XML that names the file '{name}', expected one of the same folder"),
                "put all files into one folder and save them again",
            ));
        }
        Ok(self.own.with_file_name(name))
    }

    /// Opens all files that places name; gives the index in `files` for each of `ome.files`.
    fn open_files(&mut self, ome: &Ome, promised: u64) -> Result<Vec<usize>, Fault> {
        let own_name = self.own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_own = |file: &FileName| {
            let has_uuid = !file.uuid.is_empty() && Some(&file.uuid) == ome.uuid.as_ref();
            has_uuid || file.name.is_empty() || file.name == own_name
        };
        let mut indices = Vec::with_capacity(ome.files.len());
        for file in &ome.files {
            if is_own(file) {
                indices.push(0);
                continue;
            }
            let path = self.beside(&file.name)?;
            let opened = match (self.open)(&path) {
                Ok(opened) => opened,
                // A single file that was renamed.
                Err(error) if ome.files.len() == 1 && error.kind() == io::ErrorKind::NotFound => {
                    indices.push(0);
                    continue;
                }
                Err(error) => {
                    let [here, all] = [self.files.iter().map(|f| f.content.pages.len()).sum(), promised as usize];
                    return Err(Fault::unsupported(
                        format!(
                            "{here} of {all} pages that its OME-XML announces in several files; '{}': {error}",
                            file.name
                        ),
                        "put all files of the set into one folder, under the names that they had",
                    ));
                }
            };
            indices.push(self.files.len());
            let file = self.companion(opened, path)?;
            self.files.push(file);
        }
        Ok(indices)
    }

    fn companion(&self, mut reader: R, path: PathBuf) -> Result<SetFile, Fault> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut read = || {
            let length = reader.seek(SeekFrom::End(0))?;
            let mut content = FilePages::read(&mut reader, length)?;
            // The first file's text counts for all.
            content.ome = None;
            check_alike(&self.files[0].content.pages[0].page, &content.pages[0].page)?;
            Ok(content)
        };
        let content = read().map_err(|fault: Fault| fault.within(&name))?;
        Ok(SetFile { path, content })
    }

    /// The channels that all images have.
    fn channels(&self, images: &[(&Image, [u64; 3])]) -> Result<Option<Channels>, Fault> {
        let (first, [count, slices, frames]) = images[0];
        if let Some((_, [other, ..])) = images.iter().find(|(_, [channels, ..])| *channels != count) {
            return Err(Fault::unsupported(
                format!("OME-XML of images of {count} and of {other} channels, expected as many in each"),
                "save each image as a file of its own",
            ));
        }
        let alone = slices == 1 && frames == 1 && images.len() == 1 && !first.has_names;
        Ok((count > 1).then_some(Channels { count, stride: 1, alone, others: None, of_samples: false }))
    }

    /// The file and page of each plane; the channels of an image follow each other.
    fn order(
        &self,
        images: &[(&Image, [u64; 3])],
        files: &[usize],
        promised: u64,
    ) -> Result<Vec<(usize, usize)>, Fault> {
        let there: usize = self.files.iter().map(|file| file.content.pages.len()).sum();
        let short = |found: usize| {
            let problem = format!("{found} of {promised} pages, expected all that its OME-XML announces");
            Fault { advice: "copy it again with all files of its set, or save it again", ..Fault::damaged(problem) }
        };
        if promised > there as u64 {
            return Err(short(there));
        }
        let (mut order, mut used) = (Vec::new(), HashSet::new());
        for (image, sizes) in images {
            let planes = self.places(image, sizes, files, &mut used)?;
            let found = planes.iter().flatten().count();
            if found < planes.len() {
                return Err(short(used.len()));
            }
            order.extend(channels_together(&planes, image.order, *sizes));
        }
        if used.len() < there {
            let problem = format!("{there} pages, of which its OME-XML names {}, expected all", used.len());
            return Err(Fault::unsupported(problem, "save the stack again, with its own OME-XML or without"));
        }
        match order.first() {
            Some((0, _)) => Ok(order),
            Some((first, _)) => Err(Fault::unsupported(
                format!("a part of a set of files that begins with '{}'", self.files[*first].path.display()),
                "name that file alone, which stands for all of them, or save the planes without OME-XML",
            )),
            None => Err(short(0)),
        }
    }

    /// The file and page of each plane of an image, in its own order.
    fn places(
        &self,
        image: &Image,
        sizes: &[u64; 3],
        files: &[usize],
        used: &mut HashSet<(usize, usize)>,
    ) -> Result<Vec<Option<(usize, usize)>>, Fault> {
        // At most as many as there are pages.
        let total = product(sizes);
        let mut planes = vec![None; total as usize];
        let all = [Default::default()];
        let places = if image.places.is_empty() { &all } else { &image.places[..] };
        for place in places {
            let file = place.file.map_or(0, |file| files[file]);
            let pages = &self.files[file].content.pages;
            let first = image
                .order
                .iter()
                .rev()
                .fold(0u64, |index, &axis| index.saturating_mul(sizes[axis]).saturating_add(place.first[axis]));
            let count = match (place.planes, place.directory) {
                (Some(count), _) => count,
                (None, Some(_)) => 1,
                (None, None) => total,
            };
            let start = place.directory.unwrap_or(0);
            let directories = self.files[file].content.directories as u64;
            let count = count.min(total.saturating_sub(first)).min(directories.saturating_sub(start));
            for step in 0..count {
                let directory = (start + step) as usize;
                let Ok(page) = pages.binary_search_by_key(&directory, |page| page.directory) else {
                    let problem =
                        format!("OME-XML that names page {directory}, a thumbnail or a mask, expected a plane");
                    return Err(Fault::unsupported(problem, "save the stack again without OME-XML"));
                };
                if !used.insert((file, page)) {
                    let problem = format!("OME-XML that has page {directory} for two planes, expected one for each");
                    return Err(Fault::damaged(problem));
                }
                planes[(first + step) as usize] = Some((file, page));
            }
        }
        Ok(planes)
    }
}

/// Channels, slices and frames of an image by its planes, of which each holds all `samples` of a pixel in the file.
fn planes_of(image: &Image, samples: u64) -> [u64; 3] {
    let [channels, slices, frames] = image.sizes;
    let together = if image.samples == 1 { samples } else { image.samples };
    let channels = if channels.is_multiple_of(together) { channels / together } else { channels };
    [channels, slices, frames]
}

fn product(sizes: &[u64; 3]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size))
}

/// The planes in the order of slices and frames that they have, with the channels of each next to each other.
fn channels_together(
    planes: &[Option<(usize, usize)>],
    order: [usize; 3],
    sizes: [u64; 3],
) -> impl Iterator<Item = (usize, usize)> {
    let channels = sizes[0] as usize;
    // Distance of two channels: the product of what changes faster.
    let stride: usize = order.iter().take_while(|&&axis| axis != 0).map(|&axis| sizes[axis] as usize).product();
    (0..planes.len()).filter_map(move |at| {
        let (image, channel) = (at / channels, at % channels);
        planes[(image / stride * channels + channel) * stride + image % stride]
    })
}
