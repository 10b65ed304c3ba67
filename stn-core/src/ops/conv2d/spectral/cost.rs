//! Where the frequency domain is the shorter way.

use crate::ops::conv2d::Conv2dConfig;
use crate::ops::conv2d::geometry::Geometry;
use crate::ops::pool2d::Windows;
use crate::ops::real::Real;

fn possible<T: Real>(geometry: &Geometry) -> bool {
    let Conv2dConfig { stride, dilation, groups, .. } = geometry.cfg;
    T::DTYPE == candle_core::DType::F32 && (stride, dilation, groups) == ((1, 1), (1, 1), 1) && !geometry.is_empty()
}

pub(in crate::ops::conv2d) fn forward_pays<T: Real>(geometry: &Geometry) -> bool {
    possible::<T>(geometry) && std::env::var_os("SPECTRAL").is_some()
}

pub(in crate::ops::conv2d) fn dense_backward_pays<T: Real>(geometry: &Geometry) -> bool {
    possible::<T>(geometry) && std::env::var_os("SPECTRAL_B").is_some()
}

pub(in crate::ops::conv2d) fn scattered_backward_pays<T: Real>(geometry: &Geometry, _windows: &Windows) -> bool {
    possible::<T>(geometry) && std::env::var_os("SPECTRAL_B").is_some()
}
