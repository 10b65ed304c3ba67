//! A step in one pass: variable, state and gradient are read once, and variable and state written once, in place.
//!
//! Tensor operations would pass over each of them several times and allocate every result.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::cell::Cell;
use std::ops::{Add, Div, Mul, Sub};

/// What a step does to one element of a variable and of its state. The constants are the optimiser's, in f64.
pub(super) trait Rule<const K: usize>: Sync {
    /// The new values of [variable, state ..] from the old ones and the gradient.
    fn step<T: Element>(&self, old: [T; K], grad: T) -> [T; K];
}

/// `f32` or `f64`.
pub(super) trait Element:
    Copy + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn of(value: f64) -> Self;
    fn sqrt(self) -> Self;
    /// Zero for a subnormal number. What a unit that has died leaves in a running mean shrinks until it is one, and
    /// never reaches zero; processors are many times slower on such numbers.
    fn without_subnormals(self) -> Self;
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($t:ident, $variant:ident) => {
        impl Element for $t {
            #[inline]
            fn of(value: f64) -> Self {
                value as $t
            }

            #[inline]
            fn sqrt(self) -> Self {
                $t::sqrt(self) // rounded correctly on every platform
            }

            #[inline]
            fn without_subnormals(self) -> Self {
                if self.abs() < $t::MIN_POSITIVE { 0.0 } else { self } // NaN stays
            }

            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$variant(data) = storage { Some(data) } else { None }
            }

            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$variant(data) = storage { Some(data) } else { None }
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);

/// Applies the rule to all elements of `tensors` = [variable, state ..], in place, so that a tensor that shares a
/// variable's storage sees the new values.
///
/// Returns whether it could: it can on the CPU, in f32 and f64, for contiguous tensors of one shape, none of which shares
/// its storage with the gradient. Where it can't, nothing has changed. The tensors must not share storage with each other.
pub(super) fn step<const K: usize>(tensors: [&Tensor; K], grad: &Tensor, rule: &impl Rule<K>) -> Result<bool> {
    let grad = grad.contiguous()?;
    let fits =
        |t: &Tensor| t.device().is_cpu() && t.is_contiguous() && t.dtype() == grad.dtype() && t.shape() == grad.shape();
    if !grad.device().is_cpu() || !tensors.into_iter().all(|t| fits(t) && storage_of(t) != storage_of(&grad)) {
        return Ok(false);
    }
    match grad.dtype() {
        DType::F32 => locked(&tensors, Vec::with_capacity(K), &mut |open| pass::<f32, K>(open, &grad, rule))?,
        DType::F64 => locked(&tensors, Vec::with_capacity(K), &mut |open| pass::<f64, K>(open, &grad, rule))?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Tells storages apart: reading the gradient while the variable is locked for writing would never end if they were one.
fn storage_of(tensor: &Tensor) -> *const Storage {
    std::ptr::from_ref(&*tensor.storage_and_layout().0)
}

/// Calls `run` with the elements of all `tensors`, after those that are `open` already.
fn locked<'a, T: Element>(
    tensors: &[&Tensor],
    open: Vec<&'a mut [T]>,
    run: &mut dyn FnMut(Vec<&mut [T]>) -> Result<()>,
) -> Result<()> {
    let [first, rest @ ..] = tensors else { return run(open) };
    let with_first = |storage: &mut CpuStorage, layout: &Layout| {
        let mut open: Vec<&mut [T]> = open; // shortens their lifetime to that of this lock
        match (T::slice_mut(storage), layout.contiguous_offsets()) {
            (Some(all), Some((start, end))) => open.push(&mut all[start..end]),
            _ => bail!("optimiser-step: expected contiguous elements of the gradient's dtype, got {layout:?}"),
        }
        locked(rest, open, run)
    };
    first.inplace_op1(&WithElements(Cell::new(Some(with_first))))
}

/// Candle hands out a storage to be written to operations only: this is the operation of calling a function once.
struct WithElements<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut CpuStorage, &Layout) -> Result<()>> InplaceOp1 for WithElements<F> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.0.take().map_or(Ok(()), |run| run(storage, layout))
    }
}

/// Applies the rule to opened tensors.
fn pass<T: Element, const K: usize>(open: Vec<&mut [T]>, grad: &Tensor, rule: &impl Rule<K>) -> Result<()> {
    let (storage, layout) = grad.storage_and_layout();
    match (open.try_into(), &*storage, layout.contiguous_offsets()) {
        (Ok(values), Storage::Cpu(storage), Some((start, end))) => {
            let Some(grad) = T::slice(storage) else { bail!("optimiser-step: the gradient's dtype has changed") };
            split(values, &grad[start..end], rule);
            Ok(())
        }
        _ => bail!("optimiser-step: expected {K} tensors and a contiguous gradient on the CPU, got {layout:?}"),
    }
}

/// Elements that one thread takes at least: 64 KiB of each f32 tensor, some microseconds of work.
const SHARE: usize = 1 << 14;

/// Halves the elements among the threads. Each is computed alone, so the split cannot change a bit.
fn split<T: Element, const K: usize>(values: [&mut [T]; K], grad: &[T], rule: &impl Rule<K>) {
    if grad.len() <= SHARE {
        return apply(values, grad, rule);
    }
    let middle = (grad.len() / 2).next_multiple_of(64); // whole vectors and cache lines
    let mut left = values;
    let right = left.each_mut().map(|values| {
        let (first, last) = std::mem::take(values).split_at_mut(middle);
        *values = first;
        last
    });
    let (first, last) = grad.split_at(middle);
    rayon::join(|| split(left, first, rule), || split(right, last, rule));
}

/// The loop. It has no branch and no call, so the compiler makes vectors of it.
fn apply<T: Element, const K: usize>(values: [&mut [T]; K], grad: &[T], rule: &impl Rule<K>) {
    let values = values.map(|values| &mut values[..grad.len()]); // known to be as long: no checks in the loop
    for (i, &grad) in grad.iter().enumerate() {
        let new = rule.step(std::array::from_fn(|k| values[k][i]), grad);
        for k in 0..K {
            values[k][i] = new[k];
        }
    }
}
