//! Transforms: the identity, families within families, empty and strided thetas, errors.

mod support;
mod transform_families;

use candle_core::{D, DType, Device, Result, Tensor};
use stn_core::antialias::supersample;
use stn_core::ops::{GridSampleConfig, Padding, grid_sample};
use stn_core::transform::{
    Affine, Attention, Projective, Similarity, ThinPlateSpline, Transform, Translation, affine_grid,
};
use support::{distance, message, run, values};
use transform_families::{away, families, image};

/// To what f32 allows: a coordinate near 1 is known to a quarter of the machine epsilon, and a side of n pixels has
/// n / 2 pixels a unit.
#[test]
fn identity_returns_the_input() -> Result<()> {
    for family in families()? {
        for (height, width) in [(5, 8), (1, 6), (7, 1), (1, 1), (28, 28), (42, 60)] {
            let in_f32 = f64::from(f32::EPSILON) * (1.0 + (height + width) as f64 / 8.0); // 1e-6 at 28x28
            for (dtype, tolerance) in [(DType::F32, in_f32), (DType::F64, 1e-12)] {
                let u = image((2, 3, height, width), dtype)?;
                let identity = Tensor::new(family.identity(), &Device::Cpu)?.to_dtype(dtype)?;
                let theta = identity.broadcast_as((2, family.num_params()))?;
                for padding in [Padding::Zeros, Padding::Border] {
                    for align_corners in [true, false] {
                        let cfg = GridSampleConfig::new(align_corners).padding(padding);
                        let distance = distance(&u, &family.warp(&u, &theta, (height, width), cfg)?)?;
                        let names = family.param_names();
                        assert!(distance <= tolerance, "{names:?} {height}x{width} {dtype:?} {cfg:?}: {distance}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Image and theta of half precision: the grid is computed in f32, and gradients come back in their own types.
#[test]
fn half_precision() -> Result<()> {
    let all = families()?.into_iter().chain([Box::new(supersample(Affine, 2)?) as Box<dyn Transform>]);
    for family in all {
        let names = family.param_names();
        for (half, tolerance) in [(DType::F16, 0.02), (DType::BF16, 0.15)] {
            let u = image((2, 3, 6, 5), half)?;
            let identity = Tensor::new(family.identity(), &Device::Cpu)?.to_dtype(half)?;
            let theta = identity.broadcast_as((2, family.num_params()))?.affine(0.9, 0.0)?;
            let cfg = GridSampleConfig::new(true);
            assert_eq!(family.grid(&theta, (4, 4), true)?.dtype(), DType::F32, "{names:?}");
            let (out, gradients) = run(&[&u, &theta], |t| family.warp(&t[0], &t[1], (4, 4), cfg))?;
            let mixed = family.warp(&u.to_dtype(DType::F32)?, &theta, (4, 4), cfg)?;
            assert!(
                mixed.dtype() == DType::F32 && distance(&mixed, &out)? < tolerance,
                "{names:?} {half:?}, image f32"
            );
            let (u, theta) = (u.to_dtype(DType::F64)?, theta.to_dtype(DType::F64)?);
            let (expected, _) = run(&[&u, &theta], |t| family.warp(&t[0], &t[1], (4, 4), cfg))?;
            assert!(distance(&out, &expected)? < tolerance, "{names:?} {half:?} {}", distance(&out, &expected)?);
            assert!(out.dtype() == half && gradients.iter().all(|gradient| gradient.dtype() == half), "{names:?}");
        }
    }
    Ok(())
}

/// The identity's grid is the same for every family and output, whatever its size.
#[test]
fn identity_grids_agree() -> Result<()> {
    for family in families()? {
        for out_size in [(3, 7), (9, 2), (1, 4), (30, 20)] {
            for align_corners in [true, false] {
                let [identity, expected] = [&family.identity(), &Affine.identity()]
                    .map(|theta| Tensor::new(&theta[..], &Device::Cpu)?.to_dtype(DType::F64)?.unsqueeze(0));
                let grid = family.grid(&identity?, out_size, align_corners)?;
                assert!(distance(&grid, &Affine.grid(&expected?, out_size, align_corners)?)? < 1e-13);
            }
        }
    }
    Ok(())
}

#[test]
fn counts_and_names_agree() -> Result<()> {
    for family in families()? {
        assert_eq!(family.param_names().len(), family.num_params());
        assert_eq!(family.identity().len(), family.num_params());
    }
    assert_eq!(Affine.param_names(), ["t11", "t12", "t13", "t21", "t22", "t23"]);
    assert_eq!(Attention.param_names(), ["s", "tx", "ty"]);
    assert_eq!(Translation { scale: 0.5 }.param_names(), ["tx", "ty"]);
    assert_eq!(Similarity.param_names(), ["a", "b", "tx", "ty"]);
    assert_eq!(Projective.param_names(), ["h11", "h12", "h13", "h21", "h22", "h23", "h31", "h32"]);
    assert_eq!(ThinPlateSpline::new(2, 2)?.param_names(), ["x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3"]);
    Ok(())
}

/// Eq. (2) is eq. (1) with four of its entries fixed, and a similarity without rotation.
#[test]
fn attention_translation_and_similarity_are_affine() -> Result<()> {
    let device = &Device::Cpu;
    let affine = Tensor::new(&[[0.6, 0.0, -0.3, 0.0, 0.6, 0.2]], device)?;
    let expected = values(&Affine.grid(&affine, (4, 6), false)?)?;
    let attention = Attention.grid(&Tensor::new(&[[0.6, -0.3, 0.2]], device)?, (4, 6), false)?;
    let translation = Translation { scale: 0.6 }.grid(&Tensor::new(&[[-0.3, 0.2]], device)?, (4, 6), false)?;
    let similarity = Similarity.grid(&Tensor::new(&[[0.6, 0.0, -0.3, 0.2]], device)?, (4, 6), false)?;
    assert_eq!([values(&attention)?, values(&translation)?, values(&similarity)?], [&expected[..]; 3]);
    let matrix = [[[0.6, 0.0, -0.3], [0.0, 0.6, 0.2]]];
    assert_eq!(Attention.matrix(&Tensor::new(&[[0.6, -0.3, 0.2]], device)?)?.to_vec3::<f64>()?, matrix);
    let matrix = [[[0.6, -0.7, -0.3], [0.7, 0.6, 0.2]]];
    assert_eq!(Similarity.matrix(&Tensor::new(&[[0.6, 0.7, -0.3, 0.2]], device)?)?.to_vec3::<f64>()?, matrix);
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

#[test]
fn empty_batch_and_empty_output() -> Result<()> {
    for family in families()? {
        let p = family.num_params();
        let (grid, gradient) = run(&[&away(&*family, 0)?], |theta| family.grid(&theta[0], (3, 2), true))?;
        assert_eq!((grid.dims(), gradient[0].dims()), (&[0, 3, 2, 2][..], &[0, p][..]));
        for out_size in [(0, 4), (4, 0)] {
            let (grid, gradient) = run(&[&away(&*family, 2)?], |theta| family.grid(&theta[0], out_size, true))?;
            assert_eq!(grid.dims(), [2, out_size.0, out_size.1, 2]);
            assert_eq!(values(&gradient[0])?, vec![0.0; 2 * p]);
        }
    }
    Ok(())
}

/// Transposed, narrowed and broadcast theta give what their contiguous copies give.
#[test]
fn strided_theta() -> Result<()> {
    for family in families()? {
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
fn errors_say_what_was_expected() -> Result<()> {
    for (family, name) in families()?.iter().zip(["translation", "attention", "similarity", "affine", "projective"]) {
        let p = family.num_params();
        let wrong = Tensor::zeros((2, p + 1), DType::F32, &Device::Cpu)?;
        let expected = format!("{name}: theta must be (N, {p}), got [2, {}]", p + 1);
        assert_eq!(message(family.grid(&wrong, (4, 4), true)), expected);
        let wrong = Tensor::zeros(p, DType::F32, &Device::Cpu)?;
        assert_eq!(message(family.grid(&wrong, (4, 4), true)), format!("{name}: theta must be (N, {p}), got [{p}]"));
    }
    Ok(())
}
