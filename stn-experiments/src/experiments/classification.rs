//! What experiments that classify images share: cross-entropy, and the share of wrong answers.

use crate::data::Dataset;
use crate::train::Loss;
use anyhow::{Result, ensure};
use candle_core::{D, DType, Device, Tensor};

/// Images of a batch in evaluation.
const EVALUATION_BATCH: usize = 250;

/// Images as a tensor, (N, C, H, W), 0 to 1.
pub(crate) fn image_tensor(pixels: &[u8], (c, h, w): (usize, usize, usize)) -> Result<Tensor> {
    let pixels: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
    let count = pixels.len() / (c * h * w);
    Ok(Tensor::from_vec(pixels, (count, c, h, w), &Device::Cpu)?)
}

/// The cross-entropy of a batch; `logits` is the network.
pub(crate) fn cross_entropy(batch: &Dataset, logits: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Loss> {
    let logits = logits(&image_tensor(&batch.images, (batch.channels, batch.height, batch.width))?)?;
    let labels: Vec<u32> = batch.labels.iter().map(|&l| u32::from(l)).collect();
    let value = candle_nn::loss::cross_entropy(&logits, &Tensor::new(labels, &Device::Cpu)?)?;
    Ok(Loss { value, examples: batch.len(), wrong: count_wrong(&logits, &batch.labels)? })
}

/// The error on some images in percent; `logits` is the network.
pub(crate) fn error_percent(data: &Dataset, logits: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<f64> {
    let mut wrong = 0;
    let images = data.images.chunks(EVALUATION_BATCH * data.image_len());
    for (images, labels) in images.zip(data.labels.chunks(EVALUATION_BATCH)) {
        let images = image_tensor(images, (data.channels, data.height, data.width))?;
        let logits = logits(&images)?;
        check_finite(&logits)?;
        wrong += count_wrong(&logits, labels)?;
    }
    Ok(100.0 * wrong as f64 / data.len().max(1) as f64)
}

/// Fails where a network's answers are no numbers, whose largest would be a class like any other.
pub(crate) fn check_finite(logits: &Tensor) -> Result<()> {
    let values = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let finite = values.iter().all(|value| value.is_finite());
    ensure!(
        finite,
        "the network's answers are no numbers: its training has diverged; a smaller learning rate may help"
    );
    Ok(())
}

fn count_wrong(logits: &Tensor, labels: &[u8]) -> Result<usize> {
    let predicted = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    Ok(predicted.iter().zip(labels).filter(|(p, l)| **p != u32::from(**l)).count())
}
