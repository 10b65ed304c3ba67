//! Distorted MNIST: section 4.1 and Table 1.
//!
//! `just reproduce mnist` trains the CNN and the ST-CNN Aff on R; `--data`, `--model`, `--seeds` and `--budget` select other cells.

mod samples;
mod task;

pub use task::Digits;
pub(crate) use task::image_tensor;

use crate::budget::Budget;
use crate::data::distort::{Distortion, distorted_set};
use crate::data::{DataSource, Dataset};
use crate::metrics::Spread;
use crate::models::{Model, Network};
use crate::paper;
use crate::record::RunDir;
use crate::stop::Stop;
use crate::train::{Cadence, Outcome, Task, train};
use anyhow::{Context, Result};
use candle_core::{DType, Device};
use samples::samples;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use stn_core::init::SeededVarMap;
use task::{MnistTask, test_error_percent};

/// The seed of every test and validation set, whatever the run's own.
pub const TEST_SEED: u64 = 0;

/// The distortion draw of the validation images; those of the test set count from zero.
const VALIDATION_DRAW: u64 = u64::MAX;

/// A run's trained weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// Inputs, thetas and outputs of some test images, for the figures.
pub const SAMPLES_FILE: &str = "samples.safetensors";

/// An entry of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The distortion: the column.
    pub data: Distortion,
    /// The model: the row.
    pub model: Model,
}

impl Cell {
    /// Names a cell.
    pub const fn new(data: Distortion, model: Model) -> Self {
        Self { data, model }
    }

    /// Every cell that can be trained, column by column.
    pub fn all() -> Vec<Self> {
        Distortion::ALL.iter().flat_map(|&data| Model::ALL.map(|model| Self::new(data, model))).collect()
    }

    /// The paper's error in percent, where it gives one.
    pub fn paper_error_percent(self) -> Option<f64> {
        paper::mnist_error_percent(self.data, self.model)
    }

    /// Where a run of this cell lies: `mnist/<budget>/<data>/<model>/seed-<n>` under `runs`.
    pub fn run_dir(self, runs: &Path, budget: &str, seed: u64) -> RunDir {
        let Self { data, model } = self;
        RunDir::new(runs.join(format!("mnist/{budget}/{data}/{model}/seed-{seed}")))
    }
}

/// All that decides how a run ends. Two runs of equal settings end with the same weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `mnist`.
    pub experiment: String,
    /// The distortion.
    pub data: Distortion,
    /// The model's id.
    pub model: String,
    /// The seed of initialisation, data order and training distortions.
    pub seed: u64,
    /// Steps, batch, optimiser, schedule.
    pub budget: Budget,
    /// Units or filters of the classifier's layers.
    pub width: usize,
    /// Trainable parameters.
    pub params: usize,
    /// Those of the localisation net among them.
    pub localisation_params: usize,
    /// SHA-256 of the undistorted training images that are trained on.
    pub train_identity: String,
    /// SHA-256 of the undistorted test images.
    pub test_identity: String,
    /// SHA-256 of the first distorted test set.
    pub distorted_test_identity: String,
    /// The device that it runs on.
    pub device: String,
}

/// `config.json`: the settings, and how it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// What is compared when a run is resumed or skipped.
    pub settings: Settings,
    /// Where the images came from; their identity is among the settings.
    pub data_source: DataSource,
    /// How validation and test sets are drawn, in words.
    pub protocol: String,
    /// Versions of this program and of Candle.
    pub versions: HashMap<String, String>,
}

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// `mnist`.
    pub experiment: String,
    /// The distortion.
    pub data: Distortion,
    /// The model's id.
    pub model: String,
    /// The run's seed.
    pub seed: u64,
    /// The budget's name.
    pub budget: String,
    /// Test error in percent: the mean over the draws, with the last weights.
    pub error_percent: f64,
    /// The spread of single draws in points; none for one draw.
    pub error_percent_std: Option<f64>,
    /// The error of each draw.
    pub error_percent_draws: Vec<f64>,
    /// Error on the held-out training images at the last step; none where all are trained on.
    pub val_error_percent: Option<f64>,
    /// The paper's error in percent, where it gives one.
    pub paper_error_percent: Option<f64>,
    /// Trainable parameters.
    pub params: usize,
    /// Updates of the weights.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// Steps, optimiser and schedule in words.
    pub training: String,
    /// Seconds of training, validation included, without the test.
    pub seconds: f64,
    /// Where the images came from.
    pub data_source: DataSource,
    /// The device that it ran on.
    pub device: String,
}

/// How a run ended.
#[derive(Debug)]
pub enum Status {
    /// It was trained to its end.
    Finished(RunResult),
    /// It had been trained before, with the same settings, there.
    Already(RunResult, RunDir),
    /// It was stopped; the same command goes on from `step`.
    Interrupted {
        /// Steps done.
        step: usize,
    },
}

/// A cell with a seed, a budget and a place.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The entry of the table.
    pub cell: Cell,
    /// The seed of initialisation, data order and training distortions.
    pub seed: u64,
    /// How long and with what.
    pub budget: &'a Budget,
    /// Where it is trained.
    pub dir: RunDir,
    /// Where a finished run may lie that counts instead.
    pub finished: Option<RunDir>,
    /// How often it is saved.
    pub cadence: Cadence,
}

