//! What the tests of the sampler share: all its configs, and grids of points given in pixels.

use super::{random, values};
use candle_core::{Device, Result, Tensor};
use serde_json::Value;
use stn_core::ops::{GridSampleConfig, Interpolation, Padding};

/// The three modes by PyTorch's names.
pub const INTERPOLATIONS: [(&str, Interpolation); 3] =
    [("bilinear", Interpolation::Bilinear), ("nearest", Interpolation::Nearest), ("bicubic", Interpolation::Bicubic)];
/// The three paddings by PyTorch's names.
pub const PADDINGS: [(&str, Padding); 3] =
    [("zeros", Padding::Zeros), ("border", Padding::Border), ("reflection", Padding::Reflection)];

/// Every mode with every padding in both conventions.
pub fn configs() -> impl Iterator<Item = GridSampleConfig> {
    INTERPOLATIONS.into_iter().flat_map(|(_, interpolation)| {
        PADDINGS.into_iter().flat_map(move |(_, padding)| {
            [true, false].map(|align| GridSampleConfig::new(align).interpolation(interpolation).padding(padding))
        })
    })
}

/// The config of a known case of the sampler.
pub fn config(case: &Value) -> GridSampleConfig {
    let (mode, padding) = (case["mode"].as_str().unwrap_or("bilinear"), case["padding"].as_str().expect("a padding"));
    let &(_, interpolation) = INTERPOLATIONS.iter().find(|(name, _)| *name == mode).expect("a mode");
    let &(_, padding) = PADDINGS.iter().find(|(name, _)| *name == padding).expect("a known padding");
    let align_corners = case["align_corners"].as_bool().expect("a convention");
    GridSampleConfig::new(align_corners).interpolation(interpolation).padding(padding)
}

/// The normalised coordinate of a pixel.
pub fn normalised(pixel: f64, size: usize, align_corners: bool) -> f64 {
    match (align_corners, size) {
        (true, 1) => pixel,
        (true, n) => 2.0 * pixel / (n as f64 - 1.0) - 1.0,
        (false, n) => (2.0 * pixel + 1.0) / n as f64 - 1.0,
    }
}

/// The grid (n, h', w', 2) whose points are `point(i)` in pixels (x, y) of an image (h, w).
pub fn grid_of_pixels(
    shape: (usize, usize, usize),
    (h, w): (usize, usize),
    align_corners: bool,
    point: impl Fn(usize) -> (f64, f64),
) -> Result<Tensor> {
    let (n, out_h, out_w) = shape;
    let coordinates = (0..n * out_h * out_w).flat_map(|i| {
        let (x, y) = point(i);
        [normalised(x, w, align_corners), normalised(y, h, align_corners)]
    });
    Tensor::from_vec(coordinates.collect(), (n, out_h, out_w, 2), &Device::Cpu)
}

/// A grid of random points, about half of them outside the image and some far outside, none within a tenth of a pixel of a kink.
pub fn grid_between_pixels(
    shape: (usize, usize, usize),
    size: (usize, usize),
    align_corners: bool,
    seed: u64,
) -> Result<Tensor> {
    let random = values(&random((shape.0 * shape.1 * shape.2, 4), seed)?)?;
    let side = |n: usize, cell: f64, fraction: f64| {
        let whole = (cell * (n as f64 + 5.0) / 2.0 + n as f64 / 2.0).floor(); // from -2.5 to n + 2.5
        let whole = if cell > 0.95 { whole + 40.0 } else { whole };
        whole + 0.5 + 0.4 * fraction
    };
    grid_of_pixels(shape, size, align_corners, |i| {
        let r = &random[4 * i..];
        (side(size.1, r[0], r[1]), side(size.0, r[2], r[3]))
    })
}

/// The four configs that eq. (5) covers: bilinear, and what lies outside is nothing or the edge.
pub fn eq_5_configs() -> impl Iterator<Item = GridSampleConfig> {
    configs().filter(|cfg| cfg.interpolation == Interpolation::Bilinear && cfg.padding != Padding::Reflection)
}
