//! The CPU kernels of pooling, parallel over the maps.
//!
//! A row of windows is worked on at once. Its pixels are parted by the stride first, so that what one column of all those windows sees lies side by side in
//! memory.

use super::Pool2dConfig;
use crate::ops::real::{Real, vectorised};
use candle_core::{Result, Shape};
use rayon::prelude::*;
use std::ops::Range;

pub(super) struct Problem {
    maps: (usize, usize),
    size: (usize, usize),
    out: (usize, usize),
    cfg: Pool2dConfig,
}

/// The part of a window that lies on the image, and the sides that its mean is taken over.
pub(super) struct Window {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    height: usize,
    width: usize,
}

impl Problem {
    pub(super) fn new(input: &Shape, cfg: Pool2dConfig) -> Result<Self> {
        let (n, c, h, w) = input.dims4()?;
        let Some(out) = cfg.out_size((h, w)) else { candle_core::bail!("pool2d: no window of {cfg:?} fits {h}x{w}") };
        Ok(Self { maps: (n, c), size: (h, w), out, cfg: cfg.on((h, w)) })
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
        Window { rows, columns, height, width }
    }

    /// Calls `visit(output pixel, window)` for every window of a map.
    pub(super) fn windows(&self, mut visit: impl FnMut(usize, &Window)) {
        for oy in 0..self.out.0 {
            for ox in 0..self.out.1 {
                visit(oy * self.out.1 + ox, &self.window(oy, ox));
            }
        }
    }

