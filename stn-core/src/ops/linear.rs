//! The fully connected layer as one operation, alone or with a ReLU: three products, none of them through a transposed copy.

use super::real::{Real, contiguous, dispatch, tensor_like, with_elements};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "linear";

/// Multiplies by a matrix and adds a bias: y = x Wᵀ + b.
///
/// The equivalent of PyTorch's `torch.nn.functional.linear`, and of `candle_nn::Linear`, whose backward pass adds transposed gradients
/// element by element.
///
/// # Shapes
/// `input` (N, K), `weight` (O, K), `bias` (O,) -> (N, O).
///
/// # Gradients
/// For `input`, `weight` and `bias`; each is computed only where it is asked for. The same bits for any number of threads.
///
/// # Errors
/// On shapes that do not fit, and types other than `f32` and `f64` or that differ. On devices other than the CPU it is made of Candle's own operations.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::linear;
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let w = Tensor::new(&[[3f32, 4.], [-5., -6.]], &Device::Cpu)?;
/// let b = Tensor::new(&[0.5f32, 1.], &Device::Cpu)?;
/// assert_eq!(linear(&x, &w, &b)?.to_vec2::<f32>()?, [[11.5, -16.]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply(input, weight, bias, false)
}

/// [`linear`], then ReLU: max(0, x Wᵀ + b).
///
/// # Shapes
/// As [`linear`].
///
/// # Gradients
/// As [`linear`]; a value of zero or less before the ReLU has gradient zero.
///
/// # Errors
/// As [`linear`].
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use stn_core::ops::linear_relu;
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let w = Tensor::new(&[[3f32, 4.], [-5., -6.]], &Device::Cpu)?;
/// let b = Tensor::new(&[0.5f32, 1.], &Device::Cpu)?;
/// assert_eq!(linear_relu(&x, &w, &b)?.to_vec2::<f32>()?, [[11.5, 0.]]);
/// # Ok(())
/// # }
/// ```
pub fn linear_relu(input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply(input, weight, bias, true)
}

fn apply(input: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Result<Tensor> {
    let shapes = (input.dims(), weight.dims(), bias.dims());
    let (&[_, k], &[o, weight_k], &[bias_o]) = shapes else {
        bail!("{NAME}: input, weight and bias must be (N, K), (O, K) and (O,), got {shapes:?}")
    };
    if k != weight_k || o != bias_o {
        bail!("{NAME}: input, weight and bias must be (N, K), (O, K) and (O,), got {shapes:?}")
    }
    if input.dtype() != weight.dtype() || input.dtype() != bias.dtype() {
        let dtypes = [input.dtype(), weight.dtype(), bias.dtype()];
        bail!("{NAME}: input, weight and bias must have the same dtype, got {dtypes:?}")
    }
    if [input, weight, bias].iter().all(|t| t.device().is_cpu()) {
        return input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { relu });
    }
    let out = input.matmul(&weight.t()?)?.broadcast_add(bias)?;
    if relu { out.relu() } else { Ok(out) }
}

struct Linear {
    relu: bool,
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Linear {
    fn forward<T: Real>(
        &self,
        (input, input_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        (bias, bias_layout): (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, k), o) = (input_layout.shape().dims2()?, bias_layout.shape().dims1()?);
        let input = contiguous::<T>(NAME, input, input_layout)?;
        let weight = contiguous::<T>(NAME, weight, weight_layout)?;
        let bias = contiguous::<T>(NAME, bias, bias_layout)?;
        let mut out: Vec<T> = bias.iter().copied().cycle().take(n * o).collect();
        product(&mut out, Matrix::new(input, n, k), Matrix::new(weight, o, k).t());
        if self.relu {
            out.iter_mut().for_each(|x| *x = if *x <= T::zero() { T::zero() } else { *x });
        }
        Ok((T::to_cpu_storage_owned(out), Shape::from((n, o))))
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let ((n, k), o) = (input.dims2()?, bias.dims1()?);
        let mut grad = with_elements::<T, _>(NAME, &grad.contiguous()?, |grad| Ok(grad.to_vec()))?;
        if self.relu {
            with_elements::<T, _>(NAME, out, |out| {
                let pairs = grad.iter_mut().zip(out);
                pairs.for_each(|(grad, &x)| *grad = if x <= T::zero() { T::zero() } else { *grad });
                Ok(())
            })?;
        }
        let rows = Matrix::new(&grad, n, o);
        let grad_input = if input.track_op() {
            let mut out = vec![T::zero(); n * k];
            with_elements(NAME, weight, |weight| {
                product(&mut out, rows, Matrix::new(weight, o, k));
                Ok(())
            })?;
            Some(tensor_like(out, input)?)
        } else {
            None
        };
        let grad_weight = if weight.track_op() {
            let mut out = vec![T::zero(); o * k];
            with_elements(NAME, input, |input| {
                product(&mut out, rows.t(), Matrix::new(input, n, k));
                Ok(())
            })?;
            Some(tensor_like(out, weight)?)
        } else {
            None
        };
        let grad_bias = if bias.track_op() {
            let mut out = vec![T::zero(); o];
            for row in grad.chunks_exact(o.max(1)) {
                out.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
            Some(tensor_like(out, bias)?)
        } else {
            None
        };
        Ok((grad_input, grad_weight, grad_bias))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2), (s3, l3)))
    }

    fn bwd(&self, input: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        dispatch!(NAME, input, self.backward(input, weight, bias, out, grad))
    }
}

/// Products of fewer multiplications than this are one thread's: waking another takes longer.
const SHARED: usize = 2_000_000;

/// A matrix of a slice: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix.
    pub(super) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row: cols, col: 1 }
    }

    /// The same elements, rows and columns exchanged.
    pub(super) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row + (self.cols - 1) * self.col < self.data.len()
    }
}

/// `dst += lhs rhs`; `dst` is row-major. On all threads, which share the rows and columns and never a sum.
pub(super) fn product<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    let shared = lhs.rows * lhs.cols * rhs.cols >= SHARED;
    product_with(dst, lhs, rhs, if shared { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None });
}

/// The same on this thread alone, for callers that have a product for each thread.
pub(super) fn product_alone<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>) {
    product_with(dst, lhs, rhs, gemm::Parallelism::None);
}

fn product_with<T: Real>(dst: &mut [T], lhs: Matrix<T>, rhs: Matrix<T>, threads: gemm::Parallelism) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert!(k == rhs.rows && dst.len() == m * n && lhs.fits() && rhs.fits(), "product: sizes disagree");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    // SAFETY: the assertion above keeps every index that gemm forms from these sizes and strides within the three slices; dst is
    // borrowed mutably and so overlaps neither operand; T is f32 or f64, both of which gemm implements.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            true,
            lhs.data.as_ptr(),
            lhs.col as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.col as isize,
            rhs.row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_operands_and_accumulation() {
        let a = [1.0f64, 2., 3., 4., 5., 6.]; // 2 x 3
        let b = [1.0f64, -1., 2., 0., 1., 3.]; // 2 x 3
        let mut dst = [100.0f64; 4];
        product(&mut dst, Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3).t());
        assert_eq!(dst, [105., 111., 111., 123.]);
    }

    #[test]
    #[should_panic(expected = "sizes disagree")]
    fn a_short_slice_is_refused() {
        product(&mut [0.0f32; 4], Matrix::new(&[0.0; 5], 2, 3), Matrix::new(&[0.0; 6], 3, 2));
    }
}
