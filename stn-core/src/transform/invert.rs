use super::compose::homogeneous;
use super::generate;
use crate::ops::real::on_elements;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};

/// Inverts maps given by matrices: source to target, where the matrices map target to source.
///
/// The inverse says where in the output a point of the input is found, which is how a box or a point of the input is
/// drawn on a transformer's output. Computed in `f64` whatever the type.
///
/// # Shapes
///
/// (N, 2, 3), affine, -> (N, 2, 3); or (N, 3, 3), projective, -> (N, 3, 3), not scaled to h33 = 1. Of matrices in half precision the
/// inverse is `f32`.
///
/// # Gradients
///
/// By the matrices: -M^-T G M^-T.
///
/// # Errors
///
/// When a matrix has no inverse, and says which: a determinant of zero to the precision of the result's type, an
/// inverse too large for it, or entries that aren't finite. Whoever must go on regardless can look at the determinants
/// first. Also when the matrices are of neither shape, or not of a float type.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::transform::invert;
///
/// let theta = Tensor::new(&[[[0.5, 0., -0.5], [0., 0.25, 0.75]]], &Device::Cpu)?;
/// assert_eq!(invert(&theta)?.to_vec3::<f64>()?, [[[2., 0., 1.], [0., 4., -3.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn invert(matrix: &Tensor) -> Result<Tensor> {
    match matrix.dims() {
        [_, 2, 3] => generate("invert", &homogeneous(matrix)?, Invert)?.narrow(1, 0, 2)?.contiguous(),
        [_, 3, 3] => generate("invert", matrix, Invert),
        dims => bail!("invert: the matrices must be (N, 2, 3) or (N, 3, 3), got {dims:?}"),
    }
}

/// (N, 3, 3) -> (N, 3, 3).
struct Invert;

impl Invert {
    fn forward<T: WithDType>(&self, matrices: &[T]) -> Result<Vec<T>> {
        let epsilon = if T::DTYPE == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        let mut inverses = Vec::with_capacity(matrices.len());
        for (i, matrix) in matrices.chunks_exact(9).enumerate() {
            let matrix: [f64; 9] = std::array::from_fn(|i| matrix[i].to_f64());
            let inverse = inverse(&matrix, epsilon).map(|inverse| inverse.map(T::from_f64));
            match inverse {
                Some(inverse) if inverse.iter().all(|v| v.to_f64().is_finite()) => inverses.extend(inverse),
                _ => bail!("invert: matrix {i} has no inverse: {matrix:?}"),
            }
        }
        Ok(inverses)
    }
}

/// The adjugate over the determinant; `None` where the determinant is no more than what rounding leaves of zero.
fn inverse(m: &[f64; 9], epsilon: f64) -> Option<[f64; 9]> {
    let [a, b, c, d, e, f, g, h, i] = *m;
    let terms = [a * e * i, b * f * g, c * d * h, -c * e * g, -b * d * i, -a * f * h];
    let determinant: f64 = terms.iter().sum();
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    let adjugate = [
        e * i - f * h,
        c * h - b * i,
        b * f - c * e,
        f * g - d * i,
        a * i - c * g,
        c * d - a * f,
        d * h - e * g,
        b * g - a * h,
        a * e - b * d,
    ];
    (determinant.abs() > 4.0 * epsilon * size).then(|| adjugate.map(|v| v / determinant)) // not if NaN
}

impl CustomOp1 for Invert {
    fn name(&self) -> &'static str {
        "invert"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let inverses = on_elements!("invert", (storage, layout), |matrices| self.forward(matrices)?)?;
        Ok((inverses, layout.shape().clone()))
    }

    fn bwd(&self, _matrix: &Tensor, inverse: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if grad.elem_count() == 0 {
            return Ok(Some(grad.clone()));
        }
        let transposed = inverse.detach().transpose(1, 2)?.contiguous()?.to_dtype(DType::F64)?;
        let grad_matrix = transposed.matmul(&grad.contiguous()?.to_dtype(DType::F64)?)?.matmul(&transposed)?;
        Ok(Some(grad_matrix.neg()?.to_dtype(grad.dtype())?))
    }
}
