//! The affine grid generator against PyTorch; sides of one pixel, strided gradients, errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::transform::{Affine, Transform, affine_grid};
use support::{message, values};

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
fn errors_say_what_was_expected() -> Result<()> {
    let theta = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let message = |theta: Tensor| message(affine_grid(&theta, (4, 4), true));
    assert_eq!(message(theta(&[2, 3], DType::F32)?), "affine_grid: theta must be (N, 2, 3), got [2, 3]");
    assert_eq!(message(theta(&[2, 3, 3], DType::F32)?), "affine_grid: theta must be (N, 2, 3), got [2, 3, 3]");
    assert_eq!(message(theta(&[1, 2, 3], DType::U8)?), "affine_grid: theta must be of a float type, got U8");
    Ok(())
}
