//! The convolution: against a loop over every tap, values and gradients; finite differences; strides; errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, Sides, conv_block, conv2d};
use support::{
    bits, check_golden, check_gradients, distance, goldens, message, number, random, run, values, weighted_sum,
};

fn cfg(stride: usize, padding: usize, dilation: usize) -> Conv2dConfig {
    Conv2dConfig::default().stride(stride).padding(padding).dilation(dilation)
}

/// Visits every product of the convolution as indices into (output, input, weight), the loop that defines it.
fn taps(
    (n, c, h, w): (usize, usize, usize, usize),
    (o, kh, kw): (usize, usize, usize),
    (out_h, out_w): (usize, usize),
    cfg: Conv2dConfig,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let seen = c / cfg.groups;
    for (i, o_, oy, ox) in quadruples(n, o, out_h, out_w) {
        for (_, c_, ky, kx) in quadruples(1, seen, kh, kw) {
            let (y, x) = (oy * cfg.stride.0 + ky * cfg.dilation.0, ox * cfg.stride.1 + kx * cfg.dilation.1);
            let (Some(y), Some(x)) = (y.checked_sub(cfg.padding.top), x.checked_sub(cfg.padding.left)) else {
                continue;
            };
            if y < h && x < w {
                let out = ((i * o + o_) * out_h + oy) * out_w + ox;
                let channel = o_ / (o / cfg.groups) * seen + c_;
                visit(out, ((i * c + channel) * h + y) * w + x, ((o_ * seen + c_) * kh + ky) * kw + kx);
            }
        }
    }
}

fn quadruples(a: usize, b: usize, c: usize, d: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}

/// What `run` gives for the convolution, by the loop: the result and the gradients of input, weight and bias.
fn naive(input: &Tensor, weight: &Tensor, bias: &Tensor, cfg: Conv2dConfig) -> Result<[Tensor; 4]> {
    let (n, c, h, w) = input.dims4()?;
    let (o, _, kh, kw) = weight.dims4()?;
    // The last position whose last tap is still inside, and one.
    let side = |n: usize, k: usize, stride: usize, dilation: usize| {
        (0..).take_while(|p| p * stride + (k - 1) * dilation < n).count()
    };
    let Sides { top, bottom, left, right } = cfg.padding;
    let out_size = (
        side(h + top + bottom, kh, cfg.stride.0, cfg.dilation.0),
        side(w + left + right, kw, cfg.stride.1, cfg.dilation.1),
    );
    let shape = (n, o, out_size.0, out_size.1);
    let mut out: Vec<f64> = vec![];
    for bias in (0..n).flat_map(|_| values(bias)).flatten() {
        out.extend(vec![bias; out_size.0 * out_size.1]);
    }
    let (u, k) = (values(input)?, values(weight)?);
    taps((n, c, h, w), (o, kh, kw), out_size, cfg, |out_at, u_at, k_at| out[out_at] += u[u_at] * k[k_at]);
    let out = Var::from_vec(out, shape, &Device::Cpu)?;
    let grads = weighted_sum(&out)?.backward()?;
    let upstream = grads.get(&out).expect("a gradient").clone();
    let grad = values(&upstream)?;
    let (mut grad_u, mut grad_k) = (vec![0.0; u.len()], vec![0.0; k.len()]);
    taps((n, c, h, w), (o, kh, kw), out_size, cfg, |out_at, u_at, k_at| {
        grad_u[u_at] += grad[out_at] * k[k_at];
        grad_k[k_at] += grad[out_at] * u[u_at];
    });
    Ok([
        out.as_detached_tensor(),
        Tensor::from_vec(grad_u, input.shape(), &Device::Cpu)?,
        Tensor::from_vec(grad_k, weight.shape(), &Device::Cpu)?,
        upstream.sum((0, 2, 3))?,
    ])
}

/// Compares with the loop, in f64 and in f32.
fn check_against_the_loop(
    input: (usize, usize, usize, usize),
    (o, kh, kw): (usize, usize, usize),
    cfg: Conv2dConfig,
) -> Result<()> {
    let tensors = [random(input, 1)?, random((o, input.1 / cfg.groups, kh, kw), 2)?, random(o, 3)?];
    let expected = naive(&tensors[0], &tensors[1], &tensors[2], cfg)?;
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-3)] {
        let inputs = [tensors[0].to_dtype(dtype)?, tensors[1].to_dtype(dtype)?, tensors[2].to_dtype(dtype)?];
        let f = |t: &[Tensor]| conv2d(&t[0], &t[1], Some(&t[2]), cfg);
        let (out, gradients) = run(&inputs.each_ref(), f)?;
        for (part, (got, expected)) in [&out].into_iter().chain(&gradients).zip(&expected).enumerate() {
            assert_eq!(got.dtype(), dtype);
            let distance = distance(got, expected)?;
            assert!(distance < tolerance, "{input:?} {o}x{kh}x{kw} {cfg:?} {dtype:?}, part {part}: {distance}");
        }
    }
    Ok(())
}

