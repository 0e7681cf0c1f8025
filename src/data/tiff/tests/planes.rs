//! Planes that texts and tags speak of: stacks with one directory, thumbnails, OME-TIFF in one file and in several.
//! All files are made by hand; the sample of byte `n` of the data is `n`.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::super::{StackReader, TiffError};
use super::hostile::{Field, file, page, with};
use super::{Samples, Stack, assert_words, collect, refusal};

fn open(bytes: &[u8]) -> Result<StackReader<Cursor<&[u8]>>, TiffError> {
    StackReader::new(Cursor::new(bytes), Path::new("x.tif"))
}

fn read(bytes: &[u8]) -> Result<Stack, TiffError> {
    collect(open(bytes)?)
}

/// Pages of 2 x 3 bytes of which each has `extra` fields, one after the other, the first one with a text. `held` planes
/// are stored for each directory.
fn pages(extra: &[&[Field]], text: &str, held: u32) -> Vec<u8> {
    let texts: Vec<&str> = (0..extra.len()).map(|index| if index == 0 { text } else { "" }).collect();
    pages_of(extra, &texts, held)
}

/// Pages as of [`pages`] with a text for each; the texts are between the directories and the planes.
fn pages_of(extra: &[&[Field]], texts: &[&str], held: u32) -> Vec<u8> {
    let mut directories: Vec<Vec<Field>> = Vec::new();
    for (extra, text) in extra.iter().zip(texts) {
        let fields = extra.iter().fold(page([2, 3], 1, 0, 6), |fields, field| with(fields, *field));
        directories.push(if text.is_empty() { fields } else { with(fields, (270, 2, text.len() as u32, 0)) });
    }
    let mut text_at = 8 + directories.iter().map(|fields| 2 + 12 * fields.len() as u32 + 4).sum::<u32>();
    let mut plane_at = text_at + texts.iter().map(|text| text.len() as u32).sum::<u32>();
    for (fields, text) in directories.iter_mut().zip(texts) {
        for (tag, _, _, value) in fields.iter_mut() {
            match tag {
                270 => *value = text_at,
                273 => *value = plane_at,
                _ => {}
            }
        }
        text_at += text.len() as u32;
        plane_at += 6 * held;
    }
    let planes: Vec<u8> = (0..6 * held as usize * extra.len()).map(|byte| byte as u8).collect();
    file(&directories, &[texts.concat().into_bytes(), planes].concat())
}

/// The first sample of each page, or of each channel of it.
fn firsts(stack: &Stack) -> Vec<u8> {
    let Samples::U8(samples) = &stack.samples else { panic!("other samples") };
    samples.chunks_exact(6 * stack.channels).flat_map(|page| page[..stack.channels].to_vec()).collect()
}

const STK: Field = (33629, 5, 3, 8);

#[test]
fn metamorph_stacks_with_one_directory_are_read_whole() {
    let stack = read(&pages(&[&[STK]], "", 3)).unwrap();
    assert_eq!((stack.pages, stack.channels), (3, 1));
    assert_eq!(stack.samples, Samples::U8((0..18).collect()));
    for tag in [33630, 33631] {
        assert_eq!(read(&pages(&[&[(tag, 5, 3, 8)]], "", 3)).unwrap().pages, 3);
    }
    // As many directories as planes.
    assert_eq!(firsts(&read(&pages(&[&[STK], &[], &[]], "", 1)).unwrap()), [0, 6, 12]);
    let short = refusal(read(&pages(&[&[(33629, 5, 4, 8)]], "", 3)));
    assert_words(&short, &["3 of 4 pages", "MetaMorph tags"]);
    assert_words(&refusal(read(&pages(&[&[(33629, 5, u32::MAX, 8)]], "", 3))), &["3 of 4294967295 pages"]);
    assert_words(&refusal(read(&pages(&[&[STK], &[]], "", 1))), &["2 of 3 pages"]);
    // Compressed planes have no place that could be known.
    assert_words(&refusal(read(&pages(&[&[STK, (259, 3, 1, 8)]], "", 3))), &["1 of 3 pages"]);
}

