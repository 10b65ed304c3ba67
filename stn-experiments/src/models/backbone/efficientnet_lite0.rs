//! EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019): no squeeze-and-excitation, ReLU6 in place of swish, TensorFlow's SAME padding, eps 1e-3.
//!
//! | stage | layers | stride | output at 224 px |
//! |---|---|---|---|
//! | stem | conv 3x3 x 32 | 2 | 112 |
//! | 0 | depthwise 3x3, conv 1x1 x 16 | 1 | 112 |
//! | 1 | 2 inverted residuals 3x3 x 24, expanded 6-fold | 2 | 56 |
//! | 2 | 2 inverted residuals 5x5 x 40 | 2 | 28 |
//! | 3 | 3 inverted residuals 3x3 x 80 | 2 | 14 |
//! | 4 | 3 inverted residuals 5x5 x 112 | 1 | 14 |
//! | 5 | 4 inverted residuals 5x5 x 192 | 2 | 7 |
//! | 6 | 1 inverted residual 3x3 x 320 | 1 | 7 |
//! | head | conv 1x1 x 1280 | 1 | 7 |
//!
//! Every convolution is followed by batch norm and ReLU6, but for a block's last one, which is linear. An inverted residual is conv 1x1 that expands the
//! channels, depthwise convolution, conv 1x1; the block's input is added where sizes allow.

use super::Step;
use candle_core::Result;
use candle_nn::VarBuilder;
use stn_core::conv_norm::{ConvNorm, ConvNormConfig, Statistics, conv_norm};
use stn_core::ops::{Activation, Conv2dConfig};

/// (blocks, kernel, stride of the first, channels) of stages 1 to 6.
const STAGES: [(usize, usize, usize, usize); 6] =
    [(2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320)];
/// How many times as many channels an inverted residual has inside.
const EXPANSION: usize = 6;

pub(super) fn steps(statistics: Statistics, vb: &VarBuilder) -> Result<Vec<Step>> {
    let layers = Layers(statistics);
    let mut steps = vec![layers.conv((3, 32), 3, 2, vb.pp("conv_stem"), vb.pp("bn1"))?.into()];
    let first = vb.pp("blocks.0.0");
    steps.push(layers.depthwise(32, 3, 1, first.pp("conv_dw"), first.pp("bn1"))?.into());
    steps.push(layers.linear((32, 16), first.pp("conv_pw"), first.pp("bn2"))?.into());
    let mut channels = 16;
    for (stage, (blocks, kernel, stride, out)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let (vb, stride) = (vb.pp(format!("blocks.{}.{block}", stage + 1)), if block == 0 { stride } else { 1 });
            let inner = EXPANSION * channels;
            let way = vec![
                layers.conv((channels, inner), 1, 1, vb.pp("conv_pw"), vb.pp("bn1"))?.into(),
                layers.depthwise(inner, kernel, stride, vb.pp("conv_dw"), vb.pp("bn2"))?.into(),
                layers.linear((inner, out), vb.pp("conv_pwl"), vb.pp("bn3"))?.into(),
            ];
            if stride == 1 && channels == out {
                steps.push(Step::Residual(way));
            } else {
                steps.extend(way);
            }
            channels = out;
        }
    }
    steps.push(layers.conv((channels, 1280), 1, 1, vb.pp("conv_head"), vb.pp("bn2"))?.into());
    Ok(steps)
}

/// Makes the network's layers, which normalise training batches so.
struct Layers(Statistics);

impl Layers {
    fn config(&self, conv: Conv2dConfig, activation: Activation) -> ConvNormConfig {
        ConvNormConfig { conv, same: true, activation, eps: 1e-3, statistics: self.0, ..Default::default() }
    }

    fn conv(
        &self,
        (channels, out): (usize, usize),
        kernel: usize,
        stride: usize,
        conv: VarBuilder,
        norm: VarBuilder,
    ) -> Result<ConvNorm> {
        let cfg = self.config(Conv2dConfig::new().stride(stride), Activation::Relu6);
        conv_norm(channels, out, (kernel, kernel), cfg, conv, norm)
    }

    fn depthwise(
        &self,
        channels: usize,
        kernel: usize,
        stride: usize,
        conv: VarBuilder,
        norm: VarBuilder,
    ) -> Result<ConvNorm> {
        let cfg = self.config(Conv2dConfig::new().stride(stride).groups(channels), Activation::Relu6);
        conv_norm(channels, channels, (kernel, kernel), cfg, conv, norm)
    }

    fn linear(&self, (channels, out): (usize, usize), conv: VarBuilder, norm: VarBuilder) -> Result<ConvNorm> {
        conv_norm(channels, out, (1, 1), self.config(Conv2dConfig::new(), Activation::None), conv, norm)
    }
}
