//! Convolution and fully connected layers in candle-nn's manner, on this crate's kernels and initialised for ReLU networks.
//!
//! Weights are drawn uniformly within ±sqrt(6 / fan_in) (He et al. 2015) and biases start at zero; `candle_nn::conv2d` draws a
//! weight about two and a half times, and a bias five times, as wide as PyTorch does.

use crate::ops::{self, Conv2dConfig};
use candle_core::{Module, Result, Tensor};
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};
use candle_nn::{Linear, VarBuilder};

/// Weights uniform within ±sqrt(6 / fan_in).
pub const HE_UNIFORM: Init =
    Init::Kaiming { dist: NormalOrUniform::Uniform, fan: FanInOut::FanIn, non_linearity: NonLinearity::ReLU };

/// A convolution with a bias.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor, // (O, C, k, k)
    bias: Tensor,   // (O,)
    config: Conv2dConfig,
}

impl Conv2d {
    /// Makes a layer of given tensors: `weight` (O, C, kh, kw) and `bias` (O,).
    pub fn new(weight: Tensor, bias: Tensor, config: Conv2dConfig) -> Self {
        Self { weight, bias, config }
    }

    /// The kernels, (O, C, kh, kw).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O,).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The layer's options.
    pub fn config(&self) -> &Conv2dConfig {
        &self.config
    }
}

impl Module for Conv2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::conv2d(xs, &self.weight, Some(&self.bias), self.config)
    }
}

/// Makes a convolution with a square kernel; its tensors are `weight` and `bias`.
///
/// # Shapes
/// (N, `in_channels`, H, W) to (N, `out_channels`, H', W'); see [`ops::conv2d`].
///
/// # Errors
/// When the variables are missing or have other shapes.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use stn_core::layers::conv2d;
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let conv = conv2d(1, 32, 9, Default::default(), vb.pp("conv1"))?;
/// let map = conv.forward(&Tensor::zeros((4, 1, 28, 28), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(map.dims(), [4, 32, 20, 20]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let weight = vb.get_with_hints((out_channels, in_channels, kernel, kernel), "weight", HE_UNIFORM)?;
    let bias = vb.get_with_hints(out_channels, "bias", Init::Const(0.0))?;
    Ok(Conv2d::new(weight, bias, cfg))
}

/// Makes a fully connected layer; its tensors are `weight` (out, in) and `bias` (out,).
///
/// # Shapes
/// (N, `in_dim`) to (N, `out_dim`).
///
/// # Errors
/// When the variables are missing or have other shapes.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", HE_UNIFORM)?;
    let bias = vb.get_with_hints(out_dim, "bias", Init::Const(0.0))?;
    Ok(Linear::new(weight, Some(bias)))
}
