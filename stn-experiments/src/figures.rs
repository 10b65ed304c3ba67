//! The figures of a report, drawn from what the runs' directories hold: the learning curves, and what an experiment's own need.

use crate::cells::Training;
use crate::data::mnist::SIDE;
use crate::experiments::Experiment;
use crate::metrics::Measure;
use crate::models::TransformKind;
use crate::record::RunDir;
use crate::run::RunResult;
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::collections::BTreeSet;
use std::path::Path;
use stn_core::telemetry::observe;
use stn_viz::{Curve, CurveFigure, curves};

/// A figure of the report: its file without the extension, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The file's name without extension.
    pub file: String,
    /// One sentence.
    pub caption: String,
    /// Whether an SVG lies beside the PNG.
    pub svg: bool,
}

/// Draws a figure as PNG and SVG.
pub(crate) fn both(
    folder: &Path,
    file: String,
    caption: String,
    draw: impl Fn(&Path) -> Result<(), candle_core::Error>,
) -> Result<Figure> {
    let figure = png(folder, file, caption, &draw)?;
    let path = folder.join(format!("{}.svg", figure.file));
    draw(&path).with_context(|| format!("cannot draw {}", path.display()))?;
    Ok(Figure { svg: true, ..figure })
}

/// Draws a figure as PNG alone: what is full of coloured pictures would be an SVG of a hundred megabytes, a square for each pixel.
pub(crate) fn png(
    folder: &Path,
    file: String,
    caption: String,
    draw: impl Fn(&Path) -> Result<(), candle_core::Error>,
) -> Result<Figure> {
    let path = folder.join(format!("{file}.png"));
    draw(&path).with_context(|| format!("cannot draw {}", path.display()))?;
    Ok(Figure { file, caption, svg: false })
}

/// In the names of files with pictures that are not ours to publish; the repository takes none of them.
pub(crate) const PRIVATE_FILE: &str = "-photographs";

/// The footnote of a run's figures: whence it comes.
pub(crate) fn note(result: &RunResult) -> String {
    let RunResult { seed, steps, .. } = result;
    format!("budget {} ({steps} steps), seed {seed}; {}", result.budget_label(), result.images_label())
}

/// The columns of a figure of images of `side` px. Classifiers of larger images than MNIST's see the output at half its size.
pub(crate) fn headings(side: usize) -> [&'static str; 3] {
    let [input, grid, seen] = stn_viz::WARP_HEADINGS;
    [input, grid, if side > SIDE { "the transformer's output" } else { seen }]
}

/// What the experiment measures, and the loss, over the steps: a figure of each for every data set, one curve a run. The names of the files begin with `prefix`.
///
/// # Errors
/// When the metrics are damaged or a figure cannot be written.
pub fn learning_curves(
    folder: &Path,
    prefix: &str,
    experiment: &dyn Experiment,
    runs: &[&(RunDir, RunResult)],
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for data in experiment.data() {
        let of_data: Vec<_> = runs.iter().copied().filter(|(_, result)| result.data == data).collect();
        if of_data.is_empty() {
            continue;
        }
        let data = if of_data.len() == runs.len() { String::new() } else { format!("{data}-") };
        let measured = match experiment.measure() {
            Measure::Error => ("error", "error_percent", "Error while training", "error (%)"),
            Measure::Correct => ("correct", "correct_percent", "Correct while training", "correct (%)"),
        };
        for (file, key, title, label) in [measured, ("loss", "loss", "Loss while training", "loss")] {
            let file = format!("{prefix}{data}{file}");
            figures.extend(learning_curve(folder, file, experiment, &of_data, (key, title, label))?);
        }
    }
    Ok(figures)
}

