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

/// Decodes an image of the table.
///
/// # Errors
///
/// When it is no PNG, or a damaged one.
pub fn decode(png: &[u8]) -> Result<RgbImage> {
    let image = image::load_from_memory_with_format(png, image::ImageFormat::Png);
    Ok(image.context("image must be a PNG that can be decoded")?.to_rgb8())
}

/// Reads the PNGs of a row group of `full_numbers`: `image` struct{bytes, path}.
///
/// # Errors
///
/// When the column is missing or of another type.
pub fn images(table: &Table, group: usize) -> Result<Vec<Bytes>> {
    table.bytes_of_group("image.bytes", group)
}

/// Reads the digits of a row group of `full_numbers`, in the order of their annotation: `digits` struct{bbox: lists of [left, top, width, height], label: lists}.
/// An error stands for a row of labels or boxes that make no sense.
///
/// # Errors
///
/// When a column is missing or of another type.
pub fn digits(table: &Table, group: usize) -> Result<Vec<Result<Vec<DigitBox>>>> {
    let labels = table.lists_of_group("digits.label.", group)?;
    let boxes = table.lists_of_group("digits.bbox.", group)?;
    let rows = labels.iter().zip(&boxes).enumerate();
    let digits = |(row, (labels, boxes)): (usize, (&Vec<_>, &Vec<_>))| {
        row_of_digits(labels, boxes).with_context(|| format!("row {row} of group {group}"))
    };
    Ok(rows.map(digits).collect())
}

fn row_of_digits(labels: &[Vec<i64>], boxes: &[Vec<i64>]) -> Result<Vec<DigitBox>> {
    ensure!(labels.len() == boxes.len(), "expected a box for each digit, got {} for {}", boxes.len(), labels.len());
    let digit = |(label, numbers): (&Vec<i64>, &Vec<i64>)| {
        let class = label.first().and_then(|&label| u8::try_from(label).ok()).filter(|&class| class < 10);
        let class = class.with_context(|| format!("a label must be 0..9, got {label:?}"))?;
        let numbers: Vec<i32> = numbers.iter().filter_map(|&n| i32::try_from(n).ok()).collect();
        let &[left, top, width, height] = numbers.as_slice() else {
            anyhow::bail!("a box must be [left, top, width, height], got {numbers:?}")
        };
        ensure!(width > 0 && height > 0, "a box must have a width and a height, got {numbers:?}");
        let near = numbers.iter().all(|n| n.unsigned_abs() < 1 << 20);
        ensure!(near, "a box must be less than a million pixels away and wide, got {numbers:?}");
        Ok(DigitBox { class, left, top, width, height })
    };
    labels.iter().zip(boxes).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_make_no_sense_are_named() {
        let good = row_of_digits(&[vec![1], vec![0]], &[vec![-2, 3, 4, 5], vec![6, 3, 4, 5]]).unwrap();
        assert_eq!(good[0], DigitBox { class: 1, left: -2, top: 3, width: 4, height: 5 });
        for (labels, boxes, what) in [
            (vec![vec![1]], vec![], "a box for each digit"),
            (vec![vec![10]], vec![vec![0, 0, 1, 1]], "0..9"),
            (vec![vec![1]], vec![vec![0, 0, 1]], "[left, top, width, height]"),
            (vec![vec![1]], vec![vec![0, 0, 0, 1]], "a width and a height"),
            (vec![vec![1]], vec![vec![0, 0, 1 << 40, 1]], "[left, top, width, height]"),
            (vec![vec![1]], vec![vec![i64::from(i32::MIN), 0, 5, 5]], "a million pixels"),
            (vec![vec![1]], vec![vec![0, 0, 2_000_000, 5]], "a million pixels"),
        ] {
            let error = row_of_digits(&labels, &boxes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
