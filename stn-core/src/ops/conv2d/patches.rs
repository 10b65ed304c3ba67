//! What the filters see of an image as a matrix: a row for each tap, a column for each position (known as im2col).
//!
//! It is never there whole, but for some rows of the map at a time, which the cache holds.

use super::geometry::Geometry;
use crate::ops::product::Threads;
use crate::ops::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// So many bytes of the matrix are made at a time..
const BLOCK_BYTES: usize = 1 << 19;

/// ..but about so many columns at least: for each block the weights are read again.
const LEAST_COLUMNS: usize = 256;

/// Rows of the matrix that one thread takes at least.
const ROWS: usize = 16;

/// The patches of the images of one group of channels.
pub(super) struct Patches<'a> {
    geometry: &'a Geometry,
    /// For each column of the kernel the positions of a row of the map at which it meets the image, and the pixel that the first of them sees.
    columns: Vec<(Range<usize>, usize)>,
}

impl<'a> Patches<'a> {
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        let (step, left, width) = (geometry.cfg.stride.1, geometry.cfg.padding.left, geometry.size.1);
        let column = |kx: usize| {
            let tap = kx * geometry.cfg.dilation.1;
            let before = |column: usize| column.saturating_sub(tap).div_ceil(step).min(geometry.out.1);
            let positions = before(left)..before(left + width).max(before(left));
            let first = (positions.start * step + tap).saturating_sub(left);
            (positions, first)
        };
        Self { geometry, columns: (0..geometry.kernel.1).map(column).collect() }
    }

    /// Whether the matrix is the image itself.
    pub(super) fn are_pixels(&self) -> bool {
        let Geometry { kernel, size, out, cfg, .. } = self.geometry;
        *kernel == (1, 1) && size == out && cfg.stride == (1, 1)
    }

    /// The rows of the map in blocks.
    pub(super) fn blocks<T>(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let (height, width) = self.geometry.out;
        let columns = (BLOCK_BYTES / (self.geometry.patch() * size_of::<T>()).max(1)).max(LEAST_COLUMNS);
        let rows = (columns / width).max(1);
        // As few blocks as that allows, of about one size.
        let rows = height.div_ceil(height.div_ceil(rows));
        (0..height).step_by(rows).map(move |first| first..height.min(first + rows))
    }

    /// Makes the columns of some rows of the map, on these threads.
    pub(super) fn gather<T: Real>(&self, image: &[T], rows: Range<usize>, threads: Threads, matrix: &mut Vec<T>) {
        let (width, pixels) = (self.geometry.out.1, self.geometry.pixels());
        let columns = rows.len() * width;
        matrix.resize(self.geometry.patch() * columns, T::zero());
        let fill = |(tap, row): (usize, &mut [T])| {
            let (channel, ky, kx) = self.geometry.tap(tap);
            let (plane, (positions, _)) = (&image[channel * pixels..][..pixels], &self.columns[kx]);
            for (oy, to) in rows.clone().zip(row.chunks_exact_mut(width)) {
                let Some(from) = self.row(ky, kx, oy) else {
                    to.fill(T::zero());
                    continue;
                };
                to[..positions.start].fill(T::zero());
                to[positions.end..].fill(T::zero());
                let to = &mut to[positions.clone()];
                match self.geometry.cfg.stride.1 {
                    1 => to.copy_from_slice(&plane[from..from + to.len()]),
                    step => to.iter_mut().zip(plane[from..].iter().step_by(step)).for_each(|(to, &x)| *to = x),
                }
            }
        };
        if threads == Threads::All {
            matrix.par_chunks_exact_mut(columns).with_min_len(ROWS).enumerate().for_each(fill);
        } else {
            matrix.chunks_exact_mut(columns).enumerate().for_each(fill);
        }
    }

    /// Adds the columns of some rows of the map to the pixels that they were made of, on these threads.
    pub(super) fn scatter<T: Real>(&self, matrix: &[T], rows: Range<usize>, threads: Threads, image: &mut [T]) {
        let (width, pixels, taps) = (self.geometry.out.1, self.geometry.pixels(), self.geometry.taps());
        let of_channel = taps * rows.len() * width;
        let add = |(plane, channel): (&mut [T], &[T])| {
            for (tap, row) in channel.chunks_exact(rows.len() * width).enumerate() {
                let (_, ky, kx) = self.geometry.tap(tap);
                let (positions, _) = &self.columns[kx];
                for (oy, from) in rows.clone().zip(row.chunks_exact(width)) {
                    let Some(to) = self.row(ky, kx, oy) else { continue };
                    let from = &from[positions.clone()];
                    match self.geometry.cfg.stride.1 {
                        1 => plane[to..to + from.len()].iter_mut().zip(from).for_each(|(to, &x)| *to += x),
                        step => plane[to..].iter_mut().step_by(step).zip(from).for_each(|(to, &x)| *to += x),
                    }
                }
            }
        };
        if threads == Threads::All {
            image.par_chunks_exact_mut(pixels.max(1)).zip(matrix.par_chunks_exact(of_channel)).for_each(add);
        } else {
            image.chunks_exact_mut(pixels.max(1)).zip(matrix.chunks_exact(of_channel)).for_each(add);
        }
    }

    /// Where in a plane the first pixel lies that a tap sees at a row of the map; `None` where it sees none.
    fn row(&self, ky: usize, kx: usize, oy: usize) -> Option<usize> {
        let (cfg, (height, width)) = (self.geometry.cfg, self.geometry.size);
        let y = (oy * cfg.stride.0 + ky * cfg.dilation.0).checked_sub(cfg.padding.top)?;
        let (positions, first) = &self.columns[kx];
        (y < height && !positions.is_empty()).then_some(y * width + first)
    }
}
