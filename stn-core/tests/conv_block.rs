//! Convolution, bias, ReLU and max-pooling in one pass: the same as one after the other, values and gradients.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, Pool2dConfig, Sides, conv_block, conv2d, max_pool2d};
use support::{bits, check_gradients, distance, message, random, run, values, with_threads};

/// The block of single operations, each of which has tests of its own.
fn one_by_one(t: &[Tensor], cfg: ConvBlockConfig) -> Result<Tensor> {
    let map = conv2d(&t[0], &t[1], Some(&t[2]), cfg.conv)?.relu()?;
    cfg.pool.map_or(Ok(map.clone()), |pool| max_pool2d(&map, pool))
}

fn block(t: &[Tensor], cfg: ConvBlockConfig) -> Result<Tensor> {
    conv_block(&t[0], &t[1], Some(&t[2]), cfg)
}

fn tensors(input: (usize, usize, usize, usize), weight: (usize, usize, usize, usize)) -> Result<[Tensor; 3]> {
    Ok([random(input, 1)?, random(weight, 2)?, random(weight.0, 3)?])
}

fn check(
    input: (usize, usize, usize, usize),
    weight: (usize, usize, usize, usize),
    cfg: ConvBlockConfig,
) -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-3)] {
        let [u, w, b] = tensors(input, weight)?;
        let inputs = [&u.to_dtype(dtype)?, &w.to_dtype(dtype)?, &b.to_dtype(dtype)?];
        let (out, gradients) = run(&inputs, |t| block(t, cfg))?;
        let (expected, expected_gradients) = run(&inputs, |t| one_by_one(t, cfg))?;
        let pairs = [(&out, &expected)].into_iter().chain(gradients.iter().zip(&expected_gradients));
        for (part, (got, expected)) in pairs.enumerate() {
            let distance = distance(got, expected)?;
            assert!(distance < tolerance, "{input:?} {weight:?} {cfg:?} {dtype:?}, part {part}: {distance}");
        }
    }
    Ok(())
}

/// Pools of every kind: overlapping, with gaps, padded, rounded up, of one pixel, none.
fn pools() -> [Option<Pool2dConfig>; 8] {
    [
        None,
        Some(Pool2dConfig::new(1)),
        Some(Pool2dConfig::new(2)),
        Some(Pool2dConfig::new(2).ceil_mode(true)),
        Some(Pool2dConfig::new(3).stride(1)),
        Some(Pool2dConfig::new(3).stride(2).padding(1)),
        Some(Pool2dConfig::new(2).stride(3)),
        Some(Pool2dConfig { kernel: (1, 3), stride: (2, 1), padding: (0, 1), ceil_mode: true }),
    ]
}

#[test]
fn equals_the_single_operations() -> Result<()> {
    let unequal = Sides { top: 1, bottom: 0, left: 2, right: 1 };
    for pool in pools() {
        let with = |conv| ConvBlockConfig { conv, pool };
        let plain = Conv2dConfig::default();
        for n in [1, 3, 17] {
            check((n, 1, 9, 8), (3, 1, 3, 2), with(plain))?;
        }
        check((17, 2, 12, 21), (3, 2, 3, 3), with(plain.padding(1)))?;
        check((5, 4, 12, 11), (7, 4, 3, 3), with(plain.stride(2).padding(2)))?;
        check((5, 4, 12, 11), (6, 4, 3, 2), with(plain.dilation(2).padding(1)))?;
        check((5, 6, 9, 9), (4, 3, 3, 3), with(Conv2dConfig { padding: unequal, ..plain.groups(2) }))?;
        check((2, 4, 9, 9), (4, 1, 3, 3), with(plain.groups(4).padding(1)))?;
        check((2, 4, 9, 9), (20, 4, 3, 3), with(plain.padding(1)))?; // so few images that the pool is an operation of its own
    }
    Ok(())
}

/// Channels times columns of the kernel: rows of one vector, of several, of a part of one; kernels of one row and of many.
#[test]
fn equals_the_single_operations_for_every_row_length() -> Result<()> {
    let cfg = ConvBlockConfig::default().pool(Pool2dConfig::new(2));
    for (channels, kernel) in [(1, 1), (1, 9), (3, 5), (7, 5), (20, 2), (32, 3), (37, 3), (64, 5), (67, 7), (99, 5)] {
        check((3, channels, kernel + 3, kernel + 4), (2, channels, kernel, kernel), cfg)?;
    }
    check((3, 37, 19, 37), (2, 37, 5, 5), cfg)?; // an image's rows, too, and its channels are more than a vector
    check((40, 2, 6, 6), (9, 2, 3, 3), cfg) // several parts of filters and of images
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for pool in pools() {
        for conv in [Conv2dConfig::default(), Conv2dConfig::default().stride(2).padding(1)] {
            let inputs = tensors((2, 2, 8, 7), (3, 2, 3, 2))?;
            check_gradients(&format!("{conv:?} {pool:?}"), &inputs.each_ref(), |t| {
                block(t, ConvBlockConfig { conv, pool })
            })?;
        }
    }
    Ok(())
}

