//! Some house numbers of a split: their crops, in files that are mapped into memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::crops::{Crops, Labels};
use crate::data::hex;

/// Bytes that are read of a set before its mapped pages are given back. What has been read counts as this program's memory until then, and at random a set is
/// read whole: 12 GB.
const RESIDENT: usize = 256 << 20;

/// Some house numbers, in files that are mapped into memory.
#[derive(Debug, Clone)]
pub struct NumberSet {
    files: Vec<Arc<Crops>>,
    range: Range<usize>,
    /// Bytes that were read since pages were given back.
    read: Arc<AtomicUsize>,
}

impl NumberSet {
    /// The numbers of a range, counted through the files.
    pub(super) fn new(files: Vec<Arc<Crops>>, range: Range<usize>) -> Self {
        Self { files, range, read: Arc::default() }
    }

    /// All numbers of some files.
    pub(super) fn whole(files: Vec<Arc<Crops>>) -> Self {
        let range = 0..files.iter().map(|crops| crops.len()).sum();
        Self::new(files, range)
    }

    /// Counts the numbers.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Numbers of the files that are in no set.
    pub(super) fn left_out(&self) -> usize {
        self.files.iter().map(|crops| crops.left_out).sum()
    }

    /// The pixels of number `i`, (3, side, side), and the classes of its digits.
    ///
    /// # Panics
    ///
    /// When `i >= self.len()`, as slices do.
    pub fn get(&self, i: usize) -> (&[u8], Labels) {
        assert!(i < self.len(), "number {i} of {}", self.len());
        let mut at = self.range.start + i;
        for crops in &self.files {
            if at < crops.len() {
                let pixels = crops.image(at);
                self.count(pixels.len());
                return (pixels, crops.labels(at));
            }
            at -= crops.len();
        }
        unreachable!("the range ends with the files")
    }

    fn count(&self, bytes: usize) {
        if self.read.fetch_add(bytes, Ordering::Relaxed) + bytes >= RESIDENT {
            self.read.store(0, Ordering::Relaxed);
            self.files.iter().for_each(|crops| crops.release());
        }
    }

    /// Computes the set's identity: the SHA-256, in hexadecimal, of its number (64-bit little-endian) and, number by number, pixels and labels.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.len() as u64).to_le_bytes());
        for i in 0..self.len() {
            let (pixels, labels) = self.get(i);
            hash.update(pixels);
            hash.update(labels);
        }
        hex(&hash.finalize())
    }
}
