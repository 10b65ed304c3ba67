//! Table 5 with ours beside it.

use super::{Colocalisation, Scenery};
use crate::cells::Cells;
use crate::data::mnist::CLASSES;
use crate::experiments::Experiment;
use crate::run::RunResult;
use std::fmt::Write;

/// For each [training](crate::cells::Training): the share of digits found, by class, and its mean; the paper's; and the mean overlap.
pub(super) fn table_5(results: &[&RunResult]) -> String {
    let mut text = String::new();
    for cells in Cells::by_training(results) {
        let classes: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
        let _ = writeln!(text, "{}\n\nDigits found, in percent:\n", cells.heading(&Colocalisation));
        let _ = writeln!(
            text,
            "| images | | {} | mean | mean IoU |\n|---|---{}|---|---|",
            classes.join(" | "),
            "|---".repeat(CLASSES)
        );
        for data in Scenery::ALL {
            let runs: Vec<Vec<&RunResult>> = classes.iter().map(|class| cells.runs(data.id(), class)).collect();
            if runs.iter().all(Vec::is_empty) {
                continue;
            }
            let found = |class: &String| cells.error_percent(data.id(), class).map(|error| 100.0 - error.mean);
            let ours: Vec<Option<f64>> = classes.iter().map(found).collect();
            let paper: Vec<Option<f64>> = classes
                .iter()
                .map(|class| Colocalisation.paper_error_percent(data.id(), class).map(|error| 100.0 - error))
                .collect();
            let overlap = |run: &&RunResult| run.details.get("mean_iou").and_then(|iou| iou.as_f64());
            let of_class = |runs: &Vec<&RunResult>| mean(&runs.iter().filter_map(overlap).collect::<Vec<_>>());
            let overlaps: Vec<Option<f64>> = runs.iter().map(of_class).collect();
            let overlap = mean_of_all(&overlaps).map_or("-".into(), |iou| format!("{iou:.2}"));
            let _ = writeln!(text, "| {data} | ours | {} | {overlap} |", row(&ours));
            let _ = writeln!(text, "| | the paper's | {} | - |", row(&paper));
        }
        text.push('\n');
    }
    text
}

/// The values, and their mean where none is missing.
fn row(values: &[Option<f64>]) -> String {
    let show = |value: &Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
    let mean = mean_of_all(values).map_or("-".into(), |mean| format!("{mean:.1}"));
    format!("{} | {mean}", values.iter().map(show).collect::<Vec<_>>().join(" | "))
}

/// The mean of the classes; none where one is missing.
fn mean_of_all(values: &[Option<f64>]) -> Option<f64> {
    mean(&values.iter().copied().collect::<Option<Vec<f64>>>()?)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::test_result;

    #[test]
    fn the_table_has_ours_beside_the_papers_and_a_mean_of_whole_rows_alone() {
        let mut results: Vec<RunResult> =
            (0..CLASSES).map(|class| test_result("colocalisation", "TC", &class.to_string(), 0, 20.0)).collect();
        results.push(test_result("colocalisation", "TC", "0", 1, 10.0));
        results.push(test_result("colocalisation", "T", "3", 0, 0.0));
        let text = table_5(&results.iter().collect::<Vec<_>>());
        assert!(text.contains("| TC | ours | 85 | 80 | 80 | 80 | 80 | 80 | 80 | 80 | 80 | 80 | 80.5 | - |"), "{text}");
        assert!(
            text.contains("| | the paper's | 81 | 82 | 88 | 75 | 94 | 84 | 93 | 85 | 89 | 87 | 85.8 | - |"),
            "{text}"
        );
        assert!(text.contains("| T | ours | - | - | - | 100 | - | - | - | - | - | - | - | - |"), "{text}");
    }
}
