//! The hub's parquet files: labels and boxes in memory, images where they are asked for.

use super::Box4;
use crate::data::table::Table;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use image::RgbImage;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Row groups whose encoded images are kept: in a shuffled pass the next image may lie in any.
const GROUPS: usize = 24;

/// The shards of a split.
pub struct Shards {
    tables: Vec<Table>,
    /// Shard, row group and row within it of each image.
    places: Vec<(usize, usize, usize)>,
    labels: Vec<u32>,
    boxes: Vec<Box4>,
    /// The row groups that were read last, the latest at the end.
    recent: Mutex<Vec<Group>>,
}

/// A shard's row group, and its encoded images.
type Group = ((usize, usize), Arc<Vec<Bytes>>);

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} images in {} shards", self.places.len(), self.tables.len())
    }
}

impl Shards {
    /// Opens files of the hub's schema: `image` struct{bytes, path}, `label` int64, `bbox` [left, top, right, bottom] of whole or floating numbers.
    ///
    /// # Errors
    ///
    /// When a column is missing or of another type, or a row makes no sense.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        let tables = files.iter().map(|file| Table::open_mapped(file)).collect::<Result<Vec<_>>>()?;
        let (mut places, mut labels, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, table) in tables.iter().enumerate() {
            for label in table.integers("label")? {
                let label = u32::try_from(label).ok().filter(|&label| label < 1000);
                labels.push(
                    label.with_context(|| format!("{}: row {}: a label must be 0..999", table.name(), labels.len()))?,
                );
            }
            for group in 0..table.groups() {
                for (row, numbers) in table.numbers_of_group("bbox.", group)?.into_iter().enumerate() {
                    let place = || format!("{}: row {row} of group {group}", table.name());
                    let numbers: Box4 = numbers.as_slice().try_into().with_context(|| {
                        format!("{}: a box must be [left, top, right, bottom], got {numbers:?}", place())
                    })?;
                    ensure!(numbers.iter().all(|n| n.is_finite()), "{}: a box must be of numbers", place());
                    places.push((shard, group, row));
                    boxes.push(numbers);
                }
            }
            ensure!(labels.len() == boxes.len(), "{}: {} labels, {} boxes", table.name(), labels.len(), boxes.len());
        }
        Ok(Self { tables, places, labels, boxes, recent: Mutex::default() })
    }

    pub(super) fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The box of an image in its own pixels.
    pub(super) fn bird(&self, i: usize) -> Box4 {
        self.boxes[i]
    }

    /// The encoded image.
    pub(super) fn bytes(&self, i: usize) -> Result<Bytes> {
        let (shard, group, row) = self.places[i];
        let key = (shard, group);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let images = match recent.iter().position(|(at, _)| *at == key) {
            Some(position) => {
                let found = recent.remove(position);
                let images = found.1.clone();
                recent.push(found);
                images
            }
            None => {
                let images = Arc::new(self.tables[shard].bytes_of_group("image.bytes", group)?);
                if recent.len() == GROUPS {
                    recent.remove(0);
                }
                recent.push((key, images.clone()));
                images
            }
        };
        images
            .get(row)
            .cloned()
            .with_context(|| format!("{}: no image in row {row} of group {group}", self.name(shard)))
    }

    fn name(&self, shard: usize) -> &str {
        self.tables[shard].name()
    }

    /// Decodes an image, JPEG or PNG, grey or in colours.
    pub(super) fn decode(&self, i: usize) -> Result<RgbImage> {
        let (shard, group, row) = self.places[i];
        let image = image::load_from_memory(&self.bytes(i)?);
        let image = image.with_context(|| {
            format!("{}: row {row} of group {group}: no image that can be decoded", self.name(shard))
        })?;
        Ok(image.to_rgb8())
    }
}
