//! The CPU kernels of pooling, parallel over the maps.

use super::Pool2dConfig;
use crate::ops::real::Real;
use candle_core::{Result, Shape};
use rayon::prelude::*;
use std::ops::Range;

pub(super) struct Problem {
    maps: (usize, usize),
    size: (usize, usize),
    out: (usize, usize),
    cfg: Pool2dConfig,
}

/// The part of a window that lies on the image, and the number of pixels its mean is taken over.
pub(super) struct Window {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    pixels: usize,
}

impl Problem {
    pub(super) fn new(input: &Shape, cfg: Pool2dConfig) -> Result<Self> {
        let (n, c, h, w) = input.dims4()?;
        let Some(out) = cfg.out_size((h, w)) else { candle_core::bail!("pool2d: no window of {cfg:?} fits {h}x{w}") };
        Ok(Self { maps: (n, c), size: (h, w), out, cfg })
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.maps.0, self.maps.1, self.out.0, self.out.1))
    }

    pub(super) fn out_size(&self) -> (usize, usize) {
        self.out
    }

    fn map_len(&self) -> usize {
        self.size.0 * self.size.1
    }

    fn out_len(&self) -> usize {
        self.out.0 * self.out.1
    }

    fn window(&self, oy: usize, ox: usize) -> Window {
        let Pool2dConfig { kernel, stride, padding, .. } = self.cfg;
        let side = |o: usize, n: usize, kernel: usize, stride: usize, padding: usize| {
            let (start, end) = (o * stride, (o * stride + kernel).min(n + 2 * padding));
            (start.saturating_sub(padding)..end.saturating_sub(padding).min(n), end - start)
        };
        let (rows, height) = side(oy, self.size.0, kernel.0, stride.0, padding.0);
        let (columns, width) = side(ox, self.size.1, kernel.1, stride.1, padding.1);
        Window { rows, columns, pixels: height * width }
    }

    /// Calls `visit(output pixel, window)` for every window of a map.
    pub(super) fn windows(&self, mut visit: impl FnMut(usize, &Window)) {
        for oy in 0..self.out.0 {
            for ox in 0..self.out.1 {
                visit(oy * self.out.1 + ox, &self.window(oy, ox));
            }
        }
    }

    /// Makes `len` elements for each map from slices of `from` of `from_len` elements, maps in parallel.
    fn each_map<T: Real>(
        &self,
        len: usize,
        from: &[T],
        from_len: usize,
        f: impl Fn(&mut [T], &[T], usize) + Sync,
    ) -> Vec<T> {
        let mut out = vec![T::zero(); self.maps.0 * self.maps.1 * len];
        if !out.is_empty() {
            // A map is little work: a thread takes at least sixteen.
            out.par_chunks_mut(len)
                .zip(from.par_chunks(from_len))
                .enumerate()
                .with_min_len(16)
                .for_each(|(i, (out, from))| f(out, from, i));
        }
        out
    }

    /// Whether the windows are 2x2, side by side and all on the image: the pool of nearly every network.
    fn is_halving(&self) -> bool {
        self.cfg.kernel == (2, 2)
            && self.cfg.stride == (2, 2)
            && self.cfg.padding == (0, 0)
            && 2 * self.out.0 <= self.size.0
            && 2 * self.out.1 <= self.size.1
    }

    /// The index of the window's largest value: the first among equals; of several NaN the last, as in PyTorch.
    fn argmax<T: Real>(&self, map: &[T], window: &Window) -> usize {
        let mut best = window.rows.start * self.size.1 + window.columns.start;
        for y in window.rows.clone() {
            for x in window.columns.clone() {
                let i = y * self.size.1 + x;
                if larger(map[i], map[best]) {
                    best = i;
                }
            }
        }
        best
    }
}

/// Whether `a` replaces the maximum `b`: where it is larger or, as in PyTorch, NaN.
#[inline]
fn larger<T: Real>(a: T, b: T) -> bool {
    a > b || is_nan(a)
}

