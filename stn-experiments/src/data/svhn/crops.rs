//! The decoded crops of one file, in a compact file of their own that is mapped into memory, not read.
//!
//! The file is one of safetensors: `images` (N, 3, side, side) and `labels` (N, 5), bytes both; any reader of that format opens it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::models::svhn::{CLASSES, DIGITS};
use crate::record::write_atomically;

/// The classes of a number's digits from the left; [`NONE`] behind the last.
pub type Labels = [u8; DIGITS];
/// The class of no digit.
pub const NONE: u8 = (CLASSES - 1) as u8;

/// Crops in a mapped file.
#[derive(Debug)]
pub struct Crops {
    map: Mmap,
    /// Where the pixels begin.
    images: usize,
    labels: Vec<Labels>,
    side: usize,
    /// Numbers of the file that are not here, having more digits than there are heads, none, or some that make no sense.
    pub left_out: usize,
}

impl Crops {
    /// Opens a file that [`write`] wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be mapped, is damaged, or holds crops of another size.
    pub fn open(path: &Path, side: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the map is only read. The file was put in its place whole, by a rename; that nobody shortens it while it is mapped is what every user of
        // mapped files has to ask of the other programs on the machine.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
        Self::parse(map, side).with_context(|| format!("{} is damaged; remove it, and it is made anew", path.display()))
    }

    fn parse(map: Mmap, side: usize) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(&map)?;
        let left_out = header.metadata().as_ref().and_then(|m| m.get("left_out")?.parse().ok());
        let tensors = SafeTensors::deserialize(&map)?;
        let (images, labels) = (tensors.tensor("images")?, tensors.tensor("labels")?);
        let count = labels.shape().first().copied().unwrap_or(0);
        ensure!(
            images.dtype() == Dtype::U8 && images.shape() == [count, 3, side, side],
            "images must be ({count}, 3, {side}, {side}), got {:?}",
            images.shape()
        );
        ensure!(
            labels.dtype() == Dtype::U8 && labels.shape() == [count, DIGITS],
            "labels must be ({count}, {DIGITS}), got {:?}",
            labels.shape()
        );
        let labels: Vec<Labels> = labels.data().chunks_exact(DIGITS).filter_map(|l| l.try_into().ok()).collect();
        ensure!(labels.iter().flatten().all(|&label| label <= NONE), "labels must be 0..{NONE}");
        let images = images.data().as_ptr() as usize - map.as_ptr() as usize;
        Ok(Self { images, labels, side, left_out: left_out.context("no number of left-out rows")?, map })
    }

    /// Counts the crops.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The classes of crop `i`.
    pub fn labels(&self, i: usize) -> Labels {
        self.labels[i]
    }

    /// The pixels of crop `i`, (3, side, side).
    pub fn image(&self, i: usize) -> &[u8] {
        let len = 3 * self.side * self.side;
        &self.map[self.images + i * len..][..len]
    }

    /// Gives the pages that were read back to the system, which keeps them as long as it has the memory. Where it knows no such thing nothing happens.
    pub fn release(&self) {
        #[cfg(unix)]
        // SAFETY: the pages of a file that is mapped to be read alone come back as they were when they are read again; slices of them stay good.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

/// The bytes of a file's header, whatever it says: it is written last, when the crops are counted.
const HEADER: usize = 512;

/// Writes a file of crops: `make` pushes them, and says how many numbers it left out.
///
/// # Errors
///
/// When the file cannot be written, or `make` fails; nothing is left behind then.
pub fn write(path: &Path, side: usize, make: impl FnOnce(&mut Writer) -> Result<usize>) -> Result<()> {
    // An error of what is to be written is none of the disk, which the other's advice is about.
    let mut of_the_crops = None;
    let written = write_atomically(path, |part| {
        let mut writer = Writer { file: BufWriter::new(File::create(part)?), side, labels: Vec::new(), broken: false };
        writer.file.write_all(&[b' '; 8 + HEADER])?;
        match make(&mut writer) {
            Ok(left_out) => writer.finish(left_out),
            Err(error) if writer.broken => Err(error),
            Err(error) => {
                of_the_crops = Some(error);
                bail!("there are no crops")
            }
        }
    });
    of_the_crops.map_or(written, Err)
}

/// A file of crops that is being written.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    side: usize,
    labels: Vec<Labels>,
    /// Whether the file could not be written.
    broken: bool,
}

impl Writer {
    /// Adds a crop: its pixels, (3, side, side), and the classes of its digits.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the pixels are of another size.
    pub fn push(&mut self, pixels: &[u8], labels: Labels) -> Result<()> {
        let expected = 3 * self.side * self.side;
        ensure!(pixels.len() == expected, "expected {expected} bytes of pixels, got {}", pixels.len());
        let written = self.file.write_all(pixels);
        self.broken |= written.is_err();
        written?;
        self.labels.push(labels);
        Ok(())
    }

    fn finish(mut self, left_out: usize) -> Result<()> {
        let (count, side) = (self.labels.len(), self.side);
        let (pixels, end) = (count * 3 * side * side, count * (3 * side * side + DIGITS));
        let header = serde_json::json!({
            "__metadata__": HashMap::from([("left_out", left_out.to_string())]),
            "images": { "dtype": "U8", "shape": [count, 3, side, side], "data_offsets": [0, pixels] },
            "labels": { "dtype": "U8", "shape": [count, DIGITS], "data_offsets": [pixels, end] },
        });
        let header = header.to_string();
        ensure!(header.len() <= HEADER, "the header needs {} bytes, there are {HEADER}", header.len());
        self.file.write_all(self.labels.as_flattened())?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&(HEADER as u64).to_le_bytes())?;
        self.file.write_all(header.as_bytes())?;
        Ok(self.file.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_come_back_and_damage_is_found() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("crops.safetensors");
        let labels = [[1, 2, NONE, NONE, NONE], [0, 9, 8, 7, 6]];
        let pixels: Vec<u8> = (0..2 * 3 * 4 * 4).map(|i| i as u8).collect();
        write(&path, 4, |to| {
            pixels.chunks(48).zip(labels).try_for_each(|(pixels, labels)| to.push(pixels, labels))?;
            Ok(3)
        })?;
        let crops = Crops::open(&path, 4)?;
        assert_eq!((crops.len(), crops.left_out, crops.labels(1)), (2, 3, labels[1]));
        assert_eq!(crops.image(1), &pixels[48..]);
        let held = crops.image(0);
        crops.release();
        assert!(held == &pixels[..48] && crops.image(1) == &pixels[48..], "pages that were given back come again");
        assert!(format!("{:#}", Crops::open(&path, 8).unwrap_err()).contains("(2, 3, 8, 8)"));

        let bytes = std::fs::read(&path)?;
        for len in [0, 7, 20, bytes.len() - 1] {
            let cut = folder.path().join("cut");
            std::fs::write(&cut, &bytes[..len])?;
            let error = format!("{:#}", Crops::open(&cut, 4).unwrap_err());
            assert!(error.contains("cut"), "{error}");
        }
        let mut wrong = bytes;
        *wrong.last_mut().unwrap() = 11;
        std::fs::write(&path, wrong)?;
        assert!(format!("{:#}", Crops::open(&path, 4).unwrap_err()).contains("labels must be 0..10"));
        Ok(())
    }

    #[test]
    fn pixels_of_another_size_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crops.safetensors");
        let error = write(&path, 4, |to| to.push(&[0; 47], [0; 5]).map(|()| 0)).unwrap_err();
        assert!(format!("{error:#}").contains("expected 48 bytes of pixels, got 47"), "{error:#}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
