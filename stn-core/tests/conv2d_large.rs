//! Convolutions so large that in `f32` they go by way of the frequency domain, against `f64`, which never does.

mod support;

use candle_core::{DType, Result, Tensor};
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, Pool2dConfig, conv_block, conv2d};
use support::{larger, random, run, values};

type Op = fn(&[Tensor]) -> Result<Tensor>;

fn padded(t: &[Tensor]) -> Result<Tensor> {
    conv2d(&t[0], &t[1], Some(&t[2]), Conv2dConfig::default().padding(2))
}

fn pooled(t: &[Tensor]) -> Result<Tensor> {
    conv_block(&t[0], &t[1], Some(&t[2]), ConvBlockConfig::default().pool(Pool2dConfig::new(2)))
}

/// Input, weight and bias of a layer whose sums over the taps would take several times as long.
fn layer(images: usize) -> Result<[Tensor; 3]> {
    Ok([random((images, 40, 18, 15), 1)?, (random((48, 40, 7, 7), 2)? * 0.05)?, random(48, 3)?])
}

fn to_f32(tensors: &[Tensor; 3]) -> Result<[Tensor; 3]> {
    let [a, b, c] = tensors;
    Ok([a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?, c.to_dtype(DType::F32)?])
}

/// The largest difference over the largest value.
fn relative(got: &Tensor, expected: &Tensor) -> Result<f64> {
    let expected = values(expected)?;
    let largest = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
    Ok(values(got)?.iter().zip(&expected).fold(0f64, |max, (a, b)| larger(max, (a - b).abs())) / largest)
}

#[test]
fn maps_and_gradients_are_those_of_f64() -> Result<()> {
    // Pairs of groups of images, whole and not.
    for images in [64, 37] {
        let inputs = layer(images)?;
        let (out, gradients) = run(&to_f32(&inputs)?.each_ref(), padded as Op)?;
        let (expected, expected_gradients) = run(&inputs.each_ref(), padded as Op)?;
        assert!(relative(&out, &expected)? < 1e-5, "{images}");
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(relative(gradient, expected)? < 1e-5, "{images}: {:?}", expected.shape());
        }
    }
    Ok(())
}

#[test]
fn pools_take_the_largest_of_what_it_gives() -> Result<()> {
    let inputs = layer(64)?;
    let (out, gradients) = run(&to_f32(&inputs)?.each_ref(), pooled as Op)?;
    let (expected, expected_gradients) = run(&inputs.each_ref(), pooled as Op)?;
    assert!(relative(&out, &expected)? < 1e-5);
    // Where two pixels of a window are within a rounding of each other, another one may win; few do.
    for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
        let (got, expected) = (values(gradient)?, values(expected)?);
        let largest = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
        let differing =
            got.iter().zip(&expected).filter(|(a, b)| larger(0.0, (*a - *b).abs()) > 1e-4 * largest).count();
        assert!(differing * 1000 <= got.len(), "{differing} of {}", got.len());
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let inputs = to_f32(&layer(67)?)?;
    for op in [padded as Op, pooled as Op] {
        let on = |threads| -> Result<Vec<u64>> {
            let (out, gradients) = support::with_threads(threads, || run(&inputs.each_ref(), op))?;
            let all = [&out].into_iter().chain(&gradients).map(values).collect::<Result<Vec<_>>>()?;
            Ok(all.concat().iter().map(|x| x.to_bits()).collect())
        };
        assert!(on(1)? == on(4)?);
    }
    Ok(())
}

#[test]
fn a_nan_stays_in_its_image_and_under_its_taps() -> Result<()> {
    let [input, weight, bias] = to_f32(&layer(64)?)?;
    let clean = values(&padded(&[input.clone(), weight.clone(), bias.clone()])?)?;
    let mut pixels = input.flatten_all()?.to_vec1::<f32>()?;
    pixels[3 * 40 * 18 * 15] = f32::NAN; // the first pixel of the fourth image
    let spoilt = Tensor::from_vec(pixels, input.shape(), input.device())?;
    let out = padded(&[spoilt, weight, bias])?;
    let (_, filters, height, width) = out.dims4()?;
    for (i, (&got, &expected)) in values(&out)?.iter().zip(&clean).enumerate() {
        let (image, y, x) = (i / (filters * height * width), i / width % height, i % width);
        if image == 3 && y <= 2 && x <= 2 {
            assert!(got.is_nan(), "image {image}, ({y}, {x})");
        } else {
            assert!((got - expected).abs() < 1e-3, "image {image}, ({y}, {x}): {got}, {expected}");
        }
    }
    Ok(())
}
