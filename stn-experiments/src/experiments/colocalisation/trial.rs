//! Co-localisation as the training loop sees it: random images, several windows of each round the one that the net predicts, and a random one;
//! the triplet hinge of eq. (8), the share of violated triplets.
//!
//! Eq. (8) is flat where a window shows no part of the digit, and its slope through the sampler ends a few pixels from it. So it is
//! smoothed: minimised is its mean over windows drawn from a normal distribution round the predicted one, whose spread shrinks during the
//! run. The gradient of such a mean is that of the draws' log-likelihood, weighted by their costs (Williams 1992, REINFORCE); it needs
//! no slope of the cost.
//!
//! Deviation: the random window's distance counts twice. With eq. (8) as it stands a window that leaves the digit is as good as one that comes to
//! it, as long as the others are elsewhere: E|f_n - f_m|^2 - E|f_n - f_rand|^2 holds the windows' own variance, which is smallest where
//! all are blank. With twice the second term the variance cancels, and what is left is that windows differ, on the average, from random ones.
//!
//! Deviation: two terms keep windows in the image and lead their scale, see [`prior`].
//!
//! Without these deviations, as the budget `literal` has it: eq. (8) of the windows that the net predicts, and its gradient through the sampler.

use super::overlap::Frame;
use super::scenes::{SCENES, Scenes};
use crate::budget::Budget;
use crate::data::seed::{below, normal};
use crate::data::{Purpose, rng};
use crate::experiments::classification::image_tensor;
use crate::models::colocalisation::{Encoder, Localiser, SCENE_SIDE, WINDOW_SIDE};
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The constants of eq. (8).
#[derive(Debug, Clone, Copy)]
struct Hinge {
    /// The margin alpha, in units of a random window's mean squared feature length, which is one for each of three layers.
    margin: f64,
    /// What a window's distance to the random one counts, where its distance to another counts one.
    random_weight: f64,
}

const OURS: Hinge = Hinge { margin: 10.0, random_weight: 2.0 };
const LITERAL: Hinge = Hinge { margin: 1.0, random_weight: 1.0 };

/// Windows that are tried for an image in a step.
const TRIES: usize = 4;

/// The spread of the windows that are tried, at the first and at the last step, in tx and ty; that in s is a part of it.
const SPREAD: [f64; 2] = [0.4, 0.1];
const SCALE_SPREAD: f64 = 0.15;

/// The scale at which a window is as large as the random ones: 28 of the image's pixels.
const RANDOM_SCALE: f64 = (WINDOW_SIDE - 1) as f64 / (SCENE_SIDE - 1) as f64;

/// The weight of the term that keeps windows in the image.
const INSIDE: f64 = 10.0;

/// The weight of the term that leads the windows' scale, and the share of the run over which it leads from the whole image to the size of a
/// random window.
const LEAD: f64 = 3.0;
const LED: f64 = 0.3;

/// Random windows of each image that the encoder is scaled by.
const SCALED_BY: u64 = 4;

/// Images whose windows the metrics keep: the figure's.
pub(super) const SHOWN: usize = 4;

/// Steps between two lines of the metrics.
const NOTED_EVERY: usize = 20;

/// One run's transformer and images.
pub struct ColocalisationTrial {
    localiser: Localiser,
    encoder: Encoder,
    scenes: Scenes,
    batch: usize,
    steps: usize,
    seed: u64,
    /// Whether eq. (8) is minimised as it stands.
    literal: bool,
}

/// Some of the images, a random window of each, and where windows are tried.
#[derive(Debug, PartialEq)]
pub struct Windows {
    /// The images' indices.
    indices: Vec<u32>,
    /// (N, 1, 28, 28) bytes.
    random: Vec<u8>,
    /// (TRIES, N, 3), from the standard normal distribution.
    noise: Vec<f32>,
    /// The share of the run that is done.
    share: f64,
}

impl ColocalisationTrial {
    /// A run of the budget's steps; every pair of a batch of images is compared. The encoder is scaled by random windows of the images.
    ///
    /// # Errors
    /// When the encoder has no use for such windows, or a batch has no pair or more than all images.
    pub fn new(localiser: Localiser, encoder: &Encoder, scenes: Scenes, budget: &Budget, seed: u64) -> Result<Self> {
        let all: Vec<u32> = (0..SCENES as u32).collect();
        let windows =
            (0..SCALED_BY).map(|i| random_windows(&scenes, &all, &mut rng(seed, Purpose::Windows, u64::MAX, i)));
        let windows: Vec<u8> = windows.flatten().collect();
        let encoder = encoder.scaled_by(&image_tensor(&windows, (1, WINDOW_SIDE, WINDOW_SIDE))?)?;
        check_batch(budget)?;
        let (batch, steps, literal) = (budget.batch, budget.steps, false);
        Ok(Self { localiser, encoder, scenes, batch, steps, seed, literal })
    }