/// With few filters a small batch goes interleaved, with many as products of matrices.
const FILTERS: [usize; 2] = [2, 20];

#[test]
fn agrees_with_a_loop_for_every_option() -> Result<()> {
    let mut seen = 0;
    for (stride, padding, dilation, channels) in quadruples(3, 4, 2, 2) {
        let cfg = cfg(stride + 1, padding, dilation + 1);
        for (height, width, kernel) in [(8, 7, (3, 3)), (5, 6, (2, 3)), (6, 5, (1, 4)), (9, 9, (4, 1)), (3, 4, (5, 5))]
        {
            let fits = |n: usize, k: usize| n + 2 * padding > cfg.dilation.0 * (k - 1);
            if fits(height, kernel.0) && fits(width, kernel.1) {
                for filters in FILTERS {
                    check_against_the_loop((3, 2 * channels + 1, height, width), (filters, kernel.0, kernel.1), cfg)?;
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 180, "{seen} cases");
    Ok(())
}

/// Batches that fill the lanes, or not, of one group of images or of several, with as many positions and filters as a block of sums has, and more.
#[test]
fn agrees_with_a_loop_for_every_batch() -> Result<()> {
    for n in [1, 2, 8, 9, 16, 17, 35] {
        check_against_the_loop((n, 1, 8, 7), (3, 3, 3), cfg(1, 0, 1))?;
        check_against_the_loop((n, 3, 8, 7), (7, 3, 2), cfg(2, 1, 1))?;
        check_against_the_loop((n, 3, 5, 5), (1, 5, 5), cfg(1, 0, 1))?; // one position
        check_against_the_loop((n, 2, 5, 13), (13, 2, 2), cfg(1, 0, 1))?;
        check_against_the_loop((n, 2, 11, 12), (5, 3, 3), cfg(3, 2, 2))?;
    }
    // Blocks of several rows of the map, and what is left.
    check_against_the_loop((1, 9, 41, 40), (17, 3, 3), cfg(1, 1, 1))?;
    check_against_the_loop((1, 40, 41, 40), (17, 1, 1), cfg(1, 0, 1))?;
    // More channels than one task sums up the gradient of.
    check_against_the_loop((2, 40, 6, 6), (2, 3, 3), cfg(1, 1, 1))
}

#[test]
fn agrees_with_a_loop_for_groups_and_depthwise() -> Result<()> {
    for (channels, filters, groups) in [(4, 6, 2), (6, 14, 2), (3, 3, 3), (5, 10, 5), (4, 60, 2)] {
        for cfg in [cfg(1, 1, 1), cfg(2, 1, 1), cfg(1, 2, 2)] {
            check_against_the_loop((5, channels, 7, 6), (filters, 3, 2), cfg.groups(groups))?;
        }
    }
    Ok(())
}

/// Padding of each edge by itself, strides and dilations of each side by itself; edges beyond which the kernel never looks.
#[test]
fn agrees_with_a_loop_for_unequal_sides() -> Result<()> {
    let sides = |top, bottom, left, right| Sides { top, bottom, left, right };
    for padding in [sides(0, 1, 0, 1), sides(2, 0, 1, 3), sides(0, 0, 3, 3), sides(5, 5, 0, 0)] {
        for (stride, dilation) in
            [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 3), (1, 1)), ((2, 1), (1, 2)), ((4, 4), (2, 1))]
        {
            let cfg = Conv2dConfig { stride, padding, dilation, groups: 1 };
            for filters in FILTERS {
                check_against_the_loop((3, 2, 8, 7), (filters, 3, 3), cfg)?;
                check_against_the_loop((3, 2, 7, 9), (filters, 1, 4), cfg)?;
            }
        }
    }
    Ok(())
}

/// The sizes at which Candle's own backward pass fails.
/// A stride that steps over the whole image: some, or all, positions of the kernel meet padding alone.
#[test]
fn kernels_that_meet_no_pixel_see_zeros() -> Result<()> {
    let left = Conv2dConfig { stride: (1, 7), padding: Sides { left: 5, ..Sides::default() }, ..Conv2dConfig::new() };
    check_against_the_loop((16, 1, 8, 1), (2, 1, 1), left)?;
    check_against_the_loop((16, 1, 30, 1), (2, 1, 1), cfg(11, 5, 1))?;
    check_against_the_loop((3, 2, 1, 9), (4, 1, 1), cfg(20, 12, 1))
}

#[test]
fn stride_that_does_not_divide_the_sides() -> Result<()> {
    check_against_the_loop((2, 3, 8, 7), (4, 3, 3), cfg(2, 0, 1))?;
    check_against_the_loop((2, 3, 8, 7), (4, 3, 3), cfg(2, 1, 1))
}

/// Values and gradients; `data/pytorch_goldens.py` has the script.
#[test]
fn matches_pytorch() -> Result<()> {
    for case in goldens("conv2d") {
        let cfg = cfg(number(&case["stride"]), number(&case["padding"]), number(&case["dilation"]));
        check_golden(&case, &["input", "weight", "bias"], |t| conv2d(&t[0], &t[1], Some(&t[2]), cfg))?;
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (2, 0, 2), (3, 3, 1)] {
        let cfg = cfg(stride, padding, dilation);
        let inputs = [&random((3, 2, 8, 7), 1)?, &random((2, 2, 3, 2), 2)?, &random(2, 3)?];
        check_gradients(&format!("{cfg:?}"), &inputs, |t| conv2d(&t[0], &t[1], Some(&t[2]), cfg))?;
        check_gradients(&format!("{cfg:?}"), &inputs[..2], |t| conv2d(&t[0], &t[1], None, cfg))?;
    }
    Ok(())
}

#[test]
fn no_bias_is_a_bias_of_zeros() -> Result<()> {
    let (u, w) = (random((3, 2, 6, 5), 1)?, random((4, 2, 3, 3), 2)?);
    let zeros = Tensor::zeros(4, DType::F64, &Device::Cpu)?;
    let (without, gradients) = run(&[&u, &w], |t| conv2d(&t[0], &t[1], None, Default::default()))?;
    let (with, expected) = run(&[&u, &w], |t| conv2d(&t[0], &t[1], Some(&zeros), Default::default()))?;
    assert_eq!(bits([&without, &gradients[0], &gradients[1]])?, bits([&with, &expected[0], &expected[1]])?);
    assert_eq!(Conv2dConfig::default(), cfg(1, 0, 1));
    Ok(())
}

/// Views of input, weight and bias, and an upstream gradient that is a view.
#[test]
fn strides_make_no_difference() -> Result<()> {
    type View = fn(&Tensor) -> Result<Tensor>;
    type Size = (usize, usize, usize, usize);
    let cfg = cfg(2, 1, 1);
    let turn: View = |t| t.transpose(2, 3);
    let views: [(&str, Size, View); 4] = [
        ("transposed", (3, 2, 6, 7), turn),
        ("images and channels exchanged", (2, 3, 7, 6), |t| t.transpose(0, 1)),
        ("narrowed", (5, 4, 9, 9), |t| t.narrow(0, 1, 3)?.narrow(1, 2, 2)?.narrow(2, 2, 7)?.narrow(3, 1, 6)),
        ("broadcast", (1, 2, 7, 1), |t| t.broadcast_as((3, 2, 7, 6))),
    ];
    let (weight, bias) = (random((4, 2, 2, 3), 2)?, random(9, 3)?);
    for (name, shape, view) in views {
        let inputs = [&random(shape, 1)?, &weight, &bias];
        let strided = |t: &[Tensor]| -> Result<_> { Ok([view(&t[0])?, turn(&t[1])?, t[2].narrow(0, 3, 4)?]) };
        assert!(!view(inputs[0])?.is_contiguous());
        let (out, gradients) = run(&inputs, |t| {
            let [u, w, b] = strided(t)?;
            conv2d(&u, &w, Some(&b), cfg)?.transpose(1, 3)
        })?;
        let (expected, expected_gradients) = run(&inputs, |t| {
            let [u, w, b] = strided(t)?;
            conv2d(&u.contiguous()?, &w.contiguous()?, Some(&b.copy()?), cfg)?.transpose(1, 3)?.contiguous()
        })?;
        assert_eq!(values(&out)?, values(&expected)?, "{name}");
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < 1e-12, "{name}");
        }
        let [u, w, b] = strided(&inputs.map(Tensor::clone))?;
        let [naive, ..] = naive(&u, &w, &b, cfg)?;
        assert!(distance(&out, &naive.transpose(1, 3)?)? < 1e-12, "{name}");
    }
    Ok(())
}

