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

/// What Ctrl-C does.
fn interrupted() {
    if !STOP.request() {
        if let Some(words) = STOP.farewell() {
            stn_experiments::warn!("\n{words}");
        }
        stn_experiments::record::remove_half_written();
        std::process::exit(i32::from(INTERRUPTED));
    }
    stn_experiments::warn!("\nstopping after this step; Ctrl-C again ends at once");
}

/// Calls `handler`, on a thread of its own, at Ctrl-C, when the program is asked to end, and when its terminal goes.
#[cfg(unix)]
fn on_interrupt(handler: fn()) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = vec![SIGINT, SIGTERM];
    // `nohup` has the program go on without its terminal.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    std::thread::Builder::new().spawn(move || signals.forever().for_each(|_| handler())).map(drop)
}

/// Whether the program was started with a signal ignored, where the system tells.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn on_interrupt(handler: fn()) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(handler)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = on_interrupt(interrupted) {
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