#[inline]
#[allow(clippy::eq_op)]
fn is_nan<T: Real>(a: T) -> bool {
    a != a
}

#[inline]
fn largest<T: Real>(b: T, a: T) -> T {
    if larger(a, b) { a } else { b }
}

/// The two rows of pixels, in pairs, that each row of 2x2 windows lies on.
fn row_pairs<T>(map: &[T], width: usize) -> impl Iterator<Item = impl Iterator<Item = (&[T], &[T])>> {
    map.chunks_exact(2 * width).map(move |rows| {
        let (upper, lower) = rows.split_at(width);
        upper.chunks_exact(2).zip(lower.chunks_exact(2))
    })
}

pub(super) fn max<T: Real>(problem: &Problem, xs: &[T]) -> Vec<T> {
    let (width, halving) = (problem.size.1, problem.is_halving());
    problem.each_map(problem.out_len(), xs, problem.map_len(), |out, map, _| {
        if halving {
            for (line, windows) in out.chunks_exact_mut(problem.out.1).zip(row_pairs(map, width)) {
                for (out, (upper, lower)) in line.iter_mut().zip(windows) {
                    *out = largest(largest(upper[0], upper[1]), largest(lower[0], lower[1]));
                }
            }
        } else {
            problem.windows(|i, window| out[i] = map[problem.argmax(map, window)]);
        }
    })
}

pub(super) fn max_grad<T: Real>(problem: &Problem, xs: &[T], grad: &[T]) -> Vec<T> {
    let (width, halving) = (problem.size.1, problem.is_halving());
    problem.each_map(problem.map_len(), xs, problem.map_len(), |out, map, i| {
        let grad = &grad[i * problem.out_len()..][..problem.out_len()];
        if halving {
            let rows = out.chunks_exact_mut(2 * width).zip(row_pairs(map, width));
            for (line, (out, windows)) in grad.chunks_exact(problem.out.1).zip(rows) {
                let (out_upper, out_lower) = out.split_at_mut(width);
                let out = out_upper.chunks_exact_mut(2).zip(out_lower.chunks_exact_mut(2));
                for ((&grad, (upper, lower)), (out_upper, out_lower)) in line.iter().zip(windows).zip(out) {
                    // Without branches, which the data would make unpredictable: every pixel gets the gradient or zero.
                    let (mut best, mut at) = (upper[0], 0);
                    for (i, x) in [(1, upper[1]), (2, lower[0]), (3, lower[1])] {
                        let replaces = larger(x, best);
                        best = if replaces { x } else { best };
                        at = if replaces { i } else { at };
                    }
                    let share = |i: u32| if at == i { grad } else { T::zero() };
                    (out_upper[0], out_upper[1]) = (share(0), share(1));
                    (out_lower[0], out_lower[1]) = (share(2), share(3));
                }
            }
        } else {
            problem.windows(|i, window| out[problem.argmax(map, window)] += grad[i]);
        }
    })
}

pub(super) fn avg<T: Real>(problem: &Problem, xs: &[T]) -> Vec<T> {
    problem.each_map(problem.out_len(), xs, problem.map_len(), |out, map, _| {
        problem.windows(|i, window| {
            let mut sum = T::zero();
            for y in window.rows.clone() {
                for &x in &map[y * problem.size.1..][window.columns.clone()] {
                    sum += x;
                }
            }
            out[i] = sum / T::from_f64(window.pixels as f64);
        });
    })
}

pub(super) fn avg_grad<T: Real>(problem: &Problem, grad: &[T]) -> Vec<T> {
    problem.each_map(problem.map_len(), grad, problem.out_len(), |out, grad, _| {
        problem.windows(|i, window| {
            let share = grad[i] / T::from_f64(window.pixels as f64);
            for y in window.rows.clone() {
                for x in &mut out[y * problem.size.1..][window.columns.clone()] {
                    *x += share;
                }
            }
        });
    })
}
