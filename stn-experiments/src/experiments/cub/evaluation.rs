//! What a network makes of test images: its answers, where its windows lie, and what is confused with what.

use crate::cells::Training;
use crate::data::birds::{BirdSet, Crop, Truth};
use crate::experiments::Experiment;
use crate::experiments::classification::check_finite;
use crate::metrics::Spread;
use crate::models::birds::{BirdModel, BirdNetwork};
use crate::run::RunResult;
use anyhow::Result;
use candle_core::{D, Device, Tensor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Images that are looked at at a time.
const BATCH: usize = 32;
/// Confusions that a result lists.
const LISTED: usize = 10;

/// A network's answers on all images of a set.
#[derive(Debug, Clone)]
pub struct Answers {
    /// What they are.
    pub labels: Vec<u32>,
    /// What they were taken for.
    pub predicted: Vec<u32>,
    /// Each image's bird and parts, in coordinates of the square.
    pub truth: Vec<Truth>,
    /// The parameters of each image's windows; none without a transformer.
    pub thetas: Vec<Vec<Vec<f32>>>,
}

/// A window: its centre, and the ways from there to the middles of its right and of its lower edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) centre: [f64; 2],
    pub(super) right: [f64; 2],
    pub(super) down: [f64; 2],
}

impl Window {
    /// The corners, from the upper left one clockwise.
    pub(super) fn corners(&self) -> [(f64, f64); 4] {
        let at = |r: f64, d: f64, axis: usize| self.centre[axis] + r * self.right[axis] + d * self.down[axis];
        [(-1., -1.), (1., -1.), (1., 1.), (-1., 1.)].map(|(r, d)| (at(r, d, 0), at(r, d, 1)))
    }
}

/// How far a window's centre may be from a part that it finds, along either axis: a quarter of the side of the paper's windows, which is half the image's. The same for
/// windows of any size: one of the whole image finds nothing.
const FINDS: f64 = 0.25;

/// A class as figures and tables name it: by what the run noted of it, else by its number, which CUB's own list counts from one.
pub(super) fn class_name(result: &RunResult, label: u32) -> String {
    let name = result.details.get("confused_names").and_then(|names| names.get(label.to_string())?.as_str());
    name.map_or_else(|| format!("class {}", label + 1), String::from)
}

impl Answers {
    /// Looks at all images of a set, the squares in their middle.
    ///
    /// # Errors
    /// When an image cannot be read or the network does not fit it.
    pub fn of(network: &BirdNetwork, set: &BirdSet, crop: Crop) -> Result<Self> {
        let (mut labels, mut predicted, mut truth, mut thetas) = (vec![], vec![], vec![], vec![]);
        for start in (0..set.len()).step_by(BATCH) {
            let mut pixels = Vec::new();
            let end = set.len().min(start + BATCH);
            for i in start..end {
                let view = set.view(i, crop)?;
                pixels.extend(view.pixels);
                truth.push(view.truth);
                labels.push(set.label(i));
            }
            let images = Tensor::from_vec(pixels, (end - start, 3, crop.side, crop.side), &Device::Cpu)?;
            let prediction = network.forward(&images, false)?;
            check_finite(&prediction.logits)?;
            predicted.extend(prediction.logits.argmax(D::Minus1)?.to_vec1::<u32>()?);
            if let Some(transformed) = prediction.transformed {
                let all = transformed.theta.to_vec2::<f32>()?;
                thetas.extend(all.chunks(all.len() / (end - start)).map(<[_]>::to_vec));
            }
        }
        Ok(Self { labels, predicted, truth, thetas })
    }

    /// The share of wrong answers.
    pub fn error_percent(&self) -> f64 {
        let wrong = self.labels.iter().zip(&self.predicted).filter(|(label, predicted)| label != predicted).count();
        100.0 * wrong as f64 / self.labels.len().max(1) as f64
    }

