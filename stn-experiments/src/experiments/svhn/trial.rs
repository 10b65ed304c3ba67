//! House numbers as the training loop sees them: batches of crops, the sum of five cross-entropies, the share of wrong numbers.

use super::samples::samples;
use super::score::{Score, batch, read};
use crate::data::svhn::{Labels, Svhn};
use crate::data::{DataSource, Epochs};
use crate::models::svhn::{SvhnNetwork, svhn_loss};
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use std::collections::HashMap;
use stn_core::dropout::DropoutRng;

/// One run's network and data.
pub struct SvhnTrial<'a> {
    network: SvhnNetwork,
    dropout: DropoutRng,
    numbers: &'a Svhn,
    epochs: Epochs,
}

/// What a step trains on.
#[derive(Debug)]
pub struct Batch {
    /// The step, which the dropout masks depend on.
    step: u64,
    images: Tensor,
    labels: Vec<Labels>,
}

impl<'a> SvhnTrial<'a> {
    /// Reads `batch` numbers a step; `dropout` is that of the network.
    ///
    /// # Errors
    /// When there are fewer numbers than that.
    pub fn new(network: SvhnNetwork, dropout: DropoutRng, numbers: &'a Svhn, batch: usize, seed: u64) -> Result<Self> {
        Ok(Self { network, dropout, numbers, epochs: Epochs::new(seed, numbers.train.len(), batch)? })
    }
}

impl Task for SvhnTrial<'_> {
    type Batch = Batch;

    fn batch(&self, step: usize) -> Result<Batch> {
        let (_, indices) = self.epochs.at(step);
        let (images, labels) = batch(&self.numbers.train, indices.into_iter().map(|index| index as usize))?;
        Ok(Batch { step: step as u64, images, labels })
    }

    fn loss(&self, batch: &Batch) -> Result<Loss> {
        self.dropout.set_step(batch.step);
        let logits = self.network.forward(&batch.images, true)?.logits;
        let classes: Vec<u32> = batch.labels.as_flattened().iter().map(|&class| u32::from(class)).collect();
        let labels = Tensor::from_vec(classes, (batch.labels.len(), batch.labels[0].len()), &Device::Cpu)?;
        let wrong = read(&logits)?.iter().zip(&batch.labels).filter(|(read, labels)| read != labels).count();
        Ok(Loss { value: svhn_loss(&logits, &labels)?, examples: batch.labels.len(), wrong })
    }

    fn validate(&self) -> Result<Option<f64>> {
        Ok(Some(Score::of(&self.network, &self.numbers.validation)?.sequence_error_percent))
    }
}

impl Trial for SvhnTrial<'_> {
    /// The test set is what it is: one value.
    fn test(&self, _draws: usize) -> Result<Vec<f64>> {
        Ok(vec![Score::of(&self.network, &self.numbers.test)?.sequence_error_percent])
    }

    fn samples(&self) -> Result<HashMap<String, Tensor>> {
        let pixels = matches!(self.numbers.source, DataSource::Synthetic { .. });
        samples(&self.network, &self.numbers.test, pixels)
    }

    fn details(&self) -> Result<Map<String, Value>> {
        Ok(Score::of(&self.network, &self.numbers.test)?.details())
    }
}
