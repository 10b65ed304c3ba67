//! Seeded initialisation: repeatable, independent of order, right statistics, all-or-nothing loading.

use candle_core::{DType, Device, ModuleT, Result, Tensor};
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use std::collections::HashMap;
use stn_core::init::{SeededVarMap, is_buffer};

fn draw(seed: u64, name: &str, shape: &[usize], init: Init) -> Result<Vec<f64>> {
    let vb = SeededVarMap::new(seed).var_builder(DType::F64, &Device::Cpu);
    vb.get_with_hints(shape, name, init)?.flatten_all()?.to_vec1()
}

const UNIFORM: Init = Init::Uniform { lo: -1.0, up: 3.0 };

fn mean_and_stdev(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Pins the bits: a change of the generator changes every result that was ever recorded.
#[test]
fn values_are_pinned() -> Result<()> {
    assert_eq!(draw(7, "fc.weight", &[3], UNIFORM)?, [1.3034354113631057, 2.6666573652743626, 1.1307985872928903]);
    let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
    assert_eq!(draw(7, "fc.weight", &[3], normal)?, [1.13424502302061, -0.65487876554399, -1.0094855482347702]);
    Ok(())
}

#[test]
fn values_depend_on_seed_and_name_alone() -> Result<()> {
    let values = draw(7, "fc.weight", &[4, 5], UNIFORM)?;
    assert_eq!(draw(7, "fc.weight", &[4, 5], UNIFORM)?, values);
    assert_ne!(draw(8, "fc.weight", &[4, 5], UNIFORM)?, values);
    assert_ne!(draw(7, "fd.weight", &[4, 5], UNIFORM)?, values);
    assert_ne!(draw(7, "thgiew.cf", &[4, 5], UNIFORM)?, values);

    let tensors = |order: [&str; 3]| {
        let vars = SeededVarMap::new(7);
        for name in order {
            candle_nn::linear(5, 4, vars.var_builder(DType::F64, &Device::Cpu).pp(name))?;
        }
        let vars = vars.vars().into_iter().map(|(name, var)| Ok((name, var.flatten_all()?.to_vec1::<f64>()?)));
        vars.collect::<Result<Vec<_>>>()
    };
    assert_eq!(tensors(["a", "b", "c"])?, tensors(["c", "a", "b"])?);
    Ok(())
}

/// An f32 model starts at the rounded values of its f64 twin.
#[test]
fn dtypes_agree() -> Result<()> {
    let vb = SeededVarMap::new(1).var_builder(DType::F32, &Device::Cpu);
    let single: Vec<f32> = vb.get_with_hints(100, "w", UNIFORM)?.to_vec1()?;
    let double = draw(1, "w", &[100], UNIFORM)?;
    assert_eq!(single, double.iter().map(|&v| v as f32).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn statistics() -> Result<()> {
    let shape = [64, 32, 5, 5]; // 51200 values: a mean's standard error is 0.0044 standard deviations
    let fan_in: f64 = 32.0 * 25.0;
    let kaiming = |dist, fan| Init::Kaiming { dist, fan, non_linearity: NonLinearity::ReLU };
    let root = 12f64.sqrt();
    let he = (2.0 / fan_in).sqrt();
    let cases = [
        (UNIFORM, 1.0, 4.0 / root, 2.0),
        (Init::Randn { mean: -2.0, stdev: 0.5 }, -2.0, 0.5, 3.0),
        (kaiming(NormalOrUniform::Uniform, FanInOut::FanIn), 0.0, he, 3f64.sqrt() * he),
        (kaiming(NormalOrUniform::Normal, FanInOut::FanIn), 0.0, he, 6.0 * he),
        (kaiming(NormalOrUniform::Normal, FanInOut::FanOut), 0.0, (2.0 / (64.0f64 * 25.0)).sqrt(), 1.0),
    ];
    for (init, mean, stdev, bound) in cases {
        let values = draw(3, "w", &shape, init)?;
        let (got_mean, got_stdev) = mean_and_stdev(&values);
        assert!((got_mean - mean).abs() < 0.02 * stdev, "{init:?}: mean {got_mean}");
        assert!((got_stdev / stdev - 1.0).abs() < 0.02, "{init:?}: standard deviation {got_stdev}");
        assert!(values.iter().all(|v| (v - mean).abs() <= bound), "{init:?}");
        if let Init::Randn { .. } = init {
            let within = values.iter().filter(|&v| (v - mean).abs() < stdev).count() as f64 / values.len() as f64;
            assert!((within - 0.6827).abs() < 0.01, "{within} within one standard deviation");
        }
        // Neighbours are unrelated, sines and cosines of one pair included.
        let products: f64 = values.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
        assert!(products.abs() / values.len() as f64 / (stdev * stdev) < 0.02, "{init:?}: correlated");
    }
    assert_eq!(draw(3, "w", &[2, 2], Init::Const(0.25))?, [0.25; 4]);
    assert_eq!(draw(3, "w", &[3], Init::Randn { mean: 0.0, stdev: 1.0 })?.len(), 3); // an odd count
    Ok(())
}

#[test]
fn buffers_are_not_parameters() -> Result<()> {
    assert!(is_buffer("bn.running_mean") && is_buffer("running_var") && !is_buffer("running_mean.weight"));
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, &Device::Cpu);
    let norm = candle_nn::batch_norm(3, 1e-5, vb.pp("bn"))?;
    let names = |vars: Vec<(String, candle_core::Var)>| vars.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(vars.trainable_vars()), ["bn.bias", "bn.weight"]);
    assert_eq!(names(vars.vars()), ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight"]);
    assert_eq!(vars.num_params(), 6);
    // The store and the layer share the statistics.
    norm.forward_t(&Tensor::arange(0f32, 24.0, &Device::Cpu)?.reshape((2, 3, 4))?, true)?;
    assert_ne!(vars.tensors()?["bn.running_mean"].to_vec1::<f32>()?, [0.0; 3]);
    Ok(())
}

#[test]
fn snapshot_and_load() -> Result<()> {
    let vars = SeededVarMap::new(0);
    candle_nn::linear(3, 2, vars.var_builder(DType::F32, &Device::Cpu))?;
    let snapshot = vars.tensors()?;
    let before = snapshot["weight"].to_vec2::<f32>()?;
    for (_, var) in vars.vars() {
        var.set(&var.zeros_like()?)?;
    }
    assert_eq!(snapshot["weight"].to_vec2::<f32>()?, before); // a copy
    vars.load(&snapshot)?;
    assert_eq!(vars.tensors()?["weight"].to_vec2::<f32>()?, before);

    // The variables' own tensors, and another dtype.
    let own: HashMap<_, _> = vars.vars().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    vars.load(&own)?;
    let double = snapshot.iter().map(|(name, t)| Ok((name.clone(), t.to_dtype(DType::F64)?)));
    vars.load(&double.collect::<Result<_>>()?)?;
    assert_eq!(vars.tensors()?["weight"].to_vec2::<f32>()?, before);
    Ok(())
}

#[test]
fn load_is_all_or_nothing() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, device);
    for name in ["a", "b", "c", "d"] {
        vb.get_with_hints(2, name, UNIFORM)?;
    }
    let before = vars.tensors()?;
    let zeros = |len: usize| Tensor::zeros(len, DType::F32, device);
    let saved = [("a", 2), ("d", 3), ("y", 2), ("x", 1)];
    let saved = saved.map(|(name, len)| Ok((name.to_string(), zeros(len)?))).into_iter().collect::<Result<_>>()?;
    let message = vars.load(&saved).expect_err("nothing fits").to_string();
    let expected = "load: missing [b, c]; unexpected [x, y]; wrong shape [d: expected [2], got [3]]";
    assert!(message.starts_with(expected), "{message}");
    for (name, tensor) in vars.tensors()? {
        assert_eq!(tensor.to_vec1::<f32>()?, before[&name].to_vec1::<f32>()?);
    }
    Ok(())
}

#[test]
fn same_name_is_the_same_variable() -> Result<()> {
    let device = &Device::Cpu;
    let vars = SeededVarMap::new(0);
    let vb = vars.var_builder(DType::F32, device);
    let first = vb.get((2, 3), "w")?;
    assert_eq!(vb.get((2, 3), "w")?.id(), first.id());
    assert_eq!(vb.get_unchecked("w")?.id(), first.id());
    assert!(vb.contains_tensor("w") && !vb.contains_tensor("v"));
    let message = vb.get((3, 2), "w").expect_err("another shape").to_string();
    assert!(message.starts_with("seeded var map: w is F32 [2, 3], got a request for F32 [3, 2]"), "{message}");
    let message = vars.var_builder(DType::F64, device).get((2, 3), "w").expect_err("another dtype").to_string();
    assert!(message.starts_with("seeded var map: w is F32 [2, 3], got a request for F64 [2, 3]"), "{message}");
    let message = SimpleBackend::get_unchecked(&vars, "v", DType::F32, device).expect_err("unknown").to_string();
    assert!(message.starts_with("seeded var map: no variable is named v; a new one needs its shape"), "{message}");
    Ok(())
}
