//! The fully connected classifier, A.4:
//!
//! | layer | output |
//! |---|---|
//! | flatten | channels * side * side |
//! | FC, ReLU | h |
//! | FC, ReLU | h |
//! | FC | 10 classes, 19 for addition |

use crate::data::mnist::CLASSES;
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use stn_core::layers::{Linear, linear};

/// Three fully connected layers.
#[derive(Debug, Clone)]
pub struct Fcn {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

/// Makes the classifier of ten digits for images of `side` x `side` pixels with two hidden layers of `width` units.
///
/// # Errors
/// When the variables cannot be made.
pub fn fcn(side: usize, width: usize, vb: VarBuilder) -> Result<Fcn> {
    fcn_with((1, side), width, CLASSES, vb)
}

/// Makes the same classifier for (channels, side, side) images of other classes.
///
/// # Errors
/// When the variables cannot be made.
pub fn fcn_with((channels, side): (usize, usize), width: usize, classes: usize, vb: VarBuilder) -> Result<Fcn> {
    Ok(Fcn {
        fc1: linear(channels * side * side, width, vb.pp("fc1"))?,
        fc2: linear(width, width, vb.pp("fc2"))?,
        fc3: linear(width, classes, vb.pp("fc3"))?,
    })
}

impl Module for Fcn {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let xs = self.fc1.forward_relu(&images.flatten_from(1)?)?;
        self.fc3.forward(&self.fc2.forward_relu(&xs)?)
    }
}