#[test]
fn tifffile_stacks_with_one_directory_are_read_whole() {
    let text = |shape: &str| format!("{{\"shape\": [{shape}], \"truncated\": true}}\0");
    for shape in ["3, 2, 3", "1, 3, 2, 3", "3, 2, 3, 1"] {
        let stack = read(&pages(&[&[]], &text(shape), 3)).unwrap();
        assert_eq!((stack.pages, stack.samples), (3, Samples::U8((0..18).collect())), "{shape}");
    }
    let short = refusal(read(&pages(&[&[]], &text("4, 2, 3"), 3)));
    assert_words(&short, &["3 of 4 pages", "tifffile description"]);
    let many = text("18446744073709551615, 18446744073709551615, 2, 3");
    assert_words(&refusal(read(&pages(&[&[]], &many, 3))), &["3 of 18446744073709551615 pages"]);
    assert_words(&refusal(read(&pages(&[&[], &[]], &text("3, 2, 3"), 1))), &["2 of 3 pages"]);
    // The shape of another array, and what is no shape.
    for other in ["9, 9, 9", "0, 2, 3", "2, 3", ""] {
        assert_eq!(read(&pages(&[&[]], &text(other), 3)).unwrap().pages, 1, "{other}");
    }
    // Two series, each in a row behind its directory.
    let (two, three) = (text("2, 2, 3"), text("2, 2, 3"));
    assert_eq!(firsts(&read(&pages_of(&[&[], &[]], &[&two, &three], 2)).unwrap()), [0, 6, 12, 18]);
    let short = pages_of(&[&[], &[]], &[&text("3, 2, 3"), &text("2, 2, 3")], 2);
    assert_words(&refusal(read(&short)), &["2 of 3 pages"]);
}

#[test]
fn axes_and_hyperstacks_say_which_planes_are_channels() {
    let text = |axes: &str, shape: &str| format!("{{\"shape\": [{shape}, 2, 3], \"axes\": \"{axes}YX\"}}\0");
    let cases = [("CZ", "2, 3", vec![0, 18, 6, 24, 12, 30]), ("ZC", "3, 2", vec![0, 6, 12, 18, 24, 30])];
    for (axes, shape, expected) in cases {
        let stack = read(&pages(&[&[]], &text(axes, shape), 6)).unwrap();
        assert_eq!((stack.pages, stack.channels), (3, 2), "{axes}");
        assert_eq!(firsts(&stack), expected, "{axes}");
    }
    assert_eq!(read(&pages(&[&[]], &text("TZ", "2, 3"), 6)).unwrap().channels, 1);
    let bytes = pages(&[&[], &[]], "ImageJ=1.11a\nimages=2\nchannels=2\nhyperstack=true\n\0", 1);
    let reader = open(&bytes).unwrap();
    assert_eq!((reader.size()[0], reader.channels()), (1, 2));
    assert!(reader.notes()[0].contains("if they are slices"), "{:?}", reader.notes());
    let announced = pages(&[&[], &[]], "ImageJ=1.11a\nslices=3\n\0", 1);
    assert_words(&refusal(read(&announced)), &["2 of 3 pages", "ImageJ description"]);
}

#[test]
fn thumbnails_and_masks_are_left_out_and_told() {
    let small: Field = (257, 4, 1, 1);
    for marked in [(254, 4, 1, 1), (255, 3, 1, 2), (254, 4, 1, 4)] {
        let bytes = pages(&[&[], &[small, marked], &[]], "", 1);
        let reader = open(&bytes).unwrap();
        assert!(reader.notes()[0].contains("1 page(s) left out"), "{:?}", reader.notes());
        assert_eq!(firsts(&collect(reader).unwrap()), [0, 12]);
    }
    // One that is not read at all, before the others.
    let odd = pages(&[&[small, (254, 4, 1, 1), (262, 3, 1, 6)], &[], &[]], "", 1);
    assert_eq!(firsts(&read(&odd).unwrap()), [6, 12]);
    // Marked, but as large as the others; and all of them.
    assert_eq!(read(&pages(&[&[], &[(254, 4, 1, 1)]], "", 1)).unwrap().pages, 2);
    assert_eq!(read(&pages(&[&[(254, 4, 1, 1)], &[(254, 4, 1, 3)]], "", 1)).unwrap().pages, 2);
    assert_words(&refusal(read(&pages(&[&[], &[small]], "", 1))), &["page 1", "expected 3 x 2 8-bit samples"]);
    let volume = refusal(read(&pages(&[&[(32997, 4, 1, 5)]], "", 1)));
    assert_words(&volume, &["a volume of 5 planes in one page", "; save it as a stack of pages"]);
}

