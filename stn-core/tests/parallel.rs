//! Several windows of one image, and transformers in series: shapes, tilings, gradients, what is learnt, errors.

mod support;

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, Var};
use stn_core::init::SeededVarMap;
use stn_core::layers::{conv2d, linear};
use stn_core::localisation::{conv_localisation, fc_localisation, regression};
use stn_core::ops::{Conv2dConfig, GridSampleConfig};
use stn_core::optim::{AdamW, AdamWConfig, Optimiser, ParamGroup};
use stn_core::parallel::{LocalisationNets, ParallelTransformers, affine_tiling, tiling};
use stn_core::transform::{Affine, Transform, Translation};
use stn_core::{SpatialTransformer, Transformed};
use support::{bits, check_gradients, distance, message, random, run, values};

const HALF: Translation = Translation { scale: 0.5 };

/// A localisation net that gives the same parameters for every image.
fn constant(params: &[f32]) -> Result<impl ModuleT + use<>> {
    let params = Tensor::new(params, &Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(move |u: &Tensor| params.broadcast_as((u.dim(0)?, params.elem_count()))?.contiguous())
}

#[test]
fn windows_follow_one_another() -> Result<()> {
    let u = random((3, 2, 8, 6), 1)?;
    let cfg = GridSampleConfig::new(true);
    let parallel = ParallelTransformers::new(constant(&tiling(1, 2))?, HALF, 2, (5, 7), cfg)?;
    let Transformed { output, theta } = parallel.transform(&u, false)?;
    assert_eq!((output.dims(), theta.dims()), (&[6, 2, 5, 7][..], &[6, 2][..]));
    assert_eq!(parallel.grid(&theta)?.dims(), [6, 5, 7, 2]);
    assert_eq!(bits([&parallel.forward_t(&u, false)?])?, bits([&output])?);
    // The same as one transformer a window.
    let streams = parallel.split(&output)?;
    for (stream, params) in streams.iter().zip(tiling(1, 2).chunks(2)) {
        let single = SpatialTransformer::new(constant(params)?, HALF, (5, 7), cfg);
        assert_eq!(bits([stream])?, bits([&single.forward_t(&u, false)?])?);
    }
    let joined = parallel.join_channels(&output)?;
    assert_eq!(bits([&joined])?, bits([&Tensor::cat(&streams, 1)?])?);
    // Descriptors of the windows, too.
    assert_eq!(parallel.join_channels(&random((6, 10), 2)?)?.dims(), [3, 20]);
    assert_eq!((parallel.windows(), parallel.out_size(), parallel.config()), (2, (5, 7), cfg));
    assert_eq!(parallel.grid_generator(), &HALF);
    Ok(())
}

/// Tiles of 1/rows x 1/columns of the image, laid side by side again, are the image: every pixel once.
#[test]
fn tiling_covers_the_image_exactly() -> Result<()> {
    let cfg = GridSampleConfig::new(false);
    for (rows, columns) in [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (4, 1)] {
        let u = random((2, 1, 12, 12), 3)?;
        let windows = rows * columns;
        let out_size = (12 / rows, 12 / columns);
        let reassemble = |tiles: Vec<Tensor>| {
            let rows = tiles.chunks(columns).map(|row| Tensor::cat(row, 3)).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&rows, 2)
        };
        let net = constant(&affine_tiling(rows, columns))?;
        let parallel = ParallelTransformers::new(net, Affine, windows, out_size, cfg)?;
        let image = reassemble(parallel.split(&parallel.forward_t(&u, true)?)?)?;
        assert!(distance(&image, &u)? < 1e-6, "{rows} x {columns}");
        if rows == columns {
            let family = Translation { scale: 1.0 / rows as f64 };
            let parallel = ParallelTransformers::new(constant(&tiling(rows, rows))?, family, windows, out_size, cfg)?;
            let image = reassemble(parallel.split(&parallel.forward_t(&u, true)?)?)?;
            assert!(distance(&image, &u)? < 1e-6, "{rows} x {columns}, translations");
        }
    }
    Ok(())
}

/// As the last layer's bias, a tiling is where a new net starts.
#[test]
fn new_net_starts_at_the_tiling() -> Result<()> {
    let vb = SeededVarMap::new(0).var_builder(DType::F64, &Device::Cpu);
    let net = conv_localisation((3, 28, 28), &tiling(2, 2), Default::default(), vb)?;
    let parallel = ParallelTransformers::new(net, HALF, 4, (14, 14), GridSampleConfig::new(false))?;
    let theta = parallel.theta(&random((2, 3, 28, 28), 4)?, true)?;
    let start: Vec<f64> = tiling(2, 2).into_iter().map(f64::from).collect();
    assert_eq!(values(&theta)?, start.repeat(2));
    assert_eq!(theta.dims(), [8, 2]);
    Ok(())
}

