//! The layers of the network in the order of computation, with the sizes of what goes in and comes out: what counts of
//! operations, bytes and parameters are made of. No tensor here.

use super::architecture::{Architecture, LEVELS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// 3x3 convolution; of two inputs with half the channels each if `joins`.
    Convolution { joins: bool },
    /// 3x3 with stride 2, to twice the sides.
    Transposed,
    /// 2x2 maximum.
    Pooling,
    /// 1x1 convolution.
    Head,
}

/// A layer at its place in the network.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Prefix of its parameters, such as `encoder.0.conv1`.
    pub name: String,
    pub operation: Operation,
    /// Channels of the input; of both together if it joins two.
    pub inputs: i64,
    /// Channels of the output.
    pub outputs: i64,
    /// Height and width of the input.
    pub input: [i64; 2],
    /// Height and width of the output.
    pub output: [i64; 2],
    /// Whether the input is the image itself, of which nothing asks for the gradient.
    pub reads_image: bool,
}

impl Architecture {
    /// All layers, for an image of `height` x `width`, sides that `output_side` accepts.
    pub fn layers(&self, height: i64, width: i64) -> Vec<Layer> {
        let mut layers = Vec::new();
        let mut at = [height, width];
        let mut add = |name: String, operation, inputs, outputs| {
            let input = at;
            at = input.map(|side| match operation {
                Operation::Convolution { .. } => side - 2,
                Operation::Transposed => 2 * side,
                Operation::Pooling => side / 2,
                Operation::Head => side,
            });
            let reads_image = layers.is_empty();
            layers.push(Layer { name, operation, inputs, outputs, input, output: at, reads_image });
        };
        let (plain, joining) = (Operation::Convolution { joins: false }, Operation::Convolution { joins: true });
        let mut channels = self.channels;
        for level in 0..=LEVELS {
            let filters = self.base_filters << level;
            let block = if level < LEVELS { format!("encoder.{level}") } else { "bottleneck".to_owned() };
            add(format!("{block}.conv1"), plain, channels, filters);
            add(format!("{block}.conv2"), plain, filters, filters);
            if level < LEVELS {
                add(format!("{block}.pool"), Operation::Pooling, filters, filters);
            }
            channels = filters;
        }
        for step in 0..LEVELS {
            let filters = channels / 2;
            add(format!("decoder.{step}.up"), Operation::Transposed, channels, filters);
            add(format!("decoder.{step}.conv1"), joining, channels, filters);
            add(format!("decoder.{step}.conv2"), plain, filters, filters);
            channels = filters;
        }
        add("head".to_owned(), Operation::Head, channels, self.classes);
        layers
    }
}

impl Layer {
    /// Numbers that it reads of one image.
    pub fn elements_in(&self) -> u64 {
        (self.inputs * self.input[0] * self.input[1]) as u64
    }

    /// Numbers that it puts out for one image.
    pub fn elements_out(&self) -> u64 {
        (self.outputs * self.output[0] * self.output[1]) as u64
    }

    /// Numbers of its weight, without the bias.
    pub fn weights(&self) -> u64 {
        let taps = match self.operation {
            Operation::Convolution { .. } | Operation::Transposed => 9,
            Operation::Pooling => 0,
            Operation::Head => 1,
        };
        (taps * self.inputs * self.outputs) as u64
    }

    /// Numbers of its weight and bias.
    pub fn parameters(&self) -> u64 {
        let biases = if self.operation == Operation::Pooling { 0 } else { self.outputs };
        self.weights() + biases as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sides::output_side;
    use crate::model::unet::UNet;

    #[test]
    fn parameters_are_those_of_the_network() {
        for base_filters in [1, 3, 16] {
            let architecture = Architecture { base_filters, channels: 1, classes: 2 };
            let net = UNet::with_fresh_weights(architecture, 0, tch::Device::Cpu).unwrap();
            let layers = architecture.layers(572, 572);
            for (name, tensor) in net.parameters() {
                let (path, part) = name.rsplit_once('.').unwrap();
                let layer = layers.iter().find(|layer| layer.name == path).unwrap();
                let expected = if part == "weight" { layer.weights() } else { layer.outputs as u64 };
                assert_eq!(tensor.numel() as u64, expected, "{name}");
            }
            let count: usize = net.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
            assert_eq!(layers.iter().map(Layer::parameters).sum::<u64>(), count as u64);
        }
    }

    /// The sides of the paper's figure 1, at the layers where they are written there.
    #[test]
    fn sides_are_those_of_the_paper() {
        let layers = Architecture { base_filters: 64, channels: 1, classes: 2 }.layers(572, 572);
        for (name, side) in [
            ("encoder.0.conv1", 570),
            ("encoder.1.pool", 140),
            ("encoder.3.conv2", 64),
            ("bottleneck.conv2", 28),
            ("decoder.0.up", 56),
            ("decoder.2.conv2", 196),
            ("head", 388),
        ] {
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            assert_eq!(layer.output, [side, side], "{name}");
        }
        let oblong = Architecture { base_filters: 1, channels: 1, classes: 2 }.layers(188, 572);
        assert_eq!(oblong.last().unwrap().output, [output_side(188).unwrap(), 388]);
    }
}
