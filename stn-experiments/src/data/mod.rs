//! Data: where it comes from, how it is decoded, and how it is distorted.
//!
//! ```text
//! hub (pinned revision, verified, cached) | embedded set
//!   -> Dataset { images u8 (N, C, H, W), labels }     identity = sha256 of shape, pixels and labels
//!   -> Distortion::apply(image, &mut rng)             the training set: drawn anew every epoch
//!    | distorted_set(.., seed, draw)                  the test set: drawn once per seed and draw
//! ```
//!
//! Whatever the source, the decoded pixels of MNIST are compared with the checksum of the original idx files: a run
//! on the hub's files and a run on the embedded ones see the same bits.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::named::by_id;

pub mod addition;
pub mod birds;
pub mod distort;
mod epochs;
mod guard;
pub mod hub;
pub mod mnist;
pub mod pack;
pub mod seed;
mod stand_in;
pub mod svhn;
pub mod table;

pub use distort::{Distortion, Pose, distorted_set};
pub use epochs::Epochs;
pub use hub::Hub;
pub use mnist::Mnist;
pub use seed::{Purpose, epoch_order, rng};

/// The number of training images that are held out for validation: the last 5,000.
pub const VALIDATION: usize = 5_000;

/// Holds decoded images and their labels in host memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Pixels, (N, C, H, W) row-major, 0 to 255.
    pub images: Vec<u8>,
    /// One class per image.
    pub labels: Vec<u8>,
    /// Channels of an image.
    pub channels: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
}

impl Dataset {
    /// Puts images and labels together.
    ///
    /// # Errors
    ///
    /// When the number of pixels is not `labels.len() * channels * height * width`, or an image has no pixels.
    pub fn new(images: Vec<u8>, labels: Vec<u8>, channels: usize, height: usize, width: usize) -> Result<Self> {
        let size = channels * height * width;
        ensure!(size > 0, "dataset: an image must have pixels, got ({channels}, {height}, {width})");
        ensure!(
            images.len() == labels.len() * size,
            "dataset: {} labels of ({channels}, {height}, {width}) images need {} pixels, got {}",
            labels.len(),
            labels.len() * size,
            images.len()
        );
        Ok(Self { images, labels, channels, height, width })
    }

    /// Counts the images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Says whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Counts the pixels of one image, all channels together.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Borrows the pixels of image `i`, (C, H, W).
    ///
    /// # Panics
    ///
    /// When `i >= self.len()`, as slices do.
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.image_len();
        &self.images[i * size..(i + 1) * size]
    }

    /// Copies the images of `range`.
    ///
    /// # Errors
    ///
    /// When the range leaves the data.
    pub fn range(&self, range: Range<usize>) -> Result<Self> {
        ensure!(
            range.start <= range.end && range.end <= self.len(),
            "dataset: range {range:?} must lie in 0..{}",
            self.len()
        );
        let size = self.image_len();
        Ok(Self {
            images: self.images[range.start * size..range.end * size].to_vec(),
            labels: self.labels[range].to_vec(),
            ..*self
        })
    }

    /// Splits off the last `n` images, the validation set: returns what stays and what was split off.
    ///
    /// # Errors
    ///
    /// When there are fewer than `n` images.
    pub fn split_off_tail(&self, n: usize) -> Result<(Self, Self)> {
        ensure!(n <= self.len(), "dataset: cannot hold out {n} of {} images", self.len());
        let cut = self.len() - n;
        Ok((self.range(0..cut)?, self.range(cut..self.len())?))
    }

    /// Computes the data's identity: the SHA-256, in hexadecimal, of N, C, H, W (64-bit little-endian), the pixels
    /// and the labels.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for n in [self.len(), self.channels, self.height, self.width] {
            hash.update((n as u64).to_le_bytes());
        }
        hash.update(&self.images);
        hash.update(&self.labels);
        hex(&hash.finalize())
    }
}

/// Writes bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Says where data is asked from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The verified cache, then the hub, then the embedded set with a notice that names the hub's error. A disk that cannot be written is an error.
    #[default]
    Auto,
    /// The cache or the hub; fails where neither has the data.
    Hub,
    /// The set that is compiled into the binary; for sets that cannot be, synthetic images made from it.
    Embedded,
}

