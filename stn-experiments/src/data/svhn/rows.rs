//! House numbers as the hub has them: an image, and for each digit its class and box.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use image::RgbImage;

use crate::data::table::Table;

/// The box of a digit in pixels; it may leave the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitBox {
    /// 0 to 9.
    pub class: u8,
    /// Column of the left edge.
    pub left: i32,
    /// Row of the top edge.
    pub top: i32,
    /// Columns.
    pub width: i32,
    /// Rows.
    pub height: i32,
}

/// A row of the table: an encoded image and its digits from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// PNG.
    pub image: Bytes,
    /// The digits.
    pub digits: Vec<DigitBox>,
}

impl Row {
    /// Decodes the image.
    ///
    /// # Errors
    ///
    /// When it is no PNG, or a damaged one.
    pub fn decode(&self) -> Result<RgbImage> {
        let image = image::load_from_memory_with_format(&self.image, image::ImageFormat::Png);
        Ok(image.context("image must be a PNG that can be decoded")?.to_rgb8())
    }
}

/// Reads a row group of `full_numbers`: `image` struct{bytes, path}, `digits` struct{bbox: lists of [left, top, width, height], label: lists}.
///
/// # Errors
///
/// When a column is missing or of another type, or a row's digits make no sense.
pub fn rows(table: &Table, group: usize) -> Result<Vec<Row>> {
    let images = table.bytes_of_group("image.bytes", group)?;
    let labels = table.lists_of_group("digits.label.", group)?;
    let boxes = table.lists_of_group("digits.bbox.", group)?;
    let rows = images.into_iter().zip(labels).zip(boxes).enumerate();
    rows.map(|(row, ((image, labels), boxes))| {
        let digits =
            digits(&labels, &boxes).with_context(|| format!("{}: row {row} of group {group}", table.name()))?;
        Ok(Row { image, digits })
    })
    .collect()
}

fn digits(labels: &[Vec<i64>], boxes: &[Vec<i64>]) -> Result<Vec<DigitBox>> {
    ensure!(labels.len() == boxes.len(), "expected a box for each digit, got {} for {}", boxes.len(), labels.len());
    let digit = |(label, numbers): (&Vec<i64>, &Vec<i64>)| {
        let class = label.first().and_then(|&label| u8::try_from(label).ok()).filter(|&class| class < 10);
        let class = class.with_context(|| format!("a label must be 0..9, got {label:?}"))?;
        let numbers: Vec<i32> = numbers.iter().filter_map(|&n| i32::try_from(n).ok()).collect();
        let &[left, top, width, height] = numbers.as_slice() else {
            anyhow::bail!("a box must be [left, top, width, height], got {numbers:?}")
        };
        let near = [left, top, width, height].iter().all(|n| n.abs() < 1 << 20);
        ensure!(near && width > 0 && height > 0, "a box must have a width and a height, got {numbers:?}");
        Ok(DigitBox { class, left, top, width, height })
    };
    labels.iter().zip(boxes).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_make_no_sense_are_named() {
        let good = digits(&[vec![1], vec![0]], &[vec![-2, 3, 4, 5], vec![6, 3, 4, 5]]).unwrap();
        assert_eq!(good[0], DigitBox { class: 1, left: -2, top: 3, width: 4, height: 5 });
        for (labels, boxes, what) in [
            (vec![vec![1]], vec![], "a box for each digit"),
            (vec![vec![10]], vec![vec![0, 0, 1, 1]], "0..9"),
            (vec![vec![1]], vec![vec![0, 0, 1]], "[left, top, width, height]"),
            (vec![vec![1]], vec![vec![0, 0, 0, 1]], "a width and a height"),
            (vec![vec![1]], vec![vec![0, 0, 1 << 40, 1]], "[left, top, width, height]"),
        ] {
            let error = digits(&labels, &boxes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
