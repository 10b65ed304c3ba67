//! One run: a cell of an experiment's table with a seed and a budget, from its settings to its result.

use crate::budget::Budget;
use crate::console::duration;
use crate::data::DataSource;
use crate::experiments::{self, Experiment};
use crate::metrics::Spread;
use crate::record::RunDir;
use crate::stop::Stop;
use crate::train::{Cadence, Outcome, Task, is_localisation, seconds_a_step, train};
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stn_core::init::SeededVarMap;

/// A run's trained weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// What the figures need of some test images: inputs, thetas, outputs.
pub const SAMPLES_FILE: &str = "samples.safetensors";

/// A cell with a seed, a budget and a place.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The experiment.
    pub experiment: &'static dyn Experiment,
    /// The id of the data set: the column.
    pub data: String,
    /// The id of the model: the row.
    pub model: String,
    /// The seed of initialisation, data order and training distortions.
    pub seed: u64,
    /// How long and with what.
    pub budget: &'a Budget,
    /// The folder that holds all runs.
    pub runs: &'a Path,
    /// A further folder of runs, where a finished one counts instead.
    pub finished: Option<&'a Path>,
    /// How often it is saved.
    pub cadence: Cadence,
    /// Whether only its time is measured: nothing is trained, and no file written.
    pub estimate: bool,
}

/// All that decides how a run ends. Two runs of equal settings by one build, on one kind of machine, end with the same weights; another version's kernels may round otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The experiment's id.
    pub experiment: String,
    /// The data set's id.
    pub data: String,
    /// The model's id.
    pub model: String,
    /// The seed of initialisation, data order and training distortions.
    pub seed: u64,
    /// Steps, batch, optimiser, schedule.
    pub budget: Budget,
    /// Trainable parameters.
    pub params: usize,
    /// Those of localisation nets among them.
    pub localisation_params: usize,
    /// SHA-256 of the undistorted training images that are trained on.
    pub train_identity: String,
    /// SHA-256 of the undistorted test images.
    pub test_identity: String,
    /// The device that it runs on.
    pub device: String,
    /// What else decides in this experiment, by name: the classifier's width, the checksum of the first distorted test set.
    #[serde(flatten)]
    pub details: Map<String, Value>,
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

impl Config {
    /// Reads a run's `config.json`.
    ///
    /// # Errors
    /// When the directory is none of a run.
    pub fn of(dir: &RunDir) -> Result<Self> {
        dir.config()
            .with_context(|| format!("{} is no run directory; give one that holds config.json", dir.path().display()))
    }
}

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The experiment's id.
    pub experiment: String,
    /// The data set's id.
    pub data: String,
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
    /// Examples a step.
    pub batch: usize,
    /// Steps, optimiser and schedule in words.
    pub training: String,
    /// What it was trained on, in words: how many images of which set, and with what a network began that does not begin at random.
    pub trained_on: String,
    /// Seconds of training, validation included, without the test.
    pub seconds: f64,
    /// Where the images came from.
    pub data_source: DataSource,
    /// The device that it ran on.
    pub device: String,
    /// What else the experiment measures, by name.
    #[serde(flatten)]
    pub details: Map<String, Value>,
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
    /// Nothing was trained: it was only asked how long it takes.
    Estimated {
        /// Seconds of a step.
        a_step: f64,
    },
}

/// What an experiment makes of a cell: a [`Task`] that can also be tested.
pub trait Trial: Task {
    /// The test error in percent with the weights as they are: one value for each of `draws` seeded draws of the test set.
    ///
    /// # Errors
    /// When the model does not fit the images.
    fn test(&self, draws: usize) -> Result<Vec<f64>>;

    /// The tensors that the figures need; none where there is nothing to draw.
    ///
    /// # Errors
    /// When the model does not fit the images.
    fn samples(&self) -> Result<HashMap<String, Tensor>>;

    /// What else the result should hold, by name.
    ///
    /// # Errors
    /// When the model does not fit the images.
    fn details(&self) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
}

/// Where the images of a run came from, and what they are.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Where they came from.
    pub source: &'a DataSource,
    /// How many training images of which set, in words: runs that differ in it are not averaged.
    pub trained_on: &'a str,
    /// SHA-256 of the undistorted training images.
    pub train_identity: &'a str,
    /// SHA-256 of the undistorted test images.
    pub test_identity: &'a str,
    /// How validation and test sets are drawn, in words.
    pub protocol: &'a str,
}

