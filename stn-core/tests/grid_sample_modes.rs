//! The sampler's modes, paddings and types: PyTorch's values for all combinations, rounding, mirrors, wild coordinates, half precision.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample};
use support::sampler::{config, configs, grid_of_pixels, normalised};
use support::{distance, message, random, run, tensor, values};

/// The memory layouts of `data/grid_sample_goldens.py`, from dense tensors.
fn views(u: &Tensor, grid: &Tensor, layout: &str) -> Result<(Tensor, Tensor)> {
    let u = match layout {
        "channels_last" => u.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?,
        "transposed" => u.transpose(2, 3)?.contiguous()?.transpose(2, 3)?,
        "expanded_channels" => u.narrow(1, 0, 1)?.broadcast_as(u.shape())?,
        _ => u.clone(),
    };
    let grid = match layout {
        "grid_permuted" => grid.permute((0, 3, 1, 2))?.contiguous()?.permute((0, 2, 3, 1))?,
        _ => grid.clone(),
    };
    Ok((u, grid))
}

/// Three modes, three paddings, both conventions, odd shapes, five memory layouts; `data/grid_sample_goldens.py` has the script.
#[test]
fn matches_pytorch_in_every_mode() -> Result<()> {
    let goldens: Value = serde_json::from_str(include_str!("data/grid_sample_goldens.json")).expect("valid JSON");
    let cases = goldens["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 18 * 5);
    for case in cases {
        let cfg = config(case);
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
            let golden = |name: &str| tensor(&case[name])?.to_dtype(dtype);
            let (u, grid) = (Var::from_tensor(&golden("input")?)?, Var::from_tensor(&golden("grid")?)?);
            let (u_view, grid_view) = views(&u, &grid, case["layout"].as_str().expect("a layout"))?;
            let out = grid_sample(&u_view, &grid_view, cfg)?;
            let grads = (&out * golden("upstream")?)?.sum_all()?.backward()?;
            let gradient = |var: &Var| grads.get(var).expect("a gradient").clone();
            for (name, ours) in [("output", &out), ("grad_input", &gradient(&u)), ("grad_grid", &gradient(&grid))] {
                let theirs = golden(name)?;
                let size = values(&theirs)?.into_iter().fold(1.0, |max: f64, v| max.max(v.abs()));
                let off = distance(ours, &theirs)? / size;
                assert!(off < tolerance, "{name} {dtype:?} {cfg:?} {}: {off}", case["layout"]);
            }
        }
    }
    Ok(())
}

/// A coordinate is rounded the same way along both sides, whatever the side's length: half to even, as PyTorch does.
#[test]
fn nearest_rounds_half_to_even() -> Result<()> {
    let ramp: Vec<f64> = (0..10).map(f64::from).collect();
    for align_corners in [true, false] {
        for (_, padding) in support::sampler::PADDINGS {
            let cfg = GridSampleConfig::new(align_corners).interpolation(Interpolation::Nearest).padding(padding);
            let steps: Vec<f64> = (0..=90).map(|i| f64::from(i) / 10.0).collect();
            let sample = |(h, w): (usize, usize)| -> Result<Vec<f64>> {
                let image = Tensor::from_vec(ramp.clone(), (1, 1, h, w), &Device::Cpu)?;
                let point = |i: usize| if w > 1 { (steps[i], 0.0) } else { (0.0, steps[i]) };
                let grid = grid_of_pixels((1, 1, steps.len()), (h, w), align_corners, point)?;
                values(&grid_sample(&image, &grid, cfg)?)
            };
            let (along_x, along_y) = (sample((1, 10))?, sample((10, 1))?);
            assert_eq!(along_x, along_y, "{cfg:?}");
            for (p, v) in steps.iter().zip(along_x) {
                assert!((p - v).abs() < 0.5 + 1e-9, "{cfg:?} {p}: {v}");
            }
        }
    }
    // Coordinates that are exact: a side of four pixels, edge to edge, has its pixels' edges at multiples of one half.
    let image = Tensor::new(&[[[[10., 20., 30., 40.]]]], &Device::Cpu)?;
    let points = Tensor::new(&[[[[-1., 0.], [-0.5, 0.], [0.0, 0.], [0.5, 0.], [1.0, 0.]]]], &Device::Cpu)?;
    for (padding, expected) in [
        (Padding::Zeros, [10., 10., 30., 30., 0.]), // -0.5, 0.5, 1.5, 2.5, 3.5
        (Padding::Border, [10., 10., 30., 30., 40.]),
        (Padding::Reflection, [10., 10., 30., 30., 40.]),
    ] {
        let cfg = GridSampleConfig::new(false).interpolation(Interpolation::Nearest).padding(padding);
        assert_eq!(values(&grid_sample(&image, &points, cfg)?)?, expected);
    }
    Ok(())
}

