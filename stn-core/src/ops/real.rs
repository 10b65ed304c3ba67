//! The element types that the CPU kernels are written for.

use candle_core::{CpuStorage, DType, Layout, Result, WithDType};

/// `f32` or `f64`.
pub(crate) trait Real: WithDType + Default {}
impl Real for f32 {}
impl Real for f64 {}

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Real>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => candle_core::bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// The error for an element type without a kernel.
pub(crate) fn unsupported<R>(op: &str, dtype: DType) -> Result<R> {
    candle_core::bail!("{op}: the dtype must be f32 or f64, got {dtype:?}; convert the tensors with to_dtype")
}

/// Calls `$f::<f32>` or `$f::<f64>` after the element type of `$storage`.
macro_rules! dispatch {
    ($op:expr, $storage:expr, $self:ident . $f:ident ( $($arg:expr),* )) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => $self.$f::<f32>($($arg),*),
            candle_core::CpuStorage::F64(_) => $self.$f::<f64>($($arg),*),
            other => crate::ops::real::unsupported($op, candle_core::backend::BackendStorage::dtype(other)),
        }
    };
}
pub(crate) use dispatch;
