//! The paper's experiments, one file per table.

pub mod mnist;
