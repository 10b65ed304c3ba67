//! The sampler of many channels is that of one channel, many times over: values, gradients, views, windows, threads.

mod support;

use candle_core::{DType, Result, Tensor};
use stn_core::ops::{GridSampleConfig, Interpolation, affine_grid_sample, grid_sample, grid_sample_3d};
use stn_core::transform::affine_grid;
use support::sampler::configs;
use support::{bits, check_gradients, distance, random, run, with_threads};

/// Values and the image's gradient have the bits that each channel has by itself; the points' gradient is the channels' sum.
fn check_channels(
    what: &str,
    (u, points): (&Tensor, &Tensor),
    view: impl Fn(&Tensor) -> Result<Tensor>,
    sample: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<()> {
    let channels = view(u)?.dim(1)?;
    let together = run(&[u, points], |t| sample(&view(&t[0])?, &t[1]))?;
    let apart = run(&[u, points], |t| {
        let u = view(&t[0])?;
        let maps = (0..channels).map(|c| sample(&u.narrow(1, c, 1)?, &t[1])).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&maps, 1)
    })?;
    assert!(bits([&together.0])? == bits([&apart.0])?, "values: {what}");
    for (together, apart) in together.1.iter().zip(&apart.1) {
        let tolerance = if u.dtype() == DType::F64 { 1e-11 } else { 2e-3 };
        let off = distance(together, apart)?;
        assert!(off < tolerance, "gradients: {what}: {off}");
    }
    Ok(())
}

#[test]
fn channels_do_not_mix() -> Result<()> {
    for cfg in configs() {
        for (dtype, channels) in [(DType::F32, 8), (DType::F32, 16), (DType::F64, 20), (DType::F32, 37)] {
            for (k, out) in [(1, (7, 11)), (3, (5, 17)), (2, (1, 64))] {
                let u = random((2, channels, 5, 6), 1)?.to_dtype(dtype)?;
                let grid = (random((2 * k, out.0, out.1, 2), 2)? * 1.4)?.to_dtype(dtype)?;
                let what = format!("{cfg:?} {dtype:?} {channels} channels, {k} windows");
                check_channels(&what, (&u, &grid), |u| Ok(u.clone()), |u, grid| grid_sample(u, grid, cfg))?;
            }
        }
    }
    Ok(())
}

#[test]
fn volumes_too() -> Result<()> {
    for cfg in configs().filter(|cfg| cfg.interpolation != Interpolation::Bicubic) {
        for dtype in [DType::F32, DType::F64] {
            let u = random((2, 18, 3, 4, 5), 1)?.to_dtype(dtype)?;
            let grid = (random((4, 3, 5, 7, 3), 2)? * 1.4)?.to_dtype(dtype)?;
            let sample = |u: &Tensor, grid: &Tensor| grid_sample_3d(u, grid, cfg);
            check_channels(&format!("{cfg:?} {dtype:?}"), (&u, &grid), |u| Ok(u.clone()), sample)?;
        }
    }
    Ok(())
}

#[test]
fn views_of_many_channels() -> Result<()> {
    let whole = (2, 19, 5, 18);
    let grid = (random((2, 7, 9, 2), 2)? * 1.2)?;
    type View = fn(&Tensor) -> Result<Tensor>;
    let broadcast: View = |u| u.broadcast_as((2, 19, 5, 18));
    let mut views: Vec<(Vec<usize>, View)> = vec![
        (vec![2, 5, 18, 19], |u| u.permute((0, 3, 1, 2))),
        (vec![2, 19, 18, 5], |u| u.transpose(2, 3)),
        (vec![3, 24, 7, 25], |u| u.narrow(0, 1, 2)?.narrow(1, 3, 19)?.narrow(2, 1, 5)?.narrow(3, 7, 18)),
    ];
    let shapes = [[1, 19, 5, 18], [2, 1, 5, 18], [2, 19, 1, 18], [2, 19, 5, 1], [1, 1, 1, 1]];
    views.extend(shapes.map(|shape| (shape.to_vec(), broadcast)));
    for cfg in configs() {
        for (shape, view) in &views {
            let u = random(shape.as_slice(), 3)?;
            assert!(view(&u)?.shape().dims4()? == whole);
            let sample = |u: &Tensor, grid: &Tensor| grid_sample(u, grid, cfg);
            check_channels(&format!("{shape:?} {cfg:?}"), (&u, &grid), view, sample)?;
        }
    }
    Ok(())
}

#[test]
fn gradients_of_many_channels() -> Result<()> {
    for cfg in configs() {
        let u = random((2, 17, 2, 3), 1)?;
        let grid = support::sampler::grid_between_pixels((2, 2, 2), (2, 3), cfg.align_corners, 2)?;
        check_gradients(&format!("{cfg:?}"), &[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
    }
    Ok(())
}

/// In one pass as in two, and on any number of threads.
#[test]
fn matrices_and_threads() -> Result<()> {
    let cfg = GridSampleConfig::new(false);
    for dtype in [DType::F32, DType::F64] {
        let u = random((2, 33, 9, 7), 1)?.to_dtype(dtype)?;
        let theta = random((4, 2, 3), 2)?.to_dtype(dtype)?;
        let fused = |threads| {
            with_threads(threads, || {
                let (out, gradients) = run(&[&u, &theta], |t| affine_grid_sample(&t[0], &t[1], (6, 19), cfg))?;
                bits([&out].into_iter().chain(&gradients))
            })
        };
        let two = run(&[&u, &theta], |t| grid_sample(&t[0], &affine_grid(&t[1], (6, 19), false)?, cfg))?;
        let two = bits([&two.0].into_iter().chain(&two.1))?;
        assert!(fused(1)? == two && fused(2)? == two && fused(7)? == two, "{dtype:?}");
    }
    Ok(())
}
