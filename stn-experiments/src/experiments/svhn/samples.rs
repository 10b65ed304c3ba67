//! What a run keeps of its test images for the figures: some with what the transformers did, and some that it read wrongly.

use super::score::{batch, read};
use crate::data::svhn::NumberSet;
use crate::models::svhn::SvhnNetwork;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// Images with their transformers, and images that were read wrongly.
const SHOWN: usize = 8;
const FAILURES: usize = 16;
/// Where failures are looked for.
const SEARCHED: usize = 1000;
/// Images whose feature maps are kept, and channels of them.
const MAPPED: usize = 3;
const MAPS: usize = 4;

/// The first test images (`images`, in bytes), the theta of each transformer (`theta1`, ..), what goes in and comes out of the last one (`before`, `after`), and the first
/// failures with what they are and what was read (`failures`, `labels`, `read`).
///
/// Without `pixels` only thetas, labels and readings: real house numbers are not ours to pass on.
pub(super) fn samples(network: &SvhnNetwork, test: &NumberSet, pixels: bool) -> Result<HashMap<String, Tensor>> {
    let mut samples = HashMap::new();
    let shown = 0..SHOWN.min(test.len());
    let prediction = network.forward(&batch(test, shown.clone())?.0, false)?;
    for (i, transformed) in prediction.transformed.iter().enumerate() {
        samples.insert(format!("theta{}", i + 1), transformed.theta.detach());
    }
    let (mut wrong, mut labels, mut readings) = (vec![], vec![], vec![]);
    for start in (0..test.len().min(SEARCHED)).step_by(100) {
        if wrong.len() == FAILURES {
            break;
        }
        let range = start..test.len().min(SEARCHED).min(start + 100);
        let (seen, of) = batch(test, range.clone())?;
        for (index, (reading, label)) in range.zip(read(&network.forward(&seen, false)?.logits)?.iter().zip(&of)) {
            if reading != label && wrong.len() < FAILURES {
                wrong.push(index);
                labels.push(*label);
                readings.push(*reading);
            }
        }
    }
    let device = &Device::Cpu;
    if pixels {
        if let (Some(last), Some(input)) = (prediction.transformed.last(), prediction.inputs.last()) {
            let kept = |maps: &Tensor| {
                let (count, channels, ..) = maps.dims4()?;
                maps.narrow(0, 0, MAPPED.min(count))?.narrow(1, 0, MAPS.min(channels))?.contiguous()
            };
            samples.insert("before".into(), kept(input)?.detach());
            samples.insert("after".into(), kept(&last.output)?.detach());
        }
        samples.insert("images".into(), images(test, shown)?);
        if !wrong.is_empty() {
            samples.insert("failures".into(), images(test, wrong.iter().copied())?);
        }
    }
    if !wrong.is_empty() {
        let table = |labels: &[[u8; 5]]| Tensor::from_slice(labels.as_flattened(), (labels.len(), 5), device);
        samples.insert("labels".into(), table(&labels)?);
        samples.insert("read".into(), table(&readings)?);
    }
    Ok(samples)
}

/// Images as they are in the file of crops, (N, 3, side, side).
fn images(numbers: &NumberSet, indices: impl IntoIterator<Item = usize>) -> Result<Tensor> {
    let images: Vec<&[u8]> = indices.into_iter().map(|index| numbers.get(index).0).collect();
    let side = (images.first().map_or(0, |image| image.len()) / 3).isqrt();
    Ok(Tensor::from_vec(images.concat(), (images.len(), 3, side, side), &Device::Cpu)?)
}
