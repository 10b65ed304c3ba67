//! A sweep over cells and seeds: what is finished is skipped, what was stopped goes on, and the rest is trained.

use crate::budget::Budget;
use crate::data::{Distortion, Mnist, Source};
use crate::experiments::mnist::{Cell, Digits, RunResult, Status, run};
use crate::models::{Model, TransformKind};
use crate::record::RunDir;
use crate::report;
use crate::train::Cadence;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// What `stn reproduce mnist` was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// How long and with what.
    pub budget: Budget,
    /// Columns; none: the budget's own choice.
    pub data: Vec<Distortion>,
    /// Rows; none: the budget's own choice.
    pub models: Vec<Model>,
    /// One run each.
    pub seeds: Vec<u64>,
    /// The folder that holds all runs.
    pub out: PathBuf,
    /// A further folder of finished runs that count as done, `results/` say.
    pub finished: Option<PathBuf>,
    /// Where the images come from.
    pub source: Source,
    /// Whether the network must not be touched.
    pub offline: bool,
    /// How often runs are saved.
    pub cadence: Cadence,
    /// The part of the runs that is this machine's.
    pub shard: Shard,
    /// The command line, for the report.
    pub command: String,
}

/// The i-th of n parts of a sweep, counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The whole.
    pub const ALL: Self = Self { index: 0, count: 1 };

    fn has(self, position: usize) -> bool {
        position % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        let parts = s.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => bail!("a shard is i/n with i from 0 to n - 1, 0/4 say; got `{s}`"),
        }
    }
}

impl Request {
    /// The cells: those selected, and where nothing is selected R with CNN and ST-CNN Aff for `quick`, everything for the others.
    pub fn cells(&self) -> Vec<Cell> {
        let everything = matches!(self.budget.name.as_str(), "full" | "paper");
        let data = match &self.data[..] {
            [] if everything => Distortion::ALL.to_vec(),
            [] => vec![Distortion::R],
            selected => selected.to_vec(),
        };
        let models = match &self.models[..] {
            [] if everything => Model::ALL.to_vec(),
            [] => vec![Model::Cnn, Model::StCnn(TransformKind::Affine)],
            selected => selected.to_vec(),
        };
        data.iter().flat_map(|&data| models.iter().map(move |&model| Cell::new(data, model))).collect()
    }

    /// The finished run of a cell in the folder of finished runs, if that was given and has it.
    fn finished(&self, cell: Cell, seed: u64) -> Result<Option<RunResult>> {
        let Some(folder) = &self.finished else { return Ok(None) };
        cell.run_dir(folder, &self.budget.name, seed).result()
    }
}

/// Whether a sweep came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its runs are finished.
    Complete,
    /// It was stopped; the same command goes on.
    Interrupted,
}

/// Trains what is asked for, prints the table and writes the report.
///
/// # Errors
/// When the data cannot be had, or a run fails; runs that were finished before stay.
pub fn reproduce(request: &Request, stop: &AtomicBool) -> Result<Ending> {
    let runs: Vec<(Cell, u64)> =
        request.cells().into_iter().flat_map(|cell| request.seeds.iter().map(move |&seed| (cell, seed))).collect();
    let mine: Vec<(Cell, u64)> =
        runs.iter().enumerate().filter(|(i, _)| request.shard.has(*i)).map(|(_, &run)| run).collect();
    let budget = &request.budget;
    let digits = Digits::new(Mnist::load(request.source, request.offline)?, budget)?;
    crate::say!("MNIST from {}", digits.source());
    let root = request.out.join("mnist").join(&budget.name);
    crate::say!("{} of {} runs, budget {}, into {}\n", mine.len(), runs.len(), budget.name, root.display());

    for (i, &(cell, seed)) in mine.iter().enumerate() {
        crate::say!("[{}/{}]", i + 1, mine.len());
        if let Some(result) = request.finished(cell, seed)? {
            crate::say!(
                "{} on {}, seed {seed}: finished before, {:.2} % error",
                cell.model.label(),
                cell.data,
                result.error_percent
            );
            continue;
        }
        let dir = cell.run_dir(&request.out, &budget.name, seed);
        match run(cell, &digits, budget, seed, request.cadence, &dir, stop)? {
            Status::Finished(result) => print_result("", &result, &dir),
            Status::Already(result) => print_result("finished before: ", &result, &dir),
            Status::Interrupted { step } => {
                crate::say!(
                    "\nStopped after {step} of {} steps; nothing is lost. The same command goes on from there:\n  {}",
                    budget.steps,
                    request.command
                );
                return Ok(Ending::Interrupted);
            }
        }
    }

    let (path, table) = report::write(&root, &root.join("report"), &request.command)?;
    crate::say!("\n{table}\nreport and figures: {}", path.display());
    crate::say!("{}", next_steps(budget));
    Ok(Ending::Complete)
}

fn print_result(prefix: &str, result: &RunResult, dir: &RunDir) {
    let spread = result.error_percent_std.map_or(String::new(), |std| format!(" (single draws ± {std:.2})"));
    let validation = result.val_error_percent.map_or(String::new(), |error| format!(", validation {error:.2} %"));
    crate::say!(
        "  {prefix}test error {:.2} %{spread}{validation}; the paper's: {:.1} %; {:.1} minutes; {}\n",
        result.error_percent,
        result.paper_error_percent,
        result.seconds / 60.0,
        dir.path().display()
    );
}

fn next_steps(budget: &Budget) -> &'static str {
    match budget.name.as_str() {
        "paper" => "next: `stn report` on several seeds' runs",
        "full" => {
            "next: --seeds 0,1,2 for the spread, or --budget paper for the paper's own schedule (days on a laptop)"
        }
        _ => {
            "next: other cells (`stn list`) with --data RTS --model st-cnn-aff; more seeds with --seeds 0,1,2;\n      \
             our full schedule with --budget full; one image through a transformer with `stn look <run>`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(budget: &str) -> Request {
        Request {
            budget: Budget::mnist(budget, None).unwrap(),
            data: vec![],
            models: vec![],
            seeds: vec![0],
            out: "runs".into(),
            finished: None,
            source: Source::Embedded,
            offline: true,
            cadence: Cadence::default(),
            shard: Shard::ALL,
            command: "stn reproduce mnist".into(),
        }
    }

    #[test]
    fn quick_is_two_cells_on_r_and_full_is_everything() {
        let ids: Vec<String> = request("quick").cells().iter().map(|c| format!("{} {}", c.data, c.model)).collect();
        assert_eq!(ids, ["R cnn", "R st-cnn-aff"]);
        assert_eq!(request("full").cells(), Cell::all());
    }

    #[test]
    fn shards_part_the_whole() -> Result<()> {
        let shards: Vec<Shard> = ["0/3", "1/3", "2/3"].iter().map(|s| s.parse()).collect::<Result<_>>()?;
        for position in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(position)).count(), 1);
        }
        for bad in ["3/3", "1", "a/b", "1/0", "-1/2"] {
            assert!(bad.parse::<Shard>().unwrap_err().to_string().contains(bad));
        }
        Ok(())
    }
}
