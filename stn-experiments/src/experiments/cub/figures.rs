//! Where the windows of a run lie, what they see, and what is confused with what.

use super::Setting;
use super::evaluation::{Window, class_name, windows};
use super::samples::images;
use crate::data::Hub;
use crate::data::birds::{BirdSet, Birds};
use crate::figures::{Figure, PRIVATE_FILE, note, png};
use crate::models::birds::BirdModel;
use crate::record::RunDir;
use crate::run::{Config, RunResult, SAMPLES_FILE};
use anyhow::{Context, Result};
use candle_core::{DType, Device, IndexOp, Tensor};
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use stn_core::ops::{GridSampleConfig, grid_sample};
use stn_core::transform::affine_grid;
use stn_viz::{GalleryFigure, GalleryItem, Outline, gallery};

/// Cells of a side of a heat map.
const CELLS: usize = 32;
/// Images whose crops are shown.
const CROPPED: usize = 4;
/// On figures with photographs.
const PRIVATE: &str = "photographs of CUB-200-2011 belong to their photographers: not to be published";

/// All figures of a run. Those with photographs are drawn only where the hub's files are in the cache: a run keeps no pixel of them.
pub(super) fn all(folder: &Path, run: &RunDir, result: &RunResult) -> Result<Vec<Figure>> {
    if !run.has(SAMPLES_FILE) {
        return Ok(Vec::new());
    }
    let samples = run.load_tensors(SAMPLES_FILE)?;
    let (model, setting): (BirdModel, Setting) = (result.model.parse()?, result.data.parse()?);
    let test_identity = Config::of(run)?.settings.test_identity;
    let sheet = Sheet { folder, samples: &samples, model, setting, test_identity, result };
    let figures = [sheet.windows()?, sheet.heat()?, sheet.crops()?, sheet.confusions()?];
    Ok(figures.into_iter().flatten().collect())
}

/// The test images that the hub's cache holds, and their checksum. A report has many runs, and to check the files takes a while:
/// they are loaded once.
fn photographs() -> Option<&'static (BirdSet, String)> {
    static CACHED: OnceLock<Option<(BirdSet, String)>> = OnceLock::new();
    let load = || {
        let (test, _) = Birds::test_from_hub(&Hub::from_env(), true).ok()?;
        let identity = test.identity().ok()?;
        Some((test, identity))
    };
    CACHED.get_or_init(load).as_ref()
}

struct Sheet<'a> {
    folder: &'a Path,
    samples: &'a HashMap<String, Tensor>,
    model: BirdModel,
    setting: Setting,
    test_identity: String,
    result: &'a RunResult,
}

/// A picture, its windows and what stands below it.
type Item = (Tensor, Vec<Outline>, String);

