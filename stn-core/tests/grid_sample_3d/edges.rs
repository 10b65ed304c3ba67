//! Strides, ties, coordinates and voxels that are no numbers, empty tensors, threads, errors.

use crate::support::{self, bits, distance, message, random, run, values};
use crate::{configs, grid_between_voxels, grid_of_voxels};
use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample_3d};

/// Views of volumes and grids give the very values and gradients that copies give; a broadcast volume gets one summed gradient.
#[test]
fn strides_make_no_difference() -> Result<()> {
    let whole = (2, 3, 3, 4, 5);
    type View = fn(&Tensor) -> Result<Tensor>;
    let narrowed: View = |u| {
        let places = [(1, 2), (2, 3), (0, 3), (3, 4), (1, 5)];
        places.iter().enumerate().try_fold(u.clone(), |u, (axis, &(start, len))| u.narrow(axis, start, len))
    };
    let broadcast: View = |u| u.broadcast_as((2, 3, 3, 4, 5));
    let mut views: Vec<(Vec<usize>, View)> = vec![
        (vec![2, 3, 4, 5, 3], |u| u.permute((0, 4, 1, 2, 3))), // channels last
        (vec![3, 2, 5, 4, 3], |u| u.permute((1, 0, 4, 3, 2))), // everything turned
        (vec![4, 6, 4, 9, 7], narrowed),
    ];
    let ones = [[1, 3, 3, 4, 5], [2, 1, 3, 4, 5], [2, 3, 1, 4, 5], [2, 3, 3, 4, 1], [1, 1, 1, 1, 1]];
    views.extend(ones.map(|shape| (shape.to_vec(), broadcast)));
    for cfg in configs() {
        let grid = grid_between_voxels((4, (2, 3, 2)), (3, 4, 5), cfg.align_corners, 9)?;
        let turned = grid.permute((4, 0, 3, 2, 1))?.contiguous()?;
        for (shape, view) in &views {
            let u = random(shape.as_slice(), 3)?;
            assert!(!view(&u)?.is_contiguous() && view(&u)?.shape().dims5()? == whole);
            let (out, gradients) =
                run(&[&u, &turned], |t| grid_sample_3d(&view(&t[0])?, &t[1].permute((1, 4, 3, 2, 0))?, cfg))?;
            let (expected, expected_gradients) =
                run(&[&u, &grid], |t| grid_sample_3d(&view(&t[0])?.contiguous()?, &t[1], cfg))?;
            assert_eq!(values(&out)?, values(&expected)?, "{shape:?} {cfg:?}");
            assert!(distance(&gradients[0], &expected_gradients[0])? < 1e-12, "{shape:?} {cfg:?}");
            let gradient = gradients[1].permute((1, 4, 3, 2, 0))?;
            assert!(distance(&gradient, &expected_gradients[1])? < 1e-12, "{shape:?} {cfg:?}");
        }
    }
    Ok(())
}

/// PyTorch's test that rounding is the same along every axis: coordinates 0, 0.1, .. 9 of ten voxels. The even index wins a tie.
#[test]
fn nearest_rounds_alike_along_every_axis() -> Result<()> {
    for cfg in configs().filter(|cfg| cfg.interpolation == Interpolation::Nearest) {
        for dtype in [DType::F32, DType::F64] {
            let mut all = vec![];
            for axis in 0..3 {
                let mut size = [1; 3]; // W, H, D
                size[axis] = 10;
                let [w, h, d] = size;
                let u = Tensor::arange(0.0, 10.0, &Device::Cpu)?.reshape((1, 1, d, h, w))?.to_dtype(dtype)?;
                let point = |i: usize| std::array::from_fn(|k| if k == axis { i as f64 / 10.0 } else { 0.0 });
                let grid = grid_of_voxels((1, (1, 1, 91)), (d, h, w), cfg.align_corners, point)?.to_dtype(dtype)?;
                all.push(values(&grid_sample_3d(&u, &grid, cfg)?)?);
            }
            assert!(all[0] == all[1] && all[0] == all[2], "{cfg:?} {dtype:?}");
            let near = |i: usize| i % 10 == 5 || all[0][i] == (i as f64 / 10.0).round();
            assert!((0..91).all(near), "{cfg:?} {dtype:?}: {:?}", all[0]);
        }
        // Sides whose ties have exact coordinates.
        let n = if cfg.align_corners { 5 } else { 4 };
        let u = Tensor::arange(0.0, n as f64, &Device::Cpu)?.reshape((1, 1, n, 1, 1))?;
        let grid = grid_of_voxels((1, (1, 1, 3)), (n, 1, 1), cfg.align_corners, |i| [0.0, 0.0, i as f64 + 0.5])?;
        assert_eq!(values(&grid_sample_3d(&u, &grid, cfg)?)?, [0.0, 2.0, 2.0], "{cfg:?}");
    }
    Ok(())
}

