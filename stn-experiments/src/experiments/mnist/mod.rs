//! Distorted MNIST: section 4.1 and Table 1.
//!
//! `just reproduce mnist` trains the CNN and the ST-CNN Aff on R; `--data`, `--model`, `--seeds` and `--budget` select other cells.

mod claims;
mod figures;
mod samples;
mod trial;

use super::{Digits, Evaluation, Experiment, TEST_SEED};
use crate::budget::Budget;
use crate::data::distort::{Distortion, distorted_set};
use crate::data::{Mnist, Source};
use crate::figures::Figure;
use crate::models::{Model, Network, TransformKind};
use crate::paper;
use crate::record::RunDir;
use crate::report;
use crate::reproduce::{Ending, sweep};
use crate::request::Request;
use crate::run::{Config, Run, RunResult, Settings, Status, load_weights};
use crate::stop::Stop;
use anyhow::Result;
use candle_core::{DType, Device};
use serde_json::json;
use std::path::Path;
use stn_core::init::SeededVarMap;
use trial::{MnistTrial, test_error_percent};

/// Distorted MNIST: every model on every distortion.
#[derive(Debug, Clone, Copy)]
pub struct DistortedMnist;

impl Experiment for DistortedMnist {
    fn id(&self) -> &'static str {
        "mnist"
    }

    fn title(&self) -> &'static str {
        "distorted MNIST"
    }

    fn place(&self, data: &str) -> &'static str {
        if data == Distortion::Tc.id() { "sec. 4.1" } else { "table 1" }
    }

    fn data(&self) -> Vec<String> {
        Distortion::ALL.map(|data| data.to_string()).to_vec()
    }

    fn models(&self) -> Vec<String> {
        Model::ALL.map(Model::id).to_vec()
    }

    fn label(&self, model: &str) -> String {
        model.parse::<Model>().map_or_else(|_| model.into(), Model::label)
    }

    fn first_look(&self) -> (Vec<String>, Vec<String>) {
        (vec![Distortion::R.to_string()], [Model::Cnn, Model::StCnn(TransformKind::Affine)].map(Model::id).to_vec())
    }

    fn budgets(&self) -> Vec<Budget> {
        Budget::mnist()
    }

    fn paper_error_percent(&self, data: &str, model: &str) -> Option<f64> {
        paper::mnist_error_percent(data.parse().ok()?, model.parse().ok()?)
    }

    fn paper_training(&self) -> Option<&'static str> {
        Some("150,000 steps of 256, SGD")
    }

    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending> {
        let digits = Digits::load(request.source, request.offline, &request.budget)?;
        sweep(request, |run| perform(run, &digits, stop), stop)
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation> {
        let (settings, network) = load(run)?;
        let Mnist { test, source, .. } = Mnist::load(source, offline)?;
        let data: Distortion = settings.data.parse()?;
        let draws = test_error_percent(&network, data, &test, settings.budget.test_draws)?;
        let (first, _) = distorted_set(data, &test, TEST_SEED, 0)?;
        Ok(Evaluation::of_draws(draws, &settings, "distorted_test_identity", &first, source))
    }

    fn protocol(&self) -> &'static str {
        "Test error: the mean over seeded distortion draws of the 10,000 test images (\"draws ±\": standard deviation of single \
         draws), last weights; over several seeds mean ± standard deviation. Validation: the last 5,000 training images, held out. \
         The paper's figures: Jaderberg et al. 2015, Table 1 (TC: section 4.1)."
    }

    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        figures::transforms(folder, run, result)
    }

    fn findings(&self, results: &[&RunResult]) -> Result<String> {
        let mut text = report::beside_the_papers(self, results, claims::claims)?;
        text.push_str(
            "\nFor TC the paper's text (section 4.1) gives an ST-FCN and an ST-CNN without naming the transform: the figures stand with Aff.\n",
        );
        Ok(text)
    }
}

/// Trains and tests one run.
pub(super) fn perform(run: &Run, digits: &Digits, stop: &Stop) -> Result<Status> {
    let (data, model): (Distortion, Model) = (run.data.parse()?, run.model.parse()?);
    let vars = SeededVarMap::new(run.seed);
    let network = Network::new(model, data, vars.var_builder(DType::F32, &Device::Cpu))?;
    let (test, _) = distorted_set(data, &digits.test, TEST_SEED, 0)?;
    let details = [("width", json!(model.width(data))), ("distorted_test_identity", json!(test.identity()))];
    let trial = MnistTrial::new(network, digits, data, run.budget.batch, run.seed)?;
    run.perform(&trial, &vars, digits.origin(&protocol(run.budget)), &details, stop)
}

/// The trained network of a finished run.
///
/// # Errors
/// When the directory holds no trained model.
pub fn load(dir: &RunDir) -> Result<(Settings, Network)> {
    let Config { settings, .. } = Config::of(dir)?;
    let (data, model) = (settings.data.parse()?, settings.model.parse()?);
    let vars = SeededVarMap::new(settings.seed);
    let network = Network::new(model, data, vars.var_builder(DType::F32, &Device::Cpu))?;
    load_weights(dir, &vars)?;
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
