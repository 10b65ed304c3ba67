//! The projective transform: against the affine one and PyTorch, and what lies on and behind the horizon.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use stn_core::ops::{GridSampleConfig, Padding};
use stn_core::transform::{Affine, Projective, Transform, compose, invert};
use support::{check_gradients, distance, message, random, run, values};

fn theta(values: [f64; 8]) -> Result<Tensor> {
    Tensor::from_slice(&values, (1, 8), &Device::Cpu)
}

/* import torch
t = torch.tensor([.9, -.2, .1, .3, 1.1, -.2, .25, -.4], dtype=torch.float64, requires_grad=True)
for align in (True, False):
    t.grad = None
    m = torch.cat([t, torch.ones(1, dtype=torch.float64)]).reshape(3, 3)
    i = torch.tensor([[[1., 0, 0], [0, 1, 0]]], dtype=torch.float64)
    p = torch.nn.functional.affine_grid(i, (1, 1, 2, 3), align_corners=align)[0]
    q = torch.cat([p, torch.ones(2, 3, 1)], -1) @ m.T
    g = q[..., :2] / q[..., 2:]
    (g * torch.arange(12).reshape(2, 3, 2)).sum().backward()
    print(align, g.flatten().tolist(), t.grad.tolist()) */
#[test]
fn matches_pytorch() -> Result<()> {
    let cases = [
        (
            true,
            [
                -0.5217391304347826,
                -1.3913043478260871,
                0.21428571428571433,
                -0.9285714285714287,
                0.7272727272727274,
                -0.6060606060606061,
                -2.857142857142857,
                1.7142857142857146,
                -0.16666666666666669,
                1.5000000000000002,
                0.9411764705882353,
                1.4117647058823533,
            ],
            [
                -2.9539088362617765,
                38.388082505729564,
                46.09371021135727,
                -4.898085716500038,
                41.89845108003676,
                53.983901861139714,
                -45.17280608068478,
                -37.89342600909692,
            ],
        ),
        (
            false,
            [
                -0.3870967741935484,
                -0.9193548387096773,
                0.16666666666666669,
                -0.625,
                0.5853658536585366,
                -0.4024390243902439,
                -0.9473684210526316,
                0.23684210526315802,
                0.0,
                0.4375,
                0.6206896551724138,
                0.5689655172413793,
            ],
            [
                2.531981762648842,
                12.612507930886931,
                34.41200773169256,
                2.0116489438414664,
                13.277831701462613,
                40.80822044462468,
                -13.588886422508732,
                -6.696694688734766,
            ],
        ),
    ];
    let at = theta([0.9, -0.2, 0.1, 0.3, 1.1, -0.2, 0.25, -0.4])?;
    let weights = Tensor::arange(0.0, 12.0, &Device::Cpu)?.reshape((1, 2, 3, 2))?;
    for (align_corners, expected, expected_gradient) in cases {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
            let at = candle_core::Var::from_tensor(&at.to_dtype(dtype)?)?;
            let grid = Projective.grid(&at, (2, 3), align_corners)?;
            let grads = (&grid * weights.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let gradient = values(grads.get(&at).expect("theta has a gradient"))?;
            for (got, want) in values(&grid)?.into_iter().zip(expected) {
                assert!((got - want).abs() < tolerance * want.abs().max(1.0), "{got} but {want}");
            }
            for (got, want) in gradient.into_iter().zip(expected_gradient) {
                assert!((got - want).abs() < 100.0 * tolerance, "{got} but {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn affine_where_the_last_row_is_zero() -> Result<()> {
    let zeros = Tensor::zeros((3, 2), DType::F64, &Device::Cpu)?;
    let affine = random((3, 6), 1)?;
    for align_corners in [true, false] {
        let (expected, of_affine) = run(&[&affine], |theta| Affine.grid(&theta[0], (4, 7), align_corners))?;
        let (grid, of_projective) =
            run(&[&Tensor::cat(&[&affine, &zeros], 1)?], |theta| Projective.grid(&theta[0], (4, 7), align_corners))?;
        assert_eq!(values(&grid)?, values(&expected)?);
        assert!(distance(&of_projective[0].narrow(1, 0, 6)?, &of_affine[0])? < 1e-12);
    }
    Ok(())
}

/// w = 1 + 2 x: behind at x = -1, on the horizon at -0.5, before it from 0 on.
const BEHIND: [f64; 8] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.1, 2.0, 0.0];

#[test]
fn points_behind_the_horizon_leave_the_image() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let grid = Projective.grid(&theta(BEHIND)?.to_dtype(dtype)?, (3, 5), true)?;
        let far = 1e6;
        let left = |y: f64| [-far, y, -far, y]; // the columns x = -1 and -0.5, by the signs of the numerators
        let expected = [(0, left(-far)), (1, left(far)), (2, left(far))];
        for (row, expected) in expected {
            assert_eq!(values(&grid.narrow(1, row, 1)?.narrow(2, 0, 2)?)?, expected);
        }
        let seen = grid.narrow(1, 1, 1)?.narrow(2, 2, 3)?;
        for (got, want) in values(&seen)?.into_iter().zip([0.0, 0.1, 0.25, 0.05, 1.0 / 3.0, 0.1 / 3.0]) {
            assert!((got - want).abs() < 1e-7);
        }
        // Zeros outside; under border padding the edge.
        let u = Tensor::ones((1, 1, 3, 3), dtype, &Device::Cpu)?;
        let v = Projective.warp(&u, &theta(BEHIND)?.to_dtype(dtype)?, (3, 5), GridSampleConfig::new(true))?;
        assert_eq!(values(&v.narrow(3, 0, 2)?)?, [0.0; 6]);
        let cfg = GridSampleConfig::new(true).padding(Padding::Border);
        let v = Projective.warp(&u, &theta(BEHIND)?.to_dtype(dtype)?, (3, 5), cfg)?;
        assert_eq!(values(&v.narrow(3, 0, 2)?)?, [1.0; 6]);
    }
    Ok(())
}

/// Where the horizon begins and where coordinates end.
#[test]
fn limits() -> Result<()> {
    let right = |h11: f64, h31: f64| -> Result<Vec<f64>> {
        let grid = Projective.grid(&theta([h11, 0.0, 0.0, 0.0, 1.0, 0.0, h31, 0.0])?, (1, 3), true)?;
        values(&grid.narrow(2, 2, 1)?) // x = 1, y = 0
    };
    assert!((right(1.0, -0.9989)?[0] * 0.0011 - 1.0).abs() < 1e-9);
    assert_eq!(right(1.0, -0.9991)?, [1e6, 1e6]);
    assert_eq!(right(-1.0, -0.9991)?, [-1e6, 1e6]);
    assert_eq!(right(-0.9e6, 0.0)?, [-0.9e6, 0.0]);
    assert_eq!(right(-1.1e6, 0.0)?, [-1e6, 0.0]); // the other coordinate stays
    Ok(())
}

/// Points behind the horizon add nothing to the gradient, even where NaN comes from above; the others add what they do alone.
#[test]
fn gradient_with_points_behind_the_horizon() -> Result<()> {
    let at = theta(BEHIND)?;
    let columns = |first, n| move |theta: &[Tensor]| Projective.grid(&theta[0], (3, 5), true)?.narrow(2, first, n);
    check_gradients("before", &[&at], columns(2, 3))?;
    assert_eq!(values(&run(&[&at], columns(0, 2))?.1[0])?, [0.0; 8]);
    let weights = random((1, 3, 5, 2), 5)?;
    let seen = Tensor::new(&[0u8, 0, 1, 1, 1], &Device::Cpu)?.reshape((1, 1, 5, 1))?.broadcast_as((1, 3, 5, 2))?;
    let gradient = |elsewhere: f64| -> Result<Vec<f64>> {
        let elsewhere = Tensor::full(elsewhere, (1, 3, 5, 2), &Device::Cpu)?;
        let weights = seen.where_cond(&weights, &elsewhere)?;
        let at = candle_core::Var::from_tensor(&at)?;
        let grads = (Projective.grid(&at, (3, 5), true)? * weights)?.sum_all()?.backward()?;
        values(grads.get(&at).expect("theta has a gradient"))
    };
    assert_eq!(gradient(0.0)?, gradient(f64::NAN)?);
    assert_eq!(gradient(0.0)?, gradient(f64::INFINITY)?);
    assert!(gradient(0.0)?.iter().all(|g| g.is_finite()));
    Ok(())
}

/// Whatever theta is, the grid is finite and within bounds, and so is its gradient.
#[test]
fn grids_are_finite() -> Result<()> {
    let extremes = [0.0, 1.0, -1.0, 1e-38, 1e38, -1e38, 1e308, -1e308, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let mut rows = vec![];
    for column in 0..8 {
        for (i, &extreme) in extremes.iter().enumerate() {
            for &other in &extremes[..i] {
                let mut row = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
                (row[column], row[(column + 3) % 8]) = (extreme, other);
                rows.extend([row, [extreme; 8]].concat());
            }
        }
    }
    let theta = Tensor::from_vec(rows.clone(), (rows.len() / 8, 8), &Device::Cpu)?;
    for dtype in [DType::F32, DType::F64] {
        for out_size in [(3, 4), (1, 1)] {
            let (grid, gradients) =
                run(&[&theta.to_dtype(dtype)?], |theta| Projective.grid(&theta[0], out_size, true))?;
            assert!(values(&grid)?.into_iter().all(|v| v.abs() <= 1e6));
            assert!(values(&gradients[0])?.into_iter().all(f64::is_finite));
        }
    }
    Ok(())
}

/// `theta` undoes `matrix`; the map of a product is one map after the other; the inverse leads back.
#[test]
fn homographies_compose_and_invert() -> Result<()> {
    let identity = Tensor::new(Projective.identity(), &Device::Cpu)?.to_dtype(DType::F64)?;
    let [a, b] = [(random((4, 8), 2)? * 0.2)?, (random((4, 8), 3)? * 0.2)?].map(|t| t.broadcast_add(&identity));
    let [a, b] = [Projective.matrix(&a?)?, Projective.matrix(&b?)?];
    let both = Projective.theta(&compose(&a, &b)?)?;
    let grid = Projective.grid(&both, (3, 5), true)?;
    // The points of b's grid through a.
    let points = Projective.grid(&Projective.theta(&b)?, (3, 5), true)?.reshape((4, 15, 2))?;
    let ones = Tensor::ones((4, 15, 1), DType::F64, &Device::Cpu)?;
    let images = Tensor::cat(&[&points, &ones], 2)?.matmul(&a.transpose(1, 2)?)?;
    let expected = images.narrow(2, 0, 2)?.broadcast_div(&images.narrow(2, 2, 1)?)?;
    assert!(distance(&grid, &expected.reshape((4, 3, 5, 2))?)? < 1e-12);
    let back = Projective.theta(&compose(&invert(&b)?, &b)?)?;
    assert!(distance(&back, &identity.broadcast_as((4, 8))?)? < 1e-12);
    check_gradients("theta of a product", &[&a, &b], |m| Projective.theta(&compose(&m[0], &invert(&m[1])?)?))
}

#[test]
fn errors() -> Result<()> {
    let matrix = Tensor::new(&[[[1., 0., 0.], [0., 1., 0.], [0., 0., -0.5]]], &Device::Cpu)?;
    assert_eq!(message(Projective.theta(&matrix)), "projective: h33 of matrix 0 must be positive, got -0.5");
    let nan = Tensor::full(f64::NAN, (1, 3, 3), &Device::Cpu)?;
    assert_eq!(message(Projective.theta(&nan)), "projective: h33 of matrix 0 must be positive, got NaN");
    let affine = Tensor::zeros((2, 2, 3), DType::F32, &Device::Cpu)?;
    assert_eq!(message(Projective.theta(&affine)), "projective: the matrix must be (N, 3, 3), got [2, 2, 3]");
    let bytes = Tensor::zeros((1, 8), DType::U8, &Device::Cpu)?;
    assert_eq!(
        message(Projective.grid(&bytes, (2, 2), true)),
        "projective: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype"
    );
    Ok(())
}
