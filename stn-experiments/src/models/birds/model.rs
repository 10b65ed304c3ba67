//! The rows of Table 3 and their variants.

use crate::named::by_id;
use candle_core::{Result, Tensor};
use stn_core::transform::{Affine, Attention, Transform, Translation};

/// A window's side in terms of the image's.
const SCALE: f64 = 0.5;

/// What a window's transform can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Lie anywhere; half the image's side. The paper's.
    Location,
    /// Lie anywhere in any size.
    Attention,
    /// Any affine map.
    Affine,
}

impl WindowKind {
    pub(super) fn transform(self) -> Box<dyn Transform> {
        match self {
            Self::Location => Box::new(Translation { scale: SCALE }),
            Self::Attention => Box::new(Attention),
            Self::Affine => Box::new(Affine),
        }
    }

    /// The parameters of a window of half the image's side with that centre.
    pub(super) fn window(self, x: f32, y: f32) -> Vec<f32> {
        let s = SCALE as f32;
        match self {
            Self::Location => vec![x, y],
            Self::Attention => vec![s, x, y],
            Self::Affine => vec![s, 0.0, x, 0.0, s, y],
        }
    }

    /// Scale and centre of each window as an affine map: (N, P) to (N, 2, 3).
    ///
    /// # Errors
    /// When theta has another number of parameters.
    pub fn affine(self, theta: &Tensor) -> Result<Tensor> {
        match self {
            Self::Location => Translation { scale: SCALE }.matrix(theta),
            Self::Attention => Attention.matrix(theta),
            Self::Affine => Affine.matrix(theta),
        }
    }
}

/// A row of Table 3, or a variant of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BirdModel {
    /// No transformer.
    Cnn,
    /// Windows side by side.
    StCnn {
        /// How many: 2 or 4.
        windows: usize,
        /// What they can do.
        kind: WindowKind,
        /// Whether one backbone sees all of them.
        shared: bool,
    },
}

impl BirdModel {
    /// Every model: those of Table 3, then the variants.
    pub fn all() -> Vec<Self> {
        let of = |kind, shared| [2, 4].map(|windows| Self::StCnn { windows, kind, shared });
        let variants = [
            of(WindowKind::Location, false),
            of(WindowKind::Location, true),
            of(WindowKind::Attention, false),
            of(WindowKind::Affine, false),
        ];
        std::iter::once(Self::Cnn).chain(variants.into_iter().flatten()).collect()
    }

    /// Those of Table 3.
    pub fn table() -> [Self; 3] {
        let of = |windows| Self::StCnn { windows, kind: WindowKind::Location, shared: false };
        [Self::Cnn, of(2), of(4)]
    }

    /// The name in commands and paths: `2xst-cnn-shared`.
    pub fn id(self) -> String {
        match self {
            Self::Cnn => "cnn".into(),
            Self::StCnn { windows, kind, shared } => {
                let kind = match kind {
                    WindowKind::Location => "",
                    WindowKind::Attention => "-att",
                    WindowKind::Affine => "-aff",
                };
                format!("{windows}xst-cnn{kind}{}", if shared { "-shared" } else { "" })
            }
        }
    }

    /// The name in tables: `2xST-CNN`.
    pub fn label(self) -> String {
        match self {
            Self::Cnn => "CNN".into(),
            Self::StCnn { windows, kind, shared } => {
                let kind = match kind {
                    WindowKind::Location => "",
                    WindowKind::Attention => ", any size",
                    WindowKind::Affine => ", affine",
                };
                format!("{windows}xST-CNN{kind}{}", if shared { ", shared" } else { "" })
            }
        }
    }

    /// Windows, and what they can do; `None` without a transformer.
    pub fn windows(self) -> Option<(usize, WindowKind)> {
        match self {
            Self::Cnn => None,
            Self::StCnn { windows, kind, .. } => Some((windows, kind)),
        }
    }
}

impl std::fmt::Display for BirdModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.id())
    }
}

impl std::str::FromStr for BirdModel {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> anyhow::Result<Self> {
        by_id("model", s, Self::all(), Self::id)
    }
}
