//! THE training loop; there is one. What differs between experiments is their [`Task`].
//!
//! A run is a pure function of its configuration: the batch of a step depends on the step alone, the schedule too, and a checkpoint
//! holds the rest (weights, the optimiser's state, the sums since the last logged line). So a run that was killed goes on from its
//! checkpoint and ends with the same weights, bit for bit, as one that was not.

use crate::budget::{Budget, OptimiserConfig};
use crate::console::Progress;
use crate::metrics::Tally;
use crate::record::{CHECKPOINT, RunDir};
use crate::stop::Stop;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Instant;
use stn_core::init::SeededVarMap;
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup, Sgd, SgdConfig};

/// Steps between two lines of the metrics.
const LOG_EVERY: usize = 50;

/// Batches that the background thread may be ahead.
const AHEAD: usize = 4;

/// Seconds of a first step above which an estimate is made of it alone.
const LONG_STEP: f64 = 5.0;

/// What an experiment tells the training loop: its batches, its loss and its validation.
pub trait Task: Sync {
    /// What a step trains on.
    type Batch: Send + Sync;

    /// Makes the batch of a step, from the step and the run's seed alone. Called on a background thread.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn batch(&self, step: usize) -> Result<Self::Batch>;

    /// The loss of a batch in training.
    ///
    /// # Errors
    /// When the model does not fit the batch.
    fn loss(&self, batch: &Self::Batch) -> Result<Loss>;

    /// What [`Loss::wrong`] counts, for the console.
    fn counted(&self) -> &'static str {
        "training error"
    }

    /// The error on the validation images in percent; `None` where none are held out.
    ///
    /// # Errors
    /// When the model does not fit the images.
    fn validate(&self) -> Result<Option<f64>>;

    /// What the metrics should hold besides loss and error when `step` steps are done (0: before the first), by name; none for nothing.
    ///
    /// # Errors
    /// When the model does not fit the data.
    fn notes(&self, step: usize) -> Result<Option<Map<String, Value>>> {
        let _ = step;
        Ok(None)
    }
}

/// What one batch cost.
#[derive(Debug)]
pub struct Loss {
    /// The mean over the batch, a scalar to differentiate.
    pub value: Tensor,
    /// Examples in the batch.
    pub examples: usize,
    /// Examples classified wrongly.
    pub wrong: usize,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// Seconds of training, over all sittings.
        seconds: f64,
    },
    /// Stopped on request; the checkpoint holds `step` steps.
    Interrupted {
        /// Steps done.
        step: usize,
    },
}

/// How often the loop saves and validates.
#[derive(Debug, Clone, Copy)]
pub struct Cadence {
    /// Steps between two checkpoints.
    pub checkpoint: usize,
    /// Validations over the whole run.
    pub validations: usize,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { checkpoint: 100, validations: 10 }
    }
}

/// Whether a variable of that name belongs to a localisation net: one of `transformer`, or of `transformer1` and so on where there are several.
pub fn is_localisation(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    first.trim_end_matches(|c: char| c.is_ascii_digit()) == "transformer"
}

/// Makes the budget's optimiser for all trainable variables.
///
/// # Errors
/// When a variable is not of a float type.
pub fn optimiser(budget: &Budget, vars: &SeededVarMap) -> Result<Box<dyn Optimiser + Send>> {
    let (localisation, rest): (Vec<_>, Vec<_>) =
        vars.trainable_vars().into_iter().partition(|(name, _)| is_localisation(name));
    let mut groups = vec![ParamGroup::new(rest)];
    groups.extend(localisation.into_iter().map(|(name, var)| {
        let scale = budget.localisation_scale(var.dims());
        ParamGroup::new(vec![(name, var)]).lr_scale(scale)
    }));
    Ok(match budget.optimiser {
        OptimiserConfig::Sgd { lr, momentum, weight_decay } => {
            Box::new(Sgd::new(groups, SgdConfig { lr, momentum, weight_decay, ..Default::default() })?)
        }
        OptimiserConfig::Adamw { lr, weight_decay } => {
            Box::new(AdamW::new(groups, AdamWConfig { lr, weight_decay, ..Default::default() })?)
        }
    })
}

