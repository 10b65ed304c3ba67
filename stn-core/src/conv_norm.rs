//! Convolution, batch normalisation and activation as one layer, in training with the batch's statistics or with frozen ones.

use crate::layers::HE_UNIFORM;
use crate::ops::{Activation, BatchNormed, Conv2dConfig, conv2d_batch_norm, conv2d_scaled};
use candle_core::{ModuleT, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

/// Which statistics a batch norm normalises with in training; in evaluation they are always the running ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statistics {
    /// Those of the batch, which also move the running ones.
    #[default]
    Batch,
    /// The running ones, which stay as they are: for fine-tuning on small batches. Scale and shift are trained all the same.
    Frozen,
}

/// The options of [`conv_norm`].
///
/// # Example
/// ```
/// use stn_core::conv_norm::{ConvNormConfig, Statistics};
/// use stn_core::ops::{Activation, Conv2dConfig};
/// let tensorflow = ConvNormConfig {
///     conv: Conv2dConfig::new().groups(32),
///     activation: Activation::Relu6,
///     eps: 1e-3,
///     momentum: 0.01,
///     statistics: Statistics::Frozen,
///     ..Default::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvNormConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// Whether the padding is TensorFlow's SAME, which depends on the image's size, in place of that of `conv`.
    pub same: bool,
    /// Whether the convolution has a bias, which the norm makes superfluous.
    pub bias: bool,
    /// What comes after the norm.
    pub activation: Activation,
    /// What is added to the variance: as the weights want it.
    pub eps: f64,
    /// How far a batch moves the running statistics.
    pub momentum: f64,
    /// Which statistics training normalises with.
    pub statistics: Statistics,
}

impl Default for ConvNormConfig {
    /// PyTorch's values: eps 1e-5, momentum 0.1; no bias, no activation.
    fn default() -> Self {
        Self {
            conv: Conv2dConfig::new(),
            same: false,
            bias: false,
            activation: Activation::None,
            eps: 1e-5,
            momentum: 0.1,
            statistics: Statistics::Batch,
        }
    }
}

/// A convolution, its batch norm and an activation.
///
/// With fixed statistics the norm is a factor and an offset for each filter: it is multiplied into the kernels, and the whole
/// layer is one pass over the maps, or nearly ([`conv2d_activated`](crate::ops::conv2d_activated)). The gradients of kernels, scale and shift come out through
/// that product. With those of the batch the layer is one operation too.
///
/// # Gradients
/// For the input, kernels, bias, scale and shift; through the batch's statistics where it is normalised with them.
#[derive(Debug, Clone)]
pub struct ConvNorm {
    weight: Tensor,       // (O, C / groups, kh, kw)
    bias: Option<Tensor>, // (O,)
    scale: Tensor,        // (O,)
    shift: Tensor,        // (O,)
    running_mean: Var,    // (O,)
    running_var: Var,     // (O,)
    config: ConvNormConfig,
}

/// Makes a layer with a kernel of (height, width); the tensors of the convolution are `weight` and, if it has one, `bias`, those of the norm `weight`,
/// `bias`, `running_mean` and `running_var`.
///
/// # Shapes
/// (N, `in_channels`, H, W) to (N, `out_channels`, H', W'); see [`conv2d`](crate::ops::conv2d).
///
/// # Errors
/// When the variables are missing or have other shapes, or the groups don't divide the channels. The layer runs on the CPU alone.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use stn_core::{conv_norm::conv_norm, init::SeededVarMap};
/// # fn main() -> candle_core::Result<()> {
/// let vars = SeededVarMap::new(0);
/// let vb = vars.var_builder(DType::F32, &Device::Cpu);
/// let layer = conv_norm(3, 8, (3, 3), Default::default(), vb.pp("conv"), vb.pp("bn"))?;
/// let map = layer.forward_t(&Tensor::rand(0f32, 1., (2, 3, 9, 9), &Device::Cpu)?, true)?;
/// assert_eq!(map.dims(), [2, 8, 7, 7]);
/// # Ok(())
/// # }
/// ```
pub fn conv_norm(
    in_channels: usize,
    out_channels: usize,
    (height, width): (usize, usize),
    cfg: ConvNormConfig,
    conv: VarBuilder,
    norm: VarBuilder,
) -> Result<ConvNorm> {
    let groups = cfg.conv.groups;
    if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
        bail!("conv_norm: the groups must divide the channels, got {in_channels} to {out_channels} in {groups} groups")
    }
    let constant = |name: &str, value: f64| norm.get_with_hints(out_channels, name, Init::Const(value));
    let bias = |vb: &VarBuilder| vb.get_with_hints(out_channels, "bias", Init::Const(0.0));
    Ok(ConvNorm {
        weight: conv.get_with_hints((out_channels, in_channels / groups, height, width), "weight", HE_UNIFORM)?,
        bias: if cfg.bias { Some(bias(&conv)?) } else { None },
        scale: constant("weight", 1.0)?,
        shift: constant("bias", 0.0)?,
        // A variable stays the one that it is, so that what moves it is saved with the others.
        running_mean: Var::from_tensor(&constant("running_mean", 0.0)?)?,
        running_var: Var::from_tensor(&constant("running_var", 1.0)?)?,
        config: cfg,
    })
}

impl ConvNorm {
    /// The layer's options.
    pub fn config(&self) -> &ConvNormConfig {
        &self.config
    }

    /// The convolution for these images.
    fn convolution(&self, xs: &Tensor) -> Result<Conv2dConfig> {
        let ConvNormConfig { conv, same, .. } = self.config;
        if !same {
            return Ok(conv);
        }
        let ((_, _, h, w), (_, _, kh, kw)) = (xs.dims4()?, self.weight.dims4()?);
        Ok(conv.same((h, w), (kh, kw)))
    }

    /// The maps normalised by their own statistics, which move the running ones.
    fn with_batch_statistics(&self, xs: &Tensor) -> Result<Tensor> {
        let ConvNormConfig { activation, eps, momentum, .. } = self.config;
        let (conv, norm) = ((&self.weight, self.bias.as_ref()), (&self.scale, &self.shift));
        let BatchNormed { output, mean, variance } =
            conv2d_batch_norm(xs, conv, self.convolution(xs)?, norm, eps, activation)?;
        let (n, _, h, w) = output.dims4()?;
        // As PyTorch: the running variance is that of the population, not of the sample.
        let count = (n * h * w) as f64;
        let variance = (variance * (count / (count - 1.0)))?;
        for (running, batch) in [(&self.running_mean, mean), (&self.running_var, variance)] {
            running.set(&((running.detach() * (1.0 - momentum))? + (batch * momentum)?)?)?;
        }
        Ok(output)
    }

    /// The maps normalised by the running statistics: convolution, offset and activation at once.
    fn with_running_statistics(&self, xs: &Tensor) -> Result<Tensor> {
        let ConvNormConfig { activation, eps, .. } = self.config;
        let deviation = (self.running_var.detach() + eps)?.sqrt()?;
        let factor = (&self.scale / deviation)?; // (O,)
        let mean = self.running_mean.detach();
        let offset = match &self.bias {
            Some(bias) => (bias - mean)?,
            None => mean.neg()?,
        };
        let offset = (&self.shift + (offset * &factor)?)?;
        conv2d_scaled(xs, &self.weight, self.convolution(xs)?, (&factor, &offset), activation)
    }
}

impl ModuleT for ConvNorm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        match self.config.statistics {
            Statistics::Batch if train => self.with_batch_statistics(xs),
            _ => self.with_running_statistics(xs),
        }
    }
}
