//! What the paper claims of its tables, checked against finished runs.

use crate::cells::Cells;
use crate::experiments::Experiment;
use std::fmt::Write;

/// A statement of the paper that comparisons of test errors decide.
#[derive(Debug)]
pub struct Claim {
    statement: String,
    comparisons: Vec<Comparison>,
}

/// One test error against another.
#[derive(Debug)]
struct Comparison {
    /// In words, with the numbers; `None` where one is not measured.
    measured: Option<String>,
    holds: bool,
}

/// What the runs say of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All its comparisons are measured, and say so.
    Holds,
    /// Some are not measured; those that are say so.
    HoldsSoFar,
    /// A comparison says otherwise.
    DoesNotHold,
    /// No comparison is measured.
    NotMeasured,
}

impl Claim {
    /// Begins a claim.
    pub fn new(statement: impl Into<String>) -> Self {
        Self { statement: statement.into(), comparisons: Vec::new() }
    }

    /// It takes that the first cell's error is below the second's.
    pub fn below(self, cells: &Cells, experiment: &dyn Experiment, a: (&str, &str), b: (&str, &str)) -> Self {
        self.compare(cells, experiment, a, b, |a, b| a < b)
    }

    /// It takes that the first cell's error is at most `slack` points above the second's.
    pub fn within(
        self,
        slack: f64,
        cells: &Cells,
        experiment: &dyn Experiment,
        a: (&str, &str),
        b: (&str, &str),
    ) -> Self {
        self.compare(cells, experiment, a, b, |a, b| a <= b + slack + 1e-9)
    }

    fn compare(
        mut self,
        cells: &Cells,
        experiment: &dyn Experiment,
        a: (&str, &str),
        b: (&str, &str),
        holds: impl Fn(f64, f64) -> bool,
    ) -> Self {
        let error = |(data, model)| cells.error_percent(data, model);
        self.comparisons.push(match (error(a), error(b)) {
            (Some(ours), Some(other)) => {
                let (x, y) = (ours.mean, other.mean);
                let sign = if x < y { "<" } else { "≥" };
                let name = |(data, model): (&str, &str)| match a.0 == b.0 {
                    true => experiment.label(model),
                    false => format!("{} on {data}", experiment.label(model)),
                };
                let measured = format!("{} {ours} {sign} {} {other}", name(a), name(b));
                Comparison { measured: Some(measured), holds: holds(x, y) }
            }
            _ => Comparison { measured: None, holds: false },
        });
        self
    }

    /// What the runs say of it.
    pub fn verdict(&self) -> Verdict {
        let measured: Vec<bool> =
            self.comparisons.iter().filter(|c| c.measured.is_some()).map(|comparison| comparison.holds).collect();
        match measured.len() {
            0 => Verdict::NotMeasured,
            _ if measured.contains(&false) => Verdict::DoesNotHold,
            n if n < self.comparisons.len() => Verdict::HoldsSoFar,
            _ => Verdict::Holds,
        }
    }
}

/// The claims as a table in Markdown, those without a measured comparison in one line below it.
pub fn markdown(claims: &[Claim]) -> String {
    let (unmeasured, measured): (Vec<&Claim>, Vec<&Claim>) =
        claims.iter().partition(|claim| claim.verdict() == Verdict::NotMeasured);
    let mut text = String::new();
    if !measured.is_empty() {
        text.push_str("| the paper's claim | ours | test error % |\n|---|---|---|\n");
    }
    for claim in measured {
        let verdict = match claim.verdict() {
            Verdict::Holds => "holds".into(),
            Verdict::DoesNotHold => "**does not hold**".into(),
            Verdict::NotMeasured => "not measured yet".into(),
            Verdict::HoldsSoFar => {
                let count = claim.comparisons.iter().filter(|c| c.measured.is_some()).count();
                format!("holds so far ({count} of {} measured)", claim.comparisons.len())
            }
        };
        let numbers: Vec<&str> = claim.comparisons.iter().filter_map(|c| c.measured.as_deref()).collect();
        let _ = writeln!(text, "| {} | {verdict} | {} |", claim.statement, numbers.join("; "));
    }
    if !unmeasured.is_empty() {
        let statements: Vec<&str> = unmeasured.iter().map(|claim| &*claim.statement).collect();
        let _ = writeln!(text, "\nNot measured yet: {}.", statements.join("; "));
    }
    text
}
