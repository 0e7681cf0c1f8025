//! Training windows of the native recipe: a part of an image at its stored resolution, turned, scaled and bent in one
//! resampling on the image's device; image and labels by the same map. Past the edge the image is mirrored, and labels
//! are ignored.
//!
//! Shapes: C channels, P planes of labels, S and O the sides of the network's input and output.

use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

use super::mirror;
use super::preprocessing::{MARGIN, Targets};
use crate::data::labels::IGNORED;
use crate::native::cuda::copy_to_device;

/// Which changes of geometry are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Geometry {
    /// Mirror images and quarter turns.
    pub flips: bool,
    /// Any angle, with probability [`ROTATED`].
    pub rotation: bool,
    /// With probability [`SCALED`].
    pub scale: bool,
    /// Smooth random displacement.
    pub elastic: bool,
}

/// nnU-Net's odds and ranges.
const ROTATED: f64 = 0.2;
const SCALED: f64 = 0.2;
const SCALES: [f64; 2] = [0.7, 1.4];
/// Deviation of the displacement at the nodes of the coarse grid, in pixels (paper, section 3.1).
const ELASTIC: f64 = 10.0;
/// Nodes of the coarse grid along each side of the network's input (paper).
const NODES: usize = 3;

/// One window's map from its pixels to those of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Row and column of the centre in the image, in pixels; pixel centres are whole numbers.
    centre: [f64; 2],
    /// From offsets (row, column) from the window's centre to offsets in the image.
    matrix: [[f64; 2]; 2],
    /// Displacements in pixels at the nodes, rows then columns; empty for none.
    displacement: Vec<f32>,
}

