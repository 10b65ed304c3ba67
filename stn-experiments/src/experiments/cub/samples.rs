//! What a run keeps of its test images for the figures.

use super::evaluation::Evaluation;
use crate::data::birds::{BirdSet, Crop};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// Images that are shown, and pairs of confused classes.
const SHOWN: usize = 12;
const PAIRS: usize = 6;

/// The thetas of all test images (`thetas`, (N, k, P)); which images are shown with their windows (`shown`), and which stand for confused pairs (`pairs`, two of each: one of
/// the class that it is, and one of the class that it is taken for), with the confusions (`confusions`: class, taken for, how often).
///
/// Where the images are `ours`, also their pixels, in the order of `shown` and `pairs` (`shown.images`, `pairs.images`). Of photographs no pixel is kept: they belong to
/// their photographers.
pub(super) fn samples(found: &Evaluation, test: &BirdSet, crop: Crop, ours: bool) -> Result<HashMap<String, Tensor>> {
    let (device, mut samples) = (&Device::Cpu, HashMap::new());
    if !found.thetas.is_empty() {
        samples.insert("thetas".into(), Tensor::new(found.thetas.clone(), device)?);
    }
    // Evenly over the set, whose images lie class by class.
    let count = SHOWN.min(test.len());
    let shown: Vec<u32> = (0..count).map(|i| ((2 * i + 1) * test.len() / (2 * count)) as u32).collect();
    let confusions: Vec<_> = found.confusions().into_iter().take(PAIRS).collect();
    let mut pairs = Vec::new();
    for &(label, predicted, _) in &confusions {
        let position = |wanted: &dyn Fn(usize) -> bool| (0..test.len()).find(|&i| wanted(i));
        let wrong = position(&|i| found.labels[i] == label && found.predicted[i] == predicted);
        // Of the other class one that is named rightly, where there is one.
        let other = position(&|i| found.labels[i] == predicted && found.predicted[i] == predicted)
            .or_else(|| position(&|i| found.labels[i] == predicted));
        if let (Some(wrong), Some(other)) = (wrong, other) {
            pairs.extend([wrong as u32, other as u32]);
        }
    }
    for (name, indices) in [("shown", &shown), ("pairs", &pairs)] {
        if indices.is_empty() {
            continue;
        }
        if ours {
            samples.insert(format!("{name}.images"), images(test, crop, indices)?);
        }
        samples.insert(name.into(), Tensor::new(indices.as_slice(), device)?);
    }
    if !confusions.is_empty() {
        let rows: Vec<Vec<u32>> =
            confusions.iter().map(|&(label, predicted, n)| vec![label, predicted, n as u32]).collect();
        samples.insert("confusions".into(), Tensor::new(rows, device)?);
    }
    Ok(samples)
}

/// The squares that a network sees of some images, (N, 3, side, side), 0 to 1.
pub(super) fn images(set: &BirdSet, crop: Crop, indices: &[u32]) -> Result<Tensor> {
    let mut pixels = Vec::new();
    for &index in indices {
        pixels.extend(set.view(index as usize, crop, None)?.pixels);
    }
    Ok(Tensor::from_vec(pixels, (indices.len(), 3, crop.side, crop.side), &Device::Cpu)?)
}