#[test]
fn gradients_only_where_asked() -> Result<()> {
    let tensors = [random((2, 2, 5, 5), 1)?, random((3, 2, 3, 3), 2)?, random(3, 3)?];
    for tracked in 0..8 {
        let mut inputs = tensors.clone();
        for (i, input) in inputs.iter_mut().enumerate().filter(|(i, _)| tracked >> i & 1 == 1) {
            *input = Var::from_tensor(&tensors[i])?.into_inner();
        }
        let out = conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), Default::default())?;
        assert_eq!(out.track_op(), tracked != 0);
        let grads = out.sum_all()?.backward()?;
        for (i, input) in inputs.iter().enumerate() {
            assert_eq!(grads.get(input).is_some(), tracked >> i & 1 == 1, "input {i} of {tracked:03b}");
        }
    }
    Ok(())
}

/// With the sizes of a network's layers, in which threads have enough to share.
#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    for (input, weight) in [
        ((67, 1, 16, 16), (8, 1, 5, 5)),
        ((67, 8, 6, 6), (8, 8, 3, 3)),
        ((19, 2, 24, 20), (3, 2, 3, 3)),
        ((7, 16, 20, 20), (32, 16, 3, 3)),
        ((1, 24, 40, 40), (48, 24, 3, 3)),
    ] {
        let inputs = [random(input, 1)?, random(weight, 2)?, random(weight.0, 3)?];
        let inputs =
            [inputs[0].to_dtype(DType::F32)?, inputs[1].to_dtype(DType::F32)?, inputs[2].to_dtype(DType::F32)?];
        let on = |threads| -> Result<_> {
            let f = |t: &[Tensor]| conv2d(&t[0], &t[1], Some(&t[2]), cfg(1, 1, 1));
            let (out, gradients) = support::with_threads(threads, || run(&inputs.each_ref(), f))?;
            bits([&out].into_iter().chain(&gradients))
        };
        assert!(on(1)? == on(4)?, "{input:?}");
    }
    Ok(())
}

