//! The command line: from words to a request, and from a request to what does it.

mod data;
mod eval;

use crate::budget::{Budget, Changes};
use crate::data::svhn::TrainingSplit;
use crate::data::{Mnist, Source};
use crate::experiments::{self, Experiment};
use crate::finished;
use crate::look::{Image, look};
use crate::models::backbone::BackboneKind;
use crate::named::by_id;
use crate::record::RunDir;
use crate::report;
use crate::reproduce::{Ending, reproduce};
use crate::request::{Request, Shard};
use crate::stop::Stop;
use crate::train::Cadence;
use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use data::{Data, data};
use eval::eval;
use std::path::PathBuf;

/// Reproduces the experiments of "Spatial Transformer Networks" (Jaderberg et al. 2015).
#[derive(Debug, Parser)]
#[command(name = "stn", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train and test an experiment's models; print the table and write the report
    Reproduce(Box<Reproduce>),
    /// List every cell with the paper's figure, where it gives one
    List {
        /// The cells of one experiment
        #[arg(value_parser = experiments::named)]
        experiment: Option<&'static dyn Experiment>,
    },
    /// Measure the test error of a finished run again
    Eval {
        /// The run's directory: runs/mnist/quick/R/cnn/seed-0
        run: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Write the table and the figures of all finished runs under a folder
    Report {
        /// The folder: runs/mnist/quick, say
        runs: PathBuf,
        /// Where the report goes [default: <RUNS>/report]
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Draw one image, its sampling grid and what the transformer makes of it
    Look {
        /// The directory of a finished run with a transformer
        run: PathBuf,
        /// A PNG of the network's size, white on black
        #[arg(long, conflicts_with = "index")]
        image: Option<PathBuf>,
        /// An image of the first distorted test set
        #[arg(long, default_value_t = 0)]
        index: usize,
        /// The figure: .png or .svg
        #[arg(long, default_value = "look.png")]
        out: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Fetch, check, show or pack data
    #[command(subcommand)]
    Data(Data),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DeviceKind {
    /// The processor, all its cores (RAYON_NUM_THREADS sets another number)
    Cpu,
}

#[derive(Debug, Args)]
struct Reproduce {
    /// What `stn list` names: mnist, say
    #[arg(value_parser = experiments::named)]
    experiment: &'static dyn Experiment,
    /// quick (a first look: minutes a run for digits, an hour or so for svhn and cub), full (our schedule, every cell) or paper (the paper's schedule); colocalisation has literal too (full, with the loss as the paper has it)
    #[arg(long, default_value = "quick")]
    budget: String,
    /// Data sets, see `stn list` [default: for full and paper all, otherwise a first look, R for mnist]
    #[arg(long, value_delimiter = ',')]
    data: Vec<String>,
    /// Models, see `stn list` [default: for full and paper all, otherwise a first look, cnn,st-cnn-aff for mnist]
    #[arg(long, value_delimiter = ',')]
    model: Vec<String>,
    /// One run each
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    #[command(flatten)]
    changes: Changes,
    /// The folder that holds all runs
    #[arg(long, default_value = "runs")]
    out: PathBuf,
    /// A further folder whose finished runs count as done: results, say
    #[arg(long)]
    finished: Option<PathBuf>,
    /// For colocalisation: the run of a CNN of mnist that compares windows [default: the CNN on R, quick, trained first where it is not there]
    #[arg(long, value_name = "RUN")]
    encoder: Option<PathBuf>,
    /// For cub: lite0 (the default), inception-v3 or bn-inception
    #[arg(long)]
    backbone: Option<BackboneKind>,
    /// For cub: a safetensors file with the backbone's ImageNet weights [default: the hub's; nobody hosts those of bn-inception]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// For svhn from the hub: all (train and extra, 2.3 GB) or train (390 MB) [default: all]
    #[arg(long)]
    split: Option<TrainingSplit>,
    /// Train only the i-th of n parts of the runs, counted from 0: 0/4
    #[arg(long, default_value = "0/1")]
    shard: Shard,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = Cadence::default().checkpoint, value_parser = at_least_one)]
    checkpoint_every: usize,
    /// The device that trains
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceKind,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Clone, Copy, Args)]
struct SourceArgs {
    /// auto (cache, hub, then embedded with a notice), hub (or fail) or embedded
    #[arg(long, default_value = "auto")]
    source: Source,
    /// Never touch the network
    #[arg(long)]
    offline: bool,
}

impl SourceArgs {
    fn mnist(self) -> Result<Mnist> {
        Mnist::load(self.source, self.offline)
    }
}

