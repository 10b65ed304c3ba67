//! Expect three lines: the model's output is what it was without transformers, their variables get gradients, and the loss falls.
//! Takes a second.
//!
//! The idea: transformers inside a `candle_nn::Sequential`, one on the image and one on a feature map.
//! A `Sequential` holds modules that don't know whether they train; a transformer is a `ModuleT`, so a closure says it.

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{Optimizer, SGD, VarBuilder, linear, seq};
use stn_core::SpatialTransformer;
use stn_core::init::SeededVarMap;
use stn_core::layers::conv2d;
use stn_core::localisation::fc_localisation;
use stn_core::ops::{GridSampleConfig, Pool2dConfig, max_pool2d};
use stn_core::transform::{Affine, Transform};

/// A small classifier of images (N, 1, 16, 16), as it might be there already; transformers are put into it where asked for.
fn model(vb: VarBuilder, with_transformers: bool) -> Result<candle_nn::Sequential> {
    let transformer = |shape, out_size, name: &str| {
        let net = fc_localisation(shape, &Affine.identity(), Default::default(), vb.pp(name))?;
        Ok::<_, candle_core::Error>(SpatialTransformer::new(net, Affine, out_size, GridSampleConfig::new(true)))
    };
    let mut layers = seq();
    if with_transformers {
        let on_the_image = transformer((1, 16, 16), (16, 16), "st1")?;
        layers = layers.add_fn(move |u| on_the_image.forward_t(u, true));
    }
    layers = layers.add(conv2d(1, 8, 3, Default::default(), vb.pp("conv"))?).add(candle_nn::Activation::Relu);
    layers = layers.add_fn(|u| max_pool2d(u, Pool2dConfig::new(2))); // (N, 8, 7, 7)
    if with_transformers {
        let on_the_features = transformer((8, 7, 7), (7, 7), "st2")?;
        layers = layers.add_fn(move |u| on_the_features.forward_t(u, true));
    }
    Ok(layers.add_fn(|u| u.flatten_from(1)).add(linear(8 * 7 * 7, 4, vb.pp("fc"))?))
}

fn main() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(0); // or Candle's own VarMap, whose values on the CPU differ from run to run
    let vb = vars.var_builder(DType::F32, device);
    let (without, with) = (model(vb.clone(), false)?, model(vb, true)?); // the two share convolution and classifier

    let images = Tensor::arange(0f32, 8. * 256., device)?.affine(0.37, 0.)?.sin()?.reshape((8, 1, 16, 16))?;
    let labels = Tensor::new(&[0u32, 1, 2, 3, 0, 1, 2, 3], device)?;
    let difference = (without.forward(&images)? - with.forward(&images)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    println!("new transformers are the identity: the output has changed by {difference:e}");

    let loss = || candle_nn::loss::cross_entropy(&with.forward(&images)?, &labels);
    let first = loss()?;
    let grads = first.backward()?;
    let vars: Vec<Var> = vars.trainable_vars().into_iter().map(|(_, var)| var).collect();
    let reached = vars.iter().filter(|var| grads.get(var).is_some()).count();
    println!("{reached} of 16 tensors have a gradient, 12 of them the transformers'");

    let mut sgd = SGD::new(vars, 0.05)?; // Candle's own
    for _ in 0..30 {
        sgd.backward_step(&loss()?)?;
    }
    let (first, last) = (first.to_scalar::<f32>()?, loss()?.to_scalar::<f32>()?);
    println!("loss {first:.3} -> {last:.3}");
    if difference > 1e-4 || reached != 16 || last.is_nan() || last >= first {
        candle_core::bail!("not as expected")
    }
    Ok(())
}

#[test]
fn runs() -> Result<()> {
    main()
}