    /// The same with eq. (8) as it stands: margin 1, no further terms, and its gradient through the sampler.
    pub fn literal(self) -> Self {
        Self { literal: true, ..self }
    }

    /// Eq. (8) as it stands, for all pairs of some windows.
    fn literal_loss(&self, windows: &Tensor, random: &Tensor) -> Result<Loss> {
        let hinges = hinges(&self.encoder.encode(windows)?, random, LITERAL)?;
        let n = hinges.dim(0)?;
        let examples = n * n.saturating_sub(1);
        Ok(Loss { value: (hinges.sum_all()? / examples.max(1) as f64)?, examples, wrong: violated(&hinges)? })
    }
}

/// Refuses a batch without a pair, or of more images than there are.
pub(super) fn check_batch(budget: &Budget) -> Result<()> {
    ensure!(
        (2..=SCENES).contains(&budget.batch),
        "co-localisation compares pairs of {SCENES} images: a step needs 2 to {SCENES} of them, got --batch {}",
        budget.batch
    );
    Ok(())
}

/// A window of 28x28 pixels at a uniformly random place of each of these images.
fn random_windows(scenes: &Scenes, indices: &[u32], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut windows = vec![0; indices.len() * WINDOW_SIDE * WINDOW_SIDE];
    for (out, &index) in windows.chunks_exact_mut(WINDOW_SIDE * WINDOW_SIDE).zip(indices) {
        let at = [(); 2].map(|()| below(rng, SCENE_SIDE - WINDOW_SIDE + 1));
        scenes.window(index as usize, at, out);
    }
    windows
}

/// The windows' parameters on all images, (100, 3).
fn thetas(localiser: &Localiser, scenes: &Scenes) -> Result<Vec<Vec<f32>>> {
    Ok(localiser.theta(&scenes.tensor, false)?.to_vec2()?)
}

/// How much of each digit's frame its window covers: intersection over union.
pub(super) fn overlaps(localiser: &Localiser, scenes: &Scenes) -> Result<Vec<f64>> {
    let thetas = thetas(localiser, scenes)?;
    let iou = |(theta, place): (&Vec<f32>, &[usize; 2])| Frame::of_window(theta).iou(&Frame::of_digit(*place));
    Ok(thetas.iter().zip(&scenes.places).map(iou).collect())
}

/// The share of images in percent whose window covers too little of the digit: an IoU of at most one half.
pub(super) fn missed_percent(overlaps: &[f64]) -> f64 {
    let missed = overlaps.iter().filter(|&&iou| iou <= 0.5).count();
    100.0 * missed as f64 / overlaps.len().max(1) as f64
}

impl Task for ColocalisationTrial {
    type Batch = Windows;

    fn batch(&self, step: usize) -> Result<Windows> {
        let mut rng = rng(self.seed, Purpose::Windows, step as u64, 0);
        // The first images of a shuffle.
        let mut indices: Vec<u32> = (0..SCENES as u32).collect();
        for i in 0..self.batch {
            indices.swap(i, i + below(&mut rng, SCENES - i));
        }
        indices.truncate(self.batch);
        let random = random_windows(&self.scenes, &indices, &mut rng);
        let noise = (0..TRIES * self.batch * 3).map(|_| normal(&mut rng, 0.0, 1.0) as f32).collect();
        Ok(Windows { indices, random, noise, share: step as f64 / self.steps as f64 })
    }

