//! House numbers from a parquet file in the hub's schema, and synthetic ones, through the same crops.

use super::make::write_synthetic;
use super::*;
use image::{ImageFormat, Rgb, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The hub's schema of `full_numbers`.
const SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    optional group digits {
        optional group bbox (LIST) { repeated group list { optional group element (LIST) { repeated group list { optional int32 element; } } } }
        optional group label (LIST) { repeated group list { optional int64 element; } }
    }
}";

/// A file with one row group a slice of rows.
fn file(groups: &[&[(RgbImage, Vec<DigitBox>)]]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::default())).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let pngs = rows.iter().map(|(image, _)| {
            let mut bytes = std::io::Cursor::new(vec![]);
            image.write_to(&mut bytes, ImageFormat::Png).unwrap();
            ByteArray::from(bytes.into_inner())
        });
        let mut column = group.next_column().unwrap().unwrap();
        let (pngs, levels) = (pngs.collect::<Vec<_>>(), vec![2; rows.len()]);
        column.typed::<ByteArrayType>().write_batch(&pngs, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap(); // no paths
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();

        let (mut values, mut definition, mut repetition) = (vec![], vec![], vec![]);
        let (mut labels, mut label_definition, mut label_repetition) = (vec![], vec![], vec![]);
        for (_, digits) in *rows {
            if digits.is_empty() {
                // An empty list: `digits` is there, its lists are there, their elements are not.
                definition.push(2);
                repetition.push(0);
                label_definition.push(2);
                label_repetition.push(0);
            }
            for (i, digit) in digits.iter().enumerate() {
                for (j, value) in [digit.left, digit.top, digit.width, digit.height].into_iter().enumerate() {
                    values.push(value);
                    definition.push(6);
                    repetition.push(if j > 0 { 2 } else { i16::from(i > 0) });
                }
                labels.push(i64::from(digit.class));
                label_definition.push(4);
                label_repetition.push(i16::from(i > 0));
            }
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&label_definition), Some(&label_repetition)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// Puts numbers into the hub's cache as its own files are: so many to train on, so many to test on.
pub(crate) fn put_numbers(hub: &Hub, counts: [u64; 2]) -> Result<()> {
    let digits = Mnist::embedded("asked for")?.test;
    for (split, count) in [("train", counts[0]), ("test", counts[1])] {
        let rows: Vec<_> = (0..count).map(|i| scene(&digits, 0, i)).map(|scene| (scene.image, scene.digits)).collect();
        hub.put(&REPOSITORY, FOLDER, &format!("{split}-00000-of-00001.parquet"), &file(&[&rows]))?;
    }
    Ok(())
}

fn digit(class: u8, left: i32) -> DigitBox {
    DigitBox { class, left, top: 4, width: 6, height: 10 }
}

/// An image of one colour.
fn plain(level: u8) -> RgbImage {
    RgbImage::from_pixel(40, 20, Rgb([level, 0, 255 - level]))
}

#[test]
fn rows_in_the_hubs_schema_become_crops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (parquet, crops) = (folder.path().join("test-00000-of-00001.parquet"), folder.path().join("a/b.safetensors"));
    let six: Vec<DigitBox> = (0..6).map(|i| digit(i, 6 * i32::from(i))).collect();
    let groups = [
        vec![(plain(10), vec![digit(3, -2), digit(0, 5)]), (plain(20), six)],
        vec![(plain(30), vec![]), (plain(40), vec![digit(9, 30)])],
    ];
    std::fs::write(&parquet, file(&groups.each_ref().map(Vec::as_slice)))?;
    crop_file(&parquet, &crops, 64)?;
    let crops = Crops::open(&crops, 64)?;
    // One number of six digits and one of none are left out.
    assert_eq!((crops.len(), crops.left_out), (2, 2));
    assert_eq!((crops.labels(0), crops.labels(1)), ([3, 0, NONE, NONE, NONE], [9, NONE, NONE, NONE, NONE]));
    for (i, level) in [(0, 10), (1, 40)] {
        let (red, blue) = (&crops.image(i)[..4096], &crops.image(i)[8192..]);
        assert!(red.iter().all(|&red| red == level) && blue.iter().all(|&blue| blue == 255 - level));
    }
    Ok(())
}

#[test]
fn damaged_files_are_errors_and_leave_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (parquet, crops) = (folder.path().join("train.parquet"), folder.path().join("crops.safetensors"));
    let whole = file(&[&[(plain(10), vec![digit(3, 2)]), (plain(20), vec![digit(4, 2)])]]);
    for cut in (0..whole.len()).step_by(37) {
        std::fs::write(&parquet, &whole[..cut])?;
        let error = format!("{:#}", crop_file(&parquet, &crops, 64).unwrap_err());
        assert!(error.contains("train.parquet") && !crops.exists(), "{error}");
    }
    // A flipped bit must give an error or crops, never a panic.
    for at in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&parquet, &bytes)?;
        let _ = crop_file(&parquet, &crops, 64);
    }
    Ok(())
}

