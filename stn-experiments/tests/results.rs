//! The committed results: they count as finished, and make the tables that the README and the pages under docs show.

use std::path::{Path, PathBuf};
use std::process::Command;

fn stn(args: &[&str], home: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stn")).args(args).current_dir(home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The lines of a text from `start` on that belong to a table.
fn table(text: &str, start: usize) -> &str {
    let rows = text[start..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
    &text[start..start + rows.map(str::len).sum::<usize>()]
}

/// README and the pages under docs.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    std::iter::once(root().join("README.md"))
        .chain(docs.filter(|path| path.extension() == Some("md".as_ref())))
        .collect()
}

/// A table of results stands behind a comment that names the command it comes from. `STN_UPDATE_TABLES=1` writes them anew.
#[test]
fn the_tables_of_results_are_the_reports() {
    const MARK: &str = "<!-- cargo stn report ";
    let home = tempfile::tempdir().unwrap();
    let mut tables = 0;
    for path in pages() {
        let old = std::fs::read_to_string(&path).unwrap();
        let mut new = old.clone();
        for (at, _) in old.match_indices(MARK) {
            let (folder, rest) = old[at + MARK.len()..].split_once(" -->\n").expect("the end of the comment");
            let shown = table(&old, old.len() - rest.len());
            let header = shown.lines().next().expect("a table behind the comment");
            let said = stn(&["report", root().join(folder).to_str().unwrap(), "--out", "report"], home.path());
            let start = said.find(&format!("{header}\n")).unwrap_or_else(|| panic!("no table of {header}\n{said}"));
            new = new.replacen(shown, table(&said, start), 1);
            tables += 1;
        }
        if std::env::var_os("STN_UPDATE_TABLES").is_some() {
            std::fs::write(&path, new).unwrap();
        } else {
            let again = "STN_UPDATE_TABLES=1 cargo test -p stn-experiments --test results writes the tables anew";
            assert_eq!(old, new, "{}: {again}", path.display());
        }
    }
    assert!(tables >= 2);
}

#[test]
fn committed_runs_count_as_finished() {
    let home = tempfile::tempdir().unwrap();
    let results = root().join("results");
    let args = ["reproduce", "mnist", "--seeds", "0,1,2", "--offline", "--finished", results.to_str().unwrap()];
    let said = stn(&args, home.path());
    assert_eq!(said.matches("finished before").count(), 6, "{said}");
}
