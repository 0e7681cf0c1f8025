//! How many floating-point operations the network takes, counted as direct convolutions: a multiply-add is two,
//! bias, ReLU and pooling are none. Winograd's algorithm takes fewer; the count is of the work done, not of the means.

use super::architecture::{Architecture, LEVELS};

/// Operations for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flops {
    /// Prediction.
    pub forward: u64,
    /// Forward and backward pass: the gradients of every layer's weights and input, but for that of the image.
    pub training: u64,
}

impl Architecture {
    /// Operations for one image of `height` x `width`, sides that `output_side` accepts.
    pub fn flops(&self, height: i64, width: i64) -> Flops {
        let mut count = Count { height, width, forward: 0 };
        let filters = |level: usize| self.base_filters << level;
        let mut first_layer = 0;
        for level in 0..=LEVELS {
            count.convolve(if level == 0 { self.channels } else { filters(level - 1) }, filters(level));
            if level == 0 {
                first_layer = count.forward;
            }
            count.convolve(filters(level), filters(level));
            if level < LEVELS {
                (count.height, count.width) = (count.height / 2, count.width / 2);
            }
        }
        for level in (0..LEVELS).rev() {
            count.upconvolve(filters(level + 1), filters(level));
            count.convolve(2 * filters(level), filters(level));
            count.convolve(filters(level), filters(level));
        }
        count.add(count.height * count.width, self.base_filters, self.classes);
        Flops { forward: count.forward, training: 3 * count.forward - first_layer }
    }
}

/// The count so far, and the size of the image at this point of the network.
struct Count {
    height: i64,
    width: i64,
    forward: u64,
}

impl Count {
    /// So many meetings of a pixel and a weight, for every input and output channel.
    fn add(&mut self, meetings: i64, inputs: i64, outputs: i64) {
        self.forward += (2 * meetings * inputs * outputs) as u64;
    }

    fn convolve(&mut self, inputs: i64, outputs: i64) {
        (self.height, self.width) = (self.height - 2, self.width - 2);
        self.add(9 * self.height * self.width, inputs, outputs);
    }

    /// Each input pixel meets each weight, but for those of the first row and column that fall off the output.
    fn upconvolve(&mut self, inputs: i64, outputs: i64) {
        self.add((3 * self.height - 1) * (3 * self.width - 1), inputs, outputs);
        (self.height, self.width) = (2 * self.height, 2 * self.width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a count made with a pocket calculator from the paper's figure 1: 289.56 GFLOP in 3x3 convolutions, 25.03
    /// in transposed ones, 0.04 in the head; the first layer has 0.37.
    #[test]
    fn the_paper_s_network_takes_315_gflop() {
        let flops = Architecture { base_filters: 64, channels: 1, classes: 2 }.flops(572, 572);
        assert_eq!((flops.forward as f64 / 1e7).round(), 31_462.0);
        assert_eq!((flops.training as f64 / 1e8).round(), 9_435.0);
    }

    /// One channel and one filter: every layer has so many pixels that the sum can be written down.
    #[test]
    fn a_network_of_one_filter_is_counted_layer_by_layer() {
        let flops = Architecture { base_filters: 1, channels: 1, classes: 1 }.flops(188, 188);
        let encoder = 186 * 186 + 184 * 184 + 2 * 90 * 90 + 4 * 88 * 88 + 8 * 42 * 42 + 16 * 40 * 40;
        let middle = 32 * 18 * 18 + 64 * 16 * 16 + 128 * 6 * 6 + 256 * 4 * 4;
        let up = (128 + 32 + 8 + 2) * 11 * 11;
        let decoder = 128 * 6 * 6 + 64 * 4 * 4 + 32 * 6 * 6 + 16 * 4 * 4 + 8 * 6 * 6 + 4 * 4 * 4 + 2 * 6 * 6 + 4 * 4;
        assert_eq!(flops.forward, 2 * (9 * (encoder + middle + decoder) + up + 4 * 4));
        assert_eq!(flops.training, 3 * flops.forward - 2 * 9 * 186 * 186);
    }
}
