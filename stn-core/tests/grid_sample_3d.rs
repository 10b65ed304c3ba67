//! The sampler of volumes: PyTorch's values, eq. (9) written out, gradients by finite differences, identity, sizes.

#[path = "grid_sample_3d/edges.rs"]
mod edges;
mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample_3d};
use support::sampler::{config, normalised};
use support::{check_gradients, distance, random, run, tensor, values};

/// Trilinear and nearest with every padding in both conventions.
fn configs() -> impl Iterator<Item = GridSampleConfig> {
    support::sampler::configs().filter(|cfg| cfg.interpolation != Interpolation::Bicubic)
}

type Size = (usize, usize, usize);

/// The grid (n, d', h', w', 3) whose points are `point(i)` in voxels (x, y, z) of a volume (d, h, w).
fn grid_of_voxels(
    (n, (out_d, out_h, out_w)): (usize, Size),
    (d, h, w): Size,
    align_corners: bool,
    point: impl Fn(usize) -> [f64; 3],
) -> Result<Tensor> {
    let points = (0..n * out_d * out_h * out_w).map(point);
    let coordinates =
        points.flat_map(|[x, y, z]| [(x, w), (y, h), (z, d)].map(|(p, n)| normalised(p, n, align_corners)));
    Tensor::from_vec(coordinates.collect(), (n, out_d, out_h, out_w, 3), &Device::Cpu)
}

/// The grid of the identity: the centres of the voxels.
fn identity(n: usize, size: Size, align_corners: bool) -> Result<Tensor> {
    let (d, h, w) = size;
    let point = |i: usize| [i % w, i / w % h, i / (w * h) % d].map(|i| i as f64);
    grid_of_voxels((n, size), size, align_corners, point)
}

/// A grid of random points, many of them outside and some far outside, none within a tenth of a voxel of a kink: a whole or a half one.
fn grid_between_voxels((n, out): (usize, Size), size: Size, align_corners: bool, seed: u64) -> Result<Tensor> {
    let (d, h, w) = size;
    let random = values(&random((n * out.0 * out.1 * out.2, 6), seed)?)?;
    let side = |n: usize, cell: f64, fraction: f64| {
        let half = (cell * (n as f64 + 3.0) + n as f64).floor() / 2.0; // from -1.5 to n + 1.5
        let half = if cell > 0.95 { half + 40.0 } else { half };
        half + 0.25 + 0.15 * fraction
    };
    grid_of_voxels((n, out), size, align_corners, |i| {
        let r = &random[6 * i..];
        [side(w, r[0], r[1]), side(h, r[2], r[3]), side(d, r[4], r[5])]
    })
}

/// V of eq. (9), the sum over all voxels, with zeros outside or the border repeated: u (B, C, D, H, W), grid (B k, D', H', W', 3).
fn eq_9(u: &Tensor, grid: &Tensor, cfg: GridSampleConfig) -> Result<Tensor> {
    let (b, c, d, h, w) = u.dims5()?;
    let (n, out_d, out_h, out_w, _) = grid.dims5()?;
    let (u, grid, points) = (values(u)?, values(grid)?, out_d * out_h * out_w);
    let hat = |g: f64, n: usize, i: usize| {
        let n = n as f64;
        let p = if cfg.align_corners { (g + 1.0) / 2.0 * (n - 1.0) } else { ((g + 1.0) * n - 1.0) / 2.0 };
        let p = if cfg.padding == Padding::Border { p.clamp(0.0, n - 1.0) } else { p };
        (1.0 - (p - i as f64).abs()).max(0.0)
    };
    let value = |i: usize| {
        let (window, channel, g) =
            (i / (c * points), i / points % c, &grid[3 * (i / (c * points) * points + i % points)..]);
        let volume = &u[(window / (n / b) * c + channel) * d * h * w..][..d * h * w];
        let weighted =
            |(i, u): (usize, &f64)| u * hat(g[0], w, i % w) * hat(g[1], h, i / w % h) * hat(g[2], d, i / (w * h));
        volume.iter().enumerate().map(weighted).sum::<f64>()
    };
    Tensor::from_vec((0..n * c * points).map(value).collect(), (n, c, out_d, out_h, out_w), &Device::Cpu)
}

