//! The committed results: they count as finished, and make the tables that the README shows.

use std::path::Path;
use std::process::Command;

fn stn(args: &[&str], home: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stn")).args(args).current_dir(home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The README's tables of results: the folder that the comment before a table names, and the table.
fn tables(readme: &str) -> Vec<(&str, String)> {
    const MARK: &str = "<!-- cargo stn report ";
    let parts = readme.split(MARK).skip(1).map(|part| part.split_once(" -->\n").expect("a comment's end"));
    parts
        .map(|(folder, text)| (folder, text.lines().take_while(|line| line.starts_with('|')).collect::<Vec<_>>().join("\n")))
        .collect()
}

#[test]
fn every_table_of_results_in_the_readme_is_the_reports() {
    let home = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let tables = tables(&readme);
    assert!(tables.len() >= 2 && tables.iter().all(|(_, table)| table.lines().count() > 2));
    for (folder, table) in tables {
        let said = stn(&["report", root().join(folder).to_str().unwrap(), "--out", "report"], home.path());
        assert!(said.contains(&table), "the README says\n{table}\n`cargo stn report {folder}` says\n{said}");
    }
}

#[test]
fn committed_runs_count_as_finished() {
    let home = tempfile::tempdir().unwrap();
    let results = root().join("results");
    let args = ["reproduce", "mnist", "--seeds", "0,1,2", "--offline", "--finished", results.to_str().unwrap()];
    let said = stn(&args, home.path());
    assert_eq!(said.matches("finished before").count(), 6, "{said}");
}