impl Sheet<'_> {
    fn draw(
        &self,
        file: &str,
        title: &str,
        private: bool,
        columns: usize,
        side: f64,
        items: &[Item],
    ) -> Result<Option<Figure>> {
        let names = self.names();
        let used = items.iter().any(|(_, outlines, _)| !outlines.is_empty());
        let kinds: Vec<&str> = if used { names.iter().map(String::as_str).collect() } else { vec![] };
        if items.is_empty() {
            return Ok(None);
        }
        let RunResult { budget, data, model, seed, .. } = self.result;
        let items: Vec<GalleryItem> =
            items.iter().map(|(image, outlines, caption)| GalleryItem { image, outlines, caption }).collect();
        let title = format!("{} on {}: {title}", self.model.label(), self.setting.what().trim_end_matches(','));
        let (mut note, mut file) = (note(self.result), format!("{budget}-{data}-{model}-seed-{seed}-{file}"));
        if private {
            note = format!("{note}; {PRIVATE}");
            file += PRIVATE_FILE;
        }
        let figure = GalleryFigure { title: &title, note: &note, kinds: &kinds, columns, side, items: &items };
        png(self.folder, file, format!("{title}."), |path| gallery(path, &figure)).map(Some)
    }

    fn names(&self) -> Vec<String> {
        (1..=self.model.windows().map_or(0, |(count, _)| count)).map(|n| format!("window {n}")).collect()
    }

    /// The squares that `name` lists, and whether they are photographs; none where they cannot be had.
    fn pictures(&self, name: &str) -> Result<Option<(Vec<u32>, Tensor, bool)>> {
        let Some(indices) = self.samples.get(name) else { return Ok(None) };
        let indices = indices.to_vec1::<u32>()?;
        if let Some(ours) = self.samples.get(&format!("{name}.images")) {
            return Ok(Some((indices, (ours.to_dtype(DType::F32)? / 255.0)?, false)));
        }
        if self.setting.is_synthetic() {
            return Ok(None);
        }
        let Some((test, identity)) = photographs() else { return Ok(None) };
        if *identity != self.test_identity || indices.iter().any(|&i| i as usize >= test.len()) {
            return Ok(None); // another copy of the set
        }
        let pixels = images(test, self.setting.crop(), &indices)?;
        Ok(Some((indices, pixels, true)))
    }

    fn thetas(&self) -> Option<&Tensor> {
        self.samples.get("thetas")
    }

    fn windows_of(&self, image: u32) -> Result<Vec<Window>> {
        let Some(thetas) = self.thetas() else { return Ok(Vec::new()) };
        windows(self.model, &thetas.i(image as usize)?.to_vec2::<f32>()?)
    }

    /// Images with every window in its colour: the paper's figure beside Table 3.
    fn windows(&self) -> Result<Option<Figure>> {
        let (Some(_), Some((indices, pixels, private))) = (self.thetas(), self.pictures("shown")?) else {
            return Ok(None);
        };
        let mut items: Vec<Item> = Vec::new();
        for (i, &index) in indices.iter().enumerate() {
            items.push((pixels.i(i)?, outlines(&self.windows_of(index)?), String::new()));
        }
        self.draw("windows", "what its windows look at", private, 4, 150., &items)
    }

    /// For each window how often its centre lies where, over all test images, and the mean window.
    fn heat(&self) -> Result<Option<Figure>> {
        let Some(thetas) = self.thetas() else { return Ok(None) };
        let (images, count, _) = thetas.dims3()?;
        let all = (0..images as u32).map(|i| self.windows_of(i)).collect::<Result<Vec<_>>>()?;
        let mut items: Vec<Item> = Vec::new();
        for window in 0..count {
            let of_window: Vec<Window> = all.iter().map(|windows| windows[window]).collect();
            let (map, mean) = heat_map(&of_window)?;
            let [x, y] = mean.centre;
            let mut outline = outlines(&[mean]);
            outline.iter_mut().for_each(|outline| outline.kind = window);
            let outside = of_window.iter().filter(|window| window.centre.iter().any(|v| v.abs() > 1.0)).count();
            let outside = match outside {
                0 => String::new(),
                _ => format!(", {:.0} % outside, at the edge here", 100.0 * outside as f64 / images as f64),
            };
            items.push((map, outline, format!("mean centre ({x:+.2}, {y:+.2}){outside}")));
        }
        let title = format!(
            "where its windows' centres lie on {images} test images (darker: more often, by the root), and the mean window"
        );
        self.draw("heat", &title, false, 4, 160., &items)
    }

    /// Images, and beside each what its windows see.
    fn crops(&self) -> Result<Option<Figure>> {
        let (Some(thetas), Some((indices, pixels, private))) = (self.thetas(), self.pictures("shown")?) else {
            return Ok(None);
        };
        let Some((count, kind)) = self.model.windows() else { return Ok(None) };
        // As large as a stream gets them: of a window of another size it sees no more detail.
        let (mut items, side): (Vec<Item>, _) = (Vec::new(), self.setting.input());
        for (i, &index) in indices.iter().take(CROPPED).enumerate() {
            let image = pixels.i(i)?;
            let affine = kind.affine(&thetas.i(index as usize)?)?;
            let grid = affine_grid(&affine, (side, side), true)?;
            // Beyond the image the network, whose pixels are around zero, finds grey.
            let seen = (grid_sample(&(image.unsqueeze(0)? - 0.5)?, &grid, GridSampleConfig::new(true))? + 0.5)?;
            // Each pixel larger, so that the pictures are of one size.
            let (height, width) = (pixels.dim(2)?, pixels.dim(3)?);
            let seen = if side == width { seen } else { seen.upsample_nearest2d(height, width)? };
            items.push((image, outlines(&self.windows_of(index)?), String::new()));
            for window in 0..count {
                items.push((seen.i(window)?, Vec::new(), format!("window {}", window + 1)));
            }
        }
        self.draw("crops", "images, and what each window sees", private, count + 1, 150., &items)
    }

    /// Pairs of what is confused most often: an image that is named wrongly, and one of the class that it is taken for.
    fn confusions(&self) -> Result<Option<Figure>> {
        let (Some(confusions), Some((_, pixels, private))) = (self.samples.get("confusions"), self.pictures("pairs")?)
        else {
            return Ok(None);
        };
        let mut items: Vec<Item> = Vec::new();
        for (i, row) in confusions.to_vec2::<u32>()?.iter().take(pixels.dim(0)? / 2).enumerate() {
            let [label, predicted, times] = row[..] else { continue };
            let (label, predicted) = (class_name(self.result, label), class_name(self.result, predicted));
            items.push((
                pixels.i(2 * i)?,
                Vec::new(),
                match times {
                    1 => format!("{label}, once"),
                    times => format!("{label}, {times} times"),
                },
            ));
            items.push((pixels.i(2 * i + 1)?, Vec::new(), format!("taken for {predicted}")));
        }
        self.draw("confusions", "the most confused classes", private, 4, 150., &items)
    }
}

