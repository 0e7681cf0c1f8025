//! The tiles of a contact sheet: an image at the size that it is shown in, with an outline, or with classes as colours.
//!
//! C channels or planes, H, W pixels of an image.

use plotters::style::RGBColor;
use tch::{Device, Kind, Tensor};

use super::super::Canvas;
use crate::data::labels::IGNORED;

/// Longest side of a tile in pixels; larger images are scaled down.
const LARGEST_TILE: i64 = 384;
/// Smaller images are scaled up, each pixel to a square, so that captions have room.
const SMALLEST_TILE: i64 = 256;

/// Okabe and Ito's colours, then some of Paul Tol's "muted", which are told apart with any kind of colour vision.
const COLOURS: [RGBColor; 12] = [
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(240, 228, 66),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(51, 34, 136),
    RGBColor(153, 153, 51),
    RGBColor(136, 34, 85),
    RGBColor(68, 170, 153),
    RGBColor(221, 204, 119),
];
/// What is mixed into the colours of each further dozen of classes: a grey level and its share in percent.
const SHADES: [(u32, u32); 6] = [(0, 0), (255, 50), (0, 45), (255, 75), (0, 70), (128, 50)];
/// Colour of the lines over pixels that are ignored.
const HATCHING: u8 = 200;

/// Height and width at which an image is shown by itself.
pub fn natural_size([height, width]: [i64; 2]) -> [i64; 2] {
    let longest = height.max(width);
    if longest > LARGEST_TILE {
        return [height, width].map(|side| (side * LARGEST_TILE / longest).max(1));
    }
    let times = if longest < SMALLEST_TILE { (SMALLEST_TILE + longest - 1) / longest } else { 1 };
    [height * times, width * times]
}

/// Height and width at which an image is shown in a frame: as large as fits, in its own aspect.
pub fn fitted_size([height, width]: [i64; 2], frame: [i64; 2]) -> [i64; 2] {
    if natural_size([height, width]) == frame {
        return frame;
    }
    let [most_high, most_wide] = frame;
    if most_high * width <= most_wide * height {
        [most_high, (width * most_high / height).max(1)]
    } else {
        [(height * most_wide / width).max(1), most_wide]
    }
}

/// The colour of a class; class 0 shows the image alone.
pub fn colour(class: u8) -> Option<RGBColor> {
    let index = usize::from(class).checked_sub(1)?;
    let RGBColor(red, green, blue) = COLOURS[index % COLOURS.len()];
    let (level, share) = SHADES[index / COLOURS.len() % SHADES.len()];
    let mix = |sample: u8| ((u32::from(sample) * (100 - share) + level * share) / 100) as u8;
    Some(RGBColor(mix(red), mix(green), mix(blue)))
}

/// Whether a line of the hatching passes.
pub fn is_hatched(x: usize, y: usize) -> bool {
    (x + y) % 8 < 2
}

/// Values from 0 to 1 at the size they are shown in: one plane, or red, green and blue.
pub struct Tile {
    pub width: usize,
    pub height: usize,
    /// Plane after plane.
    values: Vec<f32>,
}

impl Tile {
    /// From `[C, H, W]` f32: means over areas where it is scaled down, repeated pixels where it is scaled up by whole
    /// numbers, means of neighbours in between.
    pub fn new(values: &Tensor, [height, width]: [i64; 2]) -> Self {
        // Areas of one pixel or less are that pixel.
        let scaled = values.adaptive_avg_pool2d([height, width]).to_device(Device::Cpu).contiguous();
        let mut values = vec![0.0; scaled.numel()];
        let count = values.len();
        scaled.copy_data(&mut values, count);
        Self { width: width as usize, height: height as usize, values }
    }

    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// In grey or colour.
    pub fn canvas(&self) -> Canvas {
        let level = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        let planes = self.values.len() / self.pixels();
        let sample = |pixel: usize, plane: usize| level(self.values[plane.min(planes - 1) * self.pixels() + pixel]);
        let pixel = |pixel: usize| [0, 1, 2].map(|plane| sample(pixel, plane));
        Canvas {
            width: self.width as u32,
            height: self.height as u32,
            rgb: (0..self.pixels()).flat_map(pixel).collect(),
        }
    }

