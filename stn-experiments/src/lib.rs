//! Reproduces the experiments of *Spatial Transformer Networks* (Jaderberg, Simonyan, Zisserman, Kavukcuoglu, NIPS 2015).
//!
//! ```text
//! data -> experiments (a Trial each) -> run -> train (the one loop) -> record (a run directory) -> report (table, figures)
//!           ^ models, budget, schedule                                  ^ metrics
//! ```
//!
//! The binary `stn` is a thin shell over [`cli`].

#![deny(missing_docs)]

pub mod budget;
pub mod cells;
pub mod claims;
pub mod cli;
pub mod console;
pub mod data;
pub mod experiments;
pub mod figures;
pub mod finished;
pub mod look;
pub mod metrics;
pub mod models;
mod named;
pub mod paper;
pub mod record;
pub mod report;
pub mod reproduce;
pub mod request;
pub mod run;
pub mod schedule;
pub mod stop;
pub mod train;
