//! Bilinear interpolation, eq. (5), and trilinear, eq. (9): along each side the two pixels round the coordinate.

use super::element::Element;
use super::side::{Mode, Outside, RUN, Side};
use crate::ops::axis::{Axis, floor, whole};

pub(in crate::ops) struct Bilinear;

impl Mode<2> for Bilinear {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // arrays side by side
    fn taps<T: Element>(axis: &Axis, g: &[f64; RUN], side: &mut Side<T, 2>) {
        let places = axis.padded_run(g);
        let (last, stride) = (axis.last, axis.stride as f64);
        // -1 to the last pixel, or NaN, which fails all comparisons. One short loop an array: the compiler vectorises those.
        let first = places.pixel.map(floor);
        for i in 0..RUN {
            side.offset[0][i] = whole(if first[i] >= 0.0 { first[i] } else { 0.0 } * stride);
        }
        for i in 0..RUN {
            side.offset[1][i] = whole(if first[i] < last { first[i] + 1.0 } else { last } * stride);
        }
        for i in 0..RUN {
            let t = T::narrow(places.pixel[i] - first[i]);
            side.weight[0][i] = if first[i] >= 0.0 { T::one() - t } else { T::zero() };
        }
        for i in 0..RUN {
            let t = T::narrow(places.pixel[i] - first[i]);
            side.weight[1][i] = if first[i] < last { t } else { T::zero() };
        }
        for i in 0..RUN {
            side.slope[0][i] = T::narrow(if first[i] >= 0.0 { -places.slope[i] } else { 0.0 });
        }
        for i in 0..RUN {
            side.slope[1][i] = T::narrow(if first[i] < last { places.slope[i] } else { 0.0 });
        }
        for i in 0..RUN {
            side.live[i] = if first[i].is_nan() { T::zero() } else { T::one() };
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
