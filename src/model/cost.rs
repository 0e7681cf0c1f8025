//! What the network costs: operations, and bytes that must go through memory. Both depend on shapes, not on the
//! algorithm; over a machine's speed they say how fast it could be at most.

use super::architecture::Architecture;
use super::shapes::{Layer, Operation};

/// Floating-point operations for one image, counted as direct convolutions: a multiply-add is two, bias, ReLU and
/// pooling are none. Winograd's algorithm takes fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flops {
    /// Prediction.
    pub forward: u64,
    /// Forward and backward pass: the gradients of every layer's weights and input, but for that of the image.
    pub training: u64,
}

/// Adam reads and writes an f32 weight and its two moments, and reads a gradient: of 4 bytes, or of 2 where it also
/// writes a copy of the weight of 2.
const UPDATE_BYTES: u64 = 28;

/// What the program with libtorch takes before it computes, in bytes.
const PROGRAM: u64 = 400 << 20;

impl Architecture {
    /// Operations for one image of `height` x `width`, sides that `output_side` accepts.
    pub fn flops(&self, height: i64, width: i64) -> Flops {
        let nothing = Flops { forward: 0, training: 0 };
        self.layers(height, width).iter().map(Layer::flops).fold(nothing, |sum, layer| Flops {
            forward: sum.forward + layer.forward,
            training: sum.training + layer.training,
        })
    }

    /// Bytes that a step on `images` images must move through memory with activations and weights of `element` bytes,
    /// if each layer is one pass forward and one backward: it reads its input and weights and writes its output, and
    /// backward reads those, and the gradient above, and writes those of its input and weights. In training the update
    /// comes to it. The loss is left out.
    pub fn least_bytes(&self, height: i64, width: i64, images: u64, element: u64, training: bool) -> u64 {
        let layers = self.layers(height, width);
        let activations: u64 = layers.iter().map(|layer| layer.least_elements(training)).sum();
        let weights: u64 = layers.iter().map(Layer::weights).sum();
        let passes_over_weights = if training { 3 } else { 1 };
        let update = if training { UPDATE_BYTES * self.parameters() } else { 0 };
        element * (activations * images + weights * passes_over_weights) + update
    }

    /// About the bytes that a step on `images` images of `side` x `side` takes, with activations of `element` bytes.
    ///
    /// The shares were fitted to what the CPU takes (docs/BENCHMARKS.md): a training step has all activations, their
    /// gradients and what its convolutions need in between, about 1.7 times the activations; a prediction frees most of
    /// them, and has 0.7 times. A parameter takes 16 bytes in training (weight, gradient, two moments), else 8.
    pub fn memory(&self, images: u64, side: i64, element: u64, training: bool) -> u64 {
        let (share, per_parameter) = if training { (17, 16) } else { (7, 8) };
        let activations = self.layers(side, side).iter().map(Layer::elements_out).sum::<u64>() * element * images;
        PROGRAM + activations * share / 10 + self.parameters() * per_parameter
    }

    /// Weights and biases.
    pub fn parameters(&self) -> u64 {
        // Whatever the image.
        self.layers(572, 572).iter().map(Layer::parameters).sum()
    }
}

impl Layer {
    /// The operations of this layer for one image.
    pub fn flops(&self) -> Flops {
        // Multiply-adds per pair of channels.
        let multiply_adds = match self.operation {
            Operation::Convolution { .. } => 9 * self.output[0] * self.output[1],
            // Each input pixel is multiplied with each weight, but for products that fall off the output at its first
            // row and column.
            Operation::Transposed => (3 * self.input[0] - 1) * (3 * self.input[1] - 1),
            Operation::Pooling => 0,
            Operation::Head => self.output[0] * self.output[1],
        };
        let forward = (2 * multiply_adds * self.inputs * self.outputs) as u64;
        Flops { forward, training: if self.reads_image { 2 } else { 3 } * forward }
    }

    /// Numbers of activations and their gradients that must be read or written for one image: see `least_bytes`.
    fn least_elements(&self, training: bool) -> u64 {
        let (x, y) = (self.elements_in(), self.elements_out());
        let forward = x + y;
        let backward = match self.operation {
            _ if !training => 0,
            _ if self.reads_image => x + y,
            // The half of its input's gradient that belongs to the skip connection is read at the pooling.
            Operation::Convolution { joins: true } => x + y + x + x / 2,
            _ => x + y + x,
        };
        forward + backward
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

    /// The same network by hand: what each layer reads and writes, of pixels times channels.
    #[test]
    fn bytes_of_a_network_of_one_filter_add_up() {
        let architecture = Architecture { base_filters: 1, channels: 1, classes: 1 };
        // Sides 188, 186, 184 | 92, 90, 88 | 44, 42, 40 | 20, 18, 16 | 8, 6, 4 | 8, 6, 4 | 8, 6, 4 | 8, 6, 4 | 8, 6, 4.
        let read_down =
            [188 * 188, 186 * 186, 184 * 184, 92 * 92, 2 * 90 * 90, 2 * 88 * 88, 2 * 44 * 44, 4 * 42 * 42, 4 * 40 * 40];
        let read_deep = [4 * 20 * 20, 8 * 18 * 18, 8 * 16 * 16, 8 * 8 * 8, 16 * 6 * 6];
        let read_up =
            [16 * 16, 16 * 64, 8 * 36, 8 * 16, 8 * 64, 4 * 36, 4 * 16, 4 * 64, 2 * 36, 2 * 16, 2 * 64, 36, 16];
        let read: u64 = read_down.iter().chain(&read_deep).chain(&read_up).sum();
        // All that is read was written, but for the image; the joining layers read as much again from the crops; and
        // the logits.
        let joined: u64 = (8 + 4 + 2 + 1) * 64;
        let written = read - 188 * 188 - joined + 16;
        let weights = architecture.parameters() - (2 + 4 + 8 + 16 + 32) - (8 + 4 + 2 + 1) * 3 - 1;
        assert_eq!(architecture.least_bytes(188, 188, 1, 2, false), 2 * (read + written + weights));

        let backward = read + written + (read - 188 * 188) + joined;
        let bytes = architecture.least_bytes(188, 188, 3, 4, true);
        assert_eq!(bytes, 4 * (3 * (read + written + backward) + 3 * weights) + 28 * architecture.parameters());
    }

    /// Peaks of `--benchmark` on the CPU, in GiB.
    #[test]
    fn the_estimate_is_near_what_was_measured() {
        let architecture = Architecture { base_filters: 64, channels: 1, classes: 2 };
        for (images, element, training, measured) in [
            (1, 4, true, 1.80),
            (2, 4, true, 2.70),
            (4, 4, true, 4.56),
            (1, 4, false, 0.95),
            (2, 4, false, 1.33),
            (4, 4, false, 2.08),
            (1, 2, true, 1.42),
            (2, 2, true, 1.82),
            (4, 2, false, 1.28),
        ] {
            let estimate = architecture.memory(images, 572, element, training) as f64 / f64::from(1 << 30);
            assert!((estimate / measured - 1.0).abs() < 0.2, "{images} images: {estimate} GiB, measured {measured}");
        }
    }
}
