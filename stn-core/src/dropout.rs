//! Dropout whose masks can be repeated.
//!
//! A mask is a function of (seed, layer, step, element): it needs no generator state, so a run that resumes at step n
//! drops what an uninterrupted one drops, whatever the number of threads.

use crate::init::fnv1a;
use candle_core::{DType, ModuleT, Result, Tensor, WithDType};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The source of all dropout masks of a model.
///
/// Clones share the step, which the training loop sets before each forward pass. Two forward passes at the same step get
/// the same masks.
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

/// Dropout: the identity in evaluation; in training, each element becomes zero with probability p.
///
/// The elements that stay are multiplied by 1 / (1 - p). The same as PyTorch's `Dropout`, but for the source of its masks.
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
/// The masks are those of the generator's step, which the training loop has to set: left alone, every step drops the same.
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
        let key = [self.rng.seed, self.layer, self.rng.step()]
            .into_iter()
            .fold(0, |key: u64, word| mix(key.wrapping_add(GOLDEN) ^ word));
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn mask(p: f64, name: &str, seed: u64, step: u64, count: usize) -> Result<Vec<f32>> {
        let rng = DropoutRng::new(seed);
        let layer = dropout(p, name, &rng)?;
        rng.set_step(step);
        layer.forward_t(&Tensor::ones(count, DType::F32, &Device::Cpu)?, true)?.to_vec1()
    }

    #[test]
    fn statistics() -> Result<()> {
        for p in [0.1, 0.5, 0.7] {
            let mask = mask(p, "fc1", 3, 5, 100_000)?;
            let kept = (1.0 / (1.0 - p)) as f32;
            assert!(mask.iter().all(|&v| v == 0.0 || v == kept));
            let dropped = mask.iter().map(|&v| f64::from(v == 0.0)).collect::<Vec<_>>();
            let share = dropped.iter().sum::<f64>() / 1e5;
            assert!((share - p).abs() < 0.006, "{share} dropped of {p}"); // four standard errors
            for distance in [1, 2, 64] {
                let pairs = dropped.iter().zip(&dropped[distance..]);
                let both = pairs.map(|(a, b)| a * b).sum::<f64>() / (1e5 - distance as f64);
                assert!((both - p * p).abs() < 0.008, "neighbours at {distance}: {both}");
            }
        }
        Ok(())
    }

    #[test]
    fn seed_layer_and_step_decide() -> Result<()> {
        let base = mask(0.5, "fc1", 3, 5, 1000)?;
        assert_eq!(mask(0.5, "fc1", 3, 5, 1000)?, base);
        for other in [mask(0.5, "fc1", 4, 5, 1000)?, mask(0.5, "fc2", 3, 5, 1000)?, mask(0.5, "fc1", 3, 6, 1000)?] {
            let same = other.iter().zip(&base).filter(|(a, b)| a == b).count();
            assert!((400..600).contains(&same), "{same} of 1000 elements agree");
        }
        // An element's mask doesn't depend on how many there are.
        assert_eq!(mask(0.5, "fc1", 3, 5, 100_000)?[..1000], base);
        Ok(())
    }

    #[test]
    fn same_bits_for_any_number_of_threads() -> Result<()> {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map_err(candle_core::Error::wrap)?.install(|| mask(0.5, "fc1", 0, 0, 100_000))
        };
        assert_eq!(run(1)?, run(4)?);
        Ok(())
    }

    #[test]
    fn gradient_is_the_mask() -> Result<()> {
        let xs = Var::from_vec((0..60).map(f64::from).collect(), (4, 15), &Device::Cpu)?;
        let layer = dropout(0.3, "fc1", &DropoutRng::new(0))?;
        let out = layer.forward_t(&xs, true)?;
        let grads = out.sum_all()?.backward()?;
        let gradient = grads.get(&xs).map(|g| g.to_vec2::<f64>()).transpose()?.unwrap_or_default();
        assert_eq!(gradient, layer.forward_t(&xs.ones_like()?, true)?.to_vec2::<f64>()?);
        Ok(())
    }

    #[test]
    fn identity_in_evaluation_and_for_p_zero() -> Result<()> {
        let xs = Tensor::ones(100, DType::F32, &Device::Cpu)?;
        let rng = DropoutRng::new(0);
        assert_eq!(dropout(0.9, "fc1", &rng)?.forward_t(&xs, false)?.id(), xs.id());
        assert_eq!(dropout(0.0, "fc1", &rng)?.forward_t(&xs, true)?.id(), xs.id());
        Ok(())
    }

    #[test]
    fn p_out_of_range() {
        for p in [-0.1, 1.0, f64::NAN] {
            let message = dropout(p, "fc1", &DropoutRng::new(0)).map(|_| ()).map_err(|e| e.to_string());
            assert!(message.is_err_and(|m| m.starts_with(&format!("dropout: p must be in [0, 1), got {p}"))));
        }
    }
}
