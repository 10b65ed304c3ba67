//! Expect five pictures of a clock face in a temporary folder, or the folder given: as it is, turned, enlarged, shrunk with and
//! without anti-aliasing. Takes a second.
//!
//! The idea: a transform and a sampler, without any network. The window is described, target to source.

use candle_core::{Device, Result, Tensor};
use std::path::{Path, PathBuf};
use stn_core::antialias::supersample;
use stn_core::ops::{GridSampleConfig, Padding};
use stn_core::transform::{Affine, Transform};

/// A clock face of n x n pixels with fine rays, (1, 3, n, n).
fn clock(n: usize) -> Result<Tensor> {
    let colour = |channel: usize, i: usize| -> f32 {
        let middle = (n as f32 - 1.0) / 2.0;
        let (x, y) = ((i % n) as f32 / middle - 1.0, (i / n) as f32 / middle - 1.0);
        let (radius, angle) = (x.hypot(y), y.atan2(x));
        let rays = if (60.0 * angle).sin() > 0.0 && radius > 0.5 && radius < 0.9 { 0.0 } else { 1.0 };
        let hand = x.abs() < 0.04 && (-0.7..0.0).contains(&y); // points up, at twelve
        match (hand, channel) {
            (true, 0) => 0.9,
            (true, _) => 0.1,
            _ if radius > 0.95 => 0.3,
            _ => rays,
        }
    };
    let pixels = (0..3).flat_map(|channel| (0..n * n).map(move |i| colour(channel, i))).collect();
    Tensor::from_vec(pixels, (1, 3, n, n), &Device::Cpu)
}

/// Writes (1, 3, H, W) as a binary PPM, which most viewers open.
fn write_ppm(path: &Path, image: &Tensor) -> Result<()> {
    let (_, _, height, width) = image.dims4()?;
    let pixels = image.squeeze(0)?.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    bytes.extend(pixels.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
    Ok(std::fs::write(path, bytes)?)
}

fn run(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let image = clock(256)?;
    let cfg = GridSampleConfig::new(false).padding(Padding::Border);
    let matrix = |theta: [f32; 6]| Tensor::new(&[theta], &Device::Cpu);
    let (sin, cos) = 30f32.to_radians().sin_cos();

    let identity = matrix([1., 0., 0., 0., 1., 0.])?;
    let turned = matrix([cos, -sin, 0., sin, cos, 0.])?; // the window clockwise, the picture counter-clockwise: eleven o'clock
    let enlarged = matrix([0.25, 0., 0., 0., 0.25, -0.5])?; // a window of a quarter of the side, around the hand
    write_ppm(&folder.join("1-clock.ppm"), &image)?;
    write_ppm(&folder.join("2-turned.ppm"), &Affine.warp(&image, &turned, (256, 256), cfg)?)?;
    write_ppm(&folder.join("3-enlarged.ppm"), &Affine.warp(&image, &enlarged, (256, 256), cfg)?)?;
    write_ppm(&folder.join("4-shrunk-aliased.ppm"), &Affine.warp(&image, &identity, (48, 48), cfg)?)?;
    let smooth = supersample(Affine, 6)?; // 256 / 48 pixels lie between two of the output
    write_ppm(&folder.join("5-shrunk-smooth.ppm"), &smooth.warp(&image, &identity, (48, 48), cfg)?)?;
    println!("wrote five pictures to {}", folder.display());
    Ok(())
}

fn main() -> Result<()> {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("stn-core-warp-image"), PathBuf::from);
    run(&folder)
}

#[test]
fn writes_five_pictures() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("stn-core-warp-image-test-{}", std::process::id()));
    run(&folder)?;
    let sizes = std::fs::read_dir(&folder)?.map(|file| Ok(file?.metadata()?.len())).collect::<Result<Vec<_>>>()?;
    std::fs::remove_dir_all(&folder)?;
    assert_eq!(sizes.len(), 5);
    assert_eq!(sizes.iter().filter(|&&bytes| bytes == 256 * 256 * 3 + 15).count(), 3);
    Ok(())
}
