//! Expect the share of right answers to rise from chance to above 0.9 in 200 steps, some seconds: bars, upright or lying, somewhere in
//! a picture with noise, told apart by a linear classifier that sees them through a transformer.
//!
//! The idea: the loss of the classifier alone trains the transformer.

use candle_core::{D, DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::loss::cross_entropy;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stn_core::init::SeededVarMap;
use stn_core::localisation::conv_localisation;
use stn_core::ops::GridSampleConfig;
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup};
use stn_core::telemetry::observe;
use stn_core::transform::{Attention, Transform};
use stn_core::{SpatialTransformer, layers::linear};

fn main() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, device);
    let net = conv_localisation((1, 32, 32), &Attention.identity(), Default::default(), vb.pp("localisation"))?;
    let transformer = SpatialTransformer::new(net, Attention, (14, 14), GridSampleConfig::new(true));
    let classifier = linear(14 * 14, 2, vb.pp("classifier"))?;
    let mut adamw = AdamW::new(
        vec![ParamGroup::new(vars.trainable_vars())],
        AdamWConfig { lr: 2e-3, weight_decay: 0.0, ..Default::default() },
    )?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut right = 0.0;
    for step in 1..=200 {
        let (images, labels) = bars(64, &mut rng)?;
        let seen = transformer.forward_t(&images, true)?;
        let logits = classifier.forward(&seen.flatten_from(1)?)?;
        adamw.step(&cross_entropy(&logits, &labels)?.backward()?)?;
        right += logits.argmax(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()? / 25.0;
        if step % 25 == 0 {
            let grid = transformer.grid(&transformer.theta(&images.narrow(0, 0, 1)?, false)?)?;
            let window = observe(&grid, transformer.config().align_corners)?[0];
            println!(
                "step {step}: right {right:.2}; first window: scale {:.2}, {:.0} % outside",
                window.pose.scale[0],
                100.0 * window.outside
            );
            if step == 200 && right < 0.9 {
                candle_core::bail!("it has not learnt: only {right} right")
            }
            right = 0.0;
        }
    }
    Ok(())
}

/// Pictures of 32 x 32 with noise and a bar of 3 x 11 pixels somewhere, and whether it lies.
fn bars(n: usize, rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let (mut pixels, mut labels) = (vec![0f32; n * 32 * 32], vec![0u32; n]);
    for (image, label) in pixels.chunks_exact_mut(32 * 32).zip(&mut labels) {
        image.iter_mut().for_each(|pixel| *pixel = rng.random_range(0.0..0.3));
        *label = rng.random_range(0..2);
        let (height, width) = if *label == 1 { (3, 11) } else { (11, 3) };
        let (top, left) = (rng.random_range(0..=32 - height), rng.random_range(0..=32 - width));
        for row in image.chunks_exact_mut(32).skip(top).take(height) {
            row[left..left + width].fill(1.0);
        }
    }
    let device = &Device::Cpu;
    Ok((Tensor::from_vec(pixels, (n, 1, 32, 32), device)?, Tensor::from_vec(labels, n, device)?))
}

#[test]
fn learns() -> Result<()> {
    main()
}
