//! The families of transforms that the tests go through, and what they are tried on.

use crate::support::random;
use candle_core::{DType, Device, Result, Tensor};
use stn_core::transform::{Affine, Attention, Projective, Similarity, ThinPlateSpline, Transform, Translation};

/// The families with two thin plate splines, all at the identity.
pub fn families() -> Result<Vec<Box<dyn Transform>>> {
    Ok(vec![
        Box::new(Translation { scale: 1.0 }),
        Box::new(Attention),
        Box::new(Similarity),
        Box::new(Affine),
        Box::new(Projective),
        Box::new(ThinPlateSpline::new(4, 4)?),
        Box::new(ThinPlateSpline::from_points(&[[-0.7, -0.9], [0.8, -0.6], [0.1, 0.3], [-0.9, 0.7], [0.6, 1.0]])?),
    ])
}

/// Parameters for `n` windows, away from the identity and from the sampler's kinks.
pub fn away(family: &dyn Transform, n: usize) -> Result<Tensor> {
    let p = family.num_params();
    let identity = Tensor::new(family.identity(), &Device::Cpu)?.to_dtype(DType::F64)?;
    (random((n, p), 7)? * 0.3)?.broadcast_add(&identity)
}

/// An image with values in 0..1, (n, c, h, w).
pub fn image(shape: (usize, usize, usize, usize), dtype: DType) -> Result<Tensor> {
    let (n, c, h, w) = shape;
    let pixel = |i: usize| 0.5 + ((0.37 * i as f64).sin() + (0.011 * (i * i) as f64).cos()) / 4.0;
    Tensor::from_vec((0..n * c * h * w).map(pixel).collect(), shape, &Device::Cpu)?.to_dtype(dtype)
}
