//! How long and with what a network is trained: an experiment's budgets, and changes to them.

use crate::schedule::Schedule;
use anyhow::{Result, bail, ensure};
use clap::Args;
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
        /// The part of each weight that is added to its gradient. Where it is 0, files do not speak of it.
        #[serde(default, skip_serializing_if = "is_zero")]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    Adamw {
        /// Base learning rate.
        lr: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
}

/// What differs from a named budget: to try other values, and to judge them on the validation images.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Changes {
    /// Another number of steps; the budget's name is then custom-, its own name and their number, and so on for the other changes
    #[arg(long)]
    pub steps: Option<usize>,
    /// Another number of images a step
    #[arg(long)]
    pub batch: Option<usize>,
    /// Another base learning rate
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Another weight decay
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Another ratio of the localisation nets' learning rate to the base
    #[arg(long, allow_negative_numbers = true)]
    pub localisation_lr_scale: Option<f64>,
    /// Another number of inputs above which a localisation net's fully connected layer gets a lower rate, by this over its inputs
    #[arg(long)]
    pub localisation_fan_in: Option<usize>,
    /// Hold training images out for validation: the last 5,000, of birds every sixth
    #[arg(long)]
    pub holdout: bool,
}

impl Changes {
    /// The options that ask for them, with their values.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Self { steps, batch, lr, weight_decay, localisation_lr_scale, localisation_fan_in, holdout } = self;
        let numbers = [("lr", lr), ("weight-decay", weight_decay), ("localisation-lr-scale", localisation_lr_scale)];
        let numbers = numbers.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?.to_string())));
        let counts = [("steps", steps), ("batch", batch), ("localisation-fan-in", localisation_fan_in)];
        let counts = counts.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?.to_string())));
        counts.chain(numbers).chain(holdout.then(|| ("holdout", String::new()))).collect()
    }
}

/// What a run may spend: steps, batch, optimiser and schedule, and which images it trains on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `quick`, `full`, `paper`, or `custom-` and what differs from these.
    pub name: String,
    /// Updates of the weights.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// The optimiser and its base learning rate.
    pub optimiser: OptimiserConfig,
    /// What localisation nets' learning rate is in terms of the others'. Where it is 1, files do not speak of it.
    #[serde(default = "same_rate", skip_serializing_if = "is_same_rate")]
    pub localisation_lr_scale: f64,
    /// Inputs above which a localisation net's fully connected layer gets a lower rate: times this over its inputs. AdamW moves every weight by
    /// about the rate, so what a unit says moves by the rate times its inputs: 49,152 of them where the net reads an image of 128 px.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localisation_fan_in: Option<usize>,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Whether training images are held out for validation, the last 5,000 or, of birds, every sixth; otherwise all are
    /// trained on.
    pub holdout: bool,
    /// Seeded distortion draws of the test set that the test error is the mean of.
    pub test_draws: usize,
}

impl Budget {
    /// The three budgets of the experiments on distorted MNIST.
    pub fn mnist() -> Vec<Self> {
        vec![Self::quick(), Self::full(), Self::paper()]
    }

    /// The budget of that name among an experiment's own.
    ///
    /// # Errors
    /// On an unknown name.
    pub fn named(name: &str, budgets: Vec<Self>) -> Result<Self> {
        let names = budgets.iter().map(|budget| budget.name.as_str()).collect::<Vec<_>>().join(", ");
        match budgets.into_iter().find(|budget| budget.name == name) {
            Some(budget) => Ok(budget),
            None if name == "paper" => {
                bail!("the paper does not say how long and with what rate it trained here; there are {names}")
            }
            None => bail!("unknown budget `{name}`; there are {names}"),
        }
    }

