//! The thin plate spline: against SciPy and the affine transform, at its control points, and what it refuses.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::time::Duration;
use stn_core::transform::{Affine, ThinPlateSpline, Transform};
use support::{distance, random, run, values, with_threads};

/* import numpy as np
from scipy.interpolate import RBFInterpolator
c = np.array([[-.875, -.75], [.75, -1], [.125, .25], [-.5, 1], [1, .625], [0, -.375]])
s = np.array([[-.7, -.9], [.9, -.6], [.3, .1], [-.75, .8], [.8, .9], [-.2, -.3]])
x, y = (np.arange(4) * 2 - 3) / 4, (np.arange(3) * 2 - 2) / 3
points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
for smoothing in (0, .25):
    print(RBFInterpolator(c, s, kernel='thin_plate_spline', smoothing=smoothing)(points).round(12)) */
#[test]
fn matches_scipy() -> Result<()> {
    let control = [[-0.875, -0.75], [0.75, -1.0], [0.125, 0.25], [-0.5, 1.0], [1.0, 0.625], [0.0, -0.375]];
    let source = [-0.7, -0.9, 0.9, -0.6, 0.3, 0.1, -0.75, 0.8, 0.8, 0.9, -0.2, -0.3];
    let cases = [
        (
            0.0,
            [
                [-0.647248585542, -0.786383680229],
                [-0.354766177146, -0.60618012414],
                [0.14096927566, -0.457673330857],
                [0.79081614569, -0.323538641514],
                [-0.751598405422, -0.233055797592],
                [-0.259306874832, -0.13688725106],
                [0.300293024461, -0.021703584942],
                [0.749381659043, 0.193951689947],
                [-0.888328600859, 0.3967287027],
                [-0.272528310674, 0.461864172297],
                [0.288955968445, 0.57223395095],
                [0.630559234575, 0.810015019736],
            ],
        ),
        (
            0.25,
            [
                [-0.644291365481, -0.789685758548],
                [-0.272937133819, -0.632270594238],
                [0.217317438356, -0.481440735966],
                [0.798131197912, -0.327582599195],
                [-0.754288595501, -0.230284963586],
                [-0.262744910383, -0.125917101863],
                [0.267680004789, 0.001611228504],
                [0.731196241221, 0.204615638728],
                [-0.886395090185, 0.392435523674],
                [-0.321038555221, 0.482032946027],
                [0.212591650331, 0.604638456127],
                [0.614849021015, 0.814904936904],
            ],
        ),
    ];
    for (regularisation, expected) in cases {
        let spline = ThinPlateSpline::regularised(&control, regularisation)?;
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-7)] {
            let theta = Tensor::from_slice(&source, (1, 12), &Device::Cpu)?.to_dtype(dtype)?;
            let grid = spline.grid(&theta, (3, 4), false)?;
            for (got, want) in values(&grid)?.into_iter().zip(expected.concat()) {
                assert!((got - want).abs() < tolerance, "{got} but {want}");
            }
        }
        assert_eq!(spline.control_points(), control);
    }
    Ok(())
}

/// The grid's points are the control points: each looks where theta says. U(0) = 0 in either type.
#[test]
fn control_points_go_to_their_sources() -> Result<()> {
    for (rows, cols) in [(2, 2), (4, 4), (3, 5), (5, 5), (2, 9), (10, 10)] {
        let spline = ThinPlateSpline::new(rows, cols)?;
        let theta = random((3, spline.num_params()), 4)?;
        for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 1e-6)] {
            let theta = theta.to_dtype(dtype)?;
            let (grid, gradients) = run(&[&theta], |theta| spline.grid(&theta[0], (rows, cols), true))?;
            assert!(distance(&grid.flatten_from(1)?, &theta)? < tolerance);
            assert!(values(&gradients[0])?.into_iter().all(f64::is_finite));
        }
    }
    Ok(())
}

/// With a span of 1/2 the outer control points of 3 x 3 are the inner points of a grid of 5 x 5, and not its corners.
#[test]
fn the_span_is_where_control_points_end() -> Result<()> {
    let spline = ThinPlateSpline::with_span(3, 3, 0.5)?;
    assert_eq!(spline.identity()[..4], [-0.5, -0.5, 0.0, -0.5]);
    let theta = random((1, 18), 6)?;
    let inner = spline.grid(&theta, (5, 5), true)?.narrow(1, 1, 3)?.narrow(2, 1, 3)?;
    assert!(distance(&inner.flatten_from(1)?, &theta)? < 1e-12);
    Ok(())
}