/// Values and both gradients, of contiguous volumes and of views; `data/grid_sample_3d_goldens.py` has the script.
#[test]
fn matches_pytorch() -> Result<()> {
    let goldens: Value = serde_json::from_str(include_str!("data/grid_sample_3d_goldens.json")).expect("valid JSON");
    let cases = goldens["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 12);
    for (case, view) in
        cases.iter().flat_map(|case| [[0, 1, 2, 3, 4], [0, 2, 3, 4, 1], [1, 4, 0, 2, 3]].map(|v| (case, v)))
    {
        let cfg = config(case);
        let mut back = [0; 5];
        view.iter().enumerate().for_each(|(i, &axis)| back[axis] = i);
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
            let read = |json: &Value| tensor(json)?.to_dtype(dtype);
            let input = Var::from_tensor(&read(&goldens["input"])?.permute(view)?.contiguous()?)?;
            let grid = Var::from_tensor(&read(&goldens["grid"])?.permute(view)?.contiguous()?)?;
            let out = grid_sample_3d(&input.permute(back)?, &grid.permute(back)?, cfg)?;
            let grads = (&out * read(&goldens["upstream"])?)?.sum_all()?.backward()?;
            let check = |what: &str, got: &Tensor, expected: &Value| -> Result<()> {
                let distance = distance(got, &read(expected)?)?;
                assert!(distance < tolerance, "{what} of {cfg:?} {dtype:?} {view:?}: {distance}");
                Ok(())
            };
            check("output", &out, &case["output"])?;
            for (name, var) in [("input", &input), ("grid", &grid)] {
                let gradient = grads.get(var).expect("every input has a gradient").permute(back)?;
                check(name, &gradient, &case["gradients"][name])?;
            }
        }
    }
    Ok(())
}

#[test]
fn identity_returns_the_input() -> Result<()> {
    for size in [(3, 5, 8), (8, 5, 3), (1, 6, 2), (7, 1, 1), (1, 1, 1), (28, 30, 42)] {
        for cfg in configs() {
            for (dtype, tolerance) in [(DType::F32, 4e-6), (DType::F64, 1e-12)] {
                let u = random((2, 2, size.0, size.1, size.2), 1)?.to_dtype(dtype)?;
                let v = grid_sample_3d(&u, &identity(2, size, cfg.align_corners)?.to_dtype(dtype)?, cfg)?;
                let distance = distance(&u, &v)?;
                assert!(distance < tolerance, "{size:?} {cfg:?} {dtype:?}: {distance}");
            }
        }
    }
    Ok(())
}

