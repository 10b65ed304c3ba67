//! Which voxels a sampling point reads, and with which weights.

use crate::ops::GridSampleConfig;
use crate::ops::axis::{Axis, floor, round_half_even};
use crate::ops::real::Real;
use candle_core::{Layout, Result, Shape};
use std::ops::Range;

/// What one coordinate of a sampling point reads: `K` voxels along a side, two for trilinear interpolation, one for nearest.
///
/// A tap outside the volume has weight and slope zero, and the offset of its neighbour inside: to read it is safe and changes nothing.
#[derive(Clone, Copy)]
struct Side<T, const K: usize> {
    offset: [usize; K],
    weight: [T; K],
    /// The weights' derivatives by the voxel coordinate.
    slope: [T; K],
    /// The derivative of the voxel coordinate by the normalised one.
    scale: T,
}

impl<T: Real, const K: usize> Side<T, K> {
    /// The taps of the normalised coordinate `g` among the voxels of `range`, from the first of which offsets count; `None` where none
    /// of them is in reach.
    #[inline]
    fn new(axis: &Axis, range: &Range<usize>, g: f64) -> Option<Self> {
        let place = axis.padded(g)?;
        // One tap is the nearest voxel, two are those on both sides.
        let start = if K == 1 { round_half_even(place.pixel) } else { floor(place.pixel) };
        let (fraction, scale) = if K == 1 { (0.0, 0.0) } else { (place.pixel - start, place.slope) };
        let (first, last) = (range.start as isize, range.end as isize - 1);
        let index: [isize; K] = std::array::from_fn(|k| start as isize + k as isize);
        let inside = index.map(|i| i >= first && i <= last);
        if inside == [false; K] {
            return None;
        }
        let (t, one) = (T::from_f64(fraction), T::one());
        let (weight, slope) = ([one - t, t], [T::zero() - one, one]);
        let keep = |k: usize, x: T| if inside[k] { x } else { T::zero() };
        Some(Self {
            offset: index.map(|i| (i.clamp(first, last) - first) as usize * axis.stride),
            weight: std::array::from_fn(|k| keep(k, weight[k])),
            slope: std::array::from_fn(|k| keep(k, slope[k])),
            scale: T::from_f64(scale),
        })
    }
}

/// The voxels that one sampling point reads.
#[derive(Clone, Copy)]
pub(super) struct Taps<T, const K: usize> {
    x: Side<T, K>,
    y: Side<T, K>,
    z: Side<T, K>,
}

impl<T: Real, const K: usize> Taps<T, K> {
    /// Eq. (9) at this point.
    #[inline(always)]
    pub(super) fn value(&self, channel: &[T]) -> T {
        let mut sum = T::zero();
        for l in 0..K {
            let mut plane = T::zero();
            for j in 0..K {
                let start = self.z.offset[l] + self.y.offset[j];
                let mut row = T::zero();
                for i in 0..K {
                    row += self.x.weight[i] * channel[start + self.x.offset[i]];
                }
                plane += self.y.weight[j] * row;
            }
            sum += self.z.weight[l] * plane;
        }
        sum
    }

    /// The derivatives of eq. (9) by the normalised x, y and z.
    #[inline(always)]
    pub(super) fn slopes(&self, channel: &[T]) -> [T; 3] {
        let [mut by_x, mut by_y, mut by_z] = [T::zero(); 3];
        for l in 0..K {
            let [mut plane, mut plane_by_x, mut plane_by_y] = [T::zero(); 3];
            for j in 0..K {
                let start = self.z.offset[l] + self.y.offset[j];
                let [mut row, mut row_by_x] = [T::zero(); 2];
                for i in 0..K {
                    let u = channel[start + self.x.offset[i]];
                    row += self.x.weight[i] * u;
                    row_by_x += self.x.slope[i] * u;
                }
                plane += self.y.weight[j] * row;
                plane_by_x += self.y.weight[j] * row_by_x;
                plane_by_y += self.y.slope[j] * row;
            }
            by_x += self.z.weight[l] * plane_by_x;
            by_y += self.z.weight[l] * plane_by_y;
            by_z += self.z.slope[l] * plane;
        }
        [by_x * self.x.scale, by_y * self.y.scale, by_z * self.z.scale]
    }

