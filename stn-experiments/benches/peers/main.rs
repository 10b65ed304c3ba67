//! Races our kernels and training steps against PyTorch's: the same shapes, losses, optimisers and number of threads, in one go.
//!
//! `just bench-peers --python PATH`, where PATH is an interpreter with PyTorch. It prints a table and writes `results/bench/<date>.json`.
//!
//! | file | what |
//! |---|---|
//! | `rows.rs` | what is raced, and the targets |
//! | `ours.rs`, `nets.rs` | our side: operations, networks |
//! | `../peers.py`, `python.rs` | PyTorch's side, and how it is asked |
//! | `race.rs` | taking turns, medians |
//! | `derived.rs` | shares and rates that follow from times |
//! | `report.rs` | the table and the file |
//!
//! Weights and pixels are random on both sides and differ; shapes of outputs and numbers of parameters are compared, and a difference ends
//! the race.

mod derived;
mod nets;
mod ours;
mod python;
mod race;
mod report;
mod rows;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use python::Peer;
use race::{Effort, race};
use std::path::PathBuf;
use std::process::ExitCode;

/// The allocator of the `stn` command: large buffers stay warm from one step to the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Races ours against PyTorch's and prints one table.
#[derive(Debug, Parser)]
#[command(name = "bench-peers")]
struct Args {
    /// A Python with PyTorch; a path is relative to the repository's folder
    #[arg(long, env = "STN_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// Rows whose names contain one of these, whatever their case; a partial race writes no file unless --out says where
    #[arg(long, value_delimiter = ';')]
    rows: Vec<String>,
    /// Fewer repetitions; writes no file unless --out says where
    #[arg(long)]
    quick: bool,
    /// Threads of either side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// The file [default: results/bench/<date>.json]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Names the rows and races none
    #[arg(long)]
    list: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn selects(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.rows.is_empty() || self.rows.iter().any(|pattern| name.contains(&pattern.to_lowercase()))
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let rows: Vec<_> = rows::all().into_iter().filter(|row| args.selects(&row.name)).collect();
    if args.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        derived::NAMES.iter().filter(|name| args.selects(name)).for_each(|name| println!("{name}"));
        return Ok(());
    }
    let threads = usize::from(args.threads);
    // Candle asks the environment, rayon its pool: both must be of the same number.
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("rayon's pool")?;
    let effort = match args.quick {
        true => Effort { rounds: 3, block_ms: 60.0 },
        false => Effort { rounds: 7, block_ms: 300.0 },
    };
    let mut peer = Peer::start(&args.python, threads)?;
    println!("{}, {threads} threads; PyTorch {}", report::machine(), peer.hello.torch);
    if let Some(load) = report::load().filter(|&load| load > 0.5) {
        // PyTorch's threads wait for each other by spinning: where others compute too it loses far more than we do.
        eprintln!("warning: the machine is busy (load {load}); ratios measured on it flatter ours");
    }
    println!("{}", report::HEADING);
    let mut measured = Vec::new();
    for group in rows.chunk_by(|a, b| a.group.is_some() && a.group == b.group) {
        for result in race(group, &mut peer, effort)? {
            println!("{}", report::line(&result));
            measured.push(result);
        }
    }
    let derived = derived::all(&measured, effort, |name| args.selects(name))?;
    if !derived.is_empty() {
        println!("{}", report::DERIVED_HEADING);
        derived.iter().for_each(|line| println!("{}", report::derived_line(line)));
    }
    ensure!(!measured.is_empty() || !derived.is_empty(), "no row's name contains {:?}; see --list", args.rows);
    let out = match &args.out {
        Some(out) => Some(out.clone()),
        None if args.quick || !args.rows.is_empty() => None,
        None => Some(python::repository().join(format!("results/bench/{}.json", peer.hello.date))),
    };
    if let Some(out) = out {
        report::write(&out, &measured, &derived, threads, &peer.hello)?;
        println!("\nwrote {}", out.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(())
}