/// Our policy for coordinates that are no place in the volume: finite values, and no gradient along them.
#[test]
fn wild_coordinates() -> Result<()> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38, -1e38, 3.0e25, -3.0e25];
    for cfg in configs() {
        for (dtype, axis) in
            [DType::F32, DType::F64].into_iter().flat_map(|dtype| (0..3).map(move |axis| (dtype, axis)))
        {
            let mut size = [1; 3]; // W, H, D
            size[axis] = 4;
            let u =
                Tensor::arange(1.0, 5.0, &Device::Cpu)?.reshape((1, 1, size[2], size[1], size[0]))?.to_dtype(dtype)?;
            let points = odd.map(|wild| std::array::from_fn::<_, 3, _>(|k| if k == axis { wild } else { 0.0 }));
            let points = Tensor::new(&points, &Device::Cpu)?.reshape((1, 1, 1, 7, 3))?.to_dtype(dtype)?;
            let (out, gradients) = run(&[&u, &points], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
            let expected = match cfg.padding {
                Padding::Zeros => [0.0; 7],
                Padding::Border => [1.0, 4.0, 1.0, 4.0, 1.0, 4.0, 1.0],
                Padding::Reflection => [1.0; 7],
            };
            assert_eq!(values(&out)?, expected, "{cfg:?} {dtype:?} {axis}");
            assert!(values(&gradients[1])?.iter().skip(axis).step_by(3).all(|&g| g == 0.0), "{cfg:?} {dtype:?} {axis}");
            let received: f64 = values(&gradients[0])?.iter().sum();
            let sent: f64 = (0..7).map(|i| f64::from(i).cos()).sum();
            let expected = if cfg.padding == Padding::Zeros { 0.0 } else { sent };
            assert!((received - expected).abs() < 1e-6, "{cfg:?} {dtype:?} {axis}: {received}");
        }
    }
    Ok(())
}

/// Voxels that a point does not touch are not read, whatever they hold.
#[test]
fn wild_voxels_stay_where_they_are() -> Result<()> {
    for cfg in configs() {
        for wild in [f64::NAN, f64::INFINITY] {
            let mut u = vec![wild; 27];
            for i in [13, 14, 16, 17, 22, 23, 25, 26] {
                u[i] = 2.0; // the cube from (1, 1, 1) to (2, 2, 2)
            }
            let u = Tensor::from_vec(u, (1, 1, 3, 3, 3), &Device::Cpu)?;
            let grid =
                grid_of_voxels((1, (1, 1, 2)), (3, 3, 3), cfg.align_corners, |i| [1.3 + 0.9 * i as f64, 1.6, 1.7])?;
            let (out, gradients) = run(&[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
            assert!((values(&out)?[0] - 2.0).abs() < 1e-12, "{cfg:?}: {out}");
            assert!(values(&out)?[1].is_finite(), "{cfg:?}: {out}");
            assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|g| g.is_finite()))), "{cfg:?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_in_nothing_out() -> Result<()> {
    let sizes = [
        ((0, 2, 3, 4, 5), (0, 5, 6, 7, 3)), // no volumes
        ((2, 0, 3, 4, 5), (4, 5, 6, 7, 3)), // no channels
        ((2, 2, 3, 4, 5), (2, 0, 6, 7, 3)), // no planes
        ((2, 2, 3, 4, 5), (2, 5, 0, 7, 3)), // no rows
        ((2, 2, 3, 4, 5), (2, 5, 6, 0, 3)), // no columns
        ((2, 2, 3, 4, 5), (0, 5, 6, 7, 3)), // no windows
    ];
    for (input, grid) in sizes {
        for cfg in configs() {
            let u = Tensor::ones(input, DType::F32, &Device::Cpu)?;
            let points = Tensor::zeros(grid, DType::F32, &Device::Cpu)?;
            let (out, gradients) = run(&[&u, &points], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
            assert_eq!(out.dims(), [grid.0, input.1, grid.1, grid.2, grid.3]);
            assert_eq!((gradients[0].dims(), gradients[1].dims()), (u.dims(), points.dims()));
            assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|&g| g == 0.0))));
        }
    }
    Ok(())
}

