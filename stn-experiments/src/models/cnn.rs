//! The convolutional classifier, A.4, with its sides on images of 28 / 42 / 60 px:
//!
//! | layer | side |
//! |---|---|
//! | conv 9x9, ReLU | 20 / 34 / 52 |
//! | max-pool 2x2 | 10 / 17 / 26 |
//! | conv 7x7, ReLU | 4 / 11 / 20 |
//! | max-pool 2x2 | 2 / 5 / 10 |
//! | FC | 10 classes, 19 for addition |
//!
//! Behind the transformer of RTS and TC, whose output is halved: 21 -> 13 -> 7 -> 1 -> 1 and 30 -> 22 -> 11 -> 5 -> 2.
//!
//! Deviation: on 21 px the max-pools round up (13 -> 7), or the 7x7 kernel would not fit. Chainer, in which the public code that runs
//! this network is written, does so by default.

use crate::data::mnist::CLASSES;
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use stn_core::layers::{ConvBlock, Linear, conv_block, linear};
use stn_core::ops::{ConvBlockConfig, Pool2dConfig};

/// Two convolutions with max-pooling and a fully connected layer.
#[derive(Debug, Clone)]
pub struct Cnn {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc: Linear,
}

/// Makes the classifier of ten digits for images of `side` x `side` pixels with two layers of `width` filters.
///
/// # Errors
/// When the variables cannot be made.
pub fn cnn(side: usize, width: usize, vb: VarBuilder) -> Result<Cnn> {
    cnn_with((1, side), width, CLASSES, vb)
}

/// Makes the same classifier for (channels, side, side) images of other classes.
///
/// # Errors
/// When the variables cannot be made.
pub fn cnn_with((channels, side): (usize, usize), width: usize, classes: usize, vb: VarBuilder) -> Result<Cnn> {
    let ceil_mode = side == 21;
    let pooled = |n: usize| if ceil_mode { n.div_ceil(2) } else { n / 2 };
    let side = pooled(pooled(side - 8) - 6);
    let block = ConvBlockConfig::default().pool(Pool2dConfig::new(2).ceil_mode(ceil_mode));
    Ok(Cnn {
        conv1: conv_block(channels, width, 9, block, vb.pp("conv1"))?,
        conv2: conv_block(width, width, 7, block, vb.pp("conv2"))?,
        fc: linear(width * side * side, classes, vb.pp("fc"))?,
    })
}

impl Module for Cnn {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let xs = self.conv2.forward(&self.conv1.forward(images)?)?;
        self.fc.forward(&xs.flatten_from(1)?)
    }
}
