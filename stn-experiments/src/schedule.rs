//! How the learning rate depends on the step: pure functions, so that a resumed run goes on as if it had not stopped.

use serde::{Deserialize, Serialize};

/// A learning-rate schedule, as a factor of the base rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// Rises linearly over the first `warmup` of the run (a share of 1), then falls to zero along a half cosine.
    OneCycle {
        /// The share of all steps over which the rate rises.
        warmup: f64,
    },
    /// Multiplies the rate by `factor` after every `every` steps.
    StepDecay {
        /// Steps between two falls.
        every: usize,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Multiplies the rate by `factor` at each of three steps.
    Drops {
        /// The steps from which on the rate is lower.
        at: [usize; 3],
        /// What the rate is multiplied by.
        factor: f64,
    },
}

impl Schedule {
    /// The factor of the base rate at `step` of `steps`.
    pub fn factor(self, step: usize, steps: usize) -> f64 {
        match self {
            Self::OneCycle { warmup } => {
                let rise = warmup * steps as f64;
                let at = step as f64 + 0.5;
                if at < rise {
                    return at / rise;
                }
                let share = (at - rise) / (steps as f64 - rise);
                0.5 * (1.0 + libm::cos(std::f64::consts::PI * share))
            }
            Self::Drops { at, factor } => libm::pow(factor, at.iter().filter(|&&drop| step >= drop).count() as f64),
            Self::StepDecay { every, factor } => libm::pow(factor, (step / every.max(1)) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_rises_to_one_and_falls_to_zero() {
        let schedule = Schedule::OneCycle { warmup: 0.1 };
        assert!(schedule.factor(0, 1000) < 0.01);
        assert!((schedule.factor(100, 1000) - 1.0).abs() < 1e-4);
        assert!(schedule.factor(999, 1000) < 1e-5);
        assert!((0..1000).all(|step| (0.0..=1.0).contains(&schedule.factor(step, 1000))));
    }

    #[test]
    fn the_paper_divides_by_ten_every_50_000_steps() {
        let schedule = Schedule::StepDecay { every: 50_000, factor: 0.1 };
        let factors = [0, 49_999, 50_000, 149_999].map(|step| schedule.factor(step, 150_000));
        assert_eq!(factors[0], 1.0);
        assert_eq!(factors[1], 1.0);
        assert!((factors[2] - 0.1).abs() < 1e-15 && (factors[3] - 0.01).abs() < 1e-15);
    }
}