/// OME-XML of `channels` x `slices` planes; `places` are its TiffData.
fn ome(channels: u32, slices: u32, order: &str, places: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><OME xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\" UUID=\"urn:uuid:1\">\
         <Image><Pixels DimensionOrder=\"XY{order}\" SizeX=\"3\" SizeY=\"2\" SizeC=\"{channels}\" SizeZ=\"{slices}\" \
         SizeT=\"1\">{places}</Pixels></Image></OME>\0"
    )
}

#[test]
fn ome_tiff_in_one_file_gives_channels_and_order() {
    let six: [&[Field]; 6] = [&[]; 6];
    let all = "<TiffData IFD=\"0\" PlaneCount=\"6\"/>";
    let cases = [
        (ome(2, 3, "CZT", all), (3, 2), vec![0, 6, 12, 18, 24, 30]),
        (ome(2, 3, "ZCT", all), (3, 2), vec![0, 18, 6, 24, 12, 30]),
        (ome(1, 6, "CZT", "<TiffData/>"), (6, 1), vec![0, 6, 12, 18, 24, 30]),
        (ome(1, 6, "CZT", ""), (6, 1), vec![0, 6, 12, 18, 24, 30]),
        // The second half first, one plane each.
        (
            ome(
                1,
                6,
                "CZT",
                "<TiffData IFD=\"3\" PlaneCount=\"3\"/><TiffData FirstZ=\"3\" IFD=\"0\" PlaneCount=\"3\"/>",
            ),
            (6, 1),
            vec![18, 24, 30, 0, 6, 12],
        ),
    ];
    for (text, size, expected) in cases {
        let stack = read(&pages(&six, &text, 1)).unwrap();
        assert_eq!(((stack.pages, stack.channels), firsts(&stack)), (size, expected), "{text}");
    }
    // All planes behind one directory.
    let row = read(&pages(&[&[]], &ome(2, 3, "ZCT", all), 6)).unwrap();
    assert_eq!((row.pages, firsts(&row)), (3, vec![0, 18, 6, 24, 12, 30]));
    // A file that was renamed.
    let renamed = "<TiffData IFD=\"0\" PlaneCount=\"6\"><UUID FileName=\"old.ome.tif\">urn:uuid:1</UUID></TiffData>";
    assert_eq!(read(&pages(&six, &ome(1, 6, "CZT", renamed), 1)).unwrap().pages, 6);
}

#[test]
fn ome_xml_that_does_not_fit_its_file_is_refused() {
    let six: [&[Field]; 6] = [&[]; 6];
    let places = |ifd: u32, count: u64| format!("<TiffData IFD=\"{ifd}\" PlaneCount=\"{count}\"/>");
    let huge = u64::from(u32::MAX);
    let cases = [
        (ome(1, 9, "CZT", &places(0, 9)), "6 of 9 pages, expected all that its OME-XML announces"),
        (ome(1, 6, "CZT", &places(1, 6)), "5 of 6 pages"),
        (ome(u32::MAX, u32::MAX, "CZT", &places(0, huge)), "6 of 18446744065119617025 pages"),
        (ome(1, 3, "CZT", &places(0, 3)), "6 pages, of which its OME-XML names 3"),
        (ome(1, 6, "CZT", &(places(0, 3) + &places(2, 4))), "has page 2 for two planes"),
        (ome(17, 1, "CZT", &places(0, 17)), "6 of 17 pages"),
        (ome(1, 6, "CZT", "<TiffData FirstZ=\"9\" IFD=\"0\" PlaneCount=\"6\"/>"), "0 of 6 pages"),
        (ome(1, 6, "CZT", &places(0, 6)).replace("</OME>", ""), "OME-XML that cannot be read"),
    ];
    for (text, words) in cases {
        assert_words(&refusal(read(&pages(&six, &text, 1))), &[words]);
    }
    let elsewhere = "<TiffData><UUID FileName=\"../other.tif\">urn:uuid:2</UUID></TiffData>";
    let text = ome(1, 6, "CZT", elsewhere);
    assert_words(&refusal(read(&pages(&six, &text, 1))), &["names the file '../other.tif'", "the same folder"]);
}

