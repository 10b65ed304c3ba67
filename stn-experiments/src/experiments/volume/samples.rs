//! What a run keeps of its transformer for the figures.

use crate::data::Dataset;
use crate::data::distort::extrusion::volume_set;
use crate::data::mnist::CLASSES;
use crate::experiments::TEST_SEED;
use crate::experiments::classification::image_tensor;
use crate::models::volume::VolumeNetwork;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// The first test digit of each class: its volume summed along each axis, the transformer's theta and the projection that is classified.
pub(super) fn samples(network: &VolumeNetwork, digits: &Dataset) -> Result<HashMap<String, Tensor>> {
    let (mut along, mut thetas, mut projections, mut labels) = ([vec![], vec![], vec![]], vec![], vec![], vec![]);
    for class in 0..CLASSES {
        let Some(index) = digits.labels.iter().position(|&label| usize::from(label) == class) else { continue };
        let (set, _) = volume_set(digits, index..index + 1, TEST_SEED, 0)?;
        let volumes = image_tensor(&set.images, (set.channels, set.height, set.width))?;
        let prediction = network.forward(&volumes)?;
        let Some(theta) = prediction.theta else { return Ok(HashMap::new()) };
        for (axis, along) in along.iter_mut().enumerate() {
            along.push(volumes.sum(axis + 1)?);
        }
        thetas.push(theta.detach());
        projections.push(prediction.projection.detach());
        labels.push(set.labels[0]);
    }
    let [depth, height, width] = &along;
    Ok(HashMap::from([
        ("front".into(), Tensor::cat(depth, 0)?),  // (10, 60, 60): rows y, columns x
        ("above".into(), Tensor::cat(height, 0)?), // rows z, columns x
        ("side".into(), Tensor::cat(width, 0)?),   // rows z, columns y
        ("theta".into(), Tensor::cat(&thetas, 0)?),
        ("projection".into(), Tensor::cat(&projections, 0)?),
        ("label".into(), Tensor::new(labels, &Device::Cpu)?),
    ]))
}
