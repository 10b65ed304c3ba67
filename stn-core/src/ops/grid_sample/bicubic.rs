//! Cubic convolution (Keys 1981) with a = -0.75, as in PyTorch: along each side the four pixels round the coordinate. The padding acts on
//! the taps, not on the coordinate.

use super::side::{Mode, Outside, Reads, Side};
use crate::ops::axis::{Axis, floor};
use crate::ops::real::Real;

pub(super) struct Bicubic;

/// Keys' a.
pub(super) const A: f64 = -0.75;

impl Mode<4> for Bicubic {
    #[inline(always)]
    fn side<T: Real>(axis: &Axis, g: f64) -> Option<Side<T, 4>> {
        let place = axis.unpadded(g, 2.0)?;
        let floor = floor(place.pixel);
        let (weights, slopes) = weights(place.pixel - floor);
        let mut side = Side {
            reads: Reads { offset: [0; 4], weight: [T::zero(); 4] },
            slope: [T::zero(); 4],
            scale: T::from_f64(place.slope),
            outside: Outside { weight: T::zero(), slope: T::zero() },
        };
        for i in 0..4 {
            let (index, inside) = axis.tap(floor as isize - 1 + i as isize);
            let (weight, slope) = (T::from_f64(weights[i]), T::from_f64(slopes[i]));
            side.reads.offset[i] = index * axis.stride;
            if inside {
                (side.reads.weight[i], side.slope[i]) = (weight, slope);
            } else {
                side.outside.weight += weight;
                side.outside.slope += slope * side.scale;
            }
        }
        Some(side)
    }
}

/// The weights of the pixels at -1, 0, 1 and 2 for a coordinate `t` between 0 and 1, and their derivatives by `t`.
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
