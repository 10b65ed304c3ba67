//! MNIST, split as a budget wants it.

use crate::budget::Budget;
use crate::data::{DataSource, Dataset, Mnist, Source, VALIDATION};
use crate::run::Origin;
use anyhow::Result;

/// The undistorted digits of an experiment, with the checksums that the settings hold.
#[derive(Debug)]
pub struct Digits {
    /// What is trained on.
    pub train: Dataset,
    /// Training images that are held out, where the budget wants it.
    pub validation: Option<Dataset>,
    /// The 10,000 test images.
    pub test: Dataset,
    /// Where they came from.
    pub source: DataSource,
    /// How many are trained on, in words.
    pub trained_on: String,
    /// SHA-256 of the training images.
    pub train_identity: String,
    /// SHA-256 of the test images.
    pub test_identity: String,
}

impl Digits {
    /// Loads MNIST, says where from, and splits it.
    ///
    /// # Errors
    /// When MNIST cannot be had.
    pub fn load(source: Source, offline: bool, budget: &Budget) -> Result<Self> {
        let mnist = Mnist::load(source, offline)?;
        crate::say!("MNIST from {}", mnist.source);
        Self::new(mnist, budget)
    }

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
        let trained_on = format!("{} images of {}", train.len(), mnist.source.images());
        Ok(Self {
            trained_on,
            train,
            validation,
            test: mnist.test,
            source: mnist.source,
            train_identity,
            test_identity,
        })
    }

    /// What a run's records say of the images; `protocol` says in words how validation and test sets are drawn from them.
    pub fn origin<'a>(&'a self, protocol: &'a str) -> Origin<'a> {
        let Self { source, trained_on, train_identity, test_identity, .. } = self;
        Origin { source, trained_on, train_identity, test_identity, protocol }
    }
}