impl Source {
    /// Every source, in the order in which they are listed to a user.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Hub, Self::Embedded];

    /// Names the source as on the command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Hub => "hub",
            Self::Embedded => "embedded",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        by_id("source", s, Self::ALL, Self::id)
    }
}

/// Says where data came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum DataSource {
    /// A repository of the Hugging Face hub, or its copy in the local cache.
    Hub {
        /// The repository, `owner/name`.
        repository: String,
        /// The commit that the files belong to, 40 hexadecimal digits.
        commit: String,
    },
    /// The set that is compiled into the binary.
    Embedded {
        /// Why it was taken: `asked for`, `--offline`, or the hub's error.
        reason: String,
    },
    /// Images of our own making that stand in for a set that cannot be part of this program.
    Synthetic {
        /// What was made, with the release of the generator: `house numbers v1`.
        what: String,
        /// Why it was taken, as of the embedded set.
        reason: String,
    },
}

impl DataSource {
    /// Names the images themselves: those of MNIST are the same bits wherever they came from, others are a commit's or of our own making.
    pub fn images(&self) -> String {
        match self {
            Self::Hub { repository, .. } if repository == mnist::REPOSITORY.id => "MNIST".into(),
            Self::Embedded { .. } => "MNIST".into(),
            Self::Hub { repository, commit } => format!("{repository}@{}", commit.get(..7).unwrap_or(commit)),
            Self::Synthetic { what, .. } => format!("SYNTHETIC {what}"),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, commit } => write!(f, "hub {repository}@{commit}"),
            Self::Embedded { reason } => write!(f, "embedded ({reason})"),
            Self::Synthetic { what, reason } => write!(f, "SYNTHETIC {what} ({reason})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Dataset {
        Dataset::new((0..24).collect(), vec![3, 1, 4, 1], 1, 2, 3).unwrap()
    }

    #[test]
    fn images_and_ranges() {
        let data = four();
        assert_eq!((data.len(), data.image_len()), (4, 6));
        assert_eq!(data.image(2), [12, 13, 14, 15, 16, 17]);
        let (train, val) = data.split_off_tail(1).unwrap();
        assert_eq!((train.len(), val.len()), (3, 1));
        assert_eq!(val.image(0), data.image(3));
        assert!(data.range(0..0).unwrap().is_empty());
        let error = data.range(2..5).unwrap_err().to_string();
        assert_eq!(error, "dataset: range 2..5 must lie in 0..4");
        assert!(data.split_off_tail(5).is_err());
    }

    #[test]
    fn shapes_are_checked() {
        let error = Dataset::new(vec![0; 5], vec![0], 1, 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "dataset: 1 labels of (1, 2, 3) images need 6 pixels, got 5");
        assert!(Dataset::new(vec![], vec![], 1, 0, 3).is_err());
    }

    #[test]
    fn identity_sees_pixels_labels_and_shape() {
        let data = four();
        let mut pixel = data.clone();
        pixel.images[5] ^= 1;
        let mut label = data.clone();
        label.labels[0] = 2;
        let turned = Dataset::new(data.images.clone(), data.labels.clone(), 1, 3, 2).unwrap();
        for other in [pixel, label, turned] {
            assert_ne!(other.identity(), data.identity());
        }
        assert_eq!(data.identity(), four().identity());
        assert_eq!(data.identity().len(), 64);
    }

    #[test]
    fn sources_round_trip() {
        for source in Source::ALL {
            assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
        }
        let error = "disk".parse::<Source>().unwrap_err().to_string();
        assert_eq!(error, "unknown source `disk`; there are auto, hub, embedded");
        let used = DataSource::Hub { repository: "a/b".into(), commit: "c".into() };
        let json = serde_json::to_string(&used).unwrap();
        assert_eq!(json, r#"{"kind":"hub","repository":"a/b","commit":"c"}"#);
        assert_eq!(serde_json::from_str::<DataSource>(&json).unwrap(), used);
    }
}
