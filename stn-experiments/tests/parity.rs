//! The backbones against PyTorch's: `parity/references.py` makes the references.
//!
//! Two numbers of every gradient and running statistic are committed (`parity/goldens.json`); everything, number by number, is compared by
//! `STN_PARITY=FOLDER cargo test --release --test parity -- --ignored` with the folder that the script wrote.

use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, ModuleT, Tensor, Var};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stn_core::conv_norm::Statistics;
use stn_core::init::SeededVarMap;
use stn_core::ops::linear;
use stn_experiments::models::backbone::{
    Backbone, BackboneKind, backbone, backbone_weights, classifier_weights, put_weights,
};

/// A backbone and a classifier.
struct Classifier {
    vars: SeededVarMap,
    net: Backbone,
    weight: Var,
    bias: Var,
}

impl Classifier {
    fn new(kind: BackboneKind, dtype: DType, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let vars = SeededVarMap::new(0);
        let net = backbone(kind, Statistics::Batch, vars.var_builder(dtype, &Device::Cpu))?;
        let var = |t: &Tensor| Var::from_tensor(&t.to_dtype(dtype)?);
        Ok(Self { vars, net, weight: var(weight)?, bias: var(bias)? })
    }

    fn logits(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let map = self.net.forward_t(images, train)?;
        Ok(linear(&map.mean((2, 3))?, &self.weight, &self.bias)?)
    }

    /// Every parameter with its published name.
    fn parameters(&self) -> Vec<(String, Var)> {
        let classifier = self.net.kind().classifier();
        let mut all = self.vars.trainable_vars();
        all.push((format!("{classifier}.weight"), self.weight.clone()));
        all.push((format!("{classifier}.bias"), self.bias.clone()));
        all
    }

    /// Logits, loss and gradients of a cross-entropy.
    fn backward(&self, images: &Tensor, labels: &Tensor, train: bool) -> Result<(Tensor, f64, GradStore)> {
        let logits = self.logits(images, train)?;
        let loss = candle_nn::loss::cross_entropy(&logits, labels)?;
        let value = loss.to_scalar::<f64>()?;
        Ok((logits.detach(), value, loss.backward()?))
    }
}

fn largest(t: &Tensor) -> Result<f64> {
    Ok(t.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar()?)
}

/// The largest difference over the largest value.
fn relative(got: &Tensor, expected: &Tensor) -> Result<f64> {
    Ok(largest(&(got - expected)?)? / largest(expected)?.max(1e-300))
}

fn compare(kind: BackboneKind, folder: &Path) -> Result<()> {
    let file = folder.join("model.safetensors");
    let (weights, head) = (backbone_weights(kind, &file)?, classifier_weights(kind, &file)?);
    let refs = candle_core::safetensors::load(folder.join("references.safetensors"), &Device::Cpu)?;
    let get = |name: &str| refs.get(name).with_context(|| format!("no reference {name}"));
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();

    let single = Classifier::new(kind, DType::F32, &head.0, &head.1)?;
    put_weights(&single.vars, "", &weights)?;
    let logits = single.logits(&get("large")?.to_dtype(DType::F32)?, false)?;
    let off = largest(&(logits - get("large.logits.f32")?)?)?;
    let scale = largest(get("large.logits.f32")?)?;
    println!("{name}: f32 logits are off by {off:.1e}, of at most {scale:.2}");
    assert!(off < 1e-4 * scale.max(1.0), "{name}: f32 logits are off by {off}");

    let double = Classifier::new(kind, DType::F64, &head.0, &head.1)?;
    put_weights(&double.vars, "", &weights)?;
    let off = relative(&double.logits(get("large")?, false)?, get("large.logits")?)?;
    assert!(off < 1e-9, "{name}: f64 logits of 224 px are off by {off}");
    let labels = get("labels")?.to_dtype(DType::U32)?;
    for (mode, train) in [("eval", false), ("train", true)] {
        put_weights(&double.vars, "", &weights)?;
        let (logits, _, grads) = double.backward(get("images")?, &labels, train)?;
        let off = relative(&logits, get(&format!("{mode}.logits"))?)?;
        assert!(off < 1e-9, "{name}, {mode}: f64 logits are off by {off}");
        let (mut worst, mut where_) = (0.0, String::new());
        let parameters = double.parameters();
        // What is only added before a batch norm, the batch's mean takes away: such gradients are zero but for rounding, on either side.
        let largest_of_all = parameters.iter().map(|(p, _)| largest(get(&format!("{mode}.grad.{p}"))?));
        let floor = 1e-8 * largest_of_all.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
        for (parameter, var) in &parameters {
            let expected = get(&format!("{mode}.grad.{parameter}"))?;
            let got = grads.get(var).with_context(|| format!("no gradient of {parameter}"))?;
            let off = largest(&(got - expected)?)? / largest(expected)?.max(floor);
            if off > worst {
                (worst, where_) = (off, parameter.clone());
            }
        }
        println!("{name}, {mode}: {} gradients, off by {worst:.1e} at most, relative ({where_})", parameters.len());
        assert!(worst < 1e-6, "{name}, {mode}: the gradient of {where_} is off by {worst}");
        assert_eq!(parameters.len(), refs.keys().filter(|k| k.starts_with(&format!("{mode}.grad."))).count());
    }
    let after = double.vars.tensors()?;
    let mut statistics = 0;
    for (buffer, expected) in refs.iter().filter_map(|(name, t)| Some((name.strip_prefix("after.")?, t))) {
        // Some means are zero but for rounding.
        let off = largest(&(&after[buffer] - expected)?)? / largest(expected)?.max(1e-3);
        assert!(off < 1e-9, "{name}: {buffer} is off by {off} after training");
        statistics += 1;
    }
    println!("{name}: {statistics} running statistics");
    let buffers = after.len() - double.vars.trainable_vars().len();
    assert!(statistics == buffers && buffers > 0, "{name}: {statistics} of {buffers} running statistics are compared");
    Ok(())
}