/// Far outside, the mirrored image goes on and on: each point equals the one that mirrors were unfolded to by hand.
#[test]
fn reflection_unfolds() -> Result<()> {
    let n = 5;
    let image = Tensor::new(&[[[[2., 3., 5., 7., 11.]]]], &Device::Cpu)?;
    for cfg in configs().filter(|cfg| cfg.padding == Padding::Reflection) {
        let period = if cfg.align_corners { 2.0 * (n as f64 - 1.0) } else { 2.0 * n as f64 };
        for p in [0.3, 1.75, 2.6, 3.2] {
            let mirror = if cfg.align_corners { -p } else { -1.0 - p };
            let points: Vec<f64> = (-2..=2).flat_map(|k| [p, mirror].map(|p| p + f64::from(k) * period)).collect();
            let grid = grid_of_pixels((1, 1, 10), (1, n), cfg.align_corners, |i| (points[i], 0.0))?;
            let (out, gradients) = run(&[&image, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
            let out = values(&out)?;
            assert!(out.iter().all(|v| (v - out[0]).abs() < 1e-9), "{cfg:?} {p}: {out:?}");
            // The loss weighs output i with cos(i); the derivative turns its sign with the direction.
            let slopes: Vec<f64> = values(&gradients[1])?.into_iter().step_by(2).collect();
            let slopes: Vec<f64> = (0..10).map(|i| slopes[i] / (i as f64).cos()).collect();
            for pair in slopes.chunks(2) {
                assert!((pair[0] - slopes[0]).abs() + (pair[1] + slopes[0]).abs() < 1e-9, "{cfg:?} {p}: {slopes:?}");
            }
        }
    }
    Ok(())
}

/// On a mirror the gradient is zero, wherever the mirror stands.
#[test]
fn gradient_on_a_mirror() -> Result<()> {
    let image = Tensor::new(&[[[[2., 3., 5., 7.]]]], &Device::Cpu)?;
    let cfg = GridSampleConfig::new(false).padding(Padding::Reflection);
    let points = Tensor::new(&[[[[-1., 0.], [1., 0.], [3., 0.], [-3., 0.], [5., 0.]]]], &Device::Cpu)?;
    let (out, gradients) = run(&[&image, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
    assert_eq!(values(&out)?, [2., 7., 2., 7., 7.]);
    assert!(values(&gradients[1])?.iter().all(|&g| g == 0.0));
    Ok(())
}

/// Our policy for coordinates that are no place in the image, in every mode; PyTorch has none.
#[test]
fn wild_coordinates_in_every_mode() -> Result<()> {
    let infinite = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let huge = [1e38, -1e38];
    for cfg in configs() {
        for dtype in [DType::F32, DType::F64] {
            for along_x in [true, false] {
                let what = format!("{cfg:?} {dtype:?} along x: {along_x}");
                let (h, w) = if along_x { (1, 4) } else { (4, 1) };
                let u = Tensor::new(&[3.0, 5.0, 7.0, 11.0], &Device::Cpu)?.reshape((1, 1, h, w))?.to_dtype(dtype)?;
                let points = infinite.iter().chain(&huge).flat_map(|&g| if along_x { [g, 0.0] } else { [0.0, g] });
                let points = Tensor::from_vec(points.collect(), (1, 1, 5, 2), &Device::Cpu)?.to_dtype(dtype)?;
                let (out, gradients) = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
                let expected = match cfg.padding {
                    Padding::Zeros => [0.0; 5],
                    Padding::Border => [3.0, 11.0, 3.0, 11.0, 3.0],
                    Padding::Reflection => [3.0; 5],
                };
                let expected = Tensor::new(&expected, &Device::Cpu)?.reshape((1, 1, 1, 5))?;
                assert!(distance(&out, &expected)? < 1e-6, "{what}: {out}");
                assert!(values(&gradients[1])?.iter().step_by(2).all(|&g| g == 0.0) || !along_x, "{what}");
                assert!(values(&gradients[1])?.iter().skip(1).step_by(2).all(|&g| g == 0.0) || along_x, "{what}");
                assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|g| g.is_finite()))), "{what}");
            }
        }
    }
    Ok(())
}