/// Windows as outlines, each in its colour.
fn outlines(windows: &[Window]) -> Vec<Outline> {
    windows.iter().enumerate().map(|(kind, window)| Outline { corners: window.corners(), kind }).collect()
}

/// How often a centre lies where, white for never and dark for most often, and the mean window.
fn heat_map(windows: &[Window]) -> Result<(Tensor, Window)> {
    let mut cells = vec![0f32; CELLS * CELLS];
    let (mut mean, n) = (Window { centre: [0.0; 2], right: [0.0; 2], down: [0.0; 2] }, windows.len().max(1) as f64);
    for window in windows {
        let cell = |v: f64| ((v + 1.0) / 2.0 * CELLS as f64).clamp(0.0, CELLS as f64 - 1.0) as usize;
        cells[cell(window.centre[1]) * CELLS + cell(window.centre[0])] += 1.0;
        for axis in 0..2 {
            mean.centre[axis] += window.centre[axis] / n;
            mean.right[axis] += window.right[axis] / n;
            mean.down[axis] += window.down[axis] / n;
        }
    }
    let most = cells.iter().copied().fold(1.0, f32::max);
    // The root shows what is rare too.
    let shades = cells.into_iter().map(|count| 1.0 - 0.9 * (count / most).sqrt()).collect();
    let map = Tensor::from_vec::<_, f32>(shades, (CELLS, CELLS), &Device::Cpu).context("a heat map")?;
    Ok((map, mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_is_where_the_centres_are() -> Result<()> {
        let window = |x, y| Window { centre: [x, y], right: [0.5, 0.0], down: [0.0, 0.5] };
        let (map, mean) = heat_map(&[window(-0.99, 0.0), window(-0.99, 0.0), window(0.99, 0.5), window(3.0, -3.0)])?;
        let map = map.to_vec2::<f32>()?;
        assert!((map[16][0] - 0.1).abs() < 1e-6 && map[24][31] < 0.5 && map[0][31] < 0.5 && map[5][5] == 1.0);
        assert!((mean.centre[0] - 0.5025).abs() < 1e-9 && (mean.right, mean.down) == ([0.5, 0.0], [0.0, 0.5]));
        Ok(())
    }
}