/// Does what the command line says. `stop` is set when the user wants training to end.
///
/// # Errors
/// Whatever goes wrong, with what to do about it.
pub fn run(cli: Cli, stop: &Stop) -> Result<Ending> {
    match cli.command {
        Command::Reproduce(args) => return reproduce(&request(*args)?, stop),
        Command::List { experiment } => {
            let listed = experiment.map_or(experiments::ALL.to_vec(), |experiment| vec![experiment]);
            crate::say!("{}", list(&listed).trim_end());
        }
        Command::Eval { run, source } => eval(&RunDir::new(run), source)?,
        Command::Report { runs, out } => {
            let out = out.unwrap_or_else(|| runs.join("report"));
            let (path, tables) = report::write(&finished::under(&runs)?, &out, "cargo stn report")?;
            crate::say!("{tables}\nreport and figures: {}", path.display());
        }
        Command::Look { run, image, index, out, source } => {
            let image = image.as_deref().map_or(Image::Test(index), Image::File);
            crate::say!("{}", look(&RunDir::new(run), image, || source.mnist(), &out)?);
        }
        Command::Data(command) => data(command)?,
    }
    Ok(Ending::Complete)
}

fn request(args: Reproduce) -> Result<Request> {
    let DeviceKind::Cpu = args.device;
    let experiment = args.experiment;
    for (option, given, of) in [
        ("encoder", args.encoder.is_some(), "colocalisation"),
        ("backbone", args.backbone.is_some(), "cub"),
        ("weights", args.weights.is_some(), "cub"),
        ("split", args.split.is_some(), "svhn"),
    ] {
        ensure!(!given || experiment.id() == of, "--{option} is for {of}, not for {}; leave it out", experiment.id());
    }
    Ok(Request {
        experiment,
        budget: Budget::named(&args.budget, experiment.budgets())?.changed(&args.changes)?,
        base: args.budget,
        changes: args.changes,
        data: select("data set", &args.data, &experiment.data())?,
        models: select("model", &args.model, &experiment.models())?,
        seeds: unique(args.seeds),
        out: args.out,
        finished: args.finished,
        encoder: args.encoder,
        split: args.split.unwrap_or_default(),
        backbone: args.backbone,
        weights: args.weights,
        source: args.source.source,
        offline: args.source.offline,
        cadence: Cadence { checkpoint: args.checkpoint_every, ..Default::default() },
        shard: args.shard,
        typed: command_line(),
    })
}

/// The ids that were asked for, each once, in capital or small letters.
fn select(what: &str, asked: &[String], known: &[String]) -> Result<Vec<String>> {
    let find = |id: &String| by_id(what, id, known, |known| known).cloned();
    Ok(unique(asked.iter().map(find).collect::<Result<_>>()?))
}

/// Each value once, in the order of its first mention.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    values.into_iter().fold(Vec::new(), |mut kept, value| {
        if !kept.contains(&value) {
            kept.push(value);
        }
        kept
    })
}

fn at_least_one(s: &str) -> Result<usize, String> {
    match s.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}

/// The command as the user may type it again.
fn command_line() -> String {
    let plain = |arg: &String| arg.chars().all(|c| c.is_alphanumeric() || "-_=./,:@%+".contains(c));
    let quote = |arg: String| if plain(&arg) { arg } else { format!("'{}'", arg.replace('\'', "'\\''")) };
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| quote(arg.to_string_lossy().into_owned())).collect();
    format!("cargo stn {}", args.join(" "))
}

fn list(experiments: &[&dyn Experiment]) -> String {
    let mut text = format!("{:<9} {:<6} {:<14} {:>15}   command\n", "paper", "data", "model", "the figure");
    for experiment in experiments {
        for data in experiment.data() {
            for model in experiment.models() {
                let (place, id, measure) = (experiment.place(&data), experiment.id(), experiment.measure());
                let figure = experiment.paper_error_percent(&data, &model);
                let figure =
                    figure.map_or("-".into(), |error| format!("{} {:>5.1} %", measure.noun(), measure.of(error)));
                text += &format!(
                    "{place:<9} {data:<6} {model:<14} {figure:>15}   cargo stn reproduce {id} --data {data} --model {model}\n"
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_list_has_every_cell_with_the_papers_figure() {
        let cells: usize = experiments::ALL.iter().map(|e| e.data().len() * e.models().len()).sum();
        let list = list(&experiments::ALL);
        assert_eq!(list.lines().count(), 1 + cells);
        let line = list.lines().find(|l| l.contains("RTS") && l.contains("st-cnn-aff")).unwrap();
        assert!(line.contains("0.5 %"), "{line}");
        let line = list.lines().find(|l| l.contains("TC") && l.contains("st-cnn-tps")).unwrap();
        assert!(line.contains(" - "), "{line}");
    }

    #[test]
    fn names_are_found_in_any_case_and_once() {
        let known = ["R", "RTS"].map(String::from);
        let asked = ["rts", "R", "RTS"].map(String::from);
        assert_eq!(select("data set", &asked, &known).unwrap(), ["RTS", "R"]);
        let error = select("data set", &["Q".into()], &known).unwrap_err().to_string();
        assert_eq!(error, "unknown data set `Q`; there are R, RTS");
    }
}
