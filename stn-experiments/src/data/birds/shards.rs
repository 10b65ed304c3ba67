//! The hub's parquet files: labels and boxes in memory, images where they are asked for.

use super::Box4;
use crate::data::guard::guarded;
use crate::data::table::Table;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use image::RgbImage;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of encoded images that are kept, those of the row groups that were read last: in a shuffled pass the next image may
/// lie in any.
const KEPT: usize = 256 << 20;

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

/// A row group's encoded images.
struct Group {
    /// Shard and row group.
    at: (usize, usize),
    images: Arc<Vec<Bytes>>,
    bytes: usize,
}

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
            for (row, label) in table.integers("label")?.into_iter().enumerate() {
                let label = u32::try_from(label).ok().filter(|&label| label < 1000);
                labels.push(label.with_context(|| format!("{}: row {row}: a label must be 0..999", table.name()))?);
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

    /// The names of the classes as the hub has them, `001.Black_footed_Albatross`; none where it does not say.
    pub(super) fn class_names(&self) -> Vec<String> {
        self.tables.first().map_or(Vec::new(), |table| table.class_names("label"))
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
        let at = (shard, group);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match recent.iter().position(|group| group.at == at) {
            Some(position) => recent.remove(position),
            None => {
                let images = self.tables[shard].bytes_of_group("image.bytes", group)?;
                let bytes = images.iter().map(Bytes::len).sum();
                Group { at, images: Arc::new(images), bytes }
            }
        };
        let images = last.images.clone();
        recent.push(last);
        bound(&mut recent, KEPT);
        images.get(row).cloned().with_context(|| format!("{}: no image", self.place(i)))
    }

    /// Where an image lies, for errors.
    pub(super) fn place(&self, i: usize) -> String {
        let (shard, group, row) = self.places[i];
        format!("{}: row {row} of group {group}", self.tables[shard].name())
    }

    /// Decodes an image, JPEG or PNG, grey or in colours.
    pub(super) fn decode(&self, i: usize) -> Result<RgbImage> {
        let bytes = self.bytes(i)?;
        let image = guarded("the decoder failed", || Ok(image::load_from_memory(&bytes)?.to_rgb8()));
        image.with_context(|| format!("{}: no image that can be decoded", self.place(i)))
    }
}

/// Drops what was read longest ago until the rest fits; the latest group stays, whatever its size.
fn bound(recent: &mut Vec<Group>, most: usize) {
    let mut bytes: usize = recent.iter().map(|group| group.bytes).sum();
    while bytes > most && recent.len() > 1 {
        bytes -= recent.remove(0).bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_that_were_read_last_are_kept() {
        let group = |n: usize, bytes| Group { at: (0, n), images: Arc::default(), bytes };
        for (bytes, kept) in [([3, 3, 3], vec![0, 1, 2]), ([4, 3, 3], vec![1, 2]), ([1, 1, 100], vec![2])] {
            let mut recent: Vec<Group> = bytes.into_iter().enumerate().map(|(n, bytes)| group(n, bytes)).collect();
            bound(&mut recent, 9);
            assert_eq!(recent.iter().map(|group| group.at.1).collect::<Vec<_>>(), kept);
        }
    }
}
