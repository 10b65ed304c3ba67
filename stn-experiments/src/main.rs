//! The `stn` command: parse, run, exit code.

use clap::Parser;
use std::process::ExitCode;
use stn_experiments::cli::{Cli, run};
use stn_experiments::reproduce::Ending;
use stn_experiments::stop::Stop;

/// Keeps the large buffers of a training step warm from one step to the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static STOP: Stop = Stop::new();

/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let handler = ctrlc::set_handler(|| {
        if !STOP.request() {
            if let Some(words) = STOP.farewell() {
                stn_experiments::warn!("\n{words}");
            }
            stn_experiments::record::remove_half_written();
            std::process::exit(i32::from(INTERRUPTED));
        }
        stn_experiments::warn!("\nstopping after this step; Ctrl-C again ends at once");
    });
    if let Err(error) = handler {
        stn_experiments::warn!("warning: Ctrl-C will not save the run: {error}");
    }
    match run(cli, &STOP) {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            stn_experiments::warn!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
