//! Cubic convolution (Keys 1981) with a = -0.75, as in PyTorch: along each side the four pixels round the coordinate. The padding acts on
//! the taps, not on the coordinate.

use super::element::Element;
use super::side::{Mode, Outside, RUN, Side};
use crate::ops::axis::{Axis, floor};

pub(super) struct Bicubic;

/// Keys' a.
pub(super) const A: f64 = -0.75;

impl Mode<4> for Bicubic {
    #[inline(always)]
    fn taps<T: Element>(axis: &Axis, g: &[f64; RUN], side: &mut Side<T, 4>) {
        for (i, &g) in g.iter().enumerate() {
            let place = axis.unpadded(g, 2.0);
            side.live[i] = if place.is_some() { T::one() } else { T::zero() };
            for k in 0..4 {
                (side.offset[k][i], side.weight[k][i], side.slope[k][i]) = (0, T::zero(), T::zero());
            }
            let Some(place) = place else { continue };
            let floor = floor(place.pixel);
            let (weights, slopes) = weights(place.pixel - floor);
            for k in 0..4 {
                let (index, inside) = axis.tap(floor as isize - 1 + k as isize);
                side.offset[k][i] = index * axis.stride;
                if inside {
                    side.weight[k][i] = T::narrow(weights[k]);
                    side.slope[k][i] = T::narrow(slopes[k] * place.slope);
                }
            }
        }
    }

    fn outside<T: Element>(axis: &Axis, g: f64) -> Option<Outside<T>> {
        let place = axis.unpadded(g, 2.0)?;
        let floor = floor(place.pixel);
        let (weights, slopes) = weights(place.pixel - floor);
        let mut outside = Outside { weight: T::zero(), slope: T::zero() };
        for k in 0..4 {
            if !axis.tap(floor as isize - 1 + k as isize).1 {
                outside.weight += T::narrow(weights[k]);
                outside.slope += T::narrow(slopes[k] * place.slope);
            }
        }
        Some(outside)
    }
}

/// The weights of the pixels at -1, 0, 1 and 2 for a coordinate `t` between 0 and 1, and their derivatives by `t`.
#[inline(always)]
fn weights(t: f64) -> ([f64; 4], [f64; 4]) {
    let near = |u: f64| ((A + 2.0) * u - (A + 3.0)) * u * u + 1.0;
    let far = |u: f64| ((A * u - 5.0 * A) * u + 8.0 * A) * u - 4.0 * A;
    let near_slope = |u: f64| (3.0 * (A + 2.0) * u - 2.0 * (A + 3.0)) * u;
    let far_slope = |u: f64| (3.0 * A * u - 10.0 * A) * u + 8.0 * A;
    (
        [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)],
        [far_slope(1.0 + t), near_slope(t), -near_slope(1.0 - t), -far_slope(2.0 - t)],
    )
}
