//! What `stn reproduce` is asked for: which cells and seeds, how long they are trained, and on which images.

use crate::budget::{Budget, Changes};
use crate::data::Source;
use crate::data::svhn::TrainingSplit;
use crate::experiments::Experiment;
use crate::models::backbone::BackboneKind;
use crate::run::Run;
use crate::train::Cadence;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::str::FromStr;

/// What `stn reproduce` was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The experiment.
    pub experiment: &'static dyn Experiment,
    /// How long and with what.
    pub budget: Budget,
    /// The name of the budget that it was made from.
    pub base: String,
    /// What was changed in it.
    pub changes: Changes,
    /// Ids of data sets; none: the budget's own choice.
    pub data: Vec<String>,
    /// Ids of models; none: the budget's own choice.
    pub models: Vec<String>,
    /// One run each.
    pub seeds: Vec<u64>,
    /// The folder that holds all runs.
    pub out: PathBuf,
    /// A further folder of finished runs that count as done, `results/` say.
    pub finished: Option<PathBuf>,
    /// The run whose network compares windows in co-localisation; none: that of the CNN on R.
    pub encoder: Option<PathBuf>,
    /// The backbone of birds; none: the experiment's own choice.
    pub backbone: Option<BackboneKind>,
    /// A file with that backbone's weights; none: the hub's.
    pub weights: Option<PathBuf>,
    /// Which of SVHN's training images are used.
    pub split: TrainingSplit,
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

    /// The same part of a sweep whose runs go on where one of `runs` runs ends.
    pub(crate) fn after(self, runs: usize) -> Self {
        Self { index: (self.index + self.count - runs % self.count) % self.count, ..self }
    }

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
    /// The cells, data set and model: those selected, and where nothing is selected the experiment's first look for `quick`, everything
    /// for the others.
    pub fn cells(&self) -> Vec<(String, String)> {
        let (data, models) = match self.base.as_str() {
            "full" | "paper" => (self.experiment.data(), self.experiment.models()),
            _ => self.experiment.first_look(),
        };
        let selected = |selected: &[String], otherwise| if selected.is_empty() { otherwise } else { selected.to_vec() };
        let (data, models) = (selected(&self.data, data), selected(&self.models, models));
        data.iter().flat_map(|data| models.iter().map(|model| (data.clone(), model.clone()))).collect()
    }

    /// The runs that are this machine's.
    pub(crate) fn runs(&self) -> Vec<Run<'_>> {
        let all = self.cells().into_iter().flat_map(|cell| self.seeds.iter().map(move |&seed| (cell.clone(), seed)));
        let mine = all.enumerate().filter(|(position, _)| self.shard.has(*position));
        mine.map(|(_, ((data, model), seed))| Run {
            experiment: self.experiment,
            data,
            model,
            seed,
            budget: &self.budget,
            runs: &self.out,
            finished: self.finished.as_deref(),
            cadence: self.cadence,
            estimate: false,
        })
        .collect()
    }

    /// The command that asks for the same on another machine: without folders and shards.
    pub(crate) fn command(&self) -> String {
        let mut command = format!("cargo stn reproduce {}", self.experiment.id());
        let mut add = |option: &str, values: &[String]| {
            if !values.is_empty() {
                command += format!(" --{option} {}", values.join(",")).trim_end();
            }
        };
        if self.base != "quick" {
            add("budget", std::slice::from_ref(&self.base));
        }
        for (option, value) in self.changes.options() {
            add(option, &[value]);
        }
        add("data", &self.data);
        add("model", &self.models);
        if let Some(backbone) = self.backbone {
            add("backbone", &[backbone.to_string()]);
        }
        if self.split != TrainingSplit::default() {
            add("split", &[self.split.id().into()]);
        }
        if self.weights.is_some() {
            add("weights", &["FILE".into()]);
        }
        if self.encoder.is_some() {
            add("encoder", &["RUN".into()]);
        }
        if self.seeds != [0] {
            add("seeds", &self.seeds.iter().map(u64::to_string).collect::<Vec<_>>());
        }
        if self.source != Source::default() {
            add("source", &[self.source.id().into()]);
        }
        if self.offline && self.source != Source::Embedded {
            add("offline", &[String::new()]);
        }
        command
    }
}

