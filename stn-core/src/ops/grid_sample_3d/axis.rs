//! One side of the volume: from a normalised coordinate to voxels, under the padding.

use crate::ops::{GridSampleConfig, Interpolation, Padding};

/// Coordinates further out than this many voxels count as infinite: an `f64` has no halves there.
const FAR: f64 = (1u64 << 51) as f64;

/// One side of the volume.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) size: usize,
    cfg: GridSampleConfig,
    /// The last voxel's index.
    last: f64,
    /// voxel = (g + 1) * scale + shift.
    scale: f64,
    shift: f64,
}

/// A coordinate in voxels, `floor + fraction`, and its derivative by the normalised coordinate. The floor is from -1 to the size; with
/// nearest interpolation it is the voxel itself, the fraction and the derivative are zero.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) floor: isize,
    pub(super) fraction: f64,
    pub(super) slope: f64,
}

impl Axis {
    pub(super) fn new(size: usize, cfg: GridSampleConfig) -> Self {
        let last = size as f64 - 1.0;
        let (scale, shift) = if cfg.align_corners { (last / 2.0, 0.0) } else { (size as f64 / 2.0, -0.5) };
        Self { size, cfg, last, scale, shift }
    }

    /// The position that the padding gives the coordinate `g`; `None` where no voxel is in reach.
    #[inline]
    pub(super) fn locate(&self, g: f64) -> Option<Position> {
        let p = (g + 1.0) * self.scale + self.shift;
        let (p, slope) = match self.cfg.padding {
            // NaN fails every comparison.
            Padding::Zeros if p >= -1.0 && p < self.last + 1.0 => (p, self.scale),
            Padding::Zeros => return None,
            _ if p > 0.0 && p < self.last => (p, self.scale),
            Padding::Border => self.clipped(p, self.scale),
            Padding::Reflection => self.reflected(p),
        };
        let round = round_half_even(p);
        if self.cfg.interpolation == Interpolation::Nearest {
            return Some(Position { floor: round as isize, fraction: 0.0, slope: 0.0 });
        }
        let floor = if round > p { round - 1.0 } else { round };
        Some(Position { floor: floor as isize, fraction: p - floor, slope })
    }

    /// Clips to the volume. Equality counts as outside; NaN becomes the first voxel.
    fn clipped(&self, p: f64, slope: f64) -> (f64, f64) {
        if p > 0.0 && p < self.last { (p, slope) } else { (if p >= self.last { self.last } else { 0.0 }, 0.0) }
    }

    /// Reflects at the centres of the corner voxels or at their outer edges, then clips.
    fn reflected(&self, p: f64) -> (f64, f64) {
        let (low, span) = if self.cfg.align_corners { (0.0, self.last) } else { (-0.5, self.last + 1.0) };
        if span == 0.0 || p.is_nan() || p.abs() > FAR {
            return (0.0, 0.0);
        }
        let slope = if p < low { -self.scale } else { self.scale };
        let distance = (p - low).abs() % (2.0 * span);
        if distance > span {
            self.clipped(2.0 * span - distance + low, -slope)
        } else {
            self.clipped(distance + low, slope)
        }
    }
}

/// The nearest whole number, of two equally near ones the even one, for numbers up to [`FAR`]: adding 1.5 * 2^52 leaves no bits for a
/// fraction. The standard function is a call on processors of the baseline.
fn round_half_even(p: f64) -> f64 {
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    (p + SHIFT) - SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_like_the_standard_function() {
        for p in (-401..401).map(|i| f64::from(i) / 4.0).chain([0.49999999999999994, -1e-300, 1e15 + 0.5, FAR]) {
            assert_eq!(round_half_even(p), p.round_ties_even(), "{p}");
        }
    }
}
