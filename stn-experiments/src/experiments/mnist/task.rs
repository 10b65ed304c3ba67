//! MNIST as the training loop sees it: batches of freshly distorted digits, cross-entropy, the share of wrong answers.

use super::{TEST_SEED, VALIDATION_DRAW};
use crate::budget::Budget;
use crate::data::distort::{Distortion, distorted_set};
use crate::data::{DataSource, Dataset, Mnist, Purpose, VALIDATION, epoch_order, rng};
use crate::models::Network;
use crate::train::{Loss, Task};
use anyhow::Result;
use candle_core::{D, Device, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Images of a batch in evaluation.
const EVALUATION_BATCH: usize = 250;

/// MNIST, split as a budget wants it, with the checksums that the settings hold.
#[derive(Debug)]
pub struct Digits {
    pub(super) train: Dataset,
    pub(super) validation: Option<Dataset>,
    pub(super) test: Dataset,
    pub(super) source: DataSource,
    pub(super) train_identity: String,
    pub(super) test_identity: String,
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

/// The test error of each of the seeded distortion draws.
pub(super) fn test_error_percent(
    network: &Network,
    data: Distortion,
    test: &Dataset,
    draws: usize,
) -> Result<Vec<f64>> {
    (0..draws as u64).map(|draw| error_percent(network, &distorted_set(data, test, TEST_SEED, draw)?.0)).collect()
}

/// One run's task.
pub(super) struct MnistTask<'a> {
    pub(super) network: Network,
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
pub(super) struct MnistBatch {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl<'a> MnistTask<'a> {
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
        let order = Mutex::new((u64::MAX, Arc::default()));
        Ok(Self { network, distortion, seed, batch, train: &digits.train, validation, order })
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;
    use candle_core::DType;
    use stn_core::init::SeededVarMap;

    #[test]
    fn a_batch_depends_on_the_step_alone_and_an_epoch_sees_every_image_once() -> Result<()> {
        let mnist = Mnist::embedded("asked for")?;
        let (train, test) = (mnist.train.range(0..600)?, mnist.test.range(0..100)?);
        let digits = Digits::new(
            Mnist { train, test, source: mnist.source },
            &Budget { holdout: false, ..Budget::mnist("quick", None)? },
        )?;
        let task = || {
            let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
            MnistTask::new(Network::new(Model::Fcn, Distortion::R, vb)?, &digits, Distortion::R, 100, 7)
        };
        // Across the edge of an epoch, in order, and out of nothing as a resumed run does.
        let whole = task()?;
        let batches = (0..13).map(|step| whole.batch(step)).collect::<Result<Vec<_>>>()?;
        for step in [5, 6, 12] {
            let alone = task()?.batch(step)?;
            assert!(alone.images == batches[step].images && alone.labels == batches[step].labels, "step {step}");
        }
        let labels = |epoch: usize| -> Vec<u8> {
            let mut labels: Vec<u8> = batches[6 * epoch..6 * epoch + 6].iter().flat_map(|b| b.labels.clone()).collect();
            labels.sort_unstable();
            labels
        };
        let mut all = digits.train.labels.clone();
        all.sort_unstable();
        assert!(labels(0) == all && labels(1) == all);
        assert!(batches[0].labels != batches[6].labels, "every epoch has its own order");
        Ok(())
    }
}