/// Sources that an affine map makes of the control points give that map everywhere, regularised or not, near and far.
#[test]
fn affine_sources_give_the_affine_map() -> Result<()> {
    let affine = random((2, 6), 8)?;
    let matrix = Affine.matrix(&affine)?;
    let scattered = [[-0.7, -0.9], [0.8, -0.6], [0.1, 0.3], [-0.9, 0.7], [0.6, 1.0]];
    let splines = [
        ThinPlateSpline::new(4, 4)?,
        ThinPlateSpline::new(2, 7)?,
        ThinPlateSpline::with_span(4, 4, 0.01)?,
        ThinPlateSpline::from_points(&scattered)?,
        ThinPlateSpline::from_points(&scattered[..3])?,
        ThinPlateSpline::regularised(&scattered, 3.0)?,
        ThinPlateSpline::regularised(&scattered.map(|p| p.map(|v| 1e4 * v)), 3.0)?,
    ];
    for spline in splines {
        let k = spline.control_points().len();
        let control = Tensor::from_vec(spline.identity(), (k, 2), &Device::Cpu)?.to_dtype(DType::F64)?;
        let control = Tensor::cat(&[control, Tensor::ones((k, 1), DType::F64, &Device::Cpu)?], 1)?; // (K, 3)
        let theta = control.broadcast_left(2)?.contiguous()?.matmul(&matrix.transpose(1, 2)?)?.flatten_from(1)?;
        for align_corners in [true, false] {
            let grid = spline.grid(&theta, (6, 9), align_corners)?;
            let distance = distance(&grid, &Affine.grid(&affine, (6, 9), align_corners)?)?;
            assert!(distance < 1e-9, "{spline:?}: {distance}");
        }
    }
    Ok(())
}

/// The basis that is kept is that of the size asked for, also in turns, of clones and in threads.
#[test]
fn sizes_in_turns() -> Result<()> {
    let spline = ThinPlateSpline::new(3, 3)?;
    let theta = random((2, 18), 9)?;
    let asked = [((4, 5), true), ((4, 5), false), ((5, 4), true), ((4, 5), true), ((20, 1), true)];
    std::thread::scope(|scope| {
        let asking = || -> Result<()> {
            for (out_size, align_corners) in asked {
                let grid = spline.clone().grid(&theta, out_size, align_corners)?;
                let expected = ThinPlateSpline::new(3, 3)?.grid(&theta, out_size, align_corners)?;
                assert_eq!(values(&grid)?, values(&expected)?);
            }
            Ok(())
        };
        let threads = [scope.spawn(asking), scope.spawn(asking)];
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let message = |result: Result<ThinPlateSpline>| {
        result.expect_err("an error").to_string().lines().next().unwrap_or_default().to_string()
    };
    let from = |points: &[[f32; 2]]| message(ThinPlateSpline::from_points(points));
    let few = "thin_plate_spline: at least 3 control points are needed, got 2";
    assert_eq!(from(&[[0.0, 0.0], [1.0, 0.0]]), few);
    assert_eq!(from(&[]), few.replace('2', "0"));
    let line = "thin_plate_spline: the control points must not all lie on one line";
    assert_eq!(from(&[[-0.3, -0.1], [0.0, 0.2], [0.6, 0.8], [0.1, 0.3]]), line);
    assert_eq!(from(&[[1e4, 0.0], [2e4, 0.0], [3e4, 0.0]]), line);
    let coincident = "thin_plate_spline: control points 1 and 3 coincide at [1.0, 0.0]";
    assert_eq!(from(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), coincident);
    assert_eq!(from(&[[1.0, 1.0]; 3]), "thin_plate_spline: control points 0 and 1 coincide at [1.0, 1.0]");
    let nan = from(&[[0.0, 0.0], [1.0, 0.0], [f32::NAN, 1.0]]);
    assert_eq!(nan, "thin_plate_spline: control point 2 must be finite, got [NaN, 1.0]");
    let rows = message(ThinPlateSpline::new(1, 4));
    assert_eq!(rows, "thin_plate_spline: at least 2 rows and 2 columns are needed, got 1 and 4");
    for span in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let expected = format!("thin_plate_spline: the span must be a positive number, got {span}");
        assert_eq!(message(ThinPlateSpline::with_span(4, 4, span)), expected);
    }
    let corners = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
    let expected = "thin_plate_spline: the regularisation must be zero or a positive number, got -1";
    assert_eq!(message(ThinPlateSpline::regularised(&corners, -1.0)), expected);
    let spline = ThinPlateSpline::from_points(&corners)?;
    let theta = |shape: (usize, usize), dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let wrong = support::message(spline.grid(&theta((2, 5), DType::F32)?, (2, 2), true));
    assert_eq!(wrong, "thin_plate_spline: theta must be (N, 6), got [2, 5]");
    let bytes = support::message(spline.grid(&theta((2, 6), DType::U8)?, (2, 2), true));
    assert_eq!(bytes, "thin_plate_spline: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype");
    Ok(())
}

/// A spline that many threads share makes its basis on many threads too.
#[test]
fn threads_of_one_pool_do_not_wait_for_each_other() -> Result<()> {
    let spline = ThinPlateSpline::new(6, 6)?;
    let theta = Tensor::new(spline.identity(), &Device::Cpu)?.unsqueeze(0)?;
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let grids = with_threads(8, || {
            // Sizes that change all the time, so that bases are made all the time.
            let sides = (0..256).into_par_iter().map(|i| 64 + i % 4);
            sides.map(|side| spline.clone().grid(&theta, (side, side), true)).collect::<Result<Vec<_>>>()
        });
        let _ = sender.send(grids);
    });
    let grids = done.recv_timeout(Duration::from_secs(120)).expect("the threads wait for each other")?;
    assert!(grids.iter().enumerate().all(|(i, grid)| grid.dims() == [1, 64 + i % 4, 64 + i % 4, 2]));
    Ok(())
}
