//! An image of any size in tiles that fit the network, and the tiles' outputs joined again.
//!
//! The network's convolutions are unpadded, so that an output pixel depends on the 185x185 pixels around it alone, and
//! on where it lies in the grid of the poolings, which is 16 pixels wide. Tiles that begin at multiples of 16 therefore
//! have the outputs of a single pass, to rounding: there is nothing to blend. The last 15 rows and columns of an output
//! are left out: there the transposed convolutions lack a neighbour.
//!
//! Shapes: C channels, P planes, H, W pixels.

use tch::Tensor;

use super::mirror;
use super::preprocessing::MARGIN;

/// Width of the grid of the poolings: tiles begin at its multiples.
const GRID: i64 = 16;
/// Rows and columns at the bottom and right of an output that depend on where it ends. A transposed convolution of
/// stride 2 has one there, and of n of its input makes 2 n + 1: 1, 3, 7, 15.
pub const EDGE: i64 = 15;
/// The smallest output side; others are `GRID` apart.
const SMALLEST: i64 = 4;

/// The smallest output side of the network that is at least `side`.
pub fn fitting_output(side: i64) -> i64 {
    SMALLEST + divide_up((side - SMALLEST).max(0), GRID) * GRID
}

/// One tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Row and column of its first output pixel in the image.
    pub start: [i64; 2],
    /// Height and width of its output, of which a part may lie past the image's edge.
    pub size: [i64; 2],
}

/// The tiles of an image `[.., height, width]` whose outputs have at most `side` pixels a side, row after row. `side`
/// is one that [`fitting_output`] gives.
pub fn tiles([height, width]: [i64; 2], side: i64) -> Vec<Tile> {
    let rows = spans(height, side);
    let columns = spans(width, side);
    let tile = |&(top, height): &(i64, i64)| {
        columns.iter().map(move |&(left, width)| Tile { start: [top, left], size: [height, width] })
    };
    rows.iter().flat_map(tile).collect()
}

/// Start and output side of the tiles along one axis. All have one side, so that they can be computed in batches.
fn spans(length: i64, side: i64) -> Vec<(i64, i64)> {
    let whole = fitting_output(length + EDGE);
    if whole <= side {
        return vec![(0, whole)];
    }
    // Steps are multiples of the grid that leave no gap.
    let step = |side: i64| (side - EDGE) / GRID * GRID;
    let largest = side.max(SMALLEST + 2 * GRID);
    let count = 1 + divide_up((length + EDGE - largest).max(0), step(largest));
    // As few tiles as the side allows, and no larger than these need be.
    let reaches = |side: &i64| (count - 1) * step(*side) + side - EDGE >= length;
    let side = (2..largest / GRID).map(|k| k * GRID + SMALLEST).find(reaches).unwrap_or(largest);
    (0..count).map(|index| (index * step(side), side)).collect()
}

/// The quotient of numbers that are not negative, rounded up.
fn divide_up(number: i64, divisor: i64) -> i64 {
    (number + divisor - 1) / divisor
}

impl Tile {
    /// The network's input for this tile: the image, mirrored past its edges. `[C, size + 184]`.
    pub fn input(&self, image: &Tensor) -> Tensor {
        mirror::crop(image, self.start.map(|start| start - MARGIN), self.size.map(|side| side + 2 * MARGIN))
    }

    /// Puts the tile's output `[P, size]` to its place in `planes` `[P, H, W]`; what lies past the image's edge, or too
    /// near to the tile's, is left out.
    pub fn put(&self, planes: &Tensor, output: &Tensor) {
        let size = planes.size();
        let [height, width] = [0, 1].map(|axis| (self.size[axis] - EDGE).min(size[axis + 1] - self.start[axis]));
        let mut place = planes.narrow(1, self.start[0], height).narrow(2, self.start[1], width);
        place.copy_(&output.narrow(1, 0, height).narrow(2, 0, width));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::{Device, Kind};

    #[test]
    fn output_sides_are_4_and_multiples_of_16_more() {
        assert_eq!([1, 4, 5, 20, 21, 388, 389].map(fitting_output), [4, 4, 20, 20, 36, 388, 404]);
        assert!([4, 20, 388, 404].into_iter().all(|side| crate::model::sides::output_side(side + 184) == Ok(side)));
    }

    #[test]
    fn an_image_that_fits_is_one_tile_and_a_larger_one_has_as_few_as_can_be() {
        assert_eq!(tiles([512, 100], 532), [Tile { start: [0, 0], size: [532, 116] }]);
        let starts: Vec<i64> = spans(1000, 388).into_iter().map(|(start, _)| start).collect();
        assert_eq!(starts, [0, 336, 672]);
        // Three tiles of 356 reach to 672 + 341; those of 340 would end at 640 + 325.
        assert!(spans(1000, 388).iter().all(|(_, side)| *side == 356));
    }

    proptest! {
        /// Every pixel is in a tile, tiles begin at multiples of 16, their sides fit and are no larger than asked.
        #[test]
        fn tiles_cover_every_pixel(length in 1i64..3000, k in 0i64..40) {
            let side = 4 + 16 * k;
            let spans = spans(length, side);
            let mut covered = 0;
            for (start, size) in &spans {
                prop_assert!(start % 16 == 0 && *start <= covered);
                prop_assert_eq!(fitting_output(*size), *size);
                prop_assert!(*size <= side.max(36));
                covered = start + size - 15;
            }
            prop_assert!(covered >= length && spans.last().unwrap().0 < length);
        }
    }

    proptest! {
        /// Outputs that say where they are give an image of places, be it smaller than a tile or larger. The last rows
        /// and columns of a tile, which are not to be used, hold another number.
        #[test]
        fn every_pixel_is_predicted_where_it_is(height in 1i64..150, width in 1i64..150, k in 0i64..10) {
            let place = |[top, left]: [i64; 2], [rows, columns]: [i64; 2]| {
                let axis = |start: i64, count: i64| Tensor::arange(count, (Kind::Int64, Device::Cpu)) + start;
                (axis(top, rows).unsqueeze(1) * 1000i64 + axis(left, columns)).unsqueeze(0)
            };
            let planes = Tensor::full([1, height, width], -1i64, (Kind::Int64, Device::Cpu));
            for tile in tiles([height, width], 4 + 16 * k) {
                let output = place(tile.start, tile.size);
                let _ = output.narrow(1, tile.size[0] - EDGE, EDGE).fill_(-2i64);
                let _ = output.narrow(2, tile.size[1] - EDGE, EDGE).fill_(-2i64);
                tile.put(&planes, &output);
            }
            prop_assert_eq!(planes, place([0, 0], [height, width]));
        }
    }

    /// With a stand-in for the network that takes the middle of its input, the joined tiles are the image.
    #[test]
    fn outputs_are_joined_at_their_places() {
        let image = Tensor::arange(2 * 131 * 77, (Kind::Float, Device::Cpu)).view([2, 131, 77]);
        let planes = image.zeros_like();
        for tile in tiles([131, 77], 36) {
            let input = tile.input(&image);
            assert_eq!(input.size(), [2, tile.size[0] + 184, tile.size[1] + 184]);
            tile.put(&planes, &input.narrow(1, 92, tile.size[0]).narrow(2, 92, tile.size[1]));
        }
        assert_eq!(planes, image);
    }
}
