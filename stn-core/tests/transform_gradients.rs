//! Transforms: gradients by finite differences, extreme parameters, the same bits in any number of threads.

mod support;
mod transform_families;

use candle_core::{DType, Device, Result, Tensor};
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample};
use support::{bits, check_gradients, distance, run, values, with_threads};
use transform_families::{away, families, image};

/// Compares the gradient of a weighted sum of `f(theta)` with central differences; every parameter must count.
fn check_gradient(what: &str, theta: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    check_gradients(what, &[theta], |theta| f(&theta[0]))?;
    let (_, gradient) = run(&[theta], |theta| f(&theta[0]))?;
    assert!(values(&gradient[0])?.into_iter().all(|g| g != 0.0), "{what}: a parameter has no influence");
    Ok(())
}

#[test]
fn gradient_through_the_grid() -> Result<()> {
    for family in families()? {
        let theta = away(&*family, 2)?;
        for out_size in [(3, 5), (9, 8)] {
            for align_corners in [true, false] {
                let what = format!("{:?} {out_size:?} {align_corners}", family.param_names());
                check_gradient(&what, &theta, |theta| family.grid(theta, out_size, align_corners))?;
            }
        }
    }
    Ok(())
}

/// Larger and smaller outputs than the input, both conventions and paddings, and two windows of one image.
#[test]
fn gradient_through_grid_and_sampler() -> Result<()> {
    for family in families()? {
        let theta = away(&*family, 2)?;
        for images in [1, 2] {
            let u = image((images, 2, 6, 9), DType::F64)?;
            for out_size in [(4, 5), (11, 7)] {
                for align_corners in [true, false] {
                    for padding in [Padding::Zeros, Padding::Border] {
                        let cfg = GridSampleConfig::new(align_corners).padding(padding);
                        let what = format!("{:?} {out_size:?} {cfg:?}", family.param_names());
                        check_gradient(&what, &theta, |theta| family.warp(&u, theta, out_size, cfg))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Warping in one call is warping in two, in values and in gradients.
#[test]
fn warp_is_grid_and_sampler() -> Result<()> {
    for family in families()? {
        for dtype in [DType::F32, DType::F64] {
            let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-14 };
            let (u, theta) = (image((2, 3, 6, 9), dtype)?, away(&*family, 4)?.to_dtype(dtype)?);
            let cases = [
                (Interpolation::Bilinear, Padding::Zeros, true),
                (Interpolation::Bilinear, Padding::Border, false),
                (Interpolation::Nearest, Padding::Reflection, true),
                (Interpolation::Bicubic, Padding::Reflection, false),
            ];
            for (interpolation, padding, align_corners) in cases {
                let cfg = GridSampleConfig::new(align_corners).interpolation(interpolation).padding(padding);
                let (one, of_one) = run(&[&u, &theta], |x| family.warp(&x[0], &x[1], (7, 5), cfg))?;
                let (two, of_two) =
                    run(&[&u, &theta], |x| grid_sample(&x[0], &family.grid(&x[1], (7, 5), align_corners)?, cfg))?;
                assert!(distance(&one, &two)? <= tolerance);
                for (one, two) in of_one.iter().zip(&of_two) {
                    assert!(distance(one, two)? <= 20.0 * tolerance, "{:?}", family.param_names());
                }
            }
        }
    }
    Ok(())
}

/// Thetas that no float can be far from: no panic, and nothing but numbers out of the sampler and back.
#[test]
fn extreme_theta() -> Result<()> {
    for family in families()? {
        for dtype in [DType::F32, DType::F64] {
            let u = image((1, 2, 5, 4), dtype)?;
            for extreme in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38, -1e38, f64::from(f32::MAX)] {
                for column in 0..=family.num_params() {
                    let mut theta = values(&away(&*family, 1)?)?;
                    match theta.get_mut(column) {
                        Some(entry) => *entry = extreme,
                        None => theta.fill(extreme),
                    }
                    let theta = Tensor::from_vec(theta, (1, family.num_params()), &Device::Cpu)?.to_dtype(dtype)?;
                    for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
                        let cfg = GridSampleConfig::new(true).padding(padding);
                        let (v, gradients) = run(&[&u, &theta], |x| family.warp(&x[0], &x[1], (6, 3), cfg))?;
                        assert!(values(&v)?.into_iter().all(f64::is_finite));
                        assert!(values(&gradients[0])?.into_iter().all(f64::is_finite));
                        assert!(values(&gradients[1])?.into_iter().all(f64::is_finite));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for family in families()? {
        let theta = away(&*family, 10)?.to_dtype(DType::F32)?;
        let bits = |threads| {
            with_threads(threads, || -> Result<_> {
                let (grid, gradients) = run(&[&theta], |theta| family.grid(&theta[0], (13, 17), true)?.sin())?;
                bits([&grid, &gradients[0]])
            })
        };
        assert_eq!(bits(1)?, bits(4)?);
    }
    Ok(())
}

/// Sampling a fixed window costs no backward pass.
#[test]
fn constant_theta_leaves_no_graph() -> Result<()> {
    for family in families()? {
        assert!(!family.grid(&away(&*family, 2)?, (3, 3), true)?.track_op());
    }
    Ok(())
}
