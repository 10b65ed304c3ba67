//! The taps of a run of sampling points, in arrays by tap: what the kernels' inner loops go along.

use super::element::Element;
use super::points::Points;
use super::problem::Problem;
use super::side::{Mode, RUN, Side};
use std::ops::Range;

/// The taps of `RUN` points in `D` dimensions, `K` along each: `K^D` of them a point, numbered with x running fastest.
pub(in crate::ops) struct Run<T, const K: usize, const D: usize> {
    sides: [Side<T, K>; D],
    /// Zero where no pixel is in reach, else one.
    live: [T; RUN],
    coordinates: [[f64; RUN]; D],
}

impl<T: Element, const K: usize, const D: usize> Run<T, K, D> {
    /// The number of taps.
    pub(in crate::ops) const TAPS: usize = K.pow(D as u32);

    pub(in crate::ops) fn new() -> Self {
        let coordinates = [[0.0; RUN]; D];
        Self { sides: std::array::from_fn(|_| Side::new()), live: [T::zero(); RUN], coordinates }
    }

    /// Finds the taps of the points from number `first` of window `n` on. Behind the window's last point there are taps too, of any
    /// places within the image.
    #[inline(always)]
    pub(in crate::ops) fn locate<M: Mode<K>>(
        &mut self,
        problem: &Problem<D>,
        points: Points<T>,
        n: usize,
        first: usize,
    ) {
        points.run(problem, n, first, &mut self.coordinates);
        self.live = [T::one(); RUN];
        for (d, side) in self.sides.iter_mut().enumerate() {
            M::taps(&problem.axes[d], &self.coordinates[d], side);
            for (live, side) in self.live.iter_mut().zip(&side.live) {
                *live *= *side;
            }
        }
    }

    /// The place of tap `t` of point `i` in the image, counted in elements: less than `Problem::extent`.
    #[inline(always)]
    pub(in crate::ops) fn offset(&self, t: usize, i: usize) -> usize {
        let (mut offset, mut t) = (0, t);
        for side in &self.sides {
            offset += side.offset[t % K][i];
            t /= K;
        }
        offset
    }

    #[inline(always)]
    pub(in crate::ops) fn weight(&self, t: usize, i: usize) -> T {
        let (mut weight, mut t) = (T::one(), t);
        for side in &self.sides {
            weight *= side.weight[t % K][i];
            t /= K;
        }
        weight
    }

    /// The derivative of the weight by the normalised coordinate number `along`: x, y, z.
    #[inline(always)]
    pub(in crate::ops) fn slope(&self, t: usize, i: usize, along: usize) -> T {
        let (mut slope, mut t) = (T::one(), t);
        for (d, side) in self.sides.iter().enumerate() {
            slope *= if d == along { side.slope[t % K][i] } else { side.weight[t % K][i] };
            t /= K;
        }
        slope
    }

    #[inline(always)]
    pub(in crate::ops) fn is_live(&self, i: usize) -> bool {
        self.live[i] != T::zero()
    }

    /// Whether one of the first `len` points has a tap in the rows (planes) whose offsets are within `band`.
    #[inline(always)]
    pub(in crate::ops) fn reach(&self, band: &Range<usize>, len: usize) -> bool {
        self.sides[D - 1].offset.iter().any(|offset| {
            let (low, high) = offset[..len].iter().fold((usize::MAX, 0), |(low, high), &o| (low.min(o), high.max(o)));
            low < band.end && high >= band.start
        })
    }

    /// The offset along the last side, y or z, of tap `k` of point `i`.
    #[inline(always)]
    pub(in crate::ops) fn outer(&self, k: usize, i: usize) -> usize {
        self.sides[D - 1].offset[k][i]
    }
}
