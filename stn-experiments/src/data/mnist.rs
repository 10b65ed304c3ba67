//! MNIST from the hub's parquet files, downloaded or embedded.

use std::io::Cursor;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use image::codecs::png::PngDecoder;
use image::{ColorType, ImageDecoder};
use rayon::prelude::*;

use super::hub::{Hub, Repository};
use super::stand_in::{Chosen, StandIn};
use super::table::Table;
use super::{DataSource, Dataset, Source};

/// The hub's repository, pinned.
pub const REPOSITORY: Repository = Repository::dataset("ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c");
/// The folder (and configuration) of the repository.
const FOLDER: &str = "mnist";

const STAND_IN: StandIn = StandIn {
    set: "MNIST",
    taken: "the embedded copy (the same images)",
    offered: "the embedded copy of the same images",
    same_images: true,
};

/// The side of a digit's frame in pixels.
pub const SIDE: usize = 28;
/// The number of classes.
pub const CLASSES: usize = 10;
/// [`Dataset::identity`] of the 60,000 training images, computed from the original idx files.
pub const TRAIN_IDENTITY: &str = "013e0a690ea982f9f86a8aefd0c5949d3e9b12e37ad230ffe8af6604d2ef0de6";
/// [`Dataset::identity`] of the 10,000 test images, computed from the original idx files.
pub const TEST_IDENTITY: &str = "5cfef7b2bb8a59ab696f81a0eaf40cb3778569d762c1ba39fc971485e040ec91";

static TRAIN: &[u8] = include_bytes!("../../../data/mnist/train-00000-of-00001.parquet");
static TEST: &[u8] = include_bytes!("../../../data/mnist/test-00000-of-00001.parquet");

/// Holds the 60,000 training and 10,000 test digits, in the order of the original files.
#[derive(Clone, Debug)]
pub struct Mnist {
    /// Training images, (60000, 1, 28, 28).
    pub train: Dataset,
    /// Test images, (10000, 1, 28, 28).
    pub test: Dataset,
    /// Where they came from.
    pub source: DataSource,
}

impl Mnist {
    /// Loads MNIST from `source`, with the hub and cache that the environment names; with `offline` no network is touched.
    ///
    /// # Errors
    ///
    /// As [`Mnist::load_from`].
    pub fn load(source: Source, offline: bool) -> Result<Self> {
        Self::load_from(&Hub::from_env(), source, offline)
    }

    /// Loads MNIST from `source` with a given hub; with `offline` no network is touched.
    ///
    /// `Auto` takes the verified cache, then the hub, then the embedded set, which it says on standard error.
    ///
    /// # Errors
    ///
    /// With `Hub`, when the hub and its cache have no valid data; with any source, when the decoded pixels are
    /// not MNIST's.
    pub fn load_from(hub: &Hub, source: Source, offline: bool) -> Result<Self> {
        let fetch = || {
            let split = |name| hub.split(&REPOSITORY, FOLDER, name, offline);
            let (train, test) = (split("train")?, split("test")?);
            let source = DataSource::Hub { repository: REPOSITORY.id.into(), commit: train.commit };
            // Files that hold something else are as bad as none: the embedded images are MNIST's, and so no other ones.
            Self::verified(decode_files(&train.files)?, decode_files(&test.files)?, source)
        };
        match STAND_IN.choose(hub, source, offline, fetch)? {
            Chosen::Hub(mnist) => Ok(mnist),
            Chosen::StandIn { reason } => Self::embedded(reason),
        }
    }

    /// Decodes the embedded set; `reason` says why it was taken.
    ///
    /// # Errors
    ///
    /// When the decoded pixels are not MNIST's.
    pub fn embedded(reason: impl Into<String>) -> Result<Self> {
        let source = DataSource::Embedded { reason: reason.into() };
        let train = decode(&Table::open("embedded MNIST train", Bytes::from_static(TRAIN))?)?;
        let test = decode(&Table::open("embedded MNIST test", Bytes::from_static(TEST))?)?;
        Self::verified(train, test, source)
    }

    /// Compares the decoded pixels and labels with the original files' checksum.
    fn verified(train: Dataset, test: Dataset, source: DataSource) -> Result<Self> {
        for (split, data, expected) in [("train", &train, TRAIN_IDENTITY), ("test", &test, TEST_IDENTITY)] {
            let got = data.identity();
            ensure!(
                got == expected,
                "MNIST {split} from {source}: decoded pixels and labels must have sha256 {expected}, got {got}"
            );
        }
        Ok(Self { train, test, source })
    }

    /// Hands out the data as Candle's own reader does: images (N, 784) in 0..1, labels (N,) u8, on the CPU.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be made.
    pub fn to_candle(&self) -> Result<candle_datasets::vision::Dataset> {
        let images = |data: &Dataset| -> Result<Tensor> {
            let shape = (data.len(), data.image_len());
            let bytes = Tensor::from_slice(&data.images, shape, &Device::Cpu)?;
            Ok((bytes.to_dtype(DType::F32)? / 255.)?)
        };
        let labels = |data: &Dataset| Tensor::from_slice(&data.labels, data.len(), &Device::Cpu);
        Ok(candle_datasets::vision::Dataset {
            train_images: images(&self.train)?,
            train_labels: labels(&self.train)?,
            test_images: images(&self.test)?,
            test_labels: labels(&self.test)?,
            labels: CLASSES,
        })
    }
}

