//! What backbones are made of: depthwise and 1x1 convolutions, activations, batch norm. Against the general kernels and composed operations; finite
//! differences; gradients at the bounds; running statistics.

mod support;

use candle_core::{DType, Device, ModuleT, Result, Tensor, Var};
use candle_nn::VarBuilder;
use stn_core::conv_norm::{ConvNormConfig, Statistics, conv_norm};
use stn_core::init::SeededVarMap;
use stn_core::ops::{Activation, Conv2dConfig, Sides, batch_norm, conv2d, conv2d_activated, relu6};
use support::{bits, check_gradients, distance, message, random, run, with_threads};

/// TensorFlow's SAME for stride 2 and an even side: more zeros behind the image than before it.
const SAME: Sides = Sides { top: 0, bottom: 1, left: 0, right: 1 };

fn depthwise(channels: usize, stride: usize, padding: Sides) -> Conv2dConfig {
    Conv2dConfig { padding, ..Conv2dConfig::new().stride(stride).groups(channels) }
}

/// The same kernels for one group: those between different channels are zero.
fn ungrouped(weight: &Tensor) -> Result<Tensor> {
    let (c, _, kh, kw) = weight.dims4()?;
    let diagonal = Tensor::eye(c, weight.dtype(), &Device::Cpu)?.reshape((c, c, 1, 1))?;
    weight.broadcast_as((c, c, kh, kw))?.broadcast_mul(&diagonal)
}

fn largest(t: &Tensor) -> Result<f64> {
    t.abs()?.max_all()?.to_scalar()
}