    /// The same with some values changed; its name then says which.
    ///
    /// # Errors
    /// On zero steps, images or inputs, and on rates that are not positive numbers.
    pub fn changed(mut self, changes: &Changes) -> Result<Self> {
        let Changes { steps, batch, lr, weight_decay, localisation_lr_scale, localisation_fan_in, holdout } = changes;
        if *changes == Changes::default() {
            return Ok(self);
        }
        ensure!(*steps != Some(0), "a run needs at least one step, got --steps 0");
        self.steps = steps.unwrap_or(self.steps);
        self.name = format!("custom-{}-{}", self.name, self.steps);
        if let Some(batch) = batch {
            ensure!(*batch > 0, "a step needs at least one image, got --batch 0");
            self.batch = *batch;
            self.name += &format!("-batch-{batch}");
        }
        for (option, rate) in [("lr", lr), ("localisation-lr-scale", localisation_lr_scale)] {
            if let Some(rate) = rate {
                ensure!(rate.is_finite() && *rate > 0.0, "a learning rate is a number above 0, got --{option} {rate}");
                self.name += &format!("-{option}-{rate}");
            }
        }
        if let Some(changed) = lr {
            let (OptimiserConfig::Sgd { lr, .. } | OptimiserConfig::Adamw { lr, .. }) = &mut self.optimiser;
            *lr = *changed;
        }
        if let Some(changed) = weight_decay {
            ensure!(
                changed.is_finite() && *changed >= 0.0,
                "a weight decay is 0 or more, got --weight-decay {changed}"
            );
            let (OptimiserConfig::Sgd { weight_decay, .. } | OptimiserConfig::Adamw { weight_decay, .. }) =
                &mut self.optimiser;
            *weight_decay = *changed;
            self.name += &format!("-weight-decay-{changed}");
        }
        self.localisation_lr_scale = localisation_lr_scale.unwrap_or(self.localisation_lr_scale);
        if let Some(inputs) = localisation_fan_in {
            ensure!(*inputs > 0, "a layer has at least one input, got --localisation-fan-in 0");
            self.localisation_fan_in = Some(*inputs);
            self.name += &format!("-localisation-fan-in-{inputs}");
        }
        if *holdout {
            self.holdout = true;
            self.name += "-holdout";
        }
        Ok(self)
    }

    /// About ten minutes for the two models of `stn reproduce mnist` on two cores. The values are a first choice that the validation error
    /// bears out, not the end of a search.
    pub fn quick() -> Self {
        Self {
            name: "quick".into(),
            steps: 10_000,
            batch: 256,
            optimiser: OptimiserConfig::Adamw { lr: 2e-3, weight_decay: 0.01 },
            localisation_lr_scale: 1.0,
            localisation_fan_in: None,
            schedule: Schedule::OneCycle { warmup: 0.1 },
            holdout: true,
            test_draws: 10,
        }
    }

    /// Our own schedule for every cell: 120 passes over all training images, with the values of `quick`.
    pub fn full() -> Self {
        Self { name: "full".into(), steps: 120 * 60_000 / 256, holdout: false, ..Self::quick() }
    }

    /// The paper's own, A.4: plain SGD, 150k steps of 256, 0.01 divided by ten every 50k.
    pub fn paper() -> Self {
        Self {
            name: "paper".into(),
            steps: 150_000,
            batch: 256,
            optimiser: OptimiserConfig::Sgd { lr: 0.01, momentum: 0.0, weight_decay: 0.0 },
            localisation_lr_scale: 1.0,
            localisation_fan_in: None,
            schedule: Schedule::StepDecay { every: 50_000, factor: 0.1 },
            holdout: false,
            test_draws: 10,
        }
    }

    /// Steps, optimiser and schedule in words.
    pub fn describe(&self) -> String {
        let optimiser = match self.optimiser {
            OptimiserConfig::Sgd { lr, momentum, weight_decay } => {
                let part = |name: &str, value: f64| if value == 0.0 { None } else { Some(format!("{name} {value}")) };
                let parts: Vec<_> =
                    [part("momentum", momentum), part("decay", weight_decay)].into_iter().flatten().collect();
                let with = if parts.is_empty() { String::new() } else { format!(" with {}", parts.join(" and ")) };
                format!("SGD {lr}{with}")
            }
            OptimiserConfig::Adamw { lr, weight_decay } => format!("AdamW {lr} with decay {weight_decay}"),
        };
        let schedule = match self.schedule {
            Schedule::OneCycle { .. } => "one cycle".into(),
            Schedule::Drops { at: [a, b, c], factor } => format!("x {factor} after {a}, {b} and {c}"),
            Schedule::StepDecay { every, factor } => format!("x {factor} every {every}"),
        };
        let mut localisation = match self.localisation_lr_scale {
            1.0 => String::new(),
            scale => format!(", localisation nets x {scale}"),
        };
        if let Some(fan_in) = self.localisation_fan_in {
            localisation += &format!(", their layers of more than {fan_in} inputs x {fan_in} / inputs");
        }
        format!("{} steps of {}, {optimiser}{localisation}, {schedule}", self.steps, self.batch)
    }

    /// A localisation net's learning rate in terms of the others', for the variable of it that has these dimensions.
    pub fn localisation_scale(&self, dims: &[usize]) -> f64 {
        match (self.localisation_fan_in, dims) {
            (Some(fan_in), &[_, inputs]) if inputs > fan_in => {
                self.localisation_lr_scale * fan_in as f64 / inputs as f64
            }
            _ => self.localisation_lr_scale,
        }
    }

