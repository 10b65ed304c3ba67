//! The sizes of one convolution, and where its kernel meets the image.

use super::Conv2dConfig;
use candle_core::{Result, Shape};
use std::ops::Range;

/// The sizes and options of one call. Pairs are (height, width).
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) size: (usize, usize),
    pub(super) filters: usize,
    pub(super) kernel: (usize, usize),
    /// Of the map, before any pooling.
    pub(super) out: (usize, usize),
    pub(super) cfg: Conv2dConfig,
}

impl Geometry {
    /// The geometry of tensors that have been checked.
    pub(super) fn new(input: &Shape, weight: &Shape, cfg: Conv2dConfig) -> Result<Self> {
        let (images, channels, h, w) = input.dims4()?;
        let (filters, _, kh, kw) = weight.dims4()?;
        let Some(out) = cfg.out_size((h, w), (kh, kw)) else {
            candle_core::bail!("conv2d: a {kh}x{kw} kernel does not fit an image of {h}x{w} with {cfg:?}")
        };
        Ok(Self { images, channels, size: (h, w), filters, kernel: (kh, kw), out, cfg: cfg.on((h, w)) })
    }

    /// Pixels of an image's channel.
    pub(super) fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Positions of the kernel on an image: H' W'.
    pub(super) fn positions(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Channels that one filter sees.
    pub(super) fn group_channels(&self) -> usize {
        self.channels / self.cfg.groups
    }

    /// Filters that see the same channels.
    pub(super) fn group_filters(&self) -> usize {
        self.filters / self.cfg.groups
    }

    /// Taps of a channel: kh kw.
    pub(super) fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }

    /// Taps of a filter.
    pub(super) fn patch(&self) -> usize {
        self.group_channels() * self.taps()
    }

    /// The sides of the part of the padded image that the kernel visits.
    pub(super) fn padded(&self) -> (usize, usize) {
        let side = |out: usize, kernel: usize, stride: usize, dilation: usize| {
            (out - 1) * stride + (kernel - 1) * dilation + 1
        };
        let Conv2dConfig { stride, dilation, .. } = self.cfg;
        (side(self.out.0, self.kernel.0, stride.0, dilation.0), side(self.out.1, self.kernel.1, stride.1, dilation.1))
    }

    /// Pixels of a channel of that part.
    pub(super) fn padded_pixels(&self) -> usize {
        self.padded().0 * self.padded().1
    }

    /// The rows of the kernel that meet the image at a row of the map.
    pub(super) fn kernel_rows(&self, oy: usize) -> Range<usize> {
        let (top, start, dilation) = (self.cfg.padding.top, oy * self.cfg.stride.0, self.cfg.dilation.0);
        let before = |row: usize| row.saturating_sub(start).div_ceil(dilation).min(self.kernel.0);
        before(top)..before(top + self.size.0).max(before(top))
    }

    /// The rows of the map at which a row of the kernel meets the image.
    pub(super) fn map_rows(&self, ky: usize) -> Range<usize> {
        let (top, tap, stride) = (self.cfg.padding.top, ky * self.cfg.dilation.0, self.cfg.stride.0);
        let before = |row: usize| row.saturating_sub(tap).div_ceil(stride).min(self.out.0);
        before(top)..before(top + self.size.0).max(before(top))
    }

    /// The channel, row and column of a filter's tap.
    pub(super) fn tap(&self, index: usize) -> (usize, usize, usize) {
        (index / self.taps(), index / self.kernel.1 % self.kernel.0, index % self.kernel.1)
    }

    /// Whether there is nothing to compute, or nothing to compute it from.
    pub(super) fn is_empty(&self) -> bool {
        [self.images, self.filters, self.positions(), self.channels, self.pixels()].contains(&0)
    }

    /// How the image lies in its padded part: its rows that are there with their first padded row, and its columns likewise. No rows where
    /// the kernel meets none of the columns.
    pub(super) fn inside(&self) -> ((Range<usize>, usize), (Range<usize>, usize)) {
        let side = |size: usize, padded: usize, before: usize| (0..size.min(padded.saturating_sub(before)), before);
        let (padded, padding) = (self.padded(), self.cfg.padding);
        let (mut rows, columns) = (side(self.size.0, padded.0, padding.top), side(self.size.1, padded.1, padding.left));
        if columns.0.is_empty() {
            rows.0 = 0..0;
        }
        (rows, columns)
    }
}

/// Filters of one tile, all of one group: those that the kernels compute side by side.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    /// The group's first channel.
    pub(super) channel: usize,
    pub(super) filters: Range<usize>,
}

/// The most filters of a tile.
pub(super) const TILE: usize = 6;

/// All filters in tiles.
pub(super) fn tiles(geometry: &Geometry) -> Vec<Tile> {
    let (channels, filters) = (geometry.group_channels(), geometry.group_filters());
    let group = |group: usize| {
        let end = (group + 1) * filters;
        let tile = move |first: usize| Tile { channel: group * channels, filters: first..end.min(first + TILE) };
        (group * filters..end).step_by(TILE).map(tile)
    };
    (0..geometry.cfg.groups).flat_map(group).collect()
}
