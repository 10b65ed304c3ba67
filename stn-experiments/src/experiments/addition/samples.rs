//! What a run keeps of its transformers for the figures.

use crate::data::Dataset;
use crate::data::addition::addition_set;
use crate::experiments::TEST_SEED;
use crate::experiments::classification::image_tensor;
use crate::models::addition::AdditionNetwork;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// Pairs of the figure.
const SHOWN: usize = 6;
/// Pairs whose rotations are compared.
const COMPARED: usize = 500;

/// What the figures need of the first test pairs: inputs, thetas and outputs of a few, thetas and applied rotations of more. Nothing
/// without a transformer.
pub(super) fn samples(network: &AdditionNetwork, digits: &Dataset) -> Result<HashMap<String, Tensor>> {
    let mut samples = HashMap::new();
    let (test, pairs) = addition_set(digits, TEST_SEED, 0)?;
    for (group, count) in [("pairs", SHOWN.min(test.len())), ("poses", COMPARED.min(test.len()))] {
        let shape = (test.channels, test.height, test.width);
        let inputs = image_tensor(&test.images[..count * test.image_len()], shape)?;
        let Some(transformed) = network.forward(&inputs, false)?.transformed else { return Ok(HashMap::new()) };
        samples.insert(format!("{group}.theta"), transformed.theta.detach());
        if group == "pairs" {
            let labels: Vec<Vec<u8>> = pairs[..count].iter().map(|pair| pair.digits.to_vec()).collect();
            samples.insert("pairs.input".into(), inputs);
            samples.insert("pairs.output".into(), transformed.output.detach());
            samples.insert("pairs.label".into(), Tensor::new(labels, &Device::Cpu)?);
        } else {
            let rotations: Vec<Vec<f64>> =
                pairs[..count].iter().map(|pair| pair.poses.iter().map(|pose| pose.rotation).collect()).collect();
            samples.insert("poses.rotation".into(), Tensor::new(rotations, &Device::Cpu)?);
        }
    }
    Ok(samples)
}
