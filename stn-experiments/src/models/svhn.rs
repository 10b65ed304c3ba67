//! The networks for house numbers, section 4.2 and A.5, on images of 64 or 128 px:
//!
//! | layer | output at 64 px | at 128 px | transformer before it |
//! |---|---|---|---|
//! | conv 5x5 x 48, ReLU, max-pool 2x2 | 32 | 64 | Single, Multi |
//! | conv 5x5 x 64, ReLU, dropout | 32 | 64 | Multi |
//! | conv 5x5 x 128, ReLU, max-pool 2x2, dropout | 16 | 32 | Multi |
//! | conv 5x5 x 160, ReLU, dropout | 16 | 32 | Multi |
//! | conv 5x5 x 192, ReLU, max-pool 2x2, dropout | 8 | 16 | |
//! | conv 5x5 x 192, ReLU, dropout | 8 | 16 | |
//! | conv 5x5 x 192, ReLU, max-pool 2x2, dropout | 4 | 8 | |
//! | conv 5x5 x 192, ReLU, dropout | 4 | 8 | |
//! | FC, ReLU, dropout, three times | 3072 | 3072 | |
//! | FC | 5 heads of 11 | 5 heads of 11 | |
//!
//! Convolutions are padded by 2 and keep the side. Dropout is 0.5, on every layer but the first convolution and the localisation nets.
//! A head's classes are the ten digits and "none".
//!
//! | localisation net of Single | of each transformer of Multi |
//! |---|---|
//! | conv 5x5 x 32, ReLU, max-pool 2x2 | FC 32, ReLU |
//! | conv 5x5 x 32, ReLU | FC 32, ReLU |
//! | FC 32, ReLU | FC 6 |
//! | FC 32, ReLU | |
//! | FC 6 | |
//!
//! Transformers are affine and bilinear, zeros outside, with `align_corners`; their output has the input's size. Which side of a pool its
//! layer's dropout stands on, the paper does not say: behind it there is less to drop.

use crate::named::by_id;
use candle_core::{Module, ModuleT, Result, Tensor, bail};
use candle_nn::VarBuilder;
use std::str::FromStr;
use stn_core::dropout::{Dropout, DropoutRng, dropout};
use stn_core::layers::{ConvBlock, Linear, conv_block, linear};
use stn_core::localisation::{FcLocalisation, fc_localisation, regression};
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, GridSampleConfig, Pool2dConfig};
use stn_core::transform::{Affine, Transform};
use stn_core::{SpatialTransformer, Transformed};

/// Digits that a number can have: as many heads.
pub const DIGITS: usize = 5;
/// Classes of a head: ten digits, and none.
pub const CLASSES: usize = 11;

/// A 5x5 convolution that keeps the side, and one that is followed by a pool.
const SAME: ConvBlockConfig = ConvBlockConfig { conv: Conv2dConfig::new().padding(2), pool: None };
const HALVED: ConvBlockConfig = SAME.pool(Pool2dConfig::new(2));
/// Whether a convolution is followed by a pool.
const POOLED: [bool; 8] = [true, false, true, false, true, false, true, false];

/// A row of Table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SvhnModel {
    /// No transformer.
    Cnn,
    /// A transformer with a convolutional localisation net on the image.
    Single,
    /// A transformer before each of the first four convolutions.
    Multi,
}

impl SvhnModel {
    /// Every row, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Cnn, Self::Single, Self::Multi];

    /// Names it as on the command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Single => "st-cnn-single",
            Self::Multi => "st-cnn-multi",
        }
    }

    /// Names it as the paper's table does.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cnn => "CNN",
            Self::Single => "ST-CNN Single",
            Self::Multi => "ST-CNN Multi",
        }
    }
}

impl FromStr for SvhnModel {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        by_id("model", s, Self::ALL, Self::id)
    }
}