    /// Gives a gradient back to the voxels, by their weights. A plane of weight zero gets nothing, also of an infinite gradient: how the
    /// planes are divided among tasks must not show.
    #[inline(always)]
    pub(super) fn scatter(&self, channel: &mut [T], grad: T) {
        for l in 0..K {
            if self.z.weight[l] == T::zero() {
                continue;
            }
            let grad = self.z.weight[l] * grad;
            for j in 0..K {
                let (start, grad) = (self.z.offset[l] + self.y.offset[j], self.y.weight[j] * grad);
                for i in 0..K {
                    channel[start + self.x.offset[i]] += self.x.weight[i] * grad;
                }
            }
        }
    }
}

/// The sizes, strides and options of one call.
pub(super) struct Problem {
    x: Axis,
    y: Axis,
    z: Axis,
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) windows: usize,
    /// D', H', W'.
    pub(super) out: [usize; 3],
    start: usize,
    /// Strides of the input: image, channel, plane, row, column.
    stride: [usize; 5],
}

impl Problem {
    pub(super) fn new(input: &Layout, grid: &Shape, cfg: GridSampleConfig) -> Result<Self> {
        let (images, channels, d, h, w) = input.shape().dims5()?;
        let (n, out_d, out_h, out_w, _) = grid.dims5()?;
        let &[image, channel, plane, row, column] = input.stride() else {
            candle_core::bail!("grid_sample_3d: expected five strides, got {:?}", input.stride())
        };
        let axis = |size, stride| Axis::new(size, stride, cfg);
        Ok(Self {
            x: axis(w, column),
            y: axis(h, row),
            z: axis(d, plane),
            images,
            channels,
            windows: n.checked_div(images).unwrap_or(0),
            out: [out_d, out_h, out_w],
            start: input.start_offset(),
            stride: [image, channel, plane, row, column],
        })
    }

    pub(super) fn output_shape(&self) -> Shape {
        let [depth, height, width] = self.out;
        Shape::from((self.images * self.windows, self.channels, depth, height, width))
    }

    /// The input's D, H, W.
    pub(super) fn size(&self) -> [usize; 3] {
        [self.z.size, self.y.size, self.x.size]
    }

    /// All of the input's planes.
    pub(super) fn whole(&self) -> Range<usize> {
        0..self.z.size
    }

    /// The points in a plane of the output.
    pub(super) fn plane(&self) -> usize {
        self.out[1] * self.out[2]
    }

    /// The points in a window of the output.
    pub(super) fn points(&self) -> usize {
        self.out[0] * self.plane()
    }

    /// The part of the input's storage from which channel `c` of image `b` is read.
    pub(super) fn channel<'a, T>(&self, input: &'a [T], b: usize, c: usize) -> &'a [T] {
        &input[self.start + b * self.stride[0] + c * self.stride[1]..]
    }

    /// Calls `visit(first point, taps)` for each row of a grid. The taps serve all channels; they see only the input's `planes`, and
    /// count their offsets from the first of those.
    pub(super) fn rows<T: Real, const K: usize>(
        &self,
        grid: &[T],
        planes: Range<usize>,
        mut visit: impl FnMut(usize, &[Option<Taps<T, K>>]),
    ) {
        let width = self.out[2];
        let mut taps = Vec::with_capacity(width);
        for (i, row) in grid.chunks_exact(3 * width).enumerate() {
            taps.clear();
            taps.extend(row.chunks_exact(3).map(|g| self.taps([g[0], g[1], g[2]].map(|g| g.to_f64()), &planes)));
            visit(i * width, &taps);
        }
    }

    #[inline]
    fn taps<T: Real, const K: usize>(&self, [x, y, z]: [f64; 3], planes: &Range<usize>) -> Option<Taps<T, K>> {
        let z = Side::new(&self.z, planes, z)?;
        let y = Side::new(&self.y, &(0..self.y.size), y)?;
        Some(Taps { x: Side::new(&self.x, &(0..self.x.size), x)?, y, z })
    }
}
