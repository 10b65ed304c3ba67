//! The element types of the sampler, with conversions that the compiler can vectorise.

use crate::ops::real::Real;

/// `f32` or `f64`.
pub(in crate::ops) trait Element: Real {
    /// As `f64`.
    fn wide(self) -> f64;
    /// The nearest number of this type.
    fn narrow(wide: f64) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
}

impl Element for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide
    }
}
