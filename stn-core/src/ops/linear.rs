//! The fully connected layer as one operation, alone or with a ReLU: three products, none of them through a transposed copy.

use super::product::{Matrix, Threads, add_product};
use super::real::{Gradients, Real, contiguous, dispatch, tensor_like, unsupported, with_elements};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "linear";

/// Multiplies by a matrix and adds a bias: y = x Wᵀ + b.
///
/// The equivalent of PyTorch's `torch.nn.functional.linear`, and of `candle_nn::Linear`, whose backward pass adds transposed gradients
/// element by element.
///
/// # Shapes
/// `input` (.., K), `weight` (O, K), `bias` (O,) -> (.., O).
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
    apply("linear", input, weight, bias, false)
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
    apply("linear_relu", input, weight, bias, true)
}

fn apply(op: &str, input: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Result<Tensor> {
    let shapes = (input.dims(), weight.dims(), bias.dims());
    let fit = matches!(shapes, (&[.., k], &[o, weight_k], &[bias_o]) if k == weight_k && o == bias_o);
    if !fit {
        bail!("{op}: input, weight and bias must be (.., K), (O, K) and (O,), got {shapes:?}")
    }
    if let &[ref leading @ .., k] = input.dims()
        && leading.len() != 1
    {
        let shape: Vec<usize> = leading.iter().copied().chain([weight.dim(0)?]).collect();
        let rows = input.reshape((leading.iter().product::<usize>(), k))?;
        return apply(op, &rows, weight, bias, relu)?.reshape(shape);
    }
    if input.dtype() != weight.dtype() || input.dtype() != bias.dtype() {
        let dtypes = [input.dtype(), weight.dtype(), bias.dtype()];
        bail!("{op}: input, weight and bias must have the same dtype, got {dtypes:?}")
    }
    if [input, weight, bias].iter().all(|t| t.device().is_cpu()) {
        if !matches!(input.dtype(), DType::F32 | DType::F64) {
            return unsupported(op, input.dtype());
        }
        return input.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { relu });
    }
    let out = input.contiguous()?.matmul(&weight.contiguous()?.t()?)?.broadcast_add(bias)?;
    if relu { relu_by_operations(&out) } else { Ok(out) }
}

/// ReLU whose gradient at zero is zero: Candle's own has one there.
fn relu_by_operations(x: &Tensor) -> Result<Tensor> {
    x.relu()? * x.gt(0.0)?.to_dtype(x.dtype())?
}

struct Linear {
    relu: bool,
}

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
        add_product(&mut out, Matrix::new(input, n, k), Matrix::new(weight, o, k).t(), Threads::All);
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
                add_product(&mut out, rows, Matrix::new(weight, o, k), Threads::All);
                Ok(())
            })?;
            Some(tensor_like(out, input)?)
        } else {
            None
        };
        let grad_weight = if weight.track_op() {
            let mut out = vec![T::zero(); o * k];
            with_elements(NAME, input, |input| {
                add_product(&mut out, rows.t(), Matrix::new(input, n, k), Threads::All);
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn relu_of_operations_is_flat_at_zero() -> Result<()> {
        let x = Var::new(&[-2f32, -0.0, 0.0, 3.0], &Device::Cpu)?;
        let y = relu_by_operations(&x)?;
        assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.0, 0.0, 3.0]);
        let grads = y.sum_all()?.backward()?;
        let Some(grad) = grads.get(&x) else { bail!("no gradient") };
        assert_eq!(grad.to_vec1::<f32>()?, [0.0, 0.0, 0.0, 1.0]);
        Ok(())
    }
}
