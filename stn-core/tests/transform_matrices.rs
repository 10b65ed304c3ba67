//! Products and inverses of the affine families' matrices.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use stn_core::ops::{GridSampleConfig, Padding};
use stn_core::transform::{Affine, Attention, Similarity, Transform, affine_grid, compose, invert};
use support::{check_gradients, distance, message, random, run, values};

/// Affine matrices not far from the identity.
fn matrices(n: usize, seed: u64) -> Result<Tensor> {
    let identity = Tensor::new(&[[[1.0, 0., 0.], [0., 1., 0.]]], &Device::Cpu)?;
    (random((n, 2, 3), seed)? * 0.4)?.broadcast_add(&identity)
}

/// The images of points (N, P, 2).
fn map(matrix: &Tensor, points: &Tensor) -> Result<Tensor> {
    let (n, p, _) = points.dims3()?;
    let ones = Tensor::ones((n, p, 1), DType::F64, &Device::Cpu)?;
    Tensor::cat(&[points, &ones], 2)?.matmul(&matrix.transpose(1, 2)?)
}

#[test]
fn first_b_then_a() -> Result<()> {
    let (a, b, points) = (matrices(3, 1)?, matrices(3, 2)?, random((3, 5, 2), 3)?);
    let expected = map(&a, &map(&b, &points)?)?;
    assert!(distance(&map(&compose(&a, &b)?, &points)?, &expected)? < 1e-14);
    assert!(distance(&map(&compose(&b, &a)?, &points)?, &expected)? > 1e-2); // the order counts
    Ok(())
}

/// Two transformers in a row are one with the product of their matrices, in the order in which they are applied. On an image
/// that is linear in x and y, for which sampling twice loses nothing.
#[test]
fn transformers_in_a_row() -> Result<()> {
    let cfg = GridSampleConfig::new(true).padding(Padding::Border);
    let points = affine_grid(&Tensor::new(&[[[1.0, 0., 0.], [0., 1., 0.]]], &Device::Cpu)?, (9, 9), true)?;
    let u = points.permute((0, 3, 1, 2))?; // channels x and y
    let first = Tensor::new(&[[0.5, 0.2, 0.1, -0.2]], &Device::Cpu)?; // within the image
    let second = Tensor::new(&[[0.6, -0.3, 0.2]], &Device::Cpu)?;
    let v = Similarity.warp(&u, &first, (9, 9), cfg)?;
    let w = Attention.warp(&v, &second, (9, 9), cfg)?;
    let both = compose(&Similarity.matrix(&first)?, &Attention.matrix(&second)?)?;
    let at_once = Affine.warp(&u, &both.flatten_from(1)?, (9, 9), cfg)?;
    assert!(distance(&w, &at_once)? < 1e-13);
    Ok(())
}

#[test]
fn inverses_lead_back() -> Result<()> {
    let m = matrices(5, 4)?;
    let identity = Tensor::new(&[[[1.0, 0., 0.], [0., 1., 0.]]], &Device::Cpu)?.broadcast_as((5, 2, 3))?;
    assert!(distance(&compose(&m, &invert(&m)?)?, &identity)? < 1e-14);
    assert!(distance(&compose(&invert(&m)?, &m)?, &identity)? < 1e-14);
    assert!(distance(&invert(&invert(&m)?)?, &m)? < 1e-14);
    let in_f32 = m.to_dtype(DType::F32)?;
    assert!(distance(&compose(&in_f32, &invert(&in_f32)?)?, &identity.to_dtype(DType::F32)?)? < 1e-6);
    // Of a similarity also without rounding.
    let quarter = Similarity.matrix(&Tensor::new(&[[0.0, 2.0, 1.0, 0.5]], &Device::Cpu)?)?;
    assert_eq!(values(&invert(&quarter)?)?, [0.0, 0.5, -0.25, -0.5, 0.0, 0.5]);
    Ok(())
}