#[test]
#[ignore = "reads the folder that parity/references.py has written and STN_PARITY names"]
fn every_gradient_is_pytorchs() -> Result<()> {
    let folder = std::env::var_os("STN_PARITY").context("STN_PARITY names no folder; see parity/references.py")?;
    let folder = PathBuf::from(folder);
    for kind in BackboneKind::PUBLISHED {
        compare(kind, &folder.join(kind.id()))?;
    }
    let real = folder.join("lite0-imagenet");
    if real.exists() { compare(BackboneKind::EfficientNetLite0, &real) } else { Ok(()) }
}

/// The wave that `references.py` has too.
fn wave(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let phase = name.bytes().map(f64::from).sum::<f64>() * 0.01;
    (0..count).map(move |i| (i as f64 * i as f64 * 0.1 + i as f64 * 0.7 + phase).cos())
}

/// Weights of the formula that `references.py` has too.
fn formula(name: &str, shape: &[usize]) -> Result<Tensor> {
    let fan_in: usize = shape[1..].iter().product();
    let value = |wave: f64| match name.rsplit('.').next() {
        Some("running_var") => 1.0 + 0.5 * wave,
        Some("running_mean" | "bias") => 0.1 * wave,
        _ if shape.len() == 1 => 1.0 + 0.2 * wave,
        _ => wave * (4.0 / fan_in as f64).sqrt(),
    };
    let values: Vec<f64> = wave(name, shape.iter().product()).map(value).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Compares a tensor with its golden: its length, and its product with a wave, which every place and sign in it changes.
fn check(name: &str, got: &Tensor, golden: &Value) -> Result<()> {
    let values = got.flatten_all()?.to_vec1::<f64>()?;
    let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let product: f64 = values.iter().zip(wave(name, values.len())).map(|(v, w)| v * w).sum();
    let expected = |i: usize| golden[i].as_f64().with_context(|| format!("no golden of {name}"));
    let scale = expected(0)?.max(1e-6);
    for (got, expected) in [(length, expected(0)?), (product, expected(1)?)] {
        ensure!((got - expected).abs() < 1e-6 * scale, "{name} must give {expected}, got {got}; its length is {scale}");
    }
    Ok(())
}

#[test]
fn goldens_of_pytorch() -> Result<()> {
    let goldens: Value = serde_json::from_str(include_str!("parity/goldens.json"))?;
    for kind in BackboneKind::PUBLISHED {
        let classifier = kind.classifier();
        let head = |name: &str, shape: &[usize]| formula(&format!("{classifier}.{name}"), shape);
        let net =
            Classifier::new(kind, DType::F64, &head("weight", &[1000, kind.channels()])?, &head("bias", &[1000])?)?;
        let weights = net.vars.vars().into_iter().map(|(name, var)| Ok((name.clone(), formula(&name, var.dims())?)));
        let weights: HashMap<String, Tensor> = weights.collect::<Result<_>>()?;
        let pixels = (0..2 * 3 * 96 * 96).map(|i| {
            let i = f64::from(i);
            (i * i * 0.001 + i * 0.01).cos()
        });
        let images = Tensor::from_vec(pixels.collect::<Vec<f64>>(), (2, 3, 96, 96), &Device::Cpu)?;
        let labels = Tensor::new(&[3u32, 700], &Device::Cpu)?;
        for (mode, train) in [("eval", false), ("train", true)] {
            net.vars.load(&weights)?;
            let golden = &goldens[kind.id()][mode];
            let (logits, loss, grads) = net.backward(&images, &labels, train)?;
            let close = |got: f64, expected: &Value, what: &str| {
                let expected = expected.as_f64().with_context(|| format!("{kind}, {mode}: no golden of {what}"))?;
                let off = (got - expected).abs() / expected.abs().max(1e-6);
                ensure!(off < 1e-6, "{kind}, {mode}: {what} must be {expected}, got {got}");
                Ok(())
            };
            close(loss, &golden["loss"], "the loss")?;
            for (i, got) in logits.narrow(1, 0, 4)?.flatten_all()?.to_vec1::<f64>()?.into_iter().enumerate() {
                close(got, &golden["logits"][i], &format!("logit {i}"))?;
            }
            for (name, var) in net.parameters() {
                let grad = grads.get(&var).with_context(|| format!("no gradient of {name}"))?;
                let place = || format!("{kind}, {mode}: the gradient");
                check(&name, grad, &golden["gradients"][&name]).with_context(place)?;
            }
        }
        // What the step of training has left.
        let (after, goldens) = (net.vars.tensors()?, &goldens[kind.id()]["statistics"]);
        let statistics: Vec<&String> = after.keys().filter(|name| name.contains("running")).collect();
        assert!(statistics.len() == goldens.as_object().map_or(0, |all| all.len()) && !statistics.is_empty());
        for name in statistics {
            check(name, &after[name], &goldens[name]).with_context(|| format!("{kind}: after a step"))?;
        }
    }
    Ok(())
}
