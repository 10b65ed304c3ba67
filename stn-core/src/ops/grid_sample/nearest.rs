//! The nearest pixel. Half way between two it is the one with the even index, as in PyTorch; the paper's eq. (4), floor(x + 0.5), takes
//! the right one.

use super::element::Element;
use super::side::{Mode, Outside, RUN, Side};
use crate::ops::axis::{Axis, round_half_even, whole};

pub(in crate::ops) struct Nearest;

impl Mode<1> for Nearest {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // arrays side by side
    fn taps<T: Element>(axis: &Axis, g: &[f64; RUN], side: &mut Side<T, 1>) {
        let places = axis.padded_run(g);
        let (last, stride) = (axis.last, axis.stride as f64);
        for i in 0..RUN {
            let index = round_half_even(places.pixel[i]);
            // Not so under `Padding::Zeros` only; NaN neither.
            let inside = (index >= 0.0) & (index <= last);
            side.offset[0][i] = whole(if inside { index } else { 0.0 } * stride);
            side.weight[0][i] = if inside { T::one() } else { T::zero() };
            side.live[i] = side.weight[0][i];
        }
    }

    fn outside<T: Element>(axis: &Axis, g: f64) -> Option<Outside<T>> {
        let index = round_half_even(axis.padded(g)?.pixel);
        (index >= 0.0 && index <= axis.last).then_some(Outside { weight: T::zero(), slope: T::zero() })
    }
}