impl RunResult {
    /// Whether it was trained shorter, or with smaller networks, than the paper says; where the paper does not say, than our full schedule.
    pub fn scaled_down(&self) -> bool {
        let experiment = experiments::named(&self.experiment).ok();
        let of_paper = experiment.and_then(Experiment::paper_training);
        match self.budget.as_str() {
            "paper" => experiment.is_some_and(|experiment| !experiment.has_the_papers_network(self)),
            "full" | "literal" => of_paper.is_some(),
            // Of our own changes no less than the paper's schedule, or where there is none than our full one, is enough.
            changed => {
                let base = if of_paper.is_some() { "paper" } else { "full" };
                let budgets = experiment.map(Experiment::budgets).unwrap_or_default();
                let reference = budgets.iter().find(|budget| budget.name == base);
                !reference.is_some_and(|reference| {
                    (of_paper.is_none() || changed.starts_with("custom-paper"))
                        && self.steps * self.batch >= reference.steps * reference.batch
                        && experiment.is_some_and(|experiment| experiment.has_the_papers_network(self))
                })
            }
        }
    }

    /// What it was trained on, and whether that was the copy in this program.
    pub fn images_label(&self) -> String {
        let embedded = matches!(self.data_source, DataSource::Embedded { .. });
        format!("{}{}", self.trained_on, if embedded { " (embedded)" } else { "" })
    }

    /// The budget, and whether that is less than the paper's: `quick, scaled down`.
    pub fn budget_label(&self) -> String {
        format!("{}{}", self.budget, if self.scaled_down() { ", scaled down" } else { "" })
    }
}

impl Run<'_> {
    /// Where it is trained: `<experiment>/<budget>/<data>/<model>/seed-<n>` in the folder of all runs.
    pub fn dir(&self) -> RunDir {
        self.dir_in(self.runs)
    }

    /// Where it would lie in another folder of runs.
    pub fn dir_in(&self, runs: &Path) -> RunDir {
        let Self { experiment, data, model, seed, budget, .. } = self;
        let place: PathBuf = [experiment.id(), &budget.name, data, model].iter().collect();
        RunDir::new(runs.join(place).join(format!("seed-{seed}")))
    }

    /// Trains and tests the run in its directory: goes on where an earlier sitting stopped, and leaves a finished one alone.
    ///
    /// `vars` holds the trial's variables, those of localisation nets under `transformer`; `details` is what else decides.
    ///
    /// # Errors
    /// When the directory holds a run of other settings, is trained by another process or cannot be written, or training fails.
    pub fn perform<T: Trial>(
        &self,
        trial: &T,
        vars: &SeededVarMap,
        origin: Origin,
        details: &[(&str, Value)],
        stop: &Stop,
    ) -> Result<Status> {
        let Self { experiment, data, model, seed, budget, .. } = self;
        let config = self.config(vars, origin, details);
        if self.estimate {
            if let Ok(Some((result, dir))) = self.counted(&config) {
                return Ok(Status::Already(result, dir));
            }
            return Ok(Status::Estimated { a_step: seconds_a_step(trial, vars, budget)? });
        }
        let Settings { params, localisation_params, .. } = config.settings;
        crate::say!(
            "{} on {data}, seed {seed}, budget {}: {params} parameters ({localisation_params} of them localisation), {} steps of {}",
            experiment.label(model),
            budget.name,
            budget.steps,
            budget.batch
        );
        match self.counted(&config) {
            Ok(Some((result, dir))) => return Ok(Status::Already(result, dir)),
            Ok(None) => {}
            Err(error) => crate::warn!("  {error:#}"),
        }
        let dir = self.dir();
        dir.open(&config)?;
        if let Some(result) = dir.result::<RunResult>()? {
            return Ok(Status::Already(result, dir));
        }
        let _lock = dir.lock()?;
        dir.remove_leftovers();
        // Another process may have finished it in between.
        if let Some(result) = dir.result::<RunResult>()? {
            return Ok(Status::Already(result, dir));
        }

        let seconds = match train(trial, vars, budget, self.cadence, &dir, stop)? {
            Outcome::Interrupted { step } => return Ok(Status::Interrupted { step }),
            Outcome::Finished { seconds } => seconds,
        };
        let draws = match budget.test_draws {
            1 => "once".into(),
            draws => format!("in {draws} draws"),
        };
        crate::say!("  trained in {}; testing {draws}", duration(seconds));
        let _testing = stop.testing();
        let draws = trial.test(budget.test_draws)?;
        let spread = Spread::of(&draws).context("the budget has no test draws")?;
        dir.save_tensors(MODEL_FILE, &vars.tensors()?)?;
        let samples = trial.samples()?;
        if !samples.is_empty() {
            dir.save_tensors(SAMPLES_FILE, &samples)?;
        }
        let result = RunResult {
            experiment: config.settings.experiment,
            data: data.clone(),
            model: model.clone(),
            seed: *seed,
            budget: budget.name.clone(),
            error_percent: spread.mean,
            error_percent_std: spread.std,
            error_percent_draws: draws,
            val_error_percent: trial.validate()?,
            paper_error_percent: experiment.paper_error_percent(data, model),
            params,
            steps: budget.steps,
            batch: budget.batch,
            training: budget.describe(),
            trained_on: origin.trained_on.into(),
            seconds,
            data_source: origin.source.clone(),
            device: config.settings.device,
            details: trial.details()?,
        };
        dir.finish(&result)?;
        Ok(Status::Finished(result))
    }

    /// The finished run in the further folder that counts instead of this one.
    ///
    /// # Errors
    /// When there is one that does not count: it is of another configuration, or damaged.
    fn counted(&self, config: &Config) -> Result<Option<(RunResult, RunDir)>> {
        let Some(dir) = self.finished.map(|folder| self.dir_in(folder)) else { return Ok(None) };
        let does_not_count = || format!("{} does not count", dir.path().display());
        let Some(result) = dir.result().with_context(does_not_count)? else { return Ok(None) };
        let differing = dir.differing(config).with_context(does_not_count)?;
        ensure!(
            differing.is_empty(),
            "{}, it is a run of another configuration:\n    {}",
            does_not_count(),
            differing.join("\n    ")
        );
        Ok(Some((result, dir)))
    }

    /// Counts the steps that no sitting has done yet in its directory; none where it is finished there.
    ///
    /// # Errors
    /// When a file of its directory cannot be read.
    pub fn steps_left(&self) -> Result<usize> {
        if self.dir().result::<RunResult>()?.is_some() {
            return Ok(0);
        }
        let last = self.dir().metrics()?.pop().and_then(|line| line["step"].as_u64());
        Ok(self.budget.steps.saturating_sub(last.unwrap_or(0) as usize))
    }

    fn config(&self, vars: &SeededVarMap, origin: Origin, details: &[(&str, Value)]) -> Config {
        let localisation = vars.trainable_vars().into_iter().filter(|(name, _)| is_localisation(name));
        let settings = Settings {
            experiment: self.experiment.id().into(),
            data: self.data.clone(),
            model: self.model.clone(),
            seed: self.seed,
            budget: self.budget.clone(),
            params: vars.num_params(),
            localisation_params: localisation.map(|(_, var)| var.elem_count()).sum(),
            train_identity: origin.train_identity.into(),
            test_identity: origin.test_identity.into(),
            device: "cpu".into(),
            details: details.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        };
        Config { settings, data_source: origin.source.clone(), protocol: origin.protocol.into(), versions: versions() }
    }
}

