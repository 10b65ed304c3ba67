//! House numbers (section 4.2): SVHN from the hub, or synthetic ones that are said to be so.
//!
//! ```text
//! hub, file by file: rows (PNG, boxes) | synthetic scenes (image, boxes)
//!   -> crop 64 or 128 px round all digits                                   in parallel, a row group at a time
//!   -> a compact file of crops and labels beside the hub's cache, mapped    memory stays small whatever the set's size
//!   -> NumberSet: train (train and extra, less the validation images), validation, test
//! ```

mod crop;
mod crops;
mod layout;
mod rows;
mod sheet;
mod synthetic;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::hub::{Hub, Repository};
use super::mnist::Mnist;
use super::table::Table;
use super::{DataSource, Dataset, Source, VALIDATION, hex};
use crate::models::svhn::DIGITS;

pub use crop::{Frame, TIGHT, crop};
pub use crops::{Crops, Labels, NONE};
pub use rows::{DigitBox, Row, rows};
pub use sheet::sheet;
pub use synthetic::{Scene, VERSION, scene};

/// The hub's repository, pinned.
pub const REPOSITORY: Repository =
    Repository::dataset("ufldl-stanford/svhn", "f9e1717d73324ebbc1ece84267ccd80d0aca0690");
/// The folder (and configuration) of the repository.
const FOLDER: &str = "full_numbers";

/// Synthetic numbers for training, of which the last are validation; and for testing.
pub const SYNTHETIC: [u64; 2] = [96_000, 4_000];

/// Crops that are made at a time.
const CHUNK: usize = 256;

/// Which of SVHN's training images are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrainingSplit {
    /// `train` and `extra`: 235,755 images, 2.3 GB to fetch.
    #[default]
    All,
    /// `train` alone: 33,402 images, 390 MB.
    Train,
}

impl TrainingSplit {
    /// Names it as on the command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Train => "train",
        }
    }
}

impl FromStr for TrainingSplit {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        match [Self::All, Self::Train].into_iter().find(|split| split.id() == s) {
            Some(split) => Ok(split),
            None => bail!("unknown split `{s}`: expected all (train and extra) or train"),
        }
    }
}

/// House numbers, split as the paper has them.
#[derive(Debug, Clone)]
pub struct Svhn {
    /// What is trained on.
    pub train: NumberSet,
    /// The last 5,000 images of the split `train`; a tenth of it where that is less.
    pub validation: NumberSet,
    /// The test images.
    pub test: NumberSet,
    /// Where they came from.
    pub source: DataSource,
}

impl Svhn {
    /// Loads crops of `side` x `side` pixels from `source`; with `offline` no network is touched.
    ///
    /// `Auto` takes the cache, then the hub, then synthetic numbers, which it says on standard error; `Embedded` takes these at once.
    ///
    /// # Errors
    ///
    /// With `Hub`, when the hub and its cache have no valid data; with any source, when crops cannot be made or written.
    pub fn load(hub: &Hub, source: Source, offline: bool, side: usize, split: TrainingSplit) -> Result<Self> {
        let error = match source {
            Source::Embedded => return Self::synthetic(hub, side, "asked for"),
            Source::Hub => {
                return Self::from_hub(hub, offline, side, split).context(
                    "SVHN was asked from the hub alone and cannot be had (check the network and HF_ENDPOINT, or take synthetic house \
                     numbers, which are not SVHN, with --source embedded)",
                );
            }
            Source::Auto => match Self::from_hub(hub, offline, side, split) {
                Ok(svhn) => return Ok(svhn),
                Err(error) => error,
            },
        };
        // The reason goes into records that others read: neither this machine's folders nor a mirror's address belong there.
        let reason = format!("{error:#}")
            .replace(&hub.cache.display().to_string(), "<cache>")
            .replace(hub.endpoint.trim_end_matches('/'), "<hub>");
        crate::warn!(
            "\nWARNING: SVHN could not be had from the hub, taking SYNTHETIC house numbers: the results are not SVHN's.\n  \
             The hub's error: {error:#}\n  `--source hub` fails instead; `--source embedded` asks for the synthetic ones.\n"
        );
        Self::synthetic(hub, side, &if offline { "--offline".into() } else { reason })
    }

