//! Training samples as the network sees them: a pair of tiles each, the network's input and the same with the classes
//! of its labels as colours. A thin line frames the part that the network answers for; around it is context.
//!
//! Shapes: C channels, S and O the sides of the network's input and output.

use anyhow::Result;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;
use tch::{Device, Kind, Tensor};

use super::legend::Legend;
use super::sheet::tile::{self, Tile};
use super::{Canvas, shortened};
use crate::recipe::preprocessing::MARGIN as CONTEXT;

/// The longest side of a tile.
const LARGEST_TILE: i64 = 360;
/// Around everything, and between the pairs of a row.
const MARGIN: u32 = 16;
const SPACE: u32 = 24;
/// Between the tiles of a pair, and below them.
const GAP: u32 = 12;
/// Height of a pair's caption.
const CAPTION: u32 = 30;
/// Heights of the title, and of a line below it.
const TITLE: u32 = 48;
const LINE: u32 = 28;
const SIZE: u32 = 20;
/// Room for the lines of text above few samples.
const LEAST_WIDTH: u32 = 1000;
/// Colour of the line around the output.
const FRAME: RGBColor = RGBColor(0, 190, 255);
/// What stands for no label in the context. No class: those are fewer, and `IGNORED` is more.
const OUTSIDE: u8 = 254;

/// A sample: what the network gets, and what it is trained to answer.
pub struct Sample<'a> {
    /// Above the tiles.
    pub caption: String,
    /// The network's input, `[C, S, S]` f32: three channels are shown in colour, of other numbers the first in grey.
    pub image: &'a Tensor,
    /// The levels of `image` that are shown black and white; those beyond are clipped.
    pub shown: [f64; 2],
    /// Class indices, [`IGNORED`](crate::data::labels::IGNORED) among them, `[O, O]` of any integer type.
    pub labels: &'a Tensor,
}

/// Samples in rows, all of one size.
#[derive(Debug, Default)]
pub struct SampleSheet {
    samples: Vec<(String, Canvas)>,
}

impl SampleSheet {
    pub fn add(&mut self, sample: Sample<'_>) {
        let [low, high] = sample.shown;
        let (channels, side) = (sample.image.size()[0], sample.image.size()[1]);
        let shown = if channels == 3 { sample.image.shallow_clone() } else { sample.image.narrow(0, 0, 1) };
        let size = shown_side(side);
        let image = Tile::new(&((shown - low) / (high - low)), [size, size]);
        let mut classes = tile::nearest(&on_input(sample.labels, side), [size, size]);
        let output = bounds(&classes, size as usize);
        classes.iter_mut().filter(|class| **class == OUTSIDE).for_each(|class| *class = 0);
        let (mut input, mut labelled) = (image.canvas(), image.grey().canvas());
        tile::paint(&mut labelled, &classes);
        let mut pair = Canvas::new(2 * size as u32 + GAP, size as u32);
        for (tile, left) in [(&mut input, 0), (&mut labelled, size as u32 + GAP)] {
            frame(tile, output);
            pair.paste(tile, (left, 0));
        }
        self.samples.push((sample.caption, pair));
    }

    /// All samples below a title, lines of text, and a legend of the classes: index, name, and what follows the name.
    /// `None` where there is no sample.
    pub fn draw<'a>(
        &self,
        title: &str,
        lines: &[String],
        classes: impl IntoIterator<Item = (u8, &'a str, String)>,
    ) -> Result<Option<Canvas>> {
        let Some((_, first)) = self.samples.first() else { return Ok(None) };
        let columns = columns(self.samples.len());
        let (wide, high) = (first.width + SPACE, CAPTION + first.height + GAP);
        let width = LEAST_WIDTH.max(2 * MARGIN + columns as u32 * wide - SPACE);
        let room = width - 2 * MARGIN;
        let legend = Legend::new(classes, room)?;
        let legend_top = TITLE + LINE * lines.len() as u32;
        let top = legend_top + legend.height();
        let rows = self.samples.len().div_ceil(columns) as u32;
        let mut canvas = Canvas::new(width, top + rows * high);
        let left = MARGIN as i32;
        canvas.text(&shortened(title, 28, room)?, (left, TITLE as i32 / 2 + 4), 28, HPos::Left)?;
        for (line, text) in (0..).zip(lines) {
            let middle = TITLE + line * LINE + LINE / 2;
            canvas.text(&shortened(text, SIZE, room)?, (left, middle as i32), SIZE, HPos::Left)?;
        }
        legend.draw(&mut canvas, (MARGIN, legend_top))?;
        for (index, (caption, pair)) in self.samples.iter().enumerate() {
            let (row, column) = ((index / columns) as u32, (index % columns) as u32);
            let (x, y) = (MARGIN + column * wide, top + row * high);
            let caption = shortened(caption, SIZE, pair.width)?;
            canvas.text(&caption, (x as i32, (y + CAPTION / 2) as i32), SIZE, HPos::Left)?;
            canvas.paste(pair, (x, y + CAPTION));
        }
        Ok(Some(canvas))
    }
}

