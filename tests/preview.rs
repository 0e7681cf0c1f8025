//! `unet preview`: the picture holds the samples that a training would see first, pixel by pixel.

mod common;

use std::fs;
use std::io::Cursor;

use assert_cmd::assert::Assert;
use common::{TestDir, fails, stderr, stdout};

/// Rows of `channels` bytes a pixel.
struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl Picture {
    fn decode(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        Self {
            width: info.width as usize,
            height: info.height as usize,
            channels: info.color_type.samples(),
            bytes: pixels,
        }
    }

    /// A grey pixel is repeated.
    fn pixel(&self, y: usize, x: usize) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "{y} {x}");
        [0, 1, 2].map(|channel| self.bytes[(y * self.width + x) * self.channels + channel.min(self.channels - 1)])
    }

    /// Whether a pixel of this colour is anywhere.
    fn has(&self, colour: [u8; 3]) -> bool {
        self.bytes.chunks(self.channels).any(|pixel| pixel == colour)
    }
}

/// The picture of `unet preview`, in which the tiles of `samples` samples have this side.
struct Preview {
    picture: Picture,
    tile: usize,
    samples: usize,
    printed: String,
}

/// Colour of the line around the output.
const LINE: [u8; 3] = [0, 190, 255];
/// Colours of the classes 1 and 2.
const CLASSES: [[u8; 3]; 2] = [[230, 159, 0], [86, 180, 233]];
/// Colour of the lines over ignored pixels.
const HATCHING: [u8; 3] = [200, 200, 200];

impl Preview {
    fn new(dir: &TestDir, args: &str, samples: usize, tile: usize) -> Self {
        let run = preview(dir, &format!("--out p.png --overwrite --samples {samples} {args}")).success();
        Self { picture: Picture::decode(&dir.read("p.png")), tile, samples, printed: stdout(&run) }
    }

    /// The upper left corner of a sample's tile: the network's input, or its labels. Rows are counted from below, as
    /// the height of the legend depends on the width of its letters.
    fn corner(&self, sample: usize, is_labels: bool) -> (usize, usize) {
        let columns = (1..).find(|columns| 2 * columns * columns >= self.samples).unwrap();
        let (row, column) = (sample / columns, sample % columns);
        let high = 30 + self.tile + 12;
        let top = self.picture.height - (self.samples.div_ceil(columns) - row) * high + 30;
        (top, 16 + column * (2 * self.tile + 12 + 24) + if is_labels { self.tile + 12 } else { 0 })
    }

    fn input(&self, sample: usize, y: usize, x: usize) -> [u8; 3] {
        let (top, left) = self.corner(sample, false);
        self.picture.pixel(top + y, left + x)
    }

    fn labelled(&self, sample: usize, y: usize, x: usize) -> [u8; 3] {
        let (top, left) = self.corner(sample, true);
        self.picture.pixel(top + y, left + x)
    }

    /// What is printed of the samples: their slices.
    fn slices(&self) -> Vec<String> {
        let of = |line: &str| Some(line.strip_prefix("sample ")?.split_once(": ")?.1.split(',').next()?.to_owned());
        self.printed.lines().filter_map(of).collect()
    }
}

fn preview(dir: &TestDir, args: &str) -> Assert {
    let args: Vec<&str> = "preview --data_dir data".split(' ').chain(args.split_whitespace()).collect();
    dir.unet(&args)
}

/// Three slices of 200x200 in `data`.
fn phantom(args: &str) -> TestDir {
    TestDir::phantom(3, 200, args)
}

/// A tile's pixels on the line from `first` to `last`, which are not those of the image.
fn is_on_line(y: usize, x: usize, first: usize, last: usize) -> bool {
    let inside = |at: usize| (first..=last).contains(&at);
    inside(y) && inside(x) && [y, x].iter().any(|&at| at == first || at == last)
}

/// A grey level with a class over it, half transparent.
fn painted(grey: [u8; 3], class: u8) -> [u8; 3] {
    match class {
        0 => grey,
        _ => [0, 1, 2].map(|i| (u16::from(grey[i]) + u16::from(CLASSES[usize::from(class) - 1][i])).div_ceil(2) as u8),
    }
}

