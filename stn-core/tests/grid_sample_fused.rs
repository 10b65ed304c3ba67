//! What is built round the sampler: the fill outside the image, the generator and sampler in one, the composition of tensor operations.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use stn_core::ops::{
    GridSampleConfig, Interpolation, Padding, affine_grid_sample, grid_sample, grid_sample_fill, grid_sample_reference,
};
use stn_core::transform::affine_grid;
use support::sampler::{configs, grid_between_pixels};
use support::{bits, check_gradients, distance, message, numbers, random, run, values, with_threads};

fn fill_configs() -> impl Iterator<Item = GridSampleConfig> {
    configs().filter(|cfg| cfg.padding == Padding::Zeros)
}

/// The image with a wide frame of the fill, sampled at the same pixels.
#[test]
fn fill_is_what_a_wide_frame_would_be() -> Result<()> {
    let (frame, (h, w)) = (12, (4, 5));
    for cfg in fill_configs() {
        let (u, fill) = (random((2, 3, h, w), 1)?, random(3, 2)?);
        let grid = grid_between_pixels((4, 3, 4), (h, w), cfg.align_corners, 3)?.clamp(-3.0, 3.0)?;
        let (out, gradients) = run(&[&u, &grid, &fill], |t| grid_sample_fill(&t[0], &t[1], &t[2], cfg))?;
        let (expected, expected_gradients) = run(&[&u, &grid, &fill], |t| {
            let fill = t[2].reshape((1, 3, 1, 1))?;
            let framed = t[0].broadcast_sub(&fill)?.pad_with_zeros(2, frame, frame)?.pad_with_zeros(3, frame, frame)?;
            let framed = framed.broadcast_add(&fill)?;
            let shrink = |n: usize| {
                let n = n as f64;
                let wide = n + 2.0 * frame as f64;
                if cfg.align_corners { (n - 1.0) / (wide - 1.0) } else { n / wide }
            };
            grid_sample(&framed, &t[1].broadcast_mul(&Tensor::new(&[shrink(w), shrink(h)], &Device::Cpu)?)?, cfg)
        })?;
        assert!(distance(&out, &expected)? < 1e-12, "{cfg:?}");
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < 1e-10, "{cfg:?}");
        }
    }
    Ok(())
}

#[test]
fn fill_gradients() -> Result<()> {
    for cfg in fill_configs() {
        let (u, fill) = (random((2, 2, 4, 5), 1)?, random(2, 2)?);
        let grid = grid_between_pixels((4, 3, 4), (4, 5), cfg.align_corners, 3)?;
        let f = |t: &[Tensor]| grid_sample_fill(&t[0], &t[1], &t[2], cfg);
        check_gradients(&format!("{cfg:?}"), &[&u, &grid, &fill], f)?;
        // Of zeros it is the plain sampler, also in its gradients.
        let (out, gradients) = run(&[&u, &grid, &fill.zeros_like()?], f)?;
        let (plain, plain_gradients) = run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
        assert_eq!(values(&out)?, values(&plain)?);
        for (gradient, plain) in gradients.iter().zip(&plain_gradients) {
            assert_eq!(values(gradient)?, values(plain)?);
        }
    }
    Ok(())
}