/// Trains and tests a run in its directory: goes on where an earlier sitting stopped, and leaves a finished one alone.
///
/// # Errors
/// When the directory holds a run of other settings, is trained by another process or cannot be written, or training fails.
pub fn run(run: &Run, digits: &Digits, stop: &Stop) -> Result<Status> {
    let Run { cell, seed, budget, dir, finished, cadence } = run;
    let (cell, seed) = (*cell, *seed);
    let device = Device::Cpu;
    let vars = SeededVarMap::new(seed);
    let network = Network::new(cell.model, cell.data, vars.var_builder(DType::F32, &device))?;
    let localisation = vars.trainable_vars().into_iter().filter(|(name, _)| name.starts_with("transformer."));
    let (test, poses) = distorted_set(cell.data, &digits.test, TEST_SEED, 0)?;
    let settings = Settings {
        experiment: "mnist".into(),
        data: cell.data,
        model: cell.model.id(),
        seed,
        budget: (*budget).clone(),
        width: cell.model.width(cell.data),
        params: vars.num_params(),
        localisation_params: localisation.map(|(_, var)| var.elem_count()).sum(),
        train_identity: digits.train_identity.clone(),
        test_identity: digits.test_identity.clone(),
        distorted_test_identity: test.identity(),
        device: "cpu".into(),
    };
    crate::say!(
        "{} on {}, seed {seed}, budget {}: {} parameters ({} of them localisation), {} steps of {}",
        cell.model.label(),
        cell.data,
        budget.name,
        settings.params,
        settings.localisation_params,
        budget.steps,
        budget.batch
    );
    crate::say!("  data: {}; seeded test set {}", digits.source, &settings.distorted_test_identity[..16]);
    let params = settings.params;
    let config =
        Config { settings, data_source: digits.source.clone(), protocol: protocol(budget), versions: versions() };
    if let Some(finished) = finished
        && let Some(result) = finished.result::<RunResult>()?
    {
        finished.check(&config)?;
        return Ok(Status::Already(result, finished.clone()));
    }
    dir.open(&config)?;
    if let Some(result) = dir.result::<RunResult>()? {
        return Ok(Status::Already(result, dir.clone()));
    }
    let _lock = dir.lock()?;

    let task = MnistTask::new(network, digits, cell.data, budget.batch, seed)?;
    let seconds = match train(&task, &vars, budget, *cadence, dir, stop)? {
        Outcome::Interrupted { step } => return Ok(Status::Interrupted { step }),
        Outcome::Finished { seconds } => seconds,
    };
    let draws = test_error_percent(&task.network, cell.data, &digits.test, budget.test_draws)?;
    let spread = Spread::of(&draws).context("the budget has no test draws")?;
    dir.save_tensors(MODEL_FILE, &vars.tensors()?)?;
    if task.network.transformer().is_some() {
        dir.save_tensors(SAMPLES_FILE, &samples(&task.network, cell.data, &digits.test, &test, &poses)?)?;
    }
    let result = RunResult {
        experiment: "mnist".into(),
        data: cell.data,
        model: cell.model.id(),
        seed,
        budget: budget.name.clone(),
        error_percent: spread.mean,
        error_percent_std: spread.std,
        error_percent_draws: draws,
        val_error_percent: task.validate()?,
        paper_error_percent: cell.paper_error_percent(),
        params,
        steps: budget.steps,
        batch: budget.batch,
        training: budget.describe(),
        seconds,
        data_source: digits.source.clone(),
        device: "cpu".into(),
    };
    dir.finish(&result)?;
    Ok(Status::Finished(result))
}

/// The test error of a finished run, measured again from its weights: one value a draw.
///
/// # Errors
/// When the directory holds no trained model.
pub fn evaluate(dir: &RunDir, test: &Dataset) -> Result<Vec<f64>> {
    let (settings, network) = load(dir)?;
    test_error_percent(&network, settings.data, test, settings.budget.test_draws)
}

/// The trained network of a finished run.
///
/// # Errors
/// When the directory holds no trained model.
pub fn load(dir: &RunDir) -> Result<(Settings, Network)> {
    let Config { settings, .. } = dir
        .config()
        .with_context(|| format!("{} is no run directory; give one that holds config.json", dir.path().display()))?;
    let vars = SeededVarMap::new(settings.seed);
    let network = Network::new(settings.model.parse()?, settings.data, vars.var_builder(DType::F32, &Device::Cpu))?;
    let weights = dir.load_tensors(MODEL_FILE).context("the run has no trained model; has it finished?")?;
    vars.load(&weights)?;
    Ok((settings, network))
}

fn protocol(budget: &Budget) -> String {
    let training = if budget.holdout {
        "training images 0..55000, distorted afresh every epoch; validation: the last 5,000 training images, one seeded draw"
    } else {
        "all 60,000 training images, distorted afresh every epoch; no validation"
    };
    format!(
        "{training}; test error: mean over {} seeded distortion draws of the 10,000 test images, last weights",
        budget.test_draws
    )
}

/// The versions of this program and, from the lock file that it was built with, of Candle.
pub fn versions() -> HashMap<String, String> {
    const LOCK: &str = include_str!("../../../../Cargo.lock");
    let candle = LOCK.split("[[package]]").find(|package| package.contains("\nname = \"candle-core\"\n"));
    let candle = candle.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    let versions = [("stn-experiments", env!("CARGO_PKG_VERSION")), ("candle-core", candle.unwrap_or("unknown"))];
    versions.into_iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}