    /// Makes `len` elements for each map from slices of `from` of `from_len` elements, maps in parallel. Two rows of pixels, the second parted, are at hand; of
    /// what lies outside the image it has `outside`.
    fn each_map<T: Real>(
        &self,
        len: usize,
        (from, from_len): (&[T], usize),
        outside: T,
        f: impl Fn(&mut Scratch<T>, &mut [T], &[T], usize) + Sync,
    ) -> Vec<T> {
        let (f, mut out) = (&f, vec![T::zero(); self.maps.0 * self.maps.1 * len]);
        if !out.is_empty() {
            let scratch = || Scratch {
                row: vec![outside; self.size.1],
                parted: vec![outside; self.cfg.stride.1 * self.phase()],
                windows: vec![outside; self.out.1],
                at: vec![0; self.out.1],
                widths: (0..self.out.1).map(|ox| T::from_f64(self.window(0, ox).width as f64)).collect(),
            };
            // A map is little work: a thread takes at least sixteen.
            out.par_chunks_mut(len).zip(from.par_chunks(from_len)).enumerate().with_min_len(16).for_each_init(
                scratch,
                |scratch, (i, (out, from))| {
                    vectorised!(f(scratch, out, from, i));
                },
            );
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

    /// Elements of a phase of a parted row.
    #[inline(always)]
    fn phase(&self) -> usize {
        self.out.1 + (self.cfg.kernel.1 - 1) / self.cfg.stride.1
    }

    /// Calls `visit(first pixel of a row, where it lies in the parted row, pixels)` for each phase; pixels are a stride apart in the row.
    #[inline(always)]
    fn phases(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (stride, padding, len) = (self.cfg.stride.1, self.cfg.padding.1, self.phase());
        for phase in 0..stride {
            let first = (phase + stride - padding % stride) % stride;
            let to = (first + padding) / stride;
            if first < self.size.1 && to < len {
                visit(first, phase * len + to, (self.size.1 - first).div_ceil(stride).min(len - to));
            }
        }
    }

    /// Parts a row; what of `parted` is outside the image stays as it is.
    #[inline(always)]
    fn part<T: Real>(&self, row: &[T], parted: &mut [T]) {
        self.phases(|first, to, pixels| {
            let to = &mut parted[to..to + pixels];
            match self.cfg.stride.1 {
                1 => to.copy_from_slice(&row[first..first + pixels]),
                2 => {
                    // In pairs, which the compiler vectorises.
                    let pairs = row[first..].chunks_exact(2);
                    if let (&[last], Some(to)) = (pairs.remainder(), to.get_mut(pairs.len())) {
                        *to = last;
                    }
                    to.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[0]);
                }
                stride => to.iter_mut().zip(row[first..].iter().step_by(stride)).for_each(|(to, &x)| *to = x),
            }
        });
    }

    /// Puts a parted row together again.
    #[inline(always)]
    fn join<T: Real>(&self, parted: &[T], row: &mut [T]) {
        self.phases(|first, from, pixels| {
            let from = &parted[from..from + pixels];
            match self.cfg.stride.1 {
                1 => row[first..first + pixels].copy_from_slice(from),
                stride => row[first..].iter_mut().step_by(stride).zip(from).for_each(|(to, &x)| *to = x),
            }
        });
    }

    /// The pixels that a column of all windows of a row sees, in a parted row.
    #[inline(always)]
    fn seen(&self, column: usize) -> Range<usize> {
        let start = column % self.cfg.stride.1 * self.phase() + column / self.cfg.stride.1;
        start..start + self.out.1
    }

    /// Reduces the windows of a row to one value each: the rows that they see to one row, and of that one their columns.
    #[inline(always)]
    fn reduce<T: Real>(
        &self,
        scratch: &mut Scratch<T>,
        map: &[T],
        rows: Range<usize>,
        out: &mut [T],
        f: impl Fn(T, T) -> T,
    ) {
        let each = |to: &mut [T], from: &[T]| to.iter_mut().zip(from).for_each(|(to, &x)| *to = f(*to, x));
        let mut rows = rows.map(|y| &map[y * self.size.1..][..self.size.1]);
        if let Some(first) = rows.next() {
            scratch.row.copy_from_slice(first);
        }
        rows.for_each(|row| each(&mut scratch.row, row));
        self.part(&scratch.row, &mut scratch.parted);
        out.copy_from_slice(&scratch.parted[self.seen(0)]);
        (1..self.cfg.kernel.1).for_each(|column| each(out, &scratch.parted[self.seen(column)]));
    }
}

/// What a thread works with.
struct Scratch<T> {
    row: Vec<T>,
    parted: Vec<T>,
    /// A value for each window of a row.
    windows: Vec<T>,
    /// A pixel for each window of a row, counted from where the window starts.
    at: Vec<u32>,
    /// The width of each window of a row, as its mean has it.
    widths: Vec<T>,
}

/// Whether `a` replaces the maximum `b`: where it is larger or, as in PyTorch, NaN.
#[inline]
fn larger<T: Real>(a: T, b: T) -> bool {
    (a > b) | is_nan(a) // no branch
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
#[inline(always)]
fn row_pairs<T>(map: &[T], width: usize) -> impl Iterator<Item = impl Iterator<Item = (&[T], &[T])>> {
    map.chunks_exact(2 * width).map(move |rows| {
        let (upper, lower) = rows.split_at(width);
        upper.chunks_exact(2).zip(lower.chunks_exact(2))
    })
}

pub(super) fn max<T: Real>(problem: &Problem, xs: &[T]) -> Vec<T> {
    let (outside, halving) = (T::from_f64(f64::NEG_INFINITY), problem.is_halving());
    problem.each_map(
        problem.out_len(),
        (xs, problem.map_len()),
        outside,
        #[inline(always)]
        |scratch, out, map, _| {
            if halving {
                for (line, windows) in out.chunks_exact_mut(problem.out.1).zip(row_pairs(map, problem.size.1)) {
                    for (out, (upper, lower)) in line.iter_mut().zip(windows) {
                        *out = largest(largest(upper[0], upper[1]), largest(lower[0], lower[1]));
                    }
                }
                return;
            }
            for (oy, out) in out.chunks_exact_mut(problem.out.1).enumerate() {
                problem.reduce(scratch, map, problem.window(oy, 0).rows, out, largest);
            }
        },
    )
}

pub(super) fn max_grad<T: Real>(problem: &Problem, xs: &[T], grad: &[T]) -> Vec<T> {
    let outside = T::from_f64(f64::NEG_INFINITY);
    let Pool2dConfig { kernel, stride, padding, .. } = problem.cfg;
    let (width, halving) = (problem.size.1, problem.is_halving());
    problem.each_map(
        problem.map_len(),
        (xs, problem.map_len()),
        outside,
        #[inline(always)]
        |Scratch { parted, windows: best, at, .. }, out, map, i| {
            let grad = &grad[i * problem.out_len()..][..problem.out_len()];
            if halving {
                return max_grad_halving(problem, map, grad, out);
            }
            for (oy, grad) in grad.chunks_exact(problem.out.1).enumerate() {
                let rows = problem.window(oy, 0).rows;
                let pixel = |y: usize, column: usize| ((y + padding.0 - oy * stride.0) * width + column) as u32;
                // The first pixel on the image stays unless another is larger; of several NaN the last is, as in PyTorch.
                best.fill(outside);
                for (ox, at) in at.iter_mut().enumerate() {
                    *at = pixel(rows.start, padding.1.saturating_sub(ox * stride.1));
                }
                for y in rows {
                    problem.part(&map[y * width..][..width], parted);
                    for column in 0..kernel.1 {
                        let pixel = pixel(y, column);
                        let windows = best.iter_mut().zip(at.iter_mut());
                        for ((best, at), &x) in windows.zip(&parted[problem.seen(column)]) {
                            let replaces = larger(x, *best);
                            *best = if replaces { x } else { *best };
                            *at = if replaces { pixel } else { *at };
                        }
                    }
                }
                let start = oy * stride.0 * width;
                for (ox, (&at, &grad)) in at.iter().zip(grad).enumerate() {
                    out[start + ox * stride.1 + at as usize - padding.0 * width - padding.1] += grad;
                }
            }
        },
    )
}

/// The gradient of a map under 2x2 windows side by side.
#[inline(always)]
fn max_grad_halving<T: Real>(problem: &Problem, map: &[T], grad: &[T], out: &mut [T]) {
    let width = problem.size.1;
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
}

pub(super) fn avg<T: Real>(problem: &Problem, xs: &[T]) -> Vec<T> {
    problem.each_map(
        problem.out_len(),
        (xs, problem.map_len()),
        T::zero(),
        #[inline(always)]
        |scratch, out, map, _| {
            for (oy, out) in out.chunks_exact_mut(problem.out.1).enumerate() {
                let window = problem.window(oy, 0);
                problem.reduce(scratch, map, window.rows, out, |sum, x| sum + x);
                let height = T::from_f64(window.height as f64);
                out.iter_mut().zip(&scratch.widths).for_each(|(out, &width)| *out /= height * width);
            }
        },
    )
}

pub(super) fn avg_grad<T: Real>(problem: &Problem, grad: &[T]) -> Vec<T> {
    problem.each_map(
        problem.map_len(),
        (grad, problem.out_len()),
        T::zero(),
        #[inline(always)]
        |Scratch { row, parted, windows: shares, widths, .. }, out, grad, _| {
            for (oy, grad) in grad.chunks_exact(problem.out.1).enumerate() {
                let window = problem.window(oy, 0);
                let (rows, height) = (window.rows, T::from_f64(window.height as f64));
                let windows = shares.iter_mut().zip(grad).zip(widths.iter());
                windows.for_each(|((share, &grad), &width)| *share = grad / (height * width));
                parted.fill(T::zero());
                for column in 0..problem.cfg.kernel.1 {
                    let seen = &mut parted[problem.seen(column)];
                    seen.iter_mut().zip(shares.iter()).for_each(|(sum, &share)| *sum += share);
                }
                problem.join(parted, row);
                for y in rows {
                    let to = &mut out[y * problem.size.1..][..problem.size.1];
                    to.iter_mut().zip(row.iter()).for_each(|(to, &x)| *to += x);
                }
            }
        },
    )
}
