//! TorchScript: the parameters under their own names, and a program in libtorch's own operations, which any libtorch
//! and `torch.jit.load` run, on the CPU and on a GPU.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{CModule, Tensor};

use super::spec::{ExportSpec, Padding, PaddingContent};
use super::wiring::{self, Operations};
use crate::model::unet::UNet;
use crate::native::script;

/// The file beside the program that holds the metadata, in JSON.
pub const METADATA_FILE: &str = "unet.json";

/// libtorch's numbers of dtypes, for which programs from C++ have no names.
const FLOAT16: i32 = 5;
const FLOAT32: i32 = 6;

/// Writes `net` to `path`.
pub fn write(net: &UNet, spec: &ExportSpec, path: &Path) -> Result<()> {
    let parameters: Vec<(String, Tensor)> = net
        .parameters()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.detach().to_kind(spec.kind()).contiguous()))
        .collect();
    let metadata = serde_json::to_string_pretty(&spec.metadata())?;
    script::save(path, &program(spec), &parameters, (METADATA_FILE, &metadata))
}

/// The output of the program in `path` for `images`.
pub fn run(path: &Path, images: &[Tensor]) -> Result<Vec<Tensor>> {
    let module = CModule::load(path).context("libtorch cannot load the file")?;
    let outputs = images.iter().map(|images| tch::no_grad(|| module.forward_ts(&[images])));
    outputs.collect::<Result<_, _>>().context("libtorch cannot run the file")
}

/// The method `forward` of the module.
fn program(spec: &ExportSpec) -> String {
    let mut lines = Lines::default();
    lines.push(&format!("def forward(self, {}: Tensor) -> Tensor:", ExportSpec::INPUT));
    let (condition, what) = sizes(spec);
    lines.push(&format!("    assert {condition}, \"{what}\""));
    let mut result = if spec.half {
        lines.cast_parameters = true;
        // CPUs take long in float16: over a minute for an image that takes them a second in float32.
        lines.assign("dtype", &format!("{FLOAT16} if {}.is_cuda else {FLOAT32}", ExportSpec::INPUT));
        let images = lines.assign("x", &format!("{}.to(dtype)", ExportSpec::INPUT));
        let logits = wiring::write(&mut lines, &images, spec.padding);
        lines.assign("logits", &format!("{logits}.to({FLOAT32})"))
    } else {
        wiring::write(&mut lines, ExportSpec::INPUT, spec.padding)
    };
    if spec.softmax {
        result = lines.assign("probabilities", &format!("torch.softmax({result}, 1)"));
    }
    lines.push(&format!("    return {result}"));
    lines.text
}

/// What the program demands of its input, as an expression and in words. Without it pooling would round.
fn sizes(spec: &ExportSpec) -> (String, String) {
    let input = ExportSpec::INPUT;
    match spec.sides {
        Some([height, width]) => (
            format!("{input}.size(2) == {height} and {input}.size(3) == {width}"),
            format!("expected {input} of {height}x{width} pixels"),
        ),
        None => {
            let (smallest, step) = spec.fitting_sides();
            let fits = |axis: i32| {
                format!("{input}.size({axis}) >= {smallest} and {input}.size({axis}) % {step} == {}", smallest % step)
            };
            (
                format!("{} and {}", fits(2), fits(3)),
                format!("expected {input} with sides of {smallest} pixels or a multiple of {step} more"),
            )
        }
    }
}

/// The program so far.
#[derive(Default)]
struct Lines {
    text: String,
    /// To the dtype that the program has chosen.
    cast_parameters: bool,
}

impl Lines {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Weight and bias at `path`.
    fn parameters(&self, path: &str) -> String {
        let (module, cast) = (module(path), if self.cast_parameters { ".to(dtype)" } else { "" });
        format!("{module}.weight{cast}, {module}.bias{cast}")
    }

    /// A line that gives `expression` the name `name`, made one of the language's.
    fn assign(&mut self, name: &str, expression: &str) -> String {
        let name = name.replace('.', "_");
        self.push(&format!("    {name} = {expression}"));
        name
    }
}

/// `self.bottleneck.conv1`; names of digits alone, as those of levels, are reached in another way.
fn module(path: &str) -> String {
    path.split('.').fold("self".to_owned(), |module, part| {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { format!("getattr({module}, \"{part}\")") } else { format!("{module}.{part}") }
    })
}

impl Operations for Lines {
    fn convolve(&mut self, path: &str, x: &str, _size: i64) -> String {
        let parameters = self.parameters(path);
        self.assign(path, &format!("torch.conv2d({x}, {parameters})"))
    }

    fn upsample(&mut self, path: &str, x: &str) -> String {
        let parameters = self.parameters(path);
        self.assign(path, &format!("torch.conv_transpose2d({x}, {parameters}, [2, 2], [1, 1], [1, 1])"))
    }

    fn relu(&mut self, x: &str) -> String {
        self.assign(x, &format!("torch.relu({x})"))
    }

    fn pool(&mut self, x: &str) -> String {
        self.assign(&format!("{x}_pool"), &format!("torch.max_pool2d({x}, [2, 2])"))
    }

    fn crop(&mut self, x: &str, margin: i64) -> String {
        self.assign(&format!("{x}_crop"), &format!("{x}[:, :, {margin}:-{margin}, {margin}:-{margin}]"))
    }

    fn pad(&mut self, x: &str, Padding { before, after, content }: Padding) -> String {
        let pixels = format!("[{before}, {after}, {before}, {after}]");
        let expression = match content {
            PaddingContent::Zeros => format!("torch.constant_pad_nd({x}, {pixels})"),
            PaddingContent::Mirrored => format!("torch.reflection_pad2d({x}, {pixels})"),
        };
        self.assign(&format!("{x}_pad"), &expression)
    }

    fn cut(&mut self, x: &str, count: i64) -> String {
        self.assign(&format!("{x}_cut"), &format!("{x}[:, :, :-{count}, :-{count}]"))
    }

    fn join(&mut self, x: &str, skip: &str) -> String {
        self.assign(&format!("{x}_join"), &format!("torch.cat([{x}, {skip}], 1)"))
    }
}
