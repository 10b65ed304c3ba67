//! The frequency domain against the sums over the taps, which finite differences confirm (`tests/conv2d.rs`), in `f64`.

use super::super::backward::{self, Saved, Wanted};
use super::super::epilogue::Epilogue;
use super::super::geometry::Geometry;
use super::super::{Conv2dConfig, Sides, forward as direct};
use super::dft::{Dft, Line, fast_len};
use super::{Spectral, are_tame, backward, forward};
use crate::ops::interleave::groups;
use crate::ops::pool2d::Pool2dConfig;
use crate::ops::real::Real;
use candle_core::Shape;
use pulp::{Arch, Simd, WithSimd};
use std::f64::consts::TAU;

/// Numbers between -1 and 1 that repeat nowhere.
fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) as f64 * 0.618_033_988_75).fract() * 2. - 1.).collect()
}

fn assert_close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-11 * (1. + b.abs()), "at {i}: got {a}, expected {b}");
    }
}

#[test]
fn transforms_of_every_radix() {
    struct Run<'a>(&'a Dft<f64>, Vec<f64>, [Vec<f64>; 2]);
    impl WithSimd for Run<'_> {
        type Output = Vec<f64>;

        fn with_simd<S: Simd>(mut self, simd: S) -> Vec<f64> {
            let (re, im) = self.1.split_at_mut(self.0.len * <f64 as Real>::LANES);
            self.0.run(simd, re, im, Line { first: 0, step: 1 }, &mut self.2);
            self.1
        }
    }
    for len in [1, 2, 3, 4, 5, 6, 8, 9, 10, 16, 18, 20, 27, 30, 36, 50, 60, 64, 72, 75, 135] {
        let (dft, lanes) = (Dft::new(len), <f64 as Real>::LANES);
        let signal = numbers(dft.buffer(), len);
        let got = Arch::new().dispatch(Run(&dft, signal.clone(), [signal.clone(), signal.clone()]));
        let at = |values: &[f64], part: usize, i: usize, lane: usize| values[(part * len + i) * lanes + lane];
        for lane in 0..lanes {
            for k in 0..len {
                let (mut re, mut im) = (0., 0.);
                for j in 0..len {
                    let (sin, cos) = (-TAU * (j * k % len) as f64 / len as f64).sin_cos();
                    let (x, y) = (at(&signal, 0, j, lane), at(&signal, 1, j, lane));
                    re += x * cos - y * sin;
                    im += x * sin + y * cos;
                }
                assert_close(&[at(&got, 0, k, lane), at(&got, 1, k, lane)], &[re, im]);
            }
        }
    }
}

#[test]
fn lengths_are_rounded_up_to_products_of_small_primes() {
    assert_eq!([1, 7, 17, 26, 34, 68, 132].map(fast_len), [1, 8, 18, 27, 36, 72, 135]);
}

/// Batches of one image, of one group and a bit, of a whole pair and of a pair and a half; with and without padding; kernels as large as the image; images whose
/// spectra take several blocks.
const CASES: [([usize; 4], [usize; 4], Sides); 7] = [
    ([1, 1, 5, 6], [2, 1, 3, 2], Sides { top: 0, bottom: 0, left: 0, right: 0 }),
    ([9, 3, 8, 7], [5, 3, 3, 4], Sides { top: 1, bottom: 2, left: 3, right: 0 }),
    ([16, 2, 9, 9], [17, 2, 5, 5], Sides { top: 2, bottom: 2, left: 2, right: 2 }),
    ([20, 7, 10, 10], [3, 7, 7, 7], Sides { top: 0, bottom: 0, left: 0, right: 0 }),
    ([33, 2, 4, 5], [2, 2, 4, 5], Sides { top: 0, bottom: 0, left: 0, right: 0 }),
    ([3, 1, 12, 6], [1, 1, 1, 1], Sides { top: 0, bottom: 0, left: 0, right: 0 }),
    ([17, 1, 64, 64], [50, 1, 5, 5], Sides { top: 0, bottom: 0, left: 0, right: 0 }),
];

