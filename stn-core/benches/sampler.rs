//! Times the samplers: medians and minima in milliseconds, by `cargo bench -p stn-core --bench sampler`. A name as an argument runs the cases whose
//! names contain it.

use candle_core::{DType, Device, Result, Tensor, Var};
use std::time::Instant;
use stn_core::ops::{GridSampleConfig, affine_grid_sample, grid_sample, grid_sample_3d};
use stn_core::transform::{ThinPlateSpline, Transform, affine_grid, affine_grid_3d};

fn main() -> Result<()> {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let cfg = GridSampleConfig::new(true);
    let image_cases = [
        ("batch", (64, 32, 64, 64), (64, 64), 15),
        ("rgb", (8, 3, 448, 448), (224, 224), 25),
        ("large", (1, 3, 2048, 2048), (2048, 2048), 9),
        ("single", (1, 32, 64, 64), (64, 64), 100),
    ];
    for (name, size, out, times) in image_cases.into_iter().filter(|case| case.0.contains(&only)) {
        let u = waves(size)?;
        let grid = affine_grid(&matrices(size.0, 2)?, out, true)?;
        bench(name, &u, &grid, times, |u, grid| grid_sample(u, grid, cfg))?;
    }
    let volumes = [("vol1", (4, 1, 60, 60, 60), 15), ("vol8", (2, 8, 32, 32, 32), 25)];
    for (name, size, times) in volumes.into_iter().filter(|case| case.0.contains(&only)) {
        let u = waves(size)?;
        let grid = affine_grid_3d(&matrices(size.0, 3)?, (size.2, size.3, size.4), true)?;
        bench(name, &u, &grid, times, |u, grid| grid_sample_3d(u, grid, cfg))?;
    }
    if "small".contains(&only) {
        let (u, theta) = (waves((256, 1, 28, 28))?, Var::from_tensor(&matrices(256, 2)?)?);
        time("small fwd", 200, || affine_grid_sample(&u, &theta.as_detached_tensor(), (28, 28), cfg).map(drop))?;
        time("small fwd+bwd theta", 200, || {
            affine_grid_sample(&u, &theta, (28, 28), cfg)?.sum_all()?.backward().map(drop)
        })?;
    }
    if "tps".contains(&only) {
        let (spline, theta) = (ThinPlateSpline::new(4, 4)?, Var::from_tensor(&waves((256, 32))?)?);
        time("tps fwd", 200, || spline.grid(&theta.as_detached_tensor(), (28, 28), true).map(drop))?;
        time("tps fwd+bwd", 200, || spline.grid(&theta, (28, 28), true)?.sum_all()?.backward().map(drop))?;
    }
    Ok(())
}

/// Forward alone, and with the gradients of both or of the grid.
fn bench(
    name: &str,
    u: &Tensor,
    grid: &Tensor,
    times: usize,
    sample: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<()> {
    time(&format!("{name} fwd"), times, || sample(u, grid).map(drop))?;
    let (u_var, grid_var) = (Var::from_tensor(u)?, Var::from_tensor(grid)?);
    for (what, u) in [("both", u_var.as_tensor()), ("grid", u)] {
        let pass = || sample(u, &grid_var)?.sum_all()?.backward().map(drop);
        time(&format!("{name} fwd+bwd {what}"), times, pass)?;
    }
    Ok(())
}

fn time(name: &str, times: usize, pass: impl Fn() -> Result<()>) -> Result<()> {
    pass()?;
    let mut seconds = vec![];
    for _ in 0..times {
        let start = Instant::now();
        pass()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!("{name:24} {:9.3} ms, at least {:9.3}", 1e3 * seconds[times / 2], 1e3 * seconds[0]);
    Ok(())
}

fn waves(shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let numbers = Tensor::arange(0f32, shape.elem_count() as f32, &Device::Cpu)?;
    numbers.affine(0.37, 0.0)?.sin()?.reshape(shape)
}

/// Matrices about the identity, some of which look outside the image.
fn matrices(n: usize, d: usize) -> Result<Tensor> {
    let spread = if d == 2 { 0.3 } else { 0.2 };
    let noise = Tensor::arange(0f32, (n * d * (d + 1)) as f32, &Device::Cpu)?.affine(1.7, 0.0)?.sin()?;
    let noise = noise.affine(spread, 0.0)?.reshape((n, d, d + 1))?;
    noise.broadcast_add(&Tensor::eye(d, DType::F32, &Device::Cpu)?.pad_with_zeros(1, 0, 1)?)
}
