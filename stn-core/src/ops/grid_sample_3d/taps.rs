//! Which voxels a sampling point reads, and with which weights.

use super::axis::Axis;
use crate::ops::real::Real;
use crate::ops::{GridSampleConfig, Interpolation};
use candle_core::{Layout, Result, Shape};
use std::ops::Range;

/// The eight voxels round one sampling point: bit 0 of a corner's number is east, bit 1 south, bit 2 the deeper plane. With nearest
/// interpolation only corner 0 counts.
#[derive(Clone, Copy)]
pub(super) struct Taps<T> {
    /// Offsets within a channel; meaningful where `inside` is set.
    offset: [usize; 8],
    inside: [bool; 8],
    /// How far the point is from corner 0, along x, y and z.
    fraction: [T; 3],
    /// Derivatives of the voxel coordinates x, y, z by the normalised ones.
    slope: [T; 3],
}

/// The value a fraction of the way from `a` to `b`.
fn lerp<T: Real>(a: T, b: T, fraction: T) -> T {
    a * (T::one() - fraction) + b * fraction
}

impl<T: Real> Taps<T> {
    /// A corner's value, zero where there is none.
    pub(super) fn value(&self, channel: &[T], corner: usize) -> T {
        if self.inside[corner] { channel[self.offset[corner]] } else { T::zero() }
    }

    /// Adds to a corner, where there is one.
    pub(super) fn add(&self, channel: &mut [T], corner: usize, term: T) {
        if self.inside[corner] {
            channel[self.offset[corner]] += term;
        }
    }

    fn values(&self, channel: &[T]) -> [T; 8] {
        std::array::from_fn(|corner| self.value(channel, corner))
    }

    /// Eq. (9) at this point: along x, then y, then z.
    pub(super) fn interpolate(&self, channel: &[T]) -> T {
        let ([x, y, z], v) = (self.fraction, self.values(channel));
        let north = lerp(lerp(v[0], v[1], x), lerp(v[4], v[5], x), z);
        let south = lerp(lerp(v[2], v[3], x), lerp(v[6], v[7], x), z);
        lerp(north, south, y)
    }

    /// The derivatives of eq. (9) by the normalised x, y and z.
    pub(super) fn derivatives(&self, channel: &[T]) -> [T; 3] {
        let ([x, y, z], v) = (self.fraction, self.values(channel));
        let along_x = lerp(lerp(v[1] - v[0], v[3] - v[2], y), lerp(v[5] - v[4], v[7] - v[6], y), z);
        // North and south, in the shallower plane and in the deeper one.
        let [n0, s0, n1, s1] = [0, 2, 4, 6].map(|i| lerp(v[i], v[i + 1], x));
        let along_y = lerp(s0 - n0, s1 - n1, z);
        let along_z = lerp(n1 - n0, s1 - s0, y);
        [along_x * self.slope[0], along_y * self.slope[1], along_z * self.slope[2]]
    }

    /// Gives a gradient back to the corners, by their weights.
    pub(super) fn spread(&self, channel: &mut [T], grad: T) {
        let [x, y, z] = self.fraction.map(|f| [T::one() - f, f]);
        for corner in 0..8 {
            self.add(channel, corner, x[corner & 1] * y[corner >> 1 & 1] * z[corner >> 2] * grad);
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
    pub(super) interpolation: Interpolation,
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
        let axis = |size| Axis::new(size, cfg);
        Ok(Self {
            x: axis(w),
            y: axis(h),
            z: axis(d),
            images,
            channels,
            windows: n.checked_div(images).unwrap_or(0),
            out: [out_d, out_h, out_w],
            interpolation: cfg.interpolation,
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
    pub(super) fn rows<T: Real>(
        &self,
        grid: &[T],
        planes: Range<usize>,
        mut visit: impl FnMut(usize, &[Option<Taps<T>>]),
    ) {
        let width = self.out[2];
        let mut taps = Vec::with_capacity(width);
        for (i, row) in grid.chunks_exact(3 * width).enumerate() {
            taps.clear();
            taps.extend(row.chunks_exact(3).map(|g| self.taps([g[0], g[1], g[2]].map(|g| g.to_f64()), &planes)));
            visit(i * width, &taps);
        }
    }

    fn taps<T: Real>(&self, [gx, gy, gz]: [f64; 3], planes: &Range<usize>) -> Option<Taps<T>> {
        let z = self.z.locate(gz)?;
        // The voxel before the point and the one behind it, where they are in reach.
        let pair = |size: &Range<usize>, floor: isize| {
            [floor, floor + 1].map(|i| usize::try_from(i).ok().filter(|i| size.contains(i)))
        };
        let deep = pair(planes, z.floor);
        if deep == [None, None] {
            return None;
        }
        let (x, y) = (self.x.locate(gx)?, self.y.locate(gy)?);
        let (columns, rows) = (pair(&(0..self.x.size), x.floor), pair(&(0..self.y.size), y.floor));
        let mut taps = Taps {
            offset: [0; 8],
            inside: [false; 8],
            fraction: [x.fraction, y.fraction, z.fraction].map(T::from_f64),
            slope: [x.slope, y.slope, z.slope].map(T::from_f64),
        };
        for corner in 0..8 {
            if let (Some(x), Some(y), Some(z)) = (columns[corner & 1], rows[corner >> 1 & 1], deep[corner >> 2]) {
                taps.inside[corner] = true;
                taps.offset[corner] = (z - planes.start) * self.stride[2] + y * self.stride[3] + x * self.stride[4];
            }
        }
        Some(taps)
    }
}
