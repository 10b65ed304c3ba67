//! The CPU kernels of the sampler: forward and the two backward passes are the same walk over the taps of the output's pixels.

use super::{GridSampleConfig, Padding};
use crate::ops::real::Real;
use candle_core::{Layout, Result, Shape};
use rayon::prelude::*;

/// One side of the image: from a normalised coordinate to pixels.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    align_corners: bool,
    padding: Padding,
}

/// A coordinate in pixels: `floor + fraction`, and its derivative by the normalised coordinate.
struct Position {
    floor: isize,
    fraction: f64,
    slope: f64,
}

impl Axis {
    /// The position that the padding gives the coordinate `g`; `None` where no pixel is in reach.
    fn locate(&self, g: f64) -> Option<Position> {
        let n = self.size as f64;
        let (p, slope) = if self.align_corners {
            ((g + 1.0) / 2.0 * (n - 1.0), (n - 1.0) / 2.0)
        } else {
            (((g + 1.0) * n - 1.0) / 2.0, n / 2.0)
        };
        let (p, slope) = match self.padding {
            // NaN fails both comparisons. Bounded by them, p fits an isize.
            Padding::Zeros if p >= -1.0 && p < n => (p, slope),
            Padding::Zeros => return None,
            Padding::Border if p > 0.0 && p < n - 1.0 => (p, slope),
            // Equality counts as outside; NaN is neither and becomes the first pixel.
            Padding::Border => (if p >= n - 1.0 { n - 1.0 } else { 0.0 }, 0.0),
        };
        let floor = p.floor();
        Some(Position { floor: floor as isize, fraction: p - floor, slope })
    }

    fn contains(&self, index: isize) -> bool {
        index >= 0 && (index as usize) < self.size
    }
}

/// The four pixels round one sampling point: north-west, north-east, south-west, south-east.
#[derive(Clone, Copy)]
struct Taps<T> {
    /// Offsets within a channel; meaningful where `inside` is set.
    offset: [usize; 4],
    inside: [bool; 4],
    /// How far the point is from the western and the northern pixels.
    fraction: (T, T),
    /// Derivatives of the pixel coordinates by the normalised ones.
    slope: (T, T),
}

impl<T: Real> Taps<T> {
    fn weights(&self) -> [T; 4] {
        let (fx, fy) = self.fraction;
        let (ex, ey) = (T::one() - fx, T::one() - fy);
        [ex * ey, fx * ey, ex * fy, fx * fy]
    }

    /// The four pixels' values, zero where there is none.
    fn values(&self, channel: &[T]) -> [T; 4] {
        std::array::from_fn(|i| if self.inside[i] { channel[self.offset[i]] } else { T::zero() })
    }
}

/// The sizes, strides and options of one call.
pub(super) struct Problem {
    x: Axis,
    y: Axis,
    images: usize,
    channels: usize,
    windows: usize,
    out: (usize, usize),
    start: usize,
    /// Strides of the input: image, channel, row, column.
    stride: [usize; 4],
}

impl Problem {
    pub(super) fn new(input: &Layout, grid: &Shape, cfg: GridSampleConfig) -> Result<Self> {
        let (b, c, h, w) = input.shape().dims4()?;
        let (n, out_h, out_w, _) = grid.dims4()?;
        let &[image, channel, row, column] = input.stride() else {
            candle_core::bail!("grid_sample: expected four strides, got {:?}", input.stride())
        };
        let axis = |size| Axis { size, align_corners: cfg.align_corners, padding: cfg.padding };
        Ok(Self {
            x: axis(w),
            y: axis(h),
            images: b,
            channels: c,
            windows: n.checked_div(b).unwrap_or(0),
            out: (out_h, out_w),
            start: input.start_offset(),
            stride: [image, channel, row, column],
        })
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.images * self.windows, self.channels, self.out.0, self.out.1))
    }

    fn pixels(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Calls `visit(first pixel, taps)` for each row of a window's grid; the taps serve all channels.
    fn rows<T: Real>(&self, grid: &[T], mut visit: impl FnMut(usize, &[Option<Taps<T>>])) {
        let width = self.out.1;
        let mut taps = Vec::with_capacity(width);
        for (i, row) in grid.chunks_exact(2 * width).enumerate() {
            taps.clear();
            taps.extend(row.chunks_exact(2).map(|g| self.taps(g[0].to_f64(), g[1].to_f64())));
            visit(i * width, &taps);
        }
    }

    fn taps<T: Real>(&self, gx: f64, gy: f64) -> Option<Taps<T>> {
        let (x, y) = (self.x.locate(gx)?, self.y.locate(gy)?);
        let corner = |dx: isize, dy: isize| {
            let (column, row) = (x.floor + dx, y.floor + dy);
            let inside = self.x.contains(column) && self.y.contains(row);
            let offset = if inside { row as usize * self.stride[2] + column as usize * self.stride[3] } else { 0 };
            (offset, inside)
        };
        let corners = [corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1)];
        Some(Taps {
            offset: corners.map(|c| c.0),
            inside: corners.map(|c| c.1),
            fraction: (T::from_f64(x.fraction), T::from_f64(y.fraction)),
            slope: (T::from_f64(x.slope), T::from_f64(y.slope)),
        })
    }

    /// The part of the input's storage from which channel `c` of image `b` is read.
    fn channel<'a, T>(&self, input: &'a [T], b: usize, c: usize) -> &'a [T] {
        &input[self.start + b * self.stride[0] + c * self.stride[1]..]
    }
}

