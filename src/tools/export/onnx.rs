//! ONNX: a graph of ONNX's own operators, which ONNX Runtime, TensorRT and others read. What is in the files' messages
//! is in `onnx_messages.rs`, what is computed in `wiring.rs`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use prost::Message;
use rten::ModelOptions;
use rten_tensor::Layout;
use tch::{Kind, Tensor};

use super::onnx_messages::{
    Attribute, AttributeKind, Constant, Dimension, ElementType, Graph, Model, Node, OperatorSet, Property, Shape, Size,
    TensorType, Value, ValueType,
};
use super::spec::{ExportSpec, Padding, PaddingContent};
use super::wiring::{self, Operations};
use crate::model::sides::skip_margins;
use crate::model::unet::UNet;

/// Version of the operators: old enough for TensorRT 8.6 and later, new enough for all that the network takes.
pub const OPSET: i64 = 17;
/// Version of the file format, the one that came with this opset.
const IR_VERSION: i64 = 8;

/// Writes `net` to `file`.
pub fn write(net: &UNet, spec: &ExportSpec, file: impl Write) -> Result<()> {
    let metadata = spec.metadata().into_iter().chain([("opset".to_owned(), OPSET.into())]);
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph(net, spec)),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.map(|(key, value)| Property { key, value: text(value) }).collect(),
    };
    Ok(write_all(&model.encode_to_vec(), file)?)
}

/// The output of the graph in `path` for `images`, computed by the crate `rten`, which knows nothing of libtorch or of
/// this program. It has no float16: the file's numbers are rounded to that, the arithmetic is in float32.
pub fn run(path: &Path, images: &[Tensor]) -> Result<Vec<Tensor>> {
    let operators = rten::op_registry!(Cast, Concat, Conv, ConvTranspose, MaxPool, Pad, Relu, Slice, Softmax);
    let mut bytes = fs::read(path)?;
    let mut model = Model::decode(&bytes[..])?;
    if widen(&mut model) {
        bytes = model.encode_to_vec();
    }
    let model = ModelOptions::with_ops(operators).load(bytes)?;
    images.iter().map(|images| run_model(&model, images)).collect()
}

/// Makes float32 of what is float16 in `model`; whether there was any.
fn widen(model: &mut Model) -> bool {
    let Some(graph) = &mut model.graph else { return false };
    let half = i32::from(ElementType::Float16);
    let mut found = false;
    for it in graph.initializers.iter_mut().filter(|it| it.data_type == half) {
        let tensor = Tensor::from_data_size(&it.raw_data, &it.dims, Kind::Half);
        *it = constant(std::mem::take(&mut it.name), &tensor, Kind::Float);
        found = true;
    }
    for to in graph.nodes.iter_mut().flat_map(|node| &mut node.attributes).filter_map(|it| it.int.as_mut()) {
        if *to == i64::from(half) {
            *to = i32::from(ElementType::Float32).into();
        }
    }
    found
}

fn run_model(model: &rten::Model, images: &Tensor) -> Result<Tensor> {
    let shape: Vec<usize> = images.size().into_iter().map(|side| side as usize).collect();
    let values = Vec::<f32>::try_from(images.flatten(0, -1))?;
    let images = rten_tensor::Tensor::from_data(&shape, values);
    let output = rten_tensor::Tensor::<f32>::try_from(model.run_one(images.into(), None)?)?;
    let shape: Vec<i64> = output.shape().iter().map(|&side| side as i64).collect();
    Ok(Tensor::from_slice(&output.into_data()).view(&shape[..]))
}

fn write_all(bytes: &[u8], mut file: impl Write) -> io::Result<()> {
    file.write_all(bytes)?;
    file.flush()
}

/// Properties are strings: those of strings are these themselves, all others JSON.
fn text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn graph(net: &UNet, spec: &ExportSpec) -> Graph {
    let mut nodes = Nodes::default();
    let (input, output) = (ExportSpec::INPUT, spec.output_name());
    let images = if spec.half { nodes.cast(input, ElementType::Float16) } else { input.to_owned() };
    let mut result = wiring::write(&mut nodes, &images, spec.padding);
    if spec.half {
        result = nodes.cast(&result, ElementType::Float32);
    }
    if spec.softmax {
        result = nodes.add("Softmax", "softmax", &[&result], vec![int("axis", 1)]);
    }
    nodes.rename_last(&result, output);
    Graph {
        nodes: nodes.nodes,
        name: "unet".to_owned(),
        initializers: initializers(net, spec),
        inputs: vec![value(input, net.architecture.channels, spec.sides, ["height", "width"])],
        outputs: vec![value(output, net.architecture.classes, spec.output_sides(), ["output_height", "output_width"])],
    }
}

/// Parameters, and the numbers that crops and the frame take.
fn initializers(net: &UNet, spec: &ExportSpec) -> Vec<Constant> {
    let mut constants: Vec<Constant> =
        net.parameters().into_iter().map(|(name, tensor)| constant(name, tensor, spec.kind())).collect();
    let mut numbers = |name: String, values: &[i64]| {
        constants.push(constant(name, &Tensor::from_slice(values), Kind::Int64));
    };
    numbers("crop.axes".to_owned(), &[2, 3]);
    for margin in skip_margins() {
        numbers(format!("crop.{margin}.starts"), &[margin; 2]);
        numbers(format!("crop.{margin}.ends"), &[-margin; 2]);
    }
    if let Some(Padding { before, after, .. }) = spec.padding {
        // Pixels of padding for all four axes: the input that names axes came with opset 18.
        numbers("pad.pixels".to_owned(), &[0, 0, before, before, 0, 0, after, after]);
    }
    if let Some(surplus) = spec.padding.map(Padding::surplus).filter(|&surplus| surplus > 0) {
        numbers("cut.starts".to_owned(), &[0, 0]);
        numbers("cut.ends".to_owned(), &[-surplus; 2]);
    }
    constants
}

