//! A sweep over cells and seeds: what is finished is skipped, what was stopped goes on, and the rest is trained.

use crate::budget::Budget;
use crate::data::{Distortion, Mnist, Source};
use crate::experiments::mnist::{self, Cell, Digits, Run, RunResult, Status};
use crate::models::{Model, TransformKind};
use crate::record::RunDir;
use crate::report;
use crate::stop::Stop;
use crate::train::Cadence;
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::str::FromStr;

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
    /// The command line as it was typed.
    pub typed: String,
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

    /// The runs that are this machine's.
    fn runs(&self) -> Vec<Run<'_>> {
        let place = |folder: &Path, cell: Cell, seed| cell.run_dir(folder, &self.budget.name, seed);
        let all = self.cells().into_iter().flat_map(|cell| self.seeds.iter().map(move |&seed| (cell, seed)));
        let mine = all.enumerate().filter(|(position, _)| self.shard.has(*position));
        mine.map(|(_, (cell, seed))| Run {
            cell,
            seed,
            budget: &self.budget,
            dir: place(&self.out, cell, seed),
            finished: self.finished.as_deref().map(|folder| place(folder, cell, seed)),
            cadence: self.cadence,
        })
        .collect()
    }

    /// The command that asks for the same on another machine: without folders, sources and shards.
    fn command(&self) -> String {
        let mut command = String::from("cargo stn reproduce mnist");
        let mut add = |option: &str, values: Vec<String>| {
            if !values.is_empty() {
                command += &format!(" --{option} {}", values.join(","));
            }
        };
        match self.budget.name.strip_prefix("custom-") {
            Some(steps) => add("steps", vec![steps.into()]),
            None if self.budget.name != "quick" => add("budget", vec![self.budget.name.clone()]),
            None => {}
        }
        add("data", self.data.iter().map(Distortion::to_string).collect());
        add("model", self.models.iter().map(Model::to_string).collect());
        if self.seeds != [0] {
            add("seeds", self.seeds.iter().map(u64::to_string).collect());
        }
        command
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
/// When the data cannot be had, or a run fails: the others are trained all the same, and the failures listed at the end.
pub fn reproduce(request: &Request, stop: &Stop) -> Result<Ending> {
    if let Some(folder) = &request.finished {
        ensure!(folder.is_dir(), "there is no folder {} of finished runs; see --finished", folder.display());
    }
    let (budget, runs) = (&request.budget, request.runs());
    let digits = Digits::new(Mnist::load(request.source, request.offline)?, budget)?;
    let root = request.out.join("mnist").join(&budget.name);
    crate::say!("MNIST from {}", digits.source());
    crate::say!("{} runs, budget {}: {}; into {}\n", runs.len(), budget.name, budget.describe(), root.display());

    let (mut finished, mut failures) = (Vec::new(), Vec::new());
    for (i, run) in runs.iter().enumerate() {
        if stop.requested() {
            return Ok(interrupted(0, request));
        }
        crate::say!("[{}/{}]", i + 1, runs.len());
        match mnist::run(run, &digits, stop) {
            Ok(Status::Finished(result)) => {
                print_result("", &result, &run.dir);
                finished.push((run.dir.clone(), result));
            }
            Ok(Status::Already(result, dir)) => {
                print_result("finished before: ", &result, &dir);
                finished.push((dir, result));
            }
            Ok(Status::Interrupted { step }) => return Ok(interrupted(step, request)),
            Err(error) => {
                crate::warn!("  failed: {error:#}\n");
                failures.push(format!("{}: {error:#}", run.dir.path().display()));
            }
        }
    }

    // What other shards or earlier commands have finished in the same place belongs into the table too.
    let here = finished.iter().map(|(dir, _)| dir.path().to_path_buf()).collect::<Vec<_>>();
    let others = if root.is_dir() { report::finished_runs(&root)? } else { Vec::new() };
    finished.extend(others.into_iter().filter(|(dir, _)| !here.iter().any(|path| path == dir.path())));
    finished.sort_by(|a, b| a.0.path().cmp(b.0.path()));
    if finished.is_empty() {
        crate::say!("no run is finished: there is no table to show");
    } else {
        let (path, table) = report::write(&finished, &root.join("report"), &request.command())?;
        crate::say!("\n{table}\nreport and figures: {}", path.display());
    }
    ensure!(failures.is_empty(), "{} of {} runs failed:\n  {}", failures.len(), runs.len(), failures.join("\n  "));
    crate::say!("{}", next_steps(budget));
    Ok(Ending::Complete)
}

fn interrupted(step: usize, request: &Request) -> Ending {
    crate::say!(
        "\nStopped after {step} of {} steps; nothing is lost. The same command goes on from there:\n  {}",
        request.budget.steps,
        request.typed
    );
    Ending::Interrupted
}

fn print_result(prefix: &str, result: &RunResult, dir: &RunDir) {
    let spread = result.error_percent_std.map_or(String::new(), |std| format!(" (single draws ± {std:.2})"));
    let validation = result.val_error_percent.map_or(String::new(), |error| format!(", validation {error:.2} %"));
    let paper = result.paper_error_percent.map_or("not given".into(), |error| format!("{error:.1} %"));
    crate::say!(
        "  {prefix}test error {:.2} %{spread}{validation}; the paper's: {paper}; {:.1} minutes; {}\n",
        result.error_percent,
        result.seconds / 60.0,
        dir.path().display()
    );
}

fn next_steps(budget: &Budget) -> &'static str {
    match budget.name.as_str() {
        "paper" => "next: `cargo stn report` on several seeds' runs",
        "full" => {
            "next: --seeds 0,1,2 for the spread, or --budget paper for the paper's own schedule (days on a laptop)"
        }
        _ => {
            "next: other cells (`cargo stn list`) with --data RTS --model st-cnn-aff; more seeds with --seeds 0,1,2;\n      \
             our full schedule with --budget full; one image through a transformer with `cargo stn look <run>`"
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
            typed: "cargo stn reproduce mnist".into(),
        }
    }

    #[test]
    fn quick_is_two_cells_on_r_and_full_is_everything() {
        let ids: Vec<String> = request("quick").cells().iter().map(|c| format!("{} {}", c.data, c.model)).collect();
        assert_eq!(ids, ["R cnn", "R st-cnn-aff"]);
        assert_eq!(request("full").cells(), Cell::all());
    }

    #[test]
    fn the_command_holds_what_decides_and_no_folders() {
        assert_eq!(request("quick").command(), "cargo stn reproduce mnist");
        let request = Request { seeds: vec![0, 1], data: vec![Distortion::R, Distortion::Rts], ..request("full") };
        assert_eq!(request.command(), "cargo stn reproduce mnist --budget full --data R,RTS --seeds 0,1");
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