    /// The learning rate at a step.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let (OptimiserConfig::Sgd { lr, .. } | OptimiserConfig::Adamw { lr, .. }) = self.optimiser;
        lr * self.schedule.factor(step, self.steps)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(decay: &f64) -> bool {
    *decay == 0.0
}

fn same_rate() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_same_rate(scale: &f64) -> bool {
    *scale == same_rate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_and_bad_values_are_refused() -> Result<()> {
        let error = Budget::named("fast", Budget::mnist()).unwrap_err().to_string();
        assert_eq!(error, "unknown budget `fast`; there are quick, full, paper");
        let error = Budget::named("paper", vec![Budget::quick()]).unwrap_err().to_string();
        assert!(error.contains("the paper does not say") && error.contains("quick"), "{error}");
        let refused = |changes: Changes| Budget::quick().changed(&changes).unwrap_err().to_string();
        assert!(refused(Changes { steps: Some(0), ..Changes::default() }).contains("at least one step"));
        assert!(refused(Changes { batch: Some(0), ..Changes::default() }).contains("--batch 0"));
        assert!(
            refused(Changes { localisation_fan_in: Some(0), ..Changes::default() }).contains("--localisation-fan-in 0")
        );
        assert!(refused(Changes { lr: Some(-1.0), ..Changes::default() }).contains("--lr -1"));
        assert!(refused(Changes { localisation_lr_scale: Some(f64::NAN), ..Changes::default() }).contains("NaN"));
        let decay = Changes { weight_decay: Some(-0.1), ..Changes::default() };
        assert!(refused(decay.clone()).contains("--weight-decay -0.1"));
        assert!(Budget::paper().changed(&decay).is_err());
        let decay = Changes { weight_decay: Some(5e-4), ..Changes::default() };
        assert!(Budget::paper().changed(&decay)?.describe().contains("SGD 0.01 with decay 0.0005"));
        Ok(())
    }

    #[test]
    fn changes_are_made_and_named() -> Result<()> {
        let full = Budget::named("full", Budget::mnist())?;
        assert_eq!(full.clone().changed(&Changes::default())?, full);
        let budget = Budget::paper().changed(&Changes { steps: Some(300), ..Changes::default() })?;
        assert_eq!((budget.name.as_str(), budget.steps), ("custom-paper-300", 300));
        assert_eq!(budget.optimiser, Budget::paper().optimiser);
        let changes = Changes {
            batch: Some(64),
            steps: None,
            lr: Some(1e-3),
            weight_decay: Some(0.2),
            localisation_lr_scale: Some(0.1),
            localisation_fan_in: Some(512),
            holdout: true,
        };
        let budget = full.changed(&changes)?;
        assert_eq!(
            budget.name,
            "custom-full-28125-batch-64-lr-0.001-localisation-lr-scale-0.1-weight-decay-0.2-localisation-fan-in-512-holdout"
        );
        assert_eq!(budget.optimiser, OptimiserConfig::Adamw { lr: 1e-3, weight_decay: 0.2 });
        assert!(budget.holdout && budget.batch == 64 && budget.describe().contains("localisation nets x 0.1"));
        assert_eq!(budget.localisation_fan_in, Some(512));
        Ok(())
    }

    #[test]
    fn wide_layers_of_localisation_nets_are_slowed_by_their_width() {
        let budget = Budget { localisation_lr_scale: 0.5, localisation_fan_in: Some(1024), ..Budget::quick() };
        let scales =
            [&[32, 4096][..], &[32, 1024], &[6, 32], &[4096], &[32, 3, 5, 5]].map(|d| budget.localisation_scale(d));
        assert_eq!(scales, [0.125, 0.5, 0.5, 0.5, 0.5]);
        assert_eq!(Budget::quick().localisation_scale(&[32, 4096]), 1.0);
        assert!(budget.describe().contains("more than 1024 inputs x 1024 / inputs"), "{}", budget.describe());
    }

    #[test]
    fn files_do_not_speak_of_equal_rates() -> Result<()> {
        let text = serde_json::to_string(&Budget::quick())?;
        assert!(!text.contains("localisation"));
        assert_eq!(serde_json::from_str::<Budget>(&text)?, Budget::quick());
        let slow = Budget { localisation_lr_scale: 0.1, ..Budget::quick() };
        assert_eq!(serde_json::from_str::<Budget>(&serde_json::to_string(&slow)?)?, slow);
        Ok(())
    }

    #[test]
    fn the_paper_budget_is_the_papers() {
        let budget = Budget::paper();
        assert_eq!((budget.steps, budget.batch, budget.holdout), (150_000, 256, false));
        let rates = [0, 50_000, 100_000].map(|step| budget.learning_rate(step));
        assert!((rates[0] - 1e-2).abs() < 1e-12 && (rates[1] - 1e-3).abs() < 1e-12 && (rates[2] - 1e-4).abs() < 1e-12);
    }
}
