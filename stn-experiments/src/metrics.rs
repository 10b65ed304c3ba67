//! Counts of right and wrong, and their mean and spread.

use serde::{Deserialize, Serialize};

/// Sums over some batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Examples seen.
    pub examples: usize,
    /// Examples classified wrongly.
    pub wrong: usize,
    /// The loss summed over the examples.
    pub loss: f64,
}

impl Tally {
    /// Adds a batch of `examples` with their mean loss.
    pub fn add(&mut self, examples: usize, wrong: usize, mean_loss: f64) {
        self.examples += examples;
        self.wrong += wrong;
        self.loss += mean_loss * examples as f64;
    }

    /// The share classified wrongly, in percent.
    pub fn error_percent(&self) -> f64 {
        100.0 * self.wrong as f64 / self.examples.max(1) as f64
    }

    /// The mean loss of an example.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.examples.max(1) as f64
    }
}

/// What a table shows. Records hold the error in percent, whatever the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The error in percent.
    Error,
    /// The share that is right, in percent.
    Correct,
}

impl Measure {
    /// Its name; with ` %` the heading of a column.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Correct => "correct",
        }
    }

    /// What the table shows for an error in percent.
    pub fn of(self, error_percent: f64) -> f64 {
        match self {
            Self::Error => error_percent,
            Self::Correct => 100.0 - error_percent,
        }
    }
}

/// A mean and how far single values lie from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the sample (n - 1); none for a single value.
    pub std: Option<f64>,
    /// How many values.
    pub count: usize,
}

impl Spread {
    /// The mean and standard deviation of some values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let std = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { mean, std, count })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.std {
            Some(std) => write!(f, "{:.2} ± {:.2}", self.mean, std),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_weighs_batches_by_their_size() {
        let mut tally = Tally::default();
        tally.add(100, 10, 1.0);
        tally.add(300, 10, 2.0);
        assert_eq!(tally.error_percent(), 5.0);
        assert_eq!(tally.mean_loss(), 1.75);
    }

    #[test]
    fn spread_is_that_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]).map(|s| s.to_string()), Some("3.00".into()));
        let spread = Spread::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.mean, spread.std), (2.0, Some(1.0)));
        assert_eq!(spread.to_string(), "2.00 ± 1.00");
    }
}