    fn counted(&self) -> &'static str {
        "violated triplets"
    }

    /// Unless [`literal`](Self::literal), the value is the mean of eq. (8) over the windows that are tried, and the prior; the gradient is that of the smoothed eq. (8).
    fn loss(&self, batch: &Windows) -> Result<Loss> {
        let n = batch.indices.len();
        let images = self.scenes.tensor.index_select(&Tensor::new(&batch.indices[..], &Device::Cpu)?, 0)?;
        let theta = self.localiser.theta(&images, true)?;
        let random = self.encoder.encode(&image_tensor(&batch.random, (1, WINDOW_SIDE, WINDOW_SIDE))?)?;
        if self.literal {
            return self.literal_loss(&self.localiser.warp(&images, &theta)?, &random);
        }
        let noise = Tensor::new(&batch.noise[..], &Device::Cpu)?.reshape((TRIES, n, 3))?;
        let tried = tried(&theta.detach(), &noise, spread_at(batch.share))?;

        let seen = self.localiser.warp(&images.repeat((TRIES, 1, 1, 1))?, &tried.flatten_to(1)?)?;
        let hinges = hinges(&self.encoder.encode(&seen)?, &random, OURS)?; // (TRIES N, TRIES N)
        let pairs = TRIES * TRIES * n * n.saturating_sub(1);
        let wrong = violated(&hinges)?;
        let costs = (hinges.sum(1)?.reshape((TRIES, n))? / (TRIES * n.saturating_sub(1).max(1)) as f64)?;

        let smoothed = smoothed(&theta, &tried, &costs, spread_at(batch.share))?;
        let prior = prior(&theta, scale_at(batch.share))?;
        let value = ((costs.mean_all()? + (&smoothed - smoothed.detach())?)? + prior)?;
        Ok(Loss { value, examples: pairs, wrong })
    }

    /// Nothing is held out.
    fn validate(&self) -> Result<Option<f64>> {
        Ok(None)
    }

    fn notes(&self, step: usize) -> Result<Option<Map<String, Value>>> {
        if !step.is_multiple_of(NOTED_EVERY) {
            return Ok(None);
        }
        let overlaps = overlaps(&self.localiser, &self.scenes)?;
        let windows = thetas(&self.localiser, &self.scenes)?;
        let mut notes = Map::new();
        notes.insert("correct_percent".into(), json!(100.0 - missed_percent(&overlaps)));
        notes.insert("mean_iou".into(), json!(mean(&overlaps)));
        notes.insert("windows".into(), json!(windows[..SHOWN]));
        Ok(Some(notes))
    }
}

impl Trial for ColocalisationTrial {
    /// There is one set of images, whatever the draws.
    fn test(&self, _draws: usize) -> Result<Vec<f64>> {
        Ok(vec![missed_percent(&overlaps(&self.localiser, &self.scenes)?)])
    }

    fn samples(&self) -> Result<HashMap<String, Tensor>> {
        let places: Vec<u32> = self.scenes.places.iter().flatten().map(|&p| p as u32).collect();
        let overlaps = overlaps(&self.localiser, &self.scenes)?;
        Ok(HashMap::from([
            ("images".into(), self.scenes.tensor.narrow(0, 0, SHOWN)?.contiguous()?),
            ("places".into(), Tensor::from_vec(places, (SCENES, 2), &Device::Cpu)?),
            ("theta".into(), self.localiser.theta(&self.scenes.tensor, false)?.detach()),
            ("iou".into(), Tensor::new(overlaps, &Device::Cpu)?),
        ]))
    }

