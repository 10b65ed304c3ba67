//! Inception-v3 (Szegedy et al. 2015, *Rethinking the Inception Architecture*), as torchvision and timm have it, without the auxiliary head; eps 1e-3.
//!
//! | layer | output at 299 px | at 224 px |
//! |---|---|---|
//! | conv 3x3 x 32, stride 2 | 149 | 111 |
//! | conv 3x3 x 32 | 147 | 109 |
//! | conv 3x3 x 64, padded; max-pool 3x3, stride 2 | 73 | 54 |
//! | conv 1x1 x 80; conv 3x3 x 192; max-pool 3x3, stride 2 | 35 | 25 |
//! | 5b to 5d: 1x1, 5x5, two 3x3, pool: 256, 288, 288 channels | 35 | 25 |
//! | 6a: halving, 768 | 17 | 12 |
//! | 6b to 6e: 1x1, 7x7 as 1x7 and 7x1, two of them, pool: 768 | 17 | 12 |
//! | 7a: halving, 1280 | 8 | 5 |
//! | 7b, 7c: 1x1, 3x3 and two 3x3, both parted in 1x3 and 3x1, pool: 2048 | 8 | 5 |
//!
//! Every convolution is followed by batch norm and ReLU. Convolutions and pools of stride 2 are not padded.

use super::Step;
use candle_core::Result;
use candle_nn::VarBuilder;
use stn_core::conv_norm::{ConvNormConfig, Statistics, conv_norm};
use stn_core::ops::{Activation, Conv2dConfig, Pool2dConfig, Sides};

const HALVING: Step = Step::MaxPool(Pool2dConfig::new(3).stride(2));
const AVERAGE: Step = Step::AvgPool(Pool2dConfig::new(3).stride(1).padding(1));

pub(super) fn steps(statistics: Statistics, vb: &VarBuilder) -> Result<Vec<Step>> {
    let layers = |vb| Layers { statistics, vb };
    let top = layers(vb.clone());
    let mut steps = vec![
        top.halving("Conv2d_1a_3x3", (3, 32))?,
        top.valid("Conv2d_2a_3x3", (32, 32), 3)?,
        top.conv("Conv2d_2b_3x3", (32, 64), (3, 3))?,
        HALVING,
        top.conv("Conv2d_3b_1x1", (64, 80), (1, 1))?,
        top.valid("Conv2d_4a_3x3", (80, 192), 3)?,
        HALVING,
    ];
    for (name, channels, pooled) in [("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)] {
        steps.push(layers(vb.pp(name)).a(channels, pooled)?);
    }
    steps.push(layers(vb.pp("Mixed_6a")).b(288)?);
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        steps.push(layers(vb.pp(name)).c(768, inner)?);
    }
    steps.push(layers(vb.pp("Mixed_7a")).d(768)?);
    for (name, channels) in [("Mixed_7b", 1280), ("Mixed_7c", 2048)] {
        steps.push(layers(vb.pp(name)).e(channels)?);
    }
    Ok(steps)
}

/// Makes layers under a name.
struct Layers<'a> {
    statistics: Statistics,
    vb: VarBuilder<'a>,
}

