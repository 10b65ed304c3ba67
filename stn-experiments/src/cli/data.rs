//! `stn data`: fetch, check, show and pack.

use super::SourceArgs;
use crate::data::{Dataset, Distortion, Hub, Mnist, Source, addition, distorted_set, pack, svhn};
use crate::experiments::TEST_SEED;
use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Data {
    /// Fetch MNIST from the hub into its cache and check it
    Fetch,
    /// Check MNIST's checksums and print those of the distorted test sets
    Verify(SourceArgs),
    /// Write a sheet of distorted digits as a PNG
    Preview {
        /// R, RTS, P, E or TC
        data: Distortion,
        /// The sheet
        #[arg(long, default_value = "preview.png")]
        out: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Draw a sheet of house numbers, cropped, with the boxes of their digits
    Numbers {
        /// Pixels of a side: 64 or 128
        #[arg(long, default_value_t = 128)]
        side: usize,
        /// How many, a thousand at most
        #[arg(long, default_value_t = 40, value_parser = numbers_of_a_sheet)]
        count: usize,
        /// The sheet: .png or .svg
        #[arg(long, default_value = "numbers.png")]
        out: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Make the embedded parquet files from the original idx files
    Pack {
        /// The folder with train-images-idx3-ubyte and the other three
        idx: PathBuf,
        /// Where the parquet files go
        #[arg(long, default_value = "data/mnist")]
        out: PathBuf,
    },
}

/// More would be no picture to look at.
fn numbers_of_a_sheet(s: &str) -> Result<usize, String> {
    match super::at_least_one(s)? {
        1001.. => Err("must be at most 1000".into()),
        count => Ok(count),
    }
}

/// Does what was asked for.
pub(super) fn data(command: Data) -> Result<()> {
    match command {
        Data::Fetch => {
            let mnist = Mnist::load(Source::Hub, false)
                .context("nothing to fetch from; an empty cache needs the network, and training does without")?;
            crate::say!(
                "MNIST from {}: {} training and {} test images",
                mnist.source,
                mnist.train.len(),
                mnist.test.len()
            );
        }
        Data::Verify(source) => {
            let mnist = source.mnist()?;
            crate::say!("MNIST from {}", mnist.source);
            crate::say!("train {}\ntest  {}", mnist.train.identity(), mnist.test.identity());
            for data in Distortion::ALL {
                let (distorted, _) = distorted_set(data, &mnist.test, TEST_SEED, 0)?;
                let (got, expected) = (distorted.identity(), data.test_identity());
                ensure!(
                    got == expected,
                    "the first test set of {data} must have sha256 {expected}, got {got}; please report your platform"
                );
                crate::say!("test {data:<3}, first draw  {got}");
            }
            let got = addition::addition_set(&mnist.test, TEST_SEED, 0)?.0.identity();
            let expected = addition::TEST_IDENTITY;
            ensure!(
                got == expected,
                "the first test set of addition must have sha256 {expected}, got {got}; please report your platform"
            );
            crate::say!("test addition, first draw  {got}");
        }
        Data::Preview { data, out, source } => {
            let mnist = source.mnist()?;
            let (distorted, _) = distorted_set(data, &mnist.test.range(0..64)?, TEST_SEED, 0)?;
            preview(&distorted)
                .save_with_format(&out, image::ImageFormat::Png)
                .with_context(|| format!("cannot write {}", out.display()))?;
            crate::say!("the first 64 test images under {data}, from {}: {}", mnist.source, out.display());
        }
        Data::Numbers { side, count, out, source } => {
            ensure!(matches!(side, 64 | 128), "crops have a side of 64 or 128 pixels, got --side {side}");
            let what = svhn::sheet(&Hub::from_env(), source.source, source.offline, side, count, &out)?;
            crate::say!("{what}; crops of {side} px: {}", out.display());
        }
        Data::Pack { idx, out } => {
            pack::pack_mnist(&idx, &out)?;
            crate::say!("wrote {}", out.display());
        }
    }
    Ok(())
}

/// Eight rows of eight images, with a line between them.
fn preview(data: &Dataset) -> image::GrayImage {
    let side = data.width as u32 + 1;
    image::GrayImage::from_fn(8 * side - 1, 8 * side - 1, |x, y| {
        let (index, column, row) = ((y / side * 8 + x / side) as usize, (x % side) as usize, (y % side) as usize);
        let inside = index < data.len() && column < data.width && row < data.height;
        image::Luma([if inside { data.image(index)[row * data.width + column] } else { 96 }])
    })
}