/// `tensor` as a constant of `kind`.
fn constant(name: String, tensor: &Tensor, kind: Kind) -> Constant {
    let element_type = match kind {
        Kind::Half => ElementType::Float16,
        Kind::Int64 => ElementType::Int64,
        _ => ElementType::Float32,
    };
    let tensor = tensor.detach().to_kind(kind).contiguous();
    let mut raw_data = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.copy_data_u8(&mut raw_data, tensor.numel());
    Constant { dims: tensor.size(), data_type: element_type.into(), name, raw_data }
}

/// `[N, channels, H, W]` f32; sides that are not fixed get names.
fn value(name: &str, channels: i64, sides: Option<[i64; 2]>, names: [&str; 2]) -> Value {
    let named = |name: &str| Size::Named(name.to_owned());
    let [height, width] = sides.map_or(names.map(named), |sides| sides.map(Size::Fixed));
    let dims = [named("batch"), Size::Fixed(channels), height, width];
    let shape = Shape { dims: dims.into_iter().map(|size| Dimension { size: Some(size) }).collect() };
    let tensor = TensorType { element_type: ElementType::Float32.into(), shape: Some(shape) };
    Value { name: name.to_owned(), value_type: Some(ValueType { tensor: Some(tensor) }) }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.to_owned(), int: Some(value), kind: AttributeKind::Int.into(), ..Attribute::default() }
}

fn text_of(name: &str, value: &str) -> Attribute {
    let kind = AttributeKind::Text.into();
    Attribute { name: name.to_owned(), text: Some(value.as_bytes().to_vec()), kind, ..Attribute::default() }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { name: name.to_owned(), ints: values.to_vec(), kind: AttributeKind::Ints.into(), ..Attribute::default() }
}

/// The nodes so far, in the order of computation.
#[derive(Default)]
struct Nodes {
    nodes: Vec<Node>,
}

impl Nodes {
    /// Adds a node with the output `name`.
    fn add(&mut self, op_type: &str, name: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        self.nodes.push(Node {
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![name.to_owned()],
            // Some readers keep nodes and values in one table.
            name: format!("{op_type}:{name}"),
            op_type: op_type.to_owned(),
            attributes,
        });
        name.to_owned()
    }

    fn cast(&mut self, x: &str, to: ElementType) -> String {
        self.add("Cast", &format!("{x}.cast"), &[x], vec![int("to", i32::from(to).into())])
    }

    /// Names the last node's output `name`.
    fn rename_last(&mut self, result: &str, name: &str) {
        if let Some(node) = self.nodes.last_mut() {
            debug_assert_eq!(node.outputs, [result]);
            node.outputs = vec![name.to_owned()];
        }
    }

    fn with_parameters(&mut self, op_type: &str, path: &str, x: &str, attributes: Vec<Attribute>) -> String {
        self.add(op_type, path, &[x, &format!("{path}.weight"), &format!("{path}.bias")], attributes)
    }
}

impl Operations for Nodes {
    fn convolve(&mut self, path: &str, x: &str, size: i64) -> String {
        // It could be left out, but not every reader then knows the number of dimensions.
        self.with_parameters("Conv", path, x, vec![ints("kernel_shape", &[size; 2])])
    }

    fn upsample(&mut self, path: &str, x: &str) -> String {
        let sizes =
            [("kernel_shape", &[3, 3][..]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1]), ("output_padding", &[1, 1])];
        let attributes = sizes.map(|(name, values)| ints(name, values));
        self.with_parameters("ConvTranspose", path, x, attributes.into())
    }

    fn relu(&mut self, x: &str) -> String {
        self.add("Relu", &format!("{x}.relu"), &[x], Vec::new())
    }

    fn pool(&mut self, x: &str) -> String {
        let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
        self.add("MaxPool", &format!("{x}.pool"), &[x], attributes)
    }

    fn crop(&mut self, x: &str, margin: i64) -> String {
        let [starts, ends] = ["starts", "ends"].map(|what| format!("crop.{margin}.{what}"));
        self.add("Slice", &format!("{x}.crop"), &[x, &starts, &ends, "crop.axes"], Vec::new())
    }

    fn pad(&mut self, x: &str, padding: Padding) -> String {
        let mode = match padding.content {
            // A constant of 0, as no value is given.
            PaddingContent::Zeros => "constant",
            PaddingContent::Mirrored => "reflect",
        };
        self.add("Pad", &format!("{x}.pad"), &[x, "pad.pixels"], vec![text_of("mode", mode)])
    }

    fn cut(&mut self, x: &str, _count: i64) -> String {
        self.add("Slice", &format!("{x}.cut"), &[x, "cut.starts", "cut.ends", "crop.axes"], Vec::new())
    }

    fn join(&mut self, x: &str, skip: &str) -> String {
        self.add("Concat", &format!("{x}.join"), &[x, skip], vec![int("axis", 1)])
    }
}
