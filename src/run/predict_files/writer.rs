//! The thread that writes masks behind the network.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use anyhow::Result;
use tch::Tensor;

use super::folder::OutputFolder;
use super::job::Job;
use super::reader::Page;
use crate::data::labels::LabelValue;
use crate::data::spec::DataSpec;
use crate::run::inference::planes;
use crate::run::masks::{MaskPages, ProbabilityPages, write_png};
use crate::run::predict::count;

/// What is to be written.
pub enum Message {
    /// Probabilities `[P, H, W]` and class indices `[H, W]` u8 of a page, on the host.
    Page {
        page: Page,
        planes: Tensor,
        classes: Tensor,
    },
    Failed {
        case: usize,
        problem: String,
    },
}

/// What became of the files of this process.
#[derive(Debug, Default)]
pub struct Finished {
    pub predicted: usize,
    pub failed: usize,
    /// Pixels of each class.
    pub pixels: Vec<u64>,
}

/// Writes the masks of one file after the other.
pub struct Writer<'a> {
    folder: &'a OutputFolder,
    job: &'a Job<'a>,
    values: Vec<LabelValue>,
    planes: i64,
    /// The files of the case at work.
    open: Option<Open>,
    finished: Finished,
}

struct Open {
    case: usize,
    masks: Masks,
    probabilities: Option<ProbabilityPages>,
}

enum Masks {
    Tiff(Box<MaskPages>),
    Png(PathBuf),
}

impl<'a> Writer<'a> {
    pub fn new(folder: &'a OutputFolder, job: &'a Job<'a>, spec: &DataSpec) -> Self {
        let values = match &spec.map {
            Some(map) => map.written_values(),
            None => vec![LabelValue::Grey(0), LabelValue::Grey(255)],
        };
        let finished = Finished { pixels: vec![0; spec.classes()], ..Finished::default() };
        Self { folder, job, values, planes: planes(spec.classes()), open: None, finished }
    }

    /// Writes until nothing more comes.
    ///
    /// Errors: a file that cannot be written.
    pub fn run(&mut self, messages: &Receiver<Message>) -> Result<Finished> {
        for message in messages {
            match message {
                Message::Page { page, planes, classes } => self.write(&page, &planes, &classes)?,
                Message::Failed { case, problem } => {
                    // Its pages so far leave no file.
                    self.open.take_if(|open| open.case == case);
                    self.finished.failed += 1;
                    // By every process itself: the log of others than rank 0 is silent.
                    eprintln!("warning: {problem}; left out");
                }
            }
        }
        Ok(std::mem::take(&mut self.finished))
    }

    fn write(&mut self, page: &Page, planes: &Tensor, classes: &Tensor) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.case != page.case) {
            self.open = Some(self.begin(page)?);
        }
        let Some(open) = &mut self.open else { unreachable!("opened above") };
        let classes = Vec::<u8>::try_from(classes.contiguous().view([-1]))?;
        count(&mut self.finished.pixels, &classes);
        if let Some(probabilities) = &mut open.probabilities {
            probabilities.write(planes)?;
        }
        match &mut open.masks {
            Masks::Tiff(masks) => masks.write(&classes)?,
            // Probabilities first: the mask says that a file is done.
            Masks::Png(path) if !page.is_last => unreachable!("a PNG has one page: {}", path.display()),
            Masks::Png(_) => {}
        }
        if !page.is_last {
            return Ok(());
        }
        let Some(open) = self.open.take() else { unreachable!("written to above") };
        if let Some(probabilities) = open.probabilities {
            probabilities.finish()?;
        }
        match open.masks {
            Masks::Tiff(masks) => masks.finish()?,
            Masks::Png(path) => write_png(&path, &classes, [page.size[1], page.size[2]], &self.values)?,
        }
        self.finished.predicted += 1;
        Ok(())
    }

    fn begin(&self, page: &Page) -> Result<Open> {
        let case = &self.job.cases[page.case];
        let (path, resolution) = (self.folder.mask(case), page.resolution.as_ref());
        let masks = if path.extension().is_some_and(|suffix| suffix == "png") {
            Masks::Png(path)
        } else {
            Masks::Tiff(Box::new(MaskPages::create(&path, page.size, &self.values, resolution)?))
        };
        let create = || ProbabilityPages::create(&self.folder.probabilities(case), page.size, self.planes, resolution);
        let probabilities = self.job.save_probabilities.then(create).transpose()?;
        Ok(Open { case: page.case, masks, probabilities })
    }
}
