//! About how much memory the network takes, to tell those whose machine has less.

use super::architecture::{Architecture, LEVELS};

/// Of the program with libtorch, in bytes.
const PROGRAM: u64 = 400 << 20;

impl Architecture {
    /// About the bytes that a step on `images` images of `side` x `side` takes, with activations of `element` bytes.
    ///
    /// The shares were fitted to what the CPU takes (docs/BENCHMARKS.md): a training step has all activations, their
    /// gradients and what its convolutions need in between, about 1.7 times the activations; a prediction frees most of them, and
    /// has 0.7 times. A parameter takes 16 bytes in training (weight, gradient, two moments), else 8.
    pub fn memory(&self, images: u64, side: i64, element: u64, training: bool) -> u64 {
        let (share, per_parameter) = if training { (17, 16) } else { (7, 8) };
        let activations = self.activations(side) * element * images;
        PROGRAM + activations * share / 10 + self.parameters() * per_parameter
    }

    /// Numbers that the layers put out for one image of `side` x `side`.
    fn activations(&self, side: i64) -> u64 {
        let (mut side, mut count) = (side, 0);
        for level in 0..=LEVELS {
            let filters = self.base_filters << level;
            for _ in 0..2 {
                side -= 2;
                count += filters * side * side;
            }
            if level < LEVELS {
                side /= 2;
                count += filters * side * side;
            }
        }
        for level in (0..LEVELS).rev() {
            let filters = self.base_filters << level;
            side *= 2;
            count += filters * side * side;
            for _ in 0..2 {
                side -= 2;
                count += filters * side * side;
            }
        }
        (count + self.classes * side * side) as u64
    }

    /// Weights and biases.
    pub fn parameters(&self) -> u64 {
        let filters = |level: usize| self.base_filters << level;
        let layer = |inputs: i64, outputs: i64| (9 * inputs + 1) * outputs;
        let down = (0..=LEVELS).map(|level| {
            let inputs = if level == 0 { self.channels } else { filters(level - 1) };
            layer(inputs, filters(level)) + layer(filters(level), filters(level))
        });
        let up = (0..LEVELS).map(|level| {
            let outputs = filters(level);
            layer(2 * outputs, outputs) + layer(2 * outputs, outputs) + layer(outputs, outputs)
        });
        let head = (self.base_filters + 1) * self.classes;
        (down.sum::<i64>() + up.sum::<i64>() + head) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unet::UNet;

    #[test]
    fn parameters_are_those_of_the_network() {
        for base_filters in [1, 3, 16] {
            let architecture = Architecture { base_filters, channels: 1, classes: 2 };
            let net = UNet::with_fresh_weights(architecture, 0, tch::Device::Cpu).unwrap();
            let count: usize = net.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
            assert_eq!(architecture.parameters(), count as u64);
        }
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
