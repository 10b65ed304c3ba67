//! Pooling: against a loop over every window, values and gradients; finite differences; ties, NaN, strides, errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::ops::{Pool2dConfig, avg_pool2d, max_pool2d};
use support::{
    bits, check_golden, check_gradients, distance, goldens, message, number, random, run, values, weighted_sum,
};

type Pool = fn(&Tensor, Pool2dConfig) -> Result<Tensor>;
const POOLS: [(&str, Pool); 2] = [("max_pool2d", max_pool2d), ("avg_pool2d", avg_pool2d)];

fn cfg(kernel: (usize, usize), stride: (usize, usize), padding: (usize, usize), ceil_mode: bool) -> Pool2dConfig {
    Pool2dConfig { kernel, stride, padding, ceil_mode }
}

/// Where the windows along one side start: while they fit, and with `ceil_mode` once more if pixels are left over, but not
/// behind the image.
fn starts(n: usize, kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Vec<i64> {
    let [n, kernel, stride, padding] = [n, kernel, stride, padding].map(|v| v as i64);
    let fits = |start: i64| start + kernel <= n + padding;
    let left_over = |start: i64| ceil_mode && start < n && start - stride + kernel < n + padding;
    (0..).map(|i| i * stride - padding).take_while(|&start| fits(start) || left_over(start)).collect()
}

/// The pixels of a window that are on the image, and the number of those on image and padding.
type Window = (Vec<usize>, usize);

/// How many windows an image has along its sides, and the windows row by row.
fn windows((h, w): (usize, usize), cfg: Pool2dConfig) -> ((usize, usize), Vec<Window>) {
    let rows = starts(h, cfg.kernel.0, cfg.stride.0, cfg.padding.0, cfg.ceil_mode);
    let columns = starts(w, cfg.kernel.1, cfg.stride.1, cfg.padding.1, cfg.ceil_mode);
    let side = |start: i64, kernel: usize| start..start + kernel as i64;
    let mut windows = vec![];
    for &top in &rows {
        for &left in &columns {
            let (mut pixels, mut count) = (vec![], 0);
            for y in side(top, cfg.kernel.0) {
                for x in side(left, cfg.kernel.1) {
                    let on = |v: i64, n: usize, beyond: usize| v < (n + beyond) as i64;
                    count += usize::from(on(y, h, cfg.padding.0) && on(x, w, cfg.padding.1));
                    if y >= 0 && x >= 0 && on(y, h, 0) && on(x, w, 0) {
                        pixels.push(y as usize * w + x as usize);
                    }
                }
            }
            windows.push((pixels, count));
        }
    }
    ((rows.len(), columns.len()), windows)
}

/// What `run` gives for a pool, by the loop: the result and the gradient.
fn naive(name: &str, xs: &Tensor, cfg: Pool2dConfig) -> Result<(Tensor, Tensor)> {
    let (n, c, h, w) = xs.dims4()?;
    let (out, windows) = windows((h, w), cfg);
    // Every output is a weighted sum of pixels.
    let shares = |map: &[f64], (pixels, count): &Window| -> Vec<(usize, f64)> {
        if name == "avg_pool2d" {
            return pixels.iter().map(|&p| (p, 1.0 / *count as f64)).collect();
        }
        let first_largest = pixels.iter().copied().reduce(|best, p| if map[p] > map[best] { p } else { best });
        vec![(first_largest.expect("a window has pixels"), 1.0)]
    };
    let maps: Vec<Vec<f64>> = values(xs)?.chunks(h * w).map(<[f64]>::to_vec).collect();
    let shares: Vec<Vec<_>> = maps.iter().flat_map(|map| windows.iter().map(|window| shares(map, window))).collect();
    let per_map = windows.len();
    let sum = |(i, shares): (usize, &Vec<(usize, f64)>)| -> f64 {
        shares.iter().map(|(p, share)| maps[i / per_map][*p] * share).sum()
    };
    let sums = shares.iter().enumerate().map(sum).collect();
    let result = Var::from_vec(sums, (n, c, out.0, out.1), &Device::Cpu)?;
    let grads = weighted_sum(&result)?.backward()?;
    let mut grad = vec![0.0; n * c * h * w];
    for (i, (shares, upstream)) in shares.iter().zip(values(grads.get(&result).expect("a gradient"))?).enumerate() {
        for (p, share) in shares {
            grad[i / per_map * h * w + p] += upstream * share;
        }
    }
    Ok((result.as_detached_tensor(), Tensor::from_vec(grad, xs.shape(), &Device::Cpu)?))
}

/// Windows that lie apart, side by side and over each other, with and without padding and `ceil_mode`.
fn configs() -> Vec<Pool2dConfig> {
    let mut configs = vec![];
    for kernel in [(1, 1), (2, 2), (3, 3), (2, 3), (4, 1), (5, 4)] {
        for stride in [(1, 1), (2, 2), (3, 3), (1, 2), (4, 3)] {
            for padding in [(0, 0), (1, 1), (0, 1), (2, 2)] {
                if padding.0 <= kernel.0 / 2 && padding.1 <= kernel.1 / 2 {
                    configs.extend([false, true].map(|ceil_mode| cfg(kernel, stride, padding, ceil_mode)));
                }
            }
        }
    }
    configs
}

#[test]
fn agrees_with_a_loop_for_every_window() -> Result<()> {
    assert!(configs().len() > 120);
    let mut without_windows = 0;
    for (h, w) in [(6, 8), (7, 5), (5, 6), (11, 11), (9, 4), (1, 3), (2, 1)] {
        let xs = random((2, 3, h, w), 1)?;
        for cfg in configs() {
            for (name, pool) in POOLS {
                let what = format!("{name} {h}x{w} {cfg:?}");
                if windows((h, w), cfg).1.is_empty() {
                    assert!(pool(&xs, cfg).is_err(), "{what}");
                    without_windows += 1;
                    continue;
                }
                let (expected, expected_gradient) = naive(name, &xs, cfg)?;
                for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
                    let (out, gradients) = run(&[&xs.to_dtype(dtype)?], |t| pool(&t[0], cfg))?;
                    assert_eq!((out.dims(), out.dtype()), (expected.dims(), dtype), "{what}");
                    assert!(distance(&out, &expected)? < tolerance, "{what}");
                    assert!(distance(&gradients[0], &expected_gradient)? < 20.0 * tolerance, "{what}");
                }
            }
        }
    }
    assert!(without_windows > 0);
    Ok(())
}

