use super::generate;
use crate::ops::real::on_elements;
use crate::ops::targets::coordinates;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// Generates the sampling grid of affine matrices of volumes, eq. (10).
///
/// The same as PyTorch's `affine_grid` with a size (N, C, D', H', W'). A side of one voxel looks at the coordinate 0. The kernel is one
/// for the CPU; from and to another device theta and the grid are copied.
///
/// # Shapes
///
/// theta (N, 3, 4), `out_size` (D', H', W') -> (N, D', H', W', 3), last dimension (x, y, z). Of a theta in half precision the grid is
/// `f32`.
///
/// # Gradients
///
/// By theta: the sum over the voxels of the grid's gradient times (x_t, y_t, z_t, 1), summed in `f64`.
///
/// # Errors
///
/// When theta isn't (N, 3, 4), or not of a float type.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let theta = Tensor::arange(1f64, 13., &Device::Cpu)?.reshape((1, 3, 4))?;
/// let grid = stn_core::transform::affine_grid_3d(&theta, (2, 2, 2), true)?; // (1, 2, 2, 2, 3)
/// let plane = grid.get(0)?.get(0)?;
/// assert_eq!(plane.to_vec3::<f64>()?, [[[-2., -10., -18.], [0., 0., 0.]], [[2., 2., 2.], [4., 12., 20.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn affine_grid_3d(theta: &Tensor, out_size: (usize, usize, usize), align_corners: bool) -> Result<Tensor> {
    if !matches!(theta.dims(), [_, 3, 4]) {
        candle_core::bail!("affine_grid_3d: theta must be (N, 3, 4), got {:?}", theta.dims())
    }
    let (depth, height, width) = out_size;
    let targets = Targets {
        x: coordinates(width, align_corners),
        y: coordinates(height, align_corners),
        z: coordinates(depth, align_corners),
    };
    generate("affine_grid_3d", theta, AffineGrid { targets })
}

/// The coordinates (x_t, y_t, z_t) of the output's columns, rows and planes.
#[derive(Debug, Clone)]
struct Targets {
    x: Vec<f64>,
    y: Vec<f64>,
    z: Vec<f64>,
}

impl Targets {
    fn out_size(&self) -> (usize, usize, usize) {
        (self.z.len(), self.y.len(), self.x.len())
    }

    /// The lengths of a row and of a plane of the grid, at least one.
    fn row_and_plane(&self) -> (usize, usize) {
        let row = self.x.len() * 3;
        (row.max(1), (row * self.y.len()).max(1))
    }
}

/// theta (N, 3, 4) -> grid (N, D', H', W', 3).
struct AffineGrid {
    targets: Targets,
}

impl AffineGrid {
    fn forward<T: WithDType>(&self, theta: &[T]) -> Vec<T> {
        let (depth, height, width) = self.targets.out_size();
        let mut grid = vec![T::zero(); theta.len() / 12 * depth * height * width * 3];
        let (row, plane) = self.targets.row_and_plane();
        grid.par_chunks_mut(plane).enumerate().for_each(|(i, grid)| {
            let (theta, z) = (&theta[i / depth * 12..][..12], self.targets.z[i % depth]);
            let t: [[f64; 4]; 3] = std::array::from_fn(|k| std::array::from_fn(|j| theta[4 * k + j].to_f64()));
            for (row, &y) in grid.chunks_exact_mut(row).zip(&self.targets.y) {
                let of_row = t.map(|t| t[1] * y + t[2] * z + t[3]);
                for (point, &x) in row.chunks_exact_mut(3).zip(&self.targets.x) {
                    for k in 0..3 {
                        point[k] = T::from_f64(t[k][0] * x + of_row[k]);
                    }
                }
            }
        });
        grid
    }
}

impl CustomOp1 for AffineGrid {
    fn name(&self) -> &'static str {
        "affine_grid_3d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _, _) = layout.shape().dims3()?;
        let (depth, height, width) = self.targets.out_size();
        let grid = on_elements!("affine_grid_3d", (storage, layout), |theta| self.forward(theta))?;
        Ok((grid, Shape::from((n, depth, height, width, 3))))
    }

    fn bwd(&self, _theta: &Tensor, _grid: &Tensor, grad_grid: &Tensor) -> Result<Option<Tensor>> {
        let backward = AffineGridBackward { targets: self.targets.clone() };
        Ok(Some(grad_grid.contiguous()?.apply_op1_no_bwd(&backward)?))
    }
}

/// grid's gradient (N, D', H', W', 3) -> theta's (N, 3, 4).
struct AffineGridBackward {
    targets: Targets,
}

impl AffineGridBackward {
    /// Sums in f64: plane by plane on many threads, then the planes of each volume in their order.
    fn backward<T: WithDType>(&self, grad_grid: &[T], n: usize) -> Vec<T> {
        let depth = self.targets.z.len();
        let (_, plane) = self.targets.row_and_plane();
        let planes: Vec<[[f64; 3]; 3]> = grad_grid.par_chunks_exact(plane).map(|grad| self.plane(grad)).collect();
        let mut grad_theta = vec![T::zero(); n * 12];
        for (grad_theta, planes) in grad_theta.chunks_exact_mut(12).zip(planes.chunks_exact(depth.max(1))) {
            for (k, grad_theta) in grad_theta.chunks_exact_mut(4).enumerate() {
                let mut sum = [0.0; 4];
                for (of_plane, &z) in planes.iter().zip(&self.targets.z) {
                    let [x, y, one] = of_plane[k];
                    for (sum, term) in sum.iter_mut().zip([x, y, z * one, one]) {
                        *sum += term;
                    }
                }
                for (out, sum) in grad_theta.iter_mut().zip(sum) {
                    *out = T::from_f64(sum);
                }
            }
        }
        grad_theta
    }

    /// One plane's part in each row of theta: the sums of the gradient times x_t, y_t and 1.
    fn plane<T: WithDType>(&self, grad: &[T]) -> [[f64; 3]; 3] {
        let (row, _) = self.targets.row_and_plane();
        let mut sums = [[0.0; 3]; 3];
        for (row, &y) in grad.chunks_exact(row).zip(&self.targets.y) {
            let mut of_row = [[0.0; 2]; 3];
            for (point, &x) in row.chunks_exact(3).zip(&self.targets.x) {
                for (sum, g) in of_row.iter_mut().zip(point) {
                    let g = g.to_f64();
                    sum[0] += g * x;
                    sum[1] += g;
                }
            }
            for (sums, [x, one]) in sums.iter_mut().zip(of_row) {
                for (sum, term) in sums.iter_mut().zip([x, y * one, one]) {
                    *sum += term;
                }
            }
        }
        sums
    }
}

impl CustomOp1 for AffineGridBackward {
    fn name(&self) -> &'static str {
        "affine_grid_3d_backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, _, _, _, _) = layout.shape().dims5()?;
        let grad_theta = on_elements!("affine_grid_3d", (storage, layout), |grad| self.backward(grad, n))?;
        Ok((grad_theta, Shape::from((n, 3, 4))))
    }
}
