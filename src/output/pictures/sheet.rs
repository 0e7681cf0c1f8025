//! A contact sheet: some slices of a stack, a row each, with the image, what the network says of it, and the outline of
//! its mask, and of the label where that is known.

use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;
use tch::{Device, Kind, Tensor};

use super::Canvas;
use crate::data::values::{BACKGROUND, GreyRange};

/// Longest side of a tile in pixels; larger slices are scaled down.
const LARGEST_TILE: i64 = 384;
/// Smaller slices are scaled up, each pixel to a square, so that captions have room.
const SMALLEST_TILE: i64 = 256;
const MOST_SLICES: usize = 4;
/// Between tiles.
const GAP: u32 = 12;
/// Where the first tile begins: beside the numbers of the slices, below title and captions.
const LEFT: u32 = 112;
const TOP: u32 = 92;
// Told apart with any kind of colour vision, and from grey.
const PREDICTION: RGBColor = RGBColor(255, 150, 0);
const LABEL: RGBColor = RGBColor(0, 190, 255);
const CAPTIONS: [&str; 4] = ["image", "background probability", "predicted outline", "label outline"];

/// The slices to show of `slices`: a few, evenly spread in their stack, the first and the last among them.
pub fn choose(slices: &[usize]) -> Vec<usize> {
    let mut slices = slices.to_vec();
    slices.sort_unstable();
    let count = slices.len().min(MOST_SLICES);
    (0..count).map(|i| slices[i * (slices.len() - 1) / (count - 1).max(1)]).collect()
}

/// Rows of tiles of one size.
#[derive(Debug)]
pub struct Sheet {
    title: String,
    rows: Vec<(usize, Vec<Canvas>)>,
}

impl Sheet {
    /// A sheet of the stack at `path`, for `shown` slices of what `all` names.
    pub fn new(path: &Path, shown: usize, all: &str) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self { title: format!("{name}: {shown} of {all} (numbered from 0)"), rows: Vec::new() }
    }

    /// Adds a row for `slice`: its stored samples, of which `range` is shown from black to white, the probability of
    /// background, and the class indices where they are known. All are `[H, W]`, for each slice the same, and with
    /// label or not.
    pub fn add(
        &mut self,
        slice: usize,
        image: &Tensor,
        range: GreyRange,
        probability: &Tensor,
        classes: Option<&Tensor>,
    ) {
        let levels = (image.to_kind(Kind::Float) - range.black) / (range.white - range.black);
        let (image, probability) = (Tile::new(&levels), Tile::new(probability));
        let mut tiles = vec![image.grey(), probability.grey(), image.with_outline(&probability, PREDICTION)];
        if let Some(classes) = classes {
            let label = Tile::new(&classes.eq(BACKGROUND).to_kind(Kind::Float));
            tiles.push(image.with_outline(&label, LABEL));
        }
        self.rows.push((slice, tiles));
    }

    /// Each slice's number and its tiles side by side, without captions.
    pub fn strips(&self) -> impl Iterator<Item = (usize, Canvas)> {
        self.rows.iter().map(|(slice, tiles)| {
            let (width, height) = (tiles[0].width, tiles[0].height);
            let mut strip = Canvas::new((width + GAP) * tiles.len() as u32 - GAP, height);
            for (column, tile) in (0..).zip(tiles) {
                strip.paste(tile, (column * (width + GAP), 0));
            }
            (*slice, strip)
        })
    }

    /// All slices with captions; `None` where there is none.
    pub fn draw(&self) -> Result<Option<Canvas>> {
        let Some((_, tiles)) = self.rows.first() else { return Ok(None) };
        let (width, height) = (tiles[0].width + GAP, tiles[0].height + GAP);
        let mut canvas = Canvas::new(LEFT + tiles.len() as u32 * width, TOP + self.rows.len() as u32 * height);
        canvas.text(&self.title, (LEFT as i32, 30), 28, HPos::Left)?;
        for (column, caption) in (0..).zip(&CAPTIONS[..tiles.len()]) {
            let middle = LEFT + column * width + tiles[0].width / 2;
            canvas.text(caption, (middle as i32, TOP as i32 - 20), 22, HPos::Center)?;
        }
        for (row, (slice, strip)) in (0..).zip(self.strips()) {
            let top = TOP + row * height;
            canvas.paste(&strip, (LEFT, top));
            let middle = (top + strip.height / 2) as i32;
            canvas.text(&format!("slice {slice}"), (LEFT as i32 - 12, middle), 22, HPos::Right)?;
        }
        Ok(Some(canvas))
    }
}

/// Values from 0 to 1, at the size they are shown in.
struct Tile {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Tile {
    /// From `[H, W]` f32: means over areas where it is scaled down, repeated pixels where it is scaled up.
    fn new(values: &Tensor) -> Self {
        let (height, width) = (values.size()[0], values.size()[1]);
        let longest = height.max(width);
        let (height, width) = if longest > LARGEST_TILE {
            let side = |length: i64| (length * LARGEST_TILE / longest).max(1);
            (side(height), side(width))
        } else {
            let times = if longest < SMALLEST_TILE { (SMALLEST_TILE + longest - 1) / longest } else { 1 };
            (height * times, width * times)
        };
        // Areas of one pixel or less are that pixel.
        let scaled = values.unsqueeze(0).adaptive_avg_pool2d([height, width]).to_device(Device::Cpu).contiguous();
        let mut values = vec![0.0; (height * width) as usize];
        scaled.copy_data(&mut values, (height * width) as usize);
        Self { width: width as usize, height: height as usize, values }
    }

