//! Birds (section 4.3): CUB-200-2011 from the hub, or synthetic creatures that are said to be so.
//!
//! ```text
//! hub: shards, mapped; labels and boxes are read at once, JPEGs where they are asked for | synthetic creatures, drawn where they are asked for
//!   -> RGB picture, its short side scaled to 256 (512, 144) px       those that fit are kept: memory is bounded
//!   -> training: a random square of 224 (448, 128), flipped or not; testing: the one in the middle
//! ```
//!
//! Boxes and parts measure where windows look; nothing here is trained on them.

mod crop;
mod pictures;
mod shards;
mod synthetic;
#[cfg(test)]
mod tests;

pub use crop::{Crop, View};

use super::hub::{Fetched, Hub, Repository};
use super::stand_in::{Chosen, StandIn};
use super::{DataSource, Source};
use anyhow::{Result, ensure};
use pictures::Pictures;
use rand_chacha::ChaCha8Rng;
use shards::Shards;
use synthetic::{CLASSES, COUNTS, VERSION};

/// The hub's repository, pinned.
pub const REPOSITORY: Repository =
    Repository::dataset("bentrevett/caltech-ucsd-birds-200-2011", "1ef09e021b0b65b40337f6f285909656f407f6e0");
/// The folder of the repository.
const FOLDER: &str = "data";

const STAND_IN: StandIn = StandIn {
    set: "CUB",
    taken: "SYNTHETIC creatures: the results are not CUB's",
    offered: "synthetic creatures, which are no birds,",
    same_images: false,
};

/// Every sixth training image of a budget that holds some out is validation.
const HELD_OUT: usize = 6;

/// A box: left, top, right, bottom. It may leave the picture.
pub type Box4 = [f64; 4];

/// Where a bird is, and its parts where they are known: in shares of the picture, 0 to 1, or in coordinates of a [`View`].
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The bird's box.
    pub bird: Box4,
    /// Head and tail, of synthetic creatures.
    pub parts: Vec<[f64; 2]>,
}

/// Labelled pictures.
#[derive(Debug)]
pub struct BirdSet {
    pictures: Pictures,
    /// Which of the pictures are of the set.
    indices: Vec<usize>,
}

impl BirdSet {
    fn new(pictures: Pictures) -> Self {
        Self { indices: (0..pictures.len()).collect(), pictures }
    }

    /// Counts the pictures.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The class of a picture.
    pub fn label(&self, i: usize) -> u32 {
        self.pictures.label(self.indices[i])
    }

    /// A square of a picture as the network sees it, (3, side, side), 0 to 1: random where there is a generator, else the one in
    /// the middle.
    ///
    /// # Errors
    ///
    /// When the picture cannot be decoded.
    pub fn pixels(&self, i: usize, crop: Crop, rng: Option<&mut ChaCha8Rng>) -> Result<Vec<f32>> {
        let picture = self.pictures.picture(self.indices[i], crop.short)?;
        Ok(crop.square(&picture.image, rng).pixels())
    }

    /// The square in the middle, and where the bird is in it.
    ///
    /// # Errors
    ///
    /// When the picture cannot be decoded.
    pub fn view(&self, i: usize, crop: Crop) -> Result<View> {
        let index = self.indices[i];
        let picture = self.pictures.picture(index, crop.short)?;
        let square = crop.square(&picture.image, None);
        Ok(View { pixels: square.pixels(), truth: square.place(&self.pictures.truth(index, &picture)) })
    }

    /// Computes the set's identity: the SHA-256 of labels, boxes and encoded images, or of the drawn pixels.
    ///
    /// # Errors
    ///
    /// When an image cannot be read.
    pub fn identity(&self) -> Result<String> {
        self.pictures.identity(&self.indices)
    }

    /// The names of the classes; none where the hub's files do not say them.
    pub fn class_names(&self) -> Vec<String> {
        self.pictures.class_names()
    }

