use super::widened;
use crate::ops::real::on_elements;
use crate::ops::targets::{Targets, row_sums, theta_gradient};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// Generates the sampling grid of affine matrices, eq. (1).
///
/// The same as PyTorch's `affine_grid`. A side of one pixel looks at the coordinate 0.
///
/// # Shapes
///
/// theta (N, 2, 3), `out_size` (H', W') -> (N, H', W', 2), last dimension (x, y); `f32` where theta is `f16` or `bf16`.
///
/// # Gradients
///
/// By theta: the sum over the pixels of the grid's gradient times (x_t, y_t, 1).
///
/// # Errors
///
/// When theta isn't (N, 2, 3), or of no float type.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let theta = Tensor::new(&[[[1f64, 2., 3.], [4., 5., 6.]]], &Device::Cpu)?;
/// let grid = stn_core::transform::affine_grid(&theta, (2, 2), true)?;
/// assert_eq!(grid.get(0)?.to_vec3::<f64>()?, [[[0., -3.], [2., 5.]], [[4., 7.], [6., 15.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn affine_grid(theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
    if !matches!(theta.dims(), [_, 2, 3]) {
        candle_core::bail!("affine_grid: theta must be (N, 2, 3), got {:?}", theta.dims())
    }
    let theta = &widened(theta)?;
    if !matches!(theta.dtype(), DType::F32 | DType::F64) {
        candle_core::bail!("affine_grid: theta must be of a float type, got {:?}", theta.dtype())
    }
    let targets = Targets::new(out_size, align_corners);
    if theta.device().is_cpu() {
        theta.contiguous()?.apply_op1(AffineGrid { targets })
    } else {
        matmul(&targets, theta)
    }
}

/// The grid from tensor operations, for the devices without a kernel.
///
/// Candle's matmul computes the gradient of the constant operand too, which is why the CPU has a kernel.
fn matmul(targets: &Targets, theta: &Tensor) -> Result<Tensor> {
    let (n, _, _) = theta.dims3()?;
    let (height, width) = targets.out_size();
    let homogeneous: Vec<f64> =
        targets.y.iter().flat_map(|&y| targets.x.iter().flat_map(move |&x| [x, y, 1.0])).collect();
    let homogeneous = Tensor::from_vec(homogeneous, (1, height * width, 3), &Device::Cpu)?
        .to_dtype(theta.dtype())? // here: not every device has f64
        .to_device(theta.device())?
        .broadcast_as((n, height * width, 3))?;
    homogeneous.matmul(&theta.contiguous()?.transpose(1, 2)?)?.reshape((n, height, width, 2))
}

/// theta (N, 2, 3) -> grid (N, H', W', 2).
struct AffineGrid {
    targets: Targets,
}

impl AffineGrid {
    fn forward<T: WithDType>(&self, theta: &[T]) -> Vec<T> {
        let (height, width) = self.targets.out_size();
        let mut grid = vec![T::zero(); theta.len() / 6 * height * width * 2];
        let windows = grid.par_chunks_mut((height * width * 2).max(1)).zip(theta.par_chunks(6));
        windows.for_each(|(grid, theta)| {
            let t: [f64; 6] = std::array::from_fn(|i| theta[i].to_f64());
            for (row, &y) in grid.chunks_exact_mut(width * 2).zip(&self.targets.y) {
                let (row_x, row_y) = (t[1] * y + t[2], t[4] * y + t[5]);
                for (point, &x) in row.chunks_exact_mut(2).zip(&self.targets.x) {
                    point[0] = T::from_f64(t[0] * x + row_x);
                    point[1] = T::from_f64(t[3] * x + row_y);
                }
            }
        });
        grid
    }
}

impl CustomOp1 for AffineGrid {
    fn name(&self) -> &'static str {
        "affine_grid"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _, _) = layout.shape().dims3()?;
        let (height, width) = self.targets.out_size();
        let grid = on_elements!("affine_grid", (storage, layout), |theta| self.forward(theta))?;
        Ok((grid, Shape::from((n, height, width, 2))))
    }

    fn bwd(&self, _theta: &Tensor, _grid: &Tensor, grad_grid: &Tensor) -> Result<Option<Tensor>> {
        let backward = AffineGridBackward { targets: self.targets.clone() };
        Ok(Some(grad_grid.contiguous()?.apply_op1_no_bwd(&backward)?))
    }
}

/// grid's gradient (N, H', W', 2) -> theta's (N, 2, 3).
struct AffineGridBackward {
    targets: Targets,
}

impl AffineGridBackward {
    /// Sums in f64, row by row: within a row y is constant.
    fn backward<T: WithDType>(&self, grad_grid: &[T], n: usize) -> Vec<T> {
        let (height, width) = self.targets.out_size();
        let mut grad_theta = vec![T::zero(); n * 6];
        let windows = grad_theta.par_chunks_mut(6).zip(grad_grid.par_chunks((height * width * 2).max(1)));
        windows.for_each(|(grad_theta, grad_grid)| {
            let rows = grad_grid.chunks_exact((width * 2).max(1));
            let sums: Vec<_> = rows.map(|row| row_sums(row, &self.targets)).collect();
            let sum = theta_gradient(&sums, &self.targets);
            for (out, sum) in grad_theta.iter_mut().zip(sum) {
                *out = T::from_f64(sum);
            }
        });
        grad_theta
    }
}

impl CustomOp1 for AffineGridBackward {
    fn name(&self) -> &'static str {
        "affine_grid_backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _, _, _) = layout.shape().dims4()?;
        let grad_theta = on_elements!("affine_grid", (storage, layout), |grad| self.backward(grad, n))?;
        Ok((grad_theta, Shape::from((n, 2, 3))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// The kernel and the tensor operations give the same grid and the same gradient.
    #[test]
    fn kernel_agrees_with_matmul() -> Result<()> {
        let theta = Var::from_vec((0..18).map(|i| f64::from(i * i % 7) - 2.5).collect(), (3, 2, 3), &Device::Cpu)?;
        let weights = Tensor::arange(0.0, 3.0 * 4.0 * 5.0 * 2.0, &Device::Cpu)?.sin()?.reshape((3, 4, 5, 2))?;
        for align_corners in [true, false] {
            let targets = Targets::new((4, 5), align_corners);
            let kernel = affine_grid(&theta, (4, 5), align_corners)?;
            let matmul = matmul(&targets, &theta)?;
            let mut gradients = vec![];
            for grid in [&kernel, &matmul] {
                let grads = (grid * &weights)?.sum_all()?.backward()?;
                gradients.push(
                    grads.get(&theta).map(|g| g.flatten_all()?.to_vec1::<f64>()).transpose()?.unwrap_or_default(),
                );
            }
            assert_eq!(gradients[0].len(), 18);
            for (a, b) in gradients[0].iter().zip(&gradients[1]) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
            let distance = (kernel - matmul)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(distance < 1e-14, "{distance}");
        }
        Ok(())
    }
}