    fn grey(&self) -> Canvas {
        let level = |value: &f32| [(value.clamp(0.0, 1.0) * 255.0).round() as u8; 3];
        Canvas {
            width: self.width as u32,
            height: self.height as u32,
            rgb: self.values.iter().flat_map(level).collect(),
        }
    }

    /// In grey, with the pixels of `mask`'s background that touch its membrane in `colour`.
    fn with_outline(&self, mask: &Self, colour: RGBColor) -> Canvas {
        let mut canvas = self.grey();
        let background = |x: usize, y: usize| mask.values[y * mask.width + x] > 0.5;
        for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
            let beside = [
                (x > 0).then(|| (x - 1, y)),
                (x + 1 < self.width).then_some((x + 1, y)),
                (y > 0).then(|| (x, y - 1)),
                (y + 1 < self.height).then_some((x, y + 1)),
            ];
            if background(x, y) && beside.into_iter().flatten().any(|(x, y)| !background(x, y)) {
                let start = 3 * (y * self.width + x);
                canvas.rgb[start..start + 3].copy_from_slice(&[colour.0, colour.1, colour.2]);
            }
        }
        canvas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::pictures::tests::decode;

    const BYTES: GreyRange = GreyRange { black: 0.0, white: 255.0 };

    fn tensor(values: &[f32], height: i64, width: i64) -> Tensor {
        Tensor::from_slice(values).view([height, width])
    }

    #[test]
    fn a_few_slices_are_chosen_evenly_spread() {
        let slices: Vec<usize> = (0..30).collect();
        assert_eq!(choose(&slices), [0, 9, 19, 29]);
        assert_eq!(choose(&[23, 7, 9]), [7, 9, 23]);
        assert_eq!(choose(&[5]), [5]);
        assert!(choose(&[]).is_empty());
    }

    /// 300 columns are neither scaled up nor down, so each pixel can be named.
    #[test]
    fn outlines_are_where_the_mask_changes_and_nowhere_else() {
        let (height, width) = (200usize, 300usize);
        let grey = |y: usize, x: usize| ((3 * y + 7 * x) % 256) as f32;
        // Background in a rectangle; the label is a pixel larger on each side.
        let inside = |y: usize, x: usize, more: usize| {
            (50 - more..120 + more).contains(&y) && (80 - more..200 + more).contains(&x)
        };
        let each = |value: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..height * width).map(|i| value(i / width, i % width)).collect()
        };
        let image = tensor(&each(&grey), height as i64, width as i64);
        let probability = tensor(&each(&|y, x| if inside(y, x, 0) { 0.9 } else { 0.2 }), height as i64, width as i64);
        let classes =
            tensor(&each(&|y, x| f32::from(inside(y, x, 1))), height as i64, width as i64).to_kind(Kind::Uint8);
        let mut sheet = Sheet::new(Path::new("data/stack.tif"), 2, "30 slices");
        for slice in [3, 8] {
            sheet.add(slice, &image, BYTES, &probability, Some(&classes));
        }
        let canvas = decode(&sheet.draw().unwrap().unwrap().png().unwrap());
        assert_eq!((canvas.width, canvas.height), (112 + 4 * 312, 92 + 2 * 212));
        let on_edge = |y: usize, x: usize, more: usize| {
            let (top, left, bottom, right) = (50 - more, 80 - more, 119 + more, 199 + more);
            inside(y, x, more) && (y == top || y == bottom || x == left || x == right)
        };
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let level = grey(y, x) as u8;
            let expected = [
                RGBColor(level, level, level),
                if inside(y, x, 0) { RGBColor(230, 230, 230) } else { RGBColor(51, 51, 51) },
                if on_edge(y, x, 0) { RGBColor(255, 150, 0) } else { RGBColor(level, level, level) },
                if on_edge(y, x, 1) { RGBColor(0, 190, 255) } else { RGBColor(level, level, level) },
            ];
            for (column, expected) in (0u32..).zip(expected) {
                for row in 0..2 {
                    let place = (112 + column * 312 + x as u32, 92 + row * 212 + y as u32);
                    assert_eq!(canvas.pixel(place.0, place.1), expected, "column {column}, row {y}, pixel {x}");
                }
            }
        }
    }

    #[test]
    fn small_slices_grow_by_whole_pixels_and_large_ones_are_averaged() {
        let small = Tile::new(&tensor(&[0.0, 1.0, 0.25, 0.5], 2, 2));
        assert_eq!((small.width, small.height), (256, 256));
        let at = |x: usize, y: usize| small.values[256 * y + x];
        assert_eq!([at(0, 0), at(127, 127), at(128, 0), at(0, 128), at(255, 255)], [0.0, 0.0, 1.0, 0.25, 0.5]);
        // Twice too large: each pixel is the mean of four.
        let (height, width) = (384, 768);
        let values: Vec<f32> = (0..height * width).map(|i| ((i * 31 + i / width * 17) % 97) as f32 / 97.0).collect();
        let large = Tile::new(&tensor(&values, height as i64, width as i64));
        assert_eq!((large.width, large.height), (384, 192));
        for (y, x) in [(0, 0), (100, 200), (191, 383)] {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| values[(2 * y + dy) * width + 2 * x + dx]);
            assert!((large.values[y * 384 + x] - four.iter().sum::<f32>() / 4.0).abs() < 1e-6);
        }
    }
}
