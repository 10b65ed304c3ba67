//! What the points of one call read: the sizes and strides, and the taps of a row of points, which serve all channels.

use super::GridSampleConfig;
use super::points::Points;
use super::side::{Mode, Outside, Reads, Side};
use crate::ops::axis::Axis;
use crate::ops::real::Real;
use candle_core::{Layout, Result, Shape};

/// What a kernel needs of a sampling point, by its two coordinates.
#[derive(Clone, Copy)]
pub(super) struct Taps<S> {
    x: S,
    y: S,
}

impl<T: Real, const K: usize> Taps<Reads<T, K>> {
    #[inline(always)]
    pub(super) fn value(&self, channel: &[T]) -> T {
        let mut sum = T::zero();
        for j in 0..K {
            let mut row = T::zero();
            for i in 0..K {
                row += self.x.weight[i] * channel[self.y.offset[j] + self.x.offset[i]];
            }
            sum += self.y.weight[j] * row;
        }
        sum
    }

    #[inline(always)]
    pub(super) fn scatter(&self, channel: &mut [T], grad: T) {
        for j in 0..K {
            let grad = self.y.weight[j] * grad;
            for i in 0..K {
                channel[self.y.offset[j] + self.x.offset[i]] += self.x.weight[i] * grad;
            }
        }
    }
}

impl<T: Real, const K: usize> Taps<Side<T, K>> {
    /// The derivatives of the value by the normalised coordinates x and y, eq. (7).
    #[inline(always)]
    pub(super) fn slopes(&self, channel: &[T]) -> (T, T) {
        let (x, y) = (&self.x, &self.y);
        let (mut by_x, mut by_y) = (T::zero(), T::zero());
        for j in 0..K {
            let (mut row, mut row_by_x) = (T::zero(), T::zero());
            for i in 0..K {
                let u = channel[y.reads.offset[j] + x.reads.offset[i]];
                row += x.reads.weight[i] * u;
                row_by_x += x.slope[i] * u;
            }
            by_x += y.reads.weight[j] * row_by_x;
            by_y += y.slope[j] * row;
        }
        (by_x * x.scale, by_y * y.scale)
    }

    /// The derivatives of the weight of what lies outside the image.
    pub(super) fn outside_slopes(&self) -> (T, T) {
        let (x, y) = (self.x.outside, self.y.outside);
        (x.slope * (T::one() - y.weight), y.slope * (T::one() - x.weight))
    }
}

impl<T: Real> Taps<Outside<T>> {
    /// The weight of all that lies outside the image.
    pub(super) fn weight(&self) -> T {
        let (x, y) = (self.x.weight, self.y.weight);
        x + y - x * y
    }
}

/// The sizes, strides and options of one call.
pub(super) struct Problem {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) images: usize,
    pub(super) channels: usize,
    /// Windows an image.
    pub(super) windows: usize,
    pub(super) out: (usize, usize),
    start: usize,
    /// From an image to the next and from a channel to the next.
    stride: (usize, usize),
}

impl Problem {
    /// `n` windows of size `out` of the images that `input` lays out.
    pub(super) fn new(input: &Layout, n: usize, out: (usize, usize), cfg: GridSampleConfig) -> Result<Self> {
        let (b, c, h, w) = input.shape().dims4()?;
        let &[image, channel, row, column] = input.stride() else {
            candle_core::bail!("grid_sample: expected four strides, got {:?}", input.stride())
        };
        Ok(Self {
            x: Axis::new(w, column, cfg),
            y: Axis::new(h, row, cfg),
            images: b,
            channels: c,
            windows: n.checked_div(b).unwrap_or(0),
            out,
            start: input.start_offset(),
            stride: (image, channel),
        })
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.images * self.windows, self.channels, self.out.0, self.out.1))
    }

    pub(super) fn pixels(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// What a kernel needs of the points of one row of window `n`: `keep` takes that from each coordinate. It serves all channels.
    #[inline(always)]
    pub(super) fn taps<T: Real, M: Mode<K>, const K: usize, S>(
        &self,
        points: Points<T>,
        (n, row): (usize, usize),
        keep: impl Fn(Side<T, K>) -> S,
        taps: &mut Vec<Option<Taps<S>>>,
    ) {
        taps.clear();
        points.row(n, row, self.out, |x, y| {
            let sides = M::side(&self.x, x).zip(M::side(&self.y, y));
            taps.push(sides.map(|(x, y)| Taps { x: keep(x), y: keep(y) }));
        });
    }

    /// The part of the input's storage from which channel `c` of image `b` is read.
    pub(super) fn channel<'a, T>(&self, input: &'a [T], b: usize, c: usize) -> &'a [T] {
        &input[self.start + b * self.stride.0 + c * self.stride.1..]
    }
}