    /// Counts the classes that there are pictures of.
    pub fn species(&self) -> usize {
        (0..self.len()).map(|i| self.label(i)).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Counts the classes of a network that names them: the highest label, and one.
    pub fn classes(&self) -> usize {
        (0..self.len()).map(|i| self.label(i) as usize + 1).max().unwrap_or(0)
    }
}

/// Birds, split as their authors have them.
#[derive(Debug)]
pub struct Birds {
    /// What is trained on.
    pub train: BirdSet,
    /// Every sixth training image, where the budget holds some out.
    pub validation: Option<BirdSet>,
    /// The test images.
    pub test: BirdSet,
    /// Where they came from.
    pub source: DataSource,
}

impl Birds {
    /// Loads CUB from the hub or its cache; with `offline` no network is touched.
    ///
    /// # Errors
    ///
    /// When the hub and its cache have no valid data, or not of one commit.
    pub fn from_hub(hub: &Hub, offline: bool, holdout: bool) -> Result<Self> {
        Self::of_files(&fetch(hub, offline)?, holdout)
    }

    fn of_files([train, test]: &[Fetched; 2], holdout: bool) -> Result<Self> {
        let ((train, source), (test, of_test)) = (split(train)?, split(test)?);
        ensure!(
            source == of_test,
            "the splits are of two commits, {source} and {of_test}: the branch moved between them; ask again, and both come from the later one"
        );
        Self::new([train, test], source, holdout, |i| i)
    }

    /// Loads the test images of CUB alone, and says where they came from.
    ///
    /// # Errors
    ///
    /// When the hub and its cache have no valid data.
    pub fn test_from_hub(hub: &Hub, offline: bool) -> Result<(BirdSet, DataSource)> {
        let (test, source) = split(&hub.split(&REPOSITORY, FOLDER, "test", offline)?)?;
        Ok((BirdSet::new(test), source))
    }

    /// The test images of synthetic creatures alone.
    pub fn synthetic_test(reason: &str) -> (BirdSet, DataSource) {
        (BirdSet::new(Pictures::creatures(1, COUNTS[1])), drawn(reason))
    }

    /// Draws synthetic creatures: so many for training and for testing.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn synthetic(counts: [usize; 2], reason: &str, holdout: bool) -> Result<Self> {
        let [train, test] = counts;
        // Classes take turns, and so would every sixth of them.
        let mixed = |i: usize| i / CLASSES + i % CLASSES;
        Self::new([Pictures::creatures(0, train), Pictures::creatures(1, test)], drawn(reason), holdout, mixed)
    }

    fn new(
        [train, test]: [Pictures; 2],
        source: DataSource,
        holdout: bool,
        turn: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let (mut train, test) = (BirdSet::new(train), BirdSet::new(test));
        let validation = if holdout {
            let (held, kept) = train.indices.iter().partition(|&&i| turn(i) % HELD_OUT == HELD_OUT - 1);
            train.indices = kept;
            Some(BirdSet { pictures: train.pictures.clone(), indices: held })
        } else {
            None
        };
        ensure!(!train.is_empty() && !test.is_empty(), "birds: there are no pictures");
        Ok(Self { train, validation, test, source })
    }

    /// Loads what `source` asks for: `Auto` takes the cache, then the hub, then synthetic creatures, which it says on standard error.
    ///
    /// # Errors
    ///
    /// With `Hub`, when the hub and its cache have no valid data; with `Auto`, when its files are there and make no sense, or the disk cannot be written.
    pub fn load(hub: &Hub, source: Source, offline: bool, holdout: bool) -> Result<Self> {
        match STAND_IN.choose(hub, source, offline, || fetch(hub, offline))? {
            Chosen::Hub(files) => Self::of_files(&files, holdout),
            Chosen::StandIn { reason } => Self::synthetic(COUNTS, &reason, holdout),
        }
    }
}

/// The files of both splits of CUB.
fn fetch(hub: &Hub, offline: bool) -> Result<[Fetched; 2]> {
    let split = |name| hub.split(&REPOSITORY, FOLDER, name, offline);
    Ok([split("train")?, split("test")?])
}

/// The pictures of a split of CUB, and where they came from.
fn split(fetched: &Fetched) -> Result<(Pictures, DataSource)> {
    let source = DataSource::Hub { repository: REPOSITORY.id.into(), commit: fetched.commit.clone() };
    Ok((Pictures::shards(Shards::open(&fetched.files)?), source))
}

fn drawn(reason: &str) -> DataSource {
    DataSource::Synthetic { what: format!("creatures {VERSION}"), reason: reason.into() }
}
