//! The windows over the course of the optimisation, as the paper's Fig. 4 shows them.

use super::overlap::Frame;
use super::trial::SHOWN;
use crate::figures::{Figure, both, note};
use crate::record::RunDir;
use crate::run::{RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::IndexOp;
use std::path::Path;
use stn_viz::{BoxFigure, BoxFrame, BoxRow, boxes};

/// Columns of the figure.
const COLUMNS: usize = 7;

impl From<Frame> for BoxFrame {
    fn from(Frame { left, top, width, height }: Frame) -> Self {
        Self { left, top, width, height }
    }
}

/// Some images of a run with their windows after some steps. The steps are those at which the mean overlap has come a further sixth of its
/// way: most of it happens within a small part of a run.
pub(super) fn windows(folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
    if !run.has(SAMPLES_FILE) {
        return Ok(Vec::new());
    }
    let samples = run.load_tensors(SAMPLES_FILE)?;
    let get = |name: &str| samples.get(name).with_context(|| format!("{SAMPLES_FILE} holds no tensor {name}"));
    let (images, places) = (get("images")?, get("places")?.to_vec2::<u32>()?);

    let mut course = Vec::new(); // step, mean overlap, windows
    for line in run.metrics()? {
        let windows = serde_json::from_value::<Vec<Vec<f32>>>(line["windows"].clone());
        if let (Some(step), Some(iou), Ok(windows)) = (line["step"].as_u64(), line["mean_iou"].as_f64(), windows) {
            course.push((step, iou, windows));
        }
    }
    let chosen = stages(&course.iter().map(|(_, iou, _)| *iou).collect::<Vec<_>>());
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let headings: Vec<String> = chosen.iter().map(|&i| format!("step {}", course[i].0)).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let (mut pictures, mut found) = (Vec::new(), Vec::new());
    for (image, place) in places.iter().take(SHOWN).enumerate() {
        let truth = Frame::of_digit([place[0] as usize, place[1] as usize]);
        let of_step = |&i: &usize| {
            let window = Frame::of_window(course[i].2.get(image).context("a line of the metrics has too few windows")?);
            Ok((window, format!("IoU {:.2}", window.iou(&truth))))
        };
        pictures.push((images.i(image)?, truth));
        found.push(chosen.iter().map(of_step).collect::<Result<Vec<_>>>()?);
    }
    let found: Vec<Vec<(BoxFrame, &str)>> =
        found.iter().map(|row| row.iter().map(|(window, iou)| ((*window).into(), iou.as_str())).collect()).collect();
    let rows: Vec<BoxRow> = pictures
        .iter()
        .zip(&found)
        .map(|((image, truth), found)| BoxRow { label: "", image, truth: Some((*truth).into()), found })
        .collect();
    let title = format!("Co-localisation of the digit {} on {}", result.model, result.data);
    let figure = BoxFigure {
        title: &title,
        note: &format!("{}; {:.0} of 100 digits found in the end", note(result), 100.0 - result.error_percent),
        headings: &headings,
        legend: ["the transformer's window", "the digit's 28x28 frame"],
        rows: &rows,
    };
    let caption = format!("{title}: the windows of some images over the course of the optimisation.");
    let file = format!("{}-{}-digit-{}-seed-{}-windows", result.budget, result.data, result.model, result.seed);
    Ok(vec![both(folder, file, caption, |path| boxes(path, &figure))?])
}

/// The first, the last, and those between at which the value has first come a further share of the way from the first to its largest.
fn stages(values: &[f64]) -> Vec<usize> {
    let (Some(&first), Some(last)) = (values.first(), values.len().checked_sub(1)) else { return Vec::new() };
    let top = values.iter().copied().fold(first, f64::max);
    let goal = |share: usize| first + (top - first) * share as f64 / (COLUMNS - 1) as f64;
    let mut stages: Vec<usize> =
        (0..COLUMNS - 1).filter_map(|share| values.iter().position(|&value| value >= goal(share))).collect();
    stages.push(last);
    stages.sort_unstable();
    stages.dedup();
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_where_it_happens() {
        let mut values = vec![0.1; 50];
        values.extend((0..10).map(|i| 0.1 + 0.09 * i as f64));
        values.extend([1.0; 40]);
        let stages = stages(&values);
        assert_eq!((stages[0], stages.last(), stages.len()), (0, Some(&99), 7));
        assert!(stages[1..6].iter().all(|stage| (50..60).contains(stage)), "{stages:?}");
        assert!(super::stages(&[]).is_empty() && super::stages(&[0.5]) == [0]);
    }
}