/// The sampled windows, (B k, C, H', W').
pub(super) fn forward<T: Real>(problem: &Problem, input: &[T], grid: &[T]) -> Vec<T> {
    let pixels = problem.pixels();
    let mut out = vec![T::zero(); problem.output_shape().elem_count()];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(problem.channels * pixels).zip(grid.par_chunks(2 * pixels)).enumerate().for_each(
        |(n, (out, grid))| {
            problem.rows::<T>(grid, |first, taps| {
                for c in 0..problem.channels {
                    let channel = problem.channel(input, n / problem.windows, c);
                    let row = &mut out[c * pixels + first..][..taps.len()];
                    for (out, taps) in row.iter_mut().zip(taps) {
                        let Some(taps) = taps else { continue };
                        let (v, w) = (taps.values(channel), taps.weights());
                        *out = v[0] * w[0] + v[1] * w[1] + v[2] * w[2] + v[3] * w[3];
                    }
                }
            });
        },
    );
    out
}

/// The gradient of the images, (B, C, H, W), contiguous. The windows of one image add up in their order on one thread.
pub(super) fn grad_input<T: Real>(problem: &Problem, grid: &[T], grad: &[T]) -> Vec<T> {
    let pixels = problem.pixels();
    let size = problem.x.size * problem.y.size;
    let mut out = vec![T::zero(); problem.images * problem.channels * size];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    let window = problem.channels * pixels;
    out.par_chunks_mut(problem.channels * size)
        .zip(grid.par_chunks(2 * pixels * problem.windows))
        .zip(grad.par_chunks(window * problem.windows))
        .for_each(|((out, grid), grad)| {
            for (grid, grad) in grid.chunks_exact(2 * pixels).zip(grad.chunks_exact(window)) {
                problem.rows::<T>(grid, |first, taps| {
                    for c in 0..problem.channels {
                        let channel = &mut out[c * size..][..size];
                        let row = &grad[c * pixels + first..][..taps.len()];
                        for (&grad, taps) in row.iter().zip(taps) {
                            let Some(taps) = taps else { continue };
                            let weights = taps.weights();
                            for i in 0..4 {
                                if taps.inside[i] {
                                    channel[taps.offset[i]] += weights[i] * grad;
                                }
                            }
                        }
                    }
                });
            }
        });
    out
}

/// The gradient of the grid, (B k, H', W', 2).
pub(super) fn grad_grid<T: Real>(problem: &Problem, input: &[T], grid: &[T], grad: &[T]) -> Vec<T> {
    let pixels = problem.pixels();
    let mut out = vec![T::zero(); grid.len()];
    if out.is_empty() || grad.is_empty() {
        return out;
    }
    out.par_chunks_mut(2 * pixels)
        .zip(grid.par_chunks(2 * pixels))
        .zip(grad.par_chunks(problem.channels * pixels))
        .enumerate()
        .for_each(|(n, ((out, grid), grad))| {
            problem.rows::<T>(grid, |first, taps| {
                for c in 0..problem.channels {
                    let channel = problem.channel(input, n / problem.windows, c);
                    let grad = &grad[c * pixels + first..][..taps.len()];
                    let row = &mut out[2 * first..][..2 * taps.len()];
                    for ((out, &grad), taps) in row.chunks_exact_mut(2).zip(grad).zip(taps) {
                        let Some(taps) = taps else { continue };
                        let [nw, ne, sw, se] = taps.values(channel);
                        let (fx, fy) = taps.fraction;
                        let dx = (ne - nw) * (T::one() - fy) + (se - sw) * fy;
                        let dy = (sw - nw) * (T::one() - fx) + (se - ne) * fx;
                        out[0] += grad * dx * taps.slope.0;
                        out[1] += grad * dy * taps.slope.1;
                    }
                }
            });
        });
    out
}
