//! `report.html`: one file that a browser opens from disk, with settings in words, curves, scores and a viewer of slices.
//!
//! The page is a template with its style and scripts, which are files beside this one, and a block of JSON that they
//! draw from. Nothing in it is fetched from anywhere. Slices of an earlier evaluation or prediction stay: they are read
//! back from that block. Not here: which slices are shown (`viewer`), what runs have in common (`compare`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::Local;
use serde::Serialize;
use serde_json::{Map, Value};

use super::loss_table;
use super::model_dir::ModelDir;
use crate::files::write_atomically;
use compare::Comparison;
use viewer::Viewer;

pub mod compare;
mod jpeg;
mod picture;
pub mod viewer;
mod words;

const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(include_str!("report.js"), include_str!("curves.js"), include_str!("viewer.js"));
/// What stands in the template for the JSON, and what is around that in a written report.
const DATA: &str = "{{data}}";
const BEGIN: &str = "<script type=\"application/json\" id=\"data\">";
const END: &str = "</script>";
/// Points of a curve; longer ones are thinned.
const MOST_POINTS: usize = 1000;

/// The JSON of a report.
#[derive(Debug, Serialize)]
struct Report<'a> {
    title: String,
    program: &'static str,
    /// Local date and time.
    written: String,
    runs: &'a [Run],
    comparison: Option<Comparison>,
    /// By [`Part::name`].
    viewers: Map<String, Value>,
}

/// What is known of a run without computing anything.
#[derive(Debug, Serialize)]
pub struct Run {
    pub name: String,
    /// Subjects, and what there is to say of each.
    facts: Vec<(&'static str, String)>,
    /// `config.json`.
    settings: Option<Value>,
    /// `eval.json`.
    scores: Option<Value>,
    /// By column of `learning_curves.csv`: steps and values.
    curves: BTreeMap<String, Vec<(u64, f64)>>,
}

/// What a viewer's slices come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Evaluation,
    Prediction,
}

impl Part {
    /// Its key in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Prediction => "prediction",
        }
    }
}

impl Run {
    /// The run in a model folder. Files that are not there are left out.
    ///
    /// Errors: a file that cannot be read, or is not what its name says.
    pub fn of_folder(name: String, model_dir: &ModelDir) -> Result<Self> {
        let (settings, scores) = (read_json(&model_dir.config())?, read_json(&model_dir.scores())?);
        let curves = curves(&model_dir.losses())?;
        Ok(Self { name, facts: words::facts(settings.as_ref(), scores.as_ref()), settings, scores, curves })
    }

    /// Whether its folder has nothing to show.
    pub fn is_empty(&self) -> bool {
        self.settings.is_none() && self.scores.is_none() && self.curves.is_empty()
    }

    /// A run of which only scores are known.
    pub fn of_scores(name: String, scores: Map<String, Value>) -> Self {
        Self { name, facts: Vec::new(), settings: None, scores: Some(Value::Object(scores)), curves: BTreeMap::new() }
    }
}

/// Writes the report of the run in `model_dir` to `path`, with these viewers beside those of a report that is there.
///
/// Errors: files of the run that cannot be read, and a report that cannot be written.
pub fn write_run(model_dir: &ModelDir, path: &Path, viewers: &[(Part, Viewer)]) -> Result<()> {
    let name = model_dir.root().display().to_string();
    let run = Run::of_folder(name.clone(), model_dir).with_context(|| format!("cannot make '{}'", path.display()))?;
    let mut all = viewers_of(path);
    for (part, viewer) in viewers {
        all.insert(part.name().to_owned(), serde_json::to_value(viewer)?);
    }
    write(path, name, &[run], None, all)
}

/// Writes a report that shows several runs side by side.
pub fn write_comparison(path: &Path, runs: &[Run]) -> Result<()> {
    let title = if runs.len() == 1 { runs[0].name.clone() } else { format!("{} runs side by side", runs.len()) };
    write(path, title, runs, Some(Comparison::new(runs)), Map::new())
}

