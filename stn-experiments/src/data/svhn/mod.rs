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
mod make;
mod numbers;
mod rows;
mod sheet;
mod synthetic;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::hub::{Hub, Repository, shards_in};
use super::mnist::Mnist;
use super::stand_in::{Chosen, StandIn};
use super::{DataSource, Source, VALIDATION};
use crate::named::by_id;
use crate::record::write_once;

pub use crop::{Frame, TIGHT, crop};
pub use crops::{Crops, Labels, NONE};
pub use make::crop_file;
pub use numbers::NumberSet;
pub use rows::{DigitBox, decode, digits, images};
pub use sheet::sheet;
pub use synthetic::{Scene, VERSION, scene};

/// The hub's repository, pinned.
pub const REPOSITORY: Repository =
    Repository::dataset("ufldl-stanford/svhn", "f9e1717d73324ebbc1ece84267ccd80d0aca0690");
/// The folder (and configuration) of the repository.
const FOLDER: &str = "full_numbers";

/// The release of the crops: they are made anew where what they hold or leave out changes.
const PROTOCOL: &str = "crops-v1";

/// The rows of the splits at the pinned revision.
const ROWS: [(&str, usize); 3] = [("train", 33_402), ("extra", 202_353), ("test", 13_068)];

const STAND_IN: StandIn = StandIn {
    set: "SVHN",
    taken: "SYNTHETIC house numbers: the results are not SVHN's",
    offered: "synthetic house numbers, which are not SVHN,",
    same_images: false,
};

/// Synthetic numbers for training, of which the last are validation; and for testing.
pub const SYNTHETIC: [u64; 2] = [96_000, 4_000];

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
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::All, Self::Train];

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
        by_id("split", s, Self::ALL, Self::id)
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
        let fetch = || {
            let get = |split: &str| files(hub, split, offline, side);
            let train = get("train")?;
            let extra = match split {
                TrainingSplit::All => get("extra").context("extra images (--split train does without)")?,
                TrainingSplit::Train => vec![],
            };
            Ok([train, extra, get("test")?])
        };
        match STAND_IN.choose(hub, source, offline, fetch)? {
            Chosen::Hub([train, extra, test]) => {
                let crops = |split: &str, files: &[HubFile]| crops_of(split, files, side);
                Self::new(crops("train", &train)?, crops("extra", &extra)?, crops("test", &test)?, of_hub())
            }
            Chosen::StandIn { reason } => Self::synthetic(hub, side, &reason),
        }
    }

    /// The test images alone, and where they came from.
    ///
    /// # Errors
    ///
    /// As [`Svhn::load`].
    pub fn load_test(hub: &Hub, source: Source, offline: bool, side: usize) -> Result<(NumberSet, DataSource)> {
        let (files, source) = match STAND_IN.choose(hub, source, offline, || files(hub, "test", offline, side))? {
            Chosen::Hub(files) => (crops_of("test", &files, side)?, of_hub()),
            Chosen::StandIn { reason } => {
                let folder = synthetic_folder(hub, side);
                (vec![synthetic_crops(&folder, side, 1, SYNTHETIC[1])?], synthetic_source(&reason))
            }
        };
        Ok((NumberSet::whole(files), source))
    }

    /// Makes synthetic numbers, or takes those that were made before.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn synthetic(hub: &Hub, side: usize, reason: &str) -> Result<Self> {
        Self::synthetic_in(&synthetic_folder(hub, side), side, SYNTHETIC, reason)
    }

    /// The first numbers of each split, in files of a folder.
    pub(crate) fn synthetic_in(folder: &Path, side: usize, counts: [u64; 2], reason: &str) -> Result<Self> {
        let crops = |split: usize| Ok::<_, anyhow::Error>(vec![synthetic_crops(folder, side, split, counts[split])?]);
        Self::new(crops(0)?, vec![], crops(1)?, synthetic_source(reason))
    }

    fn new(train: Vec<Arc<Crops>>, extra: Vec<Arc<Crops>>, test: Vec<Arc<Crops>>, source: DataSource) -> Result<Self> {
        let count = |files: &[Arc<Crops>]| files.iter().map(|crops| crops.len()).sum::<usize>();
        let held_out = VALIDATION.min(count(&train) / 10);
        // The images of `train` last, and of these the validation images.
        let all: Vec<_> = extra.into_iter().chain(train).collect();
        let (end, test) = (count(&all), NumberSet::whole(test));
        let tests = test.len();
        ensure!(end > held_out && tests > 0, "SVHN: expected images to train and to test on, got {end} and {tests}");
        Ok(Self {
            train: NumberSet::new(all.clone(), 0..end - held_out),
            validation: NumberSet::new(all, end - held_out..end),
            test,
            source,
        })
    }

    /// Numbers that no set holds, having more than five digits, none, or what makes no sense, a label, a box or a damaged image: of the training and of the test files.
    pub fn left_out(&self) -> [usize; 2] {
        [&self.train, &self.test].map(NumberSet::left_out)
    }
}