impl Window {
    /// Draws the window of a sample with an output of `side` pixels, in an image of `size` pixels: at a random place,
    /// inside the image where it fits.
    pub fn draw(rng: &mut impl Rng, size: [i64; 2], side: i64, geometry: Geometry) -> Self {
        let centre = size.map(|length| match length - side {
            // Whole numbers from the first place to the last.
            room @ 0.. => rng.random_range(0..=room) as f64 + (side - 1) as f64 / 2.0,
            // Whole numbers too: the middle, rounded down.
            missing => missing.div_euclid(2) as f64 + (side - 1) as f64 / 2.0,
        });
        let mut matrix = [[1.0, 0.0], [0.0, 1.0]];
        if geometry.flips {
            let (turns, mirrored) = (rng.random_range(0..4), rng.random_bool(0.5));
            let [cosine, sine] = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]][turns];
            let column = if mirrored { -1.0 } else { 1.0 };
            matrix = [[cosine, -sine * column], [sine, cosine * column]];
        }
        if geometry.rotation && rng.random_bool(ROTATED) {
            let angle: f64 = rng.random_range(-std::f64::consts::PI..std::f64::consts::PI);
            matrix = product([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], matrix);
        }
        if geometry.scale && rng.random_bool(SCALED) {
            let scale = rng.random_range(SCALES[0]..SCALES[1]);
            matrix = matrix.map(|row| row.map(|value| value / scale));
        }
        let normal = |_| (ELASTIC * standard_normal(rng)) as f32;
        let displacement = if geometry.elastic { (0..2 * NODES * NODES).map(normal).collect() } else { Vec::new() };
        Self { centre, matrix, displacement }
    }

    /// The same window with its output of `side` pixels around a pixel (row, column) of an image of `size` pixels,
    /// moved inside where it reaches past the edge. Along an axis on which the image is smaller it stays in the middle.
    pub fn around(mut self, pixel: [i64; 2], size: [i64; 2], side: i64) -> Self {
        for axis in 0..2 {
            let room = size[axis] - side;
            if room >= 0 {
                self.centre[axis] = (pixel[axis] - side / 2).clamp(0, room) as f64 + (side - 1) as f64 / 2.0;
            }
        }
        self
    }

    /// Whether window and image have their pixels in common, so that nothing is resampled.
    fn is_plain(&self) -> bool {
        self.matrix == [[1.0, 0.0], [0.0, 1.0]] && self.displacement.is_empty()
    }

    /// The window of an image `[C, H, W]` f32 and its labels `[H, W]` u8: `[C, S, S]` f32 and `[O, O]` u8, with
    /// [`IGNORED`] where the window lies outside the image.
    pub fn apply(&self, image: &Tensor, labels: &Tensor, side: i64, targets: Targets) -> (Tensor, Tensor) {
        if self.is_plain() {
            return self.crop(image, labels, side);
        }
        let (device, input) = (image.device(), side + 2 * MARGIN);
        let size = [image.size()[1], image.size()[2]];
        // `[2, S, S]`: rows, columns.
        let places = self.places(input, device);
        // -1 and 1 are the centres of the first and last pixel.
        let scaled = |axis: usize| places.get(axis as i64) * (2.0 / (size[axis] - 1).max(1) as f64) - 1.0;
        let grid = Tensor::stack(&[scaled(1), scaled(0)], -1).unsqueeze(0);
        let planes = targets.encode(&labels.unsqueeze(0)).squeeze_dim(0);
        let both = Tensor::cat(&[image, &planes], 0).unsqueeze(0);
        let sampled = both.grid_sampler(&grid, BILINEAR, REFLECTION, true).squeeze_dim(0);
        let (channels, count) = (image.size()[0], sampled.size()[0]);
        let centre = |tensor: &Tensor| tensor.narrow(-2, MARGIN, side).narrow(-1, MARGIN, side);
        let labels =
            targets.decode(&centre(&sampled.narrow(0, channels, count - channels)).unsqueeze(0)).squeeze_dim(0);
        let is_outside = |axis: usize| {
            let places = centre(&places.get(axis as i64));
            // Half a pixel around the centres belongs to the image.
            places.less(-0.5).logical_or(&places.greater((size[axis] - 1) as f64 + 0.5))
        };
        let labels = labels.masked_fill(&is_outside(0).logical_or(&is_outside(1)), i64::from(IGNORED));
        (sampled.narrow(0, 0, channels), labels)
    }

    /// The window without resampling.
    fn crop(&self, image: &Tensor, labels: &Tensor, side: i64) -> (Tensor, Tensor) {
        let start = self.centre.map(|centre| (centre - (side - 1) as f64 / 2.0).round() as i64);
        let input = side + 2 * MARGIN;
        let image = mirror::crop(image, start.map(|start| start - MARGIN), [input, input]);
        let size = [labels.size()[0], labels.size()[1]];
        let target = mirror::crop(labels, start, [side, side]).copy();
        let outside = |axis: usize| {
            let places: Vec<bool> = (start[axis]..start[axis] + side).map(|at| at < 0 || at >= size[axis]).collect();
            copy_to_device(Tensor::from_slice(&places), labels.device())
        };
        let (rows, columns) = (outside(0).unsqueeze(1), outside(1).unsqueeze(0));
        (image, target.masked_fill(&rows.logical_or(&columns), i64::from(IGNORED)))
    }

    /// Rows and columns in the image for each pixel of an input of `side` pixels, `[2, S, S]` f32.
    fn places(&self, side: i64, device: Device) -> Tensor {
        let offset = Tensor::arange(side, (Kind::Float, device)) - (side - 1) as f64 / 2.0;
        let (rows, columns) = (offset.unsqueeze(1), offset.unsqueeze(0));
        let along = |axis: usize| {
            let [by_row, by_column] = self.matrix[axis];
            &rows * by_row + &columns * by_column + self.centre[axis]
        };
        let places = Tensor::stack(&[along(0), along(1)], 0);
        if self.displacement.is_empty() {
            return places;
        }
        let nodes = copy_to_device(Tensor::from_slice(&self.displacement), device);
        let nodes = nodes.view([1, 2, NODES as i64, NODES as i64]);
        places + nodes.upsample_bicubic2d([side, side], true, None, None).squeeze_dim(0)
    }
}

/// libtorch's numbers for `grid_sampler`.
const BILINEAR: i64 = 0;
const REFLECTION: i64 = 2;

fn product(a: [[f64; 2]; 2], b: [[f64; 2]; 2]) -> [[f64; 2]; 2] {
    [0, 1].map(|row| [0, 1].map(|column| a[row][0] * b[0][column] + a[row][1] * b[1][column]))
}

