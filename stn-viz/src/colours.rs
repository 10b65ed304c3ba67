//! The colours of all figures.

use plotters::style::RGBColor;

pub(crate) const WHITE: RGBColor = RGBColor(255, 255, 255);
/// Titles, axes, labels.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Notes and ticks.
pub(crate) const GREY: RGBColor = RGBColor(0x5a, 0x5a, 0x5a);
/// Grid lines, and the surroundings of an image.
pub(crate) const PALE: RGBColor = RGBColor(0xe3, 0xe3, 0xe3);

/// Ten colours that people with any colour vision tell apart (Paul Tol's "bright" and "muted", darkest first).
pub(crate) const COLOURS: [RGBColor; 10] = [
    RGBColor(0x33, 0x22, 0x88), // indigo
    RGBColor(0xee, 0x66, 0x77), // red
    RGBColor(0x22, 0x88, 0x33), // green
    RGBColor(0x44, 0x99, 0xdd), // blue
    RGBColor(0xcc, 0xa0, 0x10), // gold
    RGBColor(0xaa, 0x33, 0x77), // purple
    RGBColor(0x44, 0xaa, 0x99), // teal
    RGBColor(0x7a, 0x44, 0x1a), // brown
    RGBColor(0x88, 0x88, 0x88), // grey
    RGBColor(0xdd, 0x77, 0x00), // orange
];
