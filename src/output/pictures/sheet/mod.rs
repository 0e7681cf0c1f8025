//! A contact sheet: some images, a row each, with what the network says of it, and the label where that is known.
//!
//! Two classes with a probability: the probability, and outlines. Others: classes as colours over the grey image, whose
//! names are in a legend. C channels, H, W pixels. Not here: the tiles themselves (`tile`).

pub mod tile;

use anyhow::Result;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;
use tch::{Kind, Tensor};

use super::legend::Legend;
use super::{Canvas, shortened, text_width};
use crate::data::labels::IGNORED;
use tile::Tile;

const MOST_SLICES: usize = 4;
/// Between tiles.
const GAP: u32 = 12;
/// Where the first tile begins: beside the captions of the rows, if they are short, and below title and captions of the
/// columns.
const LEFT: u32 = 112;
const TOP: u32 = 92;
/// Left of captions that are longer.
const MARGIN: u32 = 4;
/// Room for the caption of a row.
const MOST_CAPTION: u32 = 260;
const SIZE: u32 = 22;
// Colours of the second of two classes, which any kind of colour vision tells apart, and from grey.
pub const PREDICTION: RGBColor = RGBColor(255, 150, 0);
pub const LABEL: RGBColor = RGBColor(0, 190, 255);

/// The slices to show of `slices`: a few, evenly spread in their stack, the first and the last among them.
pub fn choose(slices: &[usize]) -> Vec<usize> {
    let mut slices = slices.to_vec();
    slices.sort_unstable();
    let count = slices.len().min(MOST_SLICES);
    (0..count).map(|i| slices[i * (slices.len() - 1) / (count - 1).max(1)]).collect()
}

/// What a row of a sheet shows.
pub struct Row<'a> {
    /// Left of the tiles.
    pub caption: String,
    /// The stored samples, `[C, H, W]`: three channels are shown in colour, of other numbers the first in grey.
    pub image: &'a Tensor,
    /// The stored values that are shown black and white.
    pub black: f64,
    pub white: f64,
    pub prediction: Prediction<'a>,
    /// Class indices, `[H, W]` u8.
    pub labels: Option<&'a Tensor>,
}

