//! Localisation nets: from an image or a feature map to the parameters of its transform.
//!
//! Any module from (N, C, H, W) to (N, P) serves. These are the two of the paper's appendix A.4, both ending in a
//! [`regression`] that starts at the identity.

use crate::layers::{self, ConvBlock, Linear};
use crate::ops::{ConvBlockConfig, Pool2dConfig, avg_pool2d};
use candle_core::{Module, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

/// Makes the last layer of a localisation net: zero weights, and the identity as bias.
///
/// Whatever the input, a new net gives `identity`. A bias that a checkpoint holds is left as it is, and `VarBuilder::zeros` counts as one that holds zeros:
/// all samples then lie on one point. With zero weights
/// the layers before this one get their first non-zero gradient in the second step.
///
/// # Shapes
///
/// (N, `in_dim`) -> (N, P), P the length of `identity`. Tensors `weight` (P, `in_dim`) and `bias` (P,).
///
/// # Errors
///
/// When the `VarBuilder` can't provide the tensors.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use stn_core::{init::SeededVarMap, localisation::regression, transform::{Affine, Transform}};
///
/// let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
/// let last = regression(32, &Affine.identity(), vb)?;
/// let theta = last.forward(&Tensor::ones((1, 32), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(theta.to_vec2::<f32>()?, [[1., 0., 0., 0., 1., 0.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn regression(in_dim: usize, identity: &[f32], vb: VarBuilder) -> Result<Linear> {
    let stored = vb.contains_tensor("bias");
    let weight = vb.get_with_hints((identity.len(), in_dim), "weight", Init::Const(0.0))?;
    let mut bias = vb.get_with_hints(identity.len(), "bias", Init::Const(0.0))?;
    if !stored {
        // Init has no kind for given values.
        let identity = Tensor::new(identity, bias.device())?.to_dtype(bias.dtype())?;
        if bias.is_variable() {
            Var::from_tensor(&bias)?.set(&identity)?;
        } else {
            bias = identity;
        }
    }
    Ok(Linear::new(weight, bias))
}

/// Configures a fully connected localisation net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FcLocalisationConfig {
    /// Units of a hidden layer.
    pub hidden: usize,
    /// Hidden layers before the regression. Whether the paper has two or three is not known; public code has two.
    pub layers: usize,
}

impl Default for FcLocalisationConfig {
    fn default() -> Self {
        Self { hidden: 32, layers: 2 }
    }
}

/// A fully connected localisation net (appendix A.4, ST-FCN).
///
/// The input is flattened; then FC-32 and ReLU, twice, and the [`regression`].
///
/// # Shapes
///
/// (N, C, H, W) -> (N, P).
#[derive(Debug, Clone)]
pub struct FcLocalisation {
    in_shape: (usize, usize, usize),
    hidden: Vec<Linear>,
    regression: Linear,
}

/// Makes a [`FcLocalisation`] for inputs of `in_shape` (C, H, W).
///
/// Its layers are `fc1`, `fc2`, .. and `regression`.
///
/// # Errors
///
/// When the `VarBuilder` can't provide the tensors.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use stn_core::{init::SeededVarMap, localisation::fc_localisation, transform::{Attention, Transform}};
///
/// let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
/// let net = fc_localisation((1, 28, 28), &Attention.identity(), Default::default(), vb)?;
/// let theta = net.forward(&Tensor::zeros((4, 1, 28, 28), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(theta.dims(), [4, 3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn fc_localisation(
    in_shape: (usize, usize, usize),
    identity: &[f32],
    cfg: FcLocalisationConfig,
    vb: VarBuilder,
) -> Result<FcLocalisation> {
    let (channels, height, width) = in_shape;
    let mut in_dim = channels * height * width;
    let mut hidden = Vec::with_capacity(cfg.layers);
    for i in 1..=cfg.layers {
        hidden.push(layers::linear(in_dim, cfg.hidden, vb.pp(format!("fc{i}")))?);
        in_dim = cfg.hidden;
    }
    let regression = regression(in_dim, identity, vb.pp("regression"))?;
    Ok(FcLocalisation { in_shape, hidden, regression })
}

impl Module for FcLocalisation {
    fn forward(&self, u: &Tensor) -> Result<Tensor> {
        check_input("fc_localisation", u, self.in_shape)?;
        let mut xs = u.flatten_from(1)?;
        for layer in &self.hidden {
            xs = layer.forward_relu(&xs)?;
        }
        self.regression.forward(&xs)
    }
}

