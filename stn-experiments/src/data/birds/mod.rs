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

pub use crop::{Crop, View};
pub use pictures::Pictures;
pub use shards::Shards;
pub use synthetic::{CLASSES, COUNTS, Creature, VERSION, creature};

use super::hub::{Hub, Repository};
use super::{DataSource, Source};
use anyhow::{Context, Result};

/// The hub's repository. No commit of it is known that could be pinned: the one that the hub answers is recorded.
pub const REPOSITORY: Repository = Repository::dataset("bentrevett/caltech-ucsd-birds-200-2011", "main");
/// The folder of the repository.
const FOLDER: &str = "data";

/// Every sixth training image of a budget that holds some out is validation.
const HELD_OUT: usize = 6;

/// A box in pixels of a picture: left, top, right, bottom. It may leave the picture.
pub type Box4 = [f64; 4];

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

    /// A square of a picture as the network sees it: random where there is a generator, else the one in the middle.
    ///
    /// # Errors
    ///
    /// When the picture cannot be decoded.
    pub fn view(&self, i: usize, crop: Crop, rng: Option<&mut rand_chacha::ChaCha8Rng>) -> Result<View> {
        let index = self.indices[i];
        let picture = self.pictures.picture(index, crop.short)?;
        let (bird, parts) = self.pictures.truth(index)?;
        Ok(crop.view(&picture, bird, &parts, rng))
    }

    /// Computes the set's identity: the SHA-256 of labels, boxes and encoded images, or of the drawn pixels.
    ///
    /// # Errors
    ///
    /// When an image cannot be read.
    pub fn identity(&self) -> Result<String> {
        self.pictures.identity(&self.indices)
    }

    /// Counts the classes: the highest label, and one.
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
    /// When the hub and its cache have no valid data.
    pub fn from_hub(hub: &Hub, offline: bool, holdout: bool) -> Result<Self> {
        let load = |split: &str| -> Result<(Shards, String)> {
            let fetched = hub.split(&REPOSITORY, FOLDER, split, offline)?;
            Ok((Shards::open(&fetched.files)?, fetched.commit))
        };
        let ((train, commit), (test, _)) = (load("train")?, load("test")?);
        let source = DataSource::Hub { repository: REPOSITORY.id.into(), commit };
        Self::new([Pictures::shards(train), Pictures::shards(test)], source, holdout, |i| i)
    }

    /// Draws synthetic creatures: so many for training and for testing.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn synthetic(counts: [usize; 2], reason: &str, holdout: bool) -> Result<Self> {
        let source = DataSource::Synthetic { what: format!("creatures {VERSION}"), reason: reason.into() };
        let [train, test] = counts;
        // Classes take turns, and so would every sixth of them.
        let mixed = |i: usize| i / CLASSES + i % CLASSES;
        Self::new([Pictures::creatures(0, train), Pictures::creatures(1, test)], source, holdout, mixed)
    }

    fn new(
        [train, test]: [Pictures; 2],
        source: DataSource,
        holdout: bool,
        turn: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let mut train = BirdSet::new(train);
        let validation = if holdout {
            let (held, kept) = train.indices.iter().partition(|&&i| turn(i) % HELD_OUT == HELD_OUT - 1);
            train.indices = kept;
            Some(BirdSet { pictures: train.pictures.clone(), indices: held })
        } else {
            None
        };
        anyhow::ensure!(!train.is_empty() && !test.is_empty(), "birds: there are no pictures");
        Ok(Self { train, validation, test: BirdSet::new(test), source })
    }

    /// Loads what `source` asks for: `Auto` takes the cache, then the hub, then synthetic creatures, which it says on standard error.
    ///
    /// # Errors
    ///
    /// With `Hub`, when the hub and its cache have no valid data.
    pub fn load(hub: &Hub, source: Source, offline: bool, holdout: bool) -> Result<Self> {
        let error = match source {
            Source::Embedded => return Self::synthetic(COUNTS, "asked for", holdout),
            Source::Hub => {
                return Self::from_hub(hub, offline, holdout).context(
                    "CUB was asked from the hub alone and cannot be had (check the network and HF_ENDPOINT, or take synthetic creatures, which are no \
                     birds, with --source embedded)",
                );
            }
            Source::Auto => match Self::from_hub(hub, offline, holdout) {
                Ok(birds) => return Ok(birds),
                Err(error) => error,
            },
        };
        // The reason goes into records that others read: neither this machine's folders nor a mirror's address belong there.
        let reason = format!("{error:#}")
            .replace(&hub.cache.display().to_string(), "<cache>")
            .replace(hub.endpoint.trim_end_matches('/'), "<hub>");
        crate::warn!(
            "\nWARNING: CUB could not be had from the hub, taking SYNTHETIC creatures: the results are not CUB's.\n  \
             The hub's error: {error:#}\n  `--source hub` fails instead; `--source embedded` asks for the synthetic ones.\n"
        );
        Self::synthetic(COUNTS, &if offline { "--offline".into() } else { reason }, holdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_in_every_part() -> Result<()> {
        let birds = Birds::synthetic([30 * CLASSES, 32], "asked for", true)?;
        let validation = birds.validation.expect("held out");
        assert_eq!(birds.train.len() + validation.len(), 30 * CLASSES);
        for set in [&birds.train, &validation] {
            let mut counts = vec![0; CLASSES];
            (0..set.len()).for_each(|i| counts[set.label(i) as usize] += 1);
            assert!(counts.iter().all(|&n| n >= set.len() / CLASSES - 1), "{counts:?}");
        }
        assert_eq!(birds.test.classes(), CLASSES);
        Ok(())
    }
}