#[test]
fn ome_tiff_in_several_files_is_one_stack_that_begins_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let place = |z: u32, count: u32, name: &str, uuid: u32| {
        let file = format!("<UUID FileName=\"{name}\">urn:uuid:{uuid}</UUID>");
        format!("<TiffData FirstZ=\"{z}\" IFD=\"0\" PlaneCount=\"{count}\">{file}</TiffData>")
    };
    let places = place(0, 2, "a.ome.tif", 1) + &place(2, 1, "b.ome.tif", 2) + &place(3, 2, "c.ome.tif", 3);
    let text = ome(1, 5, "CZT", &places);
    let of_other = |uuid: &str| text.replace("UUID=\"urn:uuid:1\"", &format!("UUID=\"urn:uuid:{uuid}\""));
    fs::write(path("a.ome.tif"), pages(&[&[], &[]], &text, 1)).unwrap();
    let missing = refusal(StackReader::open(&path("a.ome.tif")));
    assert_words(&missing, &["2 of 5 pages", "'b.ome.tif'", "; put all files of the set into one folder"]);
    fs::write(path("b.ome.tif"), pages(&[&[]], &of_other("2"), 1)).unwrap();
    let third = pages(&[&[], &[]], &of_other("3"), 1);
    fs::write(path("c.ome.tif"), &third).unwrap();
    let mut reader = StackReader::open(&path("a.ome.tif")).unwrap();
    assert_eq!(reader.size(), [5, 2, 3]);
    // Back and forth between the files.
    let last = reader.page(4).unwrap();
    assert_eq!(reader.page(0).unwrap().samples(), super::super::Samples::U8(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(last.samples(), super::super::Samples::U8(&[6, 7, 8, 9, 10, 11]));
    assert_eq!(firsts(&collect(reader).unwrap()), [0, 6, 0, 0, 6]);
    let follower = refusal(StackReader::open(&path("b.ome.tif")));
    assert_words(&follower, &["a part of a set of files that begins with", "a.ome.tif", "; name that file alone"]);
    // Renamed, it is still the first.
    fs::rename(path("a.ome.tif"), path("train-volume.tif")).unwrap();
    assert_eq!(StackReader::open(&path("train-volume.tif")).unwrap().size()[0], 5);
    // A damaged file, and one of another size, by their names.
    fs::write(path("c.ome.tif"), &third[..60]).unwrap();
    assert_words(&refusal(StackReader::open(&path("train-volume.tif"))), &["'c.ome.tif' page 0: ", "damaged"]);
    fs::write(path("c.ome.tif"), pages(&[&[(257, 4, 1, 1)]], "", 1)).unwrap();
    assert_words(&refusal(StackReader::open(&path("train-volume.tif"))), &["'c.ome.tif'", "expected 3 x 2 8-bit"]);
}

#[test]
fn a_part_whose_text_is_in_a_companion_file_is_read_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let part = |uuid: u32| {
        format!(
            "<OME UUID=\"urn:uuid:{uuid}\"><BinaryOnly MetadataFile=\"x.companion.ome\" UUID=\"urn:uuid:9\"/></OME>\0"
        )
    };
    fs::write(path("a.tif"), pages(&[&[]], &part(1), 1)).unwrap();
    fs::write(path("b.tif"), pages(&[&[]], &part(2), 1)).unwrap();
    assert_words(&refusal(StackReader::open(&path("a.tif"))), &["'x.companion.ome' describes", "cannot be opened"]);
    let place =
        |z: u32, name: &str| format!("<TiffData FirstZ=\"{z}\" IFD=\"0\"><UUID FileName=\"{name}\"/></TiffData>");
    fs::write(path("x.companion.ome"), ome(1, 2, "CZT", &(place(0, "a.tif") + &place(1, "b.tif")))).unwrap();
    assert_eq!(StackReader::open(&path("a.tif")).unwrap().size()[0], 2);
    fs::write(path("x.companion.ome"), pages(&[&[]], "", 1)).unwrap();
    assert_words(&refusal(StackReader::open(&path("a.tif"))), &["'x.companion.ome' describes; name that file"]);
}

/// A page of 2 rows with these fields in place of the usual ones, and its samples.
fn odd(width: u32, bits: u32, kind: u32, photometric: u32, data: &[u8]) -> Vec<u8> {
    let fields = page([2, width], 1, 8 + 2 + 12 * 10 + 4, data.len() as u32);
    let fields = with(with(fields, (258, 3, 1, bits)), (262, 3, 1, photometric));
    file(&[with(fields, (339, 3, 1, kind))], data)
}

