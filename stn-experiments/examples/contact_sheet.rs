//! Writes a contact sheet of 64 distorted test digits for each distortion, and says how fast they were made.
//!
//! ```sh
//! cargo run --release -p stn-experiments --example contact_sheet -- sheets
//! ```

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use image::{GrayImage, Luma, imageops};
use stn_experiments::data::{Distortion, Mnist, Purpose, distorted_set, rng};

/// Images along one side of a sheet, and how often each pixel is repeated.
const SIDE: usize = 8;
const ZOOM: u32 = 2;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "sheets".into()));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let start = Instant::now();
    let mnist = Mnist::embedded("asked for")?;
    println!("embedded set decoded in {:.2?}", start.elapsed());
    let few = mnist.test.range(0..SIDE * SIDE)?;
    for distortion in Distortion::ALL {
        let (set, _) = distorted_set(distortion, &few, 0, 0)?;
        let canvas = distortion.canvas();
        let step = canvas as u32 * ZOOM + 2;
        let mut sheet = GrayImage::from_pixel(SIDE as u32 * step, SIDE as u32 * step, Luma([96]));
        for i in 0..few.len() {
            let side = canvas as u32;
            let image = GrayImage::from_raw(side, side, set.image(i).to_vec()).context("an image has its own size")?;
            let filter = imageops::FilterType::Nearest;
            let image = imageops::resize(&image, side * ZOOM, side * ZOOM, filter);
            let at = |n: usize| i64::from(n as u32 * step + 1);
            imageops::replace(&mut sheet, &image, at(i % SIDE), at(i / SIDE));
        }
        sheet.save(out.join(format!("{distortion}.png")))?;

        let mut image = vec![0; canvas * canvas];
        let start = Instant::now();
        for index in 0..mnist.test.len() {
            let mut rng = rng(0, Purpose::Distortion, 0, index as u64);
            distortion.apply(&mnist.test, index, &mut rng, &mut image);
        }
        let rate = mnist.test.len() as f64 / start.elapsed().as_secs_f64();
        println!("{distortion:4} {rate:>8.0} images/s on one core");
    }
    Ok(())
}
