//! The sampler: known values, eq. (5) written out, gradients by finite differences, and errors. Edges: `grid_sample_edges.rs`; strides: `grid_sample_strides.rs`.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample};
use support::sampler::{config, configs, eq_5_configs, grid_between_pixels, grid_of_pixels};
use support::{bits, check_golden, check_gradients, distance, goldens, message, numbers, random, run, values};

/// The pixel of a normalised coordinate.
fn pixel(g: f64, size: usize, align_corners: bool) -> f64 {
    let n = size as f64;
    if align_corners { (g + 1.0) / 2.0 * (n - 1.0) } else { ((g + 1.0) * n - 1.0) / 2.0 }
}

/// The grid of the identity: the centres of the pixels.
fn identity(n: usize, (h, w): (usize, usize), align_corners: bool) -> Result<Tensor> {
    grid_of_pixels((n, h, w), (h, w), align_corners, |i| ((i % w) as f64, (i / w % h) as f64))
}

/// V of eq. (5) for each channel of one image at one point: the sum over all pixels.
fn eq_5(u: &[f64], (h, w): (usize, usize), (gx, gy): (f64, f64), cfg: GridSampleConfig) -> Vec<f64> {
    let side = |g: f64, n: usize| {
        let p = pixel(g, n, cfg.align_corners);
        if cfg.padding == Padding::Border { p.clamp(0.0, n as f64 - 1.0) } else { p }
    };
    let (x, y) = (side(gx, w), side(gy, h));
    let hat = |p: f64, i: usize| (1.0 - (p - i as f64).abs()).max(0.0);
    let weighted = |(i, u): (usize, &f64)| u * hat(x, i % w) * hat(y, i / w);
    u.chunks(h * w).map(|channel| channel.iter().enumerate().map(weighted).sum()).collect()
}

/// Eq. (5) for a batch: u (B, C, H, W), grid (B k, H', W', 2).
fn eq_5_batch(u: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    let (b, c, h, w) = u.dims4()?;
    let (n, out_h, out_w, _) = grid.dims4()?;
    let (u, grid) = (values(u)?, values(grid)?);
    let mut out = vec![0.0; n * c * out_h * out_w];
    for i in 0..n {
        let image = &u[i / (n / b) * c * h * w..][..c * h * w];
        for p in 0..out_h * out_w {
            let g = &grid[2 * (i * out_h * out_w + p)..];
            for (ch, v) in eq_5(image, (h, w), (g[0], g[1]), cfg).into_iter().enumerate() {
                out[(i * c + ch) * out_h * out_w + p] = v;
            }
        }
    }
    Tensor::from_vec(out, (n, c, out_h, out_w), &Device::Cpu)
}

fn pytorch_cases() -> Value {
    serde_json::from_str(include_str!("data/grid_sample_cases.json")).expect("valid JSON")
}