/// Puts a finished run's weights into `vars`.
///
/// # Errors
/// When the run has no trained model, or one of other variables.
pub fn load_weights(dir: &RunDir, vars: &SeededVarMap) -> Result<()> {
    let weights = dir.load_tensors(MODEL_FILE).context("the run's trained model cannot be read")?;
    Ok(vars.load(&weights)?)
}

/// The versions of this program and, from the lock file that it was built with, of Candle.
pub fn versions() -> HashMap<String, String> {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let candle = LOCK.split("[[package]]").find(|package| package.contains("\nname = \"candle-core\"\n"));
    let candle = candle.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    let versions = [("stn-experiments", env!("CARGO_PKG_VERSION")), ("candle-core", candle.unwrap_or("unknown"))];
    versions.into_iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::test_result;

    #[test]
    fn no_less_than_the_papers_schedule_is_not_scaled_down() {
        let result = |experiment: &str, budget: &str, steps: usize, batch: usize| {
            let budget = budget.into();
            RunResult { budget, steps, batch, ..test_result(experiment, "R", "cnn", 0, 1.0) }.scaled_down()
        };
        assert!(!result("mnist", "paper", 150_000, 256) && result("mnist", "full", 28_125, 256));
        assert!(!result("mnist", "custom-paper-300000", 300_000, 256));
        assert!(!result("mnist", "custom-paper-150000-lr-0.02", 150_000, 256));
        assert!(result("mnist", "custom-paper-300", 300, 256) && result("mnist", "custom-full-112500", 112_500, 256));
        // The paper does not say how long: our own full schedule is what there is.
        assert!(!result("colocalisation", "full", 3000, 50) && !result("colocalisation", "custom-full-6000", 6000, 50));
        assert!(result("colocalisation", "quick", 1000, 50) && result("colocalisation", "custom-full-30", 30, 50));
        assert!(!result("colocalisation", "custom-literal-6000", 6000, 50), "whatever it was made from");
    }
}
