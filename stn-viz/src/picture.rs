//! A Candle tensor as a picture of crisp squares.

use crate::canvas::{Canvas, Point};
use candle_core::{DType, Device, Result, Tensor, bail};
use plotters::style::RGBColor;
use std::collections::HashMap;

type Pixel = [u8; 3];
/// What a pixel that is not a number looks like: no image has this by chance.
const NOT_A_NUMBER: Pixel = [255, 0, 255];

pub(crate) struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pixels: Vec<Pixel>, // row by row
}

impl Picture {
    /// Reads (H, W), (1, H, W) or (3, H, W) with values in 0..1, or bytes; `what` names the tensor in errors.
    pub(crate) fn new(tensor: &Tensor, what: &str) -> Result<Self> {
        let (channels, height, width) = match *tensor.dims() {
            [h, w] => (1, h, w),
            [c @ (1 | 3), h, w] => (c, h, w),
            _ => bail!("{what} must be (H, W), (1, H, W) or (3, H, W), got {:?}", tensor.dims()),
        };
        if height == 0 || width == 0 {
            bail!("{what} must have pixels, got {:?}", tensor.dims())
        }
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = if tensor.dtype() == DType::U8 { (values / 255.)? } else { values };
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        let area = height * width;
        let pixel = |i: usize| {
            let pixel: Pixel =
                std::array::from_fn(|c| (values[c % channels * area + i].clamp(0., 1.) * 255.).round() as u8);
            if (0..channels).any(|c| values[c * area + i].is_nan()) { NOT_A_NUMBER } else { pixel }
        };
        Ok(Self { height, width, pixels: (0..area).map(pixel).collect() })
    }

    /// The side of a pixel's square so that the longer side of the picture is about `side` points: a multiple
    /// of half a point, which is one pixel of a PNG, so that all squares come out alike.
    pub(crate) fn cell(&self, side: f64) -> f64 {
        (side * 2. / self.height.max(self.width) as f64).round().max(1.) / 2.
    }

    /// Draws the picture with its top-left corner at (left, top).
    pub(crate) fn draw(&self, canvas: &mut Canvas, (left, top): Point, cell: f64) -> Result<()> {
        let at = |x: usize, y: usize| (left + x as f64 * cell, top + y as f64 * cell);
        let background = self.commonest();
        canvas.rect((left, top), at(self.width, self.height), colour(background))?;
        for (y, row) in self.pixels.chunks_exact(self.width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if run[0] != background {
                    canvas.rect(at(x, y), at(x + run.len(), y + 1), colour(run[0]))?;
                }
                x += run.len();
            }
        }
        Ok(())
    }

    /// The colour painted first and as one square: it keeps an SVG small.
    fn commonest(&self) -> Pixel {
        let mut counts = HashMap::new();
        for pixel in &self.pixels {
            *counts.entry(*pixel).or_insert(0usize) += 1;
        }
        // The second key makes the choice, hence the file, the same in every run.
        counts.into_iter().max_by_key(|&(pixel, n)| (n, pixel)).map_or([0; 3], |(pixel, _)| pixel)
    }
}

fn colour([r, g, b]: Pixel) -> RGBColor {
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_levels_and_floats_as_shares() -> Result<()> {
        let bytes = Picture::new(&Tensor::new(&[[0u8, 51, 255]], &Device::Cpu)?, "bytes")?;
        let shares = Picture::new(&Tensor::new(&[[0f32, 0.2, 1.0]], &Device::Cpu)?, "shares")?;
        assert_eq!((bytes.pixels, shares.pixels), (vec![[0; 3], [51; 3], [255; 3]], vec![[0; 3], [51; 3], [255; 3]]));
        Ok(())
    }
}