/// Values and gradients; `data/pytorch_goldens.py` has the script.
#[test]
fn matches_pytorch() -> Result<()> {
    let pair = |json: &serde_json::Value| (number(&json[0]), number(&json[1]));
    let mut seen = 0;
    for (name, pool) in POOLS {
        for case in goldens("pool2d").iter().filter(|case| case["op"] == name) {
            let ceil_mode = case["ceil_mode"].as_bool().expect("a flag");
            let cfg = cfg(pair(&case["kernel"]), pair(&case["stride"]), pair(&case["padding"]), ceil_mode);
            check_golden(case, &["input"], |t| pool(&t[0], cfg))?;
            seen += 1;
        }
    }
    assert_eq!(seen, goldens("pool2d").len());
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let plain = Pool2dConfig::new(2);
    for (name, pool) in POOLS {
        for cfg in
            [plain, plain.ceil_mode(true), Pool2dConfig::new(3).stride(2).padding(1), plain.stride(1), plain.stride(3)]
        {
            for (h, w) in [(6, 4), (7, 5)] {
                // All different, so that no step reaches a tie.
                let xs = Tensor::arange(0.0, (2 * h * w) as f64, &Device::Cpu)?.affine(2.4, 0.0)?.sin()?;
                check_gradients(&format!("{name} {h}x{w} {cfg:?}"), &[&xs.reshape((1, 2, h, w))?], |t| {
                    pool(&t[0], cfg)
                })?;
            }
        }
    }
    Ok(())
}

