//! Addition as the training loop sees it: batches of fresh pairs, cross-entropy of the sums, the share of wrong sums.

use super::samples::samples;
use crate::data::addition::{CHANNELS, DISTORTION, addition_set, draw_pair, pair_len};
use crate::data::{Dataset, Epochs, Purpose, rng};
use crate::experiments::classification::{cross_entropy, error_percent};
use crate::experiments::{Digits, TEST_SEED, VALIDATION_DRAW};
use crate::models::addition::AdditionNetwork;
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::Tensor;
use std::collections::HashMap;

/// The test error of each of the seeded draws.
pub(super) fn test_error_percent(network: &AdditionNetwork, test: &Dataset, draws: usize) -> Result<Vec<f64>> {
    let one = |draw| error_on(network, &addition_set(test, TEST_SEED, draw)?.0);
    (0..draws as u64).map(one).collect()
}

fn error_on(network: &AdditionNetwork, data: &Dataset) -> Result<f64> {
    error_percent(data, |images| Ok(network.forward(images, false)?.logits))
}

/// One run's network and data.
pub(super) struct AdditionTrial<'a> {
    network: AdditionNetwork,
    seed: u64,
    digits: &'a Digits,
    /// Drawn once.
    validation: Option<Dataset>,
    epochs: Epochs,
}

impl<'a> AdditionTrial<'a> {
    /// Draws the validation pairs; training pairs are drawn batch by batch.
    pub(super) fn new(network: AdditionNetwork, digits: &'a Digits, batch: usize, seed: u64) -> Result<Self> {
        let validation = match &digits.validation {
            Some(digits) => Some(addition_set(digits, TEST_SEED, VALIDATION_DRAW)?.0),
            None => None,
        };
        let epochs = Epochs::new(seed, digits.train.len(), batch)?;
        Ok(Self { network, seed, digits, validation, epochs })
    }
}

impl Task for AdditionTrial<'_> {
    type Batch = Dataset;

    /// Every epoch has partners and distortions of its own.
    fn batch(&self, step: usize) -> Result<Dataset> {
        let (epoch, indices) = self.epochs.at(step);
        let mut images = vec![0; indices.len() * pair_len()];
        let pairs = images.chunks_exact_mut(pair_len()).zip(&indices).map(|(out, &index)| {
            let mut rng = rng(self.seed, Purpose::Pair, epoch, u64::from(index));
            draw_pair(&self.digits.train, index as usize, &mut rng, out).sum()
        });
        let labels = pairs.collect();
        Dataset::new(images, labels, CHANNELS, DISTORTION.canvas(), DISTORTION.canvas())
    }

    fn loss(&self, batch: &Dataset) -> Result<Loss> {
        cross_entropy(batch, |images| Ok(self.network.forward(images, true)?.logits))
    }

    fn validate(&self) -> Result<Option<f64>> {
        self.validation.as_ref().map(|data| error_on(&self.network, data)).transpose()
    }
}

impl Trial for AdditionTrial<'_> {
    fn test(&self, draws: usize) -> Result<Vec<f64>> {
        test_error_percent(&self.network, &self.digits.test, draws)
    }

    fn samples(&self) -> Result<HashMap<String, Tensor>> {
        samples(&self.network, &self.digits.test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::data::Mnist;
    use crate::models::addition::AdditionModel;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;

    #[test]
    fn training_pairs_depend_on_the_step_alone_and_change_with_the_epoch() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..300)?, mnist.test.range(0..10)?);
        let budget = Budget { holdout: false, ..Budget::quick() };
        let digits = Digits::new(Mnist { train, test, source: mnist.source }, &budget)?;
        let trial = || {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            AdditionTrial::new(AdditionNetwork::new(AdditionModel::Fcn, vb)?, &digits, 300, 7)
        };
        let whole = trial()?;
        let (first, second) = (whole.batch(0)?, whole.batch(1)?);
        assert_eq!(trial()?.batch(1)?, second, "out of nothing, as a resumed run does");
        assert_eq!(first.images.len(), 300 * 2 * 42 * 42);
        // The first digits are the same ones, so the sums differ by their partners alone.
        let total = |batch: &Dataset| batch.labels.iter().map(|&sum| u32::from(sum)).sum::<u32>();
        assert_ne!(total(&first), total(&second), "every epoch has its own partners");
        Ok(())
    }
}
