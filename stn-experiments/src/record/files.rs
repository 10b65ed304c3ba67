//! Files that are whole or not there: written under another name, then renamed.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that are being written.
static HALF_WRITTEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Reads a JSON file.
///
/// # Errors
/// When it is missing, damaged or not of that form; the message names the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{} is damaged or of another version; move its folder away to train again", path.display())
    })
}

/// Writes a JSON file in one go.
///
/// # Errors
/// When the disk is full or the directory not writable.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    write_atomically(path, |to| Ok(fs::write(to, text.as_bytes())?))
}

/// Lets `write` make a file under another name, then gives it its own.
///
/// # Errors
/// When the disk is full or the directory not writable; a file that was there before is then still there.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let half_written = || HALF_WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    half_written().push(part.clone());
    let written = write(&part).and_then(|()| {
        OpenOptions::new().write(true).open(&part)?.sync_all()?;
        Ok(fs::rename(&part, path)?)
    });
    half_written().retain(|other| *other != part);
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        error.context(format!("cannot write {}; is the disk full or the folder read-only?", path.display()))
    })
}

/// Lets `write` make a file that is not there yet. Other processes that want it wait until it is; what one that was killed left half written is removed.
///
/// # Errors
/// When `write` fails, or nothing can be written beside the file.
pub fn write_once(path: &Path, write: impl FnOnce() -> Result<()>) -> Result<()> {
    let beside = |suffix: &str| {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        path.with_file_name(name)
    };
    let lock = beside(".lock");
    let file = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    let mut alone = true;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            crate::warn!("another process makes {}: waiting for it", path.display());
            file.lock().with_context(|| format!("cannot wait for {}", lock.display()))?;
        }
        // Some network file systems have no locks: better unguarded than not at all.
        Err(TryLockError::Error(_)) => alone = false,
    }
    if path.exists() {
        return Ok(());
    }
    let half_written = |name: &str| {
        let of_the_file = path.file_name().and_then(|file| name.strip_prefix(file.to_str()?));
        of_the_file.is_some_and(|rest| rest.ends_with(".part"))
    };
    for entry in path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten() {
        if alone && entry.file_name().to_str().is_some_and(half_written) {
            // Only space is lost when it stays.
            let _ = fs::remove_file(entry.path());
        }
    }
    write()
}

/// Removes what is only half written: for a program that is about to end.
pub fn remove_half_written() {
    for part in HALF_WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = fs::remove_file(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{bail, ensure};

    #[test]
    fn a_file_is_made_once_and_leftovers_of_it_go() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, other) = (dir.path().join("crops"), dir.path().join("other.7.part"));
        let left = dir.path().join("crops.7.part");
        fs::write(&left, "half")?;
        fs::write(&other, "half")?;
        assert!(write_once(&path, || bail!("no")).is_err());
        assert!(!left.exists() && other.exists() && !path.exists());
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    write_once(&path, || {
                        made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        Ok(fs::write(&path, "whole")?)
                    })
                });
            }
        });
        assert_eq!((made.into_inner(), fs::read_to_string(&path)?.as_str()), (1, "whole"));
        Ok(())
    }

    #[test]
    fn what_is_half_written_is_known() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let listed = |part: &Path| HALF_WRITTEN.lock().unwrap().iter().any(|other| other == part);
        let mut seen = PathBuf::new();
        write_atomically(&dir.path().join("large"), |part| {
            fs::write(part, "half")?;
            ensure!(listed(part), "Ctrl-C would leave it");
            seen = part.to_path_buf();
            Ok(())
        })?;
        assert!(!listed(&seen) && !seen.exists());
        Ok(())
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.json");
        write_json(&path, &1)?;
        let error = write_atomically(&path, |part| {
            fs::write(part, "half")?;
            bail!("no space left")
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("no space left"));
        assert_eq!(read_json::<i32>(&path)?, 1);
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }
}
