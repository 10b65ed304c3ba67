//! Volumes as the training loop sees them: batches of freshly posed bodies, cross-entropy, the share of wrong answers.

use super::samples::samples;
use crate::data::distort::extrusion::{BodyPose, VOLUME_LEN, VOLUME_SIDE, volume_set};
use crate::data::{Dataset, Epochs, Purpose, rng};
use crate::experiments::classification::{cross_entropy, error_percent};
use crate::experiments::{Digits, TEST_SEED, VALIDATION_DRAW};
use crate::models::volume::VolumeNetwork;
use crate::run::Trial;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::Tensor;
use std::collections::HashMap;

/// Volumes that are drawn and classified at a time, in evaluation: 216,000 bytes each, and four times as much as numbers.
const EVALUATION_BATCH: usize = 100;

/// One run's network and data.
pub struct VolumeTrial<'a> {
    network: VolumeNetwork,
    seed: u64,
    digits: &'a Digits,
    epochs: Epochs,
}

impl<'a> VolumeTrial<'a> {
    /// Volumes are drawn batch by batch.
    ///
    /// # Errors
    /// When there are fewer digits than a batch has.
    pub fn new(network: VolumeNetwork, digits: &'a Digits, batch: usize, seed: u64) -> Result<Self> {
        Ok(Self { network, seed, digits, epochs: Epochs::new(seed, digits.train.len(), batch)? })
    }
}

/// The test error of each of the seeded draws of poses.
pub(super) fn test_error_percent(network: &VolumeNetwork, test: &Dataset, draws: usize) -> Result<Vec<f64>> {
    (0..draws as u64).map(|draw| error_on(network, test, draw)).collect()
}

/// The error on a draw of volumes in percent.
fn error_on(network: &VolumeNetwork, digits: &Dataset, draw: u64) -> Result<f64> {
    let mut sum = 0.0;
    for start in (0..digits.len()).step_by(EVALUATION_BATCH) {
        let range = start..(start + EVALUATION_BATCH).min(digits.len());
        let (volumes, _) = volume_set(digits, range, TEST_SEED, draw)?;
        sum += error_percent(&volumes, |volumes| Ok(network.forward(volumes)?.logits))? * volumes.len() as f64;
    }
    Ok(sum / digits.len().max(1) as f64)
}

impl Task for VolumeTrial<'_> {
    type Batch = Dataset;

    /// Every epoch has poses of its own.
    fn batch(&self, step: usize) -> Result<Dataset> {
        let train = &self.digits.train;
        let (epoch, indices) = self.epochs.at(step);
        let mut voxels = vec![0; indices.len() * VOLUME_LEN];
        for (volume, &index) in voxels.chunks_exact_mut(VOLUME_LEN).zip(&indices) {
            let mut rng = rng(self.seed, Purpose::Distortion, epoch, u64::from(index));
            BodyPose::random(&mut rng).draw(train.image(index as usize), volume);
        }
        let labels = indices.iter().map(|&index| train.labels[index as usize]).collect();
        Dataset::new(voxels, labels, VOLUME_SIDE, VOLUME_SIDE, VOLUME_SIDE)
    }

    fn loss(&self, batch: &Dataset) -> Result<Loss> {
        cross_entropy(batch, |volumes| Ok(self.network.forward(volumes)?.logits))
    }

    fn validate(&self) -> Result<Option<f64>> {
        self.digits.validation.as_ref().map(|digits| error_on(&self.network, digits, VALIDATION_DRAW)).transpose()
    }
}

impl Trial for VolumeTrial<'_> {
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
    use crate::models::volume::VolumeModel;
    use candle_core::{DType, Device};
    use stn_core::init::SeededVarMap;

    #[test]
    fn a_batch_depends_on_the_step_alone_and_epochs_are_posed_afresh() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..20)?, mnist.test.range(0..20)?);
        let budget = Budget { holdout: false, ..Budget::quick() };
        let digits = Digits::new(Mnist { train, test, source: mnist.source }, &budget)?;
        let trial = || {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            VolumeTrial::new(VolumeNetwork::new(VolumeModel::Cnn, vb)?, &digits, 20, 7)
        };
        let whole = trial()?;
        let (first, second) = (whole.batch(0)?, whole.batch(1)?);
        assert_eq!(trial()?.batch(1)?, second, "out of nothing, as a resumed run does");
        let sorted = |batch: &Dataset| {
            let mut volumes: Vec<&[u8]> = (0..batch.len()).map(|i| batch.image(i)).collect();
            volumes.sort_unstable();
            volumes.concat()
        };
        assert!(sorted(&first) != sorted(&second), "the same digits, posed otherwise");
        // Each draw of the test set poses the digits otherwise, and the same in every run.
        let (one, two) =
            (volume_set(&digits.test, 0..20, TEST_SEED, 0)?.0, volume_set(&digits.test, 0..20, TEST_SEED, 1)?.0);
        assert!(one != two && one == volume_set(&digits.test, 0..20, TEST_SEED, 0)?.0);
        assert_eq!(test_error_percent(&whole.network, &digits.test, 2)?.len(), 2);
        Ok(())
    }
}