/// None where no value is above zero. But for what should rise, the axis is logarithmic.
fn learning_curve(
    folder: &Path,
    file: String,
    experiment: &dyn Experiment,
    runs: &[&(RunDir, RunResult)],
    (key, title, label): (&str, &str, &str),
) -> Result<Option<Figure>> {
    let rising = key == "correct_percent";
    let trainings: BTreeSet<Training> = runs.iter().map(|(_, result)| Training::of(result)).collect();
    // The seeds of a cell have one colour: there are not enough for all.
    fn cell(result: &RunResult) -> (Training<'_>, &str) {
        (Training::of(result), &result.model)
    }
    let mut cells = Vec::new();
    for (_, result) in runs {
        if !cells.contains(&cell(result)) {
            cells.push(cell(result));
        }
    }
    let mut series = Vec::new(); // name, points, colour, dashed
    for (run, result) in runs {
        let colour = cells.iter().position(|other| *other == cell(result)).unwrap_or(0);
        let lines = run.metrics()?;
        let points = |key: &str| {
            let point = |line: &serde_json::Value| Some((line["step"].as_f64()?, line[key].as_f64()?));
            lines.iter().filter_map(point).collect::<Vec<_>>()
        };
        let RunResult { model, data, budget, seed, .. } = result;
        let training =
            if trainings.len() > 1 { format!("{budget}, {}", Training::of(result).on) } else { budget.clone() };
        let name = format!("{} on {data}, {training}, seed {seed}", experiment.label(model));
        // Where no line says what is right of the whole set, the steps' own counts do, of what is wrong.
        let counted = key == "error_percent" || rising && points(key).is_empty();
        let of_counts = |key: &str| {
            let right = |(step, wrong)| (step, if rising { 100.0 - wrong } else { wrong });
            points(key).into_iter().map(right).collect::<Vec<_>>()
        };
        let (measured, validation) = match counted {
            true => (of_counts("error_percent"), of_counts("val_error_percent")),
            false => (points(key), vec![]),
        };
        let whose = if rising && !counted { "" } else { ": training batches" };
        series.push((format!("{name}{whose}"), measured, colour, counted));
        if !validation.is_empty() {
            series.push((format!("{name}: validation"), validation, colour, false));
        }
    }
    if !series.iter().flat_map(|(_, points, ..)| points).any(|&(_, value)| value > 0.0) {
        return Ok(None);
    }
    let drawn: Vec<Curve> = series
        .iter()
        .map(|(name, points, colour, dashed)| Curve { name, points, colour: *colour, dashed: *dashed })
        .collect();
    let note = note_of_all(runs);
    let figure = CurveFigure { title, note: &note, x_label: "step", y_label: label, log_y: !rising, curves: &drawn };
    both(folder, file, if rising { format!("{title}.") } else { format!("{title}, logarithmic.") }, |path| {
        curves(path, &figure)
    })
    .map(Some)
}

/// The footnote of a figure of several runs: every budget and every source among them.
fn note_of_all(runs: &[&(RunDir, RunResult)]) -> String {
    let all = |label: fn(&RunResult) -> String| {
        let labels: BTreeSet<String> = runs.iter().map(|(_, result)| label(result)).collect();
        labels.into_iter().collect::<Vec<_>>()
    };
    let (budgets, sources) = (all(RunResult::budget_label), all(RunResult::images_label));
    format!("budget {}; {}", budgets.join("; "), sources.join(" and "))
}

