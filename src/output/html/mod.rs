//! `report.html`: one file that a browser opens from disk, with settings in words, curves, scores and a viewer of
//! slices.
//!
//! The page is a template with its style and scripts, which are files beside this one, and a block of JSON that they
//! draw from. Nothing in it is fetched from anywhere. Slices of an earlier evaluation or prediction stay: they are read
//! back from that block. Not here: which slices are shown (`viewer`), what is known of a run (`run`), what
//! runs have in common (`compare`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::Local;
use serde::Serialize;
use serde_json::{Map, Value};

use super::model_dir::ModelDir;
use crate::files::write_atomically;
use compare::Comparison;
use run::Run;
use viewer::Viewer;

pub mod compare;
mod picture;
pub mod run;
pub mod viewer;
mod words;

const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(include_str!("report.js"), include_str!("curves.js"), include_str!("viewer.js"));
/// What stands in the template for the JSON, and what is around that in a written report.
const DATA: &str = "{{data}}";
const BEGIN: &str = "<script type=\"application/json\" id=\"data\">";
const END: &str = "</script>";
/// The JSON of a report.
#[derive(Debug, Serialize)]
struct Report<'a> {
    title: String,
    program: &'static str,
    /// Local date and time.
    written: String,
    runs: &'a [Run],
    comparison: Option<Comparison>,
    /// Sets of slices by [`Part::name`].
    viewers: Map<String, Value>,
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
        let mut recorder = viewer::Recorder::new(vec!["a".to_owned(), "b".to_owned()], 1, true);
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
}
