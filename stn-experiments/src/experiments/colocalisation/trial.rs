//! Co-localisation as the training loop sees it: random images and random windows of them, the triplet hinge of eq. (8), the share of
//! violated triplets.
//!
//! Deviation: to the hinge come two terms that the paper does not have, see [`prior`]. Without them the windows grow until they see next to
//! nothing: what looks alike everywhere is an empty window.

use super::overlap::Frame;
use super::scenes::{SCENES, Scenes};
use crate::budget::Budget;
use crate::data::seed::below;
use crate::data::{Purpose, rng};
use crate::experiments::classification::image_tensor;
use crate::models::colocalisation::{Encoder, Localiser, SCENE_SIDE, WINDOW_SIDE};
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The margin alpha of eq. (8).
const MARGIN: f64 = 1.0;

/// The scale at which a window is as large as the random ones: 28 of the image's pixels.
const RANDOM_SCALE: f64 = (WINDOW_SIDE - 1) as f64 / (SCENE_SIDE - 1) as f64;

/// The weight of the term that keeps windows in the image.
const INSIDE: f64 = 100.0;

/// The weight of the term that leads the windows' scale, and the share of the run over which it leads from the whole image to the size of a
/// random window.
const LEAD: f64 = 10.0;
const LED: f64 = 0.5;

/// Images whose windows the metrics keep: the figure's.
pub(super) const SHOWN: usize = 4;

/// Steps between two lines of the metrics.
const NOTED_EVERY: usize = 20;

/// One run's transformer and images.
pub struct ColocalisationTrial<'a> {
    localiser: Localiser,
    encoder: &'a Encoder,
    scenes: Scenes,
    batch: usize,
    steps: usize,
    seed: u64,
}

/// Some of the images, and a random window of each.
#[derive(Debug, PartialEq)]
pub struct Windows {
    /// The images' indices.
    indices: Vec<u32>,
    /// (N, 1, 28, 28) bytes.
    random: Vec<u8>,
    /// The scale that windows should have by now.
    scale: f64,
}

impl<'a> ColocalisationTrial<'a> {
    /// A run of the budget's steps; every pair of a batch of images is compared.
    pub fn new(localiser: Localiser, encoder: &'a Encoder, scenes: Scenes, budget: &Budget, seed: u64) -> Self {
        Self { localiser, encoder, scenes, batch: budget.batch.min(SCENES), steps: budget.steps, seed }
    }
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

impl Task for ColocalisationTrial<'_> {
    type Batch = Windows;

    fn batch(&self, step: usize) -> Result<Windows> {
        let mut rng = rng(self.seed, Purpose::Windows, step as u64, 0);
        // The first images of a shuffle.
        let mut indices: Vec<u32> = (0..SCENES as u32).collect();
        for i in 0..self.batch {
            indices.swap(i, i + below(&mut rng, SCENES - i));
        }
        indices.truncate(self.batch);
        let mut random = vec![0; self.batch * WINDOW_SIDE * WINDOW_SIDE];
        for (out, &index) in random.chunks_exact_mut(WINDOW_SIDE * WINDOW_SIDE).zip(&indices) {
            let at = [(); 2].map(|()| below(&mut rng, SCENE_SIDE - WINDOW_SIDE + 1));
            self.scenes.window(index as usize, at, out);
        }
        Ok(Windows { indices, random, scale: scale_at(step as f64 / self.steps as f64) })
    }

