use super::op::Sample;
use super::{GridSampleConfig, Padding, check_grid, check_input, in_kernel_type, is_half, reference};
use candle_core::{DType, Result, Tensor, bail};

/// Samples an image that lies in a plane of constant colour, one number a channel.
///
/// Where [`grid_sample`](super::grid_sample) has zeros outside the image, this has `fill`; a sample half way off the edge is half of each.
/// PyTorch has no equivalent: there one samples the image less its fill, and adds the fill again.
///
/// # Shapes
/// - `input`: (B, C, H, W), `grid`: (B * k, H', W', 2), as for [`grid_sample`](super::grid_sample).
/// - `fill`: (C,).
/// - result: (B * k, C, H', W').
///
/// # Gradients
/// For `input`, `grid` and `fill`; each is computed only where it is asked for. The grid's includes the step from the image to its
/// surroundings. `fill` gets the part of each output's gradient that the image doesn't.
///
/// # Errors
/// Those of [`grid_sample`](super::grid_sample); when the padding isn't [`Padding::Zeros`], or `fill` not (C,) of the input's type (`f32`
/// will do for a half-precision image).
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::{GridSampleConfig, grid_sample_fill};
/// # fn main() -> candle_core::Result<()> {
/// let image = Tensor::zeros((1, 1, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
/// let points = Tensor::new(&[[[[0f32, 0.], [1.5, 0.], [9., 9.]]]], &Device::Cpu)?; // inside, half a pixel off, far away
/// let white = Tensor::new(&[1f32], &Device::Cpu)?;
/// let value = grid_sample_fill(&image, &points, &white, GridSampleConfig::new(true))?;
/// assert_eq!(value.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.5, 1.0]);
/// # Ok(())
/// # }
/// ```
pub fn grid_sample_fill(input: &Tensor, grid: &Tensor, fill: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    const NAME: &str = "grid_sample_fill";
    check_input(NAME, "grid", input, check_grid(NAME, grid)?)?;
    if cfg.padding != Padding::Zeros {
        bail!("{NAME}: the fill takes the place of zeros; the padding must be Zeros, got {:?}", cfg.padding)
    }
    if fill.dims() != [input.dim(1)?] {
        bail!("{NAME}: fill must be ({},), one number a channel, got {:?}", input.dim(1)?, fill.shape())
    }
    if fill.dtype() != input.dtype() && !(is_half(input.dtype()) && fill.dtype() == DType::F32) {
        bail!("{NAME}: input and fill must have the same dtype, got {:?} and {:?}", input.dtype(), fill.dtype())
    }
    in_kernel_type(NAME, "grid", input, grid, |input, grid| {
        let fill = fill.to_dtype(input.dtype())?;
        if input.device().is_cpu() {
            input.apply_op3(&grid.contiguous()?, &fill.contiguous()?, Sample { cfg, targets: None })
        } else {
            reference::sample(input, grid, Some(&fill), cfg)
        }
    })
}