/// The sizes of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvhnConfig {
    /// Pixels of a side of the image, a multiple of 16.
    pub side: usize,
    /// Filters of the convolutions.
    pub filters: [usize; 8],
    /// Units of each of the three fully connected layers.
    pub units: usize,
    /// Filters of each convolution of Single's localisation net.
    pub localisation_filters: usize,
    /// The probability of dropout.
    pub dropout: f64,
}

impl SvhnConfig {
    /// The paper's widths, for images of `side` x `side` pixels: 64 or 128.
    pub const fn new(side: usize) -> Self {
        let filters = [48, 64, 128, 160, 192, 192, 192, 192];
        Self { side, filters, units: 3072, localisation_filters: 32, dropout: 0.5 }
    }

    /// Scaled down to what a laptop trains in an hour or so: a quarter of the filters, of Single's localisation net too, a twelfth of the units, and no dropout, which so small a network cannot bear in so few
    /// steps.
    pub const fn narrow(side: usize) -> Self {
        let filters = [12, 16, 32, 40, 48, 48, 48, 48];
        Self { side, filters, units: 256, localisation_filters: 8, dropout: 0.0 }
    }
}

/// What a network says of a batch.
#[derive(Debug, Clone)]
pub struct SvhnPrediction {
    /// (N, 5, 11), before the softmax of each head.
    pub logits: Tensor,
    /// What the transformers did, from the image inwards.
    pub transformed: Vec<Transformed>,
    /// What each of them was given.
    pub inputs: Vec<Tensor>,
}

/// A network of Table 2.
#[derive(Debug, Clone)]
pub struct SvhnNetwork {
    convs: Vec<ConvLayer>,
    hidden: Vec<(Linear, Dropout)>,
    heads: Linear,
}

/// A convolution with what surrounds it.
#[derive(Debug, Clone)]
struct ConvLayer {
    transformer: Option<SpatialTransformer<Localisation, Affine>>,
    conv: ConvBlock,
    dropout: Option<Dropout>,
}

/// Makes a network; variables under `transformer1`, `conv1`, .., `fc1`, .. and `heads`.
///
/// All dropout masks come from `rng`, whose step the training loop sets.
///
/// # Errors
/// When the side is no multiple of 16, the dropout no probability, or the variables cannot be made.
pub fn svhn(model: SvhnModel, cfg: SvhnConfig, rng: &DropoutRng, vb: VarBuilder) -> Result<SvhnNetwork> {
    let mut side = cfg.side;
    if side == 0 || !side.is_multiple_of(16) {
        bail!("svhn: the side must be a multiple of 16, got {side}")
    }
    let mut channels = 3;
    let mut convs = Vec::with_capacity(cfg.filters.len());
    for (i, (filters, pooled)) in cfg.filters.into_iter().zip(POOLED).enumerate() {
        let (n, in_shape) = (i + 1, (channels, side, side));
        let localisation = match model {
            SvhnModel::Single if i == 0 => {
                Some(single_localisation(in_shape, cfg.localisation_filters, vb.pp("transformer1"))?)
            }
            SvhnModel::Multi if i < 4 => Some(multi_localisation(in_shape, vb.pp(format!("transformer{n}")))?),
            _ => None,
        };
        let sampler = GridSampleConfig::new(true);
        convs.push(ConvLayer {
            transformer: localisation.map(|net| SpatialTransformer::new(net, Affine, (side, side), sampler)),
            conv: conv_block(channels, filters, 5, if pooled { HALVED } else { SAME }, vb.pp(format!("conv{n}")))?,
            dropout: if i > 0 { Some(dropout(cfg.dropout, &format!("conv{n}"), rng)?) } else { None },
        });
        channels = filters;
        side = if pooled { side / 2 } else { side };
    }
    let mut features = channels * side * side;
    let mut hidden = Vec::with_capacity(3);
    for name in ["fc1", "fc2", "fc3"] {
        hidden.push((linear(features, cfg.units, vb.pp(name))?, dropout(cfg.dropout, name, rng)?));
        features = cfg.units;
    }
    Ok(SvhnNetwork { convs, hidden, heads: linear(features, DIGITS * CLASSES, vb.pp("heads"))? })
}

