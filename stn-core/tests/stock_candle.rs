//! The comparison that justifies ops of our own: one check of gradients, which they pass and Candle's fail.
//!
//! A test here that breaks after an update of Candle is good news: the op named in it may no longer be needed.

mod support;

use candle_core::{Device, Result, Tensor, Var};
use stn_core::ops::{
    Conv2dConfig, GridSampleConfig, Padding, Pool2dConfig, avg_pool2d, conv2d, grid_sample, max_pool2d,
};
use support::{gradient_error, random};

/// What a right gradient is allowed to be off by, and what a wrong one is at least.
const RIGHT: f64 = 1e-6;
const WRONG: f64 = 0.1;

/// Maps without ties.
fn maps(h: usize, w: usize) -> Result<Tensor> {
    Tensor::arange(0.0, (4 * h * w) as f64, &Device::Cpu)?.affine(2.4, 0.0)?.sin()?.reshape((2, 2, h, w))
}

/// Guards `grid_sample`, which has no counterpart in Candle.
#[test]
fn sampler() -> Result<()> {
    let (u, grid) = (random((2, 2, 5, 4), 1)?, (random((2, 3, 5, 2), 2)? * 1.5)?);
    for padding in [Padding::Zeros, Padding::Border] {
        for align_corners in [true, false] {
            let cfg = GridSampleConfig::new(align_corners).padding(padding);
            assert!(gradient_error(&[&u, &grid], |t| grid_sample(&t[0], &t[1], cfg))? < RIGHT, "{cfg:?}");
        }
    }
    Ok(())
}

/// Guards `max_pool2d`: Candle scales the gradient by 1/k² and loses part of it where k does not divide the sides.
#[test]
fn max_pool() -> Result<()> {
    for (h, w, k) in [(6, 4, 2), (7, 5, 2), (6, 9, 3)] {
        let xs = &maps(h, w)?;
        assert!(gradient_error(&[xs], |t| max_pool2d(&t[0], Pool2dConfig::new(k)))? < RIGHT);
        assert!(
            gradient_error(&[xs], |t| t[0].max_pool2d(k))? > WRONG,
            "Candle's max_pool2d has a right gradient at {h}x{w}"
        );
    }
    Ok(())
}

/// Guards `max_pool2d`: the sum of an 11x11 map's pooled values has 25 derivatives of one; Candle's sum to 4.5.
#[test]
fn max_pool_keeps_the_sum() -> Result<()> {
    let xs = Var::from_tensor(&maps(11, 11)?.narrow(0, 0, 1)?.narrow(1, 0, 1)?)?;
    let total = |out: Tensor| -> Result<f64> {
        let grads = out.sum_all()?.backward()?;
        grads.get(&xs).expect("a gradient").sum_all()?.to_scalar()
    };
    assert_eq!(total(max_pool2d(&xs, Pool2dConfig::new(2))?)?, 25.0);
    assert!(total(xs.max_pool2d(2)?)? < 10.0, "Candle's max_pool2d keeps the gradient's sum");
    Ok(())
}

/// Guards `avg_pool2d`: Candle is right where k divides the sides, and only there.
#[test]
fn avg_pool() -> Result<()> {
    for (h, w, divides) in [(6, 4, true), (7, 5, false), (6, 5, false)] {
        let xs = &maps(h, w)?;
        assert!(gradient_error(&[xs], |t| avg_pool2d(&t[0], Pool2dConfig::new(2)))? < RIGHT);
        let stock = gradient_error(&[xs], |t| t[0].avg_pool2d(2))?;
        assert!(if divides { stock < RIGHT } else { stock > WRONG }, "Candle's avg_pool2d at {h}x{w}: {stock}");
    }
    Ok(())
}

/// Guards both pools: Candle has no gradient for windows that overlap.
#[test]
fn overlapping_windows() -> Result<()> {
    let xs = &maps(7, 6)?;
    let cfg = Pool2dConfig::new(3).stride(2);
    assert!(gradient_error(&[xs], |t| max_pool2d(&t[0], cfg))? < RIGHT);
    assert!(gradient_error(&[xs], |t| avg_pool2d(&t[0], cfg))? < RIGHT);
    assert!(gradient_error(&[xs], |t| t[0].max_pool2d_with_stride(3, 2)).is_err(), "Candle's max_pool2d overlaps");
    assert!(gradient_error(&[xs], |t| t[0].avg_pool2d_with_stride(3, 2)).is_err(), "Candle's avg_pool2d overlaps");
    Ok(())
}

/// Guards `conv2d`: Candle's backward pass with a stride of 2 ends in an error where the sides round differently.
#[test]
fn strided_convolution() -> Result<()> {
    let weight = &random((3, 2, 3, 3), 2)?;
    let cfg = Conv2dConfig::default().stride(2);
    for (h, w, works) in [(7, 7, true), (8, 7, false)] {
        let xs = &maps(h, w)?;
        assert!(gradient_error(&[xs, weight], |t| conv2d(&t[0], &t[1], None, cfg))? < RIGHT);
        let stock = gradient_error(&[xs, weight], |t| t[0].conv2d(&t[1], 0, 2, 1, 1));
        assert_eq!(stock.is_ok_and(|error| error < RIGHT), works, "Candle's conv2d at {h}x{w}");
    }
    Ok(())
}

/// Guards `conv2d`: Candle computes the gradient of an image that nobody asks for.
#[test]
fn convolution_of_untracked_images() -> Result<()> {
    let (xs, weight) = (maps(6, 6)?, Var::from_tensor(&random((3, 2, 3, 3), 2)?)?);
    let ours = conv2d(&xs, &weight, None, Conv2dConfig::default())?.sum_all()?.backward()?;
    let stock = xs.conv2d(&weight, 0, 1, 1, 1)?.sum_all()?.backward()?;
    assert!(ours.get(&xs).is_none());
    assert!(stock.get(&xs).is_some(), "Candle's conv2d leaves the image's gradient out");
    Ok(())
}
