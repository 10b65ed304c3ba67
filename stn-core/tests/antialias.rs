//! Down-sampling without aliasing: means that survive, places that stay, gradients, the plain transform as the case r = 1.

mod support;

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use stn_core::antialias::supersample;
use stn_core::init::SeededVarMap;
use stn_core::localisation::regression;
use stn_core::ops::{GridSampleConfig, Padding};
use stn_core::transform::{Affine, Attention, Transform};
use stn_core::{ParallelTransformers, SpatialTransformer};
use support::{bits, check_gradients, distance, larger, message, random, values};

fn identity() -> Result<Tensor> {
    Tensor::new(&[[1f64, 0.0, 0.0, 0.0, 1.0, 0.0]], &Device::Cpu)
}

fn image(side: usize, f: impl Fn(usize, usize) -> f64) -> Result<Tensor> {
    let pixels = (0..side * side).map(|i| f(i / side, i % side)).collect();
    Tensor::from_vec(pixels, (1, 1, side, side), &Device::Cpu)
}

/// A chequerboard has a mean of one half everywhere. Shrunk by 4, plain bilinear samples see one colour of it, or a false
/// pattern; with 4 x 4 samples a pixel the grey remains.
#[test]
fn shrunk_chequerboard_is_grey() -> Result<()> {
    for (align_corners, side, out) in [(true, 61, 16), (false, 64, 16)] {
        let board = image(side, |row, column| ((row + column) % 2) as f64)?;
        let cfg = GridSampleConfig::new(align_corners).padding(Padding::Border);
        // A hair off the centre: exactly between four pixels even plain bilinear samples see grey.
        let theta = Tensor::new(&[[1f64, 0.0, 1.0 / side as f64, 0.0, 1.0, 1.0 / side as f64]], &Device::Cpu)?;
        let theta = if align_corners { identity()? } else { theta };
        let off_grey = |v: Tensor| {
            Ok::<_, candle_core::Error>(values(&v)?.iter().fold(0.0, |m: f64, v| larger(m, (v - 0.5).abs())))
        };
        let plain = off_grey(Affine.warp(&board, &theta, (out, out), cfg)?)?;
        assert!(plain > 0.45, "{cfg:?}: {plain}");
        let smooth = supersample(Affine, 4)?.warp(&board, &theta, (out, out), cfg)?;
        // Whole pixels; those at the edge, where half a square is missing or clamped, apart.
        let inner = smooth.narrow(2, 1, out - 2)?.narrow(3, 1, out - 2)?;
        assert!(off_grey(inner)? < 1e-9, "{cfg:?}");
        assert!(off_grey(smooth)? < 0.13, "{cfg:?}");
    }
    Ok(())
}

/// The centres of the pixels don't move: of a plane, samples and their means are the same.
#[test]
fn the_picture_keeps_its_place() -> Result<()> {
    let plane = image(13, |row, column| 0.3 * row as f64 - 0.7 * column as f64 + 2.0)?;
    let theta = Tensor::new(&[[0.6f64, -0.2, 0.1, 0.15, 0.5, -0.1]], &Device::Cpu)?;
    for align_corners in [true, false] {
        let cfg = GridSampleConfig::new(align_corners);
        for r in [2, 3, 4, 5] {
            let smooth = supersample(Affine, r)?.warp(&plane, &theta, (6, 5), cfg)?;
            assert_eq!(smooth.dims(), [1, 1, 6, 5]);
            let plain = Affine.warp(&plane, &theta, (6, 5), cfg)?;
            let (smooth_inner, plain_inner) =
                (smooth.narrow(2, 1, 4)?.narrow(3, 1, 3)?, plain.narrow(2, 1, 4)?.narrow(3, 1, 3)?);
            assert!(distance(&smooth_inner, &plain_inner)? < 1e-12, "r = {r}, {cfg:?}");
            if !align_corners {
                assert!(distance(&smooth, &plain)? < 1e-12, "r = {r}, {cfg:?}");
            }
        }
    }
    Ok(())
}

/// What the pools compute with `align_corners`, from the definition: the square of half a step to each side, what lies inside.
#[test]
fn squares_of_align_corners_by_hand() -> Result<()> {
    let u = random((1, 1, 9, 9), 1)?;
    let cfg = GridSampleConfig::new(true);
    let (out, theta) = (3usize, Tensor::new(&[[0.9f64, 0.1, 0.0, -0.1, 0.8, 0.1]], &Device::Cpu)?);
    for r in [2usize, 3, 4] {
        let side = (out - 1) * r + 1;
        let fine = Affine.warp(&u, &theta, (side, side), cfg)?.squeeze(0)?.squeeze(0)?.to_vec2::<f64>()?;
        let weights = |i: usize| {
            let points = (0..side).map(move |p| (p, 2 * p.abs_diff(i * r)));
            points.filter(move |&(_, d)| d <= r).map(move |(p, d)| {
                // A point at the border of two squares is shared; one on the edge of the output has half of its own square.
                let shared = if d == r { 0.5 } else { 1.0 };
                (p, if r % 2 == 0 && (p == 0 || p == side - 1) { 0.5 * shared } else { shared })
            })
        };
        let mut expected = vec![];
        for row in 0..out {
            for column in 0..out {
                let (mut sum, mut total) = (0.0, 0.0);
                for (y, wy) in weights(row) {
                    for (x, wx) in weights(column) {
                        sum += wy * wx * fine[y][x];
                        total += wy * wx;
                    }
                }
                expected.push(sum / total);
            }
        }
        let smooth = supersample(Affine, r)?.warp(&u, &theta, (out, out), cfg)?;
        let expected = Tensor::from_vec(expected, (1, 1, out, out), &Device::Cpu)?;
        assert!(distance(&smooth, &expected)? < 1e-12, "r = {r}");
    }
    Ok(())
}

