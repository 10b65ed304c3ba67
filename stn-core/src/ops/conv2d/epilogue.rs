//! What follows the convolution while its maps are in the cache: ReLU and max-pooling; and the way back from pooled windows to maps.

use crate::ops::interleave;
use crate::ops::pool2d::{Pool2dConfig, Windows};
use crate::ops::real::{Real, first, set_first, width};
use pulp::{Arch, Simd, WithSimd};

/// ReLU, and max-pooling, of maps of one size.
pub(super) struct Epilogue {
    pub(super) relu: bool,
    /// Height and width of the maps.
    out: (usize, usize),
    pub(super) windows: Option<Windows>,
}

/// The cell of a window without a gradient: its maximum was not positive.
pub(super) const DEAD: u8 = u8::MAX;

/// The results of some filters for a group of images: filter by filter, those of the images one after the other.
pub(super) struct Planes<'a, T> {
    pub(super) out: Vec<&'a mut [T]>,
    /// Which pixel of each window is the largest; empty without a pool.
    pub(super) cells: Vec<&'a mut [u8]>,
}

/// Buffers that a thread keeps from one task to the next.
#[derive(Default)]
pub(super) struct Scratch<T> {
    pub(super) maps: Vec<T>,
    pooled: Vec<T>,
    cells: Vec<T>,
    bytes: Vec<u8>,
}

impl Epilogue {
    /// For maps of `out` pixels.
    pub(super) fn new(out: (usize, usize), relu: bool, pool: Option<Pool2dConfig>) -> candle_core::Result<Self> {
        let windows = match pool {
            Some(pool) => Some(Windows::new(out, pool)?),
            None => None,
        };
        Ok(Self { relu, out, windows })
    }

    /// Height and width of the result.
    pub(super) fn size(&self) -> (usize, usize) {
        self.windows.as_ref().map_or(self.out, Windows::size)
    }

    /// Pixels of the result.
    pub(super) fn positions(&self) -> usize {
        self.size().0 * self.size().1
    }

    /// Finishes the maps of some filters for `images` images, (filters, H', W', lanes), and gives them out.
    pub(super) fn finish<T: Real>(&self, images: usize, scratch: &mut Scratch<T>, to: &mut Planes<T>) {
        Arch::new().dispatch(Finish { epilogue: self, images, scratch, to });
    }
}

struct Finish<'a, 'b, T> {
    epilogue: &'a Epilogue,
    images: usize,
    scratch: &'a mut Scratch<T>,
    to: &'a mut Planes<'b, T>,
}

impl<T: Real> WithSimd for Finish<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { epilogue, images, scratch: Scratch { maps, pooled, cells, bytes }, to } = self;
        let len = epilogue.out.0 * epilogue.out.1 * T::LANES;
        for (i, (map, out)) in maps.chunks_exact_mut(len).zip(to.out.chunks_mut(images)).enumerate() {
            if let Some(windows) = &epilogue.windows {
                pooled.resize(epilogue.positions() * T::LANES, T::zero());
                cells.resize(pooled.len(), T::zero());
                max_pool(simd, windows, epilogue.relu, map, pooled, cells);
                interleave::store::<T, _>(pooled, out, 0);
                let to = &mut to.cells[i * images..(i + 1) * images];
                bytes.clear();
                bytes.extend(cells.iter().map(|cell| cell.to_byte()));
                interleave::store::<T, _>(bytes, to, 0);
            } else {
                if epilogue.relu {
                    for pixels in map.chunks_exact_mut(width::<T, S>()) {
                        let x = first::<T, S>(pixels);
                        set_first::<T, S>(pixels, relu(simd, x, x, T::zero()));
                    }
                }
                interleave::store::<T, _>(map, out, 0);
            }
        }
    }
}

/// `x`, or `dead` where `value` is not positive. NaN is not zero or less.
#[inline(always)]
fn relu<T: Real, S: Simd>(simd: S, value: T::Vector<S>, x: T::Vector<S>, dead: T) -> T::Vector<S> {
    T::vector_if_at_most(simd, (value, T::splat(simd, T::zero())), T::splat(simd, dead), x)
}

/// The largest value of each window and the cell it lies in: the first among equals, of several NaN the last.
#[inline(always)]
fn max_pool<T: Real, S: Simd>(simd: S, windows: &Windows, relu_too: bool, map: &[T], out: &mut [T], cells: &mut [T]) {
    let outs = out.chunks_exact_mut(T::LANES).zip(cells.chunks_exact_mut(T::LANES));
    for (window, (out, cells)) in windows.iter().zip(outs) {
        for lane in (0..T::LANES).step_by(width::<T, S>()) {
            let pixel = |i: usize| first::<T, S>(&map[window[i] * T::LANES + lane..]);
            let (mut best, mut at) = (pixel(0), T::splat(simd, T::zero()));
            for i in 1..window.len() {
                let (x, cell) = (pixel(i), T::splat(simd, T::from_f64(i as f64)));
                at = T::vector_if_greater(simd, (x, best), cell, at);
                best = T::vector_if_greater(simd, (x, best), x, best);
                // NaN, which is not at most itself, replaces whatever is there.
                at = T::vector_if_at_most(simd, (x, x), at, cell);
                best = T::vector_if_at_most(simd, (x, x), best, x);
            }
            if relu_too {
                at = relu(simd, best, at, T::from_f64(f64::from(DEAD)));
                best = relu(simd, best, best, T::zero());
            }
            set_first::<T, S>(&mut out[lane..], best);
            set_first::<T, S>(&mut cells[lane..], at);
        }
    }
}

/// Gives the gradients of windows to their largest pixels, which `cells` names: the backward pass of the max-pooling, in lanes. `map` is zero before.
pub(super) fn unpool<T: Real>(windows: &Windows, grads: &[T], cells: &[T], map: &mut [T]) {
    Arch::new().dispatch(Unpool { windows, grads, cells, map });
}

struct Unpool<'a, T> {
    windows: &'a Windows,
    grads: &'a [T],
    cells: &'a [T],
    map: &'a mut [T],
}

impl<T: Real> WithSimd for Unpool<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { windows, grads, cells, map } = self;
        let (zero, pooled) =
            (T::splat(simd, T::zero()), grads.chunks_exact(T::LANES).zip(cells.chunks_exact(T::LANES)));
        for (window, (grads, cells)) in windows.iter().zip(pooled) {
            for lane in (0..T::LANES).step_by(width::<T, S>()) {
                let (grad, at) = (first::<T, S>(&grads[lane..]), first::<T, S>(&cells[lane..]));
                for (i, &pixel) in window.iter().enumerate() {
                    let cell = T::splat(simd, T::from_f64(i as f64));
                    let here = T::vector_if_at_most(simd, (cell, at), grad, zero);
                    let here = T::vector_if_at_most(simd, (at, cell), here, zero);
                    let to = &mut map[pixel * T::LANES + lane..];
                    set_first::<T, S>(to, T::vector_add(simd, first::<T, S>(to), here));
                }
            }
        }
    }
}