#[test]
fn gradients() -> Result<()> {
    let (a, b) = (matrices(2, 5)?, matrices(2, 6)?);
    check_gradients("compose", &[&a, &b], |m| compose(&m[0], &m[1]))?;
    check_gradients("invert", &[&a], |m| invert(&m[0]))?;
    check_gradients("both", &[&a, &b], |m| compose(&invert(&m[0])?, &compose(&m[1], &m[0])?))?;
    let full = (random((2, 3, 3), 7)? + 0.2)?;
    check_gradients("compose 3x3", &[&full, &full], |m| compose(&m[0], &m[1]))?;
    check_gradients("invert 3x3", &[&full], |m| invert(&m[0]))?;
    let (of_f32, gradients) = run(&[&a.to_dtype(DType::F32)?], |m| invert(&m[0]))?;
    assert_eq!((of_f32.dtype(), gradients[0].dtype()), (DType::F32, DType::F32));
    Ok(())
}

/// Small and large scales have inverses; only what rounding makes of zero has none.
#[test]
fn singular_matrices_are_refused() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let attention = |s: f64| -> Result<Tensor> {
            Attention.matrix(&Tensor::new(&[[1.0, 0.0, 0.0], [s, 0.5, 0.5]], &Device::Cpu)?.to_dtype(dtype)?)
        };
        for scale in [1e-15, -1e-15, 1e15] {
            let m = attention(scale)?;
            let found = values(&invert(&m)?)?;
            assert!((found[6] * scale - 1.0).abs() < 1e-6, "{found:?}");
        }
        for scale in [0.0, f64::NAN, f64::INFINITY] {
            let message = message(invert(&attention(scale)?));
            assert!(message.starts_with("invert: matrix 1 has no inverse: ["), "{message}");
        }
        let line = Tensor::new(&[[[0.1, 0.2, 0.0], [0.3, 0.6, 0.0]]], &Device::Cpu)?.to_dtype(dtype)?;
        assert!(message(invert(&line)).starts_with("invert: matrix 0 has no inverse"));
    }
    let small = Attention.matrix(&Tensor::new(&[[1e-42f32, 0.0, 0.0]], &Device::Cpu)?)?; // 1e42 is no f32
    assert!(message(invert(&small)).starts_with("invert: matrix 0 has no inverse"));
    // Products of what is too large: infinities and NaN, but no panic.
    let huge = Attention.matrix(&Tensor::new(&[[1e38f32, f32::NAN, -1e38]], &Device::Cpu)?)?;
    assert_eq!(compose(&huge, &huge)?.dims(), [1, 2, 3]);
    Ok(())
}

#[test]
fn shapes() -> Result<()> {
    let m = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let (f32, f64) = (DType::F32, DType::F64);
    for shape in [[0, 2, 3], [0, 3, 3]] {
        let (product, gradients) = run(&[&m(&shape, f64)?], |x| compose(&invert(&x[0])?, &x[0]))?;
        assert_eq!((product.dims(), gradients[0].dims()), (&shape[..], &shape[..]));
    }
    let strided = random((3, 2, 2), 8)?.permute((1, 2, 0))?; // (2, 2, 3)
    assert_eq!(values(&invert(&strided)?)?, values(&invert(&strided.force_contiguous()?)?)?);
    let message_of = message(compose(&m(&[1, 2, 3], f32)?, &m(&[2, 2, 3], f32)?));
    assert_eq!(message_of, "compose: the matrices must have one shape, got [1, 2, 3] and [2, 2, 3]");
    let message_of = message(compose(&m(&[1, 6], f32)?, &m(&[1, 6], f32)?));
    assert_eq!(message_of, "compose: the matrices must be (N, 2, 3) or (N, 3, 3), got [1, 6]");
    let message_of = message(invert(&m(&[1, 3, 4], f32)?));
    assert_eq!(message_of, "invert: the matrices must be (N, 2, 3) or (N, 3, 3), got [1, 3, 4]");
    assert_eq!(
        message(invert(&m(&[1, 3, 3], DType::U8)?)),
        "invert: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype"
    );
    Ok(())
}
