//! Boxes, and how well a window covers the digit's frame.

use crate::data::mnist::SIDE;
use crate::models::colocalisation::{SCENE_SIDE, WINDOW_SIDE};

/// A box in pixels from edge to edge: the image is from 0 to 84.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Frame {
    /// The frame of a digit that was put at a column and a row.
    pub fn of_digit([x, y]: [usize; 2]) -> Self {
        Self { left: x as f64, top: y as f64, width: SIDE as f64, height: SIDE as f64 }
    }

    /// What a window of an attention transform covers, theta = (s, tx, ty). Its pixels lie apart by s times 83/27 of the image's (both -1 and
    /// 1 are centres of pixels) and are as wide.
    pub fn of_window(theta: &[f32]) -> Self {
        let (last, windows) = ((SCENE_SIDE - 1) as f64, WINDOW_SIDE as f64);
        let [s, tx, ty] = [0, 1, 2].map(|i| f64::from(theta[i]));
        let side = (s * last * windows / (windows - 1.0)).abs();
        let middle = |t: f64| (t + 1.0) / 2.0 * last + 0.5;
        Self { left: middle(tx) - side / 2.0, top: middle(ty) - side / 2.0, width: side, height: side }
    }

    /// The area of the intersection over that of the union; 0 where an edge is not finite.
    pub fn iou(&self, other: &Self) -> f64 {
        let shared = |a: f64, a_side: f64, b: f64, b_side: f64| ((a + a_side).min(b + b_side) - a.max(b)).max(0.0);
        let both = shared(self.left, self.width, other.left, other.width)
            * shared(self.top, self.height, other.top, other.height);
        let iou = both / (self.width * self.height + other.width * other.height - both);
        if iou.is_finite() { iou } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use stn_core::ops::GridSampleConfig;
    use stn_core::transform::{Attention, Transform};

    #[test]
    fn the_window_that_copies_the_frame_covers_it() -> candle_core::Result<()> {
        // A window on the frame at (10, 56): its 28 pixels are those of the image, one by one.
        let (s, tx, ty) = (27.0 / 83.0, (10.0 + 13.5) * 2.0 / 83.0 - 1.0, (56.0 + 13.5) * 2.0 / 83.0 - 1.0);
        let theta = [s as f32, tx as f32, ty as f32];
        let image = Tensor::arange(0f32, 84. * 84., &Device::Cpu)?.reshape((1, 1, 84, 84))?;
        let window =
            Attention.warp(&image, &Tensor::new(&[theta], &Device::Cpu)?, (28, 28), GridSampleConfig::new(true))?;
        let copied = image.narrow(2, 56, 28)?.narrow(3, 10, 28)?;
        assert!((window - copied)?.abs()?.max_all()?.to_scalar::<f32>()? < 0.1);
        let iou = Frame::of_window(&theta).iou(&Frame::of_digit([10, 56]));
        assert!((iou - 1.0).abs() < 1e-5, "{iou}");
        Ok(())
    }

    #[test]
    fn overlaps() {
        let frame = Frame::of_digit([0, 0]);
        assert!((frame.iou(&Frame::of_digit([14, 0])) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(frame.iou(&Frame::of_digit([28, 3])), 0.0);
        let whole = Frame::of_window(&[1.0, 0.0, 0.0]);
        let share = 28.0 * 28.0 / (whole.width * whole.height);
        assert!((Frame::of_digit([40, 12]).iou(&whole) - share).abs() < 1e-12);
        assert_eq!(frame.iou(&Frame::of_window(&[f32::NAN, 0.0, 0.0])), 0.0);
        assert_eq!(Frame::of_window(&[-0.5, 0.0, 0.0]), Frame::of_window(&[0.5, 0.0, 0.0]));
    }
}