/// Pixels that no tap of a point reads are not read, whatever they hold.
#[test]
fn wild_pixels_in_every_mode() -> Result<()> {
    for cfg in configs() {
        for wild in [f64::NAN, f64::INFINITY] {
            // Columns 0 to 3 and rows 0 to 3 are finite; the points' taps are within them.
            let u: Vec<f64> = (0..42).map(|i| if i % 7 < 4 && i / 7 < 4 { f64::from(i) } else { wild }).collect();
            let u = Tensor::from_vec(u, (1, 1, 6, 7), &Device::Cpu)?;
            let points = [(1.25, 1.5), (1.75, 1.125), (-0.25, -0.3), (-0.2, 1.4)];
            let grid = grid_of_pixels((1, 2, 2), (6, 7), cfg.align_corners, |i| points[i])?;
            let (out, gradients) = run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
            assert!(values(&out)?.iter().all(|v| v.is_finite()), "{cfg:?}: {out}");
            assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|g| g.is_finite()))), "{cfg:?}");
        }
    }
    Ok(())
}

/// Half-precision images are sampled in f32; their gradients come back in their own type.
#[test]
fn half_precision() -> Result<()> {
    for cfg in configs() {
        for (half, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
            for grid_type in [half, DType::F32] {
                let u = random((2, 3, 5, 4), 1)?.to_dtype(half)?;
                let grid = (random((4, 3, 3, 2), 2)? * 1.3)?.to_dtype(grid_type)?;
                let sample = |t: &[Tensor]| grid_sample(&t[0], &t[1], cfg)?.to_dtype(DType::F32);
                let (out, gradients) = run(&[&u, &grid], sample)?;
                assert_eq!(grid_sample(&u, &grid, cfg)?.dtype(), half);
                assert_eq!((gradients[0].dtype(), gradients[1].dtype()), (half, grid_type));
                let (exact, exact_gradients) = run(&[&u.to_dtype(DType::F32)?, &grid.to_dtype(DType::F32)?], sample)?;
                assert!(distance(&out, &exact)? < tolerance, "{cfg:?} {half:?}");
                for (gradient, exact) in gradients.iter().zip(&exact_gradients) {
                    let size = values(exact)?.into_iter().fold(1.0, |max: f64, v| max.max(v.abs()));
                    assert!(distance(gradient, exact)? / size < tolerance, "{cfg:?} {half:?}");
                }
            }
        }
    }
    let (u, grid) = (random((1, 1, 2, 2), 1)?, random((1, 1, 1, 2), 2)?);
    let cfg = GridSampleConfig::new(true);
    let mixed = grid_sample(&u.to_dtype(DType::F32)?, &grid.to_dtype(DType::F16)?, cfg);
    assert_eq!(message(mixed), "grid_sample: input and grid must have the same dtype, got F32 and F16");
    Ok(())
}

/// Cubic convolution reproduces a line, and may overshoot a step.
#[test]
fn bicubic_follows_a_line_and_overshoots_a_step() -> Result<()> {
    let cfg = GridSampleConfig::new(true).interpolation(Interpolation::Bicubic).padding(Padding::Border);
    let line = Tensor::arange(0.0, 9.0, &Device::Cpu)?.reshape((1, 1, 1, 9))?;
    let point = |p: f64| Tensor::new(&[[[[normalised(p, 9, true), 0.0]]]], &Device::Cpu);
    for p in [1.5, 3.0, 4.5, 6.5] {
        assert!((values(&grid_sample(&line, &point(p)?, cfg)?)?[0] - p).abs() < 1e-12);
    }
    let step = Tensor::new(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0], &Device::Cpu)?.reshape((1, 1, 1, 9))?;
    assert!(values(&grid_sample(&step, &point(4.5)?, cfg)?)?[0] > 1.05);
    Ok(())
}
