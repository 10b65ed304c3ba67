//! The element types that the CPU kernels are written for, and their vectors.

use candle_core::{CpuStorage, DType, Device, Layout, Result, Tensor, WithDType};
use pulp::Simd;

/// The gradients of an op's three inputs, each where it is asked for.
pub(crate) type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// `f32` or `f64`.
pub(crate) trait Real: WithDType + Default {
    /// As many elements as fill a cache line: what the kernels of the convolution interleave.
    const LANES: usize;

    /// A vector of the instruction set `S`: a whole fraction of [`LANES`](Self::LANES) elements.
    type Vector<S: Simd>: Copy + Send + Sync;

    /// All elements `value`.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// `a * b + c`.
    fn vector_mul_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;

    /// `a + b`.
    fn vector_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a - b`.
    fn vector_sub<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a * b`.
    fn vector_mul<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `x` where the first of the pair is greater, else `y`.
    fn vector_if_greater<S: Simd>(
        simd: S,
        ab: (Self::Vector<S>, Self::Vector<S>),
        x: Self::Vector<S>,
        y: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// `x` where the first of the pair is at most the second, else `y`, also where one of them is NaN.
    fn vector_if_at_most<S: Simd>(
        simd: S,
        ab: (Self::Vector<S>, Self::Vector<S>),
        x: Self::Vector<S>,
        y: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// The sum of the elements.
    fn vector_sum<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;

    /// A whole number of 0 to 255.
    fn to_byte(self) -> u8;
}

macro_rules! real {
    ($type:ty, $lanes:expr, $vector:ident, $splat:ident, $mul_add:ident, $add:ident, $sub:ident, $mul:ident, $greater:ident, $at_most:ident, $select:ident, $sum:ident) => {
        impl Real for $type {
            const LANES: usize = $lanes;
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn to_byte(self) -> u8 {
                self as u8
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn vector_mul_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn vector_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn vector_sub<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn vector_mul<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn vector_if_greater<S: Simd>(
                simd: S,
                (a, b): (S::$vector, S::$vector),
                x: S::$vector,
                y: S::$vector,
            ) -> S::$vector {
                simd.$select(simd.$greater(a, b), x, y)
            }

            #[inline(always)]
            fn vector_if_at_most<S: Simd>(
                simd: S,
                (a, b): (S::$vector, S::$vector),
                x: S::$vector,
                y: S::$vector,
            ) -> S::$vector {
                simd.$select(simd.$at_most(a, b), x, y)
            }

            #[inline(always)]
            fn vector_sum<S: Simd>(simd: S, a: S::$vector) -> Self {
                simd.$sum(a)
            }
        }
    };
}
real!(
    f32,
    16,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    greater_than_f32s,
    less_than_or_equal_f32s,
    select_f32s,
    reduce_sum_f32s
);
real!(
    f64,
    8,
    f64s,
    splat_f64s,
    mul_add_e_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    greater_than_f64s,
    less_than_or_equal_f64s,
    select_f64s,
    reduce_sum_f64s
);

/// Sums run up in so many strands, so that they can be vectorised.
pub(crate) const STRANDS: usize = 16;

/// Elements of a vector.
pub(crate) const fn width<T: Real, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

/// Reads a vector.
///
/// # Safety
/// A whole vector must be readable at `from`, which need not be aligned.
#[inline(always)]
pub(crate) unsafe fn load<T: Real, S: Simd>(from: *const T) -> T::Vector<S> {
    // SAFETY: as the caller vouches.
    unsafe { from.cast::<T::Vector<S>>().read_unaligned() }
}

/// Writes a vector.
///
/// # Safety
/// A whole vector must be writable at `to`, which need not be aligned.
#[inline(always)]
pub(crate) unsafe fn store<T: Real, S: Simd>(to: *mut T, value: T::Vector<S>) {
    // SAFETY: as the caller vouches.
    unsafe { to.cast::<T::Vector<S>>().write_unaligned(value) }
}

/// The vector at the start of a slice.
#[inline(always)]
pub(crate) fn first<T: Real, S: Simd>(from: &[T]) -> T::Vector<S> {
    assert!(from.len() >= width::<T, S>());
    // SAFETY: there are enough elements, asserted above.
    unsafe { load::<T, S>(from.as_ptr()) }
}

/// Replaces the vector at the start of a slice.
#[inline(always)]
pub(crate) fn set_first<T: Real, S: Simd>(to: &mut [T], value: T::Vector<S>) {
    assert!(to.len() >= width::<T, S>());
    // SAFETY: there are enough elements, asserted above.
    unsafe { store::<T, S>(to.as_mut_ptr(), value) }
}

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Real>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => candle_core::bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// Where a row of a contiguous matrix lies.
pub(crate) fn row(matrix: &Layout, row: usize) -> Result<Layout> {
    let (_, columns) = matrix.shape().dims2()?;
    Ok(Layout::contiguous_with_offset(columns, matrix.start_offset() + row * columns))
}

/// Calls `f` with the elements of a contiguous tensor on the CPU.
pub(crate) fn with_elements<T: Real, R>(op: &str, tensor: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => f(contiguous(op, storage, layout)?),
        _ => candle_core::bail!("{op}: there is a kernel for the CPU only, got a tensor on {:?}", tensor.device()),
    }
}

/// A tensor on the CPU of the shape of another.
pub(crate) fn tensor_like<T: Real>(values: Vec<T>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}

/// The error for an element type without a kernel.
pub(crate) fn unsupported<R>(op: &str, dtype: DType) -> Result<R> {
    candle_core::bail!("{op}: the dtype must be f32 or f64, got {dtype:?}; convert the tensors with to_dtype")
}

/// Calls `$f::<f32>` or `$f::<f64>` after the element type of `$of`, a tensor or its storage.
macro_rules! dispatch {
    ($op:expr, $of:expr, $self:ident . $f:ident ( $($arg:expr),* )) => {{
        #[allow(unused_imports)] // a tensor's `dtype` is its own
        use candle_core::backend::BackendStorage as _;
        match $of.dtype() {
            candle_core::DType::F32 => $self.$f::<f32>($($arg),*),
            candle_core::DType::F64 => $self.$f::<f64>($($arg),*),
            other => crate::ops::real::unsupported($op, other),
        }
    }};
}
pub(crate) use dispatch;

/// Makes a kernel's result of the elements of a contiguous tensor, `f32` or `f64`: the storage of what the closure makes of them.
macro_rules! on_elements {
    ($op:expr, ($storage:expr, $layout:expr), |$elements:ident| $result:expr) => {{
        use candle_core::{CpuStorage, backend::BackendStorage as _};
        match $storage {
            CpuStorage::F32(_) => {
                let $elements = crate::ops::real::contiguous::<f32>($op, $storage, $layout)?;
                Ok(CpuStorage::F32($result))
            }
            CpuStorage::F64(_) => {
                let $elements = crate::ops::real::contiguous::<f64>($op, $storage, $layout)?;
                Ok(CpuStorage::F64($result))
            }
            other => crate::ops::real::unsupported($op, other.dtype()),
        }
    }};
}
pub(crate) use on_elements;

/// What [`vectorised!`] gives away.
pub(crate) struct Once;

/// Runs a block compiled for the vectors that the processor has.
///
/// A closure that could run twice is called through a function of its own, which the compiler compiles without them and does not inline: this one gives something
/// away, and so runs once. `for_each` can be such a function too (that of zipped chunks was): a `for` loop is not. What the block uses is moved into it: through a
/// reference it would be read again after each element written, and the loop would not be vectorised.
macro_rules! vectorised {
    ($block:expr) => {{
        let once = crate::ops::real::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                let _once = once;
                $block
            },
        )
    }};
}
pub(crate) use vectorised;
