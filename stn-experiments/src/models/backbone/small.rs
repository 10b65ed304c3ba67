//! A small network for synthetic images, trained from nothing: no published weights.
//!
//! | layer | output at 64 px |
//! |---|---|
//! | conv 3x3 x 32, stride 2 | 32 |
//! | conv 3x3 x 48 | 32 |
//! | conv 3x3 x 64, stride 2 | 16 |
//! | conv 3x3 x 96, stride 2 | 8 |
//! | conv 3x3 x 128 | 8 |
//!
//! Every convolution is followed by batch norm and ReLU.

use super::Step;
use candle_core::Result;
use candle_nn::VarBuilder;
use stn_core::conv_norm::{ConvNormConfig, Statistics, conv_norm};
use stn_core::ops::{Activation, Conv2dConfig};

/// Filters and stride of each convolution.
const LAYERS: [(usize, usize); 5] = [(32, 2), (48, 1), (64, 2), (96, 2), (128, 1)];

pub(super) fn steps(statistics: Statistics, vb: &VarBuilder) -> Result<Vec<Step>> {
    let (mut steps, mut channels) = (Vec::new(), 3);
    for (i, (filters, stride)) in LAYERS.into_iter().enumerate() {
        let cfg = ConvNormConfig {
            conv: Conv2dConfig::new().stride(stride).padding(1),
            activation: Activation::Relu,
            statistics,
            ..Default::default()
        };
        let vb = |what: &str| vb.pp(format!("{what}{}", i + 1));
        steps.push(conv_norm(channels, filters, (3, 3), cfg, vb("conv"), vb("bn"))?.into());
        channels = filters;
    }
    Ok(steps)
}
