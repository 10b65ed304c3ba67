//! Dropout whose masks can be repeated.
//!
//! A mask is a function of (seed, layer, step, element): it needs no generator state, so a run that resumes at step n drops what an
//! uninterrupted one drops, whatever the number of threads.

use crate::init::fnv1a;
use candle_core::{DType, ModuleT, Result, Tensor, WithDType};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The source of all dropout masks of a model. Clones share the step; the training loop sets it before each forward pass.
///
/// Two forward passes at the same step get the same masks.
#[derive(Debug, Clone)]
pub struct DropoutRng {
    seed: u64,
    step: Arc<AtomicU64>,
}

impl DropoutRng {
    /// Makes a source at step 0.
    pub fn new(seed: u64) -> Self {
        Self { seed, step: Arc::default() }
    }

    /// Sets the step for this source and all its clones.
    pub fn set_step(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// Returns the step.
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }
}

/// Dropout: in training, sets each element to zero with probability p and multiplies the others by 1 / (1 - p); in evaluation, the identity.
///
/// The same as PyTorch's `Dropout`, but for the source of its masks.
///
/// # Shapes
///
/// Any -> the same.
///
/// # Gradients
///
/// The output's gradient times the mask.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
    layer: u64,
    rng: DropoutRng,
}

/// Makes a [`Dropout`] of probability `p`. The name distinguishes it from the other dropout layers of the model.
///
/// # Errors
///
/// When p isn't in [0, 1).
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use stn_core::dropout::{DropoutRng, dropout};
///
/// let rng = DropoutRng::new(0);
/// let layer = dropout(0.5, "fc1", &rng)?;
/// let xs = Tensor::ones((4, 100), DType::F32, &Device::Cpu)?;
/// let first = layer.forward_t(&xs, true)?.to_vec2::<f32>()?; // zeros and twos
/// rng.set_step(1);
/// assert_ne!(layer.forward_t(&xs, true)?.to_vec2::<f32>()?, first);
/// rng.set_step(0);
/// assert_eq!(layer.forward_t(&xs, true)?.to_vec2::<f32>()?, first);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn dropout(p: f64, name: &str, rng: &DropoutRng) -> Result<Dropout> {
    if !(0.0..1.0).contains(&p) {
        candle_core::bail!("dropout: p must be in [0, 1), got {p}")
    }
    Ok(Dropout { p, layer: fnv1a(name.bytes()), rng: rng.clone() })
}

impl Dropout {
    /// The mask of the present step: 0 or 1 / (1 - p) for each element, in row-major order.
    fn mask<T: WithDType + Send>(&self, count: usize) -> Vec<T> {
        let key = [self.rng.seed, self.layer, self.rng.step()].into_iter().fold(0, |key: u64, word| mix(key.wrapping_add(GOLDEN) ^ word));
        let dropped = (self.p * 2f64.powi(64)) as u64; // hashes below are dropped
        let kept = T::from_f64(1.0 / (1.0 - self.p));
        let element = |i: usize| {
            let hash = mix(key.wrapping_add((i as u64).wrapping_mul(GOLDEN)));
            if hash < dropped { T::zero() } else { kept }
        };
        (0..count).into_par_iter().with_min_len(1 << 14).map(element).collect()
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if !train || self.p == 0.0 {
            return Ok(xs.clone());
        }
        let count = xs.elem_count();
        let mask = match xs.dtype() {
            DType::F64 => Tensor::from_vec(self.mask::<f64>(count), xs.shape(), xs.device())?,
            dtype => Tensor::from_vec(self.mask::<f32>(count), xs.shape(), xs.device())?.to_dtype(dtype)?,
        };
        xs.mul(&mask)
    }
}

/// 2^64 over the golden ratio, SplitMix64's increment.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: a bijection whose output bits each depend on all input bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
