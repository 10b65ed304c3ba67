//! One side of an image or a volume: from a normalised coordinate to a place in pixels, under the padding.

use super::{GridSampleConfig, Padding};

/// Coordinates further out than this many pixels count as infinite: an `f64` has no halves there.
const FAR: f64 = (1u64 << 51) as f64;

/// How many coordinates are placed at a time: the loops over them are of constant length, and their arrays stay in the nearest cache.
pub(in crate::ops) const RUN: usize = 64;

/// One side of the image.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Axis {
    pub(in crate::ops) size: usize,
    /// From a pixel to the next one in the storage.
    pub(in crate::ops) stride: usize,
    pub(in crate::ops) padding: Padding,
    align_corners: bool,
    /// The last pixel's index.
    pub(in crate::ops) last: f64,
    /// pixel = (g + 1) * scale + shift.
    scale: f64,
    shift: f64,
}

/// A coordinate in pixels, and its derivative by the normalised coordinate.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Position {
    pub(in crate::ops) pixel: f64,
    pub(in crate::ops) slope: f64,
}

/// The places of a run of coordinates; a pixel is NaN where no pixel is in reach.
pub(in crate::ops) struct Positions {
    pub(in crate::ops) pixel: [f64; RUN],
    pub(in crate::ops) slope: [f64; RUN],
}

impl Axis {
    pub(in crate::ops) fn new(size: usize, stride: usize, cfg: GridSampleConfig) -> Self {
        let last = size as f64 - 1.0;
        let (scale, shift) = if cfg.align_corners { (last / 2.0, 0.0) } else { (size as f64 / 2.0, -0.5) };
        Self { size, stride, padding: cfg.padding, align_corners: cfg.align_corners, last, scale, shift }
    }

    /// The same side of an image that lies differently in memory.
    pub(in crate::ops) fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The place of a coordinate before any padding.
    #[inline(always)]
    fn place(&self, g: f64) -> Position {
        Position { pixel: (g + 1.0) * self.scale + self.shift, slope: self.scale }
    }

    /// The place of a coordinate after the padding: within the image, or less than a pixel off it under [`Padding::Zeros`].
    #[inline(always)]
    pub(in crate::ops) fn padded(&self, g: f64) -> Option<Position> {
        let Position { pixel: p, slope } = self.place(g);
        // NaN fails every comparison.
        match self.padding {
            Padding::Zeros => (p >= -1.0 && p < self.last + 1.0).then_some(Position { pixel: p, slope }),
            _ if p > 0.0 && p < self.last => Some(Position { pixel: p, slope }),
            Padding::Border => Some(self.clipped(p, slope)),
            Padding::Reflection => Some(self.reflected(p, slope)),
        }
    }

    /// The same for a run of coordinates.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // arrays side by side
    pub(in crate::ops) fn padded_run(&self, g: &[f64; RUN]) -> Positions {
        let mut places = Positions { pixel: [0.0; RUN], slope: [0.0; RUN] };
        match self.padding {
            // Without branches, for the processor's vectors.
            Padding::Zeros => {
                for i in 0..RUN {
                    let Position { pixel: p, slope } = self.place(g[i]);
                    places.pixel[i] = if (p >= -1.0) & (p < self.last + 1.0) { p } else { f64::NAN };
                    places.slope[i] = slope;
                }
            }
            Padding::Border => {
                for i in 0..RUN {
                    let Position { pixel: p, slope } = self.place(g[i]);
                    let Position { pixel, slope } = self.clipped(p, slope);
                    (places.pixel[i], places.slope[i]) = (pixel, slope);
                }
            }
            Padding::Reflection => {
                for i in 0..RUN {
                    let place = self.padded(g[i]).unwrap_or(Position { pixel: f64::NAN, slope: 0.0 });
                    (places.pixel[i], places.slope[i]) = (place.pixel, place.slope);
                }
            }
        }
        places
    }