/// Bilinear resampling of a square to another side by the formula, in f64: half-pixel centres, edges repeated.
fn resized(values: &[f64], from: usize, to: usize) -> Vec<f64> {
    let place = |i: usize| {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let low = (at as usize).min(from - 2);
        (low, at - low as f64)
    };
    let pixel = |i: usize| {
        let ((y, dy), (x, dx)) = (place(i / to), place(i % to));
        let row = |y: usize| values[y * from + x] * (1.0 - dx) + values[y * from + x + 1] * dx;
        row(y) * (1.0 - dy) + row(y + 1) * dy
    };
    (0..to * to).map(pixel).collect()
}

/// Without augmentation a sample is a whole slice, resized to 388 pixels in a frame of mid-grey, and here shown at half
/// its size.
#[test]
fn samples_of_the_reference_recipe_are_the_slices_as_the_formula_resizes_them() {
    let dir = phantom("--layout folders");
    let shown = Preview::new(&dir, "", 3, 286);
    assert_eq!(shown.picture.width, 2 * 16 + 2 * (2 * 286 + 12) + 24);
    let slices = shown.slices();
    for (sample, name) in slices.iter().enumerate() {
        let values = |folder: &str| -> Vec<f64> {
            let stored = Picture::decode(&dir.read(&format!("data/{folder}/{name}.png")));
            assert_eq!((stored.width, stored.height, stored.channels), (200, 200, 1));
            stored.bytes.into_iter().map(f64::from).collect()
        };
        let image = resized(&values("images"), 200, 388);
        let is_inside: Vec<f64> = values("masks").iter().map(|value| value / 255.0).collect();
        let is_inside = resized(&is_inside, 200, 388);
        // The output is 92 to 479 of the input's 572 pixels: 46 to 239 on half the size.
        let of_output = |y: usize, x: usize, values: &[f64]| {
            let inside = |at: usize| (92..480).contains(&at);
            (inside(y) && inside(x)).then(|| values[(y - 92) * 388 + x - 92])
        };
        let mut classes = [0; 2];
        for (y, x) in (0..286).flat_map(|y| (0..286).map(move |x| (y, x))) {
            let (input, labelled) = (shown.input(sample, y, x), shown.labelled(sample, y, x));
            if is_on_line(y, x, 45, 240) {
                assert_eq!([input, labelled], [LINE; 2]);
                continue;
            }
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let level = |(dy, dx): (usize, usize)| of_output(2 * y + dy, 2 * x + dx, &image).unwrap_or(127.5);
            let expected = four.map(level).iter().sum::<f64>() / 4.0;
            assert!((f64::from(input[0]) - expected).abs() < 0.51, "{name} at {y}, {x}: {input:?}, {expected}");
            assert_eq!([input[0]; 3], input);
            // The class is that of the pixel in the middle, which is the lower right one of the four.
            let share = of_output(2 * y + 1, 2 * x + 1, &is_inside).unwrap_or(0.0);
            if (share - 0.5).abs() > 1e-4 {
                let class = u8::from(share >= 0.5);
                classes[usize::from(class)] += 1;
                assert_eq!(labelled, painted(input, class), "{name} at {y}, {x}: {share}");
            }
        }
        assert!(classes.iter().all(|&pixels| pixels > 1000), "{classes:?}");
    }
    // Each slice once.
    let mut all = slices;
    all.sort();
    assert_eq!(all, ["slice_00", "slice_01", "slice_02"]);
    assert!(shown.printed.contains("recipe: reference, input 572x572, output 388x388, augmentation: none\n"));
}

/// Pixel `at` of an endless row in one of `length`, mirrored at the centres of its ends.
fn mirrored(at: isize, length: isize) -> usize {
    let place = at.rem_euclid(2 * (length - 1));
    place.min(2 * (length - 1) - place) as usize
}