    fn details(&self) -> Result<Map<String, Value>> {
        let overlaps = overlaps(&self.localiser, &self.scenes)?;
        Ok(Map::from_iter([("mean_iou".to_string(), json!(mean(&overlaps)))]))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The spread of the windows that are tried after a share of the run: it falls in equal ratios.
fn spread_at(share: f64) -> f64 {
    SPREAD[0] * libm::pow(SPREAD[1] / SPREAD[0], share)
}

/// The standard deviations of s, tx and ty.
fn deviations(spread: f64) -> Result<Tensor> {
    Ok(Tensor::new(&[[(spread * SCALE_SPREAD) as f32, spread as f32, spread as f32]], &Device::Cpu)?)
}

/// The windows that are tried, (TRIES, N, 3): round the predicted ones (N, 3), no further out than just beyond where windows belong.
fn tried(theta: &Tensor, noise: &Tensor, spread: f64) -> Result<Tensor> {
    let tried = noise.broadcast_mul(&deviations(spread)?)?.broadcast_add(theta)?;
    let (scale, place) = (tried.narrow(2, 0, 1)?, tried.narrow(2, 1, 2)?);
    let furthest = 1.0 - RANDOM_SCALE + 0.1;
    Ok(Tensor::cat(&[scale.clamp(0.2, 1.2)?, place.clamp(-furthest, furthest)?], 2)?)
}

/// A number whose gradient for theta is that of the costs' mean over the windows that are tried, up to a factor: the log-likelihood of each
/// window, (TRIES, N, 3), weighted by how much its cost, (TRIES, N), exceeds the mean over its image's windows. The excess is divided by its
/// standard deviation, and the whole multiplied with the spread: steps then shrink as the spread does.
fn smoothed(theta: &Tensor, tried: &Tensor, costs: &Tensor, spread: f64) -> Result<Tensor> {
    let excess = costs.broadcast_sub(&costs.mean_keepdim(0)?)?;
    let deviation = excess.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    let excess = (excess / f64::from(deviation + 1e-6))?.unsqueeze(2)?;
    let off = tried.broadcast_sub(theta)?.broadcast_div(&deviations(spread)?)?;
    Ok((off.sqr()?.broadcast_mul(&excess)?.mean_all()? * (-0.5 * spread))?)
}

/// The terms of eq. (8) for every pair of windows, zero for two of the same image: features of the tried windows, (K N, F), and of the
/// random ones, (N, F).
fn hinges(found: &Tensor, random: &Tensor, hinge: Hinge) -> candle_core::Result<Tensor> {
    let (n, tries) = (random.dim(0)?, found.dim(0)? / random.dim(0)?);
    let to_random = (found - random.repeat((tries, 1))?)?.sqr()?.sum_keepdim(1)?; // (K N, 1)
    let squares = found.sqr()?.sum_keepdim(1)?; // (K N, 1)
    let products = found.matmul(&found.t()?)?; // (K N, K N)
    let to_others = products.affine(-2.0, 0.0)?.broadcast_add(&squares)?.broadcast_add(&squares.t()?)?;
    let hinges = to_others.broadcast_sub(&(to_random * hinge.random_weight)?)?.affine(1.0, hinge.margin)?.relu()?;
    let others = Tensor::eye(n, DType::F32, &Device::Cpu)?.affine(-1.0, 1.0)?;
    hinges * others.repeat((tries, tries))?
}

/// Counts the pairs that eq. (8) is not content with.
fn violated(hinges: &Tensor) -> Result<usize> {
    Ok(hinges.gt(0f32)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? as usize)
}

/// The scale that the windows are led to after a share of the run: from the whole image to the size of a random window, in equal ratios.
fn scale_at(share: f64) -> f64 {
    libm::pow(RANDOM_SCALE, (share / LED).min(1.0))
}

/// What is asked of windows besides eq. (8): that they are not larger than the image, have their centres where those of random windows may
/// lie, and a given scale.
fn prior(theta: &Tensor, scale: f64) -> candle_core::Result<Tensor> {
    let free = 1.0 - RANDOM_SCALE;
    let limits = Tensor::new(&[[1.0, free as f32, free as f32]], theta.device())?;
    let beyond = (theta.broadcast_sub(&limits)?.relu()? + theta.neg()?.broadcast_sub(&limits)?.relu()?)?;
    let off_scale = theta.narrow(1, 0, 1)?.affine(1.0, -scale)?;
    (beyond.sqr()?.mean_all()? * INSIDE)? + (off_scale.sqr()?.mean_all()? * LEAD)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Distortion, Mnist};
    use crate::experiments::Experiment;
    use crate::experiments::colocalisation::{Colocalisation, Scenery};
    use crate::models::colocalisation::localiser;
    use crate::models::{Model, Network};
    use stn_core::init::SeededVarMap;
    use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup};

    fn untrained_encoder() -> Result<Encoder> {
        let vars = SeededVarMap::new(5);
        Network::new(Model::Cnn, Distortion::R, vars.var_builder(DType::F32, &Device::Cpu))?;
        Encoder::new(vars.tensors()?)
    }