    /// The test images alone, and where they came from.
    ///
    /// # Errors
    ///
    /// As [`Svhn::load`].
    pub fn load_test(hub: &Hub, source: Source, offline: bool, side: usize) -> Result<(NumberSet, DataSource)> {
        if source == Source::Hub {
            let names = hub.names(&REPOSITORY, FOLDER, "test", offline)?;
            let files = names.iter().map(|name| Ok(Arc::new(hub_crops(hub, name, offline, side)?.0)));
            let files = files.collect::<Result<Vec<_>>>()?;
            let commit = REPOSITORY.revision.to_string();
            let range = 0..files.iter().map(|crops| crops.len()).sum();
            return Ok((NumberSet { files, range }, DataSource::Hub { repository: REPOSITORY.id.into(), commit }));
        }
        let svhn = Self::load(hub, source, offline, side, TrainingSplit::Train)?;
        Ok((svhn.test, svhn.source))
    }

    fn from_hub(hub: &Hub, offline: bool, side: usize, split: TrainingSplit) -> Result<Self> {
        let mut commit = String::new();
        let mut load = |split: &str| -> Result<Vec<Arc<Crops>>> {
            let names = hub.names(&REPOSITORY, FOLDER, split, offline)?;
            let files = names.iter().map(|name| {
                let (crops, of) = hub_crops(hub, name, offline, side)?;
                commit = of;
                Ok(Arc::new(crops))
            });
            files.collect()
        };
        let train = load("train")?;
        let extra = if split == TrainingSplit::All {
            load("extra").context("extra images (--split train does without)")?
        } else {
            vec![]
        };
        let test = load("test")?;
        let source = DataSource::Hub { repository: REPOSITORY.id.into(), commit };
        Self::new(train, extra, test, source)
    }

    /// Makes synthetic numbers, or takes those that were made before.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn synthetic(hub: &Hub, side: usize, reason: &str) -> Result<Self> {
        let folder = crops_folder(hub).join(format!("synthetic-house-numbers-{VERSION}")).join(side.to_string());
        Self::synthetic_in(&folder, side, SYNTHETIC, reason)
    }

    /// The first numbers of each split, in files of a folder.
    pub(crate) fn synthetic_in(folder: &Path, side: usize, counts: [u64; 2], reason: &str) -> Result<Self> {
        let what = format!("house numbers {VERSION}");
        let mut mnist: Option<Mnist> = None;
        let mut load = |split: usize, name: &str| -> Result<Vec<Arc<Crops>>> {
            let path = folder.join(format!("{name}-{}.safetensors", counts[split]));
            if !path.exists() {
                crate::warn!(
                    "making {} synthetic house numbers ({name}, {side} px): {}",
                    counts[split],
                    path.display()
                );
                let mnist = match &mut mnist {
                    Some(mnist) => mnist,
                    none => none.insert(Mnist::embedded("asked for")?),
                };
                let digits = if split == 0 { &mnist.train } else { &mnist.test };
                write_synthetic(&path, side, digits, split as u64, counts[split])?;
            }
            Ok(vec![Arc::new(Crops::open(&path, side)?)])
        };
        let (train, test) = (load(0, "train")?, load(1, "test")?);
        Self::new(train, vec![], test, DataSource::Synthetic { what, reason: reason.into() })
    }

    fn new(train: Vec<Arc<Crops>>, extra: Vec<Arc<Crops>>, test: Vec<Arc<Crops>>, source: DataSource) -> Result<Self> {
        let count = |files: &[Arc<Crops>]| files.iter().map(|crops| crops.len()).sum::<usize>();
        let held_out = VALIDATION.min(count(&train) / 10);
        // The images of `train` last, and of these the validation images.
        let all: Vec<_> = extra.into_iter().chain(train).collect();
        let (end, tests) = (count(&all), count(&test));
        ensure!(end > held_out && tests > 0, "SVHN: expected images to train and to test on, got {end} and {tests}");
        Ok(Self {
            train: NumberSet { files: all.clone(), range: 0..end - held_out },
            validation: NumberSet { files: all, range: end - held_out..end },
            test: NumberSet { files: test, range: 0..tests },
            source,
        })
    }

    /// Numbers that no set holds, having more than five digits or none: of the training and of the test files.
    pub fn left_out(&self) -> [usize; 2] {
        [&self.train, &self.test].map(|set| set.files.iter().map(|crops| crops.left_out).sum())
    }
}

/// Where crops are kept: beside the hub's cache.
fn crops_folder(hub: &Hub) -> PathBuf {
    hub.cache.with_file_name("stn")
}

