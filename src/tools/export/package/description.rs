//! `rdf.yaml`: the description of a package in the terms of the zoo's specification. It is written as JSON, which every
//! reader of YAML takes.
//!
//! Shapes: N images, H, W pixels.

use anyhow::Result;
use chrono::Utc;
use serde_json::{Value, json};

use crate::cli::package::{Author, Citation, PackageArgs, Place, fits_in_name};
use crate::data::spec::{GreyScaling, Recipe};
use crate::model::sides::first_side;
use crate::tools::export::onnx::OPSET;
use crate::tools::export::spec::{ExportSpec, PaddingContent};

/// The other files of a package.
pub const ONNX_FILE: &str = "weights.onnx";
pub const TORCHSCRIPT_FILE: &str = "weights.pt";
pub const TEST_INPUT: &str = "test_input.npy";
pub const TEST_OUTPUT: &str = "test_output.npy";
pub const COVER: &str = "cover.png";
pub const README: &str = "README.md";

/// Version of the specification. Later ones of 0.5 add nothing that is used here, and readers of this one are many.
const FORMAT_VERSION: &str = "0.5.4";
/// The paper of the network.
const PAPER: (&str, &str) = (
    "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015",
    "10.1007/978-3-319-24574-4_28",
);
/// Pixels on each side that programs which work block by block are to take in beside each block: at least the frame,
/// and a multiple of the grid of the poolings.
pub const HALO: i64 = 96;
/// Longest default name: the tools of the zoo warn of longer ones.
const LONGEST_NAME: usize = 64;

/// What a package says of itself.
pub struct Description<'a> {
    pub name: String,
    pub description: String,
    pub license: &'a str,
    args: &'a PackageArgs,
    spec: &'a ExportSpec,
}

/// The smallest side of the input that the package promises, and the step between sides. Where blocks have a halo, what
/// is left of the smallest without it must be something.
pub fn sides(spec: &ExportSpec) -> (i64, i64) {
    let (smallest, step) = spec.fitting_sides();
    let least = halo(spec).map_or(smallest, |halo| 2 * halo + step);
    (first_side(least, (smallest, step)), step)
}

/// A mirrored frame is right at the edges of the image alone, so that blocks need pixels from around them. Networks of
/// the reference's recipe take the whole image at once, whose frame is grey.
fn halo(spec: &ExportSpec) -> Option<i64> {
    spec.padding.filter(|padding| padding.content == PaddingContent::Mirrored).map(|_| HALO)
}

impl<'a> Description<'a> {
    /// Errors: no licence, or no author.
    pub fn new(args: &'a PackageArgs, spec: &'a ExportSpec) -> Result<Self> {
        let license = args.require()?;
        let classes = spec.data.class_names().join(", ");
        let name = args.name.clone().unwrap_or_else(|| default_name(&spec.data.class_names()));
        let description = args.description.clone().unwrap_or_else(|| {
            format!("U-Net that segments images into {classes}; {} recipe of unet", spec.data.recipe.name())
        });
        Ok(Self { name, description, license, args, spec })
    }

