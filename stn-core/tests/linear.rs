//! The fully connected layer: the same as Candle's own operations; finite differences; views; errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{linear, linear_relu};
use support::{bits, check_gradients, distance, message, random, run, with_threads};

fn of_candle(t: &[Tensor]) -> Result<Tensor> {
    t[0].matmul(&t[1].t()?)?.broadcast_add(&t[2])
}

#[test]
fn equals_candles_operations() -> Result<()> {
    for (n, k, o) in [(1, 1, 1), (3, 5, 2), (64, 300, 40), (0, 3, 2), (2, 0, 3), (2, 3, 0)] {
        let inputs = [&random((n, k), 1)?, &random((o, k), 2)?, &random(o, 3)?];
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
            let inputs = inputs.map(|t| t.to_dtype(dtype)).into_iter().collect::<Result<Vec<_>>>()?;
            let inputs: Vec<_> = inputs.iter().collect();
            type F = fn(&[Tensor]) -> Result<Tensor>;
            let pairs: [(F, F); 2] = [
                (|t| linear(&t[0], &t[1], &t[2]), of_candle),
                (|t| linear_relu(&t[0], &t[1], &t[2]), |t| of_candle(t)?.relu()),
            ];
            for (ours, candles) in pairs {
                let (out, gradients) = run(&inputs, ours)?;
                let expected = if n * k * o == 0 { vec![] } else { run(&inputs, candles)?.1 };
                assert!(distance(&out, &candles(&inputs.iter().map(|&t| t.clone()).collect::<Vec<_>>())?)? < tolerance);
                for (got, expected) in gradients.iter().zip(&expected) {
                    assert!(distance(got, expected)? < tolerance, "{n} {k} {o} {dtype:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let inputs = [&random((4, 5), 1)?, &random((3, 5), 2)?, &random(3, 3)?];
    check_gradients("linear", &inputs, |t| linear(&t[0], &t[1], &t[2]))?;
    check_gradients("linear_relu", &inputs, |t| linear_relu(&t[0], &t[1], &t[2]))
}

/// As in PyTorch and candle-nn.
#[test]
fn any_leading_dimensions() -> Result<()> {
    let (w, b) = (random((4, 3), 2)?, random(4, 3)?);
    for shape in [&[3][..], &[2, 5, 3], &[2, 1, 5, 3], &[0, 2, 3]] {
        let x = random(shape, 1)?;
        let rows = x.reshape((x.elem_count() / 3, 3))?;
        let (out, gradients) = run(&[&x, &w, &b], |t| linear_relu(&t[0], &t[1], &t[2]))?;
        let (expected, expected_gradients) = run(&[&rows, &w, &b], |t| linear_relu(&t[0], &t[1], &t[2]))?;
        assert_eq!(out.dims(), [&shape[..shape.len() - 1], &[4]].concat());
        assert!(distance(&out.reshape(expected.shape())?, &expected)? == 0.0, "{shape:?}");
        assert!(distance(&gradients[0].reshape(rows.shape())?, &expected_gradients[0])? == 0.0, "{shape:?}");
        assert!(distance(&gradients[1], &expected_gradients[1])? == 0.0, "{shape:?}");
    }
    Ok(())
}

#[test]
fn views_and_upstream_views_make_no_difference() -> Result<()> {
    let inputs = [&random((5, 4), 1)?, &random((5, 3), 2)?, &random(7, 3)?];
    let f = |t: &[Tensor], copy: bool| {
        let (x, w, b) = (t[0].t()?, t[1].t()?, t[2].narrow(0, 2, 3)?);
        let (x, w, b) = if copy { (x.contiguous()?, w.contiguous()?, b.copy()?) } else { (x, w, b) };
        linear(&x, &w, &b)?.t()
    };
    let (out, gradients) = run(&inputs, |t| f(t, false))?;
    let (expected, expected_gradients) = run(&inputs, |t| f(t, true)?.contiguous())?;
    assert_eq!(bits([&out].into_iter().chain(&gradients))?, bits([&expected].into_iter().chain(&expected_gradients))?);
    Ok(())
}

#[test]
fn gradients_only_where_asked() -> Result<()> {
    let tensors = [random((2, 5), 1)?, random((3, 5), 2)?, random(3, 3)?];
    for tracked in 1..8 {
        let mut inputs = tensors.clone();
        for (i, input) in inputs.iter_mut().enumerate().filter(|(i, _)| tracked >> i & 1 == 1) {
            *input = Var::from_tensor(&tensors[i])?.into_inner();
        }
        let grads = linear_relu(&inputs[0], &inputs[1], &inputs[2])?.sum_all()?.backward()?;
        for (i, input) in inputs.iter().enumerate() {
            assert_eq!(grads.get(input).is_some(), tracked >> i & 1 == 1, "input {i} of {tracked:03b}");
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for (n, k, o) in [(256, 784, 208), (16, 3072, 512)] {
        let inputs = [&random((n, k), 1)?, &random((o, k), 2)?, &random(o, 3)?].map(|t| t.to_dtype(DType::F32));
        let inputs = inputs.into_iter().collect::<Result<Vec<_>>>()?;
        let on = |threads| -> Result<_> {
            let inputs: Vec<_> = inputs.iter().collect();
            let (out, gradients) = with_threads(threads, || run(&inputs, |t| linear_relu(&t[0], &t[1], &t[2])))?;
            bits([&out].into_iter().chain(&gradients))
        };
        assert!(on(1)? == on(4)?, "{n} {k} {o}");
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let f32s = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
    let expected = "linear: input, weight and bias must be (.., K), (O, K) and (O,), got ";
    for (x, w, b) in [
        (&[2, 3][..], &[4, 5][..], &[4][..]),
        (&[2, 3, 1], &[4, 3], &[4]),
        (&[2, 3], &[4, 3], &[3]),
        (&[], &[1, 1], &[1]),
    ] {
        assert_eq!(message(linear(&f32s(x), &f32s(w), &f32s(b))), format!("{expected}{:?}", (x, w, b)));
    }
    let doubles = Tensor::zeros(4, DType::F64, &Device::Cpu).expect("zeros");
    assert_eq!(
        message(linear(&f32s(&[2, 3]), &f32s(&[4, 3]), &doubles)),
        "linear: input, weight and bias must have the same dtype, got [F32, F32, F64]"
    );
    let half = |shape: &[usize]| Tensor::zeros(shape, DType::F16, &Device::Cpu).expect("zeros");
    assert_eq!(
        message(linear_relu(&half(&[2, 3]), &half(&[4, 3]), &half(&[4]))),
        "linear_relu: the dtype must be f32 or f64, got F16; convert the tensors with to_dtype"
    );
}
