//! Localisation nets: sizes, identity at the start, checkpoints, errors.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;
use std::collections::HashMap;
use stn_core::init::SeededVarMap;
use stn_core::localisation::{
    ConvLocalisationConfig, FcLocalisationConfig, conv_localisation, fc_localisation, regression,
};
use stn_core::transform::{Affine, Attention, Transform, Translation};

const F32: DType = DType::F32;

fn vars() -> (SeededVarMap, VarBuilder<'static>) {
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(F32, &Device::Cpu);
    (vars, vb)
}

fn image(n: usize, (c, h, w): (usize, usize, usize)) -> Result<Tensor> {
    Tensor::arange(0f32, (n * c * h * w) as f32, &Device::Cpu)?.sin()?.reshape((n, c, h, w))
}

/// The counts follow from the appendix: 32-32-6 units; 28 -> 14 -> 10 -> 5 -> 1, 42 -> 21 -> 17 -> 8 -> 4, 60 -> 30 ->
/// 26 -> 13 -> 9.
#[test]
fn sizes_of_the_paper() -> Result<()> {
    for (side, last) in [(28, 1), (42, 4), (60, 9)] {
        let (fc, vb) = vars();
        let net = fc_localisation((1, side, side), &Affine.identity(), FcLocalisationConfig::default(), vb)?;
        assert_eq!(net.forward(&image(2, (1, side, side))?)?.dims(), [2, 6]);
        assert_eq!(fc.num_params(), (side * side * 32 + 32) + (32 * 32 + 32) + (32 * 6 + 6));

        let (conv, vb) = vars();
        let net = conv_localisation((1, side, side), &Affine.identity(), ConvLocalisationConfig::default(), vb)?;
        assert_eq!(net.forward(&image(2, (1, side, side))?)?.dims(), [2, 6]);
        let convolutions = (20 * 25 + 20) + (20 * 20 * 25 + 20);
        assert_eq!(conv.num_params(), convolutions + (20 * last * last * 20 + 20) + (20 * 6 + 6));
    }
    Ok(())
}

#[test]
fn names_of_the_variables() -> Result<()> {
    let names = |vars: &SeededVarMap| vars.vars().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (fc, vb) = vars();
    fc_localisation((1, 4, 4), &[0.0], FcLocalisationConfig::default(), vb.pp("st"))?;
    let expected =
        ["st.fc1.bias", "st.fc1.weight", "st.fc2.bias", "st.fc2.weight", "st.regression.bias", "st.regression.weight"];
    assert_eq!(names(&fc), expected);
    let (conv, vb) = vars();
    conv_localisation((1, 28, 28), &[0.0], ConvLocalisationConfig::default(), vb)?;
    let layers = ["conv1", "conv2", "fc", "regression"];
    assert_eq!(names(&conv), layers.map(|layer| [format!("{layer}.bias"), format!("{layer}.weight")]).concat());
    Ok(())
}

/// Whatever the input, a new net gives the identity of its transform.
#[test]
fn starts_at_the_identity() -> Result<()> {
    let families: [Box<dyn Transform>; 3] =
        [Box::new(Affine), Box::new(Attention), Box::new(Translation { scale: 0.5 })];
    for family in families {
        let identity = family.identity();
        let in_shape = (2, 30, 41); // neither square nor even
        let fc = fc_localisation(in_shape, &identity, FcLocalisationConfig { hidden: 7, layers: 3 }, vars().1)?;
        let cfg = ConvLocalisationConfig { channels: 3, kernel: 3, hidden: 5, downsample: 1 };
        let conv = conv_localisation(in_shape, &identity, cfg, vars().1)?;
        let u = image(3, in_shape)?;
        for theta in [fc.forward(&u)?, conv.forward(&u)?] {
            assert_eq!(theta.to_vec2::<f32>()?, vec![identity.clone(); 3]);
        }
    }
    Ok(())
}

/// Without hidden layers the net is a linear function of the pixels.
#[test]
fn no_hidden_layers() -> Result<()> {
    let (map, vb) = vars();
    fc_localisation((1, 4, 5), &[0.5, 0.5], FcLocalisationConfig { hidden: 32, layers: 0 }, vb)?;
    assert_eq!(map.num_params(), 2 * 20 + 2);
    Ok(())
}

#[test]
fn identity_in_f64() -> Result<()> {
    let vb = SeededVarMap::new(0).var_builder(DType::F64, &Device::Cpu);
    let last = regression(3, &[0.25, -1.0], vb)?;
    let theta = last.forward(&Tensor::ones((1, 3), DType::F64, &Device::Cpu)?)?;
    assert_eq!(theta.to_vec2::<f64>()?, [[0.25, -1.0]]);
    Ok(())
}

/// The stock variable map starts at the identity as well.
#[test]
fn candle_var_map() -> Result<()> {
    let map = candle_nn::VarMap::new();
    let last = regression(3, &[1.0, 2.0], VarBuilder::from_varmap(&map, F32, &Device::Cpu))?;
    assert_eq!(last.bias().to_vec1::<f32>()?, [1.0, 2.0]);
    Ok(())
}

/// A trained bias is not set back: neither from a checkpoint, nor when a second net shares the variables.
#[test]
fn stored_bias_is_kept() -> Result<()> {
    let device = &Device::Cpu;
    let checkpoint = HashMap::from([
        ("weight".to_string(), Tensor::zeros((2, 3), F32, device)?),
        ("bias".to_string(), Tensor::new(&[5f32, 6.0], device)?),
    ]);
    let last = regression(3, &[1.0, 0.0], VarBuilder::from_tensors(checkpoint, F32, device))?;
    assert_eq!(last.bias().to_vec1::<f32>()?, [5.0, 6.0]);

    let (map, vb) = vars();
    regression(3, &[1.0, 0.0], vb.clone())?;
    for (_, var) in map.vars() {
        var.set(&var.ones_like()?.affine(3.0, 0.0)?)?;
    }
    let shared = regression(3, &[1.0, 0.0], vb)?;
    assert_eq!(shared.bias().to_vec1::<f32>()?, [3.0, 3.0]);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let starts_with = |error: candle_core::Error, expected: &str| {
        let message = error.to_string();
        assert!(message.starts_with(expected), "{message}");
    };
    let conv = |in_shape, cfg| conv_localisation(in_shape, &[0.0], cfg, vars().1);
    let cfg = ConvLocalisationConfig::default();
    // 27 -> 13 -> 9 -> 4: the second 5x5 finds nothing.
    starts_with(
        conv((1, 28, 27), cfg).expect_err("too small"),
        "conv_localisation: width 27, reduced by 2, is too small for two 5x5 convolutions and a pool",
    );
    starts_with(
        conv((1, 3, 28), cfg).expect_err("too small"),
        "conv_localisation: height 3, reduced by 2, is too small",
    );
    let error = conv((1, 28, 28), ConvLocalisationConfig { downsample: 0, ..cfg }).expect_err("no reduction by 0");
    starts_with(error, "conv_localisation: kernel and downsample must be at least 1, got");
    let net = conv((1, 28, 28), cfg)?;
    starts_with(
        net.forward(&image(2, (1, 28, 30))?).expect_err("wrong size"),
        "conv_localisation: input must be (N, 1, 28, 28), got [2, 1, 28, 30]",
    );
    let net = fc_localisation((3, 4, 4), &[0.0], FcLocalisationConfig::default(), vars().1)?;
    starts_with(
        net.forward(&image(2, (1, 4, 12))?).expect_err("wrong shape"),
        "fc_localisation: input must be (N, 3, 4, 4), got [2, 1, 4, 12]",
    );
    Ok(())
}
