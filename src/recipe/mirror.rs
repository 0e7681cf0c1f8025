//! What lies past the edge of an image: its mirror image (paper, figure 2).
//!
//! Shapes: C channels or planes, H, W pixels.

use tch::{Device, Tensor};

use crate::native::cuda::copy_to_device;

/// Where pixel `index` of an endless row is in an image row of `length` pixels, which is mirrored at the centres of its
/// first and last pixel again and again.
pub fn mirrored(index: i64, length: i64) -> i64 {
    // A row of one pixel is that pixel everywhere.
    let period = (2 * (length - 1)).max(1);
    let place = index.rem_euclid(period);
    place.min(period - place).min(length - 1)
}

/// The part of a mirrored image `[.., H, W]` that begins at row `top` and column `left`, which may lie outside:
/// `[.., height, width]`.
pub fn crop(image: &Tensor, [top, left]: [i64; 2], [height, width]: [i64; 2]) -> Tensor {
    let size = image.size();
    let [rows, columns] = [size[size.len() - 2], size[size.len() - 1]];
    let inside = |start: i64, length: i64, all: i64| start >= 0 && start + length <= all;
    if inside(top, height, rows) && inside(left, width, columns) {
        return image.narrow(-2, top, height).narrow(-1, left, width);
    }
    let index = |start: i64, length: i64, all: i64, device: Device| {
        let places: Vec<i64> = (start..start + length).map(|index| mirrored(index, all)).collect();
        copy_to_device(Tensor::from_slice(&places), device)
    };
    let by_rows = image.index_select(-2, &index(top, height, rows, image.device()));
    by_rows.index_select(-1, &index(left, width, columns, image.device()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn rows_are_mirrored_at_the_centres_of_their_ends() {
        let places: Vec<i64> = (-5..9).map(|index| mirrored(index, 4)).collect();
        assert_eq!(places, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]);
        assert!((-3..3).all(|index| mirrored(index, 1) == 0));
        assert_eq!((-2..3).map(|index| mirrored(index, 2)).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
    }

    /// libtorch's own padding, where it reaches as far.
    #[test]
    fn crops_past_the_edge_are_those_of_reflection_padding() {
        let image = Tensor::arange(2 * 7 * 9, (Kind::Float, Device::Cpu)).view([2, 7, 9]);
        let padded = image.reflection_pad2d([4, 5, 3, 6]);
        assert_eq!(crop(&image, [-3, -4], [16, 18]), padded);
        assert_eq!(crop(&image, [2, 1], [3, 5]), image.narrow(1, 2, 3).narrow(2, 1, 5));
        // Far outside, and of an image that is smaller than the context.
        let far = crop(&image, [-40, 25], [3, 2]);
        let expected = |row: i64, column: i64| image.double_value(&[0, mirrored(row, 7), mirrored(column, 9)]);
        assert_eq!(far.double_value(&[0, 1, 1]), expected(-39, 26));
    }
}
