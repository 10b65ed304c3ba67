//! The windows of a pool as lists of the pixels in them.

use super::Pool2dConfig;
use super::cpu::Problem;
use candle_core::{Result, Shape};

/// The windows on maps of one size, row by row, each a list of the indices of the pixels in it, row by row.
#[derive(Debug)]
pub(crate) struct Windows {
    pixels: Vec<usize>,
    /// Where each window's pixels end.
    ends: Vec<usize>,
    /// How many there are in a column and in a row.
    size: (usize, usize),
}

impl Windows {
    /// The windows on maps of `size` pixels. Each has at least one pixel: the padding is at most half a window.
    pub(crate) fn new(size: (usize, usize), cfg: Pool2dConfig) -> Result<Self> {
        let problem = Problem::new(&Shape::from((1, 1, size.0, size.1)), cfg)?;
        let (mut pixels, mut ends) = (vec![], vec![]);
        problem.windows(|_, window| {
            pixels.extend(window.rows.clone().flat_map(|y| window.columns.clone().map(move |x| y * size.1 + x)));
            ends.push(pixels.len());
        });
        Ok(Self { pixels, ends, size: problem.out_size() })
    }

    /// How many there are in a column and in a row.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The pixels of each window.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[usize]> {
        (0..self.ends.len()).map(|i| &self.pixels[if i == 0 { 0 } else { self.ends[i - 1] }..self.ends[i]])
    }
}
