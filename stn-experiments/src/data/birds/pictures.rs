//! Pictures of a split, scaled; as many as fit into a bound are kept.

use super::synthetic::{self, CLASSES, creature};
use super::{Shards, Truth};
use crate::data::hex;
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of scaled pictures that are kept, a split. Those that do not fit are decoded again where they are asked for: in shuffled passes over more than fits, no rule
/// about which to keep does better.
const KEPT: usize = 1 << 30;

/// How many times its short side a picture's long side may be: memory for scaled ones is bounded too.
const LONGEST: u32 = 16;

/// Creatures that are drawn at a time.
const CHUNK: usize = 256;

/// Pictures with their labels, boxes and parts. Clones share what is kept.
#[derive(Debug, Clone)]
pub struct Pictures {
    origin: Arc<Origin>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
enum Origin {
    Shards(Shards),
    /// Synthetic creatures: split and number.
    Creatures(u64, usize),
}

/// A scaled picture.
#[derive(Debug)]
pub struct Picture {
    /// Its pixels.
    pub image: RgbImage,
    /// Width and height before it was scaled.
    whole: (u32, u32),
}

/// Scaled pictures by index, all of one short side, and their bytes.
#[derive(Debug, Default)]
struct Kept {
    short: usize,
    pictures: HashMap<usize, Arc<Picture>>,
    bytes: usize,
}

impl Pictures {
    /// Those of the hub's files.
    pub fn shards(shards: Shards) -> Self {
        Self { origin: Arc::new(Origin::Shards(shards)), kept: Arc::default() }
    }

    /// The first synthetic creatures of a split (0 for training, 1 for testing).
    pub fn creatures(split: u64, count: usize) -> Self {
        Self { origin: Arc::new(Origin::Creatures(split, count)), kept: Arc::default() }
    }

    /// Counts them.
    pub fn len(&self) -> usize {
        match &*self.origin {
            Origin::Shards(shards) => shards.labels().len(),
            Origin::Creatures(_, count) => *count,
        }
    }

    /// The names of the classes; none where the files do not say them.
    pub fn class_names(&self) -> Vec<String> {
        match &*self.origin {
            Origin::Shards(shards) => shards.class_names().iter().map(|name| plain(name)).collect(),
            Origin::Creatures(..) => (0..CLASSES).map(super::synthetic::class_name).collect(),
        }
    }

    /// The class of a picture.
    pub fn label(&self, i: usize) -> u32 {
        match &*self.origin {
            Origin::Shards(shards) => shards.labels()[i],
            Origin::Creatures(..) => (i % CLASSES) as u32,
        }
    }

    /// The picture, its short side scaled to `short` pixels. Those of another short side are no longer kept.
    ///
    /// # Errors
    ///
    /// When it cannot be decoded, or is a strip.
    pub fn picture(&self, i: usize, short: usize) -> Result<Arc<Picture>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if kept.short != short {
                *kept = Kept { short, ..Kept::default() };
            }
            if let Some(picture) = kept.pictures.get(&i) {
                return Ok(picture.clone());
            }
        }
        let picture = Arc::new(self.scaled(i, short)?);
        let (mut kept, bytes) = (lock(), picture.image.as_raw().len());
        let fits = kept.short == short && kept.bytes + bytes <= KEPT;
        if fits && kept.pictures.insert(i, picture.clone()).is_none() {
            kept.bytes += bytes;
        }
        Ok(picture)
    }

    fn scaled(&self, i: usize, short: usize) -> Result<Picture> {
        let image = match &*self.origin {
            Origin::Shards(shards) => shards.decode(i)?,
            Origin::Creatures(split, _) => creature(*split, i as u64).image,
        };
        let whole = image.dimensions();
        let image = scaled(image, short).with_context(|| match &*self.origin {
            Origin::Shards(shards) => shards.place(i),
            Origin::Creatures(..) => format!("creature {i}"),
        })?;
        Ok(Picture { image, whole })
    }

    /// The bird's box and its parts in shares of the picture; no pixel is read.
    pub(super) fn truth(&self, i: usize, picture: &Picture) -> Truth {
        match &*self.origin {
            Origin::Shards(shards) => {
                let [left, top, right, bottom] = shards.bird(i);
                let (width, height) = (f64::from(picture.whole.0), f64::from(picture.whole.1));
                Truth { bird: [left / width, top / height, right / width, bottom / height], parts: Vec::new() }
            }
            Origin::Creatures(split, _) => {
                let synthetic::Creature { bird, parts, .. } = synthetic::layout(*split, i as u64);
                Truth { bird, parts: parts.to_vec() }
            }
        }
    }

    /// SHA-256 over labels, boxes and images of some pictures: encoded ones of the hub, pixels of drawn ones.
    pub(super) fn identity(&self, indices: &[usize]) -> Result<String> {
        let mut hash = Sha256::new();
        match &*self.origin {
            Origin::Shards(shards) => {
                for &i in indices {
                    hash.update(self.label(i).to_le_bytes());
                    shards.bird(i).iter().for_each(|n| hash.update(n.to_le_bytes()));
                    hash.update(shards.bytes(i)?);
                }
            }
            Origin::Creatures(split, _) => {
                for chunk in indices.chunks(CHUNK) {
                    let drawn: Vec<RgbImage> = chunk.par_iter().map(|&i| creature(*split, i as u64).image).collect();
                    for (&i, image) in chunk.iter().zip(&drawn) {
                        hash.update(self.label(i).to_le_bytes());
                        hash.update(image.as_raw());
                    }
                }
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Scales the short side; anti-aliased.
fn scaled(picture: RgbImage, short: usize) -> Result<RgbImage> {
    let (width, height) = picture.dimensions();
    let smaller = width.min(height);
    ensure!(
        smaller > 0 && width.max(height) <= smaller.saturating_mul(LONGEST),
        "a picture's long side must be at most {LONGEST} times its short one, got {width}x{height}"
    );
    if smaller as usize == short {
        return Ok(picture);
    }
    let side = |n: u32| ((u64::from(n) * short as u64 + u64::from(smaller) / 2) / u64::from(smaller)) as u32;
    Ok(resize(&picture, side(width), side(height), FilterType::CatmullRom))
}

/// A name of the hub's as one says it: `001.Black_footed_Albatross` is `Black footed Albatross`.
fn plain(name: &str) -> String {
    let name = name.split_once('.').filter(|(number, _)| number.parse::<u32>().is_ok()).map_or(name, |(_, name)| name);
    name.replace('_', " ")
}
