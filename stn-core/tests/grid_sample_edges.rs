//! The sampler at its edges: nothing to sample, coordinates that are no place, pixels that are no numbers.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use stn_core::ops::{Padding, grid_sample};
use support::sampler::{configs, eq_5_configs, grid_of_pixels};
use support::{run, values};

#[test]
fn nothing_in_nothing_out() -> Result<()> {
    let sizes = [
        ((0, 2, 3, 4), (0, 5, 6, 2)), // no images
        ((2, 0, 3, 4), (4, 5, 6, 2)), // no channels
        ((2, 2, 3, 4), (2, 0, 6, 2)), // no rows
        ((2, 2, 3, 4), (2, 5, 0, 2)), // no columns
        ((2, 2, 3, 4), (0, 5, 6, 2)), // no windows
    ];
    for (input, grid) in sizes {
        for dtype in [DType::F32, DType::F64] {
            for cfg in configs() {
                let u = Tensor::ones(input, dtype, &Device::Cpu)?;
                let points = Tensor::zeros(grid, dtype, &Device::Cpu)?;
                let (out, gradients) = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
                assert_eq!(out.dims(), [grid.0, input.1, grid.1, grid.2]);
                assert_eq!(gradients[0].dims(), u.dims());
                assert_eq!(gradients[1].dims(), points.dims());
                assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|&g| g == 0.0))));
            }
        }
    }
    Ok(())
}

/// Our policy for coordinates that are no place in the image; PyTorch has none.
#[test]
fn wild_coordinates() -> Result<()> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38, -1e38, 3.0e9, -3.0e9];
    for cfg in eq_5_configs() {
        for dtype in [DType::F32, DType::F64] {
            for along_x in [true, false] {
                let u = Tensor::arange(1.0, 13.0, &Device::Cpu)?.reshape((1, 1, 3, 4))?.to_dtype(dtype)?;
                let points = odd.map(|wild| if along_x { [wild, 0.0] } else { [0.0, wild] });
                let points = Tensor::new(&points, &Device::Cpu)?.reshape((1, 1, 7, 2))?.to_dtype(dtype)?;
                let (out, gradients) = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
                let what = format!("{cfg:?} {dtype:?} along x: {along_x}");
                let (first, last) = if along_x { (5.0, 8.0) } else { (2.5, 10.5) }; // in the middle of the other side
                let expected = match cfg.padding {
                    Padding::Zeros => [0.0; 7],
                    _ => [first, last, first, last, first, last, first],
                };
                assert_eq!(values(&out)?, expected, "{what}");
                let grid_gradient = values(&gradients[1])?;
                assert!(grid_gradient.iter().skip(usize::from(!along_x)).step_by(2).all(|&g| g == 0.0), "{what}");
                assert!(grid_gradient.iter().all(|g| g.is_finite()), "{what}");
                let received: f64 = values(&gradients[0])?.iter().sum();
                let sent: f64 = (0..7).map(|i| f64::from(i).cos()).sum();
                let expected = if cfg.padding == Padding::Zeros { 0.0 } else { sent };
                assert!((received - expected).abs() < 1e-6, "{what}: {received}");
            }
        }
    }
    Ok(())
}

/// Both coordinates wild at once, and the largest numbers that f64 has.
#[test]
fn wild_points() -> Result<()> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN];
    let points: Vec<f64> = odd.iter().flat_map(|&x| odd.iter().flat_map(move |&y| [x, y])).collect();
    let points = Tensor::from_vec(points, (1, 5, 5, 2), &Device::Cpu)?;
    let u = Tensor::new(&[[[[1.0, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
    for cfg in eq_5_configs() {
        let (out, gradients) = run(&[&u, &points], |t| grid_sample(&t[0], &t[1], cfg))?;
        let edge = |g: f64| f64::from(u8::from(g > 0.0));
        let value = |x: f64, y: f64| if cfg.padding == Padding::Zeros { 0.0 } else { 1.0 + edge(x) + 2.0 * edge(y) };
        let expected: Vec<f64> = odd.iter().flat_map(|&x| odd.iter().map(move |&y| value(x, y))).collect();
        assert_eq!(values(&out)?, expected, "{cfg:?}");
        assert!(values(&gradients[1])?.iter().all(|&g| g == 0.0), "{cfg:?}");
    }
    Ok(())
}

/// Pixels that a point does not touch are not read, whatever they hold.
#[test]
fn wild_pixels_stay_where_they_are() -> Result<()> {
    for cfg in eq_5_configs() {
        for wild in [f64::NAN, f64::INFINITY] {
            let mut u = vec![wild; 20];
            for (i, v) in [(6, 1.0), (7, 2.0), (11, 3.0), (12, 5.0), (19, 9.0)] {
                u[i] = v;
            }
            let u = Tensor::from_vec(u, (1, 1, 4, 5), &Device::Cpu)?;
            // Between four finite pixels; half off the last corner; far behind it; far before the first, which is wild.
            let cases = match cfg.padding {
                Padding::Zeros => {
                    vec![
                        ((1.25, 1.5), 2.375),
                        ((4.25, 3.5), 9.0 * 0.75 * 0.5),
                        ((99.0, 30.0), 0.0),
                        ((-30.0, -99.0), 0.0),
                    ]
                }
                _ => vec![((1.25, 1.5), 2.375), ((4.25, 3.5), 9.0), ((99.0, 30.0), 9.0)],
            };
            for (point, expected) in cases {
                let grid = grid_of_pixels((1, 1, 1), (4, 5), cfg.align_corners, |_| point)?;
                let (out, gradients) = run(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))?;
                assert!((values(&out)?[0] - expected).abs() < 1e-12, "{cfg:?} {point:?}: {out}");
                assert!(gradients.iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|g| g.is_finite()))));
            }
        }
    }
    Ok(())
}
