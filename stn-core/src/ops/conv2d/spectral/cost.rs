//! Where the frequency domain is the shorter way: an estimate of both, in nanoseconds of one core.
//!
//! The rates were measured on a Zen 5 core with AVX-512, over kernels of 3x3 to 9x9 and images of 4 to 64 pixels; what counts is how they compare.

use super::pair_bytes;
use super::plane::padded_pixels;
use crate::ops::conv2d::Conv2dConfig;
use crate::ops::conv2d::backward::Wanted;
use crate::ops::conv2d::geometry::Geometry;
use crate::ops::interleave::groups;
use crate::ops::real::Real;

/// Multiply-adds a nanosecond of the sums over the taps: forward; backward at every position; backward at one position a window.
const DIRECT: f64 = 120.;
const DIRECT_BACKWARD: f64 = 70.;
const SCATTERED: f64 = 15.;

/// Multiply-adds a nanosecond of the products for each frequency.
const PRODUCT: f64 = 100.;

/// Nanoseconds for each pixel of a plane of two groups of images: the transform, and the way to the products and back.
const PIXEL: f64 = 40.;

/// The spectra of the weights may have so many bytes; while they are made it is twice that. A graph keeps those of each of its layers. Those of the images that
/// are worked on at a time may have as many.
const MOST_BYTES: usize = 256 << 20;

/// Whether the forward pass is faster in the frequency domain.
pub(in crate::ops::conv2d) fn forward_pays<T: Real>(geometry: &Geometry) -> bool {
    possible::<T>(geometry)
        && cost::<T>(geometry, 1., [geometry.channels, geometry.filters], 1.)
            < (geometry.images * geometry.positions()) as f64 * all_weights(geometry) / DIRECT
}

/// Whether the backward pass is, where every pixel of the maps has a gradient.
pub(in crate::ops::conv2d) fn dense_backward_pays<T: Real>(geometry: &Geometry, wanted: Wanted) -> bool {
    backward_pays::<T>(geometry, wanted, geometry.images * geometry.positions() * geometry.filters, DIRECT_BACKWARD)
}

/// Whether the backward pass is, where `count` pixels of all maps together have a gradient.
pub(in crate::ops::conv2d) fn scattered_backward_pays<T: Real>(
    geometry: &Geometry,
    wanted: Wanted,
    count: usize,
) -> bool {
    backward_pays::<T>(geometry, wanted, count, SCATTERED)
}

fn backward_pays<T: Real>(geometry: &Geometry, wanted: Wanted, count: usize, rate: f64) -> bool {
    let Wanted { input, weight } = wanted;
    let results = f64::from(u8::from(input)) + f64::from(u8::from(weight));
    let planes = [geometry.filters, geometry.channels * (usize::from(input) + usize::from(weight))];
    possible::<T>(geometry)
        && cost::<T>(geometry, results, planes, results) < results * (count * geometry.patch()) as f64 / rate
}

/// The frequency domain is for `f32`: `f64` is for who wants the sums to the last digit. And for weights whose spectra are of a moderate size, and images: a few
/// large ones would take the memory of a full pair of groups.
fn possible<T: Real>(geometry: &Geometry) -> bool {
    let Conv2dConfig { stride, dilation, groups, .. } = geometry.cfg;
    let plain = (stride, dilation, groups) == ((1, 1), (1, 1), 1);
    if T::DTYPE != candle_core::DType::F32 || !plain || geometry.is_empty() {
        return false;
    }
    let pixels = padded_pixels(geometry.padded());
    let tensors = geometry.channels * geometry.pixels() + geometry.filters * geometry.positions();
    pixels * geometry.filters * geometry.channels * size_of::<T>() <= MOST_BYTES
        && pair_bytes::<T>(geometry, pixels) <= MOST_BYTES.max(4 * geometry.images * tensors * size_of::<T>())
}

fn all_weights(geometry: &Geometry) -> f64 {
    (geometry.filters * geometry.patch()) as f64
}

/// Of some products of all weights with all images, planes of so many channels of them, and some planes of all weights.
fn cost<T: Real>(geometry: &Geometry, products: f64, channels: [usize; 2], kernels: f64) -> f64 {
    let pixels = padded_pixels(geometry.padded()) as f64;
    let pairs = groups::<T>(geometry.images).div_ceil(2) as f64;
    let weights = (geometry.filters * geometry.channels) as f64;
    let lanes = 2. * T::LANES as f64;
    // Two real products for each real number of a spectrum, of which an image has as many as pixels.
    products * 2. * weights * pixels * pairs * lanes / PRODUCT
        + PIXEL * pixels * (pairs * (channels[0] + channels[1]) as f64 + kernels * weights / lanes)
}