    #[test]
    fn the_hinge_is_eq_8_and_ours_has_the_random_window_twice() -> Result<()> {
        let found = Tensor::new(&[[0f32, 0.0], [3.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let random = Tensor::new(&[[0f32, 2.0], [3.0, 3.0], [0.0, 1.0]], &Device::Cpu)?; // squared distances 4, 9, 0
        let expected =
            [[0f32, 9.0 - 8.0 + 10.0, 1.0 - 8.0 + 10.0], [9.0 - 18.0 + 10.0, 0.0, 2.0], [1.0 + 10.0, 10.0 + 10.0, 0.0]];
        assert_eq!(hinges(&found, &random, OURS)?.to_vec2::<f32>()?, expected.map(|row| row.map(|x| x.max(0.0))));
        let literal = [[0f32, 9.0 - 4.0 + 1.0, 1.0 - 4.0 + 1.0], [9.0 - 9.0 + 1.0, 0.0, 2.0], [2.0, 11.0, 0.0]];
        assert_eq!(hinges(&found, &random, LITERAL)?.to_vec2::<f32>()?, literal.map(|row| row.map(|x| x.max(0.0))));
        let twice = hinges(&found.repeat((2, 1))?, &random, OURS)?.to_vec2::<f32>()?;
        assert!(twice[0][3] == 0.0 && twice[3][0] == 0.0, "windows of one image are not compared");
        assert_eq!(twice[3][4], twice[0][1]);
        Ok(())
    }

    #[test]
    fn the_smoothed_gradient_leads_to_the_cheaper_windows() -> Result<()> {
        // One image; the further right a window, the less it costs.
        let theta = candle_core::Var::new(&[[0.5f32, 0.0, 0.0]], &Device::Cpu)?;
        let noise: Vec<f32> = [[0.0f32, 1.0, 0.5], [0.0, -1.0, 0.5], [0.0, 2.0, -0.5], [0.0, -2.0, -0.5]].concat();
        let noise = Tensor::new(&noise[..], &Device::Cpu)?.reshape((TRIES, 1, 3))?;
        let tried = tried(&theta.detach(), &noise, 0.2)?;
        let costs = tried.narrow(2, 1, 1)?.squeeze(2)?.neg()?;
        let grads = smoothed(theta.as_tensor(), &tried, &costs, 0.2)?.backward()?;
        let grad = grads.get(&theta).unwrap().to_vec2::<f32>()?;
        assert!(grad[0][1] < -0.1 && grad[0][0].abs() < 1e-6 && grad[0][2].abs() < 1e-6, "{grad:?}");
        Ok(())
    }

    #[test]
    fn windows_are_led_from_the_whole_image_to_the_random_ones_size() -> Result<()> {
        assert_eq!(scale_at(0.0), 1.0);
        assert!(scale_at(0.1) > scale_at(0.2) && (scale_at(0.9) - 27.0 / 83.0).abs() < 1e-12);
        let s = RANDOM_SCALE as f32;
        let at = |theta: [f32; 3]| -> Result<f32> {
            Ok(prior(&Tensor::new(&[theta], &Device::Cpu)?, RANDOM_SCALE)?.to_scalar()?)
        };
        assert!(at([s, 0.6, -0.67])? < 1e-12);
        assert!(at([s, 0.9, 0.0])? > 0.1 && at([s, 0.0, -0.9])? > 0.1 && at([1.3, 0.0, 0.0])? > at([1.0, 0.0, 0.0])?);
        Ok(())
    }

    #[test]
    fn a_batch_depends_on_the_step_alone_and_has_windows_of_its_images() -> Result<()> {
        let (digits, encoder) = (Mnist::embedded("asked for")?.train, untrained_encoder()?);
        let trial = |seed| -> Result<_> {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            let scenes = Scenes::new(&digits, Scenery::Tc, 4, 0)?;
            ColocalisationTrial::new(localiser(vb)?, &encoder, scenes, &Colocalisation.budgets()[0], seed)
        };
        let (one, again) = (trial(0)?, trial(0)?);
        assert_eq!(one.batch(7)?, again.batch(7)?);
        assert!(one.batch(7)? != one.batch(8)? && one.batch(7)? != trial(1)?.batch(7)?);
        let batch = one.batch(7)?;
        let mut indices = batch.indices.clone();
        indices.sort_unstable();
        indices.dedup();
        assert!(indices.len() == 50 && indices.iter().all(|&i| (i as usize) < SCENES));
        assert_eq!((batch.random.len(), batch.noise.len()), (50 * 28 * 28, TRIES * 50 * 3));
        Ok(())
    }

    #[test]
    fn every_variable_of_the_localiser_gets_a_gradient_and_moves() -> Result<()> {
        let (digits, encoder) = (Mnist::embedded("asked for")?.train, untrained_encoder()?);
        let budget = Budget { batch: 16, ..Colocalisation.budgets().remove(0) };
        for literal in [false, true] {
            let vars = SeededVarMap::new(1);
            let localiser = localiser(vars.var_builder(DType::F32, &Device::Cpu).pp("transformer"))?;
            let scenes = Scenes::new(&digits, Scenery::T, 2, 0)?;
            let trial = ColocalisationTrial::new(localiser, &encoder, scenes, &budget, 0)?;
            let (trial, tries) = if literal { (trial.literal(), 1) } else { (trial, TRIES) };
            let before = vars.tensors()?;
            let mut adamw = AdamW::new(vec![ParamGroup::new(vars.trainable_vars())], AdamWConfig::default())?;
            // The last layer starts at zero: the layers before it get their gradient in the second step.
            for step in 0..2 {
                let Loss { value, examples, wrong } = trial.loss(&trial.batch(step)?)?;
                assert!(examples == tries * tries * 16 * 15 && wrong <= examples);
                adamw.step(&value.backward()?)?;
            }
            for (name, var) in vars.trainable_vars() {
                let moved = (var.as_tensor() - &before[&name])?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert!(moved.is_finite() && moved > 0.0, "{name} moved by {moved}, literal: {literal}");
            }
        }
        Ok(())
    }
}