/// The half types sample in f32 and give and take gradients in their own.
#[test]
fn half_precision() -> Result<()> {
    for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        for cfg in configs() {
            let u = random((2, 2, 3, 4, 5), 1)?.to_dtype(dtype)?;
            let grid = random((2, 2, 3, 2, 3), 2)?.to_dtype(dtype)?;
            let (out, gradients) = run(&[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
            let (u, grid) = (u.to_dtype(DType::F64)?, grid.to_dtype(DType::F64)?);
            let (expected, expected_gradients) = run(&[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
            assert!(distance(&out, &expected)? < tolerance, "{cfg:?}");
            for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
                assert_eq!((out.dtype(), gradient.dtype()), (dtype, dtype));
                assert!(distance(gradient, expected)? < 8.0 * tolerance, "{cfg:?} {dtype:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn agrees_with_eq_9_for_every_size() -> Result<()> {
    let sizes = [
        ((2, 4, 6), (3, 5, 7)),
        ((7, 5, 3), (4, 3, 2)),
        ((5, 3, 1), (2, 1, 8)),
        ((1, 3, 5), (1, 1, 1)),
        ((1, 1, 1), (3, 2, 2)),
    ];
    for (i, (size, out)) in sizes.into_iter().enumerate() {
        for cfg in configs() {
            if cfg.interpolation != Interpolation::Bilinear || cfg.padding == Padding::Reflection {
                continue;
            }
            let u = random((2, 3, size.0, size.1, size.2), i as u64)?;
            let grid = (random((4, out.0, out.1, out.2, 3), 100 + i as u64)? * 1.6)?;
            let difference = distance(&grid_sample_3d(&u, &grid, cfg)?, &eq_9(&u, &grid, cfg)?)?;
            assert!(difference < 1e-12, "{size:?} {out:?} {cfg:?}: {difference}");
        }
    }
    Ok(())
}

/// Two windows an image; sides of length 1 among the sizes.
#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let sizes = [((3, 2, 4), (2, 3, 2)), ((2, 3, 2), (3, 2, 4)), ((1, 4, 3), (2, 2, 3)), ((4, 1, 1), (2, 1, 5))];
    for (i, (size, out)) in sizes.into_iter().enumerate() {
        for cfg in configs() {
            let u = random((2, 2, size.0, size.1, size.2), i as u64)?;
            let grid = grid_between_voxels((4, out), size, cfg.align_corners, 50 + i as u64)?;
            check_gradients(&format!("{size:?} {cfg:?}"), &[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
        }
    }
    Ok(())
}

/// At a coordinate that falls on a voxel the derivative is the difference to the next one; where the border clamps or the reflection
/// turns it is zero, the edge included; nearest has none. Along each axis in turn.
#[test]
fn derivative_at_a_voxel_is_the_right_hand_one() -> Result<()> {
    for axis in 0..3 {
        let mut size = [1; 3]; // W, H, D
        size[axis] = 5;
        let [w, h, d] = size;
        let image = Tensor::new(&[3.0, 5.0, 4.0, -2.0, 1.0], &Device::Cpu)?.reshape((1, 1, d, h, w))?;
        for cfg in configs().filter(|cfg| cfg.align_corners) {
            let point = |i: usize| std::array::from_fn(|k| if k == axis { i as f64 - 1.0 } else { 0.0 });
            let points = Var::from_tensor(&grid_of_voxels((1, (1, 1, 7)), (d, h, w), true, point)?)?;
            let out = grid_sample_3d(&image, &points, cfg)?;
            let grads = out.sum_all()?.backward()?;
            let gradient = values(grads.get(&points).expect("the grid has a gradient"))?;
            let along: Vec<f64> = gradient.iter().skip(axis).step_by(3).map(|g| g / 2.0).collect();
            let expected = match (cfg.interpolation, cfg.padding) {
                (Interpolation::Nearest, _) => [0.0; 7],
                (_, Padding::Zeros) => [3.0, 2.0, -1.0, -6.0, 3.0, -1.0, 0.0],
                (_, Padding::Border) => [0.0, 0.0, -1.0, -6.0, 3.0, 0.0, 0.0],
                // At -1 and 5 it is that of the mirrored places, 1 and 3, with the sign turned.
                (_, Padding::Reflection) => [1.0, 0.0, -1.0, -6.0, 3.0, 0.0, -3.0],
            };
            assert_eq!(along, expected, "{cfg:?} along {axis}");
            let others = gradient.iter().enumerate().filter(|(i, _)| i % 3 != axis);
            assert!(cfg.padding == Padding::Zeros || others.into_iter().all(|(_, &g)| g == 0.0));
        }
    }
    Ok(())
}

/// k consecutive windows of one volume are what k copies of it give.
#[test]
fn windows_share_their_volume() -> Result<()> {
    let (b, k) = (2, 3);
    for cfg in configs() {
        let u = random((b, 2, 3, 5, 4), 1)?;
        let grid = grid_between_voxels((b * k, (2, 3, 4)), (3, 5, 4), cfg.align_corners, 2)?;
        let (out, gradients) = run(&[&u, &grid], |t| grid_sample_3d(&t[0], &t[1], cfg))?;
        let (expected, expected_gradients) = run(&[&u, &grid], |t| {
            let copies = t[0].unsqueeze(1)?.broadcast_as((b, k, 2, 3, 5, 4))?.contiguous()?.flatten(0, 1)?;
            grid_sample_3d(&copies, &t[1], cfg)
        })?;
        assert_eq!(out.dims(), [b * k, 2, 2, 3, 4]);
        assert_eq!(values(&out)?, values(&expected)?);
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < 1e-12, "{cfg:?}");
        }
    }
    Ok(())
}