fn write(
    path: &Path,
    title: String,
    runs: &[Run],
    comparison: Option<Comparison>,
    viewers: Map<String, Value>,
) -> Result<()> {
    let program = concat!("unet ", env!("CARGO_PKG_VERSION"));
    let written = Local::now().format("%Y-%m-%d %H:%M").to_string();
    let page = page(&Report { title, program, written, runs, comparison, viewers })?;
    write_atomically(path, page.as_bytes())
}

fn page(report: &Report<'_>) -> Result<String> {
    let (before, after) = TEMPLATE.split_once(DATA).context("the template has no place for data")?;
    // The title last: what comes from users is not searched for places to fill.
    let fill = |part: &str| {
        let part = part.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        part.replace("{{title}}", &escaped(&report.title))
    };
    Ok(format!("{}{}{}", fill(before), json(report)?, fill(after)))
}

/// JSON without `<`, which stands in strings alone: nothing in it ends the element that it is in.
fn json(report: &Report<'_>) -> Result<String> {
    Ok(serde_json::to_string(report)?.replace('<', "\\u003c"))
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    let replaced = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    replaced.replace('"', "&quot;").replace('\'', "&#39;")
}

/// The viewers of a written report; none where there is no report, or one that is damaged.
fn viewers_of(path: &Path) -> Map<String, Value> {
    let data = || {
        let text = fs::read_to_string(path).ok()?;
        let (_, rest) = text.split_once(BEGIN)?;
        let (data, _) = rest.split_once(END)?;
        match serde_json::from_str::<Value>(data).ok()?.get_mut("viewers")?.take() {
            Value::Object(viewers) => Some(viewers),
            _ => None,
        }
    };
    data().unwrap_or_default()
}

/// A JSON file; `None` where it is absent.
fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    let unusable = || format!("cannot read '{}'", path.display());
    serde_json::from_slice(&fs::read(path).with_context(unusable)?).map(Some).with_context(unusable)
}

/// The columns of a table of losses that have values, each thinned.
fn curves(path: &Path) -> Result<BTreeMap<String, Vec<(u64, f64)>>> {
    let mut curves: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for row in loss_table::read(path)? {
        let Value::Object(columns) = serde_json::to_value(row)? else { continue };
        for (name, value) in columns.iter().filter(|(name, _)| *name != "step") {
            if let Some(value) = value.as_f64() {
                curves.entry(name.clone()).or_default().push((row.step, value));
            }
        }
    }
    curves.values_mut().for_each(thin);
    Ok(curves)
}