/// A request for tests: distorted MNIST, seed 0.
#[cfg(test)]
pub(crate) fn test_request(budget: &str) -> Request {
    Request {
        experiment: &crate::experiments::mnist::DistortedMnist,
        budget: Budget::named(budget, Budget::mnist()).unwrap(),
        base: budget.into(),
        changes: Changes::default(),
        data: vec![],
        models: vec![],
        seeds: vec![0],
        out: "runs".into(),
        finished: None,
        encoder: None,
        backbone: None,
        weights: None,
        split: TrainingSplit::All,
        source: Source::Auto,
        offline: false,
        cadence: Cadence::default(),
        shard: Shard::ALL,
        typed: "cargo stn reproduce mnist".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_the_first_look_and_full_is_everything() {
        let cell = |data: &str, model: &str| (data.to_string(), model.to_string());
        assert_eq!(test_request("quick").cells(), [cell("R", "cnn"), cell("R", "st-cnn-aff")]);
        assert_eq!(test_request("full").cells().len(), 5 * 8);
        let selected = Request { data: vec!["E".into()], ..test_request("full") };
        assert_eq!(selected.cells().len(), 8);
        let tried = Request { budget: Budget { name: "custom-9".into(), ..Budget::full() }, ..test_request("full") };
        assert_eq!(tried.cells().len(), 5 * 8, "a changed budget trains the cells of the one it was made from");
    }

    #[test]
    fn the_command_asks_for_weights_without_naming_a_file() {
        let (backbone, weights) = (Some(BackboneKind::BnInception), Some("/home/me/mine.safetensors".into()));
        let encoder = Some("/home/me/run".into());
        let request = Request { backbone, weights, encoder, ..test_request("quick") };
        assert_eq!(request.command(), "cargo stn reproduce mnist --backbone bn-inception --weights FILE --encoder RUN");
    }

    #[test]
    fn the_command_holds_what_decides_and_no_folders() {
        assert_eq!(test_request("quick").command(), "cargo stn reproduce mnist");
        let request = Request { seeds: vec![0, 1], data: vec!["R".into(), "RTS".into()], ..test_request("full") };
        assert_eq!(request.command(), "cargo stn reproduce mnist --budget full --data R,RTS --seeds 0,1");
        let svhn = Request { split: TrainingSplit::Train, source: Source::Hub, offline: true, ..request.clone() };
        assert_eq!(
            svhn.command(),
            "cargo stn reproduce mnist --budget full --data R,RTS --split train --seeds 0,1 --source hub --offline"
        );
        let changes = Changes { steps: Some(9), holdout: true, ..Changes::default() };
        let request = Request { changes, ..request };
        assert_eq!(
            request.command(),
            "cargo stn reproduce mnist --budget full --steps 9 --holdout --data R,RTS --seeds 0,1"
        );
    }

    #[test]
    fn shards_part_the_whole() -> Result<()> {
        let shards: Vec<Shard> = ["0/3", "1/3", "2/3"].iter().map(|s| s.parse()).collect::<Result<_>>()?;
        for position in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(position)).count(), 1);
            for before in 0..7 {
                let goes_on = |shard: &Shard| shard.after(before).has(position) == shard.has(before + position);
                assert!(shards.iter().all(goes_on), "{position} behind {before}");
            }
        }
        for bad in ["3/3", "1", "a/b", "1/0", "-1/2"] {
            assert!(bad.parse::<Shard>().unwrap_err().to_string().contains(bad));
        }
        Ok(())
    }
}