    /// The mean of the planes.
    pub fn grey(&self) -> Self {
        let planes = self.values.len() / self.pixels();
        let sum = |pixel: usize| self.values.iter().skip(pixel).step_by(self.pixels()).sum::<f32>();
        let values = (0..self.pixels()).map(|pixel| sum(pixel) / planes as f32).collect();
        Self { width: self.width, height: self.height, values }
    }

    /// The tile, with the pixels of `mask`'s class 1 that touch other ones in `colour`.
    pub fn with_outline(&self, mask: &Self, colour: RGBColor) -> Canvas {
        let mut canvas = self.canvas();
        let is_set = |x: usize, y: usize| mask.values[y * mask.width + x] > 0.5;
        for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
            let beside = [
                (x > 0).then(|| (x - 1, y)),
                (x + 1 < self.width).then_some((x + 1, y)),
                (y > 0).then(|| (x, y - 1)),
                (y + 1 < self.height).then_some((x, y + 1)),
            ];
            if is_set(x, y) && beside.into_iter().flatten().any(|(x, y)| !is_set(x, y)) {
                let start = 3 * (y * self.width + x);
                canvas.rgb[start..start + 3].copy_from_slice(&[colour.0, colour.1, colour.2]);
            }
        }
        canvas
    }
}

/// Class indices `[H, W]` u8 at the size they are shown in: those of the nearest pixels.
pub fn nearest(classes: &Tensor, [height, width]: [i64; 2]) -> Vec<u8> {
    let size = classes.size();
    let pick = |length: i64, count: i64| {
        let places: Vec<i64> = (0..count).map(|index| (2 * index + 1) * length / (2 * count)).collect();
        Tensor::from_slice(&places).to_device(classes.device())
    };
    let rows = classes.index_select(0, &pick(size[0], height));
    let scaled = rows.index_select(1, &pick(size[1], width)).to_kind(Kind::Uint8).to_device(Device::Cpu).contiguous();
    let mut values = vec![0; scaled.numel()];
    let count = values.len();
    scaled.copy_data(&mut values, count);
    values
}

/// Colours the pixels of all classes but 0, half transparent, and hatches those that are ignored.
pub fn paint(canvas: &mut Canvas, classes: &[u8]) {
    for (index, &class) in classes.iter().enumerate().filter(|(_, class)| **class != IGNORED) {
        if let Some(RGBColor(red, green, blue)) = colour(class) {
            for (sample, own) in canvas.rgb[3 * index..][..3].iter_mut().zip([red, green, blue]) {
                *sample = (u16::from(*sample) + u16::from(own)).div_ceil(2) as u8;
            }
        }
    }
    hatch(canvas, classes);
}

/// Draws lines over the pixels that are ignored.
pub fn hatch(canvas: &mut Canvas, classes: &[u8]) {
    let width = canvas.width as usize;
    for (index, _) in classes.iter().enumerate().filter(|(_, class)| **class == IGNORED) {
        if is_hatched(index % width, index / width) {
            canvas.rgb[3 * index..][..3].fill(HATCHING);
        }
    }
}