/// Keeps every so-manieth point, the last among them.
fn thin(points: &mut Vec<(u64, f64)>) {
    let (count, stride) = (points.len(), points.len().div_ceil(MOST_POINTS).max(1));
    let mut left = count;
    points.retain(|_| {
        left -= 1;
        left.is_multiple_of(stride)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The JSON of a written report.
    fn data(path: &Path) -> Value {
        let text = fs::read_to_string(path).unwrap();
        let (_, rest) = text.split_once(BEGIN).unwrap();
        serde_json::from_str(rest.split_once(END).unwrap().0).unwrap()
    }

    fn model_dir(folder: &Path) -> ModelDir {
        let table = "step,train_ce_loss,train_dice_loss,train_total_loss,eval_ce_loss,eval_dice_loss,eval_total_loss,\
                     eval_dice_score\n1,0.5,,0.75,,,,\n2,0.25,,,,,,\n2,,,,,,,0.9\n";
        fs::write(folder.join("learning_curves.csv"), table).unwrap();
        fs::write(folder.join("eval.json"), json!({"dice": 0.875, "classes": [{"name": "</script>"}]}).to_string())
            .unwrap();
        ModelDir::new(folder)
    }

    #[test]
    fn a_report_holds_scores_and_curves_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_run(&model_dir(folder.path()), &path, &[]).unwrap();
        let run = &data(&path)["runs"][0];
        assert_eq!(run["scores"]["dice"], 0.875);
        assert_eq!(run["settings"], Value::Null);
        let curves = json!({
            "train_ce_loss": [[1, 0.5], [2, 0.25]], "train_total_loss": [[1, 0.75]], "eval_dice_score": [[2, 0.9]],
        });
        assert_eq!(run["curves"], curves);
    }

    #[test]
    fn what_users_name_ends_no_element_and_begins_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("<script>alert('a & \"b\"') {{data}} {{script}}");
        fs::create_dir(&root).unwrap();
        let path = root.join("report.html");
        write_run(&model_dir(&root), &path, &[]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<script").count(), TEMPLATE.matches("<script").count());
        assert_eq!(text.matches("</script").count(), TEMPLATE.matches("</script").count());
        assert!(text.contains("&lt;script&gt;alert(&#39;a &amp; &quot;b&quot;&#39;) {{data}} {{script}}</title>"));
        let data = data(&path);
        assert_eq!(data["runs"][0]["scores"]["classes"][0]["name"], "</script>");
        assert_eq!(data["title"], root.display().to_string());
    }

    /// The markup, style and script of the program have no other `</script>`, nor anything to be fetched.
    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let all = [TEMPLATE, STYLE, SCRIPT].concat();
        // A name of a kind of element, not a place.
        let rest = all.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "@import", "url(", "eval(", "innerHTML", "fetch(", "XMLHttpRequest", " src="] {
            assert!(!rest.contains(word), "{word}");
        }
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
        assert!(TEMPLATE.contains(&format!("{BEGIN}{DATA}{END}")));
        assert!(all.contains("default-src 'none'"));
    }

    #[test]
    fn slices_of_an_earlier_part_stay_and_those_of_the_same_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let model_dir = model_dir(folder.path());
        write_run(&model_dir, &path, &[]).unwrap();
        let earlier = data(&path);
        let run = Run::of_folder("a".to_owned(), &model_dir).unwrap();
        let viewers = json!({"evaluation": {"title": "<old>"}, "prediction": {"title": "p"}});
        let Value::Object(viewers) = viewers else { panic!("{viewers}") };
        write(&path, "a".to_owned(), &[run], None, viewers).unwrap();
        write_run(&model_dir, &path, &[]).unwrap();
        let kept = data(&path);
        assert_eq!(kept["viewers"]["evaluation"]["title"], "<old>");
        assert_eq!((&kept["runs"], &kept["title"]), (&earlier["runs"], &earlier["title"]));
        let image = tch::Tensor::zeros([1, 8, 8], (tch::Kind::Uint8, tch::Device::Cpu));
        let mut recorder = viewer::Recorder::new(vec!["a".to_owned(), "b".to_owned()], true);
        let plane = image.get(0);
        let range = crate::data::values::GreyRange { black: 0.0, white: 255.0 };
        let (caption, dice, labels) = ("slice 0".to_owned(), None, None);
        let shown = viewer::Shown { caption, dice, image: &image, range, probability: &plane, mask: &plane, labels };
        recorder.add(0, shown).unwrap();
        write_run(&model_dir, &path, &[(Part::Evaluation, recorder.finish("new", 1).unwrap())]).unwrap();
        let viewers = &data(&path)["viewers"];
        assert_eq!(viewers["evaluation"]["title"], "new: 1 of 1 slices");
        assert_eq!(viewers["prediction"]["title"], "p");
        fs::write(&path, "damaged").unwrap();
        write_run(&model_dir, &path, &[]).unwrap();
        assert_eq!(data(&path)["viewers"], json!({}));
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_end() {
        for count in [1, 1000, 1001, 2500] {
            let mut points: Vec<(u64, f64)> = (1..=count).map(|step| (step, 0.0)).collect();
            thin(&mut points);
            assert!(points.len() <= MOST_POINTS && points.len() as u64 >= count.min(500), "{count}: {}", points.len());
            assert_eq!(points.last().unwrap().0, count);
        }
    }
}
