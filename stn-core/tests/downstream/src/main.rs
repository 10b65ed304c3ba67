//! Trains a spatial transformer with nothing but the public crates, and prints the loss before and after.

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use stn_core::init::SeededVarMap;
use stn_core::localisation::fc_localisation;
use stn_core::ops::GridSampleConfig;
use stn_core::optim::{Optimiser, ParamGroup, Sgd, SgdConfig};
use stn_core::transform::{Affine, Transform};
use stn_core::{SpatialTransformer, layers::linear};

fn main() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, device);
    let net = fc_localisation((1, 12, 12), &Affine.identity(), Default::default(), vb.pp("localisation"))?;
    let transformer = SpatialTransformer::new(net, Affine, (8, 8), GridSampleConfig::new(true));
    let classifier = linear(64, 4, vb.pp("classifier"))?;
    let mut sgd = Sgd::new(vec![ParamGroup::new(vars.trainable_vars())], SgdConfig { lr: 0.02, ..Default::default() })?;

    // Sixteen pictures, each with one bright quarter; which one is the label.
    let pixel = |image: usize, i: usize| {
        let quarter = 2 * (i / 12 / 6) + i % 12 / 6;
        if quarter == image % 4 { 1. } else { 0.1 * ((image * i) as f32).sin() }
    };
    let pixels = (0..16).flat_map(|image| (0..144).map(move |i| pixel(image, i))).collect();
    let images = Tensor::from_vec(pixels, (16, 1, 12, 12), device)?;
    let labels = Tensor::from_vec((0..16u32).map(|image| image % 4).collect(), 16, device)?;
    let mut losses = vec![];
    for _ in 0..30 {
        let seen = transformer.forward_t(&images, true)?;
        let loss = candle_nn::loss::cross_entropy(&classifier.forward(&seen.flatten_from(1)?)?, &labels)?;
        sgd.step(&loss.backward()?)?;
        losses.push(loss.to_scalar::<f32>()?);
    }
    println!("{} {}", losses[0], losses[losses.len() - 1]);
    Ok(())
}
