//! What a run keeps of its transformer for the figures.

use crate::data::mnist::{CLASSES, SIDE};
use crate::data::{Dataset, Distortion, Pose, distorted_set};
use crate::experiments::TEST_SEED;
use crate::experiments::classification::image_tensor;
use crate::models::Network;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// The digit and the angles in degrees of the figure that shows one digit turned.
const ANGLES_DIGIT: usize = 4;
const ANGLES: [f64; 7] = [-90.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0];

/// What the figures need: of each digit the first test image, one image at several angles (R alone), and the thetas of the first
/// thousand test images with the rotations that were applied to them.
pub(super) fn samples(network: &Network, data: Distortion, digits: &Dataset) -> Result<HashMap<String, Tensor>> {
    let (test, poses) = distorted_set(data, digits, TEST_SEED, 0)?;
    let side = data.canvas();
    let mut samples = HashMap::new();
    let mut keep = |group: &str, pixels: &[u8]| -> Result<()> {
        let inputs = image_tensor(pixels, (1, side, side))?;
        if let Some(transformed) = network.forward(&inputs, false)?.transformed {
            samples.insert(format!("{group}.input"), inputs);
            samples.insert(format!("{group}.theta"), transformed.theta.detach());
            samples.insert(format!("{group}.output"), transformed.output.detach());
        }
        Ok(())
    };

    let first = |label: usize| test.labels.iter().position(|&l| usize::from(l) == label);
    let indices: Vec<usize> = (0..CLASSES).filter_map(first).collect();
    let one_each: Vec<u8> = indices.iter().flat_map(|&i| test.image(i)).copied().collect();
    keep("digits", &one_each)?;

    let mut angles = Vec::new();
    if data == Distortion::R {
        let digit = digits.image(indices[ANGLES_DIGIT.min(indices.len() - 1)]);
        angles = ANGLES.to_vec();
        let mut turned = vec![0; angles.len() * SIDE * SIDE];
        for (out, &angle) in turned.chunks_exact_mut(SIDE * SIDE).zip(&angles) {
            Pose { rotation: angle, ..Pose::default() }.draw(digit, SIDE, out);
        }
        keep("angles", &turned)?;
    }

    let count = test.len().min(1000);
    keep("poses", &test.images[..count * test.image_len()])?;
    for name in ["poses.input", "poses.output"] {
        samples.remove(name); // the thetas are enough
    }

    let rotations: Vec<f64> = poses[..count].iter().map(|pose| pose.rotation).collect();
    let labels: Vec<u8> = indices.iter().map(|&i| test.labels[i]).collect();
    let device = &Device::Cpu;
    samples.insert("poses.rotation".into(), Tensor::new(rotations, device)?);
    samples.insert("poses.label".into(), Tensor::new(&test.labels[..count], device)?);
    samples.insert("digits.label".into(), Tensor::new(labels, device)?);
    if !angles.is_empty() {
        samples.insert("angles.rotation".into(), Tensor::new(angles, device)?);
    }
    Ok(samples)
}