/// Trains from the run's last checkpoint, or from the start, to the budget's last step or until `stop` is set.
///
/// # Errors
/// When a batch cannot be made, the loss or a weight is no number, or the run directory cannot be written. The last checkpoint stays.
pub fn train<T: Task>(
    task: &T,
    vars: &SeededVarMap,
    budget: &Budget,
    cadence: Cadence,
    run: &RunDir,
    stop: &Stop,
) -> Result<Outcome> {
    let mut state = State { step: 0, seconds: 0.0, tally: Tally::default(), optimiser: optimiser(budget, vars)? };
    if let Some(checkpoint) = run.checkpoint()? {
        state.restore(checkpoint, vars).with_context(|| format!("the checkpoint in {}", run.path().display()))?;
    }
    let mut log = run.metrics_from(state.step)?;
    if state.step == 0
        && run.metrics()?.is_empty()
        && let Some(mut notes) = task.notes(0)?
    {
        notes.insert("step".into(), json!(0));
        log.push(&Value::Object(notes))?;
    }
    let _training = stop.training();
    let progress = Progress::new(budget, state.step, task.counted());
    let validate_every = budget.steps.div_ceil(cadence.validations.max(1));
    let mut clock = Instant::now();
    let start = state.step;

    std::thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(AHEAD);
        scope.spawn(move || {
            for step in start..budget.steps {
                let batch = task.batch(step);
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    break; // the loop has ended, or hears of the error
                }
            }
        });
        for step in start..budget.steps {
            let batch = batches.recv().context("the thread that makes the batches has died")??;
            state.optimiser.set_learning_rate(budget.learning_rate(step));
            let (value, examples, wrong) = update(task, &batch, &mut *state.optimiser)?;
            if !value.is_finite() {
                bail!("the loss is {value} at step {step}; {}", advice(run))
            }
            state.step = step + 1;
            state.tally.add(examples, wrong, value);

            let last = state.step == budget.steps;
            let validation = if last || state.step.is_multiple_of(validate_every) { task.validate()? } else { None };
            let notes = task.notes(state.step)?;
            if state.step.is_multiple_of(LOG_EVERY) || last || validation.is_some() || notes.is_some() {
                let mut line = json!({
                    "step": state.step,
                    "loss": state.tally.mean_loss(),
                    "error_percent": state.tally.error_percent(),
                    "lr": budget.learning_rate(step),
                    "seconds": state.seconds + clock.elapsed().as_secs_f64(),
                });
                if let Some(validation) = validation {
                    line["val_error_percent"] = json!(validation);
                }
                for (name, note) in notes.into_iter().flatten() {
                    line[name] = note;
                }
                log.push(&line)?;
                progress.report(state.step, &state.tally, validation);
                state.tally = Tally::default();
            }
            progress.step();
            let stopped = stop.requested();
            if last || stopped || state.step.is_multiple_of(cadence.checkpoint) {
                state.seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                if let Some(name) = not_finite(vars)? {
                    bail!("{name} is no longer a number after step {step}; {}", advice(run))
                }
                run.save_checkpoint(state.tensors(vars)?)?;
            }
            if stopped {
                progress.abandon();
                return Ok(Outcome::Interrupted { step: state.step });
            }
        }
        progress.finish();
        Ok(Outcome::Finished { seconds: state.seconds })
    })
}

/// What helps against a training that has diverged.
fn advice(run: &RunDir) -> String {
    let checkpoint = format!(" The run's last checkpoint is in {}", run.path().display());
    format!("a smaller learning rate may help.{}", if run.has(CHECKPOINT) { &checkpoint } else { "" })
}

