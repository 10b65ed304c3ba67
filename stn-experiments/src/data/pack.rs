//! Writes the embedded set: original idx files in, the hub's parquet schema out, the same bytes every time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::table::Table;
use super::{Dataset, hex, mnist};
use crate::record::write_atomically;

/// The hub's schema of an image set with labels.
const SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    optional int64 label;
}";

/// Rows of a row group: enough groups that reading goes parallel.
const GROUP: usize = 5_000;

/// The four original files: split, images, labels, with their SHA-256 (which has its place beside the well-known MD5:
/// 6bbc9ace898e44ae57da46a324031adb for the training images, 2646ac647ad5339dbf082846283269ea for the test images).
const IDX: [(&str, [(&str, &str); 2]); 2] = [
    (
        "train",
        [
            ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ],
    ),
    (
        "test",
        [
            ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ],
    ),
];

/// Converts the four original idx files in `idx_dir` to `{train,test}-00000-of-00001.parquet` in `out_dir`.
///
/// # Errors
///
/// When a file is missing, is not the original (by SHA-256), or cannot be written.
pub fn pack_mnist(idx_dir: &Path, out_dir: &Path) -> Result<()> {
    fs::create_dir_all(out_dir).with_context(|| format!("cannot make {}", out_dir.display()))?;
    for (split, [images, labels]) in IDX {
        let (shape, pixels) = read_idx(idx_dir, images)?;
        let (_, labels) = read_idx(idx_dir, labels)?;
        let [_, height, width] = shape[..] else {
            anyhow::bail!("MNIST {split}: images must be (N, H, W), got {shape:?}");
        };
        let data = Dataset::new(pixels, labels, 1, height, width)?;
        let path = out_dir.join(format!("{split}-00000-of-00001.parquet"));
        let bytes = parquet(&data)?;
        let back = mnist::decode(&Table::open(split, bytes.clone().into())?)?;
        ensure!(back == data, "MNIST {split}: what was packed does not read back");
        write_atomically(&path, |part| Ok(fs::write(part, &bytes)?))?;
    }
    Ok(())
}

/// Reads one idx file of bytes: two zero bytes, 8 (bytes), the number of dimensions, the dimensions (big-endian), the data.
fn read_idx(dir: &Path, (name, sha256): (&str, &str)) -> Result<(Vec<usize>, Vec<u8>)> {
    let path = dir.join(name);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let got = hex(&Sha256::digest(&bytes));
    ensure!(got == sha256, "{name}: sha256 must be {sha256}, got {got}: not the original (uncompressed) idx file");
    parse_idx(&bytes).with_context(|| name.to_string())
}

fn parse_idx(bytes: &[u8]) -> Result<(Vec<usize>, Vec<u8>)> {
    let magic = bytes.get(..4).context("idx: file ends within the magic number")?;
    ensure!(magic[..3] == [0, 0, 8], "idx: magic number must be 00 00 08 xx (unsigned bytes), got {magic:02x?}");
    let dims = usize::from(magic[3]);
    let header = bytes.get(4..4 + 4 * dims).context("idx: file ends within the dimensions")?;
    let shape: Vec<usize> =
        header.chunks_exact(4).map(|b| b.iter().fold(0, |n, &byte| n << 8 | usize::from(byte))).collect();
    let data = &bytes[4 + 4 * dims..];
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let expected = expected.with_context(|| format!("idx: shape {shape:?} is too large"))?;
    ensure!(expected == data.len(), "idx: shape {shape:?} needs {expected} bytes, got {}", data.len());
    Ok((shape, data.to_vec()))
}

/// Encodes a set of grey images as a parquet file in the hub's schema; `path` is null.
///
/// # Errors
///
/// When the images are not grey.
pub fn parquet(data: &Dataset) -> Result<Vec<u8>> {
    ensure!(data.channels == 1, "pack: images must be grey, got {} channels", data.channels);
    let rows: Result<Vec<_>> =
        (0..data.len()).into_par_iter().map(|i| Ok((png(data, i)?, i64::from(data.labels[i])))).collect();
    parquet_of(&rows?)
}

/// Writes rows of (encoded image, label) as a parquet file in the hub's schema; `path` is null.
///
/// # Errors
///
/// When the writer fails.
pub fn parquet_of(rows: &[(Vec<u8>, i64)]) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder()
        .set_created_by("stn data pack".to_string())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(19)?))
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(GROUP * 1024) // one page a group: zstd sees more at once
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for rows in rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            let images: Vec<_> = rows.iter().map(|(image, _)| ByteArray::from(image.clone())).collect();
            column.typed::<ByteArrayType>().write_batch(&images, Some(&vec![2; rows.len()]), None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            let labels: Vec<_> = rows.iter().map(|&(_, label)| label).collect();
            column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None)?;
            column.close()?;
        }
        group.close()?;
    }
    Ok(writer.into_inner()?)
}

/// Encodes image `i` as a PNG. Stored, not deflated: zstd over the whole column finds more than deflate
/// in single images of 784 bytes, and is faster to undo.
fn png(data: &Dataset, i: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Uncompressed, FilterType::NoFilter)
        .write_image(data.image(i), data.width as u32, data.height as u32, ExtendedColorType::L8)
        .with_context(|| format!("pack: image {i}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idx_files_are_checked() {
        let good = [&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[1, 2, 3, 4, 5, 6]].concat();
        assert_eq!(parse_idx(&good).unwrap(), (vec![2, 3], vec![1, 2, 3, 4, 5, 6]));
        let error = |bytes: &[u8]| parse_idx(bytes).unwrap_err().to_string();
        assert_eq!(error(&good[..3]), "idx: file ends within the magic number");
        assert_eq!(error(&good[..9]), "idx: file ends within the dimensions");
        assert_eq!(error(&good[..17]), "idx: shape [2, 3] needs 6 bytes, got 5");
        let floats = "idx: magic number must be 00 00 08 xx (unsigned bytes), got [00, 00, 0d, 02]";
        assert_eq!(error(&[0, 0, 13, 2]), floats);
        // Sizes whose product overflows.
        assert!(parse_idx(&[&[0, 0, 8, 3][..], &[255; 12]].concat()).is_err());
    }

    #[test]
    fn only_the_original_files_are_packed() {
        let (idx, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = pack_mnist(idx.path(), out.path()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.ends_with("train-images-idx3-ubyte"), "{error}");
        fs::write(idx.path().join("train-images-idx3-ubyte"), b"other").unwrap();
        let error = pack_mnist(idx.path(), out.path()).unwrap_err().to_string();
        assert!(error.starts_with("train-images-idx3-ubyte: sha256 must be ba89"), "{error}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }

    #[test]
    fn packing_is_deterministic() {
        let test = crate::data::Mnist::embedded("asked for").unwrap().test;
        let embedded = include_bytes!("../../../data/mnist/test-00000-of-00001.parquet");
        assert!(parquet(&test).unwrap() == embedded, "the embedded test file cannot be made again");
    }
}