/// A number of the normal distribution with mean 0 and deviation 1 (Box and Muller, 1958).
pub fn standard_normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random_range(0.0..1.0));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::random::{Purpose, stream};
    use crate::testing::largest_difference;

    const SIDE: i64 = 20;
    const TWO: Targets = Targets { classes: 2, has_ignored: true };
    const ALL: Geometry = Geometry { flips: true, rotation: true, scale: true, elastic: true };

    fn window(centre: [f64; 2], matrix: [[f64; 2]; 2], displacement: Vec<f32>) -> Window {
        Window { centre, matrix, displacement }
    }

    fn picture(height: i64, width: i64) -> Tensor {
        let wave = |count: i64, step: f64| (Tensor::arange(count, (Kind::Float, Device::Cpu)) * step).sin();
        (wave(height, 0.13).unsqueeze(1) * wave(width, 0.09).unsqueeze(0)).unsqueeze(0)
    }

    #[test]
    fn the_identity_gives_the_input_back_exactly() {
        let image = picture(60, 50);
        let labels = image.get(0).gt(0.0).to_kind(Kind::Uint8);
        let (x, y) = window([19.5, 24.5], [[1.0, 0.0], [0.0, 1.0]], Vec::new()).apply(&image, &labels, SIDE, TWO);
        assert_eq!(x, mirror::crop(&image, [10 - MARGIN, 15 - MARGIN], [204, 204]));
        assert_eq!(y, labels.narrow(0, 10, SIDE).narrow(1, 15, SIDE));
        // The resampling gives the same, to rounding, and the same labels.
        let nearly = window([19.5, 24.5], [[1.0, 0.0], [0.0, 1.0]], vec![0.0; 18]);
        let (again, labels_again) = nearly.apply(&image, &labels, SIDE, TWO);
        assert!(largest_difference(&again, &x) < 1e-4);
        assert_eq!(labels_again, y);
    }

    /// A quarter turn of the window is that of the image, pixel by pixel.
    #[test]
    fn quarter_turns_and_mirror_images_are_those_of_the_picture() {
        let image = picture(204, 204);
        let labels = image.get(0).gt(0.2).to_kind(Kind::Uint8);
        let centre = [101.5, 101.5];
        let inside = |tensor: &Tensor| tensor.narrow(-2, MARGIN, SIDE).narrow(-1, MARGIN, SIDE);
        for (matrix, expected) in [
            ([[0.0, -1.0], [1.0, 0.0]], image.rot90(1, [1, 2])),
            ([[-1.0, 0.0], [0.0, -1.0]], image.rot90(2, [1, 2])),
            ([[1.0, 0.0], [0.0, -1.0]], image.flip([2])),
        ] {
            let (x, y) = window(centre, matrix, Vec::new()).apply(&image, &labels, SIDE, TWO);
            let turned = if largest_difference(&x, &expected) < 1e-4 { expected } else { image.rot90(3, [1, 2]) };
            assert!(largest_difference(&x, &turned) < 1e-4, "{matrix:?}");
            assert_eq!(y, inside(&turned).get(0).gt(0.2).to_kind(Kind::Uint8), "label and image go together");
        }
    }

    /// A checkerboard, by the formula of the map in f64.
    #[test]
    fn label_and_image_stay_registered_whatever_is_drawn() {
        let (height, width, square) = (150i64, 170i64, 16.0);
        let board = |y: f64, x: f64| ((y / square).floor() + (x / square).floor()).rem_euclid(2.0);
        let values: Vec<u8> =
            (0..height * width).map(|i| board((i / width) as f64, (i % width) as f64) as u8).collect();
        let labels = Tensor::from_slice(&values).view([height, width]);
        let image = labels.to_kind(Kind::Float).unsqueeze(0);
        let mut ignored = 0;
        for sample in 0..12 {
            let window = Window::draw(&mut stream(4, Purpose::Window, sample), [height, width], 52, ALL);
            let (x, y) = window.apply(&image, &labels, 52, TWO);
            let (x, y) = (x.narrow(1, MARGIN, 52).narrow(2, MARGIN, 52), Vec::<u8>::try_from(y.reshape([-1])).unwrap());
            let places = window.places(52 + 2 * MARGIN, Device::Cpu);
            for (index, &label) in y.iter().enumerate() {
                let at = [index as i64 / 52, index as i64 % 52];
                let place = [0, 1].map(|axis| places.double_value(&[axis, at[0] + MARGIN, at[1] + MARGIN]));
                let is_outside = place[0] < -0.5
                    || place[0] > height as f64 - 0.5
                    || place[1] < -0.5
                    || place[1] > width as f64 - 0.5;
                if is_outside {
                    assert_eq!(label, IGNORED);
                    ignored += 1;
                    continue;
                }
                // Away from the edges of the squares no rounding decides.
                let value = x.double_value(&[0, at[0], at[1]]);
                if (value - 0.5).abs() > 0.01 {
                    assert_eq!(f64::from(label), value.round(), "sample {sample} at {at:?}: {value}");
                }
            }
        }
        assert!(ignored > 0, "some windows reach past the edge");
    }

    #[test]
    fn windows_lie_inside_images_that_hold_them() {
        let mut rng = stream(1, Purpose::Window, 0);
        let none = Geometry::default();
        let starts: Vec<[f64; 2]> =
            (0..400).map(|_| Window::draw(&mut rng, [40, 20], SIDE, none).centre.map(|centre| centre - 9.5)).collect();
        assert!(starts.iter().all(|[row, column]| (0.0..=20.0).contains(row) && *column == 0.0));
        assert!(starts.iter().any(|[row, _]| *row == 0.0) && starts.iter().any(|[row, _]| *row == 20.0));
        // A smaller image is in the middle of its window.
        let image = picture(10, 11);
        let labels = Tensor::ones([10, 11], (Kind::Uint8, Device::Cpu));
        let window = Window::draw(&mut rng, [10, 11], SIDE, none);
        let (x, y) = window.apply(&image, &labels, SIDE, TWO);
        assert_eq!((x.size(), y.size()), (vec![1, 204, 204], vec![20, 20]));
        assert_eq!(y.eq(1).sum(Kind::Int64).int64_value(&[]), 110);
        assert_eq!(y.eq(i64::from(IGNORED)).sum(Kind::Int64).int64_value(&[]), 400 - 110);
    }

    proptest! {
        /// Windows lie inside every image that holds them, and have smaller ones in their middle. Windows around a
        /// pixel have it.
        #[test]
        fn windows_of_any_image_lie_inside_or_in_the_middle(
            size in [1i64..200, 1i64..200],
            k in 0i64..8,
            sample: u64,
            pixel in [0.0f64..1.0, 0.0f64..1.0],
        ) {
            let side = 4 + 16 * k;
            let start = |window: &Window| window.centre.map(|centre| centre - (side - 1) as f64 / 2.0);
            let draw = || Window::draw(&mut stream(3, Purpose::Window, sample), size, side, ALL);
            let pixel = [0, 1].map(|axis| (pixel[axis] * size[axis] as f64) as i64);
            let (drawn, around) = (start(&draw()), start(&draw().around(pixel, size, side)));
            for axis in 0..2 {
                let room = (size[axis] - side) as f64;
                prop_assert_eq!(drawn[axis].fract(), 0.0);
                if room >= 0.0 {
                    prop_assert!((0.0..=room).contains(&drawn[axis]) && (0.0..=room).contains(&around[axis]));
                    let at = pixel[axis] as f64;
                    prop_assert!(around[axis] <= at && at < around[axis] + side as f64);
                } else {
                    // Rows past the image are as many on both sides, or one more above.
                    let [above, below] = [-drawn[axis], drawn[axis] + side as f64 - size[axis] as f64];
                    prop_assert!(above == below || above == below + 1.0, "{} {}", above, below);
                    prop_assert_eq!(around[axis], drawn[axis]);
                }
            }
        }
    }

    #[test]
    fn a_window_around_a_pixel_has_it_in_the_middle_or_lies_at_the_edge() {
        let draw = || Window::draw(&mut stream(1, Purpose::Window, 0), [60, 12], SIDE, ALL);
        let drawn = draw();
        for (row, start) in [(0, 0), (9, 0), (11, 1), (30, 20), (50, 40), (59, 40)] {
            let Window { centre, matrix, displacement } = draw().around([row, 3], [60, 12], SIDE);
            assert_eq!(centre, [start as f64 + 9.5, drawn.centre[1]]);
            assert_eq!((matrix, &displacement), (drawn.matrix, &drawn.displacement));
        }
        // The pixel is where the window says.
        let labels = Tensor::zeros([60, 50], (Kind::Uint8, Device::Cpu));
        let _ = labels.narrow(0, 33, 1).narrow(1, 21, 1).fill_(1);
        let (_, y) = Window::draw(&mut stream(1, Purpose::Window, 0), [60, 50], SIDE, Geometry::default())
            .around([33, 21], [60, 50], SIDE)
            .apply(&picture(60, 50), &labels, SIDE, TWO);
        assert_eq!(y.int64_value(&[10, 10]), 1);
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let mut rng = stream(2, Purpose::Window, 0);
        let numbers: Vec<f64> = (0..20_000).map(|_| standard_normal(&mut rng)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let square = numbers.iter().map(|number| number * number).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.05, "{mean} {square}");
    }
}
