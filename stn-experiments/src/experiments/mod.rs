//! The paper's experiments, a module each, and what the sweep, the report and the command line know of one.

pub mod addition;
pub(crate) mod classification;
pub mod colocalisation;
pub mod cub;
mod digits;
pub mod mnist;
pub mod svhn;
pub mod volume;

pub use digits::Digits;

use crate::budget::Budget;
use crate::data::{DataSource, Dataset, Source};
use crate::figures::Figure;
use crate::metrics::Measure;
use crate::named::by_id;
use crate::record::RunDir;
use crate::reproduce::Ending;
use crate::request::Request;
use crate::run::{RunResult, Settings};
use crate::stop::Stop;
use anyhow::Result;
use std::fmt::Debug;
use std::path::Path;

/// The seed of every test and validation set, whatever the run's own.
pub const TEST_SEED: u64 = 0;

/// The draw of the validation images; those of the test set count from zero.
pub(crate) const VALIDATION_DRAW: u64 = u64::MAX;

/// Every experiment, in the order of the paper.
pub const ALL: [&dyn Experiment; 6] = [
    &mnist::DistortedMnist,
    &svhn::HouseNumbers,
    &cub::FineGrainedBirds,
    &addition::Addition,
    &colocalisation::Colocalisation,
    &volume::DigitsInVolumes,
];

/// Finds an experiment by its name.
///
/// # Errors
/// When there is none of that name.
pub fn named(id: &str) -> Result<&'static dyn Experiment> {
    by_id("experiment", id, ALL, Experiment::id)
}

/// The test error of a run's network, measured again.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// In percent, one value a draw.
    pub draws: Vec<f64>,
    /// Images of a draw.
    pub images: usize,
    /// Where the images came from, if they are not those that the run was tested on.
    pub other_images: Option<DataSource>,
}

impl Evaluation {
    /// The error of each draw of a test set whose checksum the run's settings hold under `name`.
    pub(crate) fn of_draws(
        draws: Vec<f64>,
        settings: &Settings,
        name: &str,
        test: &Dataset,
        source: DataSource,
    ) -> Self {
        let same = settings.details.get(name).is_none_or(|stored| *stored == test.identity());
        Self { draws, images: test.len(), other_images: (!same).then_some(source) }
    }
}

/// An experiment: a table of the paper with its data sets (columns) and models (rows), every cell of which can be trained.
///
/// Data sets and models go by their ids, which stand in commands, paths and records.
pub trait Experiment: Debug + Sync {
    /// The name in commands and paths: `mnist`.
    fn id(&self) -> &'static str;

    /// What it is about, in a few words.
    fn title(&self) -> &'static str;

    /// Where the paper has it, in a word or two: `table 1`.
    fn place(&self, data: &str) -> &'static str;

    /// The ids of its data sets.
    fn data(&self) -> Vec<String>;

    /// The ids of its models.
    fn models(&self) -> Vec<String>;

    /// A model's name in tables: `ST-CNN Aff`.
    fn label(&self, model: &str) -> String;

    /// The data sets and models that `quick` trains unless others are selected; `full` and `paper` train all.
    fn first_look(&self) -> (Vec<String>, Vec<String>);

    /// Its budgets, by what they cost: quick, full and, where the paper says how it trained, paper.
    fn budgets(&self) -> Vec<Budget>;

    /// What its tables show.
    fn measure(&self) -> Measure {
        Measure::Error
    }

    /// The paper's error in percent, where it gives one.
    fn paper_error_percent(&self, data: &str, model: &str) -> Option<f64>;

    /// Whether a run's network is as large as the paper's.
    fn has_the_papers_network(&self, result: &RunResult) -> bool {
        let _ = result;
        true
    }

    /// How the paper trained, where it says so: `150,000 steps of 256, SGD`.
    fn paper_training(&self) -> Option<&'static str> {
        None
    }

    /// Whether the seed chooses the training images: those of two runs of one cell then differ.
    fn seeds_choose_images(&self) -> bool {
        false
    }

    /// Loads the data and [sweeps](crate::reproduce::sweep) over the request's runs.
    ///
    /// # Errors
    /// When the data cannot be had, or a run fails.
    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending>;

    /// The test error of a finished run in percent, measured again from its weights.
    ///
    /// # Errors
    /// When the directory holds no trained model, or the data cannot be had.
    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation>;

    /// How its test error is measured, for the footnote of its tables.
    fn protocol(&self) -> &'static str;

    /// Draws what a finished run's samples show into a folder.
    ///
    /// # Errors
    /// When the samples are damaged or a figure cannot be written.
    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        let _ = (folder, run, result);
        Ok(Vec::new())
    }

    /// What its report says before the table of all runs: the paper's own table, its claims. In Markdown; may be empty.
    ///
    /// # Errors
    /// When a result names an unknown model.
    fn findings(&self, results: &[&RunResult]) -> Result<String> {
        let _ = results;
        Ok(String::new())
    }
}
