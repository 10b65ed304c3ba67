//! BN-Inception (Ioffe and Szegedy 2015, *Batch Normalization*), the paper's network, as Caffe's published model and its PyTorch ports have it: 3x3 in pairs in
//! place of 5x5, convolutions with biases, pools rounded up.
//!
//! | layer | output at 224 px | channels |
//! |---|---|---|
//! | conv 7x7 x 64, stride 2; max-pool 3x3, stride 2 | 56 | 64 |
//! | conv 1x1 x 64; conv 3x3 x 192; max-pool 3x3, stride 2 | 28 | 192 |
//! | 3a, 3b: 1x1, 3x3, two 3x3, pool | 28 | 256, 320 |
//! | 3c: 3x3, two 3x3, max-pool, all halving | 14 | 576 |
//! | 4a, 4b, 4c, 4d | 14 | 576, 576, 608, 608 |
//! | 4e: halving | 7 | 1056 |
//! | 5a; 5b, whose pool takes the maximum | 7 | 1024, 1024 |
//!
//! Every convolution is followed by batch norm and ReLU. Names are those of the ports (`inception_3a_3x3_reduce`, `.._bn`).

use super::Step;
use candle_core::Result;
use candle_nn::VarBuilder;
use stn_core::conv_norm::{ConvNormConfig, Statistics, conv_norm};
use stn_core::ops::{Activation, Conv2dConfig, Pool2dConfig};

const HALVING: Step = Step::MaxPool(Pool2dConfig::new(3).stride(2).ceil_mode(true));
const AVERAGE: Step = Step::AvgPool(Pool2dConfig::new(3).stride(1).padding(1).ceil_mode(true));
const MAXIMUM: Step = Step::MaxPool(Pool2dConfig::new(3).stride(1).padding(1).ceil_mode(true));

/// A block's name and channels: of its input; 1x1; 3x3 and its reduction; two 3x3 and theirs; the pool's. A block without 1x1 halves the side, and its pool
/// has no convolution.
type Block = (&'static str, usize, usize, [usize; 2], [usize; 2], usize);
const BLOCKS: [Block; 10] = [
    ("3a", 192, 64, [64, 64], [64, 96], 32),
    ("3b", 256, 64, [64, 96], [64, 96], 64),
    ("3c", 320, 0, [128, 160], [64, 96], 0),
    ("4a", 576, 224, [64, 96], [96, 128], 128),
    ("4b", 576, 192, [96, 128], [96, 128], 128),
    ("4c", 576, 160, [128, 160], [128, 160], 128),
    ("4d", 608, 96, [128, 192], [160, 192], 128),
    ("4e", 608, 0, [128, 192], [192, 256], 0),
    ("5a", 1056, 352, [192, 320], [160, 224], 128),
    ("5b", 1024, 352, [192, 320], [192, 224], 128),
];

pub(super) fn steps(statistics: Statistics, vb: &VarBuilder) -> Result<Vec<Step>> {
    let layers = Layers { statistics, vb: vb.clone() };
    let mut steps = vec![
        layers.conv("conv1_7x7_s2", (3, 64), 7, 2)?,
        HALVING,
        layers.conv("conv2_3x3_reduce", (64, 64), 1, 1)?,
        layers.conv("conv2_3x3", (64, 192), 3, 1)?,
        HALVING,
    ];
    for block in BLOCKS {
        steps.push(layers.block(block)?);
    }
    Ok(steps)
}

/// Makes layers.
struct Layers<'a> {
    statistics: Statistics,
    vb: VarBuilder<'a>,
}

impl Layers<'_> {
    fn conv(&self, name: &str, (channels, out): (usize, usize), kernel: usize, stride: usize) -> Result<Step> {
        let cfg = ConvNormConfig {
            conv: Conv2dConfig::new().stride(stride).padding(kernel / 2),
            bias: true,
            activation: Activation::Relu,
            statistics: self.statistics,
            ..Default::default()
        };
        let norm = self.vb.pp(format!("{name}_bn"));
        Ok(conv_norm(channels, out, (kernel, kernel), cfg, self.vb.pp(name), norm)?.into())
    }

    fn block(&self, (block, channels, one, [reduce, three], [double_reduce, double], pooled): Block) -> Result<Step> {
        let stride = if one == 0 { 2 } else { 1 };
        let conv = |name: &str, sizes: (usize, usize), kernel: usize, stride: usize| {
            self.conv(&format!("inception_{block}_{name}"), sizes, kernel, stride)
        };
        let mut branches = vec![
            vec![conv("3x3_reduce", (channels, reduce), 1, 1)?, conv("3x3", (reduce, three), 3, stride)?],
            vec![
                conv("double_3x3_reduce", (channels, double_reduce), 1, 1)?,
                conv("double_3x3_1", (double_reduce, double), 3, 1)?,
                conv("double_3x3_2", (double, double), 3, stride)?,
            ],
        ];
        if one == 0 {
            branches.push(vec![HALVING]);
        } else {
            let pool = if block == "5b" { MAXIMUM } else { AVERAGE };
            branches.insert(0, vec![conv("1x1", (channels, one), 1, 1)?]);
            branches.push(vec![pool, conv("pool_proj", (channels, pooled), 1, 1)?]);
        }
        Ok(Step::Branches(branches))
    }
}