/// Value and both gradients are those of the image repeated for each window, and finite differences agree.
#[test]
fn image_gradient_is_that_of_repeated_images() -> Result<()> {
    let (u, theta) = (random((2, 2, 5, 6), 5)?, random((6, 2), 6)?.affine(0.4, 0.03)?);
    for align_corners in [true, false] {
        let cfg = GridSampleConfig::new(align_corners);
        let parallel = ParallelTransformers::new(constant(&[0.0; 6])?, HALF, 3, (4, 3), cfg)?;
        let shared = |inputs: &[Tensor]| parallel.warp(&inputs[0], &inputs[1]);
        let repeated = |inputs: &[Tensor]| {
            let images = inputs[0].unsqueeze(1)?.repeat((1, 3, 1, 1, 1))?.flatten(0, 1)?;
            HALF.warp(&images, &inputs[1], (4, 3), cfg)
        };
        let (value, gradients) = run(&[&u, &theta], shared)?;
        let (expected, expected_gradients) = run(&[&u, &theta], repeated)?;
        assert_eq!(bits([&value])?, bits([&expected])?);
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert!(distance(gradient, expected)? < 1e-12);
        }
        check_gradients("parallel windows", &[&u, &theta], shared)?;
    }
    Ok(())
}

/// Two nets, each of which sees everything; the loss of the windows alone reaches both.
#[test]
fn every_localisation_net_gets_a_gradient() -> Result<()> {
    let vars = SeededVarMap::new(1);
    let vb = vars.var_builder(DType::F64, &Device::Cpu);
    let net = |name: &str| fc_localisation((2, 6, 6), &Affine.identity(), Default::default(), vb.pp(name));
    let nets = LocalisationNets(vec![net("one")?, net("two")?]);
    let parallel = ParallelTransformers::new(nets, Affine, 2, (6, 6), GridSampleConfig::new(true))?;
    let u = Var::from_tensor(&random((3, 2, 6, 6), 7)?)?;
    for (name, var) in vars.vars() {
        if name.ends_with("regression.weight") {
            var.set(&random(var.shape(), 8)?.affine(0.01, 0.0)?)?; // away from zero, so that layers before it get theirs
        }
    }
    let seen = parallel.join_channels(&parallel.forward_t(&u, true)?)?;
    let grads = support::weighted_sum(&seen)?.backward()?;
    for (name, var) in vars.vars() {
        let size = grads.get(&var).expect("a gradient").sqr()?.sum_all()?.to_scalar::<f64>()?;
        assert!(size.is_finite() && size > 0.0, "{name}: {size}");
    }
    assert!(grads.get(&u).is_some());
    Ok(())
}

/// Two bumps, and a window that must learn to find each.
#[test]
fn learns_where_two_things_are() -> Result<()> {
    let bumps = |centres: &[(f64, f64)], side: usize| {
        let value = |i: usize| {
            let (x, y) = ((i % side) as f64, (i / side) as f64);
            centres.iter().map(|(cx, cy)| (-((x - cx).powi(2) + (y - cy).powi(2)) / 6.0).exp()).sum::<f64>()
        };
        Tensor::from_vec((0..side * side).map(value).collect(), (1, 1, side, side), &Device::Cpu)
    };
    let u = bumps(&[(5.0, 8.0), (14.0, 10.0)], 20)?;
    let target = bumps(&[(4.5, 4.5)], 10)?.broadcast_as((2, 1, 10, 10))?;
    let vars = SeededVarMap::new(0);
    let last = regression(400, &tiling(1, 2), vars.var_builder(DType::F64, &Device::Cpu))?;
    let net = move |u: &Tensor| last.forward(&u.flatten_from(1)?);
    let parallel = ParallelTransformers::new(net, HALF, 2, (10, 10), GridSampleConfig::new(false))?;
    let config = AdamWConfig { lr: 0.01, weight_decay: 0.0, ..Default::default() };
    let mut adamw = AdamW::new(vec![ParamGroup::new(vars.trainable_vars())], config)?;
    for _ in 0..100 {
        let loss = (parallel.forward_t(&u, true)? - &target)?.sqr()?.mean_all()?;
        adamw.step(&loss.backward()?)?;
    }
    // A window's centre at pixel p of 20: tx = (p + 0.5) / 10 - 1.
    let expected = [-0.45, -0.15, 0.45, 0.05];
    for (got, want) in values(&parallel.theta(&u, false)?)?.into_iter().zip(expected) {
        assert!((got - want).abs() < 0.03, "{got} but {want}");
    }
    Ok(())
}