#[test]
fn one_sample_is_the_plain_transform() -> Result<()> {
    let (u, theta) = (random((2, 3, 7, 5), 2)?, random((4, 3), 3)?);
    let one = supersample(Attention, 1)?;
    for align_corners in [true, false] {
        let cfg = GridSampleConfig::new(align_corners);
        let (smooth, plain) = (one.warp(&u, &theta, (3, 4), cfg)?, Attention.warp(&u, &theta, (3, 4), cfg)?);
        assert_eq!(bits([&smooth])?, bits([&plain])?);
    }
    let four = supersample(Attention, 4)?;
    assert_eq!(
        (four.num_params(), four.param_names(), four.identity()),
        (3, Attention.param_names(), Attention.identity())
    );
    assert_eq!((four.inner(), four.r()), (&Attention, 4));
    let centres = four.grid(&theta, (3, 4), true)?;
    assert_eq!(bits([&centres])?, bits([&Attention.grid(&theta, (3, 4), true)?])?);
    Ok(())
}

#[test]
fn sides_of_one_pixel_and_none() -> Result<()> {
    let (u, theta) = (random((1, 1, 6, 6), 4)?, identity()?);
    for r in [2, 3, 4] {
        let smooth = supersample(Affine, r)?;
        for align_corners in [true, false] {
            let cfg = GridSampleConfig::new(align_corners);
            for out in [(1, 4), (4, 1), (1, 1), (2, 2)] {
                let v = smooth.warp(&u, &theta, out, cfg)?;
                assert_eq!(v.dims(), [1, 1, out.0, out.1]);
                assert!(values(&v)?.iter().all(|v| v.is_finite()));
            }
            assert_eq!(smooth.warp(&u, &theta, (0, 4), cfg)?.dims(), [1, 1, 0, 4]);
        }
        // A constant stays what it is, at every edge.
        let ones = Tensor::ones((1, 1, 6, 6), DType::F64, &Device::Cpu)?;
        let v = smooth.warp(&ones, &theta, (3, 1), GridSampleConfig::new(true))?;
        assert!(values(&v)?.iter().all(|v| (v - 1.0).abs() < 1e-12));
    }
    Ok(())
}

#[test]
fn gradients_by_finite_differences() -> Result<()> {
    let (u, theta) =
        (random((1, 2, 9, 8), 5)?, Tensor::new(&[[0.83f64, -0.29, 0.11, 0.27, 0.93, -0.2137]], &Device::Cpu)?);
    for (r, align_corners) in [(2, true), (2, false), (3, true), (4, false)] {
        let smooth = supersample(Affine, r)?;
        let cfg = GridSampleConfig::new(align_corners);
        check_gradients(&format!("supersample {r} {align_corners}"), &[&u, &theta], |inputs| {
            smooth.warp(&inputs[0], &inputs[1], (3, 2), cfg)
        })?;
    }
    Ok(())
}

/// It takes the plain transform's place in the layers, and the sampler still shares the image among windows.
#[test]
fn fits_the_layers() -> Result<()> {
    let vars = SeededVarMap::new(0);
    let smooth = supersample(Affine, 2)?;
    let last = regression(64, &smooth.identity().repeat(2), vars.var_builder(DType::F64, &Device::Cpu))?;
    let net = move |u: &Tensor| last.forward(&u.flatten_from(1)?);
    let cfg = GridSampleConfig::new(false);
    let u = random((3, 1, 8, 8), 6)?;
    let parallel = ParallelTransformers::new(net, smooth, 2, (4, 4), cfg)?;
    let v = parallel.forward_t(&u, true)?;
    assert_eq!(v.dims(), [6, 1, 4, 4]);
    // Half the size with 2 x 2 samples a pixel: the mean of 2 x 2 pixels.
    let halves = stn_core::ops::avg_pool2d(&u, stn_core::ops::Pool2dConfig::new(2))?;
    assert!(distance(&parallel.split(&v)?[1], &halves)? < 1e-12);
    let grads = support::weighted_sum(&v)?.backward()?;
    for (name, var) in vars.vars() {
        assert!(grads.get(&var).is_some_and(|g| values(g).is_ok_and(|g| g.iter().any(|&g| g != 0.0))), "{name}");
    }
    let theta = Affine.identity();
    let net = move |u: &Tensor| {
        Tensor::new(&theta[..], u.device())?.to_dtype(u.dtype())?.unsqueeze(0)?.repeat((u.dim(0)?, 1))
    };
    let family: Box<dyn Transform> = Box::new(supersample(Affine, 2)?);
    let single = SpatialTransformer::new(net, family, (4, 4), cfg);
    assert!(distance(&single.forward_t(&u, true)?, &halves)? < 1e-12);
    Ok(())
}

#[test]
fn error_messages() {
    let error = supersample(Affine, 0).map(|_| ()).expect_err("an error").to_string();
    assert!(error.starts_with("supersample: r must be at least 1, got 0"), "{error}");
    let smooth = supersample(Affine, 2).expect("two");
    let (u, theta) = (random((1, 1, 4, 4), 7).expect("u"), random((1, 3), 8).expect("theta"));
    let error = message(smooth.warp(&u, &theta, (2, 2), GridSampleConfig::new(true)));
    assert_eq!(error, "affine: theta must be (N, 6), got [1, 3]");
}