#[test]
fn fill_only_where_there_is_no_image() -> Result<()> {
    let cfg = GridSampleConfig::new(true);
    let u = random((1, 1, 3, 3), 1)?;
    let points = Tensor::new(&[[[[0.3, -0.2], [f64::NAN, 0.0], [0.0, f64::INFINITY], [1e38, -7.0]]]], &Device::Cpu)?;
    for wild in [f64::NAN, f64::INFINITY, 5.0] {
        let out = values(&grid_sample_fill(&u, &points, &Tensor::new(&[wild], &Device::Cpu)?, cfg)?)?;
        assert!(out[0].is_finite());
        assert!(out[1..].iter().all(|v| v.to_bits() == wild.to_bits()));
        // Nor has it a part in the gradients of points inside.
        let inside = Tensor::new(&[[[[0.3, -0.2], [0.9, 0.1]]]], &Device::Cpu)?;
        let fill = Tensor::new(&[wild], &Device::Cpu)?;
        let (_, gradients) = run(&[&u, &inside], |t| grid_sample_fill(&t[0], &t[1], &fill, cfg))?;
        let (_, expected) = run(&[&u, &inside], |t| grid_sample(&t[0], &t[1], cfg))?;
        assert!(distance(&gradients[1], &expected[1])? == 0.0, "{wild}");
    }
    // Half precision, each type of fill.
    let (u, points) = (u.to_dtype(DType::F16)?, points.to_dtype(DType::F16)?);
    for dtype in [DType::F16, DType::F32] {
        let fill = Var::from_tensor(&Tensor::new(&[5.0], &Device::Cpu)?.to_dtype(dtype)?)?;
        let out = grid_sample_fill(&u, &points, &fill, cfg)?;
        let grads = out.sum_all()?.backward()?;
        assert_eq!(values(&out)?[1..], [5.0; 3]);
        assert_eq!(grads.get(&fill).map(|g| (g.dtype(), values(g).unwrap_or_default())), Some((dtype, vec![3.0])));
    }
    Ok(())
}

#[test]
fn fill_errors() -> Result<()> {
    let (u, grid) = (random((1, 2, 3, 3), 1)?, random((1, 2, 2, 2), 2)?);
    let cfg = GridSampleConfig::new(true);
    assert_eq!(
        message(grid_sample_fill(&u, &grid, &random(2, 1)?, cfg.padding(Padding::Border))),
        "grid_sample_fill: the fill takes the place of zeros; the padding must be Zeros, got Border"
    );
    assert_eq!(
        message(grid_sample_fill(&u, &grid, &random(3, 1)?, cfg)),
        "grid_sample_fill: fill must be (2,), one number a channel, got [3]"
    );
    assert_eq!(
        message(grid_sample_fill(&u, &grid, &random(2, 1)?.to_dtype(DType::F32)?, cfg)),
        "grid_sample_fill: input and fill must have the same dtype, got F64 and F32"
    );
    assert_eq!(
        message(grid_sample_fill(&u, &random((1, 2, 2), 2)?, &random(2, 1)?, cfg)),
        "grid_sample_fill: grid must be (N, H', W', 2), got [1, 2, 2]"
    );
    Ok(())
}

