//! Pictures of a split, scaled; as many as fit into a bound are kept.

use super::synthetic::{self, CLASSES, creature};
use super::{Box4, Shards};
use crate::data::hex;
use anyhow::Result;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of scaled pictures that are kept, a split. Those that do not fit are decoded again where they are asked for: in shuffled passes over more than fits, no rule
/// about which to keep does better.
const KEPT: usize = 1 << 30;

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

/// Scaled pictures by index and short side, and their bytes.
#[derive(Debug, Default)]
struct Kept {
    pictures: HashMap<(usize, usize), Arc<RgbImage>>,
    bytes: usize,
}

/// A box, and the places of the parts, in shares of the picture.
type Truth = (Box4, Vec<[f64; 2]>);

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

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a picture.
    pub fn label(&self, i: usize) -> u32 {
        match &*self.origin {
            Origin::Shards(shards) => shards.labels()[i],
            Origin::Creatures(..) => (i % CLASSES) as u32,
        }
    }

    /// The picture, its short side scaled to `short` pixels.
    ///
    /// # Errors
    ///
    /// When it cannot be decoded.
    pub fn picture(&self, i: usize, short: usize) -> Result<Arc<RgbImage>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(picture) = lock().pictures.get(&(i, short)) {
            return Ok(picture.clone());
        }
        let picture = Arc::new(scaled(self.whole(i)?, short));
        let (mut kept, bytes) = (lock(), picture.as_raw().len());
        if kept.bytes + bytes <= KEPT && kept.pictures.insert((i, short), picture.clone()).is_none() {
            kept.bytes += bytes;
        }
        Ok(picture)
    }

    fn whole(&self, i: usize) -> Result<RgbImage> {
        match &*self.origin {
            Origin::Shards(shards) => shards.decode(i),
            Origin::Creatures(split, _) => Ok(creature(*split, i as u64).image),
        }
    }

    /// The bird's box and its parts.
    pub(super) fn truth(&self, i: usize) -> Result<Truth> {
        match &*self.origin {
            Origin::Shards(shards) => {
                let [left, top, right, bottom] = shards.bird(i);
                // The size alone: no pixel is decoded.
                let bytes = shards.bytes(i)?;
                let size =
                    image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?.into_dimensions()?;
                let (width, height) = (f64::from(size.0), f64::from(size.1));
                Ok(([left / width, top / height, right / width, bottom / height], Vec::new()))
            }
            Origin::Creatures(split, _) => {
                let synthetic::Creature { bird, parts, .. } = synthetic::layout(*split, i as u64);
                Ok((bird, parts.to_vec()))
            }
        }
    }

    /// SHA-256 over labels, boxes and images of some pictures: encoded ones of the hub, pixels of drawn ones.
    pub(super) fn identity(&self, indices: &[usize]) -> Result<String> {
        let mut hash = Sha256::new();
        for &i in indices {
            hash.update(self.label(i).to_le_bytes());
            match &*self.origin {
                Origin::Shards(shards) => {
                    shards.bird(i).iter().for_each(|n| hash.update(n.to_le_bytes()));
                    hash.update(shards.bytes(i)?);
                }
                Origin::Creatures(split, _) => hash.update(creature(*split, i as u64).image.as_raw()),
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Scales the short side; anti-aliased.
fn scaled(picture: RgbImage, short: usize) -> RgbImage {
    let (width, height) = (picture.width().max(1), picture.height().max(1));
    let smaller = width.min(height);
    if smaller as usize == short {
        return picture;
    }
    let side = |n: u32| ((u64::from(n) * short as u64 + u64::from(smaller) / 2) / u64::from(smaller)) as u32;
    resize(&picture, side(width), side(height), FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::table::Table;
    use bytes::Bytes;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A file of the hub's schema, its boxes of int32 or double.
    fn parquet(images: &[Vec<u8>], boxes: &[[i32; 4]], float: bool) -> Result<Vec<u8>> {
        let number = if float { "double" } else { "int32" };
        let schema = parse_message_type(&format!(
            "message schema {{ optional group image {{ optional binary bytes; optional binary path (STRING); }} optional int64 label;
             optional group bbox (LIST) {{ repeated group list {{ optional {number} element; }} }} }}"
        ))?;
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(WriterProperties::new()))?;
        let (rows, mut group) = (images.len(), writer.next_row_group()?);
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            match index {
                0 => {
                    let images: Vec<_> = images.iter().map(|image| ByteArray::from(image.clone())).collect();
                    column.typed::<ByteArrayType>().write_batch(&images, Some(&vec![2; rows]), None)?
                }
                1 => column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows]), None)?,
                2 => {
                    let labels: Vec<i64> = (0..rows as i64).collect();
                    column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows]), None)?
                }
                _ => {
                    let numbers: Vec<i32> = boxes.iter().flatten().copied().collect();
                    let repetition: Vec<i16> = (0..4 * rows).map(|i| i16::from(i % 4 != 0)).collect();
                    let levels = (Some(&vec![3; 4 * rows][..]), Some(&repetition[..]));
                    if float {
                        let numbers: Vec<f64> = numbers.iter().map(|&n| f64::from(n) + 0.5).collect();
                        column.typed::<DoubleType>().write_batch(&numbers, levels.0, levels.1)?
                    } else {
                        column.typed::<Int32Type>().write_batch(&numbers, levels.0, levels.1)?
                    }
                }
            };
            column.close()?;
            index += 1;
        }
        group.close()?;
        Ok(writer.into_inner()?)
    }

    fn encoded(image: image::DynamicImage, format: image::ImageFormat) -> Result<Vec<u8>> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format)?;
        Ok(bytes.into_inner())
    }

    #[test]
    fn grey_images_boxes_of_both_kinds_and_outside_the_image_over_two_shards() -> Result<()> {
        let grey = image::DynamicImage::ImageLuma8(image::GrayImage::from_pixel(60, 40, image::Luma([200])));
        let red = image::DynamicImage::ImageRgb8(RgbImage::from_pixel(30, 60, image::Rgb([250, 0, 0])));
        let images = [encoded(grey, image::ImageFormat::Jpeg)?, encoded(red, image::ImageFormat::Png)?];
        let folder = tempfile::tempdir()?;
        let mut files = Vec::new();
        for (name, float) in [("train-00000-of-00002.parquet", false), ("train-00001-of-00002.parquet", true)] {
            let file = folder.path().join(name);
            std::fs::write(&file, parquet(&images, &[[-6, 4, 66, 44], [0, 0, 15, 30]], float)?)?;
            files.push(file);
        }
        let pictures = Pictures::shards(Shards::open(&files)?);
        assert_eq!((pictures.len(), pictures.label(3)), (4, 1));
        let picture = pictures.picture(0, 20)?;
        assert_eq!((picture.dimensions(), picture.get_pixel(5, 5).0), ((30, 20), [200; 3]));
        assert_eq!(pictures.picture(1, 20)?.dimensions(), (20, 40));
        assert_eq!(pictures.truth(0)?.0, [-0.1, 0.1, 1.1, 1.1]);
        assert_eq!(pictures.truth(3)?.0, [0.5 / 30.0, 0.5 / 60.0, 15.5 / 30.0, 30.5 / 60.0]);
        assert!(Arc::ptr_eq(&picture, &pictures.picture(0, 20)?), "it is kept");
        assert_ne!(pictures.identity(&[0, 1])?, pictures.identity(&[2, 3])?);

        let spoilt = parquet(&[b"no image".to_vec()], &[[0; 4]], false)?;
        std::fs::write(&files[0], &spoilt)?;
        let pictures = Pictures::shards(Shards::open(&files[..1])?);
        let error = pictures.picture(0, 20).unwrap_err().to_string();
        assert_eq!(error, "train-00000-of-00002.parquet: row 0 of group 0: no image that can be decoded");
        let table = Table::open("x", Bytes::from(spoilt))?;
        let error = table.numbers_of_group("box.", 0).unwrap_err().to_string();
        assert!(error.starts_with("x: expected a column `box...` of lists of numbers"), "{error}");
        Ok(())
    }
}