/// The rotations of sampling grids in degrees, counter-clockwise on the screen: of the affine transform that comes closest to each.
///
/// A digit that was turned by some angle is upright again where the grid is turned by the same angle.
pub(crate) fn grid_rotations(kind: TransformKind, thetas: &Tensor) -> Result<Vec<f64>> {
    let grids = kind.transform()?.grid(thetas, (28, 28), true)?;
    // The telemetry counts clockwise.
    Ok(observe(&grids, true)?.iter().map(|seen| -seen.pose.rotation).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSource, Pose};
    use crate::report::test_result;
    use candle_core::Device;
    use stn_core::ops::{GridSampleConfig, grid_sample};
    use stn_core::transform::affine_grid;

    /// Birds count what is right, and their steps what is wrong.
    #[test]
    fn what_counts_correct_answers_has_a_curve_of_its_steps() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("run");
        std::fs::create_dir(&dir)?;
        let lines = "{\"step\":50,\"error_percent\":40.0,\"loss\":1.0}\n{\"step\":100,\"error_percent\":10.0,\"loss\":0.5,\"val_error_percent\":30.0}\n";
        std::fs::write(dir.join("metrics.jsonl"), lines)?;
        let run = (RunDir::new(&dir), test_result("cub", "224", "cnn", 0, 20.0));
        let figures = learning_curves(folder.path(), "", crate::experiments::named("cub")?, &[&run])?;
        let files: Vec<&str> = figures.iter().map(|figure| figure.file.as_str()).collect();
        assert_eq!(files, ["correct", "loss"]);
        let drawn = std::fs::read_to_string(folder.path().join("correct.svg"))?;
        assert!(drawn.contains("training batches") && drawn.contains("validation"));
        Ok(())
    }

    #[test]
    fn the_footnote_of_several_runs_loses_no_label() {
        let made = "91000 images of SYNTHETIC house numbers v1";
        let synthetic = RunResult { trained_on: made.into(), ..test_result("svhn", "128", "cnn", 0, 10.0) };
        let hub = DataSource::Hub { repository: "a/b".into(), commit: "c".into() };
        let paper = RunResult {
            budget: "paper".into(),
            trained_on: "230755 images of a/b@c".into(),
            data_source: hub,
            ..synthetic.clone()
        };
        let runs = [synthetic, paper].map(|result| (RunDir::new("none"), result));
        let note = note_of_all(&runs.iter().collect::<Vec<_>>());
        assert_eq!(
            note,
            "budget paper; quick, scaled down; 230755 images of a/b@c and 91000 images of SYNTHETIC house numbers v1 (embedded)"
        );
        assert_eq!(
            note_of_all(&[&runs[0]]),
            "budget quick, scaled down; 91000 images of SYNTHETIC house numbers v1 (embedded)"
        );
    }

    #[test]
    fn the_grid_rotation_is_the_one_that_turns_the_digit_upright() -> Result<()> {
        let mnist = crate::data::Mnist::embedded("test")?;
        let digit = mnist.test.image(0);
        let to_tensor = |pixels: &[u8]| {
            let pixels: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
            Tensor::from_vec(pixels, (1, 1, 28, 28), &Device::Cpu)
        };
        for angle in [-60f64, 25.0, 80.0] {
            let mut turned = vec![0; 28 * 28];
            Pose { rotation: angle, ..Pose::default() }.draw(digit, 28, &mut turned);
            let (sin, cos) = angle.to_radians().sin_cos();
            let (sin, cos) = (sin as f32, cos as f32);
            let theta = [cos, sin, 0.0, -sin, cos, 0.0];
            let grid = affine_grid(&Tensor::new(&theta, &Device::Cpu)?.reshape((1, 2, 3))?, (28, 28), true)?;
            let control = TransformKind::ThinPlateSpline.transform()?.identity();
            let spline = control.chunks(2).flat_map(|p| [cos * p[0] + sin * p[1], -sin * p[0] + cos * p[1]]);
            for (kind, theta) in [
                (TransformKind::Affine, theta.to_vec()),
                (TransformKind::Projective, [&theta[..], &[0.0; 2]].concat()),
                (TransformKind::ThinPlateSpline, spline.collect()),
            ] {
                let theta = Tensor::from_vec(theta.clone(), (1, theta.len()), &Device::Cpu)?;
                assert!((grid_rotations(kind, &theta)?[0] - angle).abs() < 1e-3, "{kind:?}");
            }
            let upright = grid_sample(&to_tensor(&turned)?, &grid, GridSampleConfig::new(true))?;
            let off = |image: &Tensor| -> Result<f32> {
                Ok((image - to_tensor(digit)?)?.abs()?.mean_all()?.to_scalar::<f32>()?)
            };
            assert!(off(&upright)? < 0.3 * off(&to_tensor(&turned)?)?, "{angle} degrees is not undone");
        }
        Ok(())
    }
}