/// Matrices about the identity, some of which look outside the image.
fn matrices(n: usize, seed: u64) -> Result<Tensor> {
    let identity = Tensor::new(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
    (random((n, 2, 3), seed)? * 0.6)?.broadcast_add(&identity)
}

/// One pass gives the bits of two, for values and gradients.
#[test]
fn generator_and_sampler_in_one() -> Result<()> {
    for cfg in configs() {
        for dtype in [DType::F32, DType::F64] {
            for (images, windows, out) in [(3, 1, (6, 5)), (2, 3, (3, 8)), (1, 1, (1, 1)), (1, 2, (40, 1))] {
                let u = random((images, 2, 5, 6), 1)?.to_dtype(dtype)?;
                let theta = matrices(images * windows, 2)?.to_dtype(dtype)?;
                let fused = run(&[&u, &theta], |t| affine_grid_sample(&t[0], &t[1], out, cfg))?;
                let two =
                    run(&[&u, &theta], |t| grid_sample(&t[0], &affine_grid(&t[1], out, cfg.align_corners)?, cfg))?;
                assert!(
                    bits([&fused.0].into_iter().chain(&fused.1))? == bits([&two.0].into_iter().chain(&two.1))?,
                    "{cfg:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn theta_gradients() -> Result<()> {
    for cfg in configs() {
        let (u, theta) = (random((2, 2, 4, 5), 11)?, matrices(4, 12)?);
        let f = |t: &[Tensor]| affine_grid_sample(&t[0], &t[1], (3, 4), cfg);
        check_gradients(&format!("{cfg:?}"), &[&u, &theta], f)?;
    }
    Ok(())
}

#[test]
fn fused_edges() -> Result<()> {
    let cfg = GridSampleConfig::new(true);
    // Nothing in, nothing out.
    for (input, n, out) in [
        ((0, 2, 3, 4), 0, (5, 6)),
        ((2, 0, 3, 4), 4, (5, 6)),
        ((2, 2, 3, 4), 2, (0, 6)),
        ((2, 2, 3, 4), 2, (5, 0)),
        ((2, 2, 3, 4), 0, (5, 6)),
    ] {
        for cfg in configs() {
            let (u, theta) =
                (Tensor::ones(input, DType::F32, &Device::Cpu)?, Tensor::ones((n, 2, 3), DType::F32, &Device::Cpu)?);
            let (v, gradients) = run(&[&u, &theta], |t| affine_grid_sample(&t[0], &t[1], out, cfg))?;
            assert_eq!(v.dims(), [n, input.1, out.0, out.1]);
            assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|&g| g == 0.0))));
        }
    }
    // Wild matrices.
    for wild in [f64::NAN, f64::INFINITY, -1e38] {
        for cfg in configs() {
            let theta = Tensor::new(&[[[wild, 0.5, 0.1], [0.0, 1.0, wild]]], &Device::Cpu)?;
            let u = random((1, 1, 4, 4), 3)?;
            let (v, gradients) = run(&[&u, &theta], |t| affine_grid_sample(&t[0], &t[1], (4, 4), cfg))?;
            assert!(values(&v)?.iter().all(|v| v.is_finite()), "{cfg:?} {wild}");
            assert!(
                gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|g| g.is_finite()))),
                "{cfg:?} {wild}"
            );
        }
    }
    // Half precision, views, errors.
    let (u, theta) = (random((2, 3, 4, 5), 1)?, matrices(4, 2)?);
    let half = affine_grid_sample(&u.to_dtype(DType::BF16)?, &theta.to_dtype(DType::F32)?, (3, 3), cfg)?;
    assert_eq!(half.dtype(), DType::BF16);
    assert!(distance(&half, &affine_grid_sample(&u, &theta, (3, 3), cfg)?)? < 3e-2);
    let turned = affine_grid_sample(&u.t()?, &theta.broadcast_as((4, 2, 3))?, (3, 3), cfg)?;
    assert_eq!(values(&turned)?, values(&affine_grid_sample(&u.t()?.contiguous()?, &theta, (3, 3), cfg)?)?);
    assert_eq!(
        message(affine_grid_sample(&u, &random((2, 6), 1)?, (3, 3), cfg)),
        "affine_grid_sample: theta must be (N, 2, 3), got [2, 6]"
    );
    assert_eq!(
        message(affine_grid_sample(&u, &random((3, 2, 3), 1)?, (3, 3), cfg)),
        "affine_grid_sample: the first dimension of theta must be a multiple of the input's, got 3 for 2 images"
    );
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for cfg in configs() {
        for (images, windows) in [(1, 1), (5, 3)] {
            let u = random((images, 3, 17, 23), 1)?.to_dtype(DType::F32)?;
            let theta = matrices(images * windows, 2)?.to_dtype(DType::F32)?;
            let fill = random(3, 4)?.to_dtype(DType::F32)?;
            let grid = (random((images * windows, 19, 13, 2), 5)? * 1.3)?.to_dtype(DType::F32)?;
            let on = |threads| -> Result<_> {
                with_threads(threads, || {
                    let fused = run(&[&u, &theta], |t| affine_grid_sample(&t[0], &t[1], (31, 9), cfg))?;
                    let zeros = cfg.padding(Padding::Zeros);
                    let filled = run(&[&u, &grid, &fill], |t| grid_sample_fill(&t[0], &t[1], &t[2], zeros))?;
                    bits([&fused.0, &filled.0].into_iter().chain(&fused.1).chain(&filled.1))
                })
            };
            let one = on(1)?;
            assert!(one == on(2)? && one == on(7)?, "{cfg:?}");
        }
    }
    Ok(())
}