/// A window without changes is cut out: it is looked for in the stored images, and the context is their mirror image.
#[test]
fn samples_of_the_native_recipe_are_windows_of_the_stored_images() {
    let dir = phantom("--layout folders --channels 3 --classes 3");
    // The side of the input is 68 + 184, and shown as it is.
    let shown = Preview::new(&dir, "--recipe native --patch 68 --grey_scaling range --seed 5", 3, 252);
    let (mut seen, mut places) = ([0; 3], Vec::new());
    for (sample, name) in shown.slices().iter().enumerate() {
        let [image, mask] = ["images", "masks"].map(|folder| dir.read(&format!("data/{folder}/{name}.png")));
        let (image, mask) = (Picture::decode(&image), Picture::decode(&mask));
        assert_eq!((image.width, image.height, image.channels), (200, 200, 3));
        let output = |at: usize| (at / 68, at % 68);
        let fits = |top: usize, left: usize| {
            (0..68 * 68).map(output).all(|(y, x)| shown.input(sample, 92 + y, 92 + x) == image.pixel(top + y, left + x))
        };
        let found: Vec<(usize, usize)> =
            (0..133 * 133).map(|at| (at / 133, at % 133)).filter(|&(top, left)| fits(top, left)).collect();
        assert_eq!(found.len(), 1, "{name}");
        let (top, left) = found[0];
        places.push((top, left));
        for (y, x) in (0..252).flat_map(|y| (0..252).map(move |x| (y, x))) {
            let (input, labelled) = (shown.input(sample, y, x), shown.labelled(sample, y, x));
            if is_on_line(y, x, 91, 160) {
                assert_eq!([input, labelled], [LINE; 2]);
                continue;
            }
            let place = |at: usize, start: usize| mirrored((at + start) as isize - 92, 200);
            let (row, column) = (place(y, top), place(x, left));
            assert_eq!(input, image.pixel(row, column), "{name} at {y}, {x}");
            let is_output = (92..160).contains(&y) && (92..160).contains(&x);
            let class = if is_output { mask.pixel(row, column)[0] } else { 0 };
            seen[usize::from(class)] += usize::from(is_output);
            let mean = (input.iter().map(|&level| f64::from(level)).sum::<f64>() / 3.0).round() as u8;
            assert_eq!(labelled, painted([mean; 3], class), "{name} at {y}, {x}");
        }
    }
    assert!(places.iter().any(|place| *place != places[0]), "windows are at random places: {places:?}");
    assert_eq!(seen.iter().sum::<usize>(), 3 * 68 * 68);
    let line = shown.printed.lines().find(|line| line.starts_with("classes of these samples: ")).unwrap();
    for (index, pixels) in seen.iter().enumerate() {
        let share = format!(" {:.2} %", 100.0 * *pixels as f64 / (3.0 * 68.0 * 68.0));
        assert!(line.split(',').nth(index).unwrap().ends_with(&share), "{share} in {line}");
    }
    assert!(shown.printed.contains("ignored in these samples: 0.00 % of the pixels\n"), "{}", shown.printed);
}

/// A training whose loss overflows names the slices of its step.
#[test]
fn samples_are_those_that_training_begins_with() {
    let dir = TestDir::new();
    for (seed, batch_size) in [(7, 1), (11, 3)] {
        let args = format!("--base_filters 2 --seed {seed} --batch_size {batch_size} --learning_rate 1e30");
        let error = stderr(&dir.run(&format!("{args} --max_steps 9 --log_every 1 --overwrite")).code(1));
        let (step, slices) = error.split_once(": the loss is not a finite number, on slices [").unwrap();
        let step: usize = step.rsplit_once("step ").unwrap().1.parse().unwrap();
        let trained: Vec<&str> = slices.split_once(']').unwrap().0.split(", ").collect();
        let shown = Preview::new(&dir, &format!("--seed {seed}"), step * batch_size, 286).slices();
        let of_step: Vec<&str> =
            shown[(step - 1) * batch_size..].iter().map(|name| name.strip_prefix("slice ").unwrap()).collect();
        assert_eq!(of_step, trained, "step {step}: {shown:?}");
    }
}