/// The crops of one file of the hub, and its commit.
fn hub_crops(hub: &Hub, name: &str, offline: bool, side: usize) -> Result<(Crops, String)> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let folder = crops_folder(hub).join("svhn").join(REPOSITORY.revision).join(side.to_string());
    let path = folder.join(base).with_extension("safetensors");
    if !path.exists() {
        let fetched = hub.file(&REPOSITORY, name, offline)?;
        let file = fetched.files.first().with_context(|| format!("{name}: no file"))?;
        let clock = Instant::now();
        crop_file(file, &path, side)?;
        let (seconds, count) = (clock.elapsed().as_secs_f64(), Crops::open(&path, side)?.len());
        crate::warn!("{name}: {count} crops of {side} px in {seconds:.1} s, {:.0} a second", count as f64 / seconds);
    }
    Ok((Crops::open(&path, side)?, REPOSITORY.revision.into()))
}

/// Decodes a parquet file of numbers and writes its crops.
///
/// # Errors
///
/// When the file is damaged or the crops cannot be written.
pub fn crop_file(parquet: &Path, path: &Path, side: usize) -> Result<()> {
    let table = Table::open_file(parquet)?;
    let (mut kept, mut left_out) = (Vec::new(), 0);
    for group in 0..table.groups() {
        for (index, row) in rows(&table, group)?.into_iter().enumerate() {
            if (1..=DIGITS).contains(&row.digits.len()) {
                kept.push((group, index, labels(row.digits.iter().map(|digit| digit.class))));
            } else {
                left_out += 1;
            }
        }
    }
    if left_out > 0 {
        crate::warn!("{}: {left_out} numbers of more than {DIGITS} digits, or none, are left out", table.name());
    }
    let all: Vec<Labels> = kept.iter().map(|(.., labels)| *labels).collect();
    make_folder(path)?;
    crops::write(path, side, &all, left_out, |to| {
        let mut pixels = vec![0; CHUNK * 3 * side * side];
        for group in 0..table.groups() {
            let rows = rows(&table, group)?;
            let wanted: Vec<&Row> = kept.iter().filter(|(of, ..)| *of == group).map(|(_, i, _)| &rows[*i]).collect();
            for rows in wanted.chunks(CHUNK) {
                let pixels = &mut pixels[..rows.len() * 3 * side * side];
                pixels.par_chunks_exact_mut(3 * side * side).zip(rows).try_for_each(|(out, row)| {
                    let frame = Frame::around(&row.digits).context("a number without digits")?;
                    crop(&row.decode()?, frame.window(side, (0.0, 0.0)), side, out);
                    anyhow::Ok(())
                })?;
                to.write_all(pixels)?;
            }
        }
        Ok(())
    })
    .with_context(|| table.name().to_string())
}

/// Writes the crops of a split's first `count` synthetic numbers.
fn write_synthetic(path: &Path, side: usize, digits: &Dataset, split: u64, count: u64) -> Result<()> {
    make_folder(path)?;
    let indices: Vec<u64> = (0..count).collect();
    let all: Vec<Labels> = indices.iter().map(|&i| labels(synthetic::classes(digits, split, i))).collect();
    let len = 3 * side * side;
    crops::write(path, side, &all, 0, |to| {
        let mut pixels = vec![0; CHUNK * len];
        for indices in indices.chunks(CHUNK) {
            let pixels = &mut pixels[..indices.len() * len];
            pixels.par_chunks_exact_mut(len).zip(indices).try_for_each(|(out, &index)| {
                let Scene { image, digits, offset } = scene(digits, split, index);
                let frame = Frame::around(&digits).context("a number without digits")?;
                crop(&image, frame.window(side, offset), side, out);
                anyhow::Ok(())
            })?;
            to.write_all(pixels)?;
        }
        Ok(())
    })
}

fn make_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}; HF_HOME names another place for data", folder.display()))
}

/// The classes of a number's heads.
fn labels(classes: impl IntoIterator<Item = u8>) -> Labels {
    let mut labels = [NONE; DIGITS];
    labels.iter_mut().zip(classes).for_each(|(label, class)| *label = class);
    labels
}

/// Some house numbers, in files that are mapped into memory.
#[derive(Debug, Clone)]
pub struct NumberSet {
    files: Vec<Arc<Crops>>,
    range: Range<usize>,
}

impl NumberSet {
    /// Counts the numbers.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
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
                return (crops.image(at), crops.labels(at));
            }
            at -= crops.len();
        }
        unreachable!("the range ends with the files")
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

#[cfg(test)]
mod tests;
