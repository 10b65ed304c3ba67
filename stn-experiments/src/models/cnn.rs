//! The convolutional classifier, A.4, with its sides on images of 28 / 42 / 60 px:
//!
//! | layer | side |
//! |---|---|
//! | conv 9x9, ReLU | 20 / 34 / 52 |
//! | max-pool 2x2 | 10 / 17 / 26 |
//! | conv 7x7, ReLU | 4 / 11 / 20 |
//! | max-pool 2x2 | 2 / 5 / 10 |
//! | FC | 10 outputs |
//!
//! Behind the transformer of RTS and TC, whose output is halved: 21 -> 13 -> 7 -> 1 -> 1 and 30 -> 22 -> 11 -> 5 -> 2.
//!
//! Deviation: on 21 px the max-pools round up (13 -> 7), or the 7x7 kernel would not fit. Chainer, in which the public code that runs
//! this network is written, does so by default.

use crate::data::mnist::CLASSES;
use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder};
use stn_core::layers::{Conv2d, conv2d, linear};
use stn_core::ops::{Pool2dConfig, max_pool2d};

/// Two convolutions with max-pooling and a fully connected layer.
#[derive(Debug, Clone)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc: Linear,
    pool: Pool2dConfig,
}

/// Makes the classifier for images of `side` x `side` pixels with two layers of `width` filters.
///
/// # Errors
/// When the variables cannot be made.
pub fn cnn(side: usize, width: usize, vb: VarBuilder) -> Result<Cnn> {
    let ceil_mode = side == 21;
    let pooled = |n: usize| if ceil_mode { n.div_ceil(2) } else { n / 2 };
    let side = pooled(pooled(side - 8) - 6);
    Ok(Cnn {
        conv1: conv2d(1, width, 9, Default::default(), vb.pp("conv1"))?,
        conv2: conv2d(width, width, 7, Default::default(), vb.pp("conv2"))?,
        fc: linear(width * side * side, CLASSES, vb.pp("fc"))?,
        pool: Pool2dConfig::new(2).ceil_mode(ceil_mode),
    })
}

impl Module for Cnn {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // Pooling before the ReLU gives the same values and gradients as after it, on a quarter of the elements.
        let xs = max_pool2d(&self.conv1.forward(images)?, self.pool)?.relu()?;
        let xs = max_pool2d(&self.conv2.forward(&xs)?, self.pool)?.relu()?;
        self.fc.forward(&xs.flatten_from(1)?)
    }
}