/// Configures a convolutional localisation net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvLocalisationConfig {
    /// Filters of each of the two convolutions.
    pub channels: usize,
    /// Side of the filters.
    pub kernel: usize,
    /// Units of the fully connected layer.
    pub hidden: usize,
    /// By how much the input is reduced first, by averaging (the paper says only "downsampled"); 1 leaves it as it is.
    pub downsample: usize,
}

impl Default for ConvLocalisationConfig {
    fn default() -> Self {
        Self { channels: 20, kernel: 5, hidden: 20, downsample: 2 }
    }
}

/// A convolutional localisation net (appendix A.4, ST-CNN).
///
/// The input is averaged down 2x; then convolution 5x5 with 20 filters and ReLU, max-pool 2x2, the same convolution
/// again, FC-20 and ReLU, and the [`regression`]. The sides of an input of 28 pixels become 14, 10, 5, 1; of 42: 21,
/// 17, 8, 4; of 60: 30, 26, 13, 9.
///
/// # Shapes
///
/// (N, C, H, W) -> (N, P).
#[derive(Debug, Clone)]
pub struct ConvLocalisation {
    in_shape: (usize, usize, usize),
    downsample: usize,
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc: Linear,
    regression: Linear,
}

/// Makes a [`ConvLocalisation`] for inputs of `in_shape` (C, H, W).
///
/// Its layers are `conv1`, `conv2`, `fc` and `regression`.
///
/// # Errors
///
/// When the input is too small for the filters, or the `VarBuilder` can't provide the tensors. The net runs on the CPU alone; elsewhere
/// [`fc_localisation`] does.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use stn_core::{init::SeededVarMap, localisation::conv_localisation, transform::{Affine, Transform}};
///
/// let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
/// let net = conv_localisation((1, 42, 42), &Affine.identity(), Default::default(), vb)?;
/// let theta = net.forward(&Tensor::zeros((4, 1, 42, 42), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(theta.dims(), [4, 6]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv_localisation(
    in_shape: (usize, usize, usize),
    identity: &[f32],
    cfg: ConvLocalisationConfig,
    vb: VarBuilder,
) -> Result<ConvLocalisation> {
    let (in_channels, height, width) = in_shape;
    let (height, width) = (last_side("height", height, cfg)?, last_side("width", width, cfg)?);
    let (plain, pooled) = (ConvBlockConfig::default(), ConvBlockConfig::default().pool(Pool2dConfig::new(2)));
    let conv1 = layers::conv_block(in_channels, cfg.channels, cfg.kernel, pooled, vb.pp("conv1"))?;
    let conv2 = layers::conv_block(cfg.channels, cfg.channels, cfg.kernel, plain, vb.pp("conv2"))?;
    let fc = layers::linear(cfg.channels * height * width, cfg.hidden, vb.pp("fc"))?;
    let regression = regression(cfg.hidden, identity, vb.pp("regression"))?;
    Ok(ConvLocalisation { in_shape, downsample: cfg.downsample, conv1, conv2, fc, regression })
}

/// What the pools and convolutions leave of a side.
fn last_side(side: &str, size: usize, cfg: ConvLocalisationConfig) -> Result<usize> {
    if cfg.downsample == 0 || cfg.kernel == 0 {
        candle_core::bail!("conv_localisation: kernel and downsample must be at least 1, got {cfg:?}")
    }
    let convolved = |n: usize| (n + 1).checked_sub(cfg.kernel).filter(|&n| n > 0);
    match convolved(size / cfg.downsample).and_then(|n| convolved(n / 2)) {
        Some(n) => Ok(n),
        None => candle_core::bail!(
            "conv_localisation: {side} {size}, reduced by {}, is too small for two {k}x{k} convolutions and a pool",
            cfg.downsample,
            k = cfg.kernel,
        ),
    }
}

impl Module for ConvLocalisation {
    fn forward(&self, u: &Tensor) -> Result<Tensor> {
        check_input("conv_localisation", u, self.in_shape)?;
        let xs = match self.downsample {
            1 => u.clone(),
            k => avg_pool2d(u, Pool2dConfig::new(k))?,
        };
        let xs = self.conv2.forward(&self.conv1.forward(&xs)?)?;
        let xs = self.fc.forward_relu(&xs.flatten_from(1)?)?;
        self.regression.forward(&xs)
    }
}

fn check_input(net: &str, u: &Tensor, (channels, height, width): (usize, usize, usize)) -> Result<()> {
    match u.dims() {
        &[_, c, h, w] if (c, h, w) == (channels, height, width) => Ok(()),
        dims => candle_core::bail!("{net}: input must be (N, {channels}, {height}, {width}), got {dims:?}"),
    }
}
