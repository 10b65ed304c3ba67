//! Convolution (alone, or with ReLU and pooling) and fully connected layers in candle-nn's manner, on this crate's kernels and initialised for ReLU networks.
//!
//! Weights are drawn uniformly within ±sqrt(6 / fan_in) (He et al. 2015) and biases start at zero; `candle_nn::conv2d` draws a
//! weight about two and a half times, and a bias five times, as wide as PyTorch does.

use crate::ops::{self, Conv2dConfig, ConvBlockConfig};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};

/// Weights uniform within ±sqrt(6 / fan_in).
pub const HE_UNIFORM: Init =
    Init::Kaiming { dist: NormalOrUniform::Uniform, fan: FanInOut::FanIn, non_linearity: NonLinearity::ReLU };

/// A convolution with a bias.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor, // (O, C / groups, k, k)
    bias: Tensor,   // (O,)
    config: Conv2dConfig,
}

impl Conv2d {
    /// Makes a layer of given tensors: `weight` (O, C / groups, kh, kw) and `bias` (O,).
    pub fn new(weight: Tensor, bias: Tensor, config: Conv2dConfig) -> Self {
        Self { weight, bias, config }
    }

    /// The kernels, (O, C / groups, kh, kw).
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
/// When the variables are missing or have other shapes, or the groups don't divide the channels. The layer runs on the CPU alone.
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
    let (weight, bias) = kernels(in_channels, out_channels, kernel, cfg, vb)?;
    Ok(Conv2d::new(weight, bias, cfg))
}

/// The variables of a convolution.
fn kernels(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<(Tensor, Tensor)> {
    if cfg.groups == 0 || !in_channels.is_multiple_of(cfg.groups) || !out_channels.is_multiple_of(cfg.groups) {
        candle_core::bail!(
            "conv2d: the groups must divide the channels, got {in_channels} to {out_channels} in {} groups",
            cfg.groups
        )
    }
    let shape = (out_channels, in_channels / cfg.groups, kernel, kernel);
    Ok((vb.get_with_hints(shape, "weight", HE_UNIFORM)?, vb.get_with_hints(out_channels, "bias", Init::Const(0.0))?))
}

/// A convolution with a bias, ReLU and, where there is one, max-pooling, computed in one pass.
#[derive(Debug, Clone)]
pub struct ConvBlock {
    weight: Tensor, // (O, C / groups, k, k)
    bias: Tensor,   // (O,)
    config: ConvBlockConfig,
}

impl ConvBlock {
    /// Makes a layer of given tensors: `weight` (O, C / groups, kh, kw) and `bias` (O,).
    pub fn new(weight: Tensor, bias: Tensor, config: ConvBlockConfig) -> Self {
        Self { weight, bias, config }
    }

    /// The kernels, (O, C / groups, kh, kw).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O,).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The layer's options.
    pub fn config(&self) -> &ConvBlockConfig {
        &self.config
    }
}

impl Module for ConvBlock {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::conv_block(xs, &self.weight, Some(&self.bias), self.config)
    }
}

/// Makes a convolution with a square kernel, ReLU and, where there is one, max-pooling; its tensors are `weight` and `bias`, those of a
/// [`conv2d`].
///
/// # Shapes
/// See [`ops::conv_block`].
///
/// # Errors
/// When the variables are missing or have other shapes, or the groups don't divide the channels. The layer runs on the CPU alone.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use stn_core::layers::conv_block;
/// use stn_core::ops::{ConvBlockConfig, Pool2dConfig};
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let block = conv_block(1, 32, 9, ConvBlockConfig::default().pool(Pool2dConfig::new(2)), vb.pp("conv1"))?;
/// let map = block.forward(&Tensor::zeros((4, 1, 28, 28), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(map.dims(), [4, 32, 10, 10]);
/// # Ok(())
/// # }
/// ```
pub fn conv_block(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    cfg: ConvBlockConfig,
    vb: VarBuilder,
) -> Result<ConvBlock> {
    let (weight, bias) = kernels(in_channels, out_channels, kernel, cfg.conv, vb)?;
    Ok(ConvBlock::new(weight, bias, cfg))
}

/// A fully connected layer with a bias.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor, // (out, in)
    bias: Tensor,   // (out,)
}

impl Linear {
    /// Makes a layer of given tensors: `weight` (out, in) and `bias` (out,).
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }

    /// The matrix, (out, in).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (out,).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The layer and a ReLU in one pass.
    ///
    /// # Errors
    /// Those of [`ops::linear_relu`].
    pub fn forward_relu(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear_relu(xs, &self.weight, &self.bias)
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::linear(xs, &self.weight, &self.bias)
    }
}

/// Makes a fully connected layer; its tensors are `weight` (out, in) and `bias` (out,).
///
/// # Shapes
/// (.., `in_dim`) to (.., `out_dim`).
///
/// # Errors
/// When the variables are missing or have other shapes.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use stn_core::layers::linear;
/// # fn main() -> candle_core::Result<()> {
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let (hidden, last) = (linear(784, 128, vb.pp("fc1"))?, linear(128, 10, vb.pp("fc2"))?);
/// let xs = Tensor::zeros((4, 784), DType::F32, &Device::Cpu)?;
/// assert_eq!(last.forward(&hidden.forward_relu(&xs)?)?.dims(), [4, 10]);
/// # Ok(())
/// # }
/// ```
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", HE_UNIFORM)?;
    let bias = vb.get_with_hints(out_dim, "bias", Init::Const(0.0))?;
    Ok(Linear::new(weight, bias))
}
