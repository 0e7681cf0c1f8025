//! Writing, and reading back.

use std::fs;
use std::path::Path;

use super::super::{Resolution, SampleKind, StackWriter};
use super::{Samples, Stack, assert_words, read_stack, refusal};

const SIZE: [usize; 3] = [3, 1200, 1000];

fn resolution() -> Option<Resolution> {
    Some(Resolution { x: (250, 1), y: (125, 3), unit: 1, imagej_unit: Some("nm".into()), spacing: Some(50.5) })
}

fn channels(kind: SampleKind) -> usize {
    if kind == SampleKind::Rgb8 { 3 } else { 1 }
}

/// Sample (p, y, x, c): (37 p + 11 y + 3 x + 71 c) mod 251 for u8 and RGB; the same number times 257 for u16, / 256 for
/// f32.
fn samples(kind: SampleKind) -> Samples {
    let [pages, height, width] = SIZE;
    let channels = channels(kind);
    let numbers = (0..pages * height * width * channels).map(|i| {
        let (i, c) = (i / channels, i % channels);
        let (p, y, x) = (i / (height * width), i / width % height, i % width);
        ((37 * p + 11 * y + 3 * x + 71 * c) % 251) as u8
    });
    match kind {
        SampleKind::U8 | SampleKind::Rgb8 => Samples::U8(numbers.collect()),
        SampleKind::U16 => Samples::U16(numbers.map(|n| 257 * u16::from(n)).collect()),
        SampleKind::F32 => Samples::F32(numbers.map(|n| f32::from(n) / 256.0).collect()),
    }
}

/// Writes `samples(kind)`; 1200 x 1000 makes pages of 2 strips, or 5 for floats.
fn write(path: &Path, kind: SampleKind, big: bool) {
    let [pages, height, width] = SIZE;
    let mut writer = StackWriter::begin(path, [pages, 1, height, width], kind, resolution(), big).unwrap();
    match samples(kind) {
        Samples::U8(samples) => {
            let mut pages = samples.chunks_exact(SIZE[1] * SIZE[2] * channels(kind));
            match kind {
                SampleKind::Rgb8 => pages.try_for_each(|page| writer.write_rgb8(page)),
                _ => pages.try_for_each(|page| writer.write_u8(page)),
            }
            .unwrap();
        }
        Samples::U16(samples) => {
            let mut pages = samples.chunks_exact(SIZE[1] * SIZE[2]);
            pages.try_for_each(|page| writer.write_u16(page)).unwrap();
        }
        Samples::F32(samples) => {
            let mut pages = samples.chunks_exact(SIZE[1] * SIZE[2]);
            pages.try_for_each(|page| writer.write_f32(page)).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn what_is_written_is_read_with_the_same_samples_and_resolution() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    for kind in [SampleKind::U8, SampleKind::U16, SampleKind::F32, SampleKind::Rgb8] {
        for big in [false, true] {
            write(&path, kind, big);
            let expected = Stack {
                pages: SIZE[0],
                height: SIZE[1],
                width: SIZE[2],
                channels: channels(kind),
                samples: samples(kind),
                resolution: resolution(),
            };
            assert!(read_stack(&path).unwrap() == expected, "{kind:?} {big}");
            let version = fs::read(&path).unwrap()[2];
            assert_eq!(version, if big { 43 } else { 42 });
        }
    }
}

#[test]
fn the_channels_of_a_hyperstack_are_pages_next_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let create =
        |slices, channels, kind| StackWriter::create_hyperstack(&path, slices, channels, 1, 2, kind, resolution());
    let mut writer = create(2, 3, SampleKind::F32).unwrap();
    for page in 0..6u8 {
        let page = f32::from(page);
        writer.write_f32(&[page, page + 0.5]).unwrap();
    }
    writer.finish().unwrap();
    let stack = read_stack(&path).unwrap();
    assert_eq!((stack.pages, stack.height, stack.width, stack.channels), (2, 1, 2, 3));
    assert_eq!(stack.resolution, resolution());
    let slices = [0.0, 1.0, 2.0, 0.5, 1.5, 2.5, 3.0, 4.0, 5.0, 3.5, 4.5, 5.5];
    assert_eq!(stack.samples, Samples::F32(slices.to_vec()));
    let text = "ImageJ=1.54f\nimages=6\nchannels=3\nslices=2\nhyperstack=true\nmode=grayscale\nunit=nm\nspacing=50.5\n\
                loop=false\nmin=0.0\nmax=1.0\n";
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()));
    assert_words(&refusal(create(2, 3, SampleKind::Rgb8)), &["3 channels of RGB pages, expected grey"]);
    assert_words(&refusal(create(2, 0, SampleKind::U8)), &["0 pages of 2 x 1 samples"]);
}

/// For `fixtures/check.py`, which reads the files with other programs.
#[test]
fn a_stack_above_4_gib_is_a_bigtiff() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    for (pages, version) in [(3_800, 42), (4_000, 43)] {
        // 1 MiB a page; dropped before the end of this turn.
        let _begun = StackWriter::create(&path, pages, 1024, 256, SampleKind::F32, None).unwrap();
        let mut files = fs::read_dir(&folder).unwrap();
        let begun = files.next().unwrap().unwrap().path();
        assert_eq!(fs::read(begun).unwrap()[2], version);
    }
}

#[test]
fn an_unfinished_stack_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    fs::write(&path, "old").unwrap();
    let begin = || StackWriter::create(&path, 2, 1, 2, SampleKind::U8, None).unwrap();
    let mut writer = begin();
    writer.write_u8(&[1, 2]).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    drop(writer);
    let mut writer = begin();
    writer.write_u8(&[1, 2]).unwrap();
    assert_words(&refusal(writer.finish()), &["1 pages were written, expected 2"]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let mut writer = begin();
    writer.write_u8(&[1, 2]).unwrap();
    writer.write_u8(&[3, 4]).unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(read_stack(&path).unwrap().samples, Samples::U8(vec![1, 2, 3, 4]));
}

#[test]
fn a_new_stack_has_the_permissions_of_any_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, stack] = ["plain", "stack.tif"].map(|name| folder.path().join(name));
    fs::write(&plain, "").unwrap();
    let mut writer = StackWriter::create(&stack, 1, 1, 1, SampleKind::U8, None).unwrap();
    writer.write_u8(&[7]).unwrap();
    writer.finish().unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions();
    assert_eq!(mode(&stack), mode(&plain));
}

#[test]
fn refuses_pages_other_than_announced_and_paths_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let create = |path: &Path, pages| StackWriter::create(path, pages, 1, 2, SampleKind::F32, None);
    let mut writer = create(&path, 1).unwrap();
    assert_words(&refusal(writer.write_f32(&[1.0])), &["page 0 (first is 0): 1 F32 samples, expected 2 F32"]);
    assert_words(&refusal(writer.write_u8(&[1, 2])), &["2 U8 samples, expected 2 F32"]);
    assert_words(&refusal(writer.write_f32(&[1.0, f32::NAN])), &["NaN at row 0, column 1"]);
    writer.write_f32(&[1.0, 0.5]).unwrap();
    assert_words(&refusal(writer.write_f32(&[1.0, 0.5])), &["page 1 (first is 0): a page too many"]);
    writer.finish().unwrap();
    for (path, pages, words) in [
        (path.as_path(), 0, "0 pages of 2 x 1 samples, expected at least 1"),
        (folder.path(), 1, "is a directory"),
        (&folder.path().join("none/stack.tif"), 1, "No such file or directory"),
        (Path::new(""), 1, "is a directory"),
    ] {
        assert_words(&refusal(create(path, pages)), &[words]);
    }
}
