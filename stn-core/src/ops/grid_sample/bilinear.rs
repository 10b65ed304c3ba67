//! Bilinear interpolation, eq. (5): along each side the two pixels round the coordinate.

use super::side::{Mode, Outside, Reads, Side};
use crate::ops::axis::{Axis, floor};
use crate::ops::real::Real;

pub(super) struct Bilinear;

impl Mode<2> for Bilinear {
    #[inline(always)]
    fn side<T: Real>(axis: &Axis, g: f64) -> Option<Side<T, 2>> {
        let place = axis.padded(g)?;
        let floor = floor(place.pixel);
        let first = floor as isize; // -1 to the last pixel
        let t = T::from_f64(place.pixel - floor);
        let inside = [first >= 0, first + 1 < axis.size as isize];
        let keep = |inside: bool, x: T| if inside { x } else { T::zero() };
        let drop = |inside: bool, x: T| if inside { T::zero() } else { x };
        let (weight, one) = ([T::one() - t, t], T::one());
        let index = [first.max(0) as usize, (first + 1).min(axis.size as isize - 1) as usize];
        let scale = T::from_f64(place.slope);
        Some(Side {
            reads: Reads {
                offset: index.map(|i| i * axis.stride),
                weight: [keep(inside[0], weight[0]), keep(inside[1], weight[1])],
            },
            slope: [keep(inside[0], T::zero() - one), keep(inside[1], one)],
            scale,
            outside: Outside {
                weight: drop(inside[0], weight[0]) + drop(inside[1], weight[1]),
                slope: (drop(inside[1], one) - drop(inside[0], one)) * scale,
            },
        })
    }
}
