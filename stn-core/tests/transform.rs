//! Transforms: grids against known values, the identity, gradients by finite differences, odd sizes, errors.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use stn_core::ops::{GridSampleConfig, Padding, grid_sample};
use stn_core::transform::{Affine, Attention, Transform, Translation, affine_grid};

/// The families, each with parameters for two windows, away from the identity and from the sampler's kinks.
fn families() -> Vec<(Box<dyn Transform>, Vec<f64>)> {
    vec![
        (Box::new(Translation { scale: 0.6 }), vec![0.17, -0.31, -0.42, 0.23]),
        (Box::new(Attention), vec![0.71, 0.13, -0.27, 1.23, -0.19, 0.37]),
        (Box::new(Affine), vec![0.83, -0.29, 0.11, 0.27, 1.13, -0.21, 1.117, 0.313, -0.229, -0.419, 0.733, 0.157]),
    ]
}

/// An image with values in 0..1, (n, c, h, w).
fn image(shape: (usize, usize, usize, usize), dtype: DType) -> Result<Tensor> {
    let (n, c, h, w) = shape;
    let pixel = |i: usize| 0.5 + ((0.37 * i as f64).sin() + (0.011 * (i * i) as f64).cos()) / 4.0;
    Tensor::from_vec((0..n * c * h * w).map(pixel).collect(), shape, &Device::Cpu)?.to_dtype(dtype)
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    (a - b)?.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar()
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// Compares the gradient of a weighted sum of `f(theta)` with central differences.
fn check_gradient(theta: &Var, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let loss = |theta: &Tensor| {
        let out = f(theta)?;
        let weights = Tensor::arange(0.0, out.elem_count() as f64, &Device::Cpu)?.cos()?.reshape(out.shape())?;
        (out * weights)?.sum_all()
    };
    let grads = loss(theta)?.backward()?;
    let gradient = values(grads.get(theta).expect("theta has a gradient"))?;
    let at = values(theta)?;
    let step = 1e-6;
    for (i, &analytic) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut theta_moved = at.clone();
            theta_moved[i] += by;
            loss(&Tensor::from_vec(theta_moved, theta.shape(), &Device::Cpu)?)?.to_scalar::<f64>()
        };
        let numeric = (moved(step)? - moved(-step)?) / (2.0 * step);
        assert!((analytic - numeric).abs() <= 1e-6 * numeric.abs().max(1.0), "parameter {i}: {analytic} but {numeric}");
        assert!(analytic != 0.0, "parameter {i} has no influence");
    }
    Ok(())
}

/* import torch
t = torch.tensor([[[.8, -.3, .1], [.25, 1.1, -.2]]], dtype=torch.float64, requires_grad=True)
for align_corners in (True, False):
    for size in ((2, 3), (1, 4), (3, 1)):
        t.grad = None
        g = torch.nn.functional.affine_grid(t, (1, 1) + size, align_corners=align_corners)
        (g * torch.arange(g.numel()).reshape(g.shape)).sum().backward()
        print(align_corners, size, g.flatten(), t.grad.flatten()) */