#[test]
fn synthetic_numbers_are_pinned_and_of_the_right_digits() -> Result<()> {
    let (folder, digits) = (tempfile::tempdir()?, Mnist::embedded("asked for")?.test);
    let path = folder.path().join("test.safetensors");
    write_synthetic(&path, 128, &digits, 1, 300)?;
    let numbers = NumberSet::whole(vec![Arc::new(Crops::open(&path, 128)?)]);
    assert_eq!(
        numbers.identity(),
        "4faf633354cfdaa986bc10f18b37edf7fd3f0cb4c5bb32602583b83049255ae3",
        "a change here changes every result on synthetic house numbers; give it another VERSION"
    );
    for i in 0..300 {
        let Scene { image, digits: boxes } = scene(&digits, 1, i as u64);
        assert!(
            numbers.get(i).1.iter().copied().filter(|&label| label != NONE).eq(boxes.iter().map(|digit| digit.class))
        );
        // Every digit lies in the image and in its window, even the widest.
        let number = Frame::around(&boxes).unwrap();
        let window = number.window(128);
        for digit in &boxes {
            let (right, bottom) = (digit.left + digit.width, digit.top + digit.height);
            assert!(digit.left >= 0 && digit.top >= 0);
            assert!(right as u32 <= image.width() && bottom as u32 <= image.height());
            assert!(f64::from(digit.left) > window.left && f64::from(right) < window.left + window.width);
        }
        // The number is in the middle, to a pixel and what the scene's size is rounded by.
        let across = number.left + number.width / 2.0 - f64::from(image.width()) / 2.0;
        let down = number.top + number.height / 2.0 - f64::from(image.height()) / 2.0;
        assert!(across.abs() <= 1.5 && down.abs() <= 1.5, "number {i} is {across}, {down} pixels from the middle");
    }
    Ok(())
}

/// Written as the hub's files are and read by their reader, synthetic numbers give the same crops, bit for bit.
#[test]
fn synthetic_numbers_in_the_hubs_schema_give_the_same_crops() -> Result<()> {
    let (folder, digits) = (tempfile::tempdir()?, Mnist::embedded("asked for")?.test);
    let rows: Vec<_> = (0..60).map(|i| scene(&digits, 1, i)).map(|scene| (scene.image, scene.digits)).collect();
    let (parquet, read, made) = (folder.path().join("p"), folder.path().join("read"), folder.path().join("made"));
    std::fs::write(&parquet, file(&[&rows[..40], &rows[40..]]))?;
    crop_file(&parquet, &read, 64)?;
    write_synthetic(&made, 64, &digits, 1, 60)?;
    assert!(std::fs::read(&read)? == std::fs::read(&made)?, "crops or labels differ");
    Ok(())
}

#[test]
fn the_validation_images_are_the_last_of_train() -> Result<()> {
    let (folder, digits) = (tempfile::tempdir()?, Mnist::embedded("asked for")?.test);
    let crops = |name: &str, count| -> Result<Vec<Arc<Crops>>> {
        let path = folder.path().join(name);
        write_synthetic(&path, 64, &digits, 0, count)?;
        Ok(vec![Arc::new(Crops::open(&path, 64)?)])
    };
    let source = DataSource::Synthetic { what: "house numbers".into(), reason: "asked for".into() };
    let (train, extra) = (crops("train", 40)?, crops("extra", 30)?);
    let svhn = Svhn::new(train.clone(), extra, crops("test", 5)?, source.clone())?;
    assert_eq!((svhn.train.len(), svhn.validation.len(), svhn.test.len()), (66, 4, 5));
    assert_eq!(svhn.validation.get(3).0, train[0].image(39));
    assert_eq!(svhn.train.get(65).0, train[0].image(35));
    let error = Svhn::new(train, vec![], vec![], source).unwrap_err().to_string();
    assert!(error.contains("to test on, got 40 and 0"), "{error}");
    Ok(())
}

#[test]
fn a_number_that_makes_no_sense_is_left_out_and_many_are_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (parquet, path) = (folder.path().join("extra.parquet"), folder.path().join("crops.safetensors"));
    let flat = DigitBox { width: 0, ..digit(4, 2) };
    let mut rows = vec![(plain(10), vec![digit(3, 2)]); 199];
    rows.insert(7, (plain(20), vec![flat]));
    std::fs::write(&parquet, file(&[&rows[..100], &rows[100..]]))?;
    crop_file(&parquet, &path, 64)?;
    let crops = Crops::open(&path, 64)?;
    assert_eq!((crops.len(), crops.left_out), (199, 1));
    assert!((0..199).all(|i| crops.image(i)[0] == 10), "the pixels are those of the other rows");

    // An image that cannot be decoded is such a number too.
    rows[7] = (plain(20), vec![digit(4, 2)]);
    let mut damaged = file(&[&rows[..100], &rows[100..]]);
    let png = {
        let mut bytes = std::io::Cursor::new(vec![]);
        plain(20).write_to(&mut bytes, ImageFormat::Png)?;
        bytes.into_inner()
    };
    let at = damaged.windows(png.len()).position(|bytes| bytes == png).expect("pages are not compressed");
    damaged[at + 20] ^= 0xff;
    std::fs::write(&parquet, damaged)?;
    crop_file(&parquet, &path, 64)?;
    let crops = Crops::open(&path, 64)?;
    assert_eq!((crops.len(), crops.left_out), (199, 1));
    assert!((0..199).all(|i| crops.image(i)[0] == 10));

    rows[7] = (plain(20), vec![flat]);
    std::fs::write(&parquet, file(&[&rows[..50]]))?;
    let error = format!("{:#}", crop_file(&parquet, &path, 64).unwrap_err());
    assert!(error.contains("extra.parquet: 1 of 50 numbers make no sense") && error.contains("row 7"), "{error}");
    assert!(error.contains("a width and a height"), "{error}");
    Ok(())
}