/// The side of a tile for an input of `side` pixels: a whole part of it, so that a pixel of the tile is the mean of a
/// square of the input where that goes.
fn shown_side(side: i64) -> i64 {
    side / ((side + LARGEST_TILE - 1) / LARGEST_TILE)
}

/// Pairs in a row: so many that the picture is about as wide as high.
fn columns(samples: usize) -> usize {
    (1..).find(|columns| 2 * columns * columns >= samples).unwrap_or(1)
}

/// Labels `[O, O]` where they belong in an input of `side` pixels, [`OUTSIDE`] around them: `[S, S]` u8.
fn on_input(labels: &Tensor, side: i64) -> Tensor {
    let all = Tensor::full([side, side], i64::from(OUTSIDE), (Kind::Uint8, Device::Cpu));
    let output = labels.size()[0];
    all.narrow(0, CONTEXT, output).narrow(1, CONTEXT, output).copy_(labels);
    all
}

/// The square of labels in a tile of `side` pixels: its first row and column, and its side.
fn bounds(classes: &[u8], side: usize) -> (usize, usize) {
    let is_label = |class: &u8| *class != OUTSIDE;
    // The diagonal passes through the square, which lies in the middle.
    let mut diagonal = classes.iter().step_by(side + 1);
    let first = diagonal.clone().position(is_label).unwrap_or(0);
    (first, diagonal.rposition(is_label).map_or(side, |last| last + 1) - first)
}