#[test]
fn gradients_only_where_asked() -> Result<()> {
    let (u, grid) = (random((2, 2, 3, 4, 5), 1)?, random((4, 2, 3, 3, 3), 2)?);
    let cfg = GridSampleConfig::new(false);
    let (tracked_u, tracked_grid) = (Var::from_tensor(&u)?, Var::from_tensor(&grid)?);
    let grads = grid_sample_3d(&tracked_u, &grid, cfg)?.sum_all()?.backward()?;
    assert!(grads.get(&tracked_u).is_some() && grads.get(&grid).is_none());
    let grads = grid_sample_3d(&u, &tracked_grid, cfg)?.sum_all()?.backward()?;
    assert!(grads.get(&u).is_none() && grads.get(&tracked_grid).is_some());
    assert!(!grid_sample_3d(&u, &grid, cfg)?.track_op());
    Ok(())
}

/// Few volumes, whose gradients are split by depth, and many.
#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for cfg in configs() {
        for (b, k) in [(1, 4), (5, 2)] {
            let u = random((b, 3, 5, 7, 11), 1)?.to_dtype(DType::F32)?;
            let grid = (random((b * k, 6, 9, 5, 3), 2)? * 1.3)?.to_dtype(DType::F32)?;
            let on = |threads| -> Result<_> {
                let sample = || run(&[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg));
                let (out, gradients) = support::with_threads(threads, sample)?;
                bits([&out].into_iter().chain(&gradients))
            };
            let one = on(1)?;
            assert!(one == on(2)? && one == on(7)?, "{cfg:?} {b} volumes");
        }
    }
    Ok(())
}

/// An infinite gradient spreads alike however the planes of a volume are divided.
#[test]
fn infinite_gradients_do_not_depend_on_threads() -> Result<()> {
    for cfg in configs() {
        let u = Var::from_tensor(&random((1, 1, 7, 3, 3), 1)?)?;
        let grid = (random((1, 6, 2, 2, 3), 2)? * 0.6)?;
        let factors = (0..24).map(|i| if i % 5 == 0 { f64::INFINITY } else { 1.0 }).collect();
        let factors = Tensor::from_vec(factors, (1, 1, 6, 2, 2), &Device::Cpu)?;
        let on = |threads| -> Result<_> {
            support::with_threads(threads, || {
                let grads = (grid_sample_3d(&u, &grid, cfg)? * &factors)?.sum_all()?.backward()?;
                Ok(format!("{:?}", values(grads.get(&u).expect("the volume has a gradient"))?))
            })
        };
        let one = on(1)?;
        assert_eq!(one, on(2)?, "{cfg:?}");
        assert_eq!(one, on(7)?, "{cfg:?}");
        assert!(one.contains("inf"), "{cfg:?}: {one}");
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let f32s = |shape: &[usize]| zeros(shape, DType::F32);
    let cfg = GridSampleConfig::new(true);
    let sample = |u: &[usize], grid: &[usize]| message(grid_sample_3d(&f32s(u), &f32s(grid), cfg));
    let (u, points) = ([2, 1, 3, 4, 5], [2, 2, 2, 2, 3]);
    assert_eq!(sample(&[1, 3, 4, 5], &points), "grid_sample_3d: input must be (B, C, D, H, W), got [1, 3, 4, 5]");
    for grid in [vec![2, 2, 2, 3], vec![2, 2, 2, 2, 2], vec![2, 2, 2, 2, 2, 3]] {
        assert_eq!(sample(&u, &grid), format!("grid_sample_3d: grid must be (N, D', H', W', 3), got {grid:?}"));
    }
    for u in [[2, 1, 0, 4, 5], [2, 1, 3, 0, 5], [2, 1, 3, 4, 0]] {
        let expected = format!("grid_sample_3d: the input's depth, height and width must not be zero, got {u:?}");
        assert_eq!(sample(&u, &points), expected);
    }
    for (b, n) in [(2, 3), (0, 3)] {
        let expected = format!(
            "grid_sample_3d: the first dimension of grid must be a multiple of the input's, got {n} for {b} volumes"
        );
        assert_eq!(sample(&[b, 1, 3, 4, 5], &[n, 2, 2, 2, 3]), expected);
    }
    assert_eq!(
        message(grid_sample_3d(&f32s(&u), &f32s(&points), cfg.interpolation(Interpolation::Bicubic))),
        "grid_sample_3d: the interpolation must be Bilinear (trilinear) or Nearest; Bicubic is for images only"
    );
    assert_eq!(
        message(grid_sample_3d(&f32s(&u), &zeros(&points, DType::F64), cfg)),
        "grid_sample_3d: input and grid must have the same dtype, got F32 and F64"
    );
    assert_eq!(
        message(grid_sample_3d(&zeros(&u, DType::U8), &zeros(&points, DType::U8), cfg)),
        "grid_sample_3d: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype"
    );
}
