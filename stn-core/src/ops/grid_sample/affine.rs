use super::op::Sample;
use super::{GridSampleConfig, check_input, grid_sample, in_kernel_type};
use crate::ops::targets::Targets;
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// Warps an image by affine matrices: grid generator and sampler in one pass, eqs. (1) and (5).
///
/// The value and the gradients of [`affine_grid`](crate::transform::affine_grid) followed by [`grid_sample`], bit for bit in `f32` and `f64`;
/// the grid is never in memory. The equivalent of PyTorch's `grid_sample(input, affine_grid(theta))`.
///
/// # Shapes
/// - `input`: (B, C, H, W), any strides.
/// - `theta`: (B * k, 2, 3), the matrices of k consecutive windows an image.
/// - `out_size`: (H', W').
/// - result: (B * k, C, H', W').
///
/// # Gradients
/// For `input` and `theta`, each only where it is asked for; `theta`'s is summed in `f64` in a fixed order. At kinks they are those of
/// [`grid_sample`].
///
/// # Errors
/// Those of [`grid_sample`], and when `theta` isn't (B * k, 2, 3).
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{GridSampleConfig, affine_grid_sample};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?; // (1, 1, 2, 3)
/// let mirror = Tensor::new(&[[[-1f32, 0., 0.], [0., 1., 0.]]], &Device::Cpu)?;
/// let mirrored = affine_grid_sample(&image, &mirror, (2, 3), GridSampleConfig::new(true))?;
/// assert_eq!(mirrored.flatten_all()?.to_vec1::<f32>()?, [3., 2., 1., 6., 5., 4.]);
/// # Ok(())
/// # }
/// ```
pub fn affine_grid_sample(
    input: &Tensor,
    theta: &Tensor,
    out_size: (usize, usize),
    cfg: GridSampleConfig,
) -> Result<Tensor> {
    const NAME: &str = "affine_grid_sample";
    let &[n, 2, 3] = theta.dims() else { bail!("{NAME}: theta must be (N, 2, 3), got {:?}", theta.shape()) };
    check_input(NAME, "theta", input, n)?;
    in_kernel_type(NAME, "theta", input, theta, |input, theta| {
        if input.device().is_cpu() {
            let targets = Some(Arc::new(Targets::new(out_size, cfg.align_corners)));
            input.apply_op2(&theta.contiguous()?, Sample { cfg, targets })
        } else {
            grid_sample(input, &crate::transform::affine_grid(theta, out_size, cfg.align_corners)?, cfg)
        }
    })
}
