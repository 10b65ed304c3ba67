use super::*;
use crate::data::hex;
use crate::data::table::Table;
use bytes::Bytes;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, RgbaImage};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row of the hub's schema; none is a null.
#[derive(Clone)]
struct Row {
    image: Option<Vec<u8>>,
    label: Option<i64>,
    bird: Option<[f64; 4]>,
}

fn row(image: &[u8], label: i64, bird: [f64; 4]) -> Row {
    Row { image: Some(image.to_vec()), label: Some(label), bird: Some(bird) }
}

/// A file of the hub's schema, its boxes of the parquet type `number`.
fn parquet(rows: &[Row], number: &str) -> Result<Vec<u8>> {
    let schema = parse_message_type(&format!(
        "message schema {{ optional group image {{ optional binary bytes; optional binary path (STRING); }} optional int64 label;
         optional group bbox (LIST) {{ repeated group list {{ optional {number} element; }} }} }}"
    ))?;
    let says =
        r#"{"info": {"features": {"label": {"names": ["001.Black_footed_Albatross", "a.b"], "_type": "ClassLabel"}}}}"#;
    let says = KeyValue { key: "huggingface".into(), value: Some(says.into()) };
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![says])).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let levels = |there: fn(&Row) -> bool, complete: i16| -> Vec<i16> {
        rows.iter().map(|row| if there(row) { complete } else { 0 }).collect()
    };
    let mut index = 0;
    while let Some(mut column) = group.next_column()? {
        match index {
            0 => {
                let images: Vec<_> = rows.iter().filter_map(|row| row.image.clone()).map(ByteArray::from).collect();
                let levels = levels(|row| row.image.is_some(), 2);
                column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None)?
            }
            1 => column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None)?,
            2 => {
                let labels: Vec<i64> = rows.iter().filter_map(|row| row.label).collect();
                let levels = levels(|row| row.label.is_some(), 1);
                column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None)?
            }
            _ => {
                let numbers: Vec<f64> = rows.iter().filter_map(|row| row.bird).flatten().collect();
                let (mut definition, mut repetition) = (Vec::<i16>::new(), Vec::<i16>::new());
                for row in rows {
                    definition.extend(if row.bird.is_some() { vec![3; 4] } else { vec![0] });
                    repetition.extend(if row.bird.is_some() { vec![0, 1, 1, 1] } else { vec![0] });
                }
                let levels = (Some(&definition[..]), Some(&repetition[..]));
                macro_rules! write {
                    ($kind:ty, $number:ty) => {{
                        let numbers: Vec<$number> = numbers.iter().map(|&n| n as $number).collect();
                        column.typed::<$kind>().write_batch(&numbers, levels.0, levels.1)?
                    }};
                }
                match number {
                    "int32" => write!(Int32Type, i32),
                    "int64" => write!(Int64Type, i64),
                    "float" => write!(FloatType, f32),
                    _ => write!(DoubleType, f64),
                }
            }
        };
        column.close()?;
        index += 1;
    }
    group.close()?;
    Ok(writer.into_inner()?)
}

/// The pictures of files in a folder, a file each.
fn pictures(folder: &Path, files: &[Vec<u8>]) -> Result<Pictures> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for (i, bytes) in files.iter().enumerate() {
        let path = folder.join(format!("train-{i:05}-of-{:05}.parquet", files.len()));
        std::fs::write(&path, bytes)?;
        paths.push(path);
    }
    Ok(Pictures::shards(Shards::open(&paths)?))
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}

#[test]
fn grey_images_boxes_of_every_type_and_outside_the_image_over_four_shards() -> Result<()> {
    let grey = encoded(GrayImage::from_pixel(60, 40, Luma([200])), ImageFormat::Jpeg)?;
    let red = encoded(RgbImage::from_pixel(30, 60, Rgb([250, 0, 0])), ImageFormat::Png)?;
    let whole = [row(&grey, 0, [-6.0, 4.0, 66.0, 44.0]), row(&red, 1, [0.0, 0.0, 15.0, 30.0])];
    let halves = [row(&grey, 0, [-6.5, 4.5, 66.5, 44.5]), row(&red, 1, [0.5, 0.5, 15.5, 30.5])];
    let files =
        [parquet(&whole, "int32")?, parquet(&halves, "double")?, parquet(&halves, "float")?, parquet(&whole, "int64")?];
    let folder = tempfile::tempdir()?;
    let pictures = pictures(folder.path(), &files)?;
    assert_eq!((pictures.len(), pictures.label(3)), (8, 1));
    let picture = pictures.picture(0, 20)?;
    assert_eq!((picture.image.dimensions(), picture.image.get_pixel(5, 5).0), ((30, 20), [200; 3]));
    assert_eq!(pictures.picture(1, 20)?.image.dimensions(), (20, 40));
    let bird = |i: usize| Ok::<_, anyhow::Error>(pictures.truth(i, &*pictures.picture(i, 20)?).bird);
    for i in [0, 6] {
        assert_eq!(bird(i)?, [-0.1, 0.1, 1.1, 1.1]);
    }
    for i in [3, 5] {
        assert_eq!(bird(i)?, [0.5 / 30.0, 0.5 / 60.0, 15.5 / 30.0, 30.5 / 60.0]);
    }
    assert!(Arc::ptr_eq(&picture, &pictures.picture(0, 20)?), "it is kept");
    pictures.picture(0, 10)?;
    assert!(!Arc::ptr_eq(&picture, &pictures.picture(0, 20)?), "until another size is asked for");
    assert_ne!(pictures.identity(&[0, 1])?, pictures.identity(&[2, 3])?);
    assert_eq!(pictures.identity(&[2, 3])?, pictures.identity(&[4, 5])?, "the same numbers in another type");
    Ok(())
}

