//! OME-XML: which planes an image has, and in which file and directory each is.
//!
//! Source: the OME data model 2016-06 (Pixels, TiffData), read as Bio-Formats and tifffile read it. Events are read one
//! by one: no tree, no entities, no document types, so that hostile XML costs time and memory by its length.
//! Not here: the files themselves (`set`).

use std::collections::HashMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::Fault;

/// Upper bound of the elements that place planes.
const MAX_PLACES: usize = 1 << 18;

/// What OME-XML says.
#[derive(Debug, Default, PartialEq)]
pub struct Ome {
    /// The identifier of the file with the text.
    pub uuid: Option<String>,
    pub images: Vec<Image>,
    /// Files that places name, each once.
    pub files: Vec<FileName>,
    /// The file with the true text, where this is none.
    pub metadata_file: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FileName {
    pub uuid: String,
    pub name: String,
}

/// The planes of one image.
#[derive(Debug, Default, PartialEq)]
pub struct Image {
    /// Channels (with all of their samples), slices and frames.
    pub sizes: [u64; 3],
    /// Indices of `sizes`, those that change from plane to plane first.
    pub order: [usize; 3],
    /// Samples of a pixel that a plane holds.
    pub samples: u64,
    /// Whether a channel has a name.
    pub has_names: bool,
    pub places: Vec<Place>,
}

/// Where some planes that follow each other are.
#[derive(Debug, Default, PartialEq)]
pub struct Place {
    /// Channel, slice and frame of the first one.
    pub first: [u64; 3],
    /// The first directory.
    pub directory: Option<u64>,
    pub planes: Option<u64>,
    /// Index of its file; none for the file with the text.
    pub file: Option<usize>,
}

impl Ome {
    /// Reads a text; `None` where it is other XML.
    ///
    /// Errors: text that is no XML, or is cut; sizes that are missing.
    pub fn parse(text: &str) -> Result<Option<Ome>, Fault> {
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim_end_matches('\0'));
        let mut parser = Parser::default();
        loop {
            match reader.read_event() {
                Ok(Event::Eof) => break,
                Ok(Event::Start(element)) => {
                    if !parser.begin(&element)? {
                        return Ok(None);
                    }
                    parser.depth += 1;
                }
                Ok(Event::Empty(element)) => {
                    if !parser.begin(&element)? {
                        return Ok(None);
                    }
                    parser.end(local(element.local_name().as_ref()))?;
                }
                Ok(Event::End(element)) => {
                    parser.depth -= 1;
                    parser.end(local(element.local_name().as_ref()))?;
                }
                Ok(Event::Text(text)) if parser.in_uuid => parser.file.uuid.push_str(&text.xml10_content()),
                Ok(Event::DocType(_)) => return Err(broken("a document type")),
                Ok(_) => {}
                Err(error) => return Err(broken(&error.to_string())),
            }
        }
        if parser.depth != 0 || !parser.has_root {
            return Err(broken("no end"));
        }
        Ok(Some(parser.ome))
    }
}

fn broken(what: &str) -> Fault {
    Fault::damaged(format!("OME-XML that cannot be read ({what}), expected all of it"))
}

/// The elements that matter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Element {
    Ome,
    Pixels,
    Channel,
    Place,
    Uuid,
    BinaryOnly,
    Other,
}

fn local(name: &str) -> Element {
    match name {
        "OME" => Element::Ome,
        "Pixels" => Element::Pixels,
        "Channel" => Element::Channel,
        "TiffData" => Element::Place,
        "UUID" => Element::Uuid,
        "BinaryOnly" => Element::BinaryOnly,
        _ => Element::Other,
    }
}

#[derive(Default)]
struct Parser {
    ome: Ome,
    depth: u64,
    has_root: bool,
    in_uuid: bool,
    places: usize,
    /// The file of the place that is being read.
    file: FileName,
    indices: HashMap<FileName, usize>,
}

impl Parser {
    /// Takes an element with its attributes; `false` where the first one is not OME.
    fn begin(&mut self, element: &BytesStart<'_>) -> Result<bool, Fault> {
        let kind = local(element.local_name().as_ref());
        if !self.has_root {
            if kind != Element::Ome {
                return Ok(false);
            }
            self.has_root = true;
        }
        let attributes = |names: &[&str]| attributes(element, names);
        let image = self.ome.images.last_mut();
        match (kind, image) {
            (Element::Ome, _) => self.ome.uuid = attributes(&["UUID"])?.remove(0),
            (Element::BinaryOnly, _) => self.ome.metadata_file = attributes(&["MetadataFile"])?.remove(0),
            (Element::Pixels, _) => self.ome.images.push(pixels(element)?),
            (Element::Channel, Some(image)) => {
                let values = attributes(&["SamplesPerPixel", "Name"])?;
                image.samples = number(&values[0]).unwrap_or(1).max(image.samples);
                image.has_names |= values[1].is_some();
            }
            (Element::Place, Some(image)) => {
                self.places += 1;
                if self.places > MAX_PLACES {
                    return Err(Fault::unsupported(
                        format!("OME-XML of more than {MAX_PLACES} TiffData, expected fewer"),
                        "split the stack into smaller ones",
                    ));
                }
                let values = attributes(&["FirstC", "FirstZ", "FirstT", "IFD", "PlaneCount"])?;
                let first = [0, 1, 2].map(|axis| number(&values[axis]).unwrap_or(0));
                let (directory, planes) = (number(&values[3]), number(&values[4]));
                image.places.push(Place { first, directory, planes, file: None });
                self.file = FileName::default();
            }
            (Element::Uuid, Some(_)) => {
                self.file.name = attributes(&["FileName"])?.remove(0).unwrap_or_default();
                self.in_uuid = true;
            }
            _ => {}
        }
        Ok(true)
    }

