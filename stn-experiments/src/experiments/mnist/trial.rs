//! MNIST as the training loop sees it: batches of freshly distorted digits, cross-entropy, the share of wrong answers.

use super::samples::samples;
use crate::data::distort::{Distortion, distorted_set};
use crate::data::{Dataset, Epochs, Purpose, rng};
use crate::experiments::classification::{cross_entropy, error_percent};
use crate::experiments::{Digits, TEST_SEED, VALIDATION_DRAW};
use crate::models::Network;
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::Tensor;
use std::collections::HashMap;

/// The test error of each of the seeded distortion draws.
pub(super) fn test_error_percent(
    network: &Network,
    data: Distortion,
    test: &Dataset,
    draws: usize,
) -> Result<Vec<f64>> {
    let one = |draw| error_on(network, &distorted_set(data, test, TEST_SEED, draw)?.0);
    (0..draws as u64).map(one).collect()
}

fn error_on(network: &Network, data: &Dataset) -> Result<f64> {
    error_percent(data, |images| Ok(network.forward(images, false)?.logits))
}

/// One run's network and data.
pub(super) struct MnistTrial<'a> {
    network: Network,
    distortion: Distortion,
    seed: u64,
    digits: &'a Digits,
    /// Distorted once.
    validation: Option<Dataset>,
    epochs: Epochs,
}

impl<'a> MnistTrial<'a> {
    /// Distorts the validation images; training images are distorted batch by batch.
    pub(super) fn new(
        network: Network,
        digits: &'a Digits,
        distortion: Distortion,
        batch: usize,
        seed: u64,
    ) -> Result<Self> {
        let validation = match &digits.validation {
            Some(digits) => Some(distorted_set(distortion, digits, TEST_SEED, VALIDATION_DRAW)?.0),
            None => None,
        };
        let epochs = Epochs::new(seed, digits.train.len(), batch)?;
        Ok(Self { network, distortion, seed, digits, validation, epochs })
    }
}

impl Task for MnistTrial<'_> {
    type Batch = Dataset;

    /// Every epoch has distortions of its own.
    fn batch(&self, step: usize) -> Result<Dataset> {
        let (train, side) = (&self.digits.train, self.distortion.canvas());
        let (epoch, indices) = self.epochs.at(step);
        let mut images = vec![0; indices.len() * side * side];
        for (image, &index) in images.chunks_exact_mut(side * side).zip(&indices) {
            let mut rng = rng(self.seed, Purpose::Distortion, epoch, u64::from(index));
            self.distortion.apply(train, index as usize, &mut rng, image);
        }
        let labels = indices.iter().map(|&index| train.labels[index as usize]).collect();
        Dataset::new(images, labels, 1, side, side)
    }

    fn loss(&self, batch: &Dataset) -> Result<Loss> {
        cross_entropy(batch, |images| Ok(self.network.forward(images, true)?.logits))
    }

    fn validate(&self) -> Result<Option<f64>> {
        self.validation.as_ref().map(|data| error_on(&self.network, data)).transpose()
    }
}

impl Trial for MnistTrial<'_> {
    fn test(&self, draws: usize) -> Result<Vec<f64>> {
        test_error_percent(&self.network, self.distortion, &self.digits.test, draws)
    }

    fn samples(&self) -> Result<HashMap<String, Tensor>> {
        if self.network.transformer().is_none() {
            return Ok(HashMap::new());
        }
        samples(&self.network, self.distortion, &self.digits.test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::data::Mnist;
    use crate::models::Model;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;

    #[test]
    fn a_batch_depends_on_the_step_alone_and_epochs_are_distorted_afresh() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..300)?, mnist.test.range(0..100)?);
        let budget = Budget { holdout: false, ..Budget::quick() };
        let digits = Digits::new(Mnist { train, test, source: mnist.source }, &budget)?;
        let trial = || {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            MnistTrial::new(Network::new(Model::Fcn, Distortion::R, vb)?, &digits, Distortion::R, 300, 7)
        };
        let whole = trial()?;
        let (first, second) = (whole.batch(0)?, whole.batch(1)?);
        assert_eq!(trial()?.batch(1)?, second, "out of nothing, as a resumed run does");
        let sorted = |batch: &Dataset| {
            let mut images: Vec<&[u8]> = (0..batch.len()).map(|i| batch.image(i)).collect();
            images.sort_unstable();
            images.concat()
        };
        assert!(sorted(&first) != sorted(&second), "the same digits, distorted otherwise");
        Ok(())
    }
}
