//! The committed results: they count as finished, and give the table that the README shows.

use std::path::Path;
use std::process::Command;

fn stn(args: &[&str], home: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stn")).args(args).current_dir(home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn committed_runs_count_as_finished_and_make_the_readmes_table() {
    let home = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let results = root.join("results");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let rows: Vec<&str> = readme.lines().filter(|line| line.contains("| quick |")).collect();
    assert!(!rows.is_empty());

    let quick = results.join("mnist/quick");
    let said = stn(&["report", quick.to_str().unwrap(), "--out", "report"], home.path());
    for row in &rows {
        assert!(said.contains(row), "the README says {row}\n`stn report` says\n{said}");
    }
    let results = results.to_str().unwrap();
    let said = stn(&["reproduce", "mnist", "--seeds", "0,1,2", "--offline", "--finished", results], home.path());
    assert_eq!(said.matches("finished before").count(), 6, "{said}");
    assert!(rows.iter().all(|row| said.contains(row)), "{said}");
}
