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
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
    pixels: usize,
}

impl Problem {
    pub(super) fn new(input: &Shape, cfg: Pool2dConfig) -> Result<Self> {
        let (n, c, h, w) = input.dims4()?;
        let side = |n: usize, kernel: usize, stride: usize, padding: usize| {
            let span = n + 2 * padding - kernel;
            if !cfg.ceil_mode {
                return span / stride + 1;
            }
            let count = span.div_ceil(stride) + 1;
            // The last window must start on the image or in the padding before it.
            if (count - 1) * stride >= n + padding { count - 1 } else { count }
        };
        let out =
            (side(h, cfg.kernel.0, cfg.stride.0, cfg.padding.0), side(w, cfg.kernel.1, cfg.stride.1, cfg.padding.1));
        Ok(Self { maps: (n, c), size: (h, w), out, cfg })
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.maps.0, self.maps.1, self.out.0, self.out.1))
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
    fn windows(&self, mut visit: impl FnMut(usize, &Window)) {
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

    /// The index of the window's largest value: the first among equals, a NaN before all.
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

/// Whether `a` replaces the maximum `b`: NaN replaces any number, and nothing replaces NaN.
#[allow(clippy::eq_op)]
fn larger<T: Real>(a: T, b: T) -> bool {
    a > b || (a != a && b == b)
}

/// The index of the largest of the 2x2 window whose first pixel is `i`.
fn argmax_2x2<T: Real>(map: &[T], i: usize, width: usize) -> usize {
    let mut best = i;
    for j in [i + 1, i + width, i + width + 1] {
        if larger(map[j], map[best]) {
            best = j;
        }
    }
    best
}

pub(super) fn max<T: Real>(problem: &Problem, xs: &[T]) -> Vec<T> {
    let (width, halving) = (problem.size.1, problem.is_halving());
    problem.each_map(problem.out_len(), xs, problem.map_len(), |out, map, _| {
        if halving {
            for (oy, line) in out.chunks_exact_mut(problem.out.1).enumerate() {
                for (ox, out) in line.iter_mut().enumerate() {
                    *out = map[argmax_2x2(map, 2 * oy * width + 2 * ox, width)];
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
            for (oy, line) in grad.chunks_exact(problem.out.1).enumerate() {
                for (ox, &grad) in line.iter().enumerate() {
                    out[argmax_2x2(map, 2 * oy * width + 2 * ox, width)] = grad;
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