#[test]
fn png_of_sixteen_bits_and_with_transparency() -> Result<()> {
    let deep = ImageBuffer::<Rgb<u16>, _>::from_pixel(20, 20, Rgb([65_535, 32_896, 0]));
    let clear = RgbaImage::from_pixel(20, 20, image::Rgba([10, 20, 30, 0]));
    let images = [encoded(DynamicImage::ImageRgb16(deep), ImageFormat::Png)?, encoded(clear, ImageFormat::Png)?];
    let rows = images.map(|image| row(&image, 0, [0.0; 4]));
    let folder = tempfile::tempdir()?;
    let pictures = pictures(folder.path(), &[parquet(&rows, "int32")?])?;
    assert_eq!(pictures.picture(0, 20)?.image.get_pixel(3, 3).0, [255, 128, 0]);
    assert_eq!(pictures.picture(1, 20)?.image.get_pixel(3, 3).0, [10, 20, 30], "the colours below");
    Ok(())
}

#[test]
fn errors_say_which_row_of_which_file() -> Result<()> {
    let good = row(&encoded(RgbImage::new(20, 20), ImageFormat::Png)?, 0, [0.0; 4]);
    let strip = encoded(RgbImage::new(17, 1), ImageFormat::Png)?;
    let folder = tempfile::tempdir()?;
    // The first file is a good one: rows are counted in their own.
    let error = |spoilt: Row| -> Result<String> {
        let files = [parquet(&[good.clone(), good.clone()], "int32")?, parquet(&[good.clone(), spoilt], "int32")?];
        let read = pictures(folder.path(), &files).and_then(|pictures| pictures.picture(3, 20));
        Ok(format!("{:#}", read.expect_err("a spoilt row")))
    };
    for (spoilt, expected) in [
        (Row { label: Some(1000), ..good.clone() }, "row 1: a label must be 0..999"),
        (Row { label: None, ..good.clone() }, "row 1: expected a value in `label`, got none"),
        (Row { bird: None, ..good.clone() }, "row 1 of group 0: a box must be [left, top, right, bottom], got []"),
        (Row { image: None, ..good.clone() }, "`image.bytes`, row group 0: expected 2 values, got 1"),
        (row(b"no image", 0, [0.0; 4]), "row 1 of group 0: no image that can be decoded"),
        (
            row(&strip, 0, [0.0; 4]),
            "row 1 of group 0: a picture's long side must be at most 16 times its short one, got 17x1",
        ),
    ] {
        let error = error(spoilt)?;
        assert!(error.contains(&format!("train-00001-of-00002.parquet: {expected}")), "{error}");
    }
    let table = Table::open("x", Bytes::from(parquet(&[good], "int32")?))?;
    let error = table.numbers_of_group("box.", 0).unwrap_err().to_string();
    assert!(error.starts_with("x: expected a column `box...` of lists of numbers"), "{error}");
    Ok(())
}

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

#[test]
fn the_checksum_is_that_of_labels_and_pixels_in_their_order() -> Result<()> {
    let count = 300; // more than are drawn at a time
    let birds = Birds::synthetic([1, count], "asked for", false)?;
    let mut hash = Sha256::new();
    for i in 0..count {
        hash.update(birds.test.label(i).to_le_bytes());
        hash.update(synthetic::creature(1, i as u64).image.as_raw());
    }
    assert_eq!(birds.test.identity()?, hex(&hash.finalize()));
    Ok(())
}

/// The way from the hub's files to the sets. No network is touched: the files are in the cache.
#[test]
fn the_hubs_files_become_sets() -> Result<()> {
    let home = tempfile::tempdir()?;
    let hub = Hub::new("http://127.0.0.1:9", home.path().join("hub"));
    let rows = |labels: std::ops::Range<i64>| -> Result<Vec<u8>> {
        let image = |label: i64| encoded(RgbImage::from_pixel(30, 20, Rgb([label as u8; 3])), ImageFormat::Png);
        let rows = labels.map(|label| Ok(row(&image(label)?, label, [0.0, 0.0, 15.0, 10.0])));
        parquet(&rows.collect::<Result<Vec<_>>>()?, "float")
    };
    let put = |name: &str, bytes: &[u8]| hub.put(&REPOSITORY, FOLDER, name, bytes);
    put("train-00000-of-00002.parquet", &rows(0..6)?)?;
    put("test-00000-of-00001.parquet", &rows(2..5)?)?;
    // A shard is missing: creatures stand in where that is allowed.
    let error = format!("{:#}", Birds::load(&hub, Source::Hub, true, true).unwrap_err());
    assert!(error.contains("data/train-*.parquet is not in the cache"), "{error}");
    assert!(Birds::load(&hub, Source::Auto, true, true)?.source.to_string().starts_with("SYNTHETIC creatures"));

    put("train-00001-of-00002.parquet", &rows(6..12)?)?;
    let birds = Birds::load(&hub, Source::Auto, true, true)?;
    let validation = birds.validation.as_ref().expect("held out");
    assert_eq!((birds.train.len(), validation.len(), birds.test.len()), (10, 2, 3));
    assert_eq!((birds.train.species(), birds.train.classes(), birds.test.species()), (10, 11, 3));
    assert_eq!(birds.source.images(), format!("{}@{}", REPOSITORY.id, &REPOSITORY.revision[..7]));
    assert_eq!(birds.test.class_names(), ["Black footed Albatross", "a.b"]);
    assert_eq!(Birds::test_from_hub(&hub, true)?.0.identity()?, birds.test.identity()?);
    assert!(Birds::load(&hub, Source::Embedded, true, true)?.source.images().contains("SYNTHETIC"));
    Ok(())
}