#[test]
fn nothing_in_nothing_out() -> Result<()> {
    let f = |t: &[Tensor]| conv2d(&t[0], &t[1], Some(&t[2]), cfg(1, 1, 1));
    for (input, weight) in [
        ((0, 2, 5, 5), (3, 2, 3, 3)), // no images
        ((2, 0, 5, 5), (3, 0, 3, 3)), // no channels: the bias everywhere
        ((2, 2, 5, 5), (0, 2, 3, 3)), // no kernels
        ((2, 2, 0, 5), (3, 2, 2, 3)), // no rows but those of the padding: the bias again
        ((2, 2, 5, 0), (3, 2, 3, 2)),
        ((0, 2, 5, 5), (20, 2, 3, 3)), // the same by products
        ((2, 0, 5, 5), (20, 0, 3, 3)),
        ((2, 2, 0, 5), (20, 2, 2, 3)),
        ((2, 2, 5, 0), (20, 2, 3, 2)),
    ] {
        let inputs = [&random(input, 1)?, &random(weight, 2)?, &random(weight.0, 3)?];
        let (out, gradients) = run(&inputs, f)?;
        let (height, width) = (input.2 + 3 - weight.2, input.3 + 3 - weight.3);
        let shape = (input.0, weight.0, height, width);
        assert!(distance(&out, &inputs[2].reshape((1, weight.0, 1, 1))?.broadcast_as(shape)?)? == 0.0, "{input:?}");
        for (gradient, input) in gradients.iter().zip(inputs) {
            assert_eq!(gradient.dims(), input.dims());
        }
        assert!(gradients[..2].iter().all(|g| values(g).is_ok_and(|g| g.iter().all(|&g| g == 0.0))));
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let f32s = |shape: &[usize]| zeros(shape, DType::F32);
    let conv = |input: &[usize], weight: &[usize], cfg| message(conv2d(&f32s(input), &f32s(weight), None, cfg));
    let plain = Conv2dConfig::default();
    assert_eq!(
        conv(&[1, 5, 5], &[2, 1, 3, 3], plain),
        "conv2d: input must be (N, C, H, W) and weight (O, C / groups, kh, kw), got [1, 5, 5] and [2, 1, 3, 3]"
    );
    assert_eq!(
        conv(&[1, 1, 5, 5], &[2, 3, 3], plain),
        "conv2d: input must be (N, C, H, W) and weight (O, C / groups, kh, kw), got [1, 1, 5, 5] and [2, 3, 3]"
    );
    assert_eq!(
        conv(&[1, 3, 5, 5], &[2, 1, 3, 3], plain),
        "conv2d: input has 3 channels, but weight [2, 1, 3, 3] in 1 group(s) is for 1"
    );
    for (weight, wrong) in [
        ([2, 1, 3, 3], cfg(0, 0, 1)),
        ([2, 1, 3, 3], cfg(1, 0, 0)),
        ([2, 1, 3, 3], plain.groups(0)),
        ([2, 1, 0, 3], plain),
    ] {
        assert_eq!(
            conv(&[1, 1, 5, 5], &weight, wrong),
            format!(
                "conv2d: stride, dilation, groups and kernel sides must be at least 1, got {wrong:?} and weight {weight:?}"
            )
        );
    }
    assert_eq!(
        conv(&[1, 1, 5, 4], &[2, 1, 3, 4], cfg(1, 1, 2)),
        format!("conv2d: a 3x4 kernel does not fit an image of 5x4 with {:?}", cfg(1, 1, 2))
    );
    assert_eq!(
        conv(&[1, 4, 5, 5], &[3, 2, 3, 3], plain.groups(2)),
        "conv2d: the number of filters must be a multiple of the groups, got 3 filters in 2 groups"
    );
    let with_bias = |u: Tensor, w: Tensor, b: Tensor| message(conv2d(&u, &w, Some(&b), plain));
    assert_eq!(with_bias(f32s(&[1, 1, 5, 5]), f32s(&[2, 1, 3, 3]), f32s(&[3])), "conv2d: bias must be (2,), got [3]");
    assert_eq!(
        with_bias(f32s(&[1, 1, 5, 5]), f32s(&[2, 1, 3, 3]), zeros(&[2], DType::F64)),
        "conv2d: input, weight and bias must have the same dtype, got [F32, F32, F64]"
    );
    let half = |shape: &[usize]| zeros(shape, DType::F16);
    assert_eq!(
        with_bias(half(&[1, 1, 5, 5]), half(&[2, 1, 3, 3]), half(&[2])),
        "conv2d: the dtype must be f32 or f64, got F16; convert the tensors with to_dtype"
    );
    let block = conv_block(&half(&[1, 1, 5, 5]), &half(&[2, 1, 3, 3]), None, ConvBlockConfig::default());
    assert_eq!(message(block), "conv_block: the dtype must be f32 or f64, got F16; convert the tensors with to_dtype");
    // Reaches that wrap around, one of them to the width of the image.
    let far = Conv2dConfig { dilation: (1, 0xAAAA_AAAA_AAAA_AAAB), ..plain };
    let error = conv(&[1, 1, 1, 8], &[1, 1, 1, 4], far);
    assert!(error.contains("does not fit an image of 1x8"), "{error}");
    let padding = Sides { top: usize::MAX, bottom: 1, ..plain.padding };
    let error = conv(&[1, 1, 5, 5], &[1, 1, 1, 1], Conv2dConfig { padding, ..plain });
    assert!(error.contains("does not fit an image of 5x5"), "{error}");
    let same = plain.dilation(usize::MAX).same((5, 5), (3, 3));
    let error = conv(&[1, 1, 5, 5], &[1, 1, 3, 3], same);
    assert!(error.contains("does not fit an image of 5x5"), "{error}");
}

/// However far a stride leads out of the image, or the dilation of a kernel of one tap: neither value, gradient nor memory changes with it.
#[test]
fn strides_and_dilations_may_lead_far_out_of_the_image() -> Result<()> {
    for (name, filters, groups) in [("depthwise", 6, 6), ("sums", 2, 1), ("sums in groups", 4, 2), ("products", 40, 1)]
    {
        let u = random((2, 6, 5, 4), 1)?;
        for (kernel, dilations) in [(3, [1, 1]), (1, [1, usize::MAX])] {
            let w = random((filters, 6 / groups, kernel, kernel), 2)?;
            let on = |stride: usize, dilation: usize| {
                run(&[&u, &w], |t| conv2d(&t[0], &t[1], None, cfg(stride, 1, dilation).groups(groups)))
            };
            let (expected, expected_gradients) = on(7, 1)?;
            assert_eq!(expected.dims(), [2, filters, 1, 1]);
            for stride in [1 << 40, usize::MAX] {
                for dilation in dilations {
                    let (out, gradients) = on(stride, dilation)?;
                    let case = format!("{name}, a {kernel}x{kernel} kernel, stride {stride}, dilation {dilation}");
                    assert!(distance(&out, &expected)? < 1e-12, "{case}");
                    for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
                        assert!(distance(gradient, expected)? < 1e-12, "{case}");
                    }
                }
            }
        }
    }
    Ok(())
}