#[test]
fn packed_samples_are_read_in_both_photometrics() {
    let cases: [(u32, u32, u32, &[u8], Samples); 5] = [
        (3, 1, 1, &[0b1010_0000, 0b0110_0000], Samples::U8(vec![1, 0, 1, 0, 1, 1])),
        (3, 1, 0, &[0b1010_0000, 0b0110_0000], Samples::U8(vec![0, 1, 0, 1, 0, 0])),
        (3, 4, 1, &[0x12, 0x30, 0xf0, 0x10], Samples::U8(vec![1, 2, 3, 15, 0, 1])),
        (3, 4, 0, &[0x12, 0x30, 0xf0, 0x10], Samples::U8(vec![14, 13, 12, 0, 15, 14])),
        (2, 12, 1, &[0xab, 0xcd, 0xef, 0x00, 0x1f, 0xff], Samples::U16(vec![0xabc, 0xdef, 1, 0xfff])),
    ];
    for (width, bits, photometric, data, expected) in cases {
        let stack = read(&odd(width, bits, 1, photometric, data)).unwrap();
        assert_eq!(stack.samples, expected, "{bits} bits, photometric {photometric}");
    }
    // Two tiles across of 16 x 16 pixels of one bit, for a page of 20 columns.
    let mut fields = page([1, 20], 1, 0, 0);
    fields.retain(|(tag, ..)| ![273, 278, 279].contains(tag));
    fields = with(fields, (258, 3, 1, 1));
    let data = 8 + 2 + 12 * 10 + 4;
    fields.extend([(322, 3, 1, 16), (323, 3, 1, 16), (324, 4, 2, data), (325, 4, 2, data + 8)]);
    let mut tail: Vec<u8> = [data + 16, data + 48, 32, 32].iter().flat_map(|value| value.to_le_bytes()).collect();
    tail.extend([0x80, 0x01]);
    tail.extend([0; 30]);
    tail.extend([0xa0, 0]);
    tail.extend([0; 30]);
    let mut expected = vec![0; 20];
    [0, 15, 16, 18].iter().for_each(|&column| expected[column] = 1);
    assert_eq!(read(&file(&[fields], &tail)).unwrap().samples, Samples::U8(expected));
}

#[test]
fn other_sample_types_become_floats_and_rounding_is_counted() {
    let le = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut cases = vec![
        (8, 2, vec![0xff, 0x80], [-1.0, -128.0], 0),
        (16, 2, vec![0xff, 0xff, 0xff, 0x7f], [-1.0, 32_767.0], 0),
        (32, 1, le(&[1 << 24, (1 << 24) + 1]), [16_777_216.0, 16_777_216.0], 1),
        (32, 2, le(&[(-7i32) as u32, i32::MAX as u32]), [-7.0, 2_147_483_648.0], 1),
        (16, 3, vec![0x00, 0x3c, 0x00, 0xc0], [1.0, -2.0], 0),
    ];
    let wide = |values: [u64; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    cases.push((64, 1, wide([5, u64::MAX]), [5.0, u64::MAX as f32], 1));
    cases.push((64, 2, wide([u64::MAX, 3]), [-1.0, 3.0], 0));
    cases.push((64, 3, wide([0.1f64.to_bits(), 16_777_217f64.to_bits()]), [0.1, 16_777_216.0], 1));
    for (bits, kind, data, expected, rounded) in cases {
        let bytes = odd(1, bits, kind, 1, &data);
        let mut reader = open(&bytes).unwrap();
        let page = reader.page(0).unwrap();
        assert_eq!(page.samples(), super::super::Samples::F32(&expected), "{bits} bits, kind {kind}");
        assert_eq!(reader.rounded(), rounded, "{bits} bits, kind {kind}");
    }
    let large = odd(1, 64, 3, 1, &wide([1e300f64.to_bits(), 0]));
    assert_words(&refusal(read(&large)), &["page 0", "inf at row 0, column 0"]);
    assert_words(&refusal(read(&odd(1, 32, 1, 0, &le(&[1, 2])))), &["white-is-zero 32-bit unsigned samples"]);
    assert_words(&refusal(read(&odd(1, 32, 6, 1, &le(&[1, 2])))), &["32-bit complex samples, expected"]);
}