#[test]
fn affine_grid_matches_pytorch() -> Result<()> {
    type Case = (bool, (usize, usize), &'static [f64], [f64; 6]);
    let cases: [Case; 6] = [
        (
            true,
            (2, 3),
            &[-0.4, -1.55, 0.4, -1.3, 1.2, -1.05, -1.0, 0.65, -0.2, 0.9, 0.6, 1.15],
            [8., 18., 30., 8., 18., 36.],
        ),
        (
            true,
            (1, 4),
            &[-0.7, -0.45, -1. / 6., -17. / 60., 11. / 30., -7. / 60., 0.9, 0.05],
            [20. / 3., 0., 12., 20. / 3., 0., 16.],
        ),
        (true, (3, 1), &[0.4, -1.3, 0.1, -0.2, -0.2, 0.9], [0., 4., 6., 0., 4., 9.]),
        (
            false,
            (2, 3),
            &[
                -17. / 60.,
                -11. / 12.,
                0.25,
                -0.75,
                47. / 60.,
                -7. / 12.,
                -7. / 12.,
                11. / 60.,
                -0.05,
                0.35,
                29. / 60.,
                31. / 60.,
            ],
            [16. / 3., 9., 30., 16. / 3., 9., 36.],
        ),
        (false, (1, 4), &[-0.5, -0.3875, -0.1, -0.2625, 0.3, -0.1375, 0.7, -0.0125], [5., 0., 12., 5., 0., 16.]),
        (false, (3, 1), &[0.3, -14. / 15., 0.1, -0.2, -0.1, 8. / 15.], [0., 8. / 3., 6., 0., 8. / 3., 9.]),
    ];
    for (align_corners, size, expected, expected_gradient) in cases {
        for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
            let theta = Tensor::new(&[[[0.8, -0.3, 0.1], [0.25, 1.1, -0.2]]], &Device::Cpu)?.to_dtype(dtype)?;
            let theta = Var::from_tensor(&theta)?;
            let grid = affine_grid(&theta, size, align_corners)?;
            assert_eq!(grid.dims(), [1, size.0, size.1, 2]);
            let weights = Tensor::arange(0.0, expected.len() as f64, &Device::Cpu)?.reshape(grid.shape())?;
            let grads = (&grid * weights.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let gradient = grads.get(&theta).expect("theta has a gradient");
            for (got, want) in values(&grid)?.iter().zip(expected) {
                assert!((got - want).abs() < tolerance, "{align_corners} {size:?}: {got} but {want}");
            }
            for (got, want) in values(gradient)?.iter().zip(expected_gradient) {
                assert!((got - want).abs() < 40.0 * tolerance, "{align_corners} {size:?}: {got} but {want}");
            }
        }
    }
    Ok(())
}

/// To what f32 allows: a coordinate near 1 is known to a quarter of the machine epsilon, and a side of n pixels has
/// n / 2 pixels a unit.
#[test]
fn identity_returns_the_input() -> Result<()> {
    let families: [Box<dyn Transform>; 3] =
        [Box::new(Translation { scale: 1.0 }), Box::new(Attention), Box::new(Affine)];
    for family in &families {
        for (height, width) in [(5, 8), (1, 6), (7, 1), (28, 28), (42, 60)] {
            for (dtype, epsilon) in [(DType::F32, f64::from(f32::EPSILON)), (DType::F64, 1e-14)] {
                let tolerance = epsilon * (1.0 + (height + width) as f64 / 8.0); // f32: 1e-6 at 28x28
                let u = image((2, 3, height, width), dtype)?;
                let identity = Tensor::new(family.identity(), &Device::Cpu)?.to_dtype(dtype)?;
                let theta = identity.broadcast_as((2, family.num_params()))?;
                for padding in [Padding::Zeros, Padding::Border] {
                    for align_corners in [true, false] {
                        let cfg = GridSampleConfig::new(align_corners).padding(padding);
                        let v = family.warp(&u, &theta, (height, width), cfg)?;
                        let distance = distance(&u, &v)?;
                        assert!(distance <= tolerance, "{height}x{width} {dtype:?} {cfg:?}: {distance}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn counts_and_names_agree() {
    for (family, theta) in families() {
        assert_eq!(family.param_names().len(), family.num_params());
        assert_eq!(family.identity().len(), family.num_params());
        assert_eq!(theta.len(), 2 * family.num_params());
    }
    assert_eq!(Affine.param_names(), ["t11", "t12", "t13", "t21", "t22", "t23"]);
    assert_eq!(Attention.param_names(), ["s", "tx", "ty"]);
    assert_eq!(Translation { scale: 0.5 }.param_names(), ["tx", "ty"]);
}

#[test]
fn gradient_through_the_grid() -> Result<()> {
    for (family, theta) in families() {
        let theta = Var::from_vec(theta, (2, family.num_params()), &Device::Cpu)?;
        for align_corners in [true, false] {
            check_gradient(&theta, |theta| family.grid(theta, (3, 5), align_corners))?;
        }
    }
    Ok(())
}

/// Larger and smaller outputs than the input, both conventions and paddings, and two windows of one image.
#[test]
fn gradient_through_grid_and_sampler() -> Result<()> {
    for (family, theta) in families() {
        let theta = Var::from_vec(theta, (2, family.num_params()), &Device::Cpu)?;
        for images in [1, 2] {
            let u = image((images, 2, 6, 9), DType::F64)?;
            for out_size in [(4, 5), (11, 7)] {
                for align_corners in [true, false] {
                    for padding in [Padding::Zeros, Padding::Border] {
                        let cfg = GridSampleConfig::new(align_corners).padding(padding);
                        check_gradient(&theta, |theta| family.warp(&u, theta, out_size, cfg))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Eq. (2) is eq. (1) with four of its entries fixed.
#[test]
fn attention_and_translation_are_affine() -> Result<()> {
    let device = &Device::Cpu;
    let affine = Tensor::new(&[[0.6, 0.0, -0.3, 0.0, 0.6, 0.2]], device)?;
    let expected = Affine.grid(&affine, (4, 6), false)?;
    let attention = Attention.grid(&Tensor::new(&[[0.6, -0.3, 0.2]], device)?, (4, 6), false)?;
    let translation = Translation { scale: 0.6 }.grid(&Tensor::new(&[[-0.3, 0.2]], device)?, (4, 6), false)?;
    assert_eq!(values(&attention)?, values(&expected)?);
    assert_eq!(values(&translation)?, values(&expected)?);
    let matrix = [[[0.6, 0.0, -0.3], [0.0, 0.6, 0.2]]];
    assert_eq!(Attention.matrix(&Tensor::new(&[[0.6, -0.3, 0.2]], device)?)?.to_vec3::<f64>()?, matrix);
    Ok(())
}

/// Moving the window by one pixel to the right reads one column further on: target to source, x before y.
#[test]
fn translation_moves_the_window() -> Result<()> {
    let (height, width) = (4, 6);
    let u = image((1, 1, height, width), DType::F64)?;
    let tx = 2.0 / (width as f64 - 1.0); // one pixel, align_corners = true
    let theta = Tensor::new(&[[tx, 0.0]], &Device::Cpu)?;
    let v = Translation { scale: 1.0 }.warp(&u, &theta, (height, width), GridSampleConfig::new(true))?;
    let ahead = u.narrow(D::Minus1, 1, width - 1)?;
    assert!(distance(&v.narrow(D::Minus1, 0, width - 1)?, &ahead)? < 1e-12);
    assert!(values(&v.narrow(D::Minus1, width - 1, 1)?)?.iter().all(|v| v.abs() < 1e-12)); // outside: zeros
    Ok(())
}

/// A side of one pixel looks at the middle of the input, in both conventions.
#[test]
fn side_of_one_pixel() -> Result<()> {
    let theta = Tensor::new(&[[2.0, 0.5, 0.25, -0.5, 3.0, -0.75]], &Device::Cpu)?;
    for align_corners in [true, false] {
        let grid = Affine.grid(&theta, (1, 1), align_corners)?;
        assert_eq!(values(&grid)?, [0.25, -0.75]);
    }
    Ok(())
}

#[test]
fn empty_batch_and_empty_output() -> Result<()> {
    for (family, _) in families() {
        let theta = Var::zeros((0, family.num_params()), DType::F64, &Device::Cpu)?;
        let grid = family.grid(&theta, (3, 2), true)?;
        assert_eq!(grid.dims(), [0, 3, 2, 2]);
        let theta = Var::zeros((2, family.num_params()), DType::F64, &Device::Cpu)?;
        for out_size in [(0, 4), (4, 0)] {
            let grid = family.grid(&theta, out_size, true)?;
            assert_eq!(grid.dims(), [2, out_size.0, out_size.1, 2]);
            let grads = grid.sum_all()?.backward()?;
            assert_eq!(values(grads.get(&theta).expect("theta has a gradient"))?, vec![0.0; 2 * family.num_params()]);
        }
    }
    Ok(())
}

/// Transposed, narrowed and broadcast theta give what their contiguous copies give.
#[test]
fn strided_theta() -> Result<()> {
    for (family, _) in families() {
        let p = family.num_params();
        let wide = Tensor::arange(0.0, (3 * (p + 2)) as f64, &Device::Cpu)?.affine(0.1, -0.7)?.reshape((3, p + 2))?;
        let tall = wide.reshape((p + 2, 3))?.t()?; // (3, p + 2), transposed
        let one = wide.narrow(0, 1, 1)?.narrow(1, 0, p)?.broadcast_as((3, p))?;
        for theta in [wide.narrow(1, 1, p)?, tall.narrow(1, 1, p)?, one] {
            let grid = family.grid(&theta, (2, 5), true)?;
            let expected = family.grid(&theta.force_contiguous()?, (2, 5), true)?;
            assert_eq!(values(&grid)?, values(&expected)?);
        }
    }
    Ok(())
}

/// The grid's gradient arrives transposed or broadcast.
#[test]
fn strided_gradient() -> Result<()> {
    let theta = Var::new(&[[0.8, -0.3, 0.1, 0.25, 1.1, -0.2]], &Device::Cpu)?;
    let weights = Tensor::arange(0.0, 30.0, &Device::Cpu)?.reshape((1, 3, 5, 2))?;
    let grid = Affine.grid(&theta, (3, 5), true)?;
    let plain = (&grid * &weights)?.sum_all()?.backward()?;
    let turned = (grid.transpose(1, 3)? * weights.transpose(1, 3)?)?.sum_all()?.backward()?;
    assert_eq!(values(plain.get(&theta).expect("gradient"))?, values(turned.get(&theta).expect("gradient"))?);
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let run = |threads: usize| -> Result<(Vec<f64>, Vec<f64>)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| {
            let theta = (0..60).map(|i| (i as f32).sin()).collect();
            let theta = Var::from_vec(theta, (10, 6), &Device::Cpu)?;
            let grid = Affine.grid(&theta, (13, 17), true)?;
            let grads = grid.sin()?.sum_all()?.backward()?;
            Ok((values(&grid)?, values(grads.get(&theta).expect("theta has a gradient"))?))
        })
    };
    assert_eq!(run(1)?, run(4)?);
    Ok(())
}

/// Sampling a fixed window costs no backward pass.
#[test]
fn constant_theta_leaves_no_graph() -> Result<()> {
    for (family, theta) in families() {
        let theta = Tensor::from_vec(theta, (2, family.num_params()), &Device::Cpu)?;
        assert!(!family.grid(&theta, (3, 3), true)?.track_op());
    }
    Ok(())
}

#[test]
fn a_transform_of_ones_own() -> Result<()> {
    /// Flips the image left to right, whatever theta says.
    struct Flip;
    impl Transform for Flip {
        fn num_params(&self) -> usize {
            0
        }
        fn param_names(&self) -> Vec<String> {
            vec![]
        }
        fn identity(&self) -> Vec<f32> {
            vec![]
        }
        fn grid(&self, theta: &Tensor, out_size: (usize, usize), align_corners: bool) -> Result<Tensor> {
            let flip = Tensor::new(&[[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], theta.device())?;
            affine_grid(&flip.broadcast_as((theta.dim(0)?, 2, 3))?, out_size, align_corners)
        }
    }
    let family: Box<dyn Transform> = Box::new(Flip);
    let u = image((2, 1, 3, 4), DType::F64)?;
    let theta = Tensor::zeros((2, 0), DType::F64, &Device::Cpu)?;
    let cfg = GridSampleConfig::new(false);
    let v = family.warp(&u, &theta, (3, 4), cfg)?;
    assert!(distance(&v.flip(&[3])?, &u)? < 1e-12);
    assert_eq!(values(&v)?, values(&grid_sample(&u, &family.grid(&theta, (3, 4), false)?, cfg)?)?);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let theta = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let message = |result: Result<Tensor>| result.expect_err("an error").to_string();
    let cases = [
        (affine_grid(&theta(&[2, 3], DType::F32), (4, 4), true), "affine_grid: theta must be (N, 2, 3), got [2, 3]"),
        (
            affine_grid(&theta(&[2, 3, 3], DType::F32), (4, 4), true),
            "affine_grid: theta must be (N, 2, 3), got [2, 3, 3]",
        ),
        (affine_grid(&theta(&[1, 2, 3], DType::U8), (4, 4), true), "affine_grid: theta must be f32 or f64, got U8"),
        (Affine.grid(&theta(&[2, 3], DType::F32), (4, 4), true), "affine: theta must be (N, 6), got [2, 3]"),
        (Attention.grid(&theta(&[2, 6], DType::F32), (4, 4), true), "attention: theta must be (N, 3), got [2, 6]"),
        (
            Translation { scale: 0.5 }.grid(&theta(&[2], DType::F32), (4, 4), true),
            "translation: theta must be (N, 2), got [2]",
        ),
    ];
    for (result, expected) in cases {
        let message = message(result);
        assert!(message.starts_with(expected), "{message}");
    }
}