/// Decodes the shards of one split.
fn decode_files(files: &[PathBuf]) -> Result<Dataset> {
    let mut all = Dataset::new(Vec::new(), Vec::new(), 1, SIDE, SIDE)?;
    for path in files {
        let mut shard = decode(&Table::open_file(path)?)?;
        all.images.append(&mut shard.images);
        all.labels.append(&mut shard.labels);
    }
    Ok(all)
}

/// Decodes a parquet file of digits: `image` struct{bytes, path} with 28x28 grey PNG, `label` int64 in 0..9.
///
/// # Errors
///
/// When a column is missing, a row cannot be decoded or has another size or label.
pub fn decode(table: &Table) -> Result<Dataset> {
    let name = table.name();
    let pngs = table.bytes("image.bytes")?;
    let labels = table.integers("label")?;
    let mut images = vec![0; pngs.len() * SIDE * SIDE];
    images
        .par_chunks_exact_mut(SIDE * SIDE)
        .zip(&pngs)
        .enumerate()
        .try_for_each(|(row, (out, png))| decode_digit(png, out).with_context(|| format!("{name}: row {row}")))?;
    let labels = labels.iter().enumerate().map(|(row, &label)| {
        let class = u8::try_from(label).ok().filter(|&c| usize::from(c) < CLASSES);
        class.with_context(|| format!("{name}: row {row}: label must be 0..9, got {label}"))
    });
    let labels = labels.collect::<Result<_>>()?;
    Dataset::new(images, labels, 1, SIDE, SIDE).with_context(|| name.to_string())
}

/// Decodes one PNG into (28, 28) bytes.
fn decode_digit(png: &[u8], out: &mut [u8]) -> Result<()> {
    let image = PngDecoder::new(Cursor::new(png)).context("image must be a PNG")?;
    let (width, height) = image.dimensions();
    ensure!((width, height) == (SIDE as u32, SIDE as u32), "image must be {SIDE}x{SIDE}, got {width}x{height}");
    let color = image.color_type();
    ensure!(color == ColorType::L8, "image must be 8-bit grey, got {color:?}");
    image.read_image(out).context("image cannot be decoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pack;

    fn png(width: u32, height: u32, color: image::ExtendedColorType) -> Vec<u8> {
        use image::ImageEncoder;
        let mut bytes = Vec::new();
        let size = width * height * u32::from(color.bits_per_pixel()) / 8;
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&vec![7; size as usize], width, height, color)
            .unwrap();
        bytes
    }

    fn decode(name: &str, file: Bytes) -> Result<Dataset> {
        super::decode(&Table::open(name, file)?)
    }

    fn error(rows: &[(Vec<u8>, i64)]) -> String {
        let file = pack::parquet_of(rows).unwrap();
        format!("{:#}", decode("set", Bytes::from(file)).unwrap_err())
    }

    #[test]
    fn the_embedded_set_is_mnist() {
        let mnist = Mnist::embedded("asked for").unwrap();
        assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 10_000));
        assert_eq!(mnist.train.labels[..5], [5, 0, 4, 1, 9]);
        assert_eq!(mnist.test.labels[..5], [7, 2, 1, 0, 4]);
    }

    #[test]
    fn bad_rows_are_named() {
        use image::ExtendedColorType::{L8, Rgb8};
        let good = (png(28, 28, L8), 3);
        assert_eq!(error(&[]), "set: expected rows, got a table without any");
        let wrong = error(&[good.clone(), (png(28, 27, L8), 0)]);
        assert_eq!(wrong, "set: row 1: image must be 28x28, got 28x27");
        let wrong = error(&[(png(28, 28, Rgb8), 0)]);
        assert_eq!(wrong, "set: row 0: image must be 8-bit grey, got Rgb8");
        for label in [10, -1, 256] {
            let wrong = error(&[good.clone(), (good.0.clone(), label)]);
            assert_eq!(wrong, format!("set: row 1: label must be 0..9, got {label}"));
        }
        let wrong = error(&[(b"no image".to_vec(), 0)]);
        assert!(wrong.starts_with("set: row 0: image must be a PNG"), "{wrong}");
        let mut cut = good.clone();
        cut.0.truncate(60);
        let wrong = error(&[good.clone(), cut]);
        assert!(wrong.starts_with("set: row 1: image cannot be decoded"), "{wrong}");
    }

    #[test]
    fn bad_files_are_errors() {
        let rows = [(png(28, 28, image::ExtendedColorType::L8), 3)];
        let file = pack::parquet_of(&rows).unwrap();
        for cut in 0..file.len() {
            assert!(decode("set", Bytes::copy_from_slice(&file[..cut])).is_err());
        }
        // A flipped bit must give an error or an image, never a panic.
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut file = file.clone();
                file[at] ^= 1 << bit;
                let _ = decode("set", Bytes::from(file));
            }
        }
    }

    #[test]
    fn missing_columns_are_named() {
        let file = pack::parquet_of(&[(vec![1], 3)]).unwrap();
        let table = Table::open("set", Bytes::from(file)).unwrap();
        let error = |column| table.bytes(column).unwrap_err().root_cause().to_string();
        assert_eq!(error("img"), "set: expected a column `img`, got image.bytes, image.path, label");
        assert_eq!(error("image.path"), "set: row 0: expected a value in `image.path`, got none");
        assert_eq!(error("label"), "set: column `label` must hold one BYTE_ARRAY a row, got INT64");
    }
}
