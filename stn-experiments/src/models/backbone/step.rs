use candle_core::{ModuleT, Result, Tensor};
use stn_core::conv_norm::ConvNorm;
use stn_core::ops::{Pool2dConfig, avg_pool2d, max_pool2d};

/// A step of a backbone: all that the three networks are made of.
#[derive(Debug, Clone)]
pub enum Step {
    /// Convolution, batch norm and activation.
    Conv(Box<ConvNorm>),
    /// Max-pooling.
    MaxPool(Pool2dConfig),
    /// Average-pooling; the zeros of the padding count.
    AvgPool(Pool2dConfig),
    /// Several ways side by side from the same map, their maps one after the other in the channels: an inception block.
    Branches(Vec<Vec<Step>>),
    /// A way round which the map is added: a residual block.
    Residual(Vec<Step>),
}

impl From<ConvNorm> for Step {
    fn from(conv: ConvNorm) -> Self {
        Self::Conv(Box::new(conv))
    }
}

/// Runs steps one after the other.
pub(super) fn run(steps: &[Step], xs: &Tensor, train: bool) -> Result<Tensor> {
    steps.iter().try_fold(xs.clone(), |xs, step| step.forward_t(&xs, train))
}

impl ModuleT for Step {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward_t(xs, train),
            Self::MaxPool(cfg) => max_pool2d(xs, *cfg),
            Self::AvgPool(cfg) => avg_pool2d(xs, *cfg),
            Self::Branches(branches) => {
                let maps = branches.iter().map(|steps| run(steps, xs, train)).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&maps, 1)
            }
            Self::Residual(steps) => run(steps, xs, train)? + xs,
        }
    }
}