/// The last row and column of an odd side are in no window, or rounded up in windows of their own: the others stay as on an even side.
#[test]
fn what_is_over_makes_no_difference_to_the_others() -> Result<()> {
    for (name, pool) in POOLS {
        for (h, w) in [(7, 9), (3, 11)] {
            // Few different values: ties in most windows.
            let xs = ((random((3, 20, h, w), 1)? * 2.0)?.round()? / 2.0)?;
            let half = |t: &[Tensor]| pool(&t[0], Pool2dConfig::new(2));
            let general = |t: &[Tensor]| {
                pool(&t[0], Pool2dConfig::new(2).ceil_mode(true))?
                    .narrow(2, 0, h / 2)?
                    .narrow(3, 0, w / 2)?
                    .contiguous()
            };
            let even = xs.narrow(2, 0, h - 1)?.narrow(3, 0, w - 1)?.contiguous()?;
            let (out, gradients) = run(&[&even], half)?;
            for (expected, expected_gradients) in [run(&[&xs], half)?, run(&[&xs], general)?] {
                assert_eq!(bits([&out])?, bits([&expected])?, "{name}");
                let gradient = &expected_gradients[0];
                let on_even = gradient.narrow(2, 0, h - 1)?.narrow(3, 0, w - 1)?.contiguous()?;
                assert_eq!(values(&gradients[0])?, values(&on_even)?, "{name}");
                assert_eq!(
                    distance(&gradient.sum_all()?, &on_even.sum_all()?)?,
                    0.0,
                    "{name}: the last row and column"
                );
            }
        }
    }
    Ok(())
}

/// The gradient of the sum of a pooled 2-D map.
fn gradient_of_sum(rows: &[&[f64]], cfg: Pool2dConfig, dtype: DType) -> Result<Vec<f64>> {
    let (h, w) = (rows.len(), rows[0].len());
    let xs = Tensor::from_vec(rows.concat(), (1, 1, h, w), &Device::Cpu)?.to_dtype(dtype)?;
    let xs = Var::from_tensor(&xs)?;
    let grads = max_pool2d(&xs, cfg)?.sum_all()?.backward()?;
    values(grads.get(&xs).expect("a gradient"))
}

