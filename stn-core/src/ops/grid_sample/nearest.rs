//! The nearest pixel. Half way between two it is the one with the even index, as in PyTorch; the paper's eq. (4), floor(x + 0.5), takes
//! the right one.

use super::Padding;
use super::side::{Mode, Outside, Reads, Side};
use crate::ops::axis::{Axis, round_half_even};
use crate::ops::real::Real;

pub(super) struct Nearest;

impl Mode<1> for Nearest {
    #[inline(always)]
    fn side<T: Real>(axis: &Axis, g: f64) -> Option<Side<T, 1>> {
        let index = round_half_even(axis.padded(g)?.pixel) as isize;
        let inside = index >= 0 && (index as usize) < axis.size;
        if axis.padding == Padding::Zeros && !inside {
            return None;
        }
        Some(Side {
            reads: Reads { offset: [index as usize * axis.stride], weight: [T::one()] },
            slope: [T::zero()],
            scale: T::zero(),
            outside: Outside { weight: T::zero(), slope: T::zero() },
        })
    }
}