impl Layers<'_> {
    fn make(
        &self,
        name: &str,
        (channels, out): (usize, usize),
        kernel: (usize, usize),
        conv: Conv2dConfig,
    ) -> Result<Step> {
        let cfg = ConvNormConfig {
            conv,
            activation: Activation::Relu,
            eps: 1e-3,
            statistics: self.statistics,
            ..Default::default()
        };
        let vb = self.vb.pp(name);
        Ok(conv_norm(channels, out, kernel, cfg, vb.pp("conv"), vb.pp("bn"))?.into())
    }

    /// Padded so that the side stays.
    fn conv(&self, name: &str, sizes: (usize, usize), kernel: (usize, usize)) -> Result<Step> {
        let (y, x) = (kernel.0 / 2, kernel.1 / 2);
        let padding = Sides { top: y, bottom: y, left: x, right: x };
        self.make(name, sizes, kernel, Conv2dConfig { padding, ..Conv2dConfig::new() })
    }

    fn valid(&self, name: &str, sizes: (usize, usize), kernel: usize) -> Result<Step> {
        self.make(name, sizes, (kernel, kernel), Conv2dConfig::new())
    }

    fn halving(&self, name: &str, sizes: (usize, usize)) -> Result<Step> {
        self.make(name, sizes, (3, 3), Conv2dConfig::new().stride(2))
    }

    fn a(&self, channels: usize, pooled: usize) -> Result<Step> {
        Ok(Step::Branches(vec![
            vec![self.conv("branch1x1", (channels, 64), (1, 1))?],
            vec![self.conv("branch5x5_1", (channels, 48), (1, 1))?, self.conv("branch5x5_2", (48, 64), (5, 5))?],
            vec![
                self.conv("branch3x3dbl_1", (channels, 64), (1, 1))?,
                self.conv("branch3x3dbl_2", (64, 96), (3, 3))?,
                self.conv("branch3x3dbl_3", (96, 96), (3, 3))?,
            ],
            vec![AVERAGE, self.conv("branch_pool", (channels, pooled), (1, 1))?],
        ]))
    }

    fn b(&self, channels: usize) -> Result<Step> {
        Ok(Step::Branches(vec![
            vec![self.halving("branch3x3", (channels, 384))?],
            vec![
                self.conv("branch3x3dbl_1", (channels, 64), (1, 1))?,
                self.conv("branch3x3dbl_2", (64, 96), (3, 3))?,
                self.halving("branch3x3dbl_3", (96, 96))?,
            ],
            vec![HALVING],
        ]))
    }

    fn c(&self, channels: usize, inner: usize) -> Result<Step> {
        Ok(Step::Branches(vec![
            vec![self.conv("branch1x1", (channels, 192), (1, 1))?],
            vec![
                self.conv("branch7x7_1", (channels, inner), (1, 1))?,
                self.conv("branch7x7_2", (inner, inner), (1, 7))?,
                self.conv("branch7x7_3", (inner, 192), (7, 1))?,
            ],
            vec![
                self.conv("branch7x7dbl_1", (channels, inner), (1, 1))?,
                self.conv("branch7x7dbl_2", (inner, inner), (7, 1))?,
                self.conv("branch7x7dbl_3", (inner, inner), (1, 7))?,
                self.conv("branch7x7dbl_4", (inner, inner), (7, 1))?,
                self.conv("branch7x7dbl_5", (inner, 192), (1, 7))?,
            ],
            vec![AVERAGE, self.conv("branch_pool", (channels, 192), (1, 1))?],
        ]))
    }

    fn d(&self, channels: usize) -> Result<Step> {
        Ok(Step::Branches(vec![
            vec![self.conv("branch3x3_1", (channels, 192), (1, 1))?, self.halving("branch3x3_2", (192, 320))?],
            vec![
                self.conv("branch7x7x3_1", (channels, 192), (1, 1))?,
                self.conv("branch7x7x3_2", (192, 192), (1, 7))?,
                self.conv("branch7x7x3_3", (192, 192), (7, 1))?,
                self.halving("branch7x7x3_4", (192, 192))?,
            ],
            vec![HALVING],
        ]))
    }

    fn e(&self, channels: usize) -> Result<Step> {
        let parted = |a: &str, b: &str| -> Result<Step> {
            Ok(Step::Branches(vec![vec![self.conv(a, (384, 384), (1, 3))?], vec![self.conv(b, (384, 384), (3, 1))?]]))
        };
        Ok(Step::Branches(vec![
            vec![self.conv("branch1x1", (channels, 320), (1, 1))?],
            vec![self.conv("branch3x3_1", (channels, 384), (1, 1))?, parted("branch3x3_2a", "branch3x3_2b")?],
            vec![
                self.conv("branch3x3dbl_1", (channels, 448), (1, 1))?,
                self.conv("branch3x3dbl_2", (448, 384), (3, 3))?,
                parted("branch3x3dbl_3a", "branch3x3dbl_3b")?,
            ],
            vec![AVERAGE, self.conv("branch_pool", (channels, 192), (1, 1))?],
        ]))
    }
}
