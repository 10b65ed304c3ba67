//! Times of single operations, forward and with all gradients: `just bench`, or `just bench grid_sample` for one of them.
//!
//! The race against PyTorch is `just bench-peers`.

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use stn_core::ops::{
    Conv2dConfig, GridSampleConfig, Pool2dConfig, affine_grid_sample, avg_pool2d, conv2d, grid_sample, grid_sample_3d,
    max_pool2d,
};
use stn_core::transform::{ThinPlateSpline, Transform, affine_grid, affine_grid_3d};

/// Uniform values in [0, 1), whose gradient is asked for.
fn var(shape: &[usize]) -> Result<Tensor> {
    Ok(Var::rand(0f32, 1.0, shape, &Device::Cpu)?.into_inner())
}

/// Times an operation alone on detached tensors, and with its backward pass.
fn both(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    inputs: &[Tensor],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let detached: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    // An operation that fails would otherwise be timed failing.
    op(inputs)?.backward()?;
    group.bench_function(format!("{name} forward"), |bencher| bencher.iter(|| op(&detached)));
    group.bench_function(format!("{name} fwd+bwd"), |bencher| {
        bencher.iter(|| {
            let out = op(inputs)?;
            out.backward()
        });
    });
    Ok(())
}

fn convolutions(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("conv2d");
    for (name, input, weight, padding) in [
        ("1->32 9x9 on (256,1,28,28)", [256, 1, 28, 28], [32, 1, 9, 9], 0),
        ("32->32 7x7 on (256,32,10,10)", [256, 32, 10, 10], [32, 32, 7, 7], 0),
        ("48->64 5x5 pad 2 on (16,48,32,32)", [16, 48, 32, 32], [64, 48, 5, 5], 2),
    ] {
        let inputs = [var(&input)?, var(&weight)?, var(&weight[..1])?];
        let cfg = Conv2dConfig::new().padding(padding);
        both(&mut group, name, &inputs, |t| conv2d(&t[0], &t[1], Some(&t[2]), cfg))?;
    }
    group.finish();
    Ok(())
}

fn pools(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("pool2d");
    for (shape, input) in [("(256,32,20,20)", [256, 32, 20, 20]), ("(16,128,32,32)", [16, 128, 32, 32])] {
        let (inputs, cfg) = ([var(&input)?], Pool2dConfig::new(2));
        both(&mut group, &format!("max 2x2 on {shape}"), &inputs, |t| max_pool2d(&t[0], cfg))?;
        both(&mut group, &format!("avg 2x2 on {shape}"), &inputs, |t| avg_pool2d(&t[0], cfg))?;
    }
    group.finish();
    Ok(())
}

fn samplers(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("grid_sample");
    let cfg = GridSampleConfig::new(true);
    let turn = Tensor::new(&[[[0.9f32, -0.2, 0.05], [0.2, 0.9, -0.05]]], &Device::Cpu)?;
    for (name, input, out) in [
        ("(256,1,28,28)", [256, 1, 28, 28], (28, 28)),
        ("(64,32,64,64)", [64, 32, 64, 64], (64, 64)),
        ("(8,3,448,448) to 224x224", [8, 3, 448, 448], (224, 224)),
    ] {
        let theta = Var::from_tensor(&turn.repeat((input[0], 1, 1))?)?.into_inner();
        let grid = Var::from_tensor(&affine_grid(&theta.detach(), out, true)?)?.into_inner();
        let image = var(&input)?;
        both(&mut group, name, &[image.clone(), grid], |t| grid_sample(&t[0], &t[1], cfg))?;
        both(&mut group, &format!("{name} from theta"), &[image, theta], |t| {
            affine_grid_sample(&t[0], &t[1], out, cfg)
        })?;
    }
    let turn =
        Tensor::new(&[[[0.9f32, -0.2, 0.0, 0.05], [0.2, 0.9, 0.0, -0.05], [0.0, 0.0, 0.95, 0.0]]], &Device::Cpu)?;
    let grid = affine_grid_3d(&turn.repeat((4, 1, 1))?, (60, 60, 60), true)?;
    let inputs = [var(&[4, 1, 60, 60, 60])?, Var::from_tensor(&grid)?.into_inner()];
    both(&mut group, "(4,1,60,60,60)", &inputs, |t| grid_sample_3d(&t[0], &t[1], cfg))?;
    group.finish();
    Ok(())
}

fn grids(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("grid");
    let spline = ThinPlateSpline::new(4, 4)?;
    let identity = Tensor::from_vec(spline.identity(), (1, 32), &Device::Cpu)?.repeat((256, 1))?;
    let theta = Var::from_tensor(&identity.to_dtype(DType::F32)?)?.into_inner();
    both(&mut group, "thin plate spline (256,28,28)", &[theta], |t| spline.grid(&t[0], (28, 28), true))?;
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    let run = |bench: fn(&mut Criterion) -> Result<()>, criterion: &mut Criterion| {
        if let Err(error) = bench(criterion) {
            panic!("{error}");
        }
    };
    for bench in [convolutions, pools, samplers, grids] {
        run(bench, criterion);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
