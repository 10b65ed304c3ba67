//! Distorted MNIST: section 4.1 and Table 1.
//!
//! `just reproduce mnist` trains the CNN and the ST-CNN Aff on R; `--data`, `--model`, `--seeds` and `--budget` select other cells.

use crate::budget::Budget;
use crate::data::distort::{Distortion, distorted_set};
use crate::data::mnist::{CLASSES, SIDE};
use crate::data::{DataSource, Dataset, Mnist, Pose, Purpose, VALIDATION, epoch_order, rng};
use crate::metrics::Spread;
use crate::models::{Model, Network};
use crate::paper;
use crate::record::RunDir;
use crate::train::{Cadence, Loss, Outcome, Task, train};
use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use stn_core::init::SeededVarMap;

/// The seed of every test and validation set, whatever the run's own.
pub const TEST_SEED: u64 = 0;

/// Images of a batch in evaluation.
const EVALUATION_BATCH: usize = 250;

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

    /// The paper's error in percent.
    pub fn paper_error_percent(self) -> f64 {
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
    /// The paper's error in percent.
    pub paper_error_percent: f64,
    /// Trainable parameters.
    pub params: usize,
    /// Updates of the weights.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// Seconds of training, validation included, without the test.
    pub seconds: f64,
    /// Where the images came from.
    pub data_source: DataSource,
    /// The device that it ran on.
    pub device: String,
}

/// MNIST, split as a budget wants it, with the checksums that the settings hold.
#[derive(Debug)]
pub struct Digits {
    train: Dataset,
    validation: Option<Dataset>,
    test: Dataset,
    source: DataSource,
    train_identity: String,
    test_identity: String,
}

impl Digits {
    /// Splits the images.
    ///
    /// # Errors
    /// When there are fewer than are held out.
    pub fn new(mnist: Mnist, budget: &Budget) -> Result<Self> {
        let (train, validation) = if budget.holdout {
            let (train, validation) = mnist.train.split_off_tail(VALIDATION)?;
            (train, Some(validation))
        } else {
            (mnist.train, None)
        };
        let (train_identity, test_identity) = (train.identity(), mnist.test.identity());
        Ok(Self { train, validation, test: mnist.test, source: mnist.source, train_identity, test_identity })
    }

    /// Where the images came from.
    pub fn source(&self) -> &DataSource {
        &self.source
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Status {
    /// It was trained to its end.
    Finished(RunResult),
    /// It had been trained before, with the same settings.
    Already(RunResult),
    /// It was stopped; the same command goes on from `step`.
    Interrupted {
        /// Steps done.
        step: usize,
    },
}

/// Trains and tests one cell with one seed, in its directory: goes on where an earlier run stopped, and leaves a finished one alone.
///
/// # Errors
/// When the directory holds a run of other settings or cannot be written, or training fails.
pub fn run(cell: Cell, digits: &Digits, budget: &Budget, seed: u64, dir: &RunDir, stop: &AtomicBool) -> Result<Status> {
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
        budget: budget.clone(),
        width: cell.model.width(cell.data),
        params: vars.num_params(),
        localisation_params: localisation.map(|(_, var)| var.elem_count()).sum(),
        train_identity: digits.train_identity.clone(),
        test_identity: digits.test_identity.clone(),
        distorted_test_identity: test.identity(),
        device: "cpu".into(),
    };
    println!(
        "{} on {}, seed {seed}, budget {}: {} parameters ({} of them localisation), {} steps of {}",
        cell.model.label(), cell.data, budget.name, settings.params, settings.localisation_params, budget.steps, budget.batch
    );
    println!("  data: {}; seeded test set {}", digits.source, &settings.distorted_test_identity[..16]);
    let params = settings.params;
    dir.open(&Config { settings, data_source: digits.source.clone(), protocol: protocol(budget), versions: versions() })?;
    if let Some(result) = dir.result::<RunResult>()? {
        return Ok(Status::Already(result));
    }

    let validation = match &digits.validation {
        Some(digits) => Some(distorted_set(cell.data, digits, TEST_SEED, 0)?.0),
        None => None,
    };
    let task = MnistTask {
        network,
        distortion: cell.data,
        seed,
        batch: budget.batch,
        train: &digits.train,
        validation,
        order: Mutex::new((u64::MAX, Arc::default())),
    };
    let seconds = match train(&task, &vars, budget, Cadence::default(), dir, stop)? {
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
    let Config { settings, .. } = dir.config().with_context(|| {
        format!("{} is no run directory; give one that holds config.json", dir.path().display())
    })?;
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

fn versions() -> HashMap<String, String> {
    let versions = [("stn-experiments", env!("CARGO_PKG_VERSION")), ("candle-core", "0.11")];
    versions.into_iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}

/// The images as a tensor, (N, 1, side, side), 0 to 1.
pub(crate) fn image_tensor(pixels: &[u8], side: usize) -> Result<Tensor> {
    let pixels: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
    let count = pixels.len() / (side * side);
    Ok(Tensor::from_vec(pixels, (count, 1, side, side), &Device::Cpu)?)
}

fn count_wrong(logits: &Tensor, labels: &[u8]) -> Result<usize> {
    let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    Ok(predicted.iter().zip(labels).filter(|(p, l)| **p != u32::from(**l)).count())
}

/// The error on distorted images in percent.
fn error_percent(network: &Network, data: &Dataset) -> Result<f64> {
    let mut wrong = 0;
    let images = data.images.chunks(EVALUATION_BATCH * data.image_len());
    for (images, labels) in images.zip(data.labels.chunks(EVALUATION_BATCH)) {
        let prediction = network.forward(&image_tensor(images, data.width)?, false)?;
        wrong += count_wrong(&prediction.logits, labels)?;
    }
    Ok(100.0 * wrong as f64 / data.len().max(1) as f64)
}

fn test_error_percent(network: &Network, data: Distortion, test: &Dataset, draws: usize) -> Result<Vec<f64>> {
    (0..draws as u64).map(|draw| error_percent(network, &distorted_set(data, test, TEST_SEED, draw)?.0)).collect()
}

struct MnistTask<'a> {
    network: Network,
    distortion: Distortion,
    seed: u64,
    batch: usize,
    train: &'a Dataset,
    /// Distorted once.
    validation: Option<Dataset>,
    /// The epoch that was last asked for, and its order.
    order: Mutex<(u64, Arc<Vec<u32>>)>,
}

/// Distorted images and their labels, in host memory.
struct MnistBatch {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl MnistTask<'_> {
    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.0 != epoch {
            *order = (epoch, Arc::new(epoch_order(self.seed, epoch, self.train.len())));
        }
        order.1.clone()
    }
}

impl Task for MnistTask<'_> {
    type Batch = MnistBatch;

