//! What a run keeps of its test images for the figures.

use super::evaluation::Answers;
use crate::data::birds::{BirdSet, Crop};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// Images that are shown, and pairs of confused classes.
const SHOWN: usize = 12;
const PAIRS: usize = 6;

/// The thetas of all test images (`thetas`, (N, k, P)); which images are shown with their windows (`shown`), and which stand for confused pairs (`pairs`, two of each: one of
/// the class that it is, and one of the class that it is taken for), with the confusions (`confusions`: class, taken for, how often).
///
/// With `keep_pixels` also their pixels, in the order of `shown` and `pairs` (`shown.images`, `pairs.images`). Of photographs no pixel is kept: they belong to
/// their photographers.
pub(super) fn samples(
    found: &Answers,
    test: &BirdSet,
    crop: Crop,
    keep_pixels: bool,
) -> Result<HashMap<String, Tensor>> {
    let (device, mut samples) = (&Device::Cpu, HashMap::new());
    if !found.thetas.is_empty() {
        samples.insert("thetas".into(), Tensor::new(found.thetas.clone(), device)?);
    }
    // Evenly over the set, whose images lie class by class.
    let count = SHOWN.min(test.len());
    let shown: Vec<u32> = (0..count).map(|i| ((2 * i + 1) * test.len() / (2 * count)) as u32).collect();
    let (mut pairs, mut confusions) = (Vec::new(), Vec::new());
    for (label, predicted, times) in found.confusions().into_iter().take(PAIRS) {
        let position = |wanted: &dyn Fn(usize) -> bool| (0..test.len()).find(|&i| wanted(i));
        let wrong = position(&|i| found.labels[i] == label && found.predicted[i] == predicted);
        // Of the other class one that is named rightly, where there is one.
        let other = position(&|i| found.labels[i] == predicted && found.predicted[i] == predicted)
            .or_else(|| position(&|i| found.labels[i] == predicted));
        // A class without a test image can be answered all the same.
        if let (Some(wrong), Some(other)) = (wrong, other) {
            pairs.extend([wrong as u32, other as u32]);
            confusions.push(vec![label, predicted, times as u32]);
        }
    }
    for (name, indices) in [("shown", &shown), ("pairs", &pairs)] {
        if indices.is_empty() {
            continue;
        }
        if keep_pixels {
            // In bytes, as they were drawn.
            let bytes = (images(test, crop, indices)? * 255.0)?.round()?.to_dtype(DType::U8)?;
            samples.insert(format!("{name}.images"), bytes);
        }
        samples.insert(name.into(), Tensor::new(indices.as_slice(), device)?);
    }
    if !confusions.is_empty() {
        samples.insert("confusions".into(), Tensor::new(confusions, device)?);
    }
    Ok(samples)
}

/// The squares that a network sees of some images, (N, 3, side, side), 0 to 1.
pub(super) fn images(set: &BirdSet, crop: Crop, indices: &[u32]) -> Result<Tensor> {
    let mut pixels = Vec::new();
    for &index in indices {
        pixels.extend(set.pixels(index as usize, crop, None)?);
    }
    Ok(Tensor::from_vec(pixels, (indices.len(), 3, crop.side, crop.side), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::birds::{Birds, Truth};

    #[test]
    fn confusions_are_those_that_have_a_pair() -> Result<()> {
        let test = Birds::synthetic([4, 3], "asked for", false)?.test;
        let truth = vec![Truth { bird: [0.0; 4], parts: vec![] }; 3];
        // There is no image of class 9.
        let found = Answers { labels: vec![0, 1, 2], predicted: vec![9, 2, 2], truth, thetas: vec![] };
        let kept = samples(&found, &test, Crop { side: 128, short: 144 }, false)?;
        assert_eq!(kept["confusions"].to_vec2::<u32>()?, [[1, 2, 1]]);
        assert_eq!(kept["pairs"].to_vec1::<u32>()?, [1, 2]);
        Ok(())
    }
}