/// What the network says of an image.
pub enum Prediction<'a> {
    /// The probability of class 1 of two, `[H, W]` f32.
    Probability(&'a Tensor),
    /// Class indices, `[H, W]` u8.
    Classes(&'a Tensor),
}

/// Rows of tiles. All have a prediction of the same kind, and labels or none.
#[derive(Debug)]
pub struct Sheet {
    title: String,
    names: Vec<String>,
    /// Captions of the columns.
    captions: Vec<String>,
    /// Height and width of each tile: those of the first row.
    frame: Option<[i64; 2]>,
    has_colours: bool,
    has_ignored: bool,
    rows: Vec<(String, Vec<Canvas>)>,
}

impl Sheet {
    /// An empty sheet; `names` are those of the classes.
    pub fn new(title: String, names: Vec<String>) -> Self {
        let (captions, rows) = (Vec::new(), Vec::new());
        Self { title, names, captions, frame: None, has_colours: false, has_ignored: false, rows }
    }

    /// Adds a row. Images of another size than the first are scaled to fit its tiles.
    pub fn add(&mut self, row: Row<'_>) {
        let [channels, height, width] = [0, 1, 2].map(|dimension| row.image.size()[dimension]);
        let frame = *self.frame.get_or_insert_with(|| tile::natural_size([height, width]));
        let size = tile::fitted_size([height, width], frame);
        let shown = if channels == 3 { row.image.shallow_clone() } else { row.image.narrow(0, 0, 1) };
        let image = Tile::new(&((shown.to_kind(Kind::Float) - row.black) / (row.white - row.black)), size);
        let (mut captions, mut tiles) = (vec![image_caption(channels)], vec![image.canvas()]);
        let classes = row.labels.map(|labels| tile::nearest(labels, size));
        self.has_ignored |= classes.as_ref().is_some_and(|classes| classes.contains(&IGNORED));
        match row.prediction {
            Prediction::Probability(probability) => {
                let probability = Tile::new(&probability.to_kind(Kind::Float).unsqueeze(0), size);
                captions.push(format!("{} probability", self.names.get(1).map_or("class 1", String::as_str)));
                captions.push("predicted outline".to_owned());
                tiles.extend([probability.canvas(), image.with_outline(&probability, PREDICTION)]);
                if let (Some(labels), Some(classes)) = (row.labels, &classes) {
                    let label = Tile::new(&labels.eq(1).to_kind(Kind::Float).unsqueeze(0), size);
                    let mut outlined = image.with_outline(&label, LABEL);
                    tile::hatch(&mut outlined, classes);
                    captions.push("label outline".to_owned());
                    tiles.push(outlined);
                }
            }
            Prediction::Classes(predicted) => {
                self.has_colours = true;
                let grey = image.grey().canvas();
                let painted = |classes: &[u8]| {
                    let mut canvas = grey.clone();
                    tile::paint(&mut canvas, classes);
                    canvas
                };
                captions.push("predicted classes".to_owned());
                tiles.push(painted(&tile::nearest(predicted, size)));
                if let Some(classes) = &classes {
                    captions.push("label classes".to_owned());
                    tiles.push(painted(classes));
                }
            }
        }
        if captions.len() > self.captions.len() {
            self.captions = captions;
        }
        self.rows.push((row.caption, tiles.into_iter().map(|tile| tile::framed(tile, frame)).collect()));
    }

    /// Each row's caption and its tiles side by side, without captions.
    pub fn strips(&self) -> impl Iterator<Item = (&str, Canvas)> {
        self.rows.iter().map(|(caption, tiles)| {
            let (width, height) = (tiles[0].width, tiles[0].height);
            let mut strip = Canvas::new((width + GAP) * tiles.len() as u32 - GAP, height);
            for (column, tile) in (0..).zip(tiles) {
                strip.paste(tile, (column * (width + GAP), 0));
            }
            (caption.as_str(), strip)
        })
    }

    /// All rows with captions, title and legend; `None` where there is none.
    pub fn draw(&self) -> Result<Option<Canvas>> {
        let Some((_, tiles)) = self.rows.first() else { return Ok(None) };
        // The tiles have brought the font for measuring text.
        let captions = self.rows.iter().map(|(caption, _)| shortened(caption, SIZE, MOST_CAPTION));
        let captions = captions.collect::<Result<Vec<_>>>()?;
        let left = captions.iter().try_fold(LEFT, |left, caption| -> Result<u32> {
            Ok(left.max(text_width(caption, SIZE)? + GAP + MARGIN))
        })?;
        let (width, height) = (tiles[0].width + GAP, tiles[0].height + GAP);
        let total = left + self.captions.len() as u32 * width;
        let legend = self.legend(total - left)?;
        let top = TOP + legend.height();
        let mut canvas = Canvas::new(total, top + self.rows.len() as u32 * height);
        canvas.text(&self.title, (left as i32, 30), 28, HPos::Left)?;
        legend.draw(&mut canvas, (left, TOP - 40))?;
        for (column, caption) in (0..).zip(&self.captions) {
            let middle = left + column * width + tiles[0].width / 2;
            canvas.text(caption, (middle as i32, top as i32 - 20), SIZE, HPos::Center)?;
        }
        for (row, (caption, (_, strip))) in (0..).zip(captions.iter().zip(self.strips())) {
            let top = top + row * height;
            canvas.paste(&strip, (left, top));
            let middle = (top + strip.height / 2) as i32;
            canvas.text(caption, (left as i32 - 12, middle), SIZE, HPos::Right)?;
        }
        Ok(Some(canvas))
    }

    /// The colours in use, in lines of this width.
    fn legend(&self, width: u32) -> Result<Legend> {
        let classes = if self.has_colours { &self.names[..] } else { &[] };
        let classes = (0..=u8::MAX).zip(classes).map(|(class, name)| (class, name.as_str()));
        let ignored = self.has_ignored.then_some((IGNORED, "ignored"));
        Legend::new(classes.chain(ignored).map(|(class, name)| (class, name, String::new())), width)
    }
}

fn image_caption(channels: i64) -> String {
    if matches!(channels, 1 | 3) { "image".to_owned() } else { format!("image (channel 0 of {channels})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::pictures::tests::decode;

    fn tensor(values: &[f32], height: i64, width: i64) -> Tensor {
        Tensor::from_slice(values).view([height, width])
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    fn row<'a>(slice: usize, image: &'a Tensor, prediction: Prediction<'a>, labels: Option<&'a Tensor>) -> Row<'a> {
        Row { caption: format!("slice {slice}"), image, black: 0.0, white: 255.0, prediction, labels }
    }

    fn bytes(values: Vec<u8>, height: i64, width: i64) -> Tensor {
        Tensor::from_slice(&values).view([-1, height, width])
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
        let mut sheet = Sheet::new("stack.tif: 2 of 30 slices (numbered from 0)".to_owned(), names(2));
        for slice in [3, 8] {
            sheet.add(row(slice, &image.unsqueeze(0), Prediction::Probability(&probability), Some(&classes)));
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

    /// 300 columns are neither scaled up nor down. The label has a class more, and an ignored one.
    #[test]
    fn classes_are_painted_over_the_grey_image_and_named_in_a_legend() {
        let (height, width) = (100usize, 300usize);
        let each = |value: &dyn Fn(usize) -> u8| -> Vec<u8> { (0..height * width).map(|i| value(i % width)).collect() };
        // Red, green and blue, whose mean is 100.
        let image: Vec<u8> = [40u8, 100, 160].iter().flat_map(|&level| vec![level; height * width]).collect();
        let image = bytes(image, height as i64, width as i64);
        let predicted = bytes(each(&|x| (x / 100) as u8), height as i64, width as i64).squeeze_dim(0);
        let labels = bytes(each(&|x| [0, 3, 255][x / 100]), height as i64, width as i64).squeeze_dim(0);
        let mut sheet = Sheet::new("a title".to_owned(), names(4));
        sheet.add(row(3, &image, Prediction::Classes(&predicted), Some(&labels)));
        let canvas = decode(&sheet.draw().unwrap().unwrap().png().unwrap());
        // Three tiles, and one line of legend.
        assert_eq!((canvas.width, canvas.height), (112 + 3 * 312, 92 + 32 + 112));
        let at = |column: u32, x: u32, y: u32| canvas.pixel(112 + 312 * column + x, 124 + y);
        let grey = RGBColor(100, 100, 100);
        assert!([0, 150, 299].iter().all(|&x| at(0, x, 50) == RGBColor(40, 100, 160)));
        // Means of 100 with orange (230, 159, 0) and sky blue (86, 180, 233), rounded up.
        let painted = [grey, RGBColor(165, 130, 50), RGBColor(93, 140, 167)];
        assert_eq!([50, 150, 250].map(|x| at(1, x, 50)), painted);
        // Green is (0, 158, 115). Lines of the hatching are where column and row, less a multiple of 8, are 0 or 1.
        assert_eq!([50, 150].map(|x| at(2, x, 50)), [grey, RGBColor(50, 129, 108)]);
        assert_eq!([at(2, 200, 48), at(2, 200, 50)], [RGBColor(200, 200, 200), grey]);
        // The swatches of the classes 0 and 1 within their frames: the first is empty.
        let legend = sheet.legend(900).unwrap().entries;
        let swatch = |index: usize| canvas.pixel(112 + legend[index].x + 10, 52 + 16);
        assert_eq!((legend.len(), legend[4].text.as_str()), (5, "ignored"));
        assert_eq!([swatch(0), swatch(1)], [RGBColor(255, 255, 255), RGBColor(230, 159, 0)]);
    }

    #[test]
    fn later_images_fit_the_tiles_of_the_first_and_four_channels_show_their_first() {
        let mut values = vec![255u8; 4 * 300 * 150];
        values[300 * 150..].fill(0);
        let classes = bytes(vec![0; 300 * 150], 300, 150).squeeze_dim(0);
        let wide = Tensor::ones([1, 300, 300], (Kind::Uint8, tch::Device::Cpu));
        let mut sheet = Sheet::new(String::new(), names(3));
        sheet.add(row(0, &wide, Prediction::Classes(&wide.get(0)), None));
        sheet.add(row(1, &bytes(values, 300, 150), Prediction::Classes(&classes), None));
        let strips: Vec<Canvas> = sheet.strips().map(|(_, strip)| strip).collect();
        assert_eq!(strips.iter().map(|strip| (strip.width, strip.height)).collect::<Vec<_>>(), [(612, 300); 2]);
        // White from 75 to 225, black beside it; in both tiles.
        for (x, level) in [(74, 0), (75, 255), (224, 255), (225, 0), (386, 0), (387, 255)] {
            assert_eq!(strips[1].pixel(x, 150), RGBColor(level, level, level), "{x}");
        }
        assert_eq!(image_caption(4), "image (channel 0 of 4)");
    }

    #[test]
    fn long_captions_take_their_room_from_no_tile() {
        let image = Tensor::zeros([1, 300, 300], (Kind::Uint8, tch::Device::Cpu));
        let mut sheet = Sheet::new(String::new(), names(3));
        let caption = "a_folder/with_an_image_of_a_very_long_name.png".to_owned();
        sheet.add(Row { caption, ..row(0, &image, Prediction::Classes(&image.get(0)), None) });
        let canvas = sheet.draw().unwrap().unwrap();
        let left = canvas.width - 2 * 312;
        assert!((LEFT + 50..=MOST_CAPTION + GAP + MARGIN).contains(&left), "{left}");
        assert_eq!(canvas.pixel(left, canvas.height - 50), RGBColor(0, 0, 0));
    }
}