/// The way from the hub's files to the sets. No network is touched: the files are in the cache.
#[test]
fn the_hubs_files_become_sets_that_outlive_them() -> Result<()> {
    let home = tempfile::tempdir()?;
    let hub = Hub::new("http://127.0.0.1:9", home.path().join("hub"));
    let numbers = |level: u8, n: usize| file(&[&vec![(plain(level), vec![digit(level % 10, 2)]); n]]);
    let six: Vec<DigitBox> = (0..6).map(|i| digit(i, 6 * i32::from(i))).collect();
    hub.put(&REPOSITORY, FOLDER, "train-00000-of-00002.parquet", &numbers(11, 12))?;
    hub.put(&REPOSITORY, FOLDER, "train-00001-of-00002.parquet", &numbers(22, 8))?;
    hub.put(
        &REPOSITORY,
        FOLDER,
        "test-00000-of-00001.parquet",
        &file(&[&[(plain(33), vec![digit(3, 2)]), (plain(44), six)]]),
    )?;
    let load = |source, split| Svhn::load(&hub, source, true, 64, split);

    // Without its extra images a set is not whole, and synthetic ones are not asked for.
    let error = format!("{:#}", load(Source::Hub, TrainingSplit::All).unwrap_err());
    assert!(error.contains("--split train does without") && error.contains("full_numbers/extra-"), "{error}");
    let train = load(Source::Auto, TrainingSplit::Train)?;
    assert_eq!((train.train.len(), train.validation.len(), train.test.len()), (18, 2, 1));
    assert_eq!(train.left_out(), [0, 1]);
    assert_eq!((train.train.get(0).0[0], train.train.get(12).0[0], train.validation.get(1).0[0]), (11, 22, 22));
    assert_eq!(train.test.get(0).1, [3, NONE, NONE, NONE, NONE]);
    let DataSource::Hub { repository, commit } = &train.source else { panic!("{}", train.source) };
    assert_eq!((repository.as_str(), commit.as_str()), (REPOSITORY.id, REPOSITORY.revision));

    // The extra images go before those of train: the validation images stay the same.
    hub.put(&REPOSITORY, FOLDER, "extra-00000-of-00001.parquet", &numbers(55, 5))?;
    let all = load(Source::Hub, TrainingSplit::All)?;
    assert_eq!((all.train.len(), all.train.get(0).0[0], all.train.get(5).0[0]), (23, 55, 11));
    assert_eq!(all.validation.identity(), train.validation.identity());

    // What is cropped needs neither the hub nor its cache any more.
    std::fs::remove_dir_all(&hub.cache)?;
    assert_eq!(load(Source::Auto, TrainingSplit::All)?.train.identity(), all.train.identity());
    let (test, source) = Svhn::load_test(&hub, Source::Auto, true, 64)?;
    assert_eq!((test.identity(), source), (all.test.identity(), all.source));
    assert!(Svhn::load(&hub, Source::Hub, true, 128, TrainingSplit::Train).is_err(), "other crops are not made");
    Ok(())
}

#[test]
fn a_part_of_a_split_is_called_one() {
    assert_eq!(of_a_part("test", 13_068), None);
    assert_eq!(of_a_part("no files", 0), None);
    let said = of_a_part("test", 256).unwrap();
    assert!(said.contains("256 images of SVHN's split test, which has 13068"), "{said}");
}

/// A damaged file is not a missing one: `auto` takes no synthetic numbers for it.
#[test]
fn a_file_that_makes_no_sense_is_an_error_with_any_source() -> Result<()> {
    let home = tempfile::tempdir()?;
    let hub = Hub::new("http://127.0.0.1:9", home.path().join("hub"));
    let flat = DigitBox { height: 0, ..digit(4, 2) };
    hub.put(&REPOSITORY, FOLDER, "train-00000-of-00001.parquet", &file(&[&[(plain(1), vec![flat])]]))?;
    hub.put(&REPOSITORY, FOLDER, "test-00000-of-00001.parquet", &file(&[&[(plain(2), vec![digit(3, 2)])]]))?;
    let error = format!("{:#}", Svhn::load(&hub, Source::Auto, true, 64, TrainingSplit::Train).unwrap_err());
    assert!(error.contains("1 of 1 numbers make no sense"), "{error}");
    Ok(())
}
