//! Published weights: read from a safetensors file, checked against the network, and put in.

use super::BackboneKind;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use stn_core::conv_norm::Statistics;
use stn_core::init::{SeededVarMap, check_names_and_shapes};

/// Tensors that some exports hold and no network needs: PyTorch's counts of batches.
const COUNTS: &str = "num_batches_tracked";
/// The head that torchvision's Inception-v3 has for training alone.
const AUXILIARY: &str = "AuxLogits.";

/// Reads the weights of a backbone from a safetensors file with the published names, in the file's own type. The classifier is left out.
///
/// # Errors
/// When the file cannot be read, or a tensor is missing, unexpected or of another shape: the message names every one.
pub fn backbone_weights(kind: BackboneKind, file: &Path) -> Result<HashMap<String, Tensor>> {
    let (weights, _) = read(kind, file)?;
    Ok(weights)
}

/// Reads the classifier of ImageNet's 1,000 classes, `weight` and `bias`, from the same file.
///
/// # Errors
/// As [`backbone_weights`], and when there is none.
pub fn classifier_weights(kind: BackboneKind, file: &Path) -> Result<(Tensor, Tensor)> {
    let (_, mut head) = read(kind, file)?;
    let mut take = |name: &str| {
        let name = format!("{}.{name}", kind.classifier());
        head.remove(&name).with_context(|| format!("{}: no tensor {name}", shown(file)))
    };
    Ok((take("weight")?, take("bias")?))
}

/// The backbone's tensors and the classifier's.
fn read(kind: BackboneKind, file: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, Tensor>)> {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu);
    let tensors = tensors.with_context(|| format!("{}: not a whole safetensors file", shown(file)))?;
    let classifier = ["weight", "bias"].map(|name| format!("{}.{name}", kind.classifier()));
    let (mut weights, mut head) = (HashMap::new(), HashMap::new());
    for (name, tensor) in tensors {
        if name.ends_with(COUNTS) || (kind == BackboneKind::InceptionV3 && name.starts_with(AUXILIARY)) {
            continue;
        }
        let to = if classifier.contains(&name) { &mut head } else { &mut weights };
        to.insert(name, tensor);
    }
    let shapes = shapes(kind)?;
    let expected = shapes.iter().map(|(name, shape)| (name.as_str(), shape));
    let what = format!("not the weights of {kind}");
    check_names_and_shapes(&what, expected, &weights).with_context(|| shown(file))?;
    Ok((weights, head))
}

/// The file's name: whole paths do not belong in records.
fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The names and shapes of a backbone's tensors: those that the network itself asks for.
fn shapes(kind: BackboneKind) -> Result<BTreeMap<String, Shape>> {
    let names = Names::default();
    let vb = VarBuilder::from_backend(Box::new(names.clone()), DType::F32, Device::Cpu);
    super::backbone(kind, Statistics::Frozen, vb)?;
    let asked = names.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(asked.clone())
}

/// Notes what is asked for, and hands out zeros that take no memory.
#[derive(Clone, Default)]
struct Names(std::sync::Arc<std::sync::Mutex<BTreeMap<String, Shape>>>);

impl candle_nn::var_builder::SimpleBackend for Names {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut asked = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        asked.insert(name.to_string(), shape.clone());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("no shape is known of {name}")
    }

    fn contains_tensor(&self, _name: &str) -> bool {
        false
    }
}

/// Puts a backbone's weights into the variables under a prefix: `stream1`, say; under none, where it is empty.
///
/// # Errors
/// When the variables there have other names or shapes.
pub fn put_weights(vars: &SeededVarMap, prefix: &str, weights: &HashMap<String, Tensor>) -> Result<()> {
    let by_name: HashMap<String, _> = vars.vars().into_iter().collect();
    for (name, value) in weights {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let var = by_name.get(&name).with_context(|| format!("no variable is named {name}"))?;
        var.set(&value.to_dtype(var.dtype())?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() -> Result<()> {
        let kind = BackboneKind::EfficientNetLite0;
        let mut weights = HashMap::new();
        for (name, shape) in shapes(kind)? {
            weights.insert(name, Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        assert_eq!(weights.len(), 5 * 49, "a kernel and four vectors a layer");
        weights.remove("bn1.running_var");
        weights.remove("blocks.3.1.conv_dw.weight");
        weights.insert("extra.weight".into(), Tensor::zeros(1, DType::F32, &Device::Cpu)?);
        weights.insert("conv_stem.weight".into(), Tensor::zeros((32, 3, 5, 5), DType::F32, &Device::Cpu)?);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.safetensors");
        candle_core::safetensors::save(&weights, &file)?;
        let error = format!("{:#}", backbone_weights(kind, &file).unwrap_err());
        let expected = "model.safetensors: not the weights of lite0: missing [blocks.3.1.conv_dw.weight, bn1.running_var]; unexpected [extra.weight]; wrong \
                        shape [conv_stem.weight: expected [32, 3, 3, 3], got [32, 3, 5, 5]]";
        assert!(error.starts_with(expected), "{error}");
        std::fs::write(&file, "half")?;
        let error = format!("{:#}", backbone_weights(kind, &file).unwrap_err());
        assert!(error.starts_with("model.safetensors: not a whole safetensors file"), "{error}");
        Ok(())
    }

    #[test]
    fn counts_and_the_auxiliary_head_are_passed_over_and_the_classifier_is_apart() -> Result<()> {
        let (kind, device) = (BackboneKind::InceptionV3, Device::Cpu);
        let mut weights = HashMap::new();
        for (name, shape) in shapes(kind)? {
            weights.insert(name, Tensor::zeros(shape, DType::F64, &device)?);
        }
        let count = weights.len();
        weights.insert("fc.weight".into(), Tensor::ones((1000, 2048), DType::F32, &device)?);
        weights.insert("fc.bias".into(), Tensor::ones(1000, DType::F32, &device)?);
        weights.insert("AuxLogits.fc.bias".into(), Tensor::ones(1000, DType::F32, &device)?);
        weights.insert("Mixed_5b.branch1x1.bn.num_batches_tracked".into(), Tensor::new(&[7i64], &device)?);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.safetensors");
        candle_core::safetensors::save(&weights, &file)?;
        let read = backbone_weights(kind, &file)?;
        assert!(read.len() == count && !read.contains_key("fc.weight"));
        assert_eq!(classifier_weights(kind, &file)?.0.dims(), [1000, 2048]);
        Ok(())
    }
}