    fn loss(&self, batch: &Windows) -> Result<Loss> {
        let n = batch.indices.len();
        let images = self.scenes.tensor.index_select(&Tensor::new(&batch.indices[..], &Device::Cpu)?, 0)?;
        let windows = self.localiser.transform(&images, true)?;
        let random = image_tensor(&batch.random, (1, WINDOW_SIDE, WINDOW_SIDE))?;
        let (found, random) = (self.encoder.encode(&windows.output)?, self.encoder.encode(&random)?);
        let hinges = hinges(&found, &random)?;
        let pairs = n * n.saturating_sub(1);
        let wrong = hinges.gt(0f32)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? as usize;
        let value = ((hinges.sum_all()? / pairs.max(1) as f64)? + prior(&windows.theta, batch.scale)?)?;
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

impl Trial for ColocalisationTrial<'_> {
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

/// The terms of eq. (8) for every pair of images, (N, N), zero for an image with itself: features of the windows and of the random ones,
/// (N, F) each.
fn hinges(found: &Tensor, random: &Tensor) -> candle_core::Result<Tensor> {
    let n = found.dim(0)?;
    let to_random = (found - random)?.sqr()?.sum_keepdim(1)?; // (N, 1)
    let squares = found.sqr()?.sum_keepdim(1)?; // (N, 1)
    let products = found.matmul(&found.t()?)?; // (N, N)
    let to_others = products.affine(-2.0, 0.0)?.broadcast_add(&squares)?.broadcast_add(&squares.t()?)?;
    let hinges = to_others.broadcast_sub(&to_random)?.affine(1.0, MARGIN)?.relu()?;
    hinges * Tensor::eye(n, DType::F32, &Device::Cpu)?.affine(-1.0, 1.0)?
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
    fn the_hinge_is_eq_8() -> Result<()> {
        let found = Tensor::new(&[[0f32, 0.0], [3.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let random = Tensor::new(&[[0f32, 2.0], [3.0, 3.0], [0.0, 1.0]], &Device::Cpu)?; // squared distances 4, 9, 0
        let expected = [[0f32, 9.0 - 4.0 + 1.0, 0.0], [1.0, 0.0, 10.0 - 9.0 + 1.0], [1.0 + 1.0, 10.0 + 1.0, 0.0]];
        assert_eq!(hinges(&found, &random)?.to_vec2::<f32>()?, expected);
        Ok(())
    }

    #[test]
    fn windows_are_led_from_the_whole_image_to_the_random_ones_size() -> Result<()> {
        assert_eq!(scale_at(0.0), 1.0);
        assert!(scale_at(0.2) > scale_at(0.3) && (scale_at(0.9) - 27.0 / 83.0).abs() < 1e-12);
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
            Ok(ColocalisationTrial::new(localiser(vb)?, &encoder, scenes, &Colocalisation.budgets()[0], seed))
        };
        let (one, again) = (trial(0)?, trial(0)?);
        assert_eq!(one.batch(7)?, again.batch(7)?);
        assert!(one.batch(7)? != one.batch(8)? && one.batch(7)? != trial(1)?.batch(7)?);
        let batch = one.batch(7)?;
        let mut indices = batch.indices.clone();
        indices.sort_unstable();
        indices.dedup();
        assert!(indices.len() == 32 && indices.iter().all(|&i| (i as usize) < SCENES));
        assert_eq!(batch.random.len(), 32 * 28 * 28);
        Ok(())
    }

    #[test]
    fn every_variable_of_the_localiser_gets_a_gradient_and_moves() -> Result<()> {
        let (digits, encoder) = (Mnist::embedded("asked for")?.train, untrained_encoder()?);
        let vars = SeededVarMap::new(1);
        let localiser = localiser(vars.var_builder(DType::F32, &Device::Cpu).pp("transformer"))?;
        let budget = Budget { batch: 16, ..Colocalisation.budgets().remove(0) };
        let trial = ColocalisationTrial::new(localiser, &encoder, Scenes::new(&digits, Scenery::T, 2, 0)?, &budget, 0);
        let before = vars.tensors()?;
        let mut adamw = AdamW::new(vec![ParamGroup::new(vars.trainable_vars())], AdamWConfig::default())?;
        // The last layer starts at zero: the layers before it get their gradient in the second step.
        for step in 0..2 {
            let Loss { value, examples, wrong } = trial.loss(&trial.batch(step)?)?;
            assert!(examples == 16 * 15 && wrong <= examples);
            adamw.step(&value.backward()?)?;
        }
        for (name, var) in vars.trainable_vars() {
            let moved = (var.as_tensor() - &before[&name])?.abs()?.sum_all()?.to_scalar::<f32>()?;
            assert!(moved.is_finite() && moved > 0.0, "{name} moved by {moved}");
        }
        Ok(())
    }
}
