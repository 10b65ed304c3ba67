//! Where test figures go.

use std::path::PathBuf;
use tempfile::TempDir;

/// A folder, and a file in it that isn't there yet.
pub fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}
