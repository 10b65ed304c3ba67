//! What each transformer of a run sees, and which digit it follows, drawn from the run's samples.

use crate::figures::{Figure, both, grid_rotations, note};
use crate::models::TransformKind;
use crate::models::addition::AdditionModel;
use crate::record::RunDir;
use crate::run::{RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::{IndexOp, Tensor};
use std::collections::HashMap;
use std::path::Path;
use stn_viz::{PosePoint, WarpFigure, WarpRow, correlation, warps};

/// A figure with a block a transformer: pairs of digits, the first red and the second cyan, its sampling grid on them, and what it makes
/// of them. None for a run without a transformer.
///
/// # Errors
/// When the run's samples are damaged or the figure cannot be written.
pub(super) fn transformers(folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
    let model: AdditionModel = result.model.parse()?;
    let (Some((kind, count)), true) = (model.transformers(), run.has(SAMPLES_FILE)) else { return Ok(Vec::new()) };
    let samples = run.load_tensors(SAMPLES_FILE)?;
    let get = |name: &str| samples.get(name).with_context(|| format!("{SAMPLES_FILE} holds no tensor {name}"));
    let (inputs, outputs) = (get("pairs.input")?, get("pairs.output")?);
    let grids = kind.transform()?.grid(get("pairs.theta")?, (42, 42), true)?; // (N k, 42, 42, 2)

    let mut rows = Vec::new();
    for transformer in 0..count {
        for (i, digits) in get("pairs.label")?.to_vec2::<u8>()?.iter().enumerate() {
            let window = i * count + transformer;
            let label = match count {
                1 => format!("{} + {}", digits[0], digits[1]),
                _ => format!("{} + {}, ST {}", digits[0], digits[1], transformer + 1),
            };
            rows.push((label, in_two_colours(&inputs.i(i)?)?, grids.i(window)?, in_two_colours(&outputs.i(window)?)?));
        }
    }
    let rows: Vec<WarpRow> =
        rows.iter().map(|(label, input, grid, output)| WarpRow { label, input, grid, output }).collect();

    let follows: Vec<String> = followed(&samples, kind, count)?
        .iter()
        .enumerate()
        .map(|(i, [first, second])| format!("transformer {}: {first:+.2} and {second:+.2}", i + 1))
        .collect();
    let title = format!("{}: two digits, and what each transformer makes of them", model.label());
    let caption = format!(
        "{}: the first test pairs (first digit red, second cyan), the sampling grid on them, and what it makes of them. Correlation of \
         the grid's rotation with that of the first and of the second digit, over {} pairs: {}.",
        model.label(),
        get("poses.rotation")?.dim(0)?,
        follows.join("; ")
    );
    let note = note(result);
    let file = format!("{}-addition-{}-seed-{}", result.budget, result.model, result.seed);
    let figure = WarpFigure {
        title: &title,
        note: &note,
        headings: ["input", "sampling grid", "output"],
        rows: &rows,
        align_corners: true,
        blocks: count,
    };
    Ok(vec![both(folder, file, caption, |path| warps(path, &figure))?])
}

/// Two channels, (2, H, W), as a picture (3, H, W): the first red, the second cyan.
fn in_two_colours(channels: &Tensor) -> Result<Tensor> {
    Ok(Tensor::stack(&[channels.i(0)?, channels.i(1)?, channels.i(1)?], 0)?)
}

/// For each transformer the correlation of its grids' rotation with that of the first and the second digit: a transformer that turns a
/// digit upright has 1 with it, and 0 with the other. 0 where one of them never turns.
fn followed(samples: &HashMap<String, Tensor>, kind: TransformKind, count: usize) -> Result<Vec<[f64; 2]>> {
    let get = |name: &str| samples.get(name).with_context(|| format!("{SAMPLES_FILE} holds no tensor {name}"));
    let applied = get("poses.rotation")?.to_vec2::<f64>()?;
    let recovered = grid_rotations(kind, get("poses.theta")?)?;
    let with = |transformer: usize, digit: usize| {
        let points: Vec<PosePoint> = applied
            .iter()
            .zip(recovered.chunks(count))
            .map(|(applied, windows)| PosePoint { applied: applied[digit], recovered: windows[transformer], class: 0 })
            .collect();
        correlation(&points).unwrap_or(0.0)
    };
    Ok((0..count).map(|transformer| [with(transformer, 0), with(transformer, 1)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_digit_that_a_transformer_turns_upright_is_the_one_it_follows() -> Result<()> {
        let applied: Vec<Vec<f64>> =
            (0..40).map(|i| vec![f64::from(i) - 20.0, f64::from(i * 17 % 40) - 20.0]).collect();
        // The first transformer undoes the second digit's rotation, the second the first's.
        let thetas = applied.iter().flat_map(|pair| {
            [pair[1], pair[0]].map(|angle| {
                let (sin, cos) = angle.to_radians().sin_cos();
                [cos, sin, 0.0, -sin, cos, 0.0].map(|v| v as f32).to_vec()
            })
        });
        let thetas: Vec<Vec<f32>> = thetas.collect();
        let samples = HashMap::from([
            ("poses.rotation".into(), Tensor::new(applied, &Device::Cpu)?),
            ("poses.theta".into(), Tensor::new(thetas, &Device::Cpu)?),
        ]);
        let [one, two] = followed(&samples, TransformKind::Affine, 2)?[..] else { panic!("two transformers") };
        assert!(one[1] > 0.999 && two[0] > 0.999 && one[0].abs() < 0.5 && two[1].abs() < 0.5, "{one:?} {two:?}");
        Ok(())
    }
}