#[test]
fn recipe_augmentation_and_seed_change_the_samples_and_the_same_flags_do_not() {
    let dir = phantom("");
    let mut seen: Vec<Vec<[u8; 3]>> = Vec::new();
    let native = "--recipe native --patch 84";
    for (args, tile) in [
        (String::new(), 286),
        ("--augment".to_owned(), 286),
        ("--augment --seed 1".to_owned(), 286),
        (native.to_owned(), 268),
        (format!("{native} --grey_scaling range"), 268),
        (format!("{native} --augment"), 268),
        (format!("{native} --augment --augmentations flips"), 268),
        (format!("{native} --augment --augmentations elastic,grey"), 268),
    ] {
        let shown = Preview::new(&dir, &args, 4, tile);
        let first = dir.read("p.png");
        preview(&dir, &format!("--out new/a.PNG --overwrite --samples 4 {args}")).success();
        assert!(dir.read("new/a.PNG") == first, "{args}");
        let places = (0..4).flat_map(|sample| (0..tile * tile).map(move |at| (sample, at / tile, at % tile)));
        let samples: Vec<[u8; 3]> = places.map(|(sample, y, x)| shown.input(sample, y, x)).collect();
        assert!(!seen.contains(&samples), "{args}");
        seen.push(samples);
    }
}

#[test]
fn any_channels_and_ignored_pixels_are_shown() {
    let dir = phantom("--layout nnunet --channels 2 --classes 4");
    let shown = Preview::new(&dir, "--recipe native --patch 68", 1, 252);
    assert!(shown.printed.contains("data: 3 images of 200x200, 2 channels\n"), "{}", shown.printed);
    assert!(shown.printed.contains("  channel 1: minimum "), "{}", shown.printed);
    assert!(shown.printed.contains("ignored in these samples: 0.00 %"), "{}", shown.printed);
    // The first channel, in grey.
    assert!((0..252).all(|x| shown.input(0, 10, x)[0] == shown.input(0, 10, x)[2]));

    let dir = phantom("--layout folders --classes 3");
    let map = "--label_map 0=wall;1=ignore;2=spot";
    let shown = Preview::new(&dir, map, 3, 286);
    let line = shown.printed.lines().find(|line| line.starts_with("ignored in these samples: ")).unwrap();
    let share: f64 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(share > 20.0 && share < 100.0, "{line}");
    assert!(shown.printed.contains("classes of these samples: wall "), "{}", shown.printed);
    // Lines of the hatching are where row and column of the tile, less a multiple of 8, are 0 or 1.
    let lines = (46..240).flat_map(|y| (46..240).map(move |x| (y, x))).filter(|(y, x)| (y + x) % 8 < 2);
    let hatched = lines.clone().filter(|&(y, x)| shown.labelled(0, y, x) == HATCHING).count();
    assert!(hatched > lines.count() / 10, "{hatched}");
    // A window that is larger than the images has ignored pixels around them.
    let shown = Preview::new(&dir, "--recipe native --patch 228", 2, 206);
    let expected = 100.0 * (1.0 - 200.0 * 200.0 / (228.0 * 228.0));
    assert!(shown.printed.contains(&format!("ignored in these samples: {expected:.2} %")), "{}", shown.printed);
}

