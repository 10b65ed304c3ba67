//! The options of a convolution, and of one with what follows it.

use crate::ops::pool2d::Pool2dConfig;

/// Zeros added at the edges of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// Rows above the image.
    pub top: usize,
    /// Rows below it.
    pub bottom: usize,
    /// Columns on its left.
    pub left: usize,
    /// Columns on its right.
    pub right: usize,
}

impl From<usize> for Sides {
    /// The same at all four edges.
    fn from(n: usize) -> Self {
        Self { top: n, bottom: n, left: n, right: n }
    }
}

/// The options of [`conv2d`](super::conv2d); pairs are (height, width).
///
/// # Example
/// ```
/// use stn_core::ops::{Conv2dConfig, Sides};
/// let halving = Conv2dConfig::default().stride(2).padding(1);
/// assert_eq!((halving.stride, halving.padding), ((2, 2), Sides::from(1)));
/// // TensorFlow's "SAME" for a 3x3 kernel and an even side: one row and one column, behind the image.
/// let same = Conv2dConfig { stride: (2, 2), padding: Sides { bottom: 1, right: 1, ..Default::default() }, ..Default::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Pixels from one position of the kernel to the next.
    pub stride: (usize, usize),
    /// Zeros added at the edges.
    pub padding: Sides,
    /// Pixels from one tap of the kernel to the next.
    pub dilation: (usize, usize),
    /// The channels, and the filters, are divided into so many groups that do not see each other; as many as there are channels:
    /// a depthwise convolution.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Conv2dConfig {
    /// Every position, no padding, no gaps, one group.
    pub const fn new() -> Self {
        Self { stride: (1, 1), padding: Sides { top: 0, bottom: 0, left: 0, right: 0 }, dilation: (1, 1), groups: 1 }
    }

    /// Sets the pixels from one position to the next, along both sides.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride: (stride, stride), ..self }
    }

    /// Sets the zeros added at all four edges.
    pub const fn padding(self, n: usize) -> Self {
        Self { padding: Sides { top: n, bottom: n, left: n, right: n }, ..self }
    }

    /// Sets the pixels from one tap to the next, along both sides.
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation: (dilation, dilation), ..self }
    }

    /// Sets the number of groups.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Sets TensorFlow's SAME padding for an image and a kernel of these (height, width): as many positions as the stride has in the image, and of an
    /// odd number of zeros the surplus one behind it.
    ///
    /// # Example
    /// ```
    /// use stn_core::ops::{Conv2dConfig, Sides};
    /// let same = Conv2dConfig::new().stride(2).same((224, 7), (3, 3)).padding;
    /// assert_eq!(same, Sides { top: 0, bottom: 1, left: 1, right: 1 });
    /// ```
    pub fn same(self, image: (usize, usize), kernel: (usize, usize)) -> Self {
        let zeros = |n: usize, kernel: usize, stride: usize, dilation: usize| {
            let (stride, reach) = (stride.max(1), dilation.saturating_mul(kernel.saturating_sub(1)).saturating_add(1));
            let last = n.div_ceil(stride).saturating_sub(1) * stride;
            let zeros = last.saturating_add(reach).saturating_sub(n);
            (zeros / 2, zeros - zeros / 2)
        };
        let (top, bottom) = zeros(image.0, kernel.0, self.stride.0, self.dilation.0);
        let (left, right) = zeros(image.1, kernel.1, self.stride.1, self.dilation.1);
        Self { padding: Sides { top, bottom, left, right }, ..self }
    }

    /// The same for an image of `h` x `w` pixels, the strides and dilations that lead out of it as the shortest that do: a convolution with such has one position
    /// or one tap, which they do not move, but its kernels reckon with them.
    pub(super) fn on(self, (h, w): (usize, usize)) -> Self {
        let Sides { top, bottom, left, right } = self.padding;
        let (h, w) = (h + top + bottom, w + left + right);
        let within = |(rows, columns): (usize, usize)| (rows.min(h), columns.min(w));
        Self { stride: within(self.stride), dilation: within(self.dilation), ..self }
    }

    /// Height and width of the map; `None` where the kernel does not fit, or no number can say how far it reaches.
    pub(super) fn out_size(&self, (h, w): (usize, usize), (kh, kw): (usize, usize)) -> Option<(usize, usize)> {
        let side = |n: usize, kernel: usize, stride: usize, dilation: usize| {
            let reach = dilation.checked_mul(kernel - 1)?.checked_add(1)?;
            Some(n.checked_sub(reach)? / stride + 1)
        };
        let Sides { top, bottom, left, right } = self.padding;
        let padded = |n: usize, before: usize, behind: usize| n.checked_add(before)?.checked_add(behind);
        Some((
            side(padded(h, top, bottom)?, kh, self.stride.0, self.dilation.0)?,
            side(padded(w, left, right)?, kw, self.stride.1, self.dilation.1)?,
        ))
    }
}

/// The options of [`conv_block`](super::conv_block).
///
/// # Example
/// ```
/// use stn_core::ops::{Conv2dConfig, ConvBlockConfig, Pool2dConfig};
/// let block = ConvBlockConfig { conv: Conv2dConfig::default().padding(2), pool: Some(Pool2dConfig::new(2)) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConvBlockConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// The max-pooling after the ReLU, if any.
    pub pool: Option<Pool2dConfig>,
}

impl ConvBlockConfig {
    /// A convolution with these options, without pooling.
    pub const fn new(conv: Conv2dConfig) -> Self {
        Self { conv, pool: None }
    }

    /// Sets the pooling.
    pub const fn pool(self, pool: Pool2dConfig) -> Self {
        Self { pool: Some(pool), ..self }
    }
}