    /// The text of the file; `sha256` gives the checksum of another file of the package.
    pub fn write(&self, sha256: impl Fn(&str) -> Result<String>) -> Result<String> {
        let file = |name: &str| Ok::<_, anyhow::Error>(json!({"source": name, "sha256": sha256(name)?}));
        let with = |name: &str, more: Value| -> Result<Value> {
            let mut entry = file(name)?;
            if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
                entry.extend(more);
            }
            Ok(entry)
        };
        let mut description = json!({
            "format_version": FORMAT_VERSION,
            "type": "model",
            "name": self.name,
            "description": self.description,
            "timestamp": Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "authors": self.args.authors.iter().map(author).collect::<Vec<_>>(),
            "cite": self.citations(),
            "license": self.license,
            "documentation": README,
            "covers": [COVER],
            "tags": ["unet", "semantic-segmentation", "2d"],
            "inputs": [self.input(file(TEST_INPUT)?)],
            "outputs": [self.output(file(TEST_OUTPUT)?)],
            "weights": {
                "torchscript": with(TORCHSCRIPT_FILE, json!({"pytorch_version": env!("LIBTORCH_VERSION")}))?,
                // The tools ask which of the formats was made of which.
                "onnx": with(ONNX_FILE, json!({"opset_version": OPSET, "parent": "torchscript"}))?,
            },
        });
        description["config"] = json!({"unet": self.spec.metadata()});
        Ok(serde_json::to_string_pretty(&description)? + "\n")
    }

    fn citations(&self) -> Vec<Value> {
        let (text, doi) = PAPER;
        std::iter::once(json!({"text": text, "doi": doi})).chain(self.args.citations.iter().map(citation)).collect()
    }

    fn input(&self, test: Value) -> Value {
        let (smallest, step) = sides(self.spec);
        let size = json!({"min": smallest, "step": step});
        let axis = |id: &str| json!({"type": "space", "id": id, "size": size});
        json!({
            "id": ExportSpec::INPUT,
            "description": "images as they are stored",
            "axes": [{"type": "batch"}, channels(&self.channel_names()), axis("y"), axis("x")],
            "data": {"type": "float32"},
            "test_tensor": test,
            "preprocessing": preprocessing(self.spec),
        })
    }

    fn output(&self, test: Value) -> Value {
        let axis = |id: &str| {
            let size = json!({"tensor_id": ExportSpec::INPUT, "axis_id": id, "offset": -self.spec.lost()});
            let mut axis = json!({"type": "space", "id": id, "size": size});
            if let Some(halo) = halo(self.spec) {
                axis["halo"] = json!(halo);
            }
            axis
        };
        // The graph has the softmax already: there is no postprocessing.
        let data = match self.spec.softmax {
            true => json!({"type": "float32", "range": [0.0, 1.0]}),
            false => json!({"type": "float32"}),
        };
        json!({
            "id": self.spec.output_name(),
            "description": format!("{} of the classes", self.spec.output_name()),
            "axes": [{"type": "batch"}, channels(&self.spec.data.class_names()), axis("y"), axis("x")],
            "data": data,
            "test_tensor": test,
        })
    }

    fn channel_names(&self) -> Vec<String> {
        let data = &self.spec.data;
        match (data.channel_names.len() == data.channels, data.channels) {
            (true, _) => data.channel_names.clone(),
            (false, 1) => vec!["grey".to_owned()],
            (false, 3) => ["red", "green", "blue"].map(str::to_owned).to_vec(),
            (false, count) => (0..count).map(|channel| format!("channel {channel}")).collect(),
        }
    }
}

/// Names on every channel axis: readers in Java fail without.
fn channels(names: &[String]) -> Value {
    json!({"type": "channel", "channel_names": names})
}

/// The steps from stored samples to the graph's input.
fn preprocessing(spec: &ExportSpec) -> Vec<Value> {
    let step = |id: &str, kwargs: Value| json!({"id": id, "kwargs": kwargs});
    let (black, white) = (spec.range.black, spec.range.white);
    // Numbers of f32 have a point in YAML too, where 5e-5 would be text to some readers.
    let gain = f64::from((2.0 / (white - black)) as f32);
    let offset = f64::from((-1.0 - black * 2.0 / (white - black)) as f32);
    let mut steps = vec![step("ensure_dtype", json!({"dtype": "float32"}))];
    // The specification refuses a scaling that changes nothing.
    if (gain, offset) != (1.0, 0.0) {
        steps.push(step("scale_linear", json!({"gain": gain, "offset": offset})));
    }
    steps.push(match spec.data.recipe {
        Recipe::Native { grey: GreyScaling::Image } => step("zero_mean_unit_variance", json!({"axes": ["y", "x"]})),
        Recipe::Reference | Recipe::Native { grey: GreyScaling::Range } => {
            step("clip", json!({"min": -1.0, "max": 1.0}))
        }
    });
    steps
}

fn author(author: &Author) -> Value {
    let Author { name, affiliation, orcid, github_user } = author;
    let mut fields = json!({"name": name});
    for (key, value) in [("affiliation", affiliation), ("orcid", orcid), ("github_user", github_user)] {
        if let Some(value) = value {
            fields[key] = json!(value);
        }
    }
    fields
}