#[test]
fn depthwise_agrees_with_the_general_kernels() -> Result<()> {
    let mut seen = 0;
    for (h, w) in [(7, 7), (14, 9), (33, 40), (112, 64)] {
        for (k, stride) in [((3, 3), 1), ((3, 3), 2), ((5, 5), 1), ((5, 5), 2), ((2, 3), 3), ((1, 1), 2)] {
            for padding in [Sides::from(0), Sides::from(k.0 / 2), SAME, Sides { top: 2, left: 1, ..SAME }] {
                let (xs, weight, bias) = (random((3, 5, h, w), 1)?, random((5, 1, k.0, k.1), 2)?, random(5, 3)?);
                let cfg = depthwise(5, stride, padding);
                let (out, grads) = run(&[&xs, &weight, &bias], |t| conv2d(&t[0], &t[1], Some(&t[2]), cfg))?;
                let (expected, expected_grads) = run(&[&xs, &weight, &bias], |t| {
                    conv2d(&t[0], &ungrouped(&t[1])?, Some(&t[2]), Conv2dConfig { groups: 1, ..cfg })
                })?;
                let what = format!("{h}x{w}, {k:?}, {cfg:?}");
                assert!(distance(&out, &expected)? < 1e-12, "{what}");
                for (grad, expected) in grads.iter().zip(&expected_grads) {
                    assert!(distance(grad, expected)? < 1e-10, "{what}");
                }
                let [xs, weight, bias] = [xs, weight, bias].map(|t| t.to_dtype(DType::F32));
                let (out, grads) = run(&[&xs?, &weight?, &bias?], |t| conv2d(&t[0], &t[1], Some(&t[2]), cfg))?;
                assert!(distance(&out, &expected)? < 1e-5, "{what}");
                for (grad, expected) in grads.iter().zip(&expected_grads) {
                    // Sums of up to 21,504 terms of either sign.
                    let off = distance(grad, expected)?;
                    assert!(off < 1e-4 * largest(expected)?.max(1.0), "{what}: {off}");
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 96);
    Ok(())
}

#[test]
fn pointwise_agrees_with_the_general_kernels() -> Result<()> {
    for (n, c, o, h, w) in [(1, 3, 5, 4, 4), (9, 8, 2, 7, 5), (20, 17, 33, 3, 3)] {
        let (xs, weight, bias) = (random((n, c, h, w), 1)?, random((o, c, 1, 1), 2)?, random(o, 3)?);
        let (out, grads) = run(&[&xs, &weight, &bias], |t| conv2d(&t[0], &t[1], Some(&t[2]), Conv2dConfig::new()))?;
        // The same kernel in the middle of zeros.
        let (expected, expected_grads) = run(&[&xs, &weight, &bias], |t| {
            let weight = t[1].pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
            conv2d(&t[0], &weight, Some(&t[2]), Conv2dConfig::new().padding(1))
        })?;
        assert!(distance(&out, &expected)? < 1e-12);
        for (grad, expected) in grads.iter().zip(&expected_grads) {
            assert!(distance(grad, expected)? < 1e-11);
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for activation in [Activation::None, Activation::Relu, Activation::Relu6] {
        // Values far beyond six occur, and none within a step of a bound.
        let (xs, bias) = ((random((3, 3, 6, 5), 1)? * 6.0)?, random(3, 3)?);
        for (weight, cfg) in [
            (random((3, 1, 3, 3), 2)?, depthwise(3, 2, SAME)),
            (random((3, 1, 5, 5), 2)?, depthwise(3, 1, Sides::from(2))),
            (random((3, 3, 1, 1), 2)?, Conv2dConfig::new()),
            (random((3, 3, 3, 3), 2)?, Conv2dConfig::new().padding(1)),
        ] {
            check_gradients(&format!("{activation:?}, {cfg:?}"), &[&xs, &weight, &bias], |t| {
                conv2d_activated(&t[0], &t[1], Some(&t[2]), cfg, activation)
            })?;
        }
        let (scale, shift) = ((random(3, 4)? * 5.0)?, random(3, 5)?);
        check_gradients(&format!("batch norm, {activation:?}"), &[&xs, &scale, &shift], |t| {
            Ok(batch_norm(&t[0], &t[1], &t[2], 1e-3, activation)?.output)
        })?;
    }
    Ok(())
}

#[test]
fn relu6_is_flat_at_both_bounds() -> Result<()> {
    let xs = Tensor::new(&[-1f64, 0., 1e-9, 3., 6. - 1e-9, 6., 7., f64::NAN], &Device::Cpu)?;
    let var = Var::from_tensor(&xs)?;
    let out = relu6(&var)?;
    let grads = out.sum_all()?.backward()?;
    let grads = grads.get(&var).expect("a gradient").to_vec1::<f64>()?;
    assert_eq!(grads, [0., 0., 1., 1., 1., 0., 0., 1.]);
    let out = out.to_vec1::<f64>()?;
    assert_eq!(out[..7], [0., 0., 1e-9, 3., 6. - 1e-9, 6., 6.]);
    assert!(out[7].is_nan());
    // Behind a convolution whose maps are exactly zero and six.
    for (value, grad) in [(0.0, 0.0), (6.0, 0.0), (5.5, 1.0)] {
        let xs = Var::from_tensor(&(Tensor::ones((2, 2, 1, 1), DType::F64, &Device::Cpu)? * value)?)?;
        for (weight, cfg) in [
            (Tensor::eye(2, DType::F64, &Device::Cpu)?.reshape((2, 2, 1, 1))?, Conv2dConfig::new()),
            (Tensor::ones((2, 1, 1, 1), DType::F64, &Device::Cpu)?, Conv2dConfig::new().groups(2)),
        ] {
            let grads = conv2d_activated(&xs, &weight, None, cfg, Activation::Relu6)?.sum_all()?.backward()?;
            let expected = (Tensor::ones((2, 2, 1, 1), DType::F64, &Device::Cpu)? * grad)?;
            assert_eq!(distance(grads.get(&xs).expect("a gradient"), &expected)?, 0.0, "{value} {cfg:?}");
        }
        // A kernel that sees more than its pixel, with so many filters that it is a product.
        let xs = Var::from_tensor(&(Tensor::ones((2, 20, 1, 1), DType::F64, &Device::Cpu)? * value)?)?;
        let weight = Tensor::eye(20, DType::F64, &Device::Cpu)?.reshape((20, 20, 1, 1))?;
        let weight = weight.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        let maps = conv2d_activated(&xs, &weight, None, Conv2dConfig::new().padding(1), Activation::Relu6)?;
        let grads = maps.sum_all()?.backward()?;
        let expected = (xs.ones_like()? * grad)?;
        assert_eq!(distance(grads.get(&xs).expect("a gradient"), &expected)?, 0.0, "{value}, product");
    }
    Ok(())
}

/// Normalised by Candle's own operations.
fn composed(xs: &Tensor, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
    let c = scale.dim(0)?;
    let of = |t: &Tensor| t.reshape((1, c, 1, 1));
    let centred = xs.broadcast_sub(&xs.mean_keepdim((0, 2, 3))?)?;
    let deviation = (centred.sqr()?.mean_keepdim((0, 2, 3))? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(&of(scale)?)?.broadcast_add(&of(shift)?)
}

#[test]
fn batch_norm_agrees_with_composed_operations() -> Result<()> {
    let (xs, scale, shift) = ((random((5, 4, 7, 9), 1)? + 3.0)?, random(4, 2)?, random(4, 3)?);
    let inputs = [&xs, &scale, &shift];
    let (out, grads) = run(&inputs, |t| Ok(batch_norm(&t[0], &t[1], &t[2], 1e-3, Activation::None)?.output))?;
    let (expected, expected_grads) = run(&inputs, |t| composed(&t[0], &t[1], &t[2], 1e-3))?;
    assert!(distance(&out, &expected)? < 1e-12);
    for (grad, expected) in grads.iter().zip(&expected_grads) {
        assert!(distance(grad, expected)? < 1e-10);
    }
    // In f32 too, where the mean is far larger than the deviation.
    let xs = (xs + 1000.0)?.to_dtype(DType::F32)?;
    let (scale, shift) = (scale.to_dtype(DType::F32)?, shift.to_dtype(DType::F32)?);
    let normed = batch_norm(&xs, &scale, &shift, 1e-3, Activation::None)?;
    assert!(distance(&normed.output, &out)? < 1e-3);
    Ok(())
}

#[test]
fn frozen_and_running_statistics() -> Result<()> {
    let (xs, device) = (random((6, 3, 8, 8), 1)?, Device::Cpu);
    let layer = |statistics, vars: &SeededVarMap| {
        let vb = vars.var_builder(DType::F64, &device);
        let cfg = ConvNormConfig { statistics, bias: true, activation: Activation::Relu, ..Default::default() };
        conv_norm(3, 4, (3, 3), cfg, vb.pp("conv"), vb.pp("bn"))
    };
    let vars = SeededVarMap::new(5);
    let frozen = layer(Statistics::Frozen, &vars)?;
    let batch = layer(Statistics::Batch, &vars)?; // on the same variables
    let before = vars.tensors()?;
    frozen.forward_t(&xs, true)?;
    assert_eq!(bits([&vars.tensors()?["bn.running_mean"]])?, bits([&before["bn.running_mean"]])?, "frozen ones stay");
    let maps = conv2d(&xs, &before["conv.weight"], Some(&before["conv.bias"]), Conv2dConfig::new())?;
    batch.forward_t(&xs, true)?;
    let after = vars.tensors()?;
    let mean = maps.mean((0, 2, 3))?;
    assert!(distance(&after["bn.running_mean"], &(&mean * 0.1)?)? < 1e-12, "a tenth of the way from zero");
    let centred = maps.broadcast_sub(&mean.reshape((1, 4, 1, 1))?)?;
    let variance = (centred.sqr()?.sum((0, 2, 3))? / (6.0 * 36.0 - 1.0))?;
    let expected = ((variance * 0.1)? + 0.9)?;
    assert!(distance(&after["bn.running_var"], &expected)? < 1e-12);
    // Both evaluate with the running statistics.
    let by_hand = maps.broadcast_sub(&after["bn.running_mean"].reshape((1, 4, 1, 1))?)?;
    let by_hand = by_hand.broadcast_div(&(&after["bn.running_var"] + 1e-5)?.sqrt()?.reshape((1, 4, 1, 1))?)?.relu()?;
    for layer in [&frozen, &batch] {
        assert!(distance(&layer.forward_t(&xs, false)?, &by_hand)? < 1e-12);
    }
    assert!(distance(&frozen.forward_t(&xs, true)?, &by_hand)? < 1e-12);

    // Every variable but the statistics gets its gradient through the folded kernels.
    for layer in [&frozen, &batch] {
        let grads = support::weighted_sum(&layer.forward_t(&xs, true)?)?.backward()?;
        for (name, var) in vars.vars() {
            let trained = !name.contains("running") && name != "conv.bias";
            let sum = grads.get(&var).map(|g| g.sqr()?.sum_all()?.to_scalar::<f64>()).transpose()?;
            assert!(!trained || sum.is_some_and(|sum| sum > 1e-3), "{name}: {sum:?}");
            assert!(!name.contains("running") || sum.is_none(), "{name}: {sum:?}");
        }
    }
    Ok(())
}

/// A layer is one operation: as its convolution, norm and activation one after the other, whichever way it convolves and whichever gradients are wanted.
#[test]
fn layers_agree_with_their_operations_one_by_one() -> Result<()> {
    let padded = Conv2dConfig::new().padding(1);
    let conv = [
        ("1x1", 6, (1, 1), Conv2dConfig::new()),
        ("depthwise", 4, (3, 3), depthwise(4, 2, SAME)),
        ("interleaved", 2, (3, 3), padded),
        ("product", 24, (3, 3), padded),
    ];
    for (name, filters, kernel, conv) in conv {
        let (batch, frozen) = (Statistics::Batch, Statistics::Frozen);
        for (bias, statistics) in [(false, batch), (true, batch), (false, frozen), (true, frozen)] {
            let vars = SeededVarMap::new(1);
            let cfg = ConvNormConfig { conv, bias, statistics, activation: Activation::Relu6, ..Default::default() };
            let vb = vars.var_builder(DType::F64, &Device::Cpu);
            conv_norm(4, filters, kernel, cfg, vb.pp("conv"), vb.pp("bn"))?;
            let mut tensors = vars.tensors()?;
            for (seed, name) in ["conv.bias", "bn.weight", "bn.bias", "bn.running_mean"].iter().enumerate() {
                tensors.entry(name.to_string()).and_modify(|t| *t = random(filters, seed as u64).expect("numbers"));
            }
            tensors.insert("bn.running_var".into(), (random(filters, 8)? + 1.5)?);
            tensors.insert("xs".into(), (random((5, 4, 7, 6), 2)? * 20.0)?);
            let mut names = vec!["xs", "conv.weight", "bn.weight", "bn.bias"];
            names.extend(bias.then_some("conv.bias"));
            let inputs: Vec<&Tensor> = names.iter().map(|name| &tensors[*name]).collect();
            let (expected, expected_grads) = run(&inputs, |t| {
                let maps = conv2d(&t[0], &t[1], t.get(4), conv)?;
                if statistics == Statistics::Batch {
                    return Ok(batch_norm(&maps, &t[2], &t[3], cfg.eps, cfg.activation)?.output);
                }
                let of = |t: &Tensor| t.reshape((1, filters, 1, 1));
                let centred = maps.broadcast_sub(&of(&tensors["bn.running_mean"])?)?;
                let normed = centred.broadcast_div(&of(&(&tensors["bn.running_var"] + cfg.eps)?.sqrt()?)?)?;
                relu6(&normed.broadcast_mul(&of(&t[2])?)?.broadcast_add(&of(&t[3])?)?)
            })?;
            // All of them variables; all but one; one alone.
            let all = (0..names.len()).map(|_| true).collect::<Vec<_>>();
            let but = |i: usize, rest: bool| (0..names.len()).map(|j| if i == j { !rest } else { rest }).collect();
            let some = (0..names.len()).flat_map(|i| [but(i, true), but(i, false)]);
            for wanted in std::iter::once(all).chain(some) {
                let what = format!("{name}, bias {bias}, {statistics:?}, wanted {wanted:?}");
                let mut made = tensors.clone();
                for (name, _) in names.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
                    made.insert(name.to_string(), Var::from_tensor(&tensors[*name])?.into_inner());
                }
                let vb = VarBuilder::from_tensors(made.clone(), DType::F64, &Device::Cpu);
                let layer = conv_norm(4, filters, kernel, cfg, vb.pp("conv"), vb.pp("bn"))?;
                let out = layer.forward_t(&made["xs"], true)?;
                assert!(distance(&out, &expected)? < 1e-12, "{what}");
                let grads = support::weighted_sum(&out)?.backward()?;
                for ((name, wanted), expected) in names.iter().zip(wanted).zip(&expected_grads) {
                    match grads.get(&made[*name]) {
                        Some(grad) if wanted => {
                            let distance = distance(grad, expected)?;
                            assert!(distance < 1e-10, "{what}, {name}: {distance}");
                        }
                        // Candle's own operations compute those of the small vectors in any case.
                        grad => assert!(!wanted && (grad.is_none() || name.starts_with("bn")), "{what}, {name}"),
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let run = |threads| {
        with_threads(threads, || -> Result<_> {
            let (xs, bias) = (random((20, 6, 15, 15), 1)?.to_dtype(DType::F32)?, random(6, 3)?.to_dtype(DType::F32)?);
            let mut all = vec![];
            for (shape, cfg) in [((6, 1, 3, 3), depthwise(6, 2, SAME)), ((6, 6, 1, 1), Conv2dConfig::new())] {
                let weight = random(shape, 2)?.to_dtype(DType::F32)?;
                let (out, grads) = run(&[&xs, &weight, &bias], |t| {
                    let maps = conv2d_activated(&t[0], &t[1], Some(&t[2]), cfg, Activation::Relu6)?;
                    Ok(batch_norm(&maps, &t[2], &t[2], 1e-5, Activation::Relu)?.output)
                })?;
                all.push(out);
                all.extend(grads);
            }
            bits(&all)
        })
    };
    assert!(run(1)? == run(4)?);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() -> Result<()> {
    let (xs, two) = (random((1, 2, 1, 1), 1)?, random(2, 1)?);
    let normed =
        |xs: &Tensor, scale: &Tensor| message(batch_norm(xs, scale, &two, 1e-5, Activation::None).map(|n| n.output));
    assert_eq!(
        normed(&xs, &two),
        "batch_norm: a channel must have at least 2 values in the batch, got input [1, 2, 1, 1]"
    );
    assert_eq!(normed(&two, &two), "batch_norm: input must be (N, C, H, W), got [2]");
    let xs = random((2, 2, 3, 3), 1)?;
    assert_eq!(normed(&xs, &random(3, 1)?), "batch_norm: weight and bias must be (2,), got [3] and [2]");
    let vb = SeededVarMap::new(0).var_builder(DType::F32, &Device::Cpu);
    let cfg = ConvNormConfig { conv: Conv2dConfig::new().groups(2), ..Default::default() };
    let error = conv_norm(3, 4, (3, 3), cfg, vb.pp("conv"), vb.pp("bn")).unwrap_err().to_string();
    assert!(error.starts_with("conv_norm: the groups must divide the channels, got 3 to"), "{error}");
    Ok(())
}
