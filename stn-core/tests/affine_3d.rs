//! The affine transform of volumes: grids against known values, the identity, gradients by finite differences, odd sizes, errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample_3d};
use stn_core::transform::{Affine3d, Transform3d, affine_grid_3d};
use support::{bits, check_gradients, distance, message, random, run, values, with_threads};

/// Parameters for two windows, away from the identity and from the sampler's kinks.
const THETA: [[f64; 12]; 2] = [
    [0.8187, -0.2931, 0.1112, 0.0989, 0.2675, 1.1298, -0.1807, -0.2208, -0.0812, 0.1884, 0.9016, 0.0339],
    [1.1305, 0.3153, -0.1043, -0.2416, -0.3993, 0.7474, 0.2148, 0.1503, 0.3189, -0.0746, 0.6885, -0.1941],
];

fn theta() -> Result<Tensor> {
    Tensor::new(&THETA, &Device::Cpu)
}

/* import torch
t = torch.arange(1., 13., dtype=torch.float64).reshape(1, 3, 4).requires_grad_()
for align_corners in (True, False):
    for size in ((2, 2, 2), (1, 2, 3), (2, 1, 1)):
        t.grad = None
        g = torch.nn.functional.affine_grid(t, (1, 1) + size, align_corners=align_corners)
        (g * torch.arange(g.numel()).reshape(g.shape)).sum().backward()
        print(align_corners, size, g.flatten(), t.grad.flatten())
The first and the fourth grid are those of PyTorch's own tests (test/test_nn.py, BSD-3-Clause). */
#[test]
fn affine_grid_matches_pytorch() -> Result<()> {
    type Case = (bool, (usize, usize, usize), &'static [f64], [f64; 12]);
    const THIRD: f64 = 1. / 3.;
    let cases: [Case; 6] = [
        (
            true,
            (2, 2, 2),
            &[
                -2., -10., -18., 0., 0., 0., 2., 2., 2., 4., 12., 20., 4., 4., 4., 6., 14., 22., 8., 16., 24., 10.,
                26., 42.,
            ],
            [12., 24., 48., 84., 12., 24., 48., 92., 12., 24., 48., 100.],
        ),
        (
            true,
            (1, 2, 3),
            &[1., -3., -7., 2., 2., 2., 3., 7., 11., 5., 9., 13., 6., 14., 22., 7., 19., 31.],
            [12., 27., 0., 45., 12., 27., 0., 51., 12., 27., 0., 57.],
        ),
        (true, (2, 1, 1), &[1., 1., 1., 7., 15., 23.], [0., 0., 3., 3., 0., 0., 3., 5., 0., 0., 3., 7.]),
        (
            false,
            (2, 2, 2),
            &[1., -1., -3., 2., 4., 6., 3., 5., 7., 4., 10., 16., 4., 6., 8., 5., 11., 17., 6., 12., 18., 7., 17., 27.],
            [6., 12., 24., 84., 6., 12., 24., 92., 6., 12., 24., 100.],
        ),
        (
            false,
            (1, 2, 3),
            &[
                2. + THIRD,
                2. - THIRD,
                1.,
                3.,
                5.,
                7.,
                4. - THIRD,
                8. + THIRD,
                13.,
                4. + THIRD,
                8. - THIRD,
                11.,
                5.,
                11.,
                17.,
                6. - THIRD,
                14. + THIRD,
                23.,
            ],
            [8., 13.5, 0., 45., 8., 13.5, 0., 51., 8., 13.5, 0., 57.],
        ),
        (false, (2, 1, 1), &[2.5, 4.5, 6.5, 5.5, 11.5, 17.5], [0., 0., 1.5, 3., 0., 0., 1.5, 5., 0., 0., 1.5, 7.]),
    ];
    for (align_corners, size, expected, expected_gradient) in cases {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
            let theta = Tensor::arange(1.0, 13.0, &Device::Cpu)?.reshape((1, 3, 4))?.to_dtype(dtype)?;
            let theta = Var::from_tensor(&theta)?;
            let grid = affine_grid_3d(&theta, size, align_corners)?;
            assert_eq!(grid.dims(), [1, size.0, size.1, size.2, 3]);
            let weights = Tensor::arange(0.0, expected.len() as f64, &Device::Cpu)?.reshape(grid.shape())?;
            let grads = (&grid * weights.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let expected = Tensor::from_vec(expected.to_vec(), grid.shape(), &Device::Cpu)?;
            assert!(distance(&grid, &expected)? < tolerance, "{align_corners} {size:?}: {grid}");
            let gradient = grads.get(&theta).expect("theta has a gradient");
            let expected = Tensor::from_slice(&expected_gradient, (1, 3, 4), &Device::Cpu)?;
            assert!(distance(gradient, &expected)? < tolerance, "{align_corners} {size:?}: {gradient}");
        }
    }
    Ok(())
}

/// The grid in f32 is the one in f64, rounded once.
#[test]
fn single_precision_is_double_rounded() -> Result<()> {
    let theta = theta()?.to_dtype(DType::F32)?;
    for align_corners in [true, false] {
        let single = Affine3d.grid(&theta, (7, 11, 13), align_corners)?;
        let double = Affine3d.grid(&theta.to_dtype(DType::F64)?, (7, 11, 13), align_corners)?;
        assert_eq!(single.dtype(), DType::F32);
        assert_eq!(values(&single)?, values(&double.to_dtype(DType::F32)?)?);
    }
    Ok(())
}

/// To what f32 allows: a coordinate near 1 is known to a quarter of the machine epsilon, and a side of n voxels has n / 2 voxels a unit.
#[test]
fn identity_returns_the_input() -> Result<()> {
    for (d, h, w) in [(3, 5, 8), (8, 5, 3), (1, 6, 2), (7, 1, 1), (28, 30, 42)] {
        for (dtype, epsilon) in [(DType::F32, f64::from(f32::EPSILON)), (DType::F64, 1e-14)] {
            let tolerance = epsilon * (2.0 + (d + h + w) as f64 / 4.0);
            let u = random((2, 2, d, h, w), 1)?.to_dtype(dtype)?;
            let theta = Tensor::new(Affine3d.identity(), &Device::Cpu)?.to_dtype(dtype)?.broadcast_as((2, 12))?;
            for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
                for align_corners in [true, false] {
                    for interpolation in [Interpolation::Bilinear, Interpolation::Nearest] {
                        let cfg = GridSampleConfig::new(align_corners).padding(padding).interpolation(interpolation);
                        let distance = distance(&u, &Affine3d.warp(&u, &theta, (d, h, w), cfg)?)?;
                        assert!(distance <= tolerance, "{d}x{h}x{w} {dtype:?} {cfg:?}: {distance}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Matrices that exchange the axes and turn them round: x is along W, y along H, z along D, target to source.
#[test]
fn axes_are_where_they_should_be() -> Result<()> {
    let u = random((1, 2, 3, 4, 5), 1)?;
    for align_corners in [true, false] {
        let cfg = GridSampleConfig::new(align_corners);
        // x_s = z_t, y_s = x_t, z_s = y_t: D' is W, H' is D, W' is H.
        let theta = Tensor::new(&[[0., 0., 1., 0., 1., 0., 0., 0., 0., 1., 0., 0.]], &Device::Cpu)?;
        let turned = Affine3d.warp(&u, &theta, (5, 3, 4), cfg)?;
        assert!(distance(&turned, &u.permute((0, 1, 4, 2, 3))?)? < 1e-12);
        let theta = Tensor::new(&[[1., 0., 0., 0., 0., 1., 0., 0., 0., 0., -1., 0.]], &Device::Cpu)?;
        assert!(distance(&Affine3d.warp(&u, &theta, (3, 4, 5), cfg)?, &u.flip(&[2])?)? < 1e-12);
    }
    // One voxel on along z; the last plane is outside.
    let theta = Tensor::new(&[[1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 1.]], &Device::Cpu)?;
    let moved = Affine3d.warp(&u, &theta, (3, 4, 5), GridSampleConfig::new(true))?;
    assert!(distance(&moved.narrow(2, 0, 2)?, &u.narrow(2, 1, 2)?)? < 1e-12);
    assert!(values(&moved.narrow(2, 2, 1)?)?.iter().all(|v| v.abs() < 1e-12));
    Ok(())
}

#[test]
fn gradient_through_the_grid() -> Result<()> {
    for (align_corners, size) in [(true, (2, 3, 5)), (false, (2, 3, 5)), (true, (1, 1, 4)), (false, (3, 1, 1))] {
        check_gradients("grid", &[&theta()?], |t| Affine3d.grid(&t[0], size, align_corners))?;
    }
    Ok(())
}

/// Larger and smaller outputs than the input, and two windows of one volume; with the sum over the depth, eq. (11).
#[test]
fn gradient_through_grid_and_sampler() -> Result<()> {
    for volumes in [1, 2] {
        let u = random((volumes, 2, 4, 5, 6), 2)?;
        for out_size in [(3, 2, 4), (5, 7, 3)] {
            for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
                for align_corners in [true, false] {
                    let cfg = GridSampleConfig::new(align_corners).padding(padding);
                    let what = format!("{cfg:?} {out_size:?}");
                    check_gradients(&what, &[&theta()?], |t| Affine3d.warp(&u, &t[0], out_size, cfg)?.sum(2))?;
                    let (_, gradients) = run(&[&theta()?], |t| Affine3d.warp(&u, &t[0], out_size, cfg))?;
                    assert!(values(&gradients[0])?.iter().all(|&g| g != 0.0), "{what}: a parameter has no influence");
                }
            }
        }
    }
    Ok(())
}

/// A side of one voxel looks at the middle of the input, in both conventions.
#[test]
fn sides_of_one_voxel() -> Result<()> {
    for align_corners in [true, false] {
        let grid = Affine3d.grid(&theta()?, (1, 1, 1), align_corners)?;
        assert_eq!(values(&grid)?, [0.0989, -0.2208, 0.0339, -0.2416, 0.1503, -0.1941]);
    }
    Ok(())
}

#[test]
fn empty_batch_and_empty_output() -> Result<()> {
    for (n, size) in [(0, (3, 2, 4)), (2, (0, 2, 4)), (2, (3, 0, 4)), (2, (3, 2, 0))] {
        let theta = Tensor::ones((n, 12), DType::F64, &Device::Cpu)?;
        let (grid, gradients) = run(&[&theta], |t| Affine3d.grid(&t[0], size, true))?;
        assert_eq!(grid.dims(), [n, size.0, size.1, size.2, 3]);
        assert_eq!(values(&gradients[0])?, vec![0.0; n * 12]);
    }
    Ok(())
}

/// Transposed, narrowed and broadcast parameters give what their copies give, and so does a gradient that arrives transposed.
#[test]
fn strides_make_no_difference() -> Result<()> {
    let wide = random((3, 14), 1)?;
    let one = wide.narrow(0, 1, 1)?.narrow(1, 0, 12)?.broadcast_as((3, 12))?;
    for theta in [wide.narrow(1, 1, 12)?, wide.reshape((14, 3))?.t()?.narrow(1, 2, 12)?, one] {
        let grid = Affine3d.grid(&theta, (2, 5, 3), true)?;
        assert_eq!(values(&grid)?, values(&Affine3d.grid(&theta.force_contiguous()?, (2, 5, 3), true)?)?);
    }
    let theta = Var::from_tensor(&theta()?)?;
    let grid = Affine3d.grid(&theta, (3, 4, 5), true)?;
    let weights = random((2, 3, 4, 5, 3), 2)?;
    let plain = (&grid * &weights)?.sum_all()?.backward()?;
    let turned = (grid.transpose(1, 4)? * weights.transpose(1, 4)?)?.sum_all()?.backward()?;
    assert_eq!(values(plain.get(&theta).expect("gradient"))?, values(turned.get(&theta).expect("gradient"))?);
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let u = random((2, 2, 9, 10, 11), 2)?.to_dtype(DType::F32)?;
    let theta = Tensor::cat(&[theta()?, theta()?], 0)?.to_dtype(DType::F32)?;
    let cfg = GridSampleConfig::new(false);
    let on = |threads| -> Result<_> {
        let warp = || run(&[&u, &theta], |t| Affine3d.warp(&t[0], &t[1], (8, 12, 7), cfg));
        let (out, gradients) = with_threads(threads, warp)?;
        bits([&out].into_iter().chain(&gradients))
    };
    let one = on(1)?;
    assert!(one == on(2)? && one == on(7)?);
    Ok(())
}

#[test]
fn counts_names_and_boxes() -> Result<()> {
    let family: Box<dyn Transform3d> = Box::new(Affine3d);
    assert_eq!((family.num_params(), family.identity().len()), (12, 12));
    let names = "t11 t12 t13 t14 t21 t22 t23 t24 t31 t32 t33 t34";
    assert_eq!(family.param_names().join(" "), names);
    assert_eq!(Affine3d.matrix(&theta()?)?.get(1)?.to_vec2::<f64>()?.concat(), THETA[1]);
    let (u, cfg) = (random((2, 1, 3, 4, 5), 1)?, GridSampleConfig::new(true).padding(Padding::Border));
    let warped = family.warp(&u, &theta()?, (4, 3, 2), cfg)?;
    let expected = grid_sample_3d(&u, &affine_grid_3d(&theta()?.reshape((2, 3, 4))?, (4, 3, 2), true)?, cfg)?;
    assert_eq!(values(&warped)?, values(&expected)?);
    assert!(!warped.track_op(), "a fixed window costs no backward pass");
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let grid = |shape: &[usize], dtype| message(affine_grid_3d(&zeros(shape, dtype), (4, 4, 4), true));
    for shape in [vec![3, 4], vec![2, 2, 3], vec![2, 4, 4], vec![2, 3, 4, 1]] {
        assert_eq!(grid(&shape, DType::F32), format!("affine_grid_3d: theta must be (N, 3, 4), got {shape:?}"));
    }
    assert_eq!(
        grid(&[1, 3, 4], DType::U8),
        "affine_grid_3d: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype"
    );
    let warp = |shape: &[usize]| message(Affine3d.grid(&zeros(shape, DType::F32), (4, 4, 4), true));
    assert_eq!(warp(&[2, 6]), "affine 3-D: theta must be (N, 12), got [2, 6]");
    assert_eq!(warp(&[12]), "affine 3-D: theta must be (N, 12), got [12]");
}
