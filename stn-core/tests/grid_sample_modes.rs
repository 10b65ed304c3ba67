//! The sampler's modes, paddings and types: PyTorch's values for all combinations, rounding, mirrors, wild coordinates, half precision.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use stn_core::ops::{GridSampleConfig, Interpolation, Padding, grid_sample};
use support::sampler::{config, configs, grid_of_pixels, normalised};
use support::{distance, message, random, run, tensor, values};

/// The memory layouts of `data/grid_sample_goldens.py`, from dense tensors.
fn views(u: &Tensor, grid: &Tensor, layout: &str) -> Result<(Tensor, Tensor)> {
    let u = match layout {
        "channels_last" => u.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?,
        "transposed" => u.transpose(2, 3)?.contiguous()?.transpose(2, 3)?,
        "expanded_channels" => u.narrow(1, 0, 1)?.broadcast_as(u.shape())?,
        _ => u.clone(),
    };
    let grid = match layout {
        "grid_permuted" => grid.permute((0, 3, 1, 2))?.contiguous()?.permute((0, 2, 3, 1))?,
        _ => grid.clone(),
    };
    Ok((u, grid))
}

/// Three modes, three paddings, both conventions, odd shapes, five memory layouts; `data/grid_sample_goldens.py` has the script.
#[test]
fn matches_pytorch_in_every_mode() -> Result<()> {
    let goldens: Value = serde_json::from_str(include_str!("data/grid_sample_goldens.json")).expect("valid JSON");
    let cases = goldens["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 18 * 5);
    for case in cases {
        let cfg = config(case);
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
            let golden = |name: &str| tensor(&case[name])?.to_dtype(dtype);
            let (u, grid) = (Var::from_tensor(&golden("input")?)?, Var::from_tensor(&golden("grid")?)?);
            let (u_view, grid_view) = views(&u, &grid, case["layout"].as_str().expect("a layout"))?;
            let out = grid_sample(&u_view, &grid_view, cfg)?;
            let grads = (&out * golden("upstream")?)?.sum_all()?.backward()?;
            let gradient = |var: &Var| grads.get(var).expect("a gradient").clone();
            for (name, ours) in [("output", &out), ("grad_input", &gradient(&u)), ("grad_grid", &gradient(&grid))] {
                let theirs = golden(name)?;
                let size = values(&theirs)?.into_iter().fold(1.0, |max: f64, v| max.max(v.abs()));
                let off = distance(ours, &theirs)? / size;
                assert!(off < tolerance, "{name} {dtype:?} {cfg:?} {}: {off}", case["layout"]);
            }
        }
    }
    Ok(())
}