/// Of equal values the first gets the gradient; zero has none; NaN passes the ReLU and is the largest.
#[test]
fn ties_zeros_and_nan() -> Result<()> {
    let cfg = ConvBlockConfig::default().pool(Pool2dConfig::new(2));
    let nan = f64::NAN;
    let images = [[1., 1., 1., 1.], [0., 0., 0., 0.], [-1., -2., -0., -3.], [-1., 2., 2., 1.], [3., nan, 4., -1.]];
    let u = Var::from_vec(images.concat(), (5, 1, 2, 2), &Device::Cpu)?;
    let w = Tensor::ones((1, 1, 1, 1), DType::F64, &Device::Cpu)?;
    let out = conv_block(&u, &w, None, cfg)?;
    assert_eq!(values(&out)?[..4], [1., 0., 0., 2.]);
    assert!(values(&out)?[4].is_nan());
    let grads = out.sum_all()?.backward()?;
    let grad = values(grads.get(&u).expect("a gradient"))?;
    let expected = [[1., 0., 0., 0.], [0.; 4], [0.; 4], [0., 1., 0., 0.], [0., 1., 0., 0.]];
    assert_eq!(grad, expected.concat());
    // One image alone, whose pool is an operation of its own.
    for (i, image) in images.iter().enumerate() {
        let u = Var::from_vec(image.to_vec(), (1, 1, 2, 2), &Device::Cpu)?;
        let alone = conv_block(&u, &w, None, cfg)?;
        assert_eq!(values(&alone)?[0].to_bits(), values(&out)?[i].to_bits(), "image {i}");
        let grads = alone.sum_all()?.backward()?;
        assert_eq!(values(grads.get(&u).expect("a gradient"))?, expected[i], "image {i}");
    }
    Ok(())
}

#[test]
fn gradients_only_where_asked() -> Result<()> {
    for pool in [None, Some(Pool2dConfig::new(2))] {
        let tensors = tensors((2, 2, 5, 5), (3, 2, 3, 3))?;
        for tracked in 0..8 {
            let mut inputs = tensors.clone();
            for (i, input) in inputs.iter_mut().enumerate().filter(|(i, _)| tracked >> i & 1 == 1) {
                *input = Var::from_tensor(&tensors[i])?.into_inner();
            }
            let grads = block(&inputs, ConvBlockConfig { pool, ..Default::default() })?.sum_all()?.backward()?;
            for (i, input) in inputs.iter().enumerate() {
                assert_eq!(grads.get(input).is_some(), tracked >> i & 1 == 1, "input {i} of {tracked:03b}, {pool:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for pool in [None, Some(Pool2dConfig::new(2))] {
        let cfg = ConvBlockConfig { conv: Conv2dConfig::default().padding(1), pool };
        for (input, weight) in
            [((67, 1, 16, 16), (8, 1, 5, 5)), ((67, 8, 6, 6), (8, 8, 3, 3)), ((5, 20, 12, 10), (30, 20, 3, 3))]
        {
            let [u, w, b] = tensors(input, weight)?;
            let inputs = [&u.to_dtype(DType::F32)?, &w.to_dtype(DType::F32)?, &b.to_dtype(DType::F32)?];
            let on = |threads| -> Result<_> {
                let (out, gradients) = with_threads(threads, || run(&inputs, |t| block(t, cfg)))?;
                bits([&out].into_iter().chain(&gradients))
            };
            assert!(on(1)? == on(4)?, "{input:?} {pool:?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_in_nothing_out() -> Result<()> {
    let cfg = ConvBlockConfig { conv: Conv2dConfig::default().padding(1), pool: Some(Pool2dConfig::new(2)) };
    for (input, weight) in [((0, 2, 5, 5), (3, 2, 3, 3)), ((2, 0, 5, 5), (3, 0, 3, 3)), ((2, 2, 5, 5), (0, 2, 3, 3))] {
        let [u, w, b] = tensors(input, weight)?;
        let (out, gradients) = run(&[&u, &w, &b], |t| block(t, cfg))?;
        assert_eq!(out.dims(), [input.0, weight.0, 2, 2]);
        assert_eq!(gradients[0].dims(), u.dims());
        assert_eq!(gradients[1].dims(), w.dims());
    }
    // Without channels or pixels the bias is all there is: each of the 2 x 2 x 2 maxima gives it one, or of the 2 x 2 x 7.
    for (input, kernel, pool, expected) in [((2, 0, 5, 5), 3, 2, 8.0), ((2, 1, 0, 5), 1, 1, 28.0)] {
        let [u, w, _] = tensors(input, (3, input.1, kernel, kernel))?;
        let b = Var::new(&[1.0, 2.0, 3.0], &Device::Cpu)?;
        let cfg = ConvBlockConfig { conv: Conv2dConfig::default().padding(1), pool: Some(Pool2dConfig::new(pool)) };
        for tracked in [false, true] {
            let w = if tracked { Var::from_tensor(&w)?.into_inner() } else { w.clone() };
            let grads = conv_block(&u, &w, Some(b.as_tensor()), cfg)?.sum_all()?.backward()?;
            assert_eq!(grads.get(&b).map(values).transpose()?, Some(vec![expected; 3]), "{input:?}");
        }
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let [u, w, _] = tensors((1, 1, 20, 20), (1, 1, 3, 3))?;
    let with = |pool| message(conv_block(&u, &w, None, ConvBlockConfig::default().pool(pool)));
    assert_eq!(
        with(Pool2dConfig::new(16)),
        "conv_block: a window may have 255 pixels at most, got (16, 16); call conv2d, relu and max_pool2d instead"
    );
    assert_eq!(
        with(Pool2dConfig::new(19)),
        "conv_block: a window of (19, 19) does not fit an image of 18x18 with padding (0, 0)"
    );
    // A window of 2^64 pixels, as many as overflow to none.
    assert!(with(Pool2dConfig::new(1 << 32).ceil_mode(true)).contains("255 pixels at most"));
    assert_eq!(with(Pool2dConfig::new(0)), "conv_block: kernel and stride must be at least 1, got (0, 0) and (0, 0)");
    Ok(())
}