    /// Epochs have as many steps as there are whole batches; every epoch has an order and distortions of its own.
    fn batch(&self, step: usize) -> Result<MnistBatch> {
        let steps_per_epoch = (self.train.len() / self.batch).max(1);
        let (epoch, start) = ((step / steps_per_epoch) as u64, step % steps_per_epoch * self.batch);
        let order = self.order(epoch);
        let side = self.distortion.canvas();
        let mut images = vec![0; self.batch.min(order.len()) * side * side];
        let mut labels = Vec::with_capacity(self.batch);
        for (image, &index) in images.chunks_exact_mut(side * side).zip(&order[start..]) {
            let mut rng = rng(self.seed, Purpose::Distortion, epoch, u64::from(index));
            self.distortion.apply(self.train, index as usize, &mut rng, image);
            labels.push(self.train.labels[index as usize]);
        }
        Ok(MnistBatch { images, labels })
    }

    fn loss(&self, batch: &MnistBatch) -> Result<Loss> {
        let images = image_tensor(&batch.images, self.distortion.canvas())?;
        let labels: Vec<u32> = batch.labels.iter().map(|&l| u32::from(l)).collect();
        let logits = self.network.forward(&images, true)?.logits;
        let value = candle_nn::loss::cross_entropy(&logits, &Tensor::new(labels, &Device::Cpu)?)?;
        Ok(Loss { value, examples: batch.labels.len(), wrong: count_wrong(&logits, &batch.labels)? })
    }

    fn validate(&self) -> Result<Option<f64>> {
        self.validation.as_ref().map(|data| error_percent(&self.network, data)).transpose()
    }
}

/// What the figures need: of each digit the first test image, one image at several angles (R alone), and the thetas of the first
/// thousand test images with the rotations that were applied to them.
fn samples(
    network: &Network,
    data: Distortion,
    digits: &Dataset,
    test: &Dataset,
    poses: &[Pose],
) -> Result<HashMap<String, Tensor>> {
    let mut samples = HashMap::new();
    let mut keep = |group: &str, pixels: &[u8]| -> Result<()> {
        let inputs = image_tensor(pixels, data.canvas())?;
        if let Some(transformed) = network.forward(&inputs, false)?.transformed {
            samples.insert(format!("{group}.input"), inputs);
            samples.insert(format!("{group}.theta"), transformed.theta.detach());
            samples.insert(format!("{group}.output"), transformed.output.detach());
        }
        Ok(())
    };

    let first = |label: usize| test.labels.iter().position(|&l| usize::from(l) == label);
    let indices: Vec<usize> = (0..CLASSES).filter_map(first).collect();
    let one_each: Vec<u8> = indices.iter().flat_map(|&i| test.image(i)).copied().collect();
    keep("digits", &one_each)?;

    let mut angles = Vec::new();
    if data == Distortion::R {
        let digit = digits.image(indices[ANGLES_DIGIT.min(indices.len() - 1)]);
        angles = ANGLES.to_vec();
        let mut turned = vec![0; angles.len() * SIDE * SIDE];
        for (out, &angle) in turned.chunks_exact_mut(SIDE * SIDE).zip(&angles) {
            Pose { rotation: angle, ..Pose::default() }.draw(digit, SIDE, out);
        }
        keep("angles", &turned)?;
    }

    let count = test.len().min(1000);
    keep("poses", &test.images[..count * test.image_len()])?;
    for name in ["poses.input", "poses.output"] {
        samples.remove(name); // the thetas are enough
    }

    let rotations: Vec<f64> = poses[..count].iter().map(|pose| pose.rotation).collect();
    let labels: Vec<u8> = indices.iter().map(|&i| test.labels[i]).collect();
    let device = &Device::Cpu;
    samples.insert("poses.rotation".into(), Tensor::new(rotations, device)?);
    samples.insert("poses.label".into(), Tensor::new(&test.labels[..count], device)?);
    samples.insert("digits.label".into(), Tensor::new(labels, device)?);
    if !angles.is_empty() {
        samples.insert("angles.rotation".into(), Tensor::new(angles, device)?);
    }
    Ok(samples)
}

/// The digit and the angles in degrees of the figure that shows one digit turned.
const ANGLES_DIGIT: usize = 4;
const ANGLES: [f64; 7] = [-90.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0];
