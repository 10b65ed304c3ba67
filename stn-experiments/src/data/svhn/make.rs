//! Makes files of crops: of the hub's rows, and of synthetic scenes.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use image::RgbImage;
use rayon::prelude::*;

use super::crop::{Frame, crop};
use super::crops::{self, Labels, NONE};
use super::rows::{DigitBox, decode, digits, images};
use super::synthetic::{Scene, scene};
use crate::console::counting;
use crate::data::Dataset;
use crate::data::table::Table;
use crate::models::svhn::DIGITS;

/// Crops that are made at a time.
const CHUNK: usize = 256;

/// Decodes a parquet file of numbers and writes its crops. Numbers of more than five digits, of none, and those that make no sense (labels, boxes, a damaged
/// image) are left out and counted.
///
/// # Errors
///
/// When the file is damaged, more than one number in a hundred makes no sense, or the crops cannot be written.
pub fn crop_file(parquet: &Path, path: &Path, side: usize) -> Result<()> {
    // Mapped: a shard has up to half a gigabyte, and a row group of it is needed at a time.
    let table = Table::open_mapped(parquet)?;
    let name = table.name();
    make_folder(path)?;
    crops::write(path, side, |to| {
        let (mut long, mut senseless) = (0, Vec::new());
        let bar = counting(table.rows() as u64, "crops");
        for group in 0..table.groups() {
            let rows = digits(&table, group)?.into_iter().zip(images(&table, group)?).enumerate();
            let rows: Vec<_> = rows.map(|(row, (digits, png))| (row, digits, png)).collect();
            for rows in rows.chunks(CHUNK) {
                let crops = rows.par_iter().map(|(row, digits, png)| {
                    let digits = digits.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                    cropped(digits, || decode(png), side).with_context(|| format!("row {row} of group {group}"))
                });
                for crop in crops.collect::<Vec<_>>() {
                    match crop {
                        Ok(Some((pixels, labels))) => to.push(&pixels, labels)?,
                        Ok(None) => long += 1,
                        Err(error) => senseless.push(error),
                    }
                }
                bar.inc(rows.len() as u64);
            }
        }
        bar.finish_and_clear();
        if let Some(first) = senseless.first() {
            let (count, rows) = (senseless.len(), table.rows());
            ensure!(
                100 * count <= rows,
                "{count} of {rows} numbers make no sense, the first: {first:#}; is this another set, or another layout of it?"
            );
            crate::warn!("{name}: {count} numbers that make no sense are left out, the first: {first:#}");
        }
        if long > 0 {
            crate::warn!("{name}: {long} numbers of more than {DIGITS} digits, or none, are left out");
        }
        Ok(long + senseless.len())
    })
    .with_context(|| name.to_string())
}

/// The crop of a number and its labels; none where it has no digits or more than there are heads.
fn cropped(
    digits: &[DigitBox],
    image: impl FnOnce() -> Result<RgbImage>,
    side: usize,
) -> Result<Option<(Vec<u8>, Labels)>> {
    let Some(frame) = Frame::around(digits).filter(|_| digits.len() <= DIGITS) else { return Ok(None) };
    let mut pixels = vec![0; 3 * side * side];
    crop(&image()?, frame.window(side), side, &mut pixels);
    let mut labels = [NONE; DIGITS];
    labels.iter_mut().zip(digits).for_each(|(label, digit)| *label = digit.class);
    Ok(Some((pixels, labels)))
}

/// Writes the crops of a split's first `count` synthetic numbers, as [`crop_file`] would of a file of the hub with these images and boxes.
pub(super) fn write_synthetic(path: &Path, side: usize, digits: &Dataset, split: u64, count: u64) -> Result<()> {
    make_folder(path)?;
    let indices: Vec<u64> = (0..count).collect();
    crops::write(path, side, |to| {
        let bar = counting(count, "synthetic numbers");
        for indices in indices.chunks(CHUNK) {
            let made = indices.par_iter().map(|&index| {
                let Scene { image, digits } = scene(digits, split, index);
                cropped(&digits, || Ok(image), side)?.context("a number without digits")
            });
            for (pixels, labels) in made.collect::<Result<Vec<_>>>()? {
                to.push(&pixels, labels)?;
            }
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        Ok(0)
    })
}

pub(super) fn make_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}; HF_HOME names another place for data", folder.display()))
}
