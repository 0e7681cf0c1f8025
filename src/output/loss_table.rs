//! The losses of a run, step by step, in `learning_curves.csv`: what learning curves are drawn from.
//!
//! Rows are appended as they come. A run that goes on from a checkpoint takes over the rows up to its step and drops
//! later ones, so that no step is there twice, however often a run was killed and from wherever it went on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;

/// A line of the table: the losses of a training step, or those of the validation slices after it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LossRow {
    pub step: u64,
    pub train_ce_loss: Option<f64>,
    pub train_dice_loss: Option<f64>,
    pub train_total_loss: Option<f64>,
    pub eval_ce_loss: Option<f64>,
    pub eval_dice_loss: Option<f64>,
    pub eval_total_loss: Option<f64>,
    pub eval_dice_score: Option<f64>,
    // Tables of 0.1.0 have no further columns.
    #[serde(default)]
    pub v_rand_thin: Option<f64>,
    #[serde(default)]
    pub v_info_thin: Option<f64>,
    #[serde(default)]
    pub dice: Option<f64>,
    #[serde(default)]
    pub mean_dice: Option<f64>,
}

impl LossRow {
    /// Takes the losses and scores among `figures`, by name.
    pub fn new(step: u64, figures: &[(&str, f64)]) -> Self {
        let figure = |name: &str| figures.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        Self {
            step,
            train_ce_loss: figure("train_ce_loss"),
            train_dice_loss: figure("train_dice_loss"),
            train_total_loss: figure("train_total_loss"),
            eval_ce_loss: figure("eval_ce_loss"),
            eval_dice_loss: figure("eval_dice_loss"),
            eval_total_loss: figure("eval_total_loss"),
            eval_dice_score: figure("eval_dice_score"),
            v_rand_thin: figure("v_rand_thin"),
            v_info_thin: figure("v_info_thin"),
            dice: figure("dice"),
            mean_dice: figure("mean_dice"),
        }
    }
}

/// The rows, and the file that new ones go to.
#[derive(Debug)]
pub struct LossTable {
    pub rows: Vec<LossRow>,
    path: PathBuf,
    /// `None` before the first new row, and after one that could not be written: the next one then writes all of them.
    file: Option<File>,
}

impl LossTable {
    /// Goes on with the rows up to `step` of those that `path` holds. Nothing is written before the first new row.
    pub fn resume(path: &Path, mut rows: Vec<LossRow>, step: u64) -> Self {
        rows.retain(|row| row.step <= step);
        Self { rows, path: path.to_owned(), file: None }
    }

    /// Errors: those of the file system. The row is among `rows` all the same, and goes to the file with a later one.
    pub fn add(&mut self, row: LossRow) -> Result<()> {
        self.rows.push(row);
        let cannot = || format!("cannot write '{}'", self.path.display());
        if let Some(mut file) = self.file.take() {
            file.write_all(&table(&[row], false)?).with_context(cannot)?;
            self.file = Some(file);
            return Ok(());
        }
        write_atomically(&self.path, &table(&self.rows, true)?)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path).with_context(cannot)?);
        Ok(())
    }
}

/// The rows of a table, without what a killed run has not finished. An absent file has none.
pub fn read(path: &Path) -> Result<Vec<LossRow>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("cannot read '{}'", path.display()))?,
    };
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    // A line that a power cut has damaged is a gap in the curves, not the end of them.
    Ok(csv::Reader::from_reader(&text[..end]).into_deserialize().flatten().collect())
}

fn table(rows: &[LossRow], header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> LossRow {
        LossRow { step, train_ce_loss: Some(1.0 / step as f64), ..LossRow::default() }
    }

    fn steps(path: &Path) -> Vec<u64> {
        read(path).unwrap().iter().map(|row| row.step).collect()
    }

    #[test]
    fn a_run_that_goes_back_has_no_step_twice_and_none_of_the_future() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let mut losses = LossTable::resume(&path, Vec::new(), 0);
        (1..=5).for_each(|step| losses.add(row(step)).unwrap());
        assert_eq!(steps(&path), [1, 2, 3, 4, 5]);
        // Killed while it wrote the row of step 6.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"6,0.1").unwrap();
        let mut losses = LossTable::resume(&path, read(&path).unwrap(), 3);
        assert_eq!(steps(&path), [1, 2, 3, 4, 5], "nothing is lost before there is something new");
        losses.add(row(4)).unwrap();
        losses.add(row(7)).unwrap();
        assert_eq!(steps(&path), [1, 2, 3, 4, 7]);
        assert_eq!(read(&path).unwrap(), losses.rows);
    }

    #[test]
    fn the_table_is_what_spreadsheets_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let mut losses = LossTable::resume(&path, Vec::new(), 0);
        losses.add(row(2)).unwrap();
        losses.add(LossRow { step: 2, eval_dice_score: Some(0.75), ..LossRow::default() }).unwrap();
        let header = "step,train_ce_loss,train_dice_loss,train_total_loss,\
                      eval_ce_loss,eval_dice_loss,eval_total_loss,eval_dice_score,\
                      v_rand_thin,v_info_thin,dice,mean_dice";
        let expected = format!("{header}\n2,0.5,,,,,,,,,,\n2,,,,,,,0.75,,,,\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn tables_with_fewer_columns_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        fs::write(
            &path,
            "step,train_ce_loss,train_dice_loss,train_total_loss,eval_ce_loss,eval_dice_loss,\
                          eval_total_loss,eval_dice_score\n2,0.5,,,,,,\n",
        )
        .unwrap();
        assert_eq!(read(&path).unwrap(), [row(2)]);
    }

    #[test]
    fn rows_that_could_not_be_written_are_written_with_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("losses.csv");
        let mut losses = LossTable::resume(&path, Vec::new(), 0);
        assert!(losses.add(row(1)).unwrap_err().to_string().contains("cannot write"));
        fs::create_dir(path.parent().unwrap()).unwrap();
        losses.add(row(2)).unwrap();
        assert_eq!(steps(&path), [1, 2]);
    }
}
