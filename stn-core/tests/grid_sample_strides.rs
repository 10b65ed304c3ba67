//! The sampler on views: inputs and upstream gradients of any strides.

mod support;

use candle_core::{DType, Result, Tensor, Var};
use stn_core::ops::{GridSampleConfig, affine_grid_sample, grid_sample};
use support::sampler::{configs, grid_between_pixels};
use support::{check_gradients, distance, random, run, values};

/// Checks that a view of the inputs gives the very values and gradients that copies of the views give.
fn check_views(
    name: &str,
    inputs: [&Tensor; 2],
    view: impl Fn(&[Tensor]) -> Result<[Tensor; 2]>,
    cfg: GridSampleConfig,
) -> Result<()> {
    let views = view(&inputs.map(Tensor::clone))?;
    assert!(views.iter().any(|t| !t.is_contiguous()), "{name} is no test of strides");
    // In f32 there are other kernels.
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
        let [u, grid] = [inputs[0].to_dtype(dtype)?, inputs[1].to_dtype(dtype)?];
        let (out, gradients) = run(&[&u, &grid], |t| {
            let [u, grid] = view(t)?;
            grid_sample(&u, &grid, cfg)
        })?;
        let (expected, expected_gradients) = run(&[&u, &grid], |t| {
            let [u, grid] = view(t)?;
            grid_sample(&u.contiguous()?, &grid.contiguous()?, cfg)
        })?;
        assert_eq!(values(&out)?, values(&expected)?, "{name} {dtype:?} {cfg:?}");
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < tolerance, "{name} {dtype:?} {cfg:?}");
        }
    }
    Ok(())
}

#[test]
fn strides_make_no_difference() -> Result<()> {
    for cfg in configs() {
        let grid = grid_between_pixels((6, 3, 4), (4, 5), cfg.align_corners, 9)?;
        let g = |t: &[Tensor]| t[1].clone();
        let u = random((2, 3, 4, 5), 1)?;
        check_views("maps transposed", [&u.transpose(2, 3)?.contiguous()?, &grid], |t| Ok([t[0].t()?, g(t)]), cfg)?;
        check_views(
            "images and channels transposed",
            [&random((2, 3, 4, 5), 1)?, &grid],
            |t| Ok([t[0].transpose(0, 1)?, g(t)]),
            cfg,
        )?;
        check_views(
            "channels last",
            [&random((2, 4, 5, 3), 1)?, &grid],
            |t| Ok([t[0].permute((0, 3, 1, 2))?, g(t)]),
            cfg,
        )?;
        check_views(
            "narrowed everywhere",
            [&random((4, 5, 7, 9), 2)?, &grid],
            |t| Ok([t[0].narrow(0, 1, 3)?.narrow(1, 2, 2)?.narrow(2, 1, 4)?.narrow(3, 3, 5)?, g(t)]),
            cfg,
        )?;
        for shape in [(1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 5), (2, 3, 4, 1), (1, 1, 1, 1)] {
            let broadcast = |t: &[Tensor]| Ok([t[0].broadcast_as((2, 3, 4, 5))?, g(t)]);
            check_views(&format!("{shape:?} broadcast"), [&random(shape, 3)?, &grid], broadcast, cfg)?;
        }
        check_views(
            "grid (N, 2, H', W') permuted",
            [&u, &grid.permute((0, 3, 1, 2))?.contiguous()?],
            |t| Ok([t[0].clone(), t[1].permute((0, 2, 3, 1))?]),
            cfg,
        )?;
        check_views(
            "one grid for all",
            [&u, &grid.narrow(0, 0, 1)?],
            |t| Ok([t[0].clone(), t[1].broadcast_as((6, 3, 4, 2))?]),
            cfg,
        )?;
        check_views(
            "grid narrowed",
            [&u, &grid],
            |t| Ok([t[0].clone(), t[1].narrow(0, 1, 4)?.narrow(1, 1, 2)?.narrow(2, 1, 2)?]),
            cfg,
        )?;
    }
    Ok(())
}

/// A template for all images of a batch, whose gradient is asked for alone or with the matrices', for batches that keep all threads busy and for those that
/// do not.
#[test]
fn one_image_for_all_gets_the_sum_of_the_gradients() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for (n, shape) in [(3, (1, 2, 9, 20)), (64, (1, 2, 9, 20)), (3, (1, 1, 1, 20))] {
            let template = random(shape, 1)?.to_dtype(dtype)?;
            let theta = random((n, 2, 3), 2)?.to_dtype(dtype)?;
            let cfg = GridSampleConfig::new(true);
            let sample = |t: &[Tensor], theta: &Tensor| {
                affine_grid_sample(&t[0].broadcast_as((n, 2, 9, 20))?, theta, (7, 18), cfg)
            };
            let copied = |t: &[Tensor], theta: &Tensor| {
                affine_grid_sample(&t[0].broadcast_as((n, 2, 9, 20))?.contiguous()?, theta, (7, 18), cfg)
            };
            let (_, alone) = run(&[&template], |t| sample(t, &theta))?;
            let (_, both) = run(&[&template, &theta], |t| sample(t, &t[1]))?;
            let (_, expected) = run(&[&template, &theta], |t| copied(t, &t[1]))?;
            assert!(distance(&alone[0], &expected[0])? < 1e-3, "{n} {shape:?} {dtype:?}");
            for (got, expected) in both.iter().zip(&expected) {
                assert!(distance(got, expected)? < 1e-3, "{n} {shape:?} {dtype:?}");
            }
            // Matrices that are no variables, an image that is one: what a learnt template is.
            let var = Var::from_tensor(&template)?;
            let grads = sample(&[var.as_tensor().clone()], &theta)?.sum_all()?.backward()?;
            assert!(grads.get(&var).is_some_and(|grad| grad.dims() == template.dims()));
        }
    }
    Ok(())
}

/// A gradient that comes from behind as a view.
#[test]
fn upstream_gradient_of_any_strides() -> Result<()> {
    let cfg = GridSampleConfig::new(true);
    let (u, grid) = (random((2, 2, 4, 5), 1)?, grid_between_pixels((2, 3, 4), (4, 5), true, 2)?);
    check_gradients("turned", &[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg)?.transpose(1, 3))?;
    check_gradients("part", &[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg)?.narrow(2, 1, 2)?.narrow(1, 1, 1))?;
    check_gradients("summed", &[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg)?.sum((1, 2)))
}
