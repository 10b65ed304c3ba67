//! Our side of a row: what is timed, and how many elements get a gradient.

use crate::nets;
use crate::rows::{Pass, Work};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use stn_core::ops::{Conv2dConfig, ConvBlockConfig, GridSampleConfig, Pool2dConfig};
use stn_core::ops::{affine_grid_sample, conv_block, conv2d, grid_sample, grid_sample_3d};
use stn_core::transform::{ThinPlateSpline, Transform, affine_grid, affine_grid_3d};

/// What is timed: it gives the output.
pub type Step = Box<dyn FnMut() -> Result<Tensor> + Send>;

/// A row, ready to run.
pub struct Ours {
    pub step: Step,
    /// Elements that get a gradient; a network's parameters.
    pub params: usize,
}

/// Builds our side of a row.
pub fn build(work: &Work) -> Result<Ours> {
    match *work {
        Work::Matmul { n } => {
            let (a, b) = (noise((n, n))?, noise((n, n))?);
            Ok(op(vec![], false, move || Ok(a.matmul(&b)?)))
        }
        Work::Conv { input, filters, kernel, padding, pool, pass } => {
            let image = leaf(noise(&input[..])?, pass == Pass::All)?;
            let weight = leaf((noise((filters, input[1], kernel, kernel))? - 0.5)?, pass != Pass::Forward)?;
            let bias = leaf(Tensor::zeros(filters, DType::F32, &Device::Cpu)?, pass != Pass::Forward)?;
            let leaves = vec![image.clone(), weight.clone(), bias.clone()];
            let conv = Conv2dConfig::new().padding(padding);
            let block = ConvBlockConfig::new(conv).pool(Pool2dConfig::new(2));
            Ok(op(leaves, pass != Pass::Forward, move || {
                Ok(if pool {
                    conv_block(&image, &weight, Some(&bias), block)?
                } else {
                    conv2d(&image, &weight, Some(&bias), conv)?
                })
            }))
        }
        Work::Sample { ref input, ref out, affine, backward } => sample(input, out, affine, backward),
        Work::TpsGrid { batch, side, backward } => {
            let spline = ThinPlateSpline::new(4, 4)?;
            let identity = Tensor::from_vec(spline.identity(), (1, spline.num_params()), &Device::Cpu)?;
            let offsets = (noise((batch, spline.num_params()))? * 0.05)?;
            let theta = leaf(offsets.broadcast_add(&identity)?, backward)?;
            Ok(op(vec![theta.clone()], backward, move || Ok(spline.grid(&theta, (side, side), true)?)))
        }
        Work::Mnist { model, data, width, full_resolution, train } => {
            nets::mnist(model, data, width, full_resolution, work.batch(), train)
        }
        Work::Svhn { model, side, batch } => nets::svhn_step(model, side, batch),
        Work::Backbone { kind, batch, train } => nets::backbone_step(kind, batch, train),
    }
}

fn sample(input: &[usize], out: &[usize], affine: bool, backward: bool) -> Result<Ours> {
    let image = leaf(noise(input)?, backward)?;
    let cfg = GridSampleConfig::new(true);
    let theta = thetas(input[0])?;
    if let &[depth, height, width] = out {
        // The same turn about z, and z itself.
        let n = input[0];
        let zeros = Tensor::zeros((n, 2, 1), DType::F32, &Device::Cpu)?;
        let plane = Tensor::cat(&[&theta.narrow(2, 0, 2)?, &zeros, &theta.narrow(2, 2, 1)?], 2)?;
        let along = Tensor::new(&[[[0f32, 0.0, 0.95, 0.0]]], &Device::Cpu)?.repeat((n, 1, 1))?;
        let theta = Tensor::cat(&[&plane, &along], 1)?;
        let grid = leaf(affine_grid_3d(&theta, (depth, height, width), true)?, backward)?;
        return Ok(op(vec![image.clone(), grid.clone()], backward, move || Ok(grid_sample_3d(&image, &grid, cfg)?)));
    }
    let size = (out[0], out[1]);
    if affine {
        let theta = leaf(theta, backward)?;
        let leaves = vec![image.clone(), theta.clone()];
        return Ok(op(leaves, backward, move || Ok(affine_grid_sample(&image, &theta, size, cfg)?)));
    }
    let grid = leaf(affine_grid(&theta, size, true)?, backward)?;
    Ok(op(vec![image.clone(), grid.clone()], backward, move || Ok(grid_sample(&image, &grid, cfg)?)))
}

/// A row of one operation: its gradients start from ones.
fn op(leaves: Vec<Tensor>, backward: bool, mut forward: impl FnMut() -> Result<Tensor> + Send + 'static) -> Ours {
    let params = leaves.iter().filter(|leaf| leaf.is_variable()).map(Tensor::elem_count).sum();
    let step = move || {
        let out = forward()?;
        if backward {
            out.backward()?;
        }
        Ok(out)
    };
    Ours { step: Box::new(step), params }
}

/// Uniform values in [0, 1).
pub fn noise(shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Ok(Tensor::rand(0f32, 1.0, shape, &Device::Cpu)?)
}

/// A tensor whose gradient is asked for, or not.
fn leaf(tensor: Tensor, wanted: bool) -> Result<Tensor> {
    Ok(if wanted { Var::from_tensor(&tensor)?.into_inner() } else { tensor })
}

/// Small rotations and scales, one an image: PyTorch's side has the same.
fn thetas(batch: usize) -> Result<Tensor> {
    let theta = |i: usize| {
        let (scale, angle) = (0.9 + 0.1 * (i as f32).cos(), 0.3 * (i as f32).sin());
        let (c, s) = (scale * angle.cos(), scale * angle.sin());
        [c, -s, 0.05, s, c, -0.05]
    };
    Ok(Tensor::from_iter((0..batch).flat_map(theta), &Device::Cpu)?.reshape((batch, 2, 3))?)
}
