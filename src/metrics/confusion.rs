//! The confusion matrix of N classes and the scores that follow from it (docs/metrics.md): for each class, and for all.
//!
//! Counts are of pixels, all images together, so that no score is a mean over images. Not here: files, pictures.

use std::iter::once;

use anyhow::Result;
use serde::Serialize;

use crate::data::labels::IGNORED;

/// Pixels by the class of their label and the class that was predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[label][prediction]`, row after row.
    counts: Vec<u64>,
    /// Pixels whose label is [`IGNORED`].
    ignored: u64,
}

/// The scores of a class, 0 to 1, higher is better. `None` is 0/0: of Dice and IoU where neither labels nor predictions
/// have the class, of precision where no prediction has it, of recall where no label has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// 2 TP / (2 TP + FP + FN).
    pub dice: Option<f64>,
    /// TP / (TP + FP + FN).
    pub iou: Option<f64>,
    /// TP / (TP + FP).
    pub precision: Option<f64>,
    /// TP / (TP + FN).
    pub recall: Option<f64>,
    /// Pixels that the labels have of it.
    pub support: u64,
    /// Pixels that the predictions have of it.
    pub predicted: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct NamedScores {
    name: String,
    #[serde(flatten)]
    scores: ClassScores,
}

/// All scores of some images, as `eval.json` has them. Means are `None` where no pixel has a label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    classes: Vec<NamedScores>,
    /// Mean over the classes that the labels have.
    pub mean_dice: Option<f64>,
    /// Mean over the classes that the labels have.
    pub mean_iou: Option<f64>,
    /// Share of the pixels whose class is right.
    pub accuracy: Option<f64>,
    /// Pixels whose label is of no class; they are in no other number.
    pub ignored_pixels: u64,
    /// Pixels by label (rows) and prediction (columns).
    confusion: Vec<Vec<u64>>,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes], ignored: 0 }
    }

    /// Counts the pixels of an image. Those with the label [`IGNORED`] are left out, whatever their prediction.
    ///
    /// Panics: any other class index that is not below the number of classes.
    pub fn add(&mut self, labels: &[u8], predictions: &[u8]) {
        debug_assert_eq!(labels.len(), predictions.len());
        for (&label, &prediction) in labels.iter().zip(predictions) {
            if label == IGNORED {
                self.ignored += 1;
            } else {
                // Indexed within its row, so that a prediction that is too large is not counted in another one.
                self.counts[usize::from(label) * self.classes..][..self.classes][usize::from(prediction)] += 1;
            }
        }
    }

    /// Adds the pixels of another matrix of the same classes.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.classes, other.classes);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.ignored += other.ignored;
    }

    /// For an exchange between processes: the sums of these numbers are those of the merged matrix. Exact up to 2^53
    /// pixels.
    pub fn numbers(&self) -> Vec<f64> {
        self.counts.iter().chain(once(&self.ignored)).map(|&count| count as f64).collect()
    }

    /// From the numbers that [`Self::numbers`] gave, or their sums.
    pub fn from_numbers(classes: usize, numbers: &[f64]) -> Self {
        let (counts, ignored) = numbers.split_at(classes * classes);
        Self { classes, counts: counts.iter().map(|&count| count as u64).collect(), ignored: ignored[0] as u64 }
    }

    /// Pixels of class `label` that were predicted as class `prediction`.
    pub fn get(&self, label: usize, prediction: usize) -> u64 {
        self.counts[label * self.classes + prediction]
    }

    /// Pixels of the labels in a class.
    pub fn support(&self, label: usize) -> u64 {
        (0..self.classes).map(|prediction| self.get(label, prediction)).sum()
    }

    /// Pixels whose label is of some class.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn scores(&self, class: usize) -> ClassScores {
        let right = self.get(class, class);
        let support = self.support(class);
        let predicted = (0..self.classes).map(|label| self.get(label, class)).sum();
        ClassScores {
            dice: ratio(2 * right, support + predicted),
            iou: ratio(right, support + predicted - right),
            precision: ratio(right, predicted),
            recall: ratio(right, support),
            support,
            predicted,
        }
    }

    /// For `confusion.csv`: a row for each label, a column for each prediction.
    pub fn csv(&self, names: &[String]) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(once("label \\ prediction").chain(names.iter().map(String::as_str)))?;
        for (label, name) in names.iter().enumerate() {
            let counts = (0..self.classes).map(|prediction| self.get(label, prediction).to_string());
            writer.write_record(once(name.clone()).chain(counts))?;
        }
        Ok(writer.into_inner()?)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Summary {
    /// `names` are those of the classes, in their order.
    pub fn new(confusion: &Confusion, names: &[String]) -> Self {
        let classes = 0..confusion.classes;
        let scores: Vec<ClassScores> = classes.clone().map(|class| confusion.scores(class)).collect();
        let mean = |score: fn(&ClassScores) -> Option<f64>| {
            let labelled: Vec<f64> = scores.iter().filter(|class| class.support > 0).filter_map(score).collect();
            (!labelled.is_empty()).then(|| labelled.iter().sum::<f64>() / labelled.len() as f64)
        };
        let row = |label| classes.clone().map(|prediction| confusion.get(label, prediction)).collect();
        Self {
            mean_dice: mean(|class| class.dice),
            mean_iou: mean(|class| class.iou),
            accuracy: ratio(classes.clone().map(|class| confusion.get(class, class)).sum(), confusion.pixels()),
            ignored_pixels: confusion.ignored,
            confusion: classes.clone().map(row).collect(),
            classes: names.iter().cloned().zip(scores).map(|(name, scores)| NamedScores { name, scores }).collect(),
        }
    }

    /// The scores of each class by name.
    pub fn named(&self) -> impl Iterator<Item = (&str, &ClassScores)> {
        self.classes.iter().map(|class| (class.name.as_str(), &class.scores))
    }

    /// For people: a line for each class, then the means. The share is that of the labels' pixels.
    pub fn table(&self) -> String {
        let width = self.named().map(|(name, _)| name.chars().count()).chain(["accuracy".len()]).max().unwrap_or(0);
        let cell = |score: Option<f64>| score.map_or_else(|| "-".to_owned(), |score| format!("{score:.6}"));
        let line = |name: &str, [dice, iou, precision, recall]: [String; 4], share: &str| {
            format!("{name:<width$}  {dice:<8}  {iou:<8}  {precision:<9}  {recall:<8}  {share}\n")
        };
        let header = ["Dice", "IoU", "precision", "recall"].map(str::to_owned);
        let mut text = line("class", header, "share of pixels");
        let pixels: u64 = self.named().map(|(_, scores)| scores.support).sum();
        for (name, scores) in self.named() {
            let share = ratio(scores.support, pixels).filter(|&share| share > 0.0);
            let share = share.map_or_else(|| "absent".to_owned(), |share| format!("{:>6.2} %", 100.0 * share));
            text += &line(name, [scores.dice, scores.iou, scores.precision, scores.recall].map(cell), &share);
        }
        let [dice, iou] = [self.mean_dice, self.mean_iou].map(cell);
        text += &format!("{:<width$}  {dice:<8}  {iou:<8}  over the classes that the labels have\n", "mean");
        if let Some(accuracy) = self.accuracy {
            text += &format!("{:<width$}  {accuracy:.6}\n", "accuracy");
        }
        if self.ignored_pixels > 0 {
            let (ignored, all) = (self.ignored_pixels, pixels + self.ignored_pixels);
            text += &format!("{:<width$}  {ignored} of {all} pixels\n", "ignored");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const LABELS: [u8; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 255, 255, 0, 1, 2];
    const PREDICTIONS: [u8; 16] = [0, 0, 0, 1, 1, 1, 1, 0, 4, 2, 0, 2, 0, 0, 1, 2];

    /// Five classes; 3 is nowhere, 4 is predicted but in no label.
    fn confusion() -> Confusion {
        let mut confusion = Confusion::new(5);
        confusion.add(&LABELS[..7], &PREDICTIONS[..7]);
        confusion.add(&LABELS[7..], &PREDICTIONS[7..]);
        confusion
    }

    fn names() -> Vec<String> {
        ["membrane", "inside", "a, b", "nowhere", "surplus"].map(str::to_owned).to_vec()
    }

    /// Expected values are those of Python's sets of pixel indices, such as `2 * len(l & p) / (len(l) + len(p))`.
    #[test]
    fn scores_of_each_class_are_those_of_sets_of_pixels() {
        let confusion = confusion();
        let expected = [
            (Some(0.7272727272727273), Some(0.5714285714285714), Some(0.6666666666666666), Some(0.8), 5, 6),
            (Some(0.7272727272727273), Some(0.5714285714285714), Some(0.8), Some(0.6666666666666666), 6, 5),
            (Some(0.8), Some(0.6666666666666666), Some(1.0), Some(0.6666666666666666), 3, 2),
            (None, None, None, None, 0, 0),
            (Some(0.0), Some(0.0), Some(0.0), None, 0, 1),
        ];
        for (class, (dice, iou, precision, recall, support, predicted)) in expected.into_iter().enumerate() {
            let expected = ClassScores { dice, iou, precision, recall, support, predicted };
            assert_eq!(confusion.scores(class), expected, "class {class}");
        }
    }

    #[test]
    fn means_are_over_the_classes_that_the_labels_have() {
        let summary = Summary::new(&confusion(), &names());
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-15;
        assert!(close(summary.mean_dice, 0.7515151515151516), "{summary:?}");
        assert!(close(summary.mean_iou, 0.6031746031746031), "{summary:?}");
        assert_eq!(summary.accuracy, Some(10.0 / 14.0));
        assert_eq!(summary.ignored_pixels, 2);
    }

    #[test]
    fn labels_that_are_ignored_everywhere_have_no_scores() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[255, 255], &[0, 1]);
        let summary = Summary::new(&confusion, &names()[..2]);
        assert_eq!((summary.mean_dice, summary.mean_iou, summary.accuracy), (None, None, None));
        assert_eq!((confusion.pixels(), confusion.ignored), (0, 2));
    }

    #[test]
    fn sums_of_the_numbers_are_the_merged_matrix() {
        let [mut first, mut second] = [Confusion::new(5), Confusion::new(5)];
        first.add(&LABELS[..9], &PREDICTIONS[..9]);
        second.add(&LABELS[9..], &PREDICTIONS[9..]);
        let sums: Vec<f64> = first.numbers().iter().zip(second.numbers()).map(|(a, b)| a + b).collect();
        let merged = Confusion::from_numbers(5, &sums);
        assert_eq!(merged, confusion());
        first.merge(&second);
        assert_eq!(first, merged);
        assert_eq!((merged.get(1, 4), merged.get(4, 1)), (1, 0));
    }

    #[test]
    #[should_panic]
    fn a_prediction_of_no_class_is_not_counted_as_another() {
        Confusion::new(2).add(&[0], &[2]);
    }

    #[test]
    fn json_has_the_classes_by_name_and_the_matrix() {
        let json = serde_json::to_value(Summary::new(&confusion(), &names())).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["classes", "mean_dice", "mean_iou", "accuracy", "ignored_pixels", "confusion"]);
        assert_eq!(json["classes"].as_array().map(Vec::len), Some(5));
        let surplus = json!({
            "name": "surplus", "dice": 0.0, "iou": 0.0, "precision": 0.0, "recall": Value::Null,
            "support": 0, "predicted": 1,
        });
        assert_eq!(json["classes"][4], surplus);
        let rows = json!([[4, 1, 0, 0, 0], [1, 4, 0, 0, 1], [1, 0, 2, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]);
        assert_eq!(json["confusion"], rows);
    }

    #[test]
    fn the_table_is_aligned_and_names_what_is_absent() {
        let expected = "\
class     Dice      IoU       precision  recall    share of pixels
membrane  0.727273  0.571429  0.666667   0.800000   35.71 %
inside    0.727273  0.571429  0.800000   0.666667   42.86 %
a, b      0.800000  0.666667  1.000000   0.666667   21.43 %
nowhere   -         -         -          -         absent
surplus   0.000000  0.000000  0.000000   -         absent
mean      0.751515  0.603175  over the classes that the labels have
accuracy  0.714286
ignored   2 of 16 pixels
";
        assert_eq!(Summary::new(&confusion(), &names()).table(), expected);
    }

    #[test]
    fn the_csv_has_names_in_its_first_row_and_column() {
        let expected = "\
label \\ prediction,membrane,inside,\"a, b\",nowhere,surplus
membrane,4,1,0,0,0
inside,1,4,0,0,1
\"a, b\",1,0,2,0,0
nowhere,0,0,0,0,0
surplus,0,0,0,0,0
";
        assert_eq!(String::from_utf8(confusion().csv(&names()).unwrap()).unwrap(), expected);
    }
}
