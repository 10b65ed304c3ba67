//! The sizes and strides of one call.

use super::GridSampleConfig;
use crate::ops::axis::Axis;
use candle_core::{Layout, Result};

/// Images with `D` sides, and the windows of them that are asked for.
#[derive(Clone)]
pub(in crate::ops) struct Problem<const D: usize> {
    /// x, y and, of a volume, z.
    pub(in crate::ops) axes: [Axis; D],
    pub(in crate::ops) images: usize,
    pub(in crate::ops) channels: usize,
    /// Windows an image.
    pub(in crate::ops) windows: usize,
    /// A window's sides as in its shape: (H', W') or (D', H', W').
    pub(in crate::ops) out: [usize; D],
    start: usize,
    /// From an image to the next and from a channel to the next.
    stride: (usize, usize),
}

impl<const D: usize> Problem<D> {
    /// `n` windows of size `out` of the images that `input`, (B, C, sides), lays out.
    pub(in crate::ops) fn new(input: &Layout, n: usize, out: [usize; D], cfg: GridSampleConfig) -> Result<Self> {
        let (dims, strides) = (input.dims(), input.stride());
        if dims.len() != D + 2 || strides.len() != D + 2 {
            candle_core::bail!("grid_sample: expected {} dimensions, got {dims:?} with strides {strides:?}", D + 2)
        }
        // The kernels' bounds rest on these products.
        if dims.iter().try_fold(1usize, |count, &side| count.checked_mul(side)).is_none() {
            candle_core::bail!(
                "grid_sample: an input of {dims:?} has more elements than a number of this machine can count"
            )
        }
        Ok(Self {
            axes: std::array::from_fn(|d| Axis::new(dims[D + 1 - d], strides[D + 1 - d], cfg)),
            images: dims[0],
            channels: dims[1],
            windows: n.checked_div(dims[0]).unwrap_or(0),
            out,
            start: input.start_offset(),
            stride: (strides[0], strides[1]),
        })
    }

    /// The same with images that lie in memory one channel after the other without gaps.
    pub(in crate::ops) fn contiguous(&self) -> Self {
        let mut stride = 1;
        let axes = self.axes.map(|axis| {
            let axis = axis.with_stride(stride);
            stride *= axis.size;
            axis
        });
        Self { axes, start: 0, stride: (self.channels * stride, stride), ..self.clone() }
    }

    /// The pixels of one channel of an image.
    pub(in crate::ops) fn pixels(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// The points of a window.
    pub(in crate::ops) fn points(&self) -> usize {
        self.out.iter().product()
    }

    /// The number of windows, of all images.
    pub(in crate::ops) fn all_windows(&self) -> usize {
        self.images * self.windows
    }

    /// The length of the part of the storage that holds one channel of an image. No tap's offset reaches it.
    pub(in crate::ops) fn extent(&self) -> usize {
        self.axes.iter().map(|axis| (axis.size - 1) * axis.stride).sum::<usize>() + 1
    }

    /// The part of the input's storage that holds channel `c` of image `b`.
    #[inline(always)]
    pub(in crate::ops) fn channel<'a, T>(&self, input: &'a [T], b: usize, c: usize) -> &'a [T] {
        &input[self.start + b * self.stride.0 + c * self.stride.1..][..self.extent()]
    }
}