/// The picture in the middle of a black frame of this height and width.
pub fn framed(picture: Canvas, [height, width]: [i64; 2]) -> Canvas {
    let (height, width) = (height as u32, width as u32);
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let mut frame = Canvas::new(width, height);
    frame.rgb.fill(0);
    frame.paste(&picture, ((width - picture.width) / 2, (height - picture.height) / 2));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::style::{BLACK, WHITE};

    fn tensor(values: &[f32], height: i64, width: i64) -> Tensor {
        Tensor::from_slice(values).view([-1, height, width])
    }

    #[test]
    fn small_images_grow_by_whole_pixels_and_large_ones_are_averaged() {
        let small = Tile::new(&tensor(&[0.0, 1.0, 0.25, 0.5], 2, 2), natural_size([2, 2]));
        assert_eq!((small.width, small.height), (256, 256));
        let at = |x: usize, y: usize| small.values[256 * y + x];
        assert_eq!([at(0, 0), at(127, 127), at(128, 0), at(0, 128), at(255, 255)], [0.0, 0.0, 1.0, 0.25, 0.5]);
        // Twice too large: each pixel is the mean of four.
        let (height, width) = (384, 768);
        let values: Vec<f32> = (0..height * width).map(|i| ((i * 31 + i / width * 17) % 97) as f32 / 97.0).collect();
        let size = natural_size([height as i64, width as i64]);
        let large = Tile::new(&tensor(&values, height as i64, width as i64), size);
        assert_eq!((large.width, large.height), (384, 192));
        for (y, x) in [(0, 0), (100, 200), (191, 383)] {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| values[(2 * y + dy) * width + 2 * x + dx]);
            assert!((large.values[y * 384 + x] - four.iter().sum::<f32>() / 4.0).abs() < 1e-6);
        }
    }

    #[test]
    fn images_fit_the_frame_of_the_first_in_their_own_aspect() {
        // The frame of 500 x 333 is 384 x 255, rounded down; the same image fills it.
        assert_eq!(natural_size([500, 333]), [384, 255]);
        assert_eq!(fitted_size([500, 333], [384, 255]), [384, 255]);
        assert_eq!(fitted_size([1000, 1000], [384, 255]), [255, 255]);
        assert_eq!(fitted_size([100, 50], [256, 256]), [256, 128]);
        assert_eq!(fitted_size([50, 100], [256, 256]), [128, 256]);
        assert_eq!(fitted_size([1, 10_000], [256, 256]), [1, 256]);
        let mut picture = Canvas::new(2, 1);
        picture.fill((0, 0), (1, 1), HATCHED);
        let frame = framed(picture, [3, 4]);
        assert_eq!((frame.width, frame.height), (4, 3));
        let row: Vec<RGBColor> = (0..4).map(|x| frame.pixel(x, 1)).collect();
        assert_eq!(row, [BLACK, HATCHED, WHITE, BLACK]);
        assert!((0..4).all(|x| frame.pixel(x, 0) == BLACK && frame.pixel(x, 2) == BLACK));
    }

    const HATCHED: RGBColor = RGBColor(HATCHING, HATCHING, HATCHING);

    #[test]
    fn three_planes_are_red_green_and_blue_and_their_mean_is_the_grey() {
        let tile = Tile::new(&tensor(&[0.2, 1.0, 0.4, 0.0, 0.6, 0.5], 1, 2), [1, 2]);
        assert_eq!(tile.canvas().rgb, [51, 102, 153, 255, 0, 128]);
        assert_eq!(tile.grey().canvas().rgb, [102, 102, 102, 128, 128, 128]);
    }

    #[test]
    fn classes_are_those_of_the_nearest_pixels() {
        let classes = Tensor::from_slice(&[0u8, 1, 2, 3, 4, 255]).view([2, 3]);
        let twice = [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 255, 255, 3, 3, 4, 4, 255, 255];
        assert_eq!(nearest(&classes, [4, 6]), twice);
        // The middles of one of three columns and of one of two rows: 1.5 and 1.
        assert_eq!(nearest(&classes, [1, 1]), [4]);
    }

    #[test]
    fn classes_are_half_transparent_and_ignored_pixels_hatched() {
        let mut canvas = Canvas::new(10, 1);
        canvas.rgb.fill(100);
        paint(&mut canvas, &[0, 1, 2, 255, 255, 255, 255, 255, 255, 255]);
        let grey = RGBColor(100, 100, 100);
        assert_eq!(canvas.pixel(0, 0), grey);
        // (100 + 230) / 2, (100 + 159) / 2 rounded up, (100 + 0) / 2.
        assert_eq!(canvas.pixel(1, 0), RGBColor(165, 130, 50));
        assert_eq!(canvas.pixel(2, 0), RGBColor(93, 140, 167));
        assert_eq!((3..8).map(|x| canvas.pixel(x, 0)).collect::<Vec<_>>(), [grey; 5]);
        assert_eq!([canvas.pixel(8, 0), canvas.pixel(9, 0)], [HATCHED; 2]);
    }

    #[test]
    fn each_of_64_classes_has_a_colour_of_its_own() {
        let colours: Vec<RGBColor> = (1..64).filter_map(colour).collect();
        let distance = |a: &RGBColor, b: &RGBColor| a.0.abs_diff(b.0).max(a.1.abs_diff(b.1)).max(a.2.abs_diff(b.2));
        assert_eq!((colours.len(), colour(0)), (63, None));
        for (index, one) in colours.iter().enumerate() {
            assert!(colours[..index].iter().all(|other| distance(one, other) > 4), "class {}", index + 1);
        }
    }
}
