//! The columns of the table: what images are, how large, and what they are trained with.

use crate::budget::{Budget, OptimiserConfig};
use crate::data::birds::Crop;
use crate::models::backbone::BackboneKind;
use crate::named::by_id;
use crate::schedule::Schedule;
use anyhow::Result;
use stn_core::conv_norm::Statistics;

/// A column of Table 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// CUB, squares of 224 from 256 px.
    Px224,
    /// CUB, squares of 448 from 512 px; the localisation net sees them scaled down, windows are sampled one to one.
    Px448,
    /// Synthetic creatures, squares of 128 from 144 px, seen as those of 448 px are.
    Synthetic,
}

impl Setting {
    /// Every column.
    pub const ALL: [Self; 3] = [Self::Px224, Self::Px448, Self::Synthetic];

    /// The name in commands and paths.
    pub fn id(self) -> &'static str {
        match self {
            Self::Px224 => "224",
            Self::Px448 => "448",
            Self::Synthetic => "synthetic",
        }
    }

    /// What the images are, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Px224 => "CUB-200-2011 at 224 px",
            Self::Px448 => "CUB-200-2011 at 448 px",
            Self::Synthetic => "SYNTHETIC creatures, not CUB,",
        }
    }

    /// Whether the images are our own.
    pub fn is_synthetic(self) -> bool {
        self == Self::Synthetic
    }

    /// The square that networks see, and the picture that it is cut out of.
    pub fn crop(self) -> Crop {
        match self {
            Self::Px224 => Crop { side: 224, short: 256 },
            Self::Px448 => Crop { side: 448, short: 512 },
            Self::Synthetic => Crop { side: 128, short: 144 },
        }
    }

    /// Pixels of a side that a backbone sees.
    pub fn input(self) -> usize {
        match self {
            Self::Px224 | Self::Px448 => 224,
            Self::Synthetic => 64,
        }
    }

    /// The backbone unless another is asked for.
    pub fn backbone(self) -> BackboneKind {
        if self.is_synthetic() { BackboneKind::Small } else { BackboneKind::EfficientNetLite0 }
    }

    /// The probability of dropout before the classifier: that of A.6, and less for the small network, which has a tenth of the features to drop.
    pub fn dropout(self) -> f64 {
        if self.is_synthetic() { 0.2 } else { 0.7 }
    }

    /// A network that was trained on ImageNet keeps its statistics: batches are small, and so is the set.
    pub fn statistics(self) -> Statistics {
        if self.is_synthetic() { Statistics::Batch } else { Statistics::Frozen }
    }

    /// The budgets: those of fine-tuning, and those of a small network that starts from nothing.
    pub fn budgets(self) -> Vec<Budget> {
        let (steps, batch, lr) = if self.is_synthetic() { (2000, 64, 2e-3) } else { (560, 32, 5e-4) };
        let quick = Budget {
            name: "quick".into(),
            steps,
            batch,
            optimiser: OptimiserConfig::Adamw { lr, weight_decay: 0.01 },
            localisation_lr_scale: 0.1,
            localisation_fan_in: self.is_synthetic().then_some(1024),
            schedule: Schedule::OneCycle { warmup: 0.1 },
            holdout: false,
            test_draws: 1,
        };
        let full = Budget { name: "full".into(), steps: 5 * steps, ..quick.clone() };
        let paper = Budget {
            name: "paper".into(),
            steps: 30_000,
            batch: 256,
            optimiser: OptimiserConfig::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 1e-5 },
            localisation_lr_scale: 1e-4,
            localisation_fan_in: None,
            schedule: Schedule::Drops { at: [10_000, 20_000, 25_000], factor: 0.1 },
            ..quick.clone()
        };
        vec![quick, full, paper]
    }
}

impl std::str::FromStr for Setting {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        by_id("data set", s, Self::ALL, Self::id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_budget_is_the_papers() -> Result<()> {
        let paper = Budget::named("paper", Setting::Px224.budgets())?;
        assert_eq!((paper.steps, paper.batch, paper.localisation_lr_scale), (30_000, 256, 1e-4));
        let rates = [0, 9_999, 10_000, 20_000, 25_000].map(|step| paper.learning_rate(step));
        for (rate, expected) in rates.into_iter().zip([0.1, 0.1, 0.01, 1e-3, 1e-4]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        assert!(paper.describe().contains("SGD 0.1 with decay 0.00001"), "{}", paper.describe());
        Ok(())
    }

    #[test]
    fn an_image_is_a_backbones_input_or_twice_it() {
        for setting in Setting::ALL {
            let (side, input) = (setting.crop().side, setting.input());
            assert!(side == input || side == 2 * input);
            assert_eq!(setting.id().parse::<Setting>().unwrap(), setting);
        }
    }
}