/// Draws a line around a square, on the pixels beside it. The context is wide enough for it at any scale.
fn frame(tile: &mut Canvas, (first, side): (usize, usize)) {
    let (start, length) = (first.saturating_sub(1) as u32, side as u32 + 2);
    let end = (start + length - 1).min(tile.width - 1);
    for edge in [start, end] {
        tile.fill((start, edge), (end - start + 1, 1), FRAME);
        tile.fill((edge, start), (1, end - start + 1), FRAME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::IGNORED;
    use crate::output::pictures::tests::decode;

    /// An input whose sides are these, and labels that are 0, 1, 2 and ignored in vertical stripes.
    fn sample(channels: i64, output: i64) -> (Tensor, Tensor) {
        let side = output + 2 * CONTEXT;
        let image = Tensor::arange(channels * side * side, (Kind::Float, Device::Cpu)).remainder(211.0) / 127.5 - 1.0;
        let stripe = |x: i64| [0i64, 1, 2, i64::from(IGNORED)][(x * 4 / output) as usize];
        let labels: Vec<i64> = (0..output * output).map(|index| stripe(index % output)).collect();
        (image.view([channels, side, side]), Tensor::from_slice(&labels).view([output, output]))
    }

    fn draw(image: &Tensor, labels: &Tensor, count: usize) -> Canvas {
        let mut sheet = SampleSheet::default();
        for index in 0..count {
            sheet.add(Sample { caption: format!("sample {index}"), image, shown: [-1.0, 1.0], labels });
        }
        let classes = [(0, "wall", String::new()), (1, "cell", "3 %".to_owned())];
        decode(&sheet.draw("a title", &["a line".to_owned()], classes).unwrap().unwrap().png().unwrap())
    }

    /// An output of 20 pixels in an input of 204, which is shown as it is: each pixel can be named.
    #[test]
    fn a_pair_shows_the_input_and_classes_over_its_output() {
        let (image, labels) = sample(1, 20);
        let canvas = draw(&image, &labels, 1);
        assert_eq!((canvas.width, canvas.height), (1000, 48 + 28 + 32 + 30 + 204 + 12));
        let top = canvas.height - 204 - 12;
        let level = |y: u32, x: u32| {
            let value = image.double_value(&[0, i64::from(y), i64::from(x)]);
            ((value + 1.0) / 2.0 * 255.0).round() as u8
        };
        let grey = |level: u8| RGBColor(level, level, level);
        for (y, x) in (0..204).flat_map(|y| (0..204).map(move |x| (y, x))) {
            let [input, labelled] = [16 + x, 16 + 204 + 12 + x].map(|x| canvas.pixel(x, top + y));
            let is_framed = |at: u32| (91..113).contains(&at);
            let on_line = is_framed(y) && is_framed(x) && (y == 91 || y == 112 || x == 91 || x == 112);
            if on_line {
                assert_eq!([input, labelled], [FRAME; 2], "{y} {x}");
                continue;
            }
            let own = level(y, x);
            assert_eq!(input, grey(own), "{y} {x}");
            let is_inside = (92..112).contains(&y) && (92..112).contains(&x);
            let mixed = |RGBColor(red, green, blue): RGBColor| {
                let [red, green, blue] = [red, green, blue].map(|colour| colour.midpoint(own) + (colour ^ own) % 2);
                RGBColor(red, green, blue)
            };
            let expected = match (is_inside, x.saturating_sub(92) / 5) {
                (true, 1) => mixed(RGBColor(230, 159, 0)),
                (true, 2) => mixed(RGBColor(86, 180, 233)),
                (true, 3) if (x + y) % 8 < 2 => grey(200),
                _ => grey(own),
            };
            assert_eq!(labelled, expected, "{y} {x}");
        }
    }

    /// 572 pixels are shown on 286: each is the mean of four, and the class is that of one of them.
    #[test]
    fn large_inputs_are_scaled_down_and_three_channels_are_in_colour() {
        let (image, labels) = sample(3, 388);
        let canvas = draw(&image, &labels, 3);
        // Two pairs in a row.
        let row = 30 + 286 + 12;
        assert_eq!((canvas.width, canvas.height), (32 + 2 * 584 + 24, 48 + 28 + 32 + 2 * row));
        let (left, top) = (16 + 584 + 24, canvas.height - 2 * row + 30);
        for (y, x) in [(0, 0), (44, 241), (100, 150), (285, 285)] {
            let mean = |channel: i64| {
                let square = image.get(channel).narrow(0, 2 * y, 2).narrow(1, 2 * x, 2);
                (square.mean(Kind::Double).double_value(&[]) + 1.0) / 2.0 * 255.0
            };
            let RGBColor(red, green, blue) = canvas.pixel(left + x as u32, top + y as u32);
            for (channel, found) in (0..).zip([red, green, blue]) {
                assert!((mean(channel) - f64::from(found)).abs() < 0.51, "{y} {x}: {found}");
            }
        }
        // The output is 46 to 239 of 286.
        let line: Vec<u32> = (0..286).filter(|&x| canvas.pixel(left + x, top + 140) == FRAME).collect();
        assert_eq!(line, [45, 240]);
        let line: Vec<u32> = (0..286).filter(|&y| canvas.pixel(left + 140, top + y) == FRAME).collect();
        assert_eq!(line, [45, 240]);
        // No second sample beside the third.
        let below = top + row;
        assert!((0..584).all(|x| canvas.pixel(left + x, below + 140) == RGBColor(255, 255, 255)));
    }

    #[test]
    fn tiles_are_parts_of_inputs_that_fit_their_room() {
        let sides = [188, 252, 348, 364, 572, 716, 732, 1212, 16_572].map(shown_side);
        assert_eq!(sides, [188, 252, 348, 182, 286, 358, 244, 303, 352]);
        // The line around the smallest and the largest output lies in the context.
        for output in [4, 388, 16_388] {
            let side = shown_side(output + 2 * CONTEXT);
            let labels = Tensor::zeros([output, output], (Kind::Uint8, Device::Cpu));
            let classes = tile::nearest(&on_input(&labels, output + 2 * CONTEXT), [side, side]);
            let (first, length) = bounds(&classes, side as usize);
            assert!(first >= 1 && first + length < side as usize, "{output}: {first} {length}");
            assert_eq!(classes.iter().filter(|class| **class == 0).count(), length * length);
        }
    }

    #[test]
    fn the_picture_is_about_as_wide_as_high() {
        assert_eq!([1, 2, 3, 8, 9, 18, 19, 64].map(columns), [1, 1, 2, 2, 3, 3, 4, 6]);
        assert_eq!(SampleSheet::default().draw("", &[], []).unwrap(), None);
    }
}