/// The name of a variable with a NaN or an infinity in it.
fn not_finite(vars: &SeededVarMap) -> Result<Option<String>> {
    for (name, var) in vars.trainable_vars() {
        let values = var.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if !values.iter().all(|value| value.is_finite()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Measures how long a step takes, its batch included, by a few of them; the variables are then those of a network that was trained so far.
///
/// # Errors
/// As [`train`].
pub fn seconds_a_step<T: Task>(task: &T, vars: &SeededVarMap, budget: &Budget) -> Result<f64> {
    let mut optimiser = optimiser(budget, vars)?;
    let mut steps = |steps: Range<usize>| -> Result<f64> {
        let (clock, count) = (Instant::now(), steps.len());
        for step in steps {
            update(task, &task.batch(step)?, &mut *optimiser)?;
        }
        Ok(clock.elapsed().as_secs_f64() / count as f64)
    };
    // The first step is slower than others; where it takes long, it is near enough.
    let first = steps(0..1)?;
    if first > LONG_STEP { Ok(first) } else { steps(1..4) }
}

/// One update of the weights: the loss, examples and wrong ones of the batch. Where the loss is no number nothing is changed.
fn update<T: Task>(task: &T, batch: &T::Batch, optimiser: &mut (dyn Optimiser + Send)) -> Result<(f64, usize, usize)> {
    // On a thread of the pool: an operation that is shared among the threads then begins at once, on this one.
    rayon::scope(|_| {
        let Loss { value: loss, examples, wrong } = task.loss(batch)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if value.is_finite() {
            optimiser.step(&loss.backward()?)?;
        }
        Ok((value, examples, wrong))
    })
}

/// All that a run needs to go on, apart from the weights.
struct State {
    /// Steps done.
    step: usize,
    /// Seconds of training before this sitting's clock.
    seconds: f64,
    /// Sums since the last logged line.
    tally: Tally,
    optimiser: Box<dyn Optimiser + Send>,
}

impl State {
    fn tensors(&self, vars: &SeededVarMap) -> Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::new();
        tensors.extend(vars.tensors()?.into_iter().map(|(name, tensor)| (format!("model/{name}"), tensor)));
        tensors.extend(self.optimiser.state()?.into_iter().map(|(name, tensor)| (format!("optimiser/{name}"), tensor)));
        let Tally { examples, wrong, loss } = self.tally;
        let progress = [self.step as f64, self.seconds, examples as f64, wrong as f64, loss];
        tensors.insert("progress".into(), Tensor::new(&progress, &Device::Cpu)?);
        Ok(tensors)
    }

    fn restore(&mut self, tensors: HashMap<String, Tensor>, vars: &SeededVarMap) -> Result<()> {
        let (mut model, mut optimiser, mut progress) = (HashMap::new(), HashMap::new(), None);
        for (name, tensor) in tensors {
            match name.split_once('/') {
                Some(("model", name)) => _ = model.insert(name.to_string(), tensor),
                Some(("optimiser", name)) => _ = optimiser.insert(name.to_string(), tensor),
                _ if name == "progress" => progress = Some(tensor.to_vec1::<f64>()?),
                _ => bail!("unexpected tensor {name}"),
            }
        }
        let Some(&[step, seconds, examples, wrong, loss]) = progress.as_deref() else {
            bail!("the tensor `progress` of five numbers is missing; remove the file to start again")
        };
        vars.load(&model)?;
        self.optimiser.load_state(&optimiser)?;
        self.tally = Tally { examples: examples as usize, wrong: wrong as usize, loss };
        (self.step, self.seconds) = (step as usize, seconds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use candle_nn::Init;

    #[test]
    fn localisation_nets_have_their_own_rate() -> Result<()> {
        let budget = Budget {
            optimiser: OptimiserConfig::Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0 },
            localisation_lr_scale: 0.1,
            localisation_fan_in: Some(2),
            ..Budget::quick()
        };
        let vars = SeededVarMap::new(0);
        let vb = vars.var_builder(DType::F32, &Device::Cpu);
        let net = vb.get_with_hints(1, "transformer.net", Init::Const(1.0))?;
        let wide = vb.get_with_hints((1, 8), "transformer.wide", Init::Const(1.0))?;
        let classifier = vb.get_with_hints(1, "classifier.net", Init::Const(1.0))?;
        let mut optimiser = optimiser(&budget, &vars)?;
        optimiser.set_learning_rate(0.5);
        let loss = ((&net + &classifier)?.sum_all()? + wide.sum_all()?)?;
        optimiser.step(&loss.backward()?)?; // all gradients are one
        let values = vars.tensors()?;
        let value = |name: &str| -> Result<f32> { Ok(values[name].flatten_all()?.to_vec1::<f32>()?[0]) };
        let own = ["transformer.net", "transformer1.fc.weight", "transformer12.x"].map(is_localisation);
        assert!(own == [true; 3] && !is_localisation("transformers.net") && !is_localisation("conv1.weight"));
        assert!((value("transformer.net")? - 0.95).abs() < 1e-6 && (value("classifier.net")? - 0.5).abs() < 1e-6);
        // A quarter of the others' rate: two of eight inputs.
        assert!((value("transformer.wide")? - 0.9875).abs() < 1e-6);
        Ok(())
    }
}