    /// The most frequent confusions: what it is, what it is taken for, how often.
    pub(super) fn confusions(&self) -> Vec<(u32, u32, usize)> {
        let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (&label, &predicted) in
            self.labels.iter().zip(&self.predicted).filter(|(label, predicted)| label != predicted)
        {
            *counts.entry((label, predicted)).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().map(|((label, predicted), n)| (label, predicted, n)).collect();
        counts.sort_by_key(|&(label, predicted, n)| (std::cmp::Reverse(n), label, predicted));
        counts.truncate(LISTED);
        counts
    }

    /// The windows of each image.
    pub(super) fn windows(&self, model: BirdModel) -> Result<Vec<Vec<Window>>> {
        self.thetas.iter().map(|thetas| windows(model, thetas)).collect()
    }

    /// For a run's result: how many windows have their centre on the bird, before training and now; how many images have both parts found; confusions, and of the
    /// classes that are confused the names, as far as `names` has them.
    pub(super) fn details(&self, model: BirdModel, names: &[String]) -> Result<Map<String, Value>> {
        let mut details = Map::new();
        let confusions = self.confusions();
        let confused = confusions.iter().flat_map(|&(label, predicted, _)| [label, predicted]);
        let named = confused.filter_map(|label| Some((label.to_string(), json!(names.get(label as usize)?))));
        details.insert("confused_names".into(), Value::Object(named.collect()));
        details.insert("confusions".into(), json!(confusions));
        if let Some((count, _)) = model.windows() {
            let now = self.windows(model)?;
            let before = vec![tiles(count); now.len()];
            for (name, windows) in [("before", &before), ("after", &now)] {
                let shares: Vec<f64> = (0..count).map(|w| self.on_bird(windows, w)).collect();
                let mean = shares.iter().sum::<f64>() / count as f64;
                details.insert(format!("windows_on_bird_percent_{name}"), json!(mean));
                details.insert(format!("windows_on_bird_percent_{name}_each"), json!(shares));
                if let Some(found) = self.parts_found(windows) {
                    details.insert(format!("parts_found_percent_{name}"), json!(found));
                }
            }
        }
        Ok(details)
    }

    /// The share of images in which a window's centre lies in the bird's box.
    fn on_bird(&self, windows: &[Vec<Window>], window: usize) -> f64 {
        let on = self.truth.iter().zip(windows).filter(|(truth, windows)| {
            let ([x, y], [left, top, right, bottom]) = (windows[window].centre, truth.bird);
            (left..=right).contains(&x) && (top..=bottom).contains(&y)
        });
        100.0 * on.count() as f64 / self.truth.len().max(1) as f64
    }

    /// The share of images in which two windows have their centres within a quarter of the side of the paper's windows of the two parts. None where parts are not known.
    fn parts_found(&self, windows: &[Vec<Window>]) -> Option<f64> {
        if self.truth.is_empty() || self.truth.iter().any(|truth| truth.parts.len() != 2) {
            return None;
        }
        let finds =
            |window: &Window, part: [f64; 2]| (0..2).all(|axis| (window.centre[axis] - part[axis]).abs() <= FINDS);
        let found = self.truth.iter().zip(windows).filter(|(truth, windows)| {
            let [head, tail] = [0, 1].map(|part| windows.iter().map(move |window| finds(window, truth.parts[part])));
            // Another window for each.
            head.enumerate()
                .any(|(h, on_head)| on_head && tail.clone().enumerate().any(|(t, on_tail)| on_tail && t != h))
        });
        Some(100.0 * found.count() as f64 / self.truth.len() as f64)
    }
}

/// Centres and sides of an image's windows.
pub(super) fn windows(model: BirdModel, thetas: &[Vec<f32>]) -> Result<Vec<Window>> {
    let Some((_, kind)) = model.windows() else { return Ok(Vec::new()) };
    let affine = kind.affine(&Tensor::new(thetas.to_vec(), &Device::Cpu)?)?.to_vec3::<f32>()?;
    let window = |a: &Vec<Vec<f32>>| Window {
        centre: [f64::from(a[0][2]), f64::from(a[1][2])],
        right: [f64::from(a[0][0]), f64::from(a[1][0])],
        down: [f64::from(a[0][1]), f64::from(a[1][1])],
    };
    Ok(affine.iter().map(window).collect())
}

/// The windows before training.
fn tiles(count: usize) -> Vec<Window> {
    let centres = stn_core::parallel::tiling(count / 2, 2);
    let window = |c: &[f32]| Window { centre: [f64::from(c[0]), f64::from(c[1])], right: [0.5, 0.0], down: [0.0, 0.5] };
    centres.chunks(2).map(window).collect()
}

/// Where windows lie, for the report: a row a cell, the mean over its seeds.
pub(super) fn table(experiment: &dyn Experiment, results: &[&RunResult]) -> String {
    let mut rows: BTreeMap<(Training, &str, &str), Vec<&RunResult>> = BTreeMap::new();
    for &result in results.iter().filter(|result| result.details.contains_key("windows_on_bird_percent_after")) {
        rows.entry((Training::of(result), &result.data, &result.model)).or_default().push(result);
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### Where the windows look\n\nThe share of test images in which a window's centre is in the box round the bird, and, of synthetic creatures, in which two windows \
         have their centres within a quarter of their sides of head and tail. Boxes and parts are not trained on.\n\n\
         | budget | trained on | data | model | on the bird %, before | after | parts found %, before | after |\n|---|---|---|---|---|---|---|---|\n",
    );
    for ((Training { on, .. }, data, model), runs) in rows {
        let budget = runs.first().map_or(String::new(), |run| run.budget_label());
        let mean = |name: &str| {
            let values: Vec<f64> = runs.iter().filter_map(|run| run.details.get(name)?.as_f64()).collect();
            Spread::of(&values).map_or("-".into(), |spread| spread.to_string())
        };
        let columns = [
            "windows_on_bird_percent_before",
            "windows_on_bird_percent_after",
            "parts_found_percent_before",
            "parts_found_percent_after",
        ];
        let columns: Vec<String> = columns.into_iter().map(mean).collect();
        let _ = writeln!(text, "| {budget} | {on} | {data} | {} | {} |", experiment.label(model), columns.join(" | "));
    }
    text
}

/// What each run confuses most often, for the report.
pub(super) fn confused(experiment: &dyn Experiment, results: &[&RunResult]) -> String {
    let mut text = String::new();
    for result in results {
        let listed = result.details.get("confusions").cloned().unwrap_or_default();
        let listed: Vec<(u32, u32, usize)> = serde_json::from_value(listed).unwrap_or_default();
        let name = |label| class_name(result, label);
        let pairs: Vec<String> = listed
            .iter()
            .map(|&(label, predicted, times)| format!("{} taken for {} ({times})", name(label), name(predicted)))
            .collect();
        if !pairs.is_empty() {
            let RunResult { data, model, seed, .. } = result;
            let label = experiment.label(model);
            let _ = writeln!(text, "- {label} on {data}, {}, seed {seed}: {}", result.budget_label(), pairs.join("; "));
        }
    }
    if text.is_empty() { text } else { format!("\n### What is confused most often\n\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::cub::FineGrainedBirds;
    use crate::models::birds::WindowKind;
    use crate::report::test_result;

    fn answers() -> Answers {
        let truth = |bird, parts: [[f64; 2]; 2]| Truth { bird, parts: parts.to_vec() };
        Answers {
            labels: vec![0, 1, 1, 2],
            predicted: vec![0, 2, 2, 0],
            truth: vec![
                truth([-1.0, -1.0, 0.0, 1.0], [[-0.5, 0.2], [0.5, -0.2]]),
                truth([0.2, -1.0, 1.0, 1.0], [[-0.5, 0.3], [0.5, 0.0]]),
                truth([-2.0, -2.0, 2.0, 2.0], [[0.5, 0.0], [-0.5, 0.0]]),
                truth([0.9, 0.9, 1.0, 1.0], [[-0.4, 0.0], [0.6, 0.1]]),
            ],
            thetas: vec![vec![vec![-0.5, 0.0], vec![0.5, 0.0]]; 4],
        }
    }

    #[test]
    fn windows_on_birds_and_parts_are_counted() -> Result<()> {
        let model = BirdModel::StCnn { windows: 2, kind: WindowKind::Location, shared: false };
        let found = answers();
        assert_eq!(found.error_percent(), 75.0);
        assert_eq!(found.confusions(), [(1, 2, 2), (2, 0, 1)]);
        let details = found.details(model, &["Albatross".into(), "Ani".into()])?;
        assert_eq!(details["confused_names"], json!({"0": "Albatross", "1": "Ani"}));
        let result = RunResult { details: details.clone(), ..test_result("cub", "224", "2xst-cnn", 0, 75.0) };
        let listed = confused(&FineGrainedBirds, &[&result]);
        assert!(listed.contains("seed 0: Ani taken for class 3 (2); class 3 taken for Albatross (1)"), "{listed}");
        // The left window is on the first and the third bird, the right one on the second and the third.
        assert_eq!(details["windows_on_bird_percent_after_each"], json!([50.0, 50.0]));
        assert_eq!(details["windows_on_bird_percent_before"], json!(50.0));
        // A window for each part: the first image, the last, and the third, which is the other way round; the second is off by more than a quarter.
        assert_eq!(details["parts_found_percent_after"], json!(75.0));
        Ok(())
    }

    #[test]
    fn windows_lie_where_their_maps_take_them() -> Result<()> {
        let model = BirdModel::StCnn { windows: 2, kind: WindowKind::Affine, shared: false };
        let thetas = [vec![0.0, 0.3, 0.1, 0.2, 0.0, -0.4], vec![0.5, 0.0, 0.0, 0.0, 0.5, 0.0]];
        let windows = windows(model, &thetas)?;
        // The first is turned by a quarter: its right edge lies below its centre.
        let corners = [(-0.2, -0.6), (-0.2, -0.2), (0.4, -0.2), (0.4, -0.6)];
        for ((x, y), (left, top)) in windows[0].corners().into_iter().zip(corners) {
            assert!((x - left).abs() < 1e-6 && (y - top).abs() < 1e-6, "{:?}", windows[0].corners());
        }
        assert_eq!(windows[1], Window { centre: [0.0; 2], right: [0.5, 0.0], down: [0.0, 0.5] });

        // Two windows of the whole image are near nothing.
        let truth = Truth { bird: [-1.0, -1.0, 1.0, 1.0], parts: vec![[-0.4, 0.4], [0.4, -0.4]] };
        let whole = Window { centre: [0.0; 2], right: [1.0, 0.0], down: [0.0, 1.0] };
        let found = Answers { truth: vec![truth], ..answers() };
        assert_eq!(found.parts_found(&[vec![whole; 2]]), Some(0.0));
        Ok(())
    }
}