/// What the records say of the hub's numbers.
fn of_hub() -> DataSource {
    DataSource::Hub { repository: REPOSITORY.id.into(), commit: REPOSITORY.revision.into() }
}

/// What the records say of synthetic numbers.
fn synthetic_source(reason: &str) -> DataSource {
    DataSource::Synthetic { what: format!("house numbers {VERSION}"), reason: reason.into() }
}

/// Where crops are kept: beside the hub's cache.
fn crops_folder(hub: &Hub) -> PathBuf {
    hub.cache.with_file_name("stn")
}

fn synthetic_folder(hub: &Hub, side: usize) -> PathBuf {
    crops_folder(hub).join(format!("synthetic-house-numbers-{VERSION}")).join(side.to_string())
}

/// A file of the hub: its crops where they are made, and what they are made of where they are not.
#[derive(Debug)]
struct HubFile {
    crops: PathBuf,
    parquet: Option<PathBuf>,
}

/// The files of a split. Those whose crops are made already need neither the hub nor its cache.
fn files(hub: &Hub, split: &str, offline: bool, side: usize) -> Result<Vec<HubFile>> {
    let folder = crops_folder(hub).join("svhn").join(REPOSITORY.revision).join(PROTOCOL).join(side.to_string());
    let made = shards_in(&folder, "safetensors", FOLDER, split);
    let names = if made.is_empty() { hub.names(&REPOSITORY, FOLDER, split, offline)? } else { made };
    let file = |name: &String| {
        let base = name.rsplit('/').next().unwrap_or(name);
        let crops = folder.join(base).with_extension("safetensors");
        let parquet = if crops.exists() {
            None
        } else {
            Some(hub.file(&REPOSITORY, name, offline)?.files.pop().with_context(|| format!("{name}: no file"))?)
        };
        Ok(HubFile { crops, parquet })
    };
    names.iter().map(file).collect()
}

/// The crops of a split's files, made where they are not. Says where they are of a part of the split alone.
fn crops_of(split: &str, files: &[HubFile], side: usize) -> Result<Vec<Arc<Crops>>> {
    let crops = |HubFile { crops, parquet }: &HubFile| {
        let Some(parquet) = parquet else { return Ok(Arc::new(Crops::open(crops, side)?)) };
        let clock = Instant::now();
        make::make_folder(crops)?;
        write_once(crops, || crop_file(parquet, crops, side))?;
        let (seconds, made) = (clock.elapsed().as_secs_f64(), Crops::open(crops, side)?);
        let (name, count) = (parquet.file_name().unwrap_or_default().display(), made.len());
        crate::warn!("{name}: {count} crops of {side} px in {seconds:.1} s, {:.0} a second", count as f64 / seconds);
        Ok(Arc::new(made))
    };
    let crops: Vec<_> = files.iter().map(crops).collect::<Result<_>>()?;
    let rows = crops.iter().map(|crops| crops.len() + crops.left_out).sum();
    if let ([first, ..], Some(warning)) = (files, of_a_part(split, rows)) {
        let folder = first.crops.parent().unwrap_or(&first.crops);
        crate::warn!("{warning}; remove {} and they are made anew, of what the hub has then", folder.display());
    }
    Ok(crops)
}

/// What is to be said of so many rows of a split: nothing where these are all.
fn of_a_part(split: &str, rows: usize) -> Option<String> {
    let &(_, all) = ROWS.iter().find(|(name, all)| *name == split && *all != rows)?;
    Some(format!("WARNING: the crops are of {rows} images of SVHN's split {split}, which has {all}"))
}

/// The first `count` synthetic numbers of a split (0: train, 1: test), made where they are not.
fn synthetic_crops(folder: &Path, side: usize, split: usize, count: u64) -> Result<Arc<Crops>> {
    let name = ["train", "test"][split];
    let path = folder.join(format!("{name}-{count}.safetensors"));
    if !path.exists() {
        make::make_folder(&path)?;
        write_once(&path, || {
            crate::warn!("making {count} synthetic house numbers ({name}, {side} px): {}", path.display());
            let mnist = Mnist::embedded("asked for")?;
            let digits = if split == 0 { &mnist.train } else { &mnist.test };
            make::write_synthetic(&path, side, digits, split as u64, count)
        })?;
    }
    Ok(Arc::new(Crops::open(&path, side)?))
}

#[cfg(test)]
pub(crate) mod tests;
