//! MNIST addition: appendix A.1 and Table 4.
//!
//! `just reproduce addition` trains the CNN and the 2xST-FCN Aff; `--model`, `--seeds` and `--budget` select other cells.

mod claims;
mod figures;
mod samples;
mod trial;

use super::{Digits, Evaluation, Experiment, TEST_SEED};
use crate::budget::{Budget, OptimiserConfig};
use crate::data::addition::{DISTORTION, addition_set};
use crate::data::{Mnist, Source};
use crate::figures::Figure;
use crate::models::TransformKind;
use crate::models::addition::{AdditionModel, AdditionNetwork};
use crate::paper;
use crate::record::RunDir;
use crate::report;
use crate::reproduce::{Ending, sweep};
use crate::request::Request;
use crate::run::{Config, Run, RunResult, Status, load_weights};
use crate::stop::Stop;
use anyhow::Result;
use candle_core::{DType, Device};
use serde_json::json;
use std::path::Path;
use stn_core::init::SeededVarMap;
use trial::{AdditionTrial, test_error_percent};

/// MNIST addition: every model on pairs of RTS digits.
#[derive(Debug, Clone, Copy)]
pub struct Addition;

impl Experiment for Addition {
    fn id(&self) -> &'static str {
        "addition"
    }

    fn title(&self) -> &'static str {
        "MNIST addition"
    }

    fn place(&self, _data: &str) -> &'static str {
        "table 4"
    }

    fn data(&self) -> Vec<String> {
        vec![DISTORTION.to_string()]
    }

    fn models(&self) -> Vec<String> {
        AdditionModel::ALL.map(AdditionModel::id).to_vec()
    }

    fn label(&self, model: &str) -> String {
        model.parse::<AdditionModel>().map_or_else(|_| model.into(), AdditionModel::label)
    }

    fn first_look(&self) -> (Vec<String>, Vec<String>) {
        let models = [AdditionModel::Cnn, AdditionModel::TwoStFcn(TransformKind::Affine)];
        (self.data(), models.map(AdditionModel::id).to_vec())
    }

    /// Those of Table 1 with another rate, tuned on the validation images: the transformers find their digits with a tenth of the
    /// classifier's rate, and with a smaller one than this they do so late.
    fn budgets(&self) -> Vec<Budget> {
        let ours = |budget: Budget| Budget {
            optimiser: OptimiserConfig::Adamw { lr: 5e-3, weight_decay: 0.01 },
            localisation_lr_scale: 0.1,
            ..budget
        };
        vec![ours(Budget::quick()), ours(Budget::full()), Budget::paper()]
    }

    fn paper_error_percent(&self, _data: &str, model: &str) -> Option<f64> {
        model.parse().ok().map(paper::addition_error_percent)
    }

    fn paper_training(&self) -> Option<&'static str> {
        Some("150,000 steps of 256, SGD, if it is that of Table 1")
    }

    fn reproduce(&self, request: &Request, stop: &Stop) -> Result<Ending> {
        let digits = Digits::load(request.source, request.offline, &request.budget)?;
        sweep(request, |run| perform(run, &digits, stop), stop)
    }

    fn evaluate(&self, run: &RunDir, source: Source, offline: bool) -> Result<Evaluation> {
        let Config { settings, .. } = Config::of(run)?;
        let vars = SeededVarMap::new(settings.seed);
        let network = AdditionNetwork::new(settings.model.parse()?, vars.var_builder(DType::F32, &Device::Cpu))?;
        load_weights(run, &vars)?;
        let Mnist { test, source, .. } = Mnist::load(source, offline)?;
        let draws = test_error_percent(&network, &test, settings.budget.test_draws)?;
        let (first, _) = addition_set(&test, TEST_SEED, 0)?;
        Ok(Evaluation::of_draws(draws, &settings, "distorted_test_identity", &first, source))
    }

    fn protocol(&self) -> &'static str {
        "Test error: the mean over seeded draws of 10,000 pairs, each test image with a partner (\"draws ±\": standard deviation of single \
         draws), last weights; over several seeds mean ± standard deviation. Validation: pairs of the last 5,000 training images, held out. \
         The paper's figures: Jaderberg et al. 2015, appendix A.1, Table 4."
    }

    fn figures(&self, folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
        figures::transformers(folder, run, result)
    }

    fn findings(&self, results: &[&RunResult]) -> Result<String> {
        report::beside_the_papers(self, results, claims::claims)
    }
}

/// Trains and tests one run.
fn perform(run: &Run, digits: &Digits, stop: &Stop) -> Result<Status> {
    let model: AdditionModel = run.model.parse()?;
    let vars = SeededVarMap::new(run.seed);
    let network = AdditionNetwork::new(model, vars.var_builder(DType::F32, &Device::Cpu))?;
    let (test, _) = addition_set(&digits.test, TEST_SEED, 0)?;
    let details = [("width", json!(model.width())), ("distorted_test_identity", json!(test.identity()))];
    let trial = AdditionTrial::new(network, digits, run.budget.batch, run.seed)?;
    run.perform(&trial, &vars, digits.origin(&protocol(run.budget)), &details, stop)
}

fn protocol(budget: &Budget) -> String {
    let training = if budget.holdout {
        "training images 0..55000, each with a new partner and new distortions every epoch; validation: pairs of the last 5,000 training \
         images, one seeded draw"
    } else {
        "all 60,000 training images, each with a new partner and new distortions every epoch; no validation"
    };
    format!(
        "{training}; test error: mean over {} seeded draws of 10,000 pairs of test images, last weights",
        budget.test_draws
    )
}
