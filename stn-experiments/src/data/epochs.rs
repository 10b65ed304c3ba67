//! The order of the training images: which of them a step sees.

use super::epoch_order;
use anyhow::{Result, ensure};
use std::sync::{Arc, Mutex, PoisonError};

/// Shuffled passes over `len` images in whole batches; every pass has an order of its own.
///
/// The last, incomplete batch of a pass is left out.
#[derive(Debug)]
pub struct Epochs {
    seed: u64,
    len: usize,
    batch: usize,
    /// The epoch that was last asked for, and its order.
    order: Mutex<(u64, Arc<Vec<u32>>)>,
}

impl Epochs {
    /// Passes over `len` images, `batch` a step, shuffled by the run's seed.
    ///
    /// # Errors
    ///
    /// When there are fewer images than a batch has.
    pub fn new(seed: u64, len: usize, batch: usize) -> Result<Self> {
        ensure!(
            batch <= len,
            "a batch of {batch} is more than the {len} training images; ask for a smaller one with --batch"
        );
        Ok(Self { seed, len, batch, order: Mutex::new((u64::MAX, Arc::default())) })
    }

    /// The epoch of a step and the indices of its images: functions of the step alone.
    pub fn at(&self, step: usize) -> (u64, Vec<u32>) {
        let steps = (self.len / self.batch.max(1)).max(1);
        let (epoch, start) = ((step / steps) as u64, step % steps * self.batch);
        (epoch, self.order(epoch)[start..start + self.batch].to_vec())
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.0 != epoch {
            *order = (epoch, Arc::new(epoch_order(self.seed, epoch, self.len)));
        }
        order.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_every_image_once_and_steps_stand_alone() -> Result<()> {
        let whole = Epochs::new(7, 600, 100)?;
        let steps: Vec<_> = (0..13).map(|step| whole.at(step)).collect();
        for step in [5, 6, 12] {
            assert_eq!(Epochs::new(7, 600, 100)?.at(step), steps[step]);
        }
        let seen = |epoch: u64| {
            let mut seen: Vec<u32> = steps.iter().filter(|s| s.0 == epoch).flat_map(|s| s.1.clone()).collect();
            seen.sort_unstable();
            seen
        };
        let all: Vec<u32> = (0..600).collect();
        assert!(seen(0) == all && seen(1) == all && seen(2).len() == 100);
        assert_ne!(steps[0].1, steps[6].1, "every epoch has its own order");
        Ok(())
    }

    #[test]
    fn fewer_images_than_a_batch_are_an_error() {
        let error = Epochs::new(0, 3, 256).unwrap_err().to_string();
        assert!(error.contains("a batch of 256 is more than the 3 training images"), "{error}");
        assert!(Epochs::new(0, 3, 3).is_ok());
    }
}
