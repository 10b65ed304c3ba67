//! Birds as the training loop sees them: batches of random squares, cross-entropy, the share of wrong names.

use super::evaluation::Answers;
use super::samples::samples;
use crate::data::birds::{BirdSet, Birds, Crop};
use crate::data::{DataSource, Epochs, Purpose, rng};
use crate::models::birds::{BirdModel, BirdNetwork};
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use stn_core::dropout::DropoutRng;

/// One run's network and data.
pub struct BirdTrial<'a> {
    model: BirdModel,
    network: BirdNetwork,
    dropout: DropoutRng,
    birds: &'a Birds,
    crop: Crop,
    seed: u64,
    epochs: Epochs,
    /// What the test found, for the samples and details that are asked for after it.
    tested: Mutex<Option<Answers>>,
}

/// What a step trains on.
#[derive(Debug)]
pub struct Batch {
    /// The step, which the dropout masks depend on.
    step: u64,
    images: Tensor,
    labels: Vec<u32>,
}

impl<'a> BirdTrial<'a> {
    /// Reads `batch` birds a step; `dropout` is that of the network.
    ///
    /// # Errors
    /// When there are fewer birds than that.
    pub fn new(
        model: BirdModel,
        network: BirdNetwork,
        dropout: DropoutRng,
        birds: &'a Birds,
        crop: Crop,
        batch: usize,
        seed: u64,
    ) -> Result<Self> {
        let epochs = Epochs::new(seed, birds.train.len(), batch)?;
        Ok(Self { model, network, dropout, birds, crop, seed, epochs, tested: Mutex::default() })
    }

    /// Does something with what the test found.
    fn with_test<R>(&self, f: impl FnOnce(&Answers) -> Result<R>) -> Result<R> {
        let mut tested = self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match tested.take() {
            Some(found) => found,
            None => Answers::of(&self.network, &self.birds.test, self.crop)?,
        };
        f(tested.insert(found))
    }
}

impl Task for BirdTrial<'_> {
    type Batch = Batch;

    /// Every epoch has squares and flips of its own.
    fn batch(&self, step: usize) -> Result<Batch> {
        let (epoch, indices) = self.epochs.at(step);
        let (mut pixels, mut labels) = (Vec::new(), Vec::with_capacity(indices.len()));
        for &index in &indices {
            let mut rng = rng(self.seed, Purpose::BirdCrop, epoch, u64::from(index));
            let square = self.birds.train.pixels(index as usize, self.crop, Some(&mut rng));
            pixels.extend(square.with_context(|| format!("training image {index}"))?);
            labels.push(self.birds.train.label(index as usize));
        }
        let shape = (indices.len(), 3, self.crop.side, self.crop.side);
        Ok(Batch { step: step as u64, images: Tensor::from_vec(pixels, shape, &Device::Cpu)?, labels })
    }

    fn loss(&self, batch: &Batch) -> Result<Loss> {
        self.dropout.set_step(batch.step);
        let logits = self.network.forward(&batch.images, true)?.logits;
        let value = candle_nn::loss::cross_entropy(&logits, &Tensor::new(batch.labels.as_slice(), &Device::Cpu)?)?;
        let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let wrong = predicted.iter().zip(&batch.labels).filter(|(predicted, label)| predicted != label).count();
        Ok(Loss { value, examples: batch.labels.len(), wrong })
    }

    fn validate(&self) -> Result<Option<f64>> {
        let error = |set: &BirdSet| Ok(Answers::of(&self.network, set, self.crop)?.error_percent());
        self.birds.validation.as_ref().map(error).transpose()
    }
}

impl Trial for BirdTrial<'_> {
    /// The test set is what it is: one value.
    fn test(&self, _draws: usize) -> Result<Vec<f64>> {
        *self.tested.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.with_test(|found| Ok(vec![found.error_percent()]))
    }

    fn samples(&self) -> Result<HashMap<String, Tensor>> {
        // Photographs belong to their photographers.
        let keep_pixels = matches!(self.birds.source, DataSource::Synthetic { .. });
        self.with_test(|found| samples(found, &self.birds.test, self.crop, keep_pixels))
    }

    fn details(&self) -> Result<Map<String, Value>> {
        self.with_test(|found| {
            let mut details = found.details(self.model, &self.birds.test.class_names())?;
            details.insert("classes".into(), self.birds.train.classes().into());
            Ok(details)
        })
    }
}