impl SvhnNetwork {
    /// Reads house numbers.
    ///
    /// # Shapes
    /// (N, 3, side, side) to logits (N, 5, 11).
    ///
    /// # Errors
    /// When the images have another size.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<SvhnPrediction> {
        let mut xs = images.clone();
        let (mut transformed, mut inputs) = (Vec::new(), Vec::new());
        for layer in &self.convs {
            if let Some(transformer) = &layer.transformer {
                let result = transformer.transform(&xs, train)?;
                inputs.push(std::mem::replace(&mut xs, result.output.clone()));
                transformed.push(result);
            }
            xs = layer.conv.forward(&xs)?;
            if let Some(dropout) = &layer.dropout {
                xs = dropout.forward_t(&xs, train)?;
            }
        }
        xs = xs.flatten_from(1)?;
        for (fc, dropout) in &self.hidden {
            xs = dropout.forward_t(&fc.forward_relu(&xs)?, train)?;
        }
        // Five heads side by side in one product.
        Ok(SvhnPrediction { logits: self.heads.forward(&xs)?.reshape(((), DIGITS, CLASSES))?, transformed, inputs })
    }
}

/// The loss of a batch: the sum of the five heads' cross-entropies, each the mean over the images.
///
/// # Shapes
/// logits (N, 5, 11), labels (N, 5) of classes 0 to 10 -> a scalar.
///
/// # Errors
/// When shapes differ.
pub fn svhn_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (n, digits, classes) = logits.dims3()?;
    if labels.dims() != [n, digits] {
        bail!("svhn_loss: labels must be ({n}, {digits}), got {:?}", labels.dims())
    }
    // The mean over all heads of all images, times the heads.
    let logits = logits.reshape((n * digits, classes))?;
    candle_nn::loss::cross_entropy(&logits, &labels.flatten_all()?)? * digits as f64
}

/// Either localisation net.
#[derive(Debug, Clone)]
enum Localisation {
    Single(Box<SingleLocalisation>),
    Multi(FcLocalisation),
}

impl Module for Localisation {
    fn forward(&self, u: &Tensor) -> Result<Tensor> {
        match self {
            Self::Single(net) => net.forward(u),
            Self::Multi(net) => net.forward(u),
        }
    }
}

fn multi_localisation(in_shape: (usize, usize, usize), vb: VarBuilder) -> Result<Localisation> {
    Ok(Localisation::Multi(fc_localisation(in_shape, &Affine.identity(), Default::default(), vb)?))
}

/// Two convolutions and two fully connected layers.
#[derive(Debug, Clone)]
struct SingleLocalisation {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc1: Linear,
    fc2: Linear,
    regression: Linear,
}

fn single_localisation(
    (channels, height, width): (usize, usize, usize),
    filters: usize,
    vb: VarBuilder,
) -> Result<Localisation> {
    let features = filters * (height / 2) * (width / 2);
    Ok(Localisation::Single(Box::new(SingleLocalisation {
        conv1: conv_block(channels, filters, 5, HALVED, vb.pp("conv1"))?,
        conv2: conv_block(filters, filters, 5, SAME, vb.pp("conv2"))?,
        fc1: linear(features, 32, vb.pp("fc1"))?,
        fc2: linear(32, 32, vb.pp("fc2"))?,
        regression: regression(32, &Affine.identity(), vb.pp("regression"))?,
    })))
}

impl Module for SingleLocalisation {
    fn forward(&self, u: &Tensor) -> Result<Tensor> {
        let xs = self.conv2.forward(&self.conv1.forward(u)?)?;
        let xs = self.fc1.forward_relu(&xs.flatten_from(1)?)?;
        self.regression.forward(&self.fc2.forward_relu(&xs)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Shape};
    use candle_nn::Init;
    use candle_nn::var_builder::SimpleBackend;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use stn_core::init::SeededVarMap;
    use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};