    /// The place of a coordinate whose taps are padded one by one, made small enough for whole numbers. `reach` is how many pixels
    /// before and behind the coordinate there are taps.
    pub(in crate::ops) fn unpadded(&self, g: f64, reach: f64) -> Option<Position> {
        let Position { pixel: p, slope } = self.place(g);
        match self.padding {
            Padding::Zeros => (p >= -reach && p < self.last + reach).then_some(Position { pixel: p, slope }),
            // Further out all taps are the pixel at the edge; `max` makes of NaN the lower bound.
            Padding::Border => Some(Position { pixel: p.max(-2.0 * reach).min(self.last + 2.0 * reach), slope }),
            Padding::Reflection if p.abs() <= FAR => Some(Position { pixel: p, slope }),
            Padding::Reflection => Some(Position { pixel: 0.0, slope: 0.0 }),
        }
    }

    /// Clips to the image. Equality counts as outside; NaN becomes the first pixel.
    #[inline(always)]
    fn clipped(&self, p: f64, slope: f64) -> Position {
        let inside = (p > 0.0) & (p < self.last);
        let edge = if p >= self.last { self.last } else { 0.0 };
        Position { pixel: if inside { p } else { edge }, slope: if inside { slope } else { 0.0 } }
    }

    /// Reflects at the centres of the corner pixels or at their outer edges, then clips.
    fn reflected(&self, p: f64, slope: f64) -> Position {
        let (low, span) = if self.align_corners { (0.0, self.last) } else { (-0.5, self.last + 1.0) };
        if span == 0.0 || p.is_nan() || p.abs() > FAR {
            return Position { pixel: 0.0, slope: 0.0 };
        }
        let (distance, slope) = if p < low { (low - p, -slope) } else { (p - low, slope) };
        let around = if distance >= 2.0 * span { distance % (2.0 * span) } else { distance };
        if around > span { self.clipped(2.0 * span - around + low, -slope) } else { self.clipped(around + low, slope) }
    }

    /// The index of the pixel that tap `i` reads, and whether that is in the image (zeros) or stands for one outside it.
    pub(in crate::ops) fn tap(&self, i: isize) -> (usize, bool) {
        let last = self.size - 1;
        if i >= 0 && i as usize <= last {
            return (i as usize, true);
        }
        match self.padding {
            Padding::Zeros => (i.clamp(0, last as isize) as usize, false),
            Padding::Border => (i.clamp(0, last as isize) as usize, true),
            Padding::Reflection if last == 0 => (0, true),
            Padding::Reflection => {
                // With the edges as mirrors each corner pixel appears twice in a row.
                let twice = usize::from(!self.align_corners);
                let i = i.rem_euclid(2 * (last + twice) as isize) as usize;
                (if i <= last { i } else { 2 * last + twice - i }, true)
            }
        }
    }
}

/// Leaves no bits for a fraction in a number up to [`FAR`] that it is added to.
const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;

/// The nearest whole number, of two equally near ones the even one, for numbers up to [`FAR`]. The libraries' functions are calls on
/// processors of the baseline.
#[inline(always)]
pub(in crate::ops) fn round_half_even(p: f64) -> f64 {
    (p + SHIFT) - SHIFT
}

/// A whole number from 0 to [`FAR`] as an integer: the last bits of the shifted number. Unlike a cast it is two additions in any register.
#[inline(always)]
pub(in crate::ops) fn whole(p: f64) -> usize {
    (p + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as usize
}

/// The largest whole number not above `p`, for numbers up to [`FAR`].
#[inline(always)]
pub(in crate::ops) fn floor(p: f64) -> f64 {
    let round = round_half_even(p);
    if round > p { round - 1.0 } else { round }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        let halves = (-4001..4001).map(|i| f64::from(i) / 2.0);
        let odd = [0.49999999999999994, -1e-300, 1e-300, 0.9999999999999999, 3.0e9 + 0.5, -1e15 - 0.5, FAR, -FAR];
        for p in halves.chain(odd) {
            assert_eq!(floor(p), p.floor(), "{p}");
            assert_eq!(round_half_even(p), p.round_ties_even(), "{p}");
            if p >= 0.0 {
                assert_eq!(whole(p.floor()), p as usize, "{p}");
            }
        }
    }
}
