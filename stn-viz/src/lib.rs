//! Figures of learned spatial transforms: Candle tensors and plain numbers in, PNG or SVG out.
//!
//! | function | figure |
//! |---|---|
//! | [`warps`] | input, sampling grid over the input, output: a row an example |
//! | [`poses`] | recovered against applied rotation, coloured by class |
//! | [`curves`] | error and loss over steps |
//! | [`boxes`] | boxes on images over the course of an optimisation |
//! | [`gallery`] | a sheet of pictures with the outlines of windows on them |
//! | [`projections`] | volumes seen from several sides |
//!
//! Each takes a path and one plain struct that holds everything the figure says. The extension of the path
//! decides the format: `.png` (144 pixels an inch) or `.svg`. Files appear whole or not at all. The font is in
//! the crate (DejaVu Sans, see `assets/LICENSE-DejaVu.txt`), so no system library or font is needed and a PNG
//! looks the same everywhere.
//!
//! # Example
//! ```
//! use stn_viz::{Curve, CurveFigure, curves};
//!
//! let figure = CurveFigure {
//!     title: "Test error while training",
//!     note: "three evaluations of one run",
//!     x_label: "step",
//!     y_label: "test error (%)",
//!     log_y: false,
//!     curves: &[
//!         Curve { name: "ST-CNN", points: &[(500., 4.1), (1000., 2.2), (1500., 1.6)], colour: 0, dashed: false },
//!         Curve { name: "CNN", points: &[(500., 5.0), (1000., 3.1), (1500., 2.4)], colour: 1, dashed: false },
//!     ],
//! };
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("error.png");
//! curves(&path, &figure)?;
//! assert!(path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod axes;
mod boxes;
mod canvas;
mod colours;
mod curves;
mod file;
mod gallery;
mod mesh;
mod page;
mod picture;
mod poses;
mod projections;
mod text;
mod warps;

pub use boxes::{BoxFigure, BoxFrame, BoxRow, boxes};
pub use curves::{Curve, CurveFigure, curves};
pub use gallery::{GalleryFigure, GalleryItem, Outline, gallery};
pub use poses::{PoseFigure, PosePoint, Reference, correlation, least_squares, poses};
pub use projections::{ProjectionFigure, ProjectionRow, projections};
pub use warps::{WARP_HEADINGS, WarpFigure, WarpRow, warps};
