//! The sampler on random shapes, layouts, types and coordinates, wild ones among them: nothing panics, and what must hold holds.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, RngSeed};
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, affine_grid_sample, grid_sample, grid_sample_fill};
use support::{distance, run, values};

/// The same cases every time, and no files of failures.
fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn config() -> impl Strategy<Value = GridSampleConfig> {
    let modes = [Interpolation::Bilinear, Interpolation::Nearest, Interpolation::Bicubic];
    let paddings = [Padding::Zeros, Padding::Border, Padding::Reflection];
    (any::<bool>(), prop::sample::select(modes.to_vec()), prop::sample::select(paddings.to_vec()))
        .prop_map(|(align, mode, padding)| GridSampleConfig::new(align).interpolation(mode).padding(padding))
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![DType::F32, DType::F64, DType::F16, DType::BF16])
}

/// Mostly in and about the image; some on pixels and edges, some nowhere.
fn coordinate() -> impl Strategy<Value = f64> {
    let special = vec![
        -1.0,
        1.0,
        0.0,
        -0.5,
        0.5,
        3.0,
        -3.0,
        1e38,
        -1e38,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    prop_oneof![4 => -1.5..1.5f64, 1 => -1e4..1e4f64, 1 => prop::sample::select(special)]
}

/// Images, windows an image, channels, sides of the image and of the output, how the image lies in memory.
type Sizes = (usize, usize, usize, (usize, usize), (usize, usize), usize);

fn sizes() -> impl Strategy<Value = Sizes> {
    (0..3usize, 0..3usize, 0..4usize, (1..7usize, 1..7usize), (0..6usize, 0..6usize), 0..4usize)
}

/// The values in the order they come, as they lie in memory for one of four layouts.
fn memory((b, _, c, (h, w), _, layout): Sizes, values: &[f64], dtype: DType) -> Result<Tensor> {
    let shape = match layout {
        0 => (b, c, h, w),
        1 => (b, h, w, c),
        2 => (b, c, w, h),
        _ => (b.min(1), c, h, w),
    };
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values: Vec<f64> = values.iter().copied().cycle().take(count).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// The image (B, C, H, W) that lies so in memory. A view: types are converted and variables made before, which copies.
fn image((b, _, c, (h, w), _, layout): Sizes, memory: &Tensor) -> Result<Tensor> {
    match layout {
        0 => Ok(memory.clone()),
        1 => memory.permute((0, 3, 1, 2)),
        2 => memory.transpose(2, 3),
        _ => memory.broadcast_as((b, c, h, w)),
    }
}

fn grid((b, k, _, _, (h, w), _): Sizes, coordinates: &[f64]) -> Result<Tensor> {
    let points = coordinates.iter().copied().cycle().take(b * k * h * w * 2).collect();
    Tensor::from_vec(points, (b * k, h, w, 2), &Device::Cpu)
}

fn finite(tensors: &[Tensor]) -> bool {
    tensors.iter().all(|t| values(t).is_ok_and(|v| v.iter().all(|v| v.is_finite())))
}

proptest! {
    #![proptest_config(settings())]

    /// Shapes and types are right, values and gradients finite, whatever the coordinates.
    #[test]
    fn nothing_wild_comes_out(
        sizes in sizes(),
        pixels in prop::collection::vec(-1.0..1.0f64, 60),
        coordinates in prop::collection::vec(coordinate(), 40),
        (cfg, dtype) in (config(), dtype()),
    ) {
        let (b, k, c, _, (h, w), _) = sizes;
        let u = memory(sizes, &pixels, dtype).expect("an image");
        let points = grid(sizes, &coordinates).and_then(|g| g.to_dtype(dtype)).expect("a grid");
        let sample = |t: &[Tensor]| grid_sample(&image(sizes, &t[0])?, &t[1], cfg);
        let (out, gradients) = run(&[&u, &points], sample).expect("a sample");
        prop_assert_eq!(out.dims(), [b * k, c, h, w]);
        prop_assert_eq!(out.dtype(), dtype);
        prop_assert_eq!(gradients[0].dims(), u.dims());
        prop_assert_eq!(gradients[1].dims(), points.dims());
        prop_assert!(finite(&[out]) && finite(&gradients[..1]));
        // Half precision has no room for the product of a slope and many gradients, but for these sizes it has.
        prop_assert!(finite(&gradients[1..]));
    }

    /// Bilinear and nearest samples of an image without surroundings are within the range of its pixels, channel by channel.
    #[test]
    fn no_value_leaves_the_range(
        sizes in sizes(),
        pixels in prop::collection::vec(-1e3..1e3f64, 60),
        coordinates in prop::collection::vec(coordinate(), 40),
        cfg in config(),
        single in any::<bool>(),
    ) {
        let (b, k, c, (h, w), _, _) = sizes;
        let cfg = if cfg.padding == Padding::Zeros { cfg.padding(Padding::Border) } else { cfg };
        let bicubic = cfg.interpolation == Interpolation::Bicubic;
        let cfg = if bicubic { cfg.interpolation(Interpolation::Bilinear) } else { cfg };
        let dtype = if single { DType::F32 } else { DType::F64 };
        let u = memory(sizes, &pixels, dtype).and_then(|u| image(sizes, &u)).expect("an image");
        let points = grid(sizes, &coordinates).and_then(|g| g.to_dtype(dtype)).expect("a grid");
        let out = values(&grid_sample(&u, &points, cfg).expect("a sample")).expect("values");
        let u = values(&u).expect("values");
        let window = out.len() / (b * k * c).max(1);
        for (i, maps) in out.chunks(window.max(1)).enumerate() {
            let map = &u[(i / c / k * c + i % c) * h * w..][..h * w];
            let (low, high) = map.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            let slack = if single { 1e-3 } else { 1e-10 };
            prop_assert!(maps.iter().all(|&v| v >= low - slack && v <= high + slack), "{low} {high} {maps:?}");
        }
    }

    /// Linear in the image; and with surroundings of one, the image of ones is one everywhere.
    #[test]
    fn linear_and_complete(
        sizes in sizes(),
        pixels in prop::collection::vec(-1.0..1.0f64, 60),
        coordinates in prop::collection::vec(coordinate(), 40),
        cfg in config(),
    ) {
        let u = memory(sizes, &pixels, DType::F64).and_then(|u| image(sizes, &u)).expect("an image");
        let points = grid(sizes, &coordinates).expect("a grid");
        let sample = |u: &Tensor| grid_sample(u, &points, cfg);
        let of_sum = u.affine(-3.0, 0.0).and_then(|v| sample(&v)).expect("a sample");
        let sum_of = sample(&u).and_then(|v| v.affine(-3.0, 0.0)).expect("a sample");
        prop_assert!(distance(&of_sum, &sum_of).expect("a distance") < 1e-12);
        let ones = u.ones_like().expect("ones");
        let out = if cfg.padding == Padding::Zeros {
            let fill = Tensor::ones(sizes.2, DType::F64, &Device::Cpu).expect("ones");
            grid_sample_fill(&ones, &points, &fill, cfg)
        } else {
            sample(&ones)
        };
        prop_assert!(values(&out.expect("a sample")).expect("values").iter().all(|v| (v - 1.0).abs() < 1e-12));
    }

    /// Matrices of anything.
    #[test]
    fn no_matrix_is_too_wild(
        sizes in sizes(),
        pixels in prop::collection::vec(-1.0..1.0f64, 60),
        entries in prop::collection::vec(coordinate(), 30),
        (cfg, dtype) in (config(), dtype()),
    ) {
        let (b, k, c, _, out_size, _) = sizes;
        let u = memory(sizes, &pixels, dtype).expect("an image");
        let entries = entries.iter().copied().cycle().take(6 * b * k).collect();
        let theta = Tensor::from_vec::<_, f64>(entries, (b * k, 2, 3), &Device::Cpu).and_then(|t| t.to_dtype(dtype)).expect("matrices");
        let (out, gradients) = run(&[&u, &theta], |t| affine_grid_sample(&image(sizes, &t[0])?, &t[1], out_size, cfg)).expect("a sample");
        prop_assert_eq!(out.dims(), [b * k, c, out_size.0, out_size.1]);
        prop_assert!(finite(&[out]) && finite(&gradients));
    }
}
