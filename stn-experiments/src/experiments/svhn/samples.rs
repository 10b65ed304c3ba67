//! What a run keeps of its test images for the figures: some with what the transformers did, and some that it read wrongly.

use super::score::{batch, read};
use crate::data::DataSource;
use crate::data::svhn::NumberSet;
use crate::models::svhn::SvhnNetwork;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// Images with their transformers, and images that were read wrongly.
const SHOWN: usize = 8;
const FAILURES: usize = 32;
/// Where failures are looked for.
const SEARCHED: usize = 1000;
/// Channels of the feature maps that are kept.
const MAPS: usize = 4;

/// The first test images (`images`), the theta of each transformer (`theta1`, ..), what goes in and comes out of the last one (`before`, `after`), and the first
/// failures with what they are and what was read (`failures`, `labels`, `read`).
///
/// Of real house numbers no pixels are kept: they are not ours to pass on. Only thetas, labels and readings are.
pub(super) fn samples(network: &SvhnNetwork, test: &NumberSet, source: &DataSource) -> Result<HashMap<String, Tensor>> {
    let ours = matches!(source, DataSource::Synthetic { .. });
    let mut samples = HashMap::new();
    let (images, _) = batch(test, 0..SHOWN.min(test.len()))?;
    let prediction = network.forward(&images, false)?;
    for (i, transformed) in prediction.transformed.iter().enumerate() {
        samples.insert(format!("theta{}", i + 1), transformed.theta.detach());
    }
    let (mut wrong, mut labels, mut readings) = (vec![], vec![], vec![]);
    for start in (0..test.len().min(SEARCHED)).step_by(100) {
        let range = start..test.len().min(SEARCHED).min(start + 100);
        let (images, of) = batch(test, range.clone())?;
        for (index, (reading, label)) in range.zip(read(&network.forward(&images, false)?.logits)?.iter().zip(&of)) {
            if reading != label && wrong.len() < FAILURES {
                wrong.push(index);
                labels.push(*label);
                readings.push(*reading);
            }
        }
    }
    let device = &Device::Cpu;
    if ours {
        if let (Some(last), Some(input)) = (prediction.transformed.last(), prediction.inputs.last()) {
            let maps = MAPS.min(input.dim(1)?);
            samples.insert("before".into(), input.narrow(1, 0, maps)?.contiguous()?.detach());
            samples.insert("after".into(), last.output.narrow(1, 0, maps)?.contiguous()?.detach());
        }
        samples.insert("images".into(), images);
        if !wrong.is_empty() {
            samples.insert("failures".into(), batch(test, wrong.iter().copied())?.0);
        }
    }
    if !wrong.is_empty() {
        let table = |labels: &[[u8; 5]]| Tensor::from_slice(labels.as_flattened(), (labels.len(), 5), device);
        samples.insert("labels".into(), table(&labels)?);
        samples.insert("read".into(), table(&readings)?);
    }
    Ok(samples)
}