    /// Counts elements, and hands out zeros that take no memory.
    struct Counter(Arc<AtomicUsize>);

    impl SimpleBackend for Counter {
        fn get(&self, shape: Shape, _name: &str, _init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
            self.0.fetch_add(shape.elem_count(), Ordering::Relaxed);
            Tensor::zeros((), dtype, device)?.broadcast_as(shape)
        }

        fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
            bail!("no shape is known of {name}")
        }

        fn contains_tensor(&self, _name: &str) -> bool {
            false
        }
    }

    #[test]
    fn parameter_counts() -> Result<()> {
        for (model, side, expected) in [
            (SvhnModel::Cnn, 64, 32_820_951),
            (SvhnModel::Cnn, 128, 61_132_503),
            (SvhnModel::Single, 64, 32_820_951 + 1_077_926),
            (SvhnModel::Multi, 64, 32_820_951 + 5_116_952),
            (SvhnModel::Single, 128, 61_132_503 + 4_223_654),
            (SvhnModel::Multi, 128, 61_132_503 + 20_452_376),
        ] {
            let count = Arc::<AtomicUsize>::default();
            let vb = VarBuilder::from_backend(Box::new(Counter(count.clone())), DType::F32, Device::Cpu);
            svhn(model, SvhnConfig::new(side), &DropoutRng::new(0), vb)?;
            assert_eq!(count.load(Ordering::Relaxed), expected, "{model:?} at {side} px");
        }
        // Eight filters in the localisation net: 608 + 1,608 + 262,176 + 1,056 + 198 parameters.
        for (model, expected) in [(SvhnModel::Cnn, 614_175), (SvhnModel::Single, 614_175 + 265_646)] {
            let vars = SeededVarMap::new(0);
            svhn(model, SvhnConfig::narrow(64), &DropoutRng::new(0), vars.var_builder(DType::F32, &Device::Cpu))?;
            assert_eq!(vars.num_params(), expected, "{model:?}, narrow");
        }
        Ok(())
    }

    /// The network on 16 px, with few filters and units.
    fn small(model: SvhnModel, vars: &SeededVarMap) -> Result<SvhnNetwork> {
        let cfg = SvhnConfig { filters: [4; 8], units: 16, dropout: 0.1, ..SvhnConfig::new(16) };
        svhn(model, cfg, &DropoutRng::new(0), vars.var_builder(DType::F32, &Device::Cpu))
    }

    #[test]
    fn every_variable_gets_a_gradient_and_moves() -> Result<()> {
        for (model, transformers) in [(SvhnModel::Cnn, 0), (SvhnModel::Single, 1), (SvhnModel::Multi, 4)] {
            let vars = SeededVarMap::new(3);
            let network = small(model, &vars)?;
            let images = Tensor::from_iter((0..8 * 3 * 256).map(|i| (i as f32 * 0.37).sin()), &Device::Cpu)?;
            let images = images.reshape((8, 3, 16, 16))?;
            let labels = Tensor::from_iter((0..40u32).map(|i| i % 11), &Device::Cpu)?.reshape((8, 5))?;
            let before = vars.tensors()?;
            let config = SgdConfig { lr: 0.1, ..Default::default() };
            let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
            // The localisation nets' last layers start at zero: the layers before them get their gradient in the second step.
            for _ in 0..2 {
                let prediction = network.forward(&images, true)?;
                assert_eq!((prediction.logits.dims(), prediction.transformed.len()), (&[8, 5, 11][..], transformers));
                sgd.step(&svhn_loss(&prediction.logits, &labels)?.backward()?)?;
            }
            for (name, var) in vars.trainable_vars() {
                let moved = (var.as_tensor() - &before[&name])?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert!(moved.is_finite() && moved > 0.0, "{model:?}: {name} moved by {moved}");
            }
        }
        Ok(())
    }

    /// The paper: dropout after every layer but the first and the heads; pools of 2x2 after the first, third, fifth and seventh convolution.
    #[test]
    fn dropout_and_pools_are_where_the_paper_has_them() -> Result<()> {
        let vars = SeededVarMap::new(3);
        let (rng, vb) = (DropoutRng::new(0), vars.var_builder(DType::F32, &Device::Cpu));
        let network = svhn(SvhnModel::Cnn, SvhnConfig::narrow(64), &rng, vb)?;
        let dropped: Vec<bool> = network.convs.iter().map(|layer| layer.dropout.is_some()).collect();
        assert_eq!(dropped, [false, true, true, true, true, true, true, true]);
        assert_eq!(network.hidden.len(), 3, "each of which has dropout by its type");
        let mut xs = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
        let mut sides = Vec::new();
        for layer in &network.convs {
            xs = layer.conv.forward(&xs)?;
            sides.push(xs.dim(3)?);
        }
        assert_eq!(sides, [32, 32, 16, 16, 8, 8, 4, 4]);
        Ok(())
    }

    #[test]
    fn dropout_acts_in_training_alone_and_follows_the_step() -> Result<()> {
        let (vars, rng) = (SeededVarMap::new(3), DropoutRng::new(0));
        let cfg = SvhnConfig { filters: [4; 8], units: 16, ..SvhnConfig::new(16) };
        let network = svhn(SvhnModel::Cnn, cfg, &rng, vars.var_builder(DType::F32, &Device::Cpu))?;
        let images = Tensor::from_iter((0..4 * 3 * 256).map(|i| (i as f32 * 0.37).sin()), &Device::Cpu)?;
        let images = images.reshape((4, 3, 16, 16))?;
        let logits = |step: u64, train: bool| -> Result<Vec<f32>> {
            rng.set_step(step);
            network.forward(&images, train)?.logits.flatten_all()?.to_vec1()
        };
        assert_eq!(logits(0, false)?, logits(1, false)?);
        assert_eq!(logits(0, true)?, logits(0, true)?);
        assert_ne!(logits(0, true)?, logits(1, true)?);
        assert_ne!(logits(0, true)?, logits(0, false)?);
        Ok(())
    }

    #[test]
    fn the_loss_is_the_sum_of_the_heads() -> Result<()> {
        let logits = Tensor::from_iter((0..3 * 55).map(|i| (i as f64).sin()), &Device::Cpu)?.reshape((3, 5, 11))?;
        let labels = Tensor::from_iter((0..15u32).map(|i| i * i % 11), &Device::Cpu)?.reshape((3, 5))?;
        let mut sum = 0.0;
        for head in 0..5 {
            let (logits, labels) = (logits.narrow(1, head, 1)?.squeeze(1)?, labels.narrow(1, head, 1)?.squeeze(1)?);
            sum += candle_nn::loss::cross_entropy(&logits.contiguous()?, &labels.contiguous()?)?.to_scalar::<f64>()?;
        }
        assert!((svhn_loss(&logits, &labels)?.to_scalar::<f64>()? - sum).abs() < 1e-12);
        let error = svhn_loss(&logits, &labels.narrow(1, 0, 4)?).unwrap_err().to_string();
        assert!(error.starts_with("svhn_loss: labels must be (3, 5), got [3, 4]"), "{error}");
        Ok(())
    }

    #[test]
    fn a_side_that_the_pools_do_not_divide_is_refused() -> Result<()> {
        let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
        let made = svhn(SvhnModel::Cnn, SvhnConfig::new(54), &DropoutRng::new(0), vb);
        assert!(made.unwrap_err().to_string().starts_with("svhn: the side must be a multiple of 16, got 54"));
        Ok(())
    }
}