    fn end(&mut self, kind: Element) -> Result<(), Fault> {
        if kind != Element::Uuid || !std::mem::take(&mut self.in_uuid) {
            return Ok(());
        }
        let mut file = std::mem::take(&mut self.file);
        file.uuid = file.uuid.trim().to_owned();
        let next = self.ome.files.len();
        let index = *self.indices.entry(file.clone()).or_insert(next);
        if index == next {
            self.ome.files.push(file);
        }
        if let Some(place) = self.ome.images.last_mut().and_then(|image| image.places.last_mut()) {
            place.file = Some(index);
        }
        Ok(())
    }
}

/// An image without places.
fn pixels(element: &BytesStart<'_>) -> Result<Image, Fault> {
    let values = attributes(element, &["SizeC", "SizeZ", "SizeT", "DimensionOrder"])?;
    let size = |axis: usize| number(&values[axis]).filter(|&size| size > 0);
    let (Some(channels), Some(slices), Some(frames)) = (size(0), size(1), size(2)) else {
        return Err(broken("sizes are missing"));
    };
    let order = match values[3].as_deref() {
        Some("XYCZT") | None => [0, 1, 2],
        Some("XYCTZ") => [0, 2, 1],
        Some("XYZCT") => [1, 0, 2],
        Some("XYZTC") => [1, 2, 0],
        Some("XYTCZ") => [2, 0, 1],
        Some("XYTZC") => [2, 1, 0],
        Some(other) => return Err(broken(&format!("the order of dimensions '{other}'"))),
    };
    Ok(Image { sizes: [channels, slices, frames], order, samples: 1, ..Image::default() })
}

fn number(value: &Option<String>) -> Option<u64> {
    value.as_deref()?.trim().parse().ok()
}

/// The values of the attributes `names`, one for each.
fn attributes(element: &BytesStart<'_>, names: &[&str]) -> Result<Vec<Option<String>>, Fault> {
    let mut values = vec![None; names.len()];
    // With checks each name would be compared to all before it.
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| broken(&error.to_string()))?;
        let name = attribute.key.local_name();
        if let Some(at) = names.iter().position(|wanted| *wanted == name.as_ref()) {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            values[at] = Some(value.map_err(|error| broken(&error.to_string()))?.into_owned());
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_FILES: &str = r#"<?xml version="1.0" encoding="UTF-8"?><!-- a comment -->
        <ome:OME xmlns:ome="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">
        <ome:Image ID="Image:0"><ome:Pixels SizeC="2" SizeZ="3" SizeT="1" SizeX="4" SizeY="5" DimensionOrder="XYZCT">
        <ome:Channel ID="c0" Name="DAPI"/><ome:Channel ID="c1" SamplesPerPixel="1"/>
        <ome:TiffData IFD="0" PlaneCount="3"><ome:UUID FileName="a &amp; b.tif">urn:uuid:a</ome:UUID></ome:TiffData>
        <ome:TiffData FirstC="1" IFD="0"><ome:UUID FileName="c.tif"> urn:uuid:c </ome:UUID></ome:TiffData>
        <ome:TiffData FirstC="1" FirstZ="1"><ome:UUID FileName="c.tif">urn:uuid:c</ome:UUID></ome:TiffData>
        </ome:Pixels></ome:Image></ome:OME>"#;

    #[test]
    fn planes_files_and_channels_are_found_whatever_the_prefix() {
        let ome = Ome::parse(TWO_FILES).unwrap().unwrap();
        let file = |uuid: &str, name: &str| FileName { uuid: uuid.to_owned(), name: name.to_owned() };
        assert_eq!(ome.uuid.as_deref(), Some("urn:uuid:a"));
        assert_eq!(ome.files, [file("urn:uuid:a", "a & b.tif"), file("urn:uuid:c", "c.tif")]);
        let [image] = &ome.images[..] else { panic!("{ome:?}") };
        assert_eq!((image.sizes, image.order, image.samples, image.has_names), ([2, 3, 1], [1, 0, 2], 1, true));
        let places = [
            Place { first: [0, 0, 0], directory: Some(0), planes: Some(3), file: Some(0) },
            Place { first: [1, 0, 0], directory: Some(0), planes: None, file: Some(1) },
            Place { first: [1, 1, 0], directory: None, planes: None, file: Some(1) },
        ];
        assert_eq!(image.places, places);
    }

    #[test]
    fn other_xml_is_no_ome_and_a_cut_or_odd_one_is_refused() {
        assert_eq!(Ome::parse("<svg><OME/></svg>").unwrap(), None);
        let cut = &TWO_FILES[..TWO_FILES.len() - 20];
        let odd = TWO_FILES.replace("XYZCT", "XYQ");
        let no_size = TWO_FILES.replace("SizeZ", "Size");
        let entity = "<!DOCTYPE OME [<!ENTITY a 'aaaa'>]><OME>&a;</OME>";
        let crossed = "<OME><Image></OME></Image>";
        for text in [cut, &odd, &no_size, entity, crossed, "<OME", ""] {
            let fault = Ome::parse(text).unwrap_err();
            assert!(fault.problem.contains("OME-XML that cannot be read"), "{}", fault.problem);
        }
    }
}