/// In series and at any depth: on the image with an output twice as large, on feature maps with one of half the size. New, the
/// first enlarges and the second shrinks; all variables get a gradient.
#[test]
fn transformers_compose_at_any_depth() -> Result<()> {
    let vars = SeededVarMap::new(2);
    let vb = vars.var_builder(DType::F64, &Device::Cpu);
    let transformer = |shape, out, name: &str| {
        let net = fc_localisation(shape, &Affine.identity(), Default::default(), vb.pp(name))?;
        Ok::<_, candle_core::Error>(SpatialTransformer::new(net, Affine, out, GridSampleConfig::new(true)))
    };
    let first = transformer((1, 8, 8), (16, 16), "first")?;
    let conv = conv2d(1, 4, 3, Conv2dConfig::default(), vb.pp("conv"))?;
    let second = transformer((4, 14, 14), (7, 7), "second")?;
    let third = transformer((4, 7, 7), (7, 7), "third")?;
    let fc = linear(4 * 49, 3, vb.pp("fc"))?;
    let forward = |u: &Tensor| {
        let u = conv.forward(&first.forward_t(u, true)?)?.relu()?;
        let u = third.forward_t(&second.forward_t(&u, true)?, true)?;
        fc.forward(&u.flatten_from(1)?)
    };
    let u = random((4, 1, 8, 8), 9)?;
    // Every 15th of 16 pixels of the enlarged picture is every 7th of the 8 of the image: the corners.
    let corner_pixels = |t: &Tensor, last: usize| -> Result<Vec<f64>> {
        let rows = t.squeeze(1)?.to_vec3::<f64>()?;
        Ok(rows.iter().flat_map(|r| [r[0][0], r[0][last], r[last][0], r[last][last]]).collect())
    };
    let enlarged = first.forward_t(&u, true)?;
    for (got, want) in corner_pixels(&enlarged, 15)?.into_iter().zip(corner_pixels(&u, 7)?) {
        assert!((got - want).abs() < 1e-12, "{got} but {want}");
    }
    for (name, var) in vars.vars() {
        if name.ends_with("regression.weight") {
            var.set(&random(var.shape(), 10)?.affine(0.01, 0.0)?)?;
        }
    }
    let grads = support::weighted_sum(&forward(&u)?)?.backward()?;
    for (name, var) in vars.vars() {
        let size = grads.get(&var).expect("a gradient").sqr()?.sum_all()?.to_scalar::<f64>()?;
        assert!(size.is_finite() && size > 0.0, "{name}: {size}");
    }
    check_gradients("transformers in series", &[&random((1, 1, 8, 8), 11)?], |u| forward(&u[0]))
}

#[test]
fn empty_batch() -> Result<()> {
    let parallel = ParallelTransformers::new(constant(&[0.0; 4])?, HALF, 2, (3, 3), GridSampleConfig::new(true))?;
    let none = parallel.transform(&Tensor::zeros((0, 1, 4, 4), DType::F64, &Device::Cpu)?, true)?;
    assert_eq!((none.output.dims(), none.theta.dims()), (&[0, 1, 3, 3][..], &[0, 2][..]));
    assert_eq!(parallel.join_channels(&none.output)?.dims(), [0, 2, 3, 3]);
    Ok(())
}

#[test]
fn error_messages() -> Result<()> {
    let cfg = GridSampleConfig::new(true);
    let none = ParallelTransformers::new(constant(&[])?, HALF, 0, (3, 3), cfg).err().expect("an error");
    assert!(none.to_string().starts_with("parallel_transformers: there must be at least 1 window, got 0"), "{none}");
    let parallel = ParallelTransformers::new(constant(&[0.0; 6])?, HALF, 2, (3, 3), cfg)?;
    let u = random((2, 1, 4, 4), 12)?;
    assert_eq!(
        message(parallel.theta(&u, true)),
        "parallel_transformers: the localisation net must give theta [2, 4], got [2, 6]"
    );
    let two = Tensor::zeros((2, 2), DType::F64, &Device::Cpu)?;
    assert_eq!(message(parallel.warp(&u, &two)), "parallel_transformers: theta must be [4, 2], got [2, 2]");
    let odd = Tensor::zeros((3, 1), DType::F64, &Device::Cpu)?;
    assert_eq!(message(parallel.join_channels(&odd)), "parallel_transformers: windows must be (N 2, ..), got [3, 1]");
    let split = parallel.split(&odd).expect_err("an error").to_string();
    assert!(split.starts_with("parallel_transformers: windows must be (N 2, ..), got [3, 1]"), "{split}");
    assert_eq!(
        message(parallel.join_channels(&odd.squeeze(1)?)),
        "parallel_transformers: windows must be (N k, C, ..), got [3]"
    );
    Ok(())
}
