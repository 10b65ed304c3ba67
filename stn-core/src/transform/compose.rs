use super::constants;
use candle_core::{Result, Tensor};

/// Composes maps given by matrices: the result maps a point first by `b`, then by `a`.
///
/// `x -> a(b(x))`, the product of the matrices, an affine one with `[0, 0, 1]` for its third row.
///
/// Transforms map target to source, so two transformers in a row read from the outside in: where the first has warped the
/// image by `first` and the second its output by `second`, an output pixel of the second looks at `first(second(x))` in
/// the image. The map of the two is `compose(&first, &second)`, in the order in which they were applied, and a third's
/// matrix goes behind: `compose(&compose(&first, &second)?, &third)`.
///
/// # Shapes
///
/// Both (N, 2, 3), affine, -> (N, 2, 3); or both (N, 3, 3), projective, -> (N, 3, 3). A projective product isn't scaled
/// to h33 = 1; [`Projective::theta`](super::Projective::theta) does that.
///
/// # Gradients
///
/// By both.
///
/// # Errors
///
/// When the shapes or types differ, or are neither of the two.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::compose;
///
/// // First a window on the left half, then the upper right quarter of what it shows.
/// let first = Tensor::new(&[[[0.5, 0., -0.5], [0., 1., 0.]]], &Device::Cpu)?;
/// let second = Tensor::new(&[[[0.5, 0., 0.5], [0., 0.5, -0.5]]], &Device::Cpu)?;
/// let both = compose(&first, &second)?; // (1, 2, 3)
/// assert_eq!(both.to_vec3::<f64>()?, [[[0.25, 0., -0.25], [0., 0.5, -0.5]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn compose(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        candle_core::bail!("compose: the matrices must have one shape, got {:?} and {:?}", a.dims(), b.dims())
    }
    match *a.dims() {
        [0, 2 | 3, 3] => Ok(a.clone()), // no product to take
        [_, 2, 3] => homogeneous(a)?.matmul(&homogeneous(b)?)?.narrow(1, 0, 2)?.contiguous(),
        [_, 3, 3] => a.contiguous()?.matmul(&b.contiguous()?),
        _ => candle_core::bail!("compose: the matrices must be (N, 2, 3) or (N, 3, 3), got {:?}", a.dims()),
    }
}

/// Affine matrices with the row `[0, 0, 1]` below: (N, 2, 3) -> (N, 3, 3).
pub(super) fn homogeneous(affine: &Tensor) -> Result<Tensor> {
    let row = constants(&[[[0f64, 0., 1.]]], affine)?;
    Tensor::cat(&[affine, &row.broadcast_as((affine.dim(0)?, 1, 3))?], 1)?.contiguous()
}