#[test]
fn values_of_pytorchs_tests() -> Result<()> {
    let cases = &pytorch_cases()["forward"];
    let mut seen = 0;
    for case in cases["expected"].as_array().expect("cases") {
        let cfg = config(case);
        // In f32, -0.2 is no longer half way between two pixels; only the nearest one depends on that.
        let single = (cfg.interpolation != Interpolation::Nearest).then_some(DType::F32);
        for dtype in [DType::F64].into_iter().chain(single) {
            let image = Tensor::from_vec(numbers(&cases["image"]), (1, 1, 2, 5), &Device::Cpu)?.to_dtype(dtype)?;
            let points = Tensor::from_vec(numbers(&cases["grid_points_xy"]), (1, 2, 5, 2), &Device::Cpu)?;
            let out = grid_sample(&image, &points.to_dtype(dtype)?, cfg)?;
            let expected = Tensor::from_vec(numbers(&case["values"]), (1, 1, 2, 5), &Device::Cpu)?;
            let distance = distance(&out, &expected)?;
            assert!(distance < 1e-5, "{dtype:?} {case}: {distance}");
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
    Ok(())
}

#[test]
fn grid_gradients_of_pytorchs_tests() -> Result<()> {
    let cases = &pytorch_cases()["grid_gradient_of_sum"];
    let mut seen = 0;
    for case in cases["expected"].as_array().expect("cases") {
        let cfg = config(case);
        let image = Var::from_vec(numbers(&cases["image"]), (1, 1, 5, 5), &Device::Cpu)?;
        let points = Var::from_vec(numbers(&cases["points_xy"]), (1, 1, 8, 2), &Device::Cpu)?;
        let expected = Tensor::from_vec(numbers(&case["dxdy"]), (1, 1, 8, 2), &Device::Cpu)?;
        for image in [image.as_tensor(), &image.as_detached_tensor()] {
            let grads = grid_sample(image, &points, cfg)?.sum_all()?.backward()?;
            let gradient = grads.get(&points).expect("the grid has a gradient");
            assert!(distance(gradient, &expected)? < 1e-5, "{case}: {gradient}");
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
    Ok(())
}

/// Values and both gradients; `data/pytorch_goldens.py` has the script.
#[test]
fn matches_pytorch() -> Result<()> {
    let mut seen = 0;
    for case in goldens("grid_sample") {
        let cfg = config(&case);
        check_golden(&case, &["input", "grid"], |t| grid_sample(&t[0], &t[1], cfg))?;
        seen += 1;
    }
    assert_eq!(seen, 6);
    Ok(())
}

#[test]
fn identity_returns_the_input() -> Result<()> {
    for size in [(5, 8), (8, 5), (28, 28), (1, 6), (7, 1), (1, 1), (2, 3)] {
        for cfg in configs() {
            for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-12)] {
                let u = random((2, 3, size.0, size.1), 1)?.affine(0.5, 0.5)?.to_dtype(dtype)?;
                let v = grid_sample(&u, &identity(2, size, cfg.align_corners)?.to_dtype(dtype)?, cfg)?;
                let distance = distance(&u, &v)?;
                assert!(distance < tolerance, "{size:?} {cfg:?} {dtype:?}: {distance}");
            }
        }
    }
    Ok(())
}

#[test]
fn agrees_with_eq_5_for_every_size() -> Result<()> {
    let sizes =
        [((4, 6), (7, 9)), ((7, 9), (4, 6)), ((5, 3), (2, 8)), ((3, 5), (1, 1)), ((6, 2), (6, 2)), ((1, 1), (3, 2))];
    for (i, (size, out)) in sizes.into_iter().enumerate() {
        for cfg in eq_5_configs() {
            let u = random((2, 3, size.0, size.1), i as u64)?;
            let grid = (random((4, out.0, out.1, 2), 100 + i as u64)? * 1.6)?;
            let expected = eq_5_batch(&u, &grid, cfg)?;
            let double = distance(&grid_sample(&u, &grid, cfg)?, &expected)?;
            assert!(double < 1e-12, "{size:?} {out:?} {cfg:?}: {double}");
            let single = grid_sample(&u.to_dtype(DType::F32)?, &grid.to_dtype(DType::F32)?, cfg)?;
            assert_eq!(single.dtype(), DType::F32);
            assert!(distance(&single, &expected)? < 1e-5, "{size:?} {out:?} {cfg:?}");
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for (i, (size, out)) in
        [((4, 5), (3, 4)), ((3, 2), (5, 4)), ((1, 4), (3, 3)), ((6, 1), (2, 5))].into_iter().enumerate()
    {
        for cfg in configs() {
            let u = random((2, 2, size.0, size.1), i as u64)?;
            let grid = grid_between_pixels((4, out.0, out.1), size, cfg.align_corners, 50 + i as u64)?;
            check_gradients(&format!("{size:?} {cfg:?}"), &[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
        }
    }
    Ok(())
}

#[test]
fn single_precision_gradients_agree_with_double() -> Result<()> {
    for cfg in configs() {
        let u = random((2, 3, 6, 5), 3)?;
        let grid = grid_between_pixels((4, 5, 4), (6, 5), cfg.align_corners, 4)?;
        let f = |t: &[Tensor]| grid_sample(&t[0], &t[1], cfg);
        let (_, double) = run(&[&u, &grid], f)?;
        let (_, single) = run(&[&u.to_dtype(DType::F32)?, &grid.to_dtype(DType::F32)?], f)?;
        for (single, double) in single.iter().zip(&double) {
            assert_eq!(single.dtype(), DType::F32);
            assert!(distance(single, double)? < 1e-4, "{cfg:?}");
        }
    }
    Ok(())
}

/// At a coordinate that falls on a pixel the derivative is the difference to the next one, and zero where the border clamps, the
/// edge included.
#[test]
fn derivative_at_a_pixel_is_the_right_hand_one() -> Result<()> {
    for cfg in eq_5_configs() {
        // By pixel, from -1 on. Sides whose pixels have exact coordinates; either way a coordinate is worth two pixels.
        let (u, mut differences) = if cfg.align_corners {
            (vec![3.0, 5.0, 4.0, -2.0, 1.0], vec![3.0, 2.0, -1.0, -6.0, 3.0, -1.0, 0.0])
        } else {
            (vec![3.0, 5.0, 4.0, -2.0], vec![3.0, 2.0, -1.0, -6.0, 2.0, 0.0])
        };
        let n = u.len();
        if cfg.padding == Padding::Border {
            differences[..2].fill(0.0);
            differences[n..].fill(0.0);
        }
        for along_x in [true, false] {
            let (h, w) = if along_x { (1, n) } else { (n, 1) };
            let image = Tensor::from_vec(u.clone(), (1, 1, h, w), &Device::Cpu)?;
            let pixel = |i: usize| if along_x { (i as f64 - 1.0, 0.0) } else { (0.0, i as f64 - 1.0) };
            let points = Var::from_tensor(&grid_of_pixels((1, 1, n + 2), (h, w), cfg.align_corners, pixel)?)?;
            let grads = grid_sample(&image, &points, cfg)?.sum_all()?.backward()?;
            let gradient = values(grads.get(&points).expect("the grid has a gradient"))?;
            let along: Vec<f64> = gradient.into_iter().skip(usize::from(!along_x)).step_by(2).collect();
            let expected: Vec<f64> = differences.iter().map(|d| 2.0 * d).collect();
            assert_eq!(along, expected, "{cfg:?}");
        }
    }
    Ok(())
}

/// A grid that reaches the last pixel, as the identity does: the next one is the zero outside.
#[test]
fn derivative_at_the_last_pixel() -> Result<()> {
    let image = Tensor::arange(0.0, 5.0, &Device::Cpu)?.reshape((1, 1, 1, 5))?;
    let point = Var::new(&[[[[1.0, 0.0]]]], &Device::Cpu)?;
    for (padding, expected) in [(Padding::Zeros, -8.0), (Padding::Border, 0.0)] {
        let out = grid_sample(&image, &point, GridSampleConfig::new(true).padding(padding))?;
        assert_eq!(values(&out)?, [4.0]);
        let grads = out.sum_all()?.backward()?;
        assert_eq!(values(grads.get(&point).expect("the grid has a gradient"))?[0], expected);
    }
    Ok(())
}

#[test]
fn windows_of_one_image_are_windows_of_its_copies() -> Result<()> {
    let (b, k) = (2, 3);
    for cfg in configs() {
        let u = random((b, 2, 5, 4), 1)?;
        let grid = grid_between_pixels((b * k, 3, 4), (5, 4), cfg.align_corners, 2)?;
        let (out, gradients) = run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
        let (expected, expected_gradients) = run(&[&u, &grid], |t| {
            let copies = t[0].unsqueeze(1)?.broadcast_as((b, k, 2, 5, 4))?.contiguous()?.flatten(0, 1)?;
            grid_sample(&copies, &t[1], cfg)
        })?;
        assert_eq!(out.dims(), [b * k, 2, 3, 4]);
        assert_eq!(values(&out)?, values(&expected)?);
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < 1e-12, "{cfg:?}");
        }
    }
    Ok(())
}

/// A side of one pixel: with `align_corners` every coordinate is that pixel, without, it is one pixel wide.
#[test]
fn sides_of_length_one() -> Result<()> {
    for cfg in eq_5_configs() {
        let u = random((1, 2, 1, 1), 1)?;
        let points = Tensor::new(&[[[[0.3, -0.4], [-7.0, 5.0], [1.9, 0.2], [0.1, -2.5]]]], &Device::Cpu)?;
        let (out, gradients) = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
        assert!(distance(&out, &eq_5_batch(&u, &points, cfg)?)? < 1e-12, "{cfg:?}");
        if cfg.align_corners || cfg.padding == Padding::Border {
            assert!(distance(&out, &u.broadcast_as((1, 2, 1, 4))?)? < 1e-12, "{cfg:?}");
            assert_eq!(values(&gradients[1])?, [0.0; 8], "{cfg:?}");
        }
        check_gradients(&format!("{cfg:?}"), &[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
    }
    Ok(())
}

#[test]
fn gradients_only_where_asked() -> Result<()> {
    let (u, grid) = (random((2, 2, 4, 5), 1)?, random((4, 3, 3, 2), 2)?);
    let cfg = GridSampleConfig::new(false);
    let (tracked_u, tracked_grid) = (Var::from_tensor(&u)?, Var::from_tensor(&grid)?);
    let grads = grid_sample(&tracked_u, &grid, cfg)?.sum_all()?.backward()?;
    assert!(grads.get(&tracked_u).is_some() && grads.get(&grid).is_none());
    let grads = grid_sample(&u, &tracked_grid, cfg)?.sum_all()?.backward()?;
    assert!(grads.get(&u).is_none() && grads.get(&tracked_grid).is_some());
    assert!(!grid_sample(&u, &grid, cfg)?.track_op());
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for cfg in configs() {
        let u = random((5, 3, 17, 23), 1)?.to_dtype(DType::F32)?;
        let grid = (random((15, 19, 13, 2), 2)? * 1.3)?.to_dtype(DType::F32)?;
        let on = |threads| -> Result<_> {
            let (out, gradients) =
                support::with_threads(threads, || run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg)))?;
            bits([&out].into_iter().chain(&gradients))
        };
        let one = on(1)?;
        assert!(one == on(2)? && one == on(7)?, "{cfg:?}");
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let f32s = |shape: &[usize]| zeros(shape, DType::F32);
    let sample = |u: Tensor, grid: Tensor| message(grid_sample(&u, &grid, GridSampleConfig::new(true)));
    let u = || f32s(&[2, 1, 3, 4]);
    assert_eq!(sample(f32s(&[1, 3, 4]), f32s(&[1, 2, 2, 2])), "grid_sample: input must be (B, C, H, W), got [1, 3, 4]");
    assert_eq!(sample(u(), f32s(&[2, 2, 2])), "grid_sample: grid must be (N, H', W', 2), got [2, 2, 2]");
    assert_eq!(sample(u(), f32s(&[2, 2, 2, 3])), "grid_sample: grid must be (N, H', W', 2), got [2, 2, 2, 3]");
    assert_eq!(sample(u(), f32s(&[2, 2, 5, 5, 2])), "grid_sample: grid must be (N, H', W', 2), got [2, 2, 5, 5, 2]");
    for shape in [[1, 1, 0, 4], [1, 1, 3, 0]] {
        assert_eq!(
            sample(f32s(&shape), f32s(&[1, 2, 2, 2])),
            format!("grid_sample: the input's height and width must not be zero, got {shape:?}")
        );
    }
    assert_eq!(
        sample(u(), f32s(&[3, 2, 2, 2])),
        "grid_sample: the first dimension of grid must be a multiple of the input's, got 3 for 2 images"
    );
    assert_eq!(
        sample(f32s(&[0, 1, 3, 4]), f32s(&[3, 2, 2, 2])),
        "grid_sample: the first dimension of grid must be a multiple of the input's, got 3 for 0 images"
    );
    // A view of one pixel that claims more elements than can be counted: the kernels' bounds rest on the count.
    let vast = f32s(&[1, 16, 1, 1]).broadcast_as((2, 16, 1 << 32, 1 << 32)).expect("a view");
    assert!(sample(vast, f32s(&[2, 2, 2, 2])).contains("more elements than"));
    assert_eq!(
        sample(u(), zeros(&[2, 2, 2, 2], DType::F64)),
        "grid_sample: input and grid must have the same dtype, got F32 and F64"
    );
    assert_eq!(
        sample(zeros(&[2, 1, 3, 4], DType::BF16), zeros(&[2, 2, 2, 2], DType::F64)),
        "grid_sample: input and grid must have the same dtype, got BF16 and F64"
    );
    assert_eq!(
        sample(zeros(&[2, 1, 3, 4], DType::U32), zeros(&[2, 2, 2, 2], DType::U32)),
        "grid_sample: the dtype must be f32 or f64, got U32; convert the tensors with to_dtype"
    );
}
