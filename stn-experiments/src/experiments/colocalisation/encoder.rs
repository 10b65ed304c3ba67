//! Where the encoder comes from: a finished run of `cargo stn reproduce mnist`.

use crate::budget::Budget;
use crate::data::Mnist;
use crate::data::hex;
use crate::experiments::mnist::DistortedMnist;
use crate::experiments::{Digits, mnist};
use crate::models::colocalisation::Encoder;
use crate::record::RunDir;
use crate::request::Request;
use crate::run::{Config, MODEL_FILE, Run, Settings, Status};
use crate::stop::Stop;
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// An encoder, and what the records say of it.
pub(super) struct TrainedEncoder {
    pub(super) encoder: Encoder,
    /// The run that it was trained in: `mnist/quick/R/cnn/seed-0`.
    pub(super) run: String,
    /// SHA-256 of its weights.
    pub(super) identity: String,
}

/// Takes the encoder of the run that the request names; otherwise that of the CNN on R, which is trained first where there is none. `None`
/// where its training was stopped.
pub(super) fn encoder(request: &Request, mnist: &Mnist, stop: &Stop) -> Result<Option<TrainedEncoder>> {
    let dir = match &request.encoder {
        Some(path) => RunDir::new(path),
        None => {
            let budget = Budget::quick();
            let run = Run {
                experiment: &DistortedMnist,
                data: "R".into(),
                model: "cnn".into(),
                seed: 0,
                budget: &budget,
                runs: &request.out,
                finished: None,
                cadence: request.cadence,
                estimate: false,
            };
            check_finished(request, &run)?;
            if !run.dir().has(MODEL_FILE) {
                crate::say!(
                    "The encoder is the CNN on R of `cargo stn reproduce mnist`. It is trained first (another one: --encoder RUN)."
                );
            }
            let digits = Digits::new(mnist.clone(), &budget)?;
            let status = loop {
                wait_for_another_process(&run.dir());
                // One that is there is left as it is, if it is of these settings.
                match mnist::perform(&run, &digits, stop) {
                    Err(_) if run.dir().is_locked() => {} // another process was first
                    status => break status?,
                }
            };
            if let Status::Interrupted { step } = status {
                crate::say!("\nStopped after {step} of the encoder's {} steps; nothing is lost.", budget.steps);
                return Ok(None);
            }
            run.dir()
        }
    };
    load(&dir).map(Some)
}

/// Shards that begin together share one encoder: the first trains it, the others wait. Ctrl-C ends the wait, and the program.
fn wait_for_another_process(dir: &RunDir) {
    if dir.is_locked() {
        crate::say!("Another process trains the encoder in {}: waiting for that.", dir.path().display());
    }
    while dir.is_locked() {
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Refuses finished runs of another encoder before one is trained that they would not count beside.
fn check_finished(request: &Request, encoder: &Run) -> Result<()> {
    let Some(folder) = &request.finished else { return Ok(()) };
    let ours = name(encoder.experiment.id(), &encoder.budget.name, &encoder.data, &encoder.model, encoder.seed);
    for finished in request.runs().iter().map(|run| run.dir_in(folder)) {
        if finished.result::<Value>()?.is_none() {
            continue;
        }
        let settings = Config::of(&finished)?.settings;
        let theirs = settings.details.get("encoder").and_then(Value::as_str).unwrap_or("an unknown run");
        ensure!(
            theirs == ours,
            "{} was made with the encoder {theirs}, and this one would be {ours}: name that run with --encoder, or leave out --finished",
            finished.path().display()
        );
    }
    Ok(())
}

/// What the records call the encoder's run.
fn name(experiment: &str, budget: &str, data: &str, model: &str, seed: u64) -> String {
    format!("{experiment}/{budget}/{data}/{model}/seed-{seed}")
}

fn load(dir: &RunDir) -> Result<TrainedEncoder> {
    let path = dir.path().display();
    let Settings { experiment, data, model, seed, budget, .. } = Config::of(dir)?.settings;
    ensure!(
        (experiment.as_str(), model.as_str()) == ("mnist", "cnn"),
        "the encoder must be a run of mnist with the model cnn, {path} is one of {experiment} with {model}"
    );
    let weights =
        dir.load_tensors(MODEL_FILE).with_context(|| format!("the trained model of {path} cannot be read"))?;
    let identity = identity(&weights)?;
    let encoder = Encoder::new(weights).with_context(|| format!("{path} holds no encoder"))?;
    let run = name(&experiment, &budget.name, &data, &model, seed);
    crate::say!("encoder: {run}, weights {}", &identity[..16]);
    Ok(TrainedEncoder { encoder, run, identity })
}

/// SHA-256 of names and values, in the order of the names.
fn identity(weights: &HashMap<String, Tensor>) -> Result<String> {
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name.as_bytes());
        for value in weights[name].flatten_all()?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}