#[test]
fn a_case_has_several_blocks_whose_spectra_are_kept() -> candle_core::Result<()> {
    let (input, weight, padding) = CASES[CASES.len() - 1];
    let cfg = Conv2dConfig { padding, ..Default::default() };
    let geometry = Geometry::new(&Shape::from(&input[..]), &Shape::from(&weight[..]), cfg)?;
    let spectral = Spectral::<f64>::new(&geometry);
    assert!(spectral.blocks().len() > 1 && spectral.keeps_images());
    Ok(())
}

#[test]
fn maps_are_those_of_the_sums_over_the_taps() -> candle_core::Result<()> {
    for (input_shape, weight_shape, padding) in CASES {
        let cfg = Conv2dConfig { padding, ..Default::default() };
        let geometry = Geometry::new(&Shape::from(&input_shape[..]), &Shape::from(&weight_shape[..]), cfg)?;
        let (input, weight) = (numbers(input_shape.iter().product(), 1), numbers(weight_shape.iter().product(), 2));
        let bias = numbers(weight_shape[0], 3);
        for (relu, pool) in [(false, None), (true, Some(Pool2dConfig::new(2)))] {
            if pool.is_some() && geometry.out.0.min(geometry.out.1) < 2 {
                continue;
            }
            let epilogue = Epilogue::new(geometry.out, relu, pool)?;
            let expected = direct::run(&geometry, &epilogue, &input, &weight, &bias);
            let (mut out, mut cells) = (vec![f64::NAN; expected.out.len()], vec![7; expected.cells.len()]);
            forward(&geometry, &epilogue, (&input, &weight, &bias), (&mut out, &mut cells));
            assert_close(&out, &expected.out);
            assert_eq!(cells, expected.cells);
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_sums_over_the_taps() -> candle_core::Result<()> {
    for (input_shape, weight_shape, padding) in CASES {
        let cfg = Conv2dConfig { padding, ..Default::default() };
        let geometry = Geometry::new(&Shape::from(&input_shape[..]), &Shape::from(&weight_shape[..]), cfg)?;
        let (input, weight) = (numbers(input_shape.iter().product(), 1), numbers(weight_shape.iter().product(), 2));
        let grad = numbers(geometry.images * geometry.filters * geometry.positions(), 4);
        let saved = Saved { input: &input, weight: &weight, out: &[], cells: &[], spectra: None };
        let epilogue = Epilogue::new(geometry.out, false, None)?;
        let all = Wanted { input: true, weight: true };
        let expected = backward::run(&geometry, &epilogue, &saved, &grad, all);
        // (groups, O, H' W', lanes)
        let (lanes, plane) = (<f64 as Real>::LANES, geometry.positions());
        let mut maps = vec![0.; groups::<f64>(geometry.images) * lanes * geometry.filters * plane];
        for (i, &value) in grad.iter().enumerate() {
            let (image, filter, pixel) = (i / plane / geometry.filters, i / plane % geometry.filters, i % plane);
            maps[((image / lanes * geometry.filters + filter) * plane + pixel) * lanes + image % lanes] = value;
        }
        // As the forward pass leaves it, and where that went another way.
        let bias = vec![0.; geometry.filters];
        let (mut out, mut cells) = (vec![0.; grad.len()], vec![]);
        let known = forward(&geometry, &epilogue, (&input, &weight, &bias), (&mut out, &mut cells));
        for spectra in [None, Some(&known)] {
            let saved = Saved { spectra, ..saved };
            for wanted in [all, Wanted { input: true, weight: false }, Wanted { input: false, weight: true }] {
                let (dx, dw) = backward(&geometry, &saved, &maps, wanted);
                assert_eq!((dx.is_some(), dw.is_some()), (wanted.input, wanted.weight));
                dx.iter().for_each(|dx| assert_close(dx, expected.input.as_deref().unwrap_or_default()));
                dw.iter().for_each(|dw| assert_close(dw, expected.weight.as_deref().unwrap_or_default()));
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_not_finite_or_huge_is_found() {
    assert!(are_tame(&[&[1f32, -1e12, f32::MIN_POSITIVE], &[]]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e13, -f32::MAX] {
        assert!(!are_tame(&[&[0.; 20_000], &[1., bad, 2.]]));
    }
}