#[test]
fn ties_go_to_the_first() -> Result<()> {
    let halves = Pool2dConfig::new(2);
    for dtype in [DType::F32, DType::F64] {
        let gradient = |rows: &[&[f64]], cfg| gradient_of_sum(rows, cfg, dtype);
        assert_eq!(gradient(&[&[1.0, 1.0], &[1.0, 1.0]], halves)?, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(gradient(&[&[0.0, 1.0], &[1.0, 0.0]], halves)?, [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(gradient(&[&[0.0, 0.0], &[1.0, 1.0]], halves)?, [0.0, 0.0, 1.0, 0.0]);
        // Zero and minus zero are equal; so are infinities.
        assert_eq!(gradient(&[&[-0.0, 0.0], &[0.0, -0.0]], halves)?, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(gradient(&[&[f64::NEG_INFINITY; 2], &[f64::NEG_INFINITY; 2]], halves)?, [1.0, 0.0, 0.0, 0.0]);
        // Overlapping windows each go to their own first.
        let flat: &[&[f64]] = &[&[2.0; 3], &[2.0; 3], &[2.0; 3]];
        assert_eq!(gradient(flat, halves.stride(1))?, [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(
            gradient(flat, Pool2dConfig::new(3).stride(1).padding(1))?,
            [4.0, 2.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        );
        // One pixel is the largest of four windows.
        let peak: &[&[f64]] = &[&[0.0; 3], &[0.0, 1.0, 0.0], &[0.0; 3]];
        assert_eq!(gradient(peak, halves.stride(1))?, [0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
    }
    Ok(())
}

#[test]
fn nan_counts_as_largest() -> Result<()> {
    let nan = f64::NAN;
    for dtype in [DType::F32, DType::F64] {
        for cfg in [Pool2dConfig::new(2), Pool2dConfig::new(2).ceil_mode(true), Pool2dConfig::new(2).stride(3)] {
            for at in 0..4 {
                let mut window = [f64::INFINITY, 1.0, f64::NEG_INFINITY, 2.0];
                window[at] = nan;
                let xs = Tensor::from_vec(window.to_vec(), (1, 1, 2, 2), &Device::Cpu)?.to_dtype(dtype)?;
                assert!(values(&max_pool2d(&xs, cfg)?)?[0].is_nan());
                let mut expected = [0.0; 4];
                expected[at] = 1.0;
                assert_eq!(gradient_of_sum(&[&window[..2], &window[2..]], cfg, dtype)?, expected);
            }
            // As PyTorch has it: of several NaN the last, unlike other ties.
            assert_eq!(gradient_of_sum(&[&[nan, nan], &[nan, 0.0]], cfg, dtype)?, [0.0, 0.0, 1.0, 0.0]);
        }
    }
    Ok(())
}

/// Padding is never the maximum, but a zero in the mean.
#[test]
fn padding_of_negative_maps() -> Result<()> {
    let xs = Tensor::full(-3.0, (1, 1, 2, 2), &Device::Cpu)?;
    let cfg = Pool2dConfig::new(2).padding(1);
    assert_eq!(values(&max_pool2d(&xs, cfg)?)?, [-3.0; 4]);
    assert_eq!(values(&avg_pool2d(&xs, cfg)?)?, [-0.75; 4]);
    Ok(())
}

/// A stride of any length leaves one window, and takes no memory.
#[test]
fn strides_may_lead_far_out_of_the_image() -> Result<()> {
    let xs = random((1, 2, 5, 4), 1)?;
    for (name, pool) in POOLS {
        for (kernel, padding) in [(2, 0), (3, 1), (4, 0)] {
            let near = Pool2dConfig::new(kernel).padding(padding).stride(7);
            let (expected, expected_gradients) = run(&[&xs], |t| pool(&t[0], near))?;
            assert_eq!(expected.dims(), [1, 2, 1, 1]);
            for stride in [1 << 40, usize::MAX] {
                for ceil_mode in [false, true] {
                    let far = near.stride(stride).ceil_mode(ceil_mode);
                    let (out, gradients) = run(&[&xs], |t| pool(&t[0], far))?;
                    assert_eq!(values(&out)?, values(&expected)?, "{name} {far:?}");
                    assert_eq!(values(&gradients[0])?, values(&expected_gradients[0])?, "{name} {far:?}");
                }
            }
        }
    }
    Ok(())
}

/// With `ceil_mode` so may windows: of a window of any size, the part on the image is what counts.
#[test]
fn windows_may_reach_far_out_of_the_image() -> Result<()> {
    let xs = random((1, 2, 5, 4), 1)?;
    for (name, pool) in POOLS {
        let near = Pool2dConfig { kernel: (5, 4), ..Pool2dConfig::new(5) };
        let (expected, expected_gradients) = run(&[&xs], |t| pool(&t[0], near))?;
        for kernel in [6, 1 << 40, 1 << 63] {
            let far = Pool2dConfig::new(kernel).ceil_mode(true);
            let (out, gradients) = run(&[&xs], |t| pool(&t[0], far))?;
            assert_eq!(values(&out)?, values(&expected)?, "{name} {far:?}");
            assert_eq!(values(&gradients[0])?, values(&expected_gradients[0])?, "{name} {far:?}");
        }
    }
    Ok(())
}

#[test]
fn strides_make_no_difference() -> Result<()> {
    type View = fn(&Tensor) -> Result<Tensor>;
    type Size = (usize, usize, usize, usize);
    let views: [(&str, Size, View); 4] = [
        ("transposed", (2, 3, 5, 8), |t| t.transpose(2, 3)),
        ("channels last", (2, 8, 5, 3), |t| t.permute((0, 3, 1, 2))),
        ("narrowed", (4, 5, 9, 8), |t| t.narrow(0, 1, 2)?.narrow(1, 1, 3)?.narrow(2, 1, 8)?.narrow(3, 2, 5)),
        ("broadcast", (1, 3, 8, 1), |t| t.broadcast_as((2, 3, 8, 5))),
    ];
    for (pool_name, pool) in POOLS {
        for (name, shape, view) in views {
            for cfg in [Pool2dConfig::new(2), Pool2dConfig::new(3).stride(2).padding(1)] {
                let xs = random(shape, 1)?;
                assert!(!view(&xs)?.is_contiguous());
                let (out, gradients) = run(&[&xs], |t| pool(&view(&t[0])?, cfg)?.transpose(1, 3))?;
                let copied = |t: &[Tensor]| pool(&view(&t[0])?.contiguous()?, cfg)?.transpose(1, 3)?.contiguous();
                let (expected, expected_gradients) = run(&[&xs], copied)?;
                assert_eq!(values(&out)?, values(&expected)?, "{pool_name} {name}");
                assert!(distance(&gradients[0], &expected_gradients[0])? < 1e-12, "{pool_name} {name}");
                let naive = naive(pool_name, &view(&xs)?, cfg)?.0.transpose(1, 3)?;
                assert!(distance(&out, &naive)? < 1e-14, "{pool_name} {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn same_bits_for_any_number_of_threads() -> Result<()> {
    let xs = random((9, 13, 15, 14), 1)?.to_dtype(DType::F32)?;
    for (name, pool) in POOLS {
        for cfg in [Pool2dConfig::new(2), Pool2dConfig::new(3).stride(2).padding(1).ceil_mode(true)] {
            let on = |threads| -> Result<_> {
                let (out, gradients) = support::with_threads(threads, || run(&[&xs], |t| pool(&t[0], cfg)))?;
                bits([&out, &gradients[0]])
            };
            assert!(on(1)? == on(4)?, "{name} {cfg:?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_in_nothing_out() -> Result<()> {
    for (_, pool) in POOLS {
        for shape in [(0, 3, 6, 5), (2, 0, 6, 5)] {
            for cfg in [Pool2dConfig::new(2), Pool2dConfig::new(2).ceil_mode(true)] {
                let (out, gradients) = run(&[&random(shape, 1)?], |t| pool(&t[0], cfg))?;
                assert_eq!(out.dims(), [shape.0, shape.1, 3, if cfg.ceil_mode { 3 } else { 2 }]);
                assert_eq!(gradients[0].dims(), [shape.0, shape.1, 6, 5]);
            }
        }
    }
    Ok(())
}

#[test]
fn untracked_maps_leave_no_graph() -> Result<()> {
    for (_, pool) in POOLS {
        assert!(!pool(&random((1, 1, 4, 4), 1)?, Pool2dConfig::new(2))?.track_op());
    }
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    let halves = Pool2dConfig::new(2);
    for (name, pool) in POOLS {
        let check = |shape: &[usize], cfg, expected: &str| {
            assert_eq!(message(pool(&zeros(shape, DType::F32), cfg)), format!("{name}: {expected}"));
        };
        check(&[1, 4, 4], halves, "input must be (N, C, H, W), got [1, 4, 4]");
        for (kernel, stride) in [((0, 2), (2, 2)), ((2, 0), (2, 2)), ((2, 2), (0, 2)), ((2, 2), (2, 0))] {
            let expected = format!("kernel and stride must be at least 1, got {kernel:?} and {stride:?}");
            check(&[1, 1, 4, 4], cfg(kernel, stride, (0, 0), false), &expected);
        }
        let expected = "padding must be at most half of the kernel, got padding (2, 2) for kernel (3, 3)";
        check(&[1, 1, 4, 4], Pool2dConfig::new(3).padding(2), expected);
        let wide = cfg((2, 1 << 40), (1, 1), (0, 1 << 39), false);
        let expected = format!(
            "a padded side must have fewer than 2^32 pixels, got padding {:?} for an image of 4x4",
            wide.padding
        );
        check(&[1, 1, 4, 4], wide, &expected);
        for (padding, kernel) in [((2, 0), (3, 5)), ((0, 2), (5, 3))] {
            let expected =
                format!("padding must be at most half of the kernel, got padding {padding:?} for kernel {kernel:?}");
            check(&[1, 1, 6, 6], cfg(kernel, (1, 1), padding, false), &expected);
        }
        let expected = "a window of (5, 5) does not fit an image of 2x9 with padding (1, 1)";
        check(&[1, 1, 2, 9], Pool2dConfig::new(5).padding(1), expected);
        let expected = "a window of (2, 2) does not fit an image of 0x4 with padding (1, 1)";
        check(&[1, 1, 0, 4], halves.padding(1), expected);
        assert_eq!(
            message(pool(&zeros(&[1, 1, 4, 4], DType::U8), halves)),
            format!("{name}: the dtype must be f32 or f64, got U8; convert the tensors with to_dtype")
        );
    }
}
