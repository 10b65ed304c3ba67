//! Our side of the networks: a training step is forward, loss, backward and optimiser, as in the training loop.

use crate::ours::{Ours, noise};
use anyhow::Result;
use candle_core::{DType, Device, Module, ModuleT, Tensor};
use candle_nn::VarBuilder;
use candle_nn::loss::cross_entropy;
use stn_core::SpatialTransformer;
use stn_core::conv_norm::Statistics;
use stn_core::dropout::DropoutRng;
use stn_core::init::SeededVarMap;
use stn_core::layers::{ConvBlock, Linear, conv_block, linear};
use stn_core::localisation::regression;
use stn_core::ops::{ConvBlockConfig, GridSampleConfig, Pool2dConfig};
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup, Sgd, SgdConfig};
use stn_core::transform::{Affine, Transform};
use stn_experiments::data::Distortion;
use stn_experiments::models::backbone::{BackboneKind, backbone};
use stn_experiments::models::svhn::{SvhnConfig, SvhnModel, svhn, svhn_loss};
use stn_experiments::models::{Cnn, Model, Network, cnn};

/// So small that nothing moves far: every step does the work of the first.
const LR: f64 = 1e-6;

/// A transform with which no sample falls on a pixel's centre, as at the identity; PyTorch's side starts with the same.
const TILT: [f32; 6] = [0.9, -0.2, 0.05, 0.2, 0.9, -0.05];

type Forward = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send>;

/// A network of Table 1: forward alone, or a training step.
pub fn mnist(
    model: Model,
    data: Distortion,
    width: usize,
    full_resolution: bool,
    batch: usize,
    train: bool,
) -> Result<Ours> {
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, &Device::Cpu);
    let forward: Forward = if full_resolution {
        let network = full_resolution_network(width, vb)?;
        Box::new(move |images| Ok(network.1.forward(&network.0.forward_t(images, true)?)?))
    } else {
        let network = Network::with_width(model, data, width, vb)?;
        Box::new(move |images| Ok(network.forward(images, true)?.logits))
    };
    tilt(&vars)?;
    let images = noise((batch, 1, data.canvas(), data.canvas()))?;
    let params = vars.num_params();
    if !train {
        // As in evaluation: PyTorch is under `no_grad`, Candle keeps the graph until the output is dropped.
        return Ok(Ours { step: Box::new(move || forward(&images)), params });
    }
    let labels = Tensor::from_iter((0..batch as u32).map(|i| i % 10), &Device::Cpu)?;
    let config = AdamWConfig { lr: LR, weight_decay: 0.01, ..Default::default() };
    let mut optimiser = AdamW::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
    let step = move || {
        let logits = forward(&images)?;
        optimiser.step(&cross_entropy(&logits, &labels)?.backward()?)?;
        Ok(logits)
    };
    Ok(Ours { step: Box::new(step), params })
}

/// A training step on SVHN.
pub fn svhn_step(model: SvhnModel, side: usize, batch: usize) -> Result<Ours> {
    let (vars, masks) = (SeededVarMap::new(0), DropoutRng::new(0));
    let network = svhn(model, SvhnConfig::new(side), &masks, vars.var_builder(DType::F32, &Device::Cpu))?;
    tilt(&vars)?;
    let images = noise((batch, 3, side, side))?;
    let labels = Tensor::from_iter((0..batch as u32 * 5).map(|i| i % 11), &Device::Cpu)?.reshape((batch, 5))?;
    let config = SgdConfig { lr: LR, weight_decay: 5e-4, ..Default::default() };
    let mut optimiser = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
    let step = move || {
        masks.set_step(masks.step() + 1);
        let logits = network.forward(&images, true)?.logits;
        optimiser.step(&svhn_loss(&logits, &labels)?.backward()?)?;
        Ok(logits)
    };
    Ok(Ours { step: Box::new(step), params: vars.num_params() })
}

/// A backbone and a classifier on 224 px.
pub fn backbone_step(kind: BackboneKind, batch: usize, train: Option<Statistics>) -> Result<Ours> {
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, &Device::Cpu);
    let net = backbone(kind, train.unwrap_or_default(), vb.pp("net"))?;
    let classifier = linear(kind.channels(), 1000, vb.pp("classifier"))?;
    let (images, params) = (noise((batch, 3, 224, 224))?, vars.num_params());
    if train.is_none() {
        let images = images.detach();
        return Ok(Ours { step: Box::new(move || Ok(classifier.forward(&net.describe(&images, false)?)?)), params });
    }
    let labels = Tensor::from_iter(0..batch as u32, &Device::Cpu)?;
    let config = SgdConfig { lr: LR, ..Default::default() };
    let mut optimiser = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
    let step = move || {
        let logits = classifier.forward(&net.describe(&images, true)?)?;
        optimiser.step(&cross_entropy(&logits, &labels)?.backward()?)?;
        Ok(logits)
    };
    Ok(Ours { step: Box::new(step), params })
}

/// Sets the biases of all regression layers to the tilt, in the parameters of their family.
fn tilt(vars: &SeededVarMap) -> Result<()> {
    let [a, b, tx, c, d, ty] = TILT;
    for (_, bias) in vars.vars().into_iter().filter(|(name, _)| name.ends_with("regression.bias")) {
        let values = match bias.elem_count() {
            6 => TILT.to_vec(),
            8 => [&TILT[..], &[0.0, 0.0]].concat(),
            _ => bias
                .to_vec1::<f32>()?
                .chunks(2)
                .flat_map(|p| [a * p[0] + b * p[1] + tx, c * p[0] + d * p[1] + ty])
                .collect(),
        };
        bias.set(&Tensor::from_vec(values, bias.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// An ST-CNN Aff on R whose localisation net sees the whole image and has a second pool.
fn full_resolution_network(width: usize, vb: VarBuilder) -> Result<(SpatialTransformer<FullResolution, Affine>, Cnn)> {
    let loc = vb.pp("transformer");
    let pooled = ConvBlockConfig::default().pool(Pool2dConfig::new(2));
    let net = FullResolution {
        conv1: conv_block(1, 20, 5, pooled, loc.pp("conv1"))?,
        conv2: conv_block(20, 20, 5, pooled, loc.pp("conv2"))?,
        fc: linear(20 * 4 * 4, 20, loc.pp("fc"))?,
        regression: regression(20, &Affine.identity(), loc.pp("regression"))?,
    };
    let transformer = SpatialTransformer::new(net, Affine, (28, 28), GridSampleConfig::new(true));
    Ok((transformer, cnn(28, width, vb.pp("classifier"))?))
}

struct FullResolution {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc: Linear,
    regression: Linear,
}

impl Module for FullResolution {
    fn forward(&self, u: &Tensor) -> candle_core::Result<Tensor> {
        let xs = self.conv2.forward(&self.conv1.forward(u)?)?;
        self.regression.forward(&self.fc.forward_relu(&xs.flatten_from(1)?)?)
    }
}
