//! Finished runs as the paper's tables have them: a model in each row, a data set in each column.

use crate::experiments::Experiment;
use crate::metrics::Spread;
use crate::run::RunResult;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// How a run was trained, and on what. Runs that differ in it are never averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Training<'a> {
    /// The budget's name.
    pub budget: &'a str,
    /// Steps, optimiser and schedule in words.
    pub how: &'a str,
    /// How many images it is trained on, and of which set: `91000 images of SYNTHETIC house numbers v1`.
    pub on: &'a str,
}

impl<'a> Training<'a> {
    /// That of a run.
    pub fn of(result: &'a RunResult) -> Self {
        let RunResult { budget, training, trained_on, .. } = result;
        Self { budget, how: training, on: trained_on }
    }
}

impl fmt::Display for Training<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { budget, how, on } = self;
        write!(f, "{budget}: {how}; {on}")
    }
}

/// Finished runs that were trained alike.
#[derive(Debug)]
pub struct Cells<'a> {
    /// How.
    pub training: Training<'a>,
    runs: Vec<&'a RunResult>,
}

impl<'a> Cells<'a> {
    /// Runs that were trained alike belong into one table: the tables.
    pub fn by_training(results: &[&'a RunResult]) -> Vec<Self> {
        let mut tables: BTreeMap<Training, Vec<&RunResult>> = BTreeMap::new();
        for &result in results {
            tables.entry(Training::of(result)).or_default().push(result);
        }
        tables.into_iter().map(|(training, runs)| Self { training, runs }).collect()
    }

    /// Whether they were trained shorter, or with smaller networks, than the paper says.
    pub fn scaled_down(&self) -> bool {
        self.runs.iter().any(|run| run.scaled_down())
    }

    /// How they were trained, as a heading in Markdown that says where this is less than in the paper.
    pub fn heading(&self, experiment: &dyn Experiment) -> String {
        let scaled_down = match experiment.paper_training() {
            _ if !self.scaled_down() => String::new(),
            Some(paper) => format!("; scaled down, the paper has {paper}"),
            None => "; scaled down against our `full`, the paper does not say how long it trained".into(),
        };
        format!("### Budget {}{scaled_down}", self.training)
    }

    /// The runs of a cell, one a seed.
    pub fn runs(&self, data: &str, model: &str) -> Vec<&'a RunResult> {
        self.runs.iter().copied().filter(|run| run.data == data && run.model == model).collect()
    }

    /// The test error of a cell in percent over its seeds; `None` where it is not measured.
    pub fn error_percent(&self, data: &str, model: &str) -> Option<Spread> {
        Spread::of(&self.runs(data, model).iter().map(|run| run.error_percent).collect::<Vec<_>>())
    }

    fn trained(&self, model: &str) -> bool {
        self.runs.iter().any(|run| run.model == model)
    }

    /// The paper's table: ours, and the paper's figure in brackets. Models of which there is neither are left out.
    pub fn beside_the_papers(&self, experiment: &dyn Experiment) -> String {
        let (measure, data) = (experiment.measure(), experiment.data());
        let of_paper = |model: &str| data.iter().any(|data| experiment.paper_error_percent(data, model).is_some());
        let models = experiment.models().into_iter().filter(|model| self.trained(model) || of_paper(model)).collect();
        table(experiment, models, |data, model| {
            let values: Vec<f64> = self.runs(data, model).iter().map(|run| measure.of(run.error_percent)).collect();
            let ours = Spread::of(&values).map_or("-".into(), |spread| spread.to_string());
            match experiment.paper_error_percent(data, model) {
                Some(paper) => format!("{ours} ({:.1})", measure.of(paper)),
                None => ours,
            }
        })
    }

    /// What the cells cost, in the same places: parameters, seeds and minutes a run. Models without a run are left out.
    pub fn costs(&self, experiment: &dyn Experiment) -> String {
        let models = experiment.models().into_iter().filter(|model| self.trained(model)).collect();
        table(experiment, models, |data, model| {
            let runs = self.runs(data, model);
            let Some(first) = runs.first() else { return "-".into() };
            let minutes = runs.iter().map(|run| run.seconds / 60.0).sum::<f64>() / runs.len() as f64;
            format!("{} / {} / {minutes:.1}", first.params, runs.len())
        })
    }
}

/// A row a model, a column a data set.
fn table(experiment: &dyn Experiment, models: Vec<String>, entry: impl Fn(&str, &str) -> String) -> String {
    let data = experiment.data();
    let mut text = format!("| model | {} |\n|---{}|\n", data.join(" | "), "|---".repeat(data.len()));
    for model in models {
        let entries: Vec<String> = data.iter().map(|data| entry(data, &model)).collect();
        let _ = writeln!(text, "| {} | {} |", experiment.label(&model), entries.join(" | "));
    }
    text
}
