//! The instruction sets that the sampler's loops are compiled for.
//!
//! There is one source: the compiler vectorises it once for the baseline and once for each wider set. No set fuses multiplications with
//! additions, so that all give the same bits.

/// A piece of work whose loops are worth wider registers than the baseline's.
pub(in crate::ops) trait Work {
    /// Does it. Implementations are `#[inline(always)]`: only what is inlined is compiled for the wider set.
    /// `WIDE` says that the processor has AVX-512 F, BW, DQ and VL.
    fn run<const WIDE: bool>(self);
}

/// Does the work with the widest registers that this processor has.
pub(in crate::ops) fn run(work: impl Work) {
    #[cfg(test)]
    if tests::BASELINE.load(std::sync::atomic::Ordering::Relaxed) {
        return work.run::<false>();
    }
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has these sets.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has this set.
            return unsafe { avx2(work) };
        }
    }
    work.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512(work: impl Work) {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(work: impl Work) {
    work.run::<false>()
}

#[cfg(test)]
mod tests {
    use crate::ops::{GridSampleConfig, Interpolation, Padding, grid_sample, grid_sample_3d};
    use candle_core::{DType, Device, Result, Shape, Tensor, Var};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Keeps to the baseline. That tests run side by side doesn't matter: all sets give the same bits.
    pub(super) static BASELINE: AtomicBool = AtomicBool::new(false);

    fn waves(shape: impl Into<Shape>, scale: f64, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        let numbers = Tensor::arange(0.0, shape.elem_count() as f64, &Device::Cpu)?.affine(1.7, 0.3)?.sin()?;
        (numbers * scale)?.reshape(shape)?.to_dtype(dtype)
    }

    /// Coordinates on and about the edges, and such as are no place at all; in debug builds the kernels check what they read there.
    fn wild(shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        let edges = [
            -1.0,
            1.0,
            0.0,
            -1.0 - 1e-7,
            1.0 + 1e-7,
            -1.5,
            1.5,
            f64::NAN,
            f64::INFINITY,
            -f64::INFINITY,
            1e38,
            -3e9,
            3e9,
        ];
        // Pairs of neighbours go through all pairs.
        let numbers =
            (0..shape.elem_count()).map(|i| edges[(i / 2 * (1 + i % 2 * 5) + i % 2 * (i / 26)) % edges.len()]);
        Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)?.to_dtype(dtype)
    }

    fn sampled(u: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Vec<u64>> {
        let (u, grid) = (Var::from_tensor(u)?, Var::from_tensor(grid)?);
        let out = if u.rank() == 5 { grid_sample_3d(&u, &grid, cfg)? } else { grid_sample(&u, &grid, cfg)? };
        let grads = out.sqr()?.sum_all()?.backward()?;
        let gradients = [u, grid].map(|var| grads.get(&var).cloned());
        let mut bits = vec![];
        for tensor in [Some(out)].into_iter().chain(gradients).flatten() {
            bits.extend(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().map(f64::to_bits));
        }
        Ok(bits)
    }

    #[test]
    fn all_sets_give_the_same_bits() -> Result<()> {
        use {Interpolation::*, Padding::*};
        for dtype in [DType::F32, DType::F64] {
            for (mode, padding, align) in [Bilinear, Nearest, Bicubic]
                .into_iter()
                .flat_map(|mode| [Zeros, Border, Reflection].map(|padding| (mode, padding)))
                .flat_map(|(mode, padding)| [true, false].map(|align| (mode, padding, align)))
            {
                let cfg = GridSampleConfig::new(align).interpolation(mode).padding(padding);
                let mut cases = vec![];
                for (channels, width) in [(1, 9), (3, 2), (3, 1), (16, 9), (21, 7)] {
                    let u = waves((2, channels, 6, width), 1.0, dtype)?;
                    cases.push((u.clone(), waves((4, 5, 17, 2), 1.4, dtype)?));
                    cases.push((u.clone(), wild((4, 5, 17, 2), dtype)?));
                    if mode != Bicubic {
                        cases.push((u.unsqueeze(2)?.repeat((1, 1, 2, 1, 1))?, waves((2, 3, 5, 17, 3), 1.4, dtype)?));
                    }
                }
                for (u, grid) in cases {
                    let wide = sampled(&u, &grid, cfg)?;
                    BASELINE.store(true, Ordering::Relaxed);
                    let baseline = sampled(&u, &grid, cfg);
                    BASELINE.store(false, Ordering::Relaxed);
                    assert!(wide == baseline?, "{dtype:?} {cfg:?} {:?}", u.shape());
                }
            }
        }
        Ok(())
    }
}
