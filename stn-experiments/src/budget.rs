//! How long and with what a network is trained: the three budgets that every experiment has.

use crate::schedule::Schedule;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The optimiser and its base learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimiserConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Base learning rate.
        lr: f64,
        /// Momentum; 0 for none.
        momentum: f64,
    },
    /// Adam with decoupled weight decay.
    Adamw {
        /// Base learning rate.
        lr: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
}

/// What a run may spend: steps, batch, optimiser and schedule, and which images it trains on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `quick`, `full`, `paper`, or `custom-<steps>`.
    pub name: String,
    /// Updates of the weights.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// The optimiser and its base learning rate.
    pub optimiser: OptimiserConfig,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Whether the last 5,000 training images are held out for validation; otherwise all 60,000 are trained on.
    pub holdout: bool,
    /// Seeded distortion draws of the test set that the test error is the mean of.
    pub test_draws: usize,
}

impl Budget {
    /// The names, in the order of what they cost.
    pub const NAMES: [&'static str; 3] = ["quick", "full", "paper"];

    /// The budget of that name for the MNIST experiments, with other `steps` if given (its name then is `custom-<steps>`).
    ///
    /// # Errors
    /// On an unknown name, and on zero steps.
    pub fn mnist(name: &str, steps: Option<usize>) -> Result<Self> {
        Self::named(name, steps, [Self::quick(), Self::full(), Self::paper()])
    }

    /// The budget of that name among an experiment's own, with other `steps` if given (its name then is `custom-<steps>`).
    ///
    /// # Errors
    /// On an unknown name, and on zero steps.
    pub fn named(name: &str, steps: Option<usize>, budgets: [Self; 3]) -> Result<Self> {
        let Some(mut budget) = budgets.into_iter().find(|budget| budget.name == name) else {
            bail!("unknown budget `{name}`; there are {}", Self::NAMES.join(", "))
        };
        match steps {
            Some(0) => bail!("a run needs at least one step, got --steps 0"),
            Some(steps) => {
                budget.steps = steps;
                budget.name = format!("custom-{steps}");
            }
            None => {}
        }
        Ok(budget)
    }

    /// About ten minutes for the two models of `stn reproduce mnist` on two cores. The values are a first choice that the validation error
    /// bears out, not the end of a search.
    fn quick() -> Self {
        Self {
            name: "quick".into(),
            steps: 10_000,
            batch: 256,
            optimiser: OptimiserConfig::Adamw { lr: 2e-3, weight_decay: 0.01 },
            schedule: Schedule::OneCycle { warmup: 0.1 },
            holdout: true,
            test_draws: 10,
        }
    }

    /// Our own schedule for every cell: 120 passes over all training images, with the values of `quick`.
    fn full() -> Self {
        Self { name: "full".into(), steps: 120 * 60_000 / 256, holdout: false, ..Self::quick() }
    }

    /// The paper's own, A.4: plain SGD, 150k steps of 256, 0.01 divided by ten every 50k.
    fn paper() -> Self {
        Self {
            name: "paper".into(),
            steps: 150_000,
            batch: 256,
            optimiser: OptimiserConfig::Sgd { lr: 0.01, momentum: 0.0 },
            schedule: Schedule::StepDecay { every: 50_000, factor: 0.1 },
            holdout: false,
            test_draws: 10,
        }
    }

    /// Steps, optimiser and schedule in words.
    pub fn describe(&self) -> String {
        let optimiser = match self.optimiser {
            OptimiserConfig::Sgd { lr, momentum: 0.0 } => format!("SGD {lr}"),
            OptimiserConfig::Sgd { lr, momentum } => format!("SGD {lr} with momentum {momentum}"),
            OptimiserConfig::Adamw { lr, weight_decay } => format!("AdamW {lr} with decay {weight_decay}"),
        };
        let schedule = match self.schedule {
            Schedule::OneCycle { .. } => "one cycle".into(),
            Schedule::StepDecay { every, factor } => format!("x {factor} every {every}"),
        };
        format!("{} steps of {}, {optimiser}, {schedule}", self.steps, self.batch)
    }

    /// The learning rate at a step.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let (OptimiserConfig::Sgd { lr, .. } | OptimiserConfig::Adamw { lr, .. }) = self.optimiser;
        lr * self.schedule.factor(step, self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_and_zero_steps_are_refused() {
        let error = Budget::mnist("fast", None).unwrap_err().to_string();
        assert_eq!(error, "unknown budget `fast`; there are quick, full, paper");
        assert!(Budget::mnist("quick", Some(0)).unwrap_err().to_string().contains("at least one step"));
    }

    #[test]
    fn other_steps_make_a_custom_budget() -> Result<()> {
        let budget = Budget::mnist("paper", Some(300))?;
        assert_eq!((budget.name.as_str(), budget.steps), ("custom-300", 300));
        assert_eq!(budget.optimiser, Budget::mnist("paper", None)?.optimiser);
        Ok(())
    }

    #[test]
    fn the_paper_budget_is_the_papers() -> Result<()> {
        let budget = Budget::mnist("paper", None)?;
        assert_eq!((budget.steps, budget.batch, budget.holdout), (150_000, 256, false));
        let rates = [0, 50_000, 100_000].map(|step| budget.learning_rate(step));
        assert!((rates[0] - 1e-2).abs() < 1e-12 && (rates[1] - 1e-3).abs() < 1e-12 && (rates[2] - 1e-4).abs() < 1e-12);
        Ok(())
    }
}