fn citation(citation: &Citation) -> Value {
    match &citation.place {
        Place::Doi(doi) => json!({"text": citation.text, "doi": doi}),
        Place::Url(url) => json!({"text": citation.text, "url": url}),
    }
}

/// `U-Net for membrane and inside`, of the characters that the specification allows.
fn default_name(classes: &[String]) -> String {
    let name = format!("U-Net for {}", classes.join(" and "));
    let symbols = name.chars().filter(|&symbol| fits_in_name(symbol)).take(LONGEST_NAME);
    symbols.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::spec::DataSpec;
    use crate::data::values::GreyRange;
    use crate::model::architecture::Architecture;
    use crate::tools::export::spec::Padding;

    fn spec(recipe: Recipe, range: [f64; 2], is_framed: bool) -> ExportSpec {
        let [black, white] = range;
        let data = DataSpec { recipe, ..DataSpec::isbi() };
        let padding = is_framed.then(|| Padding::of(recipe));
        let (architecture, range) = (Architecture::for_slices(2), GreyRange { black, white });
        ExportSpec { architecture, data, sides: None, half: false, softmax: true, range, padding }
    }

    const RANGE: Recipe = Recipe::Native { grey: GreyScaling::Range };
    const IMAGE: Recipe = Recipe::Native { grey: GreyScaling::Image };

    /// Expected values are worked out by hand: 0 to 255 is v / 127.5 - 1; 1000 to 5000 is (v - 3000) / 2000.
    #[test]
    fn grey_levels_are_scaled_in_the_terms_of_the_specification() {
        let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
        for (range, gain, offset) in [([0.0, 255.0], 1.0 / 127.5, -1.0), ([1000.0, 5000.0], 1.0 / 2000.0, -1.5)] {
            let steps = preprocessing(&spec(Recipe::Reference, range, false));
            assert_eq!(steps.len(), 3, "{steps:?}");
            assert_eq!(steps[0]["id"], "ensure_dtype");
            let kwargs = &steps[1]["kwargs"];
            assert!(close(&kwargs["gain"], gain) && close(&kwargs["offset"], offset), "{kwargs}");
            assert_eq!(steps[2], json!({"id": "clip", "kwargs": {"min": -1.0, "max": 1.0}}));
        }
        let ids = |recipe, range| -> Vec<String> {
            preprocessing(&spec(recipe, range, false)).iter().map(|step| step["id"].as_str().unwrap().into()).collect()
        };
        assert_eq!(ids(RANGE, [-1.0, 1.0]), ["ensure_dtype", "clip"]);
        assert_eq!(ids(IMAGE, [0.0, 1.0]), ["ensure_dtype", "scale_linear", "zero_mean_unit_variance"]);
        // A number with an exponent and no point is text to some readers of YAML.
        let tiny = preprocessing(&spec(RANGE, [0.0, 40000.0], false))[1]["kwargs"]["gain"].to_string();
        assert!(tiny.contains('.') && (tiny.parse::<f64>().unwrap() - 5e-5).abs() < 1e-11, "{tiny}");
    }

    #[test]
    fn sides_are_those_that_the_network_allows() {
        for (recipe, is_framed, smallest) in [
            (Recipe::Reference, false, 188),
            (RANGE, false, 188),
            (Recipe::Reference, true, 4),
            // 128 are allowed; a block of 208 has 16 pixels beside its halo.
            (RANGE, true, 208),
        ] {
            assert_eq!(sides(&spec(recipe, [0.0, 255.0], is_framed)), (smallest, 16), "{recipe:?} {is_framed}");
        }
    }

    #[test]
    fn default_names_are_of_allowed_characters() {
        let names = |names: &[&str]| default_name(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["membrane", "inside"]), "U-Net for membrane and inside");
        assert_eq!(names(&["Zellwände", "a/b"]), "U-Net for Zellwnde and ab");
        assert_eq!(names(&["x".repeat(80).as_str()]), format!("U-Net for {}", "x".repeat(54)));
    }
}