/// 12-bit values in 16 bits, of which a few hundred are used, are nearly black.
#[test]
fn dark_images_are_told_and_grey_scaling_brightens_them() {
    let dir = TestDir::new();
    for folder in ["dark/images", "dark/masks"] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    let write = |name: &str, depth: png::BitDepth, bytes: &[u8]| {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 40, 40);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
        fs::write(dir.path(&format!("dark/{name}")), file).unwrap();
    };
    let samples: Vec<u8> = (0..1600u16).flat_map(|i| (i * 7 % 600).to_be_bytes()).collect();
    write("images/a.png", png::BitDepth::Sixteen, &samples);
    write("images/b.png", png::BitDepth::Sixteen, &[0; 3200]);
    let mask: Vec<u8> = (0..1600).map(|i| (i % 2) as u8).collect();
    ["masks/a.png", "masks/b.png"].iter().for_each(|name| write(name, png::BitDepth::Eight, &mask));
    let warned = |args: &str| {
        let args = format!("--data_dir dark --out p.png --overwrite --samples 2 --grey_range type {args}");
        stderr(&preview(&dir, &args).success())
    };
    let dark = warned("--recipe native --patch 20 --grey_scaling range");
    for words in [
        "warning: the grey levels of 2 of 2 slices span less than 5 %",
        "a.png' 0.9 %",
        "leave out --grey_scaling range",
    ] {
        assert!(dark.contains(words), "{dark}");
    }
    assert!(warned("").contains("train with --recipe native"));
    let scaled = warned("--recipe native --patch 20");
    assert!(scaled.contains("1 of 2 slices") && scaled.contains("b.png' 0.0 %: "), "{scaled}");
    // Nothing is said of usual images.
    let usual = stderr(&preview(&dir, "--out p.png --overwrite --augment").success());
    assert_eq!(usual, "");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let dir = TestDir::new();
    for (args, words) in [
        ("", &["--out"][..]),
        ("--out p.jpg", &["--out 'p.jpg'", ".png"]),
        ("--out p", &["--out 'p'", ".png"]),
        ("--out p.png --samples 0", &["--samples", "1 to 64"]),
        ("--out p.png --samples 65", &["--samples", "1 to 64"]),
        ("--out p.png --seed 4294967296", &["--seed"]),
        ("--out p.png --recipe other", &["other", "reference, native"]),
        ("--out p.png --patch 68", &["--patch belongs to the native recipe", "add --recipe native"]),
        ("--out p.png --grey_scaling image", &["--grey_scaling belongs to the native recipe"]),
        ("--out p.png --recipe native --patch 101", &["--patch 101", "100 and 116"]),
        ("--out p.png --recipe native --patch 3", &["--patch", "4 to 16388"]),
        ("--out p.png --recipe native --augmentations flips", &["--augmentations", "add --augment"]),
        ("--out p.png --recipe native --augment --augmentations twist", &["twist"]),
        ("--out p.png --max_steps 3", &["--max_steps"]),
    ] {
        fails(preview(&dir, args), 2, words);
    }
    for (args, words) in [
        ("--out p.png --data_dir nowhere", &["'nowhere'"][..]),
        ("--out p.png --label_map 0=a", &["2 to 64"]),
        ("--out p.png --label_map 7=a;8=b", &["does not know the values 0, 255"]),
    ] {
        fails(preview(&dir, args), 1, words);
    }
    assert!(!dir.path("p.png").exists());
    fs::remove_file(dir.path("data/train-labels.tif")).unwrap();
    fails(preview(&dir, "--out p.png"), 1, &["no 'train-labels.tif' in 'data'"]);
    // Training says the same.
    fails(dir.run("--base_filters 1"), 1, &["no 'train-labels.tif' in 'data'"]);
}

#[test]
fn a_picture_that_is_there_stays_unless_asked_otherwise() {
    let dir = TestDir::new();
    fs::write(dir.path("p.png"), "not ours").unwrap();
    fails(preview(&dir, "--out p.png"), 1, &["'p.png' is there already", "--overwrite"]);
    assert_eq!(dir.read("p.png"), b"not ours");
    let printed = stdout(&preview(&dir, "--out p.png --overwrite").success());
    let picture = Picture::decode(&dir.read("p.png"));
    assert!(printed.ends_with(&format!("picture: p.png, {}x{}\n", picture.height, picture.width)), "{printed}");
    // Eight samples in two columns; phantom's cells are painted, its membranes are not.
    assert_eq!(picture.width, 1224);
    assert_eq!(printed.lines().filter(|line| line.starts_with("sample ")).count(), 8);
    assert!(picture.has(CLASSES[0]), "the legend has the colour of class 1");
    // Four rows of a tile and its caption each.
    assert!((4 * 328..4 * 328 + 250).contains(&picture.height), "{}", picture.height);
}
