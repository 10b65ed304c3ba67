//! Bilinear interpolation, eq. (5), and trilinear, eq. (9): along each side the two pixels round the coordinate.

use super::element::Element;
use super::side::{Mode, Outside, RUN, Side};
use crate::ops::axis::{Axis, floor, whole};

pub(in crate::ops) struct Bilinear;

impl Mode<2> for Bilinear {
    #[inline(always)]
    fn taps<T: Element>(axis: &Axis, g: &[f64; RUN], side: &mut Side<T, 2>) {
        let places = axis.padded_run(g);
        let (last, stride) = (axis.last, axis.stride as f64);
        let keep = |inside: bool, x: T| if inside { x } else { T::zero() };
        for i in 0..RUN {
            let p = places.pixel[i];
            // -1 to the last pixel, or NaN, which fails both comparisons.
            let first = floor(p);
            let inside = [first >= 0.0, first < last];
            let (t, scale) = (T::narrow(p - first), T::narrow(places.slope[i]));
            side.offset[0][i] = whole(if inside[0] { first } else { 0.0 } * stride);
            side.offset[1][i] = whole(if inside[1] { first + 1.0 } else { last } * stride);
            side.weight[0][i] = keep(inside[0], T::one() - t);
            side.weight[1][i] = keep(inside[1], t);
            side.slope[0][i] = keep(inside[0], T::zero() - scale);
            side.slope[1][i] = keep(inside[1], scale);
            side.live[i] = keep(!p.is_nan(), T::one());
        }
    }

    fn outside<T: Element>(axis: &Axis, g: f64) -> Option<Outside<T>> {
        let place = axis.padded(g)?;
        let first = floor(place.pixel);
        let (t, scale) = (T::narrow(place.pixel - first), T::narrow(place.slope));
        let drop = |inside: bool, x: T| if inside { T::zero() } else { x };
        let inside = [first >= 0.0, first < axis.last];
        Some(Outside {
            weight: drop(inside[0], T::one() - t) + drop(inside[1], t),
            slope: drop(inside[1], scale) - drop(inside[0], scale),
        })
    }
}