/// The composition of tensor operations is the same function, with the same gradients by Candle's differentiation.
#[test]
fn tensor_operations_agree_with_the_kernel() -> Result<()> {
    for (i, (size, out)) in
        [((4, 5), (3, 7)), ((1, 4), (5, 3)), ((1, 1), (3, 3)), ((7, 2), (1, 9))].into_iter().enumerate()
    {
        for cfg in configs() {
            let u = random((2, 3, size.0, size.1), i as u64)?;
            let grid = grid_between_pixels((4, out.0, out.1), size, cfg.align_corners, 50 + i as u64)?;
            let kernel = run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
            let composed = run(&[&u, &grid], |t| grid_sample_reference(&t[0], &t[1], cfg))?;
            assert!(distance(&kernel.0, &composed.0)? < 1e-12, "{size:?} {cfg:?}");
            for (kernel, composed) in kernel.1.iter().zip(&composed.1) {
                let off = distance(kernel, composed)?;
                assert!(off < 1e-10, "{size:?} {cfg:?}: {off}");
            }
            let single = [u.to_dtype(DType::F32)?, grid.to_dtype(DType::F32)?];
            let single = grid_sample_reference(&single[0], &single[1], cfg)?;
            let nearest = cfg.interpolation == Interpolation::Nearest;
            assert!(nearest || distance(&single, &kernel.0)? < 1e-3, "{size:?} {cfg:?}");
        }
    }
    Ok(())
}

/// Also where coordinates are no place.
#[test]
fn tensor_operations_agree_on_wild_coordinates() -> Result<()> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38, -1e38, f64::MAX, 0.25];
    let points: Vec<f64> = odd.iter().flat_map(|&x| odd.iter().flat_map(move |&y| [x, y])).collect();
    let points = Tensor::from_vec(points, (1, 7, 7, 2), &Device::Cpu)?;
    let u = random((1, 2, 3, 4), 1)?;
    for cfg in configs() {
        let far_mirrors = cfg.padding == Padding::Reflection; // which pixel 1e38 is depends on how numbers are rounded
        let kernel = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
        let composed = run(&[&u, &points], |t| grid_sample_reference(&t[0], &t[1], cfg))?;
        assert!(far_mirrors || distance(&kernel.0, &composed.0)? < 1e-12, "{cfg:?}");
        for (kernel, composed) in kernel.1.iter().zip(&composed.1) {
            assert!(far_mirrors || distance(kernel, composed)? < 1e-10, "{cfg:?}");
            assert!(values(composed)?.iter().all(|g| g.is_finite()), "{cfg:?}");
        }
    }
    Ok(())
}

/// Rotations against `scipy.ndimage.affine_transform`; `data/affine_goldens.py` has the script.
#[test]
fn matches_scipy() -> Result<()> {
    let goldens: Value = serde_json::from_str(include_str!("data/affine_goldens.json")).expect("valid JSON");
    let cfg = GridSampleConfig::new(true).padding(Padding::Border);
    let cases = goldens["cases"].as_array().expect("cases");
    assert!(cases.len() > 30);
    for case in cases {
        let (u, expected) = (support::tensor(&case["input"])?, support::tensor(&case["output"])?);
        let theta = Tensor::from_vec(numbers(&case["theta"]), (1, 2, 3), &Device::Cpu)?;
        let (h, w) = expected.dims2()?;
        let u = u.unsqueeze(0)?.unsqueeze(0)?;
        let v = affine_grid_sample(&u, &theta, (h, w), cfg)?.squeeze(0)?.squeeze(0)?;
        assert!(distance(&v, &expected)? < 1e-6, "{case}");
    }
    Ok(())
}
