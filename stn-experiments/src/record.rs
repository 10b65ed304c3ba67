//! A run is a directory: what was asked (`config.json`), how it went (`metrics.jsonl`), where it stands (`checkpoint.safetensors`)
//! and how it ended (`result.json`).
//!
//! Every file but the metrics is written under another name and then renamed, so that a crash or a full disk leaves the old file or
//! the new one, never half of one. `result.json` comes last: where it is, the run is finished.

mod files;

pub use files::{read_json, remove_half_written, write_atomically, write_json, write_once};

use crate::data::DataSource;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const METRICS: &str = "metrics.jsonl";
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
const RESULT: &str = "result.json";
const LOCK: &str = "lock";
/// The checkpoint's tensor that holds the checksum of the others.
const CHECKSUM: &str = "sha256";

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Names a directory without touching it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and writes `config.json`, or checks that the one there asks for the same.
    ///
    /// # Errors
    /// When the directory holds a run with other settings (it names them), or cannot be written.
    pub fn open(&self, config: &impl Serialize) -> Result<()> {
        let path = self.path.join(CONFIG);
        if path.exists() {
            let differing = self.differing(config)?;
            ensure!(
                differing.is_empty(),
                "{} holds a run of another configuration:\n  {}\nNothing was changed. Choose another folder with --out, or move that \
                 run away.",
                self.path.display(),
                differing.join("\n  ")
            );
            return Ok(());
        }
        fs::create_dir_all(&self.path).with_context(|| {
            format!("cannot make the run directory {}; choose another place with --out", self.path.display())
        })?;
        write_json(&path, config)
    }

    /// Lists where `config.json` asks for something else than `config`. Its member `settings` decides; the others (where the data came from,
    /// versions) only tell how the run was made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn differing(&self, config: &impl Serialize) -> Result<Vec<String>> {
        let stored: Value = read_json(&self.path.join(CONFIG))?;
        // Through text, as the stored one went, so that numbers are rounded alike.
        let requested: Value = serde_json::from_str(&serde_json::to_string(config)?)?;
        let mut differing = Vec::new();
        differences("", &stored["settings"], &requested["settings"], &mut differing);
        // Of the images, where they came from says more than two checksums.
        if differing.iter().any(|line| line.starts_with("train_identity") || line.starts_with("test_identity")) {
            let source = |config: &Value| serde_json::from_value::<DataSource>(config["data_source"].clone());
            if let (Ok(stored), Ok(requested)) = (source(&stored), source(&requested))
                && stored.to_string() != requested.to_string()
            {
                differing.insert(0, format!("the images: stored {stored}, requested {requested}"));
            }
        }
        Ok(differing)
    }

    /// Keeps other processes from training this run until the lock is dropped.
    ///
    /// # Errors
    /// When another process trains it.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.path.join(LOCK);
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another process trains the run in {}; wait for it, or choose another folder with --out",
                    self.path.display()
                )
            }
            // Some network file systems have no locks: better unguarded than not at all.
            Err(TryLockError::Error(_)) => Ok(RunLock { _file: file }),
        }
    }

    /// Whether another process trains it.
    pub(crate) fn is_locked(&self) -> bool {
        let file = File::open(self.path.join(LOCK));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Removes what a process that was killed left half written. Only while the run is [locked](Self::lock).
    pub(crate) fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                // Only space is lost when it stays.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// What `config.json` says.
    ///
    /// # Errors
    /// When it is missing or not what was expected.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        read_json(&self.path.join(CONFIG))
    }

    /// What `result.json` says; `None` while the run is not finished.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn result<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.path.join(RESULT);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Writes `result.json` and removes what only a run that goes on needs.
    ///
    /// # Errors
    /// When the disk is full or the directory not writable.
    pub fn finish(&self, result: &impl Serialize) -> Result<()> {
        write_json(&self.path.join(RESULT), result)?;
        // Only space is lost when they stay.
        let _ = fs::remove_file(self.path.join(CHECKPOINT));
        let _ = fs::remove_file(self.path.join(LOCK));
        Ok(())
    }

    /// The tensors of the last checkpoint; `None` before the first.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn checkpoint(&self) -> Result<Option<HashMap<String, Tensor>>> {
        let path = self.path.join(CHECKPOINT);
        if !path.exists() {
            return Ok(None);
        }
        let tensors = load_tensors(&path).and_then(|mut tensors| {
            // Those of programs from before there was a checksum have none.
            if let Some(stored) = tensors.remove(CHECKSUM) {
                let sum = checksum(&tensors)?;
                ensure!(stored.to_vec1::<u8>()? == sum, "{} is damaged: its checksum differs", path.display());
            }
            Ok(tensors)
        });
        tensors.context("remove the checkpoint to start the run from its beginning").map(Some)
    }

    /// Replaces the checkpoint. A checksum of the tensors goes with them, so that no damaged one is trained on.
    ///
    /// # Errors
    /// When the disk is full or the directory not writable; the last checkpoint is still there then.
    pub fn save_checkpoint(&self, mut tensors: HashMap<String, Tensor>) -> Result<()> {
        let sum = Tensor::new(checksum(&tensors)?, &Device::Cpu)?;
        tensors.insert(CHECKSUM.into(), sum);
        self.save_tensors(CHECKPOINT, &tensors)
    }

    /// Writes tensors to a safetensors file of that name.
    ///
    /// # Errors
    /// When the disk is full or the directory not writable.
    pub fn save_tensors(&self, name: &str, tensors: &HashMap<String, Tensor>) -> Result<()> {
        write_atomically(&self.path.join(name), |path| Ok(candle_core::safetensors::save(tensors, path)?))
    }

    /// Reads a safetensors file of that name.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load_tensors(&self, name: &str) -> Result<HashMap<String, Tensor>> {
        let path = self.path.join(name);
        if !path.exists() {
            if self.has(RESULT) {
                bail!(
                    "{} is missing: the run is finished, but this record of it has no such file. Train it again into another folder (--out)",
                    path.display()
                )
            }
            let steps = self.metrics()?.pop().and_then(|line| line["step"].as_u64()).unwrap_or(0);
            bail!(
                "{} is missing. Some {steps} steps of the run were done: if it was stopped, the command that trains it goes on",
                path.display()
            )
        }
        load_tensors(&path).context("it is damaged: move it away, and where it is needed train the run again")
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Opens `metrics.jsonl` for the steps from `step` on: lines of later steps, which a killed run had written after its last
    /// checkpoint, are dropped, and so is a half-written last line.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn metrics_from(&self, step: usize) -> Result<MetricsLog> {
        let path = self.path.join(METRICS);
        let mut kept = String::new();
        for (text, line) in self.metrics_lines()? {
            if line["step"].as_u64().is_some_and(|s| s <= step as u64) {
                kept.push_str(&text);
                kept.push('\n');
            }
        }
        write_atomically(&path, |to| Ok(fs::write(to, &kept)?))?;
        let file = OpenOptions::new().append(true).open(&path);
        Ok(MetricsLog { file: file.with_context(|| format!("cannot write {}", path.display()))?, path })
    }

    /// The lines of `metrics.jsonl`; none if there is no such file. A damaged or half-written line is left out.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn metrics(&self) -> Result<Vec<Value>> {
        Ok(self.metrics_lines()?.into_iter().map(|(_, line)| line).collect())
    }

    /// The same, and each as it is written.
    fn metrics_lines(&self) -> Result<Vec<(String, Value)>> {
        let path = self.path.join(METRICS);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = bytes.split(|&byte| byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
        Ok(lines.filter_map(|line| Some((line.to_string(), serde_json::from_str(line).ok()?))).collect())
    }
}

/// A run directory that is this process's alone.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// The open `metrics.jsonl`: one JSON object a logged step.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Appends a line and flushes it.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn push(&mut self, line: &Value) -> Result<()> {
        let written = self.file.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.file.flush());
        written.with_context(|| format!("cannot write {}; is the disk full?", self.path.display()))
    }
}

fn load_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load(path, &Device::Cpu).with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 of the tensors' names, types, shapes and values.
fn checksum(tensors: &HashMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut sum = Sha256::new();
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    for name in names {
        let tensor = &tensors[name];
        sum.update(format!("{name} {:?} {:?} ", tensor.dtype(), tensor.dims()));
        let values = tensor.flatten_all()?;
        match tensor.dtype() {
            DType::F32 => values.to_vec1::<f32>()?.iter().for_each(|value| sum.update(value.to_le_bytes())),
            DType::F64 => values.to_vec1::<f64>()?.iter().for_each(|value| sum.update(value.to_le_bytes())),
            DType::I64 => values.to_vec1::<i64>()?.iter().for_each(|value| sum.update(value.to_le_bytes())),
            DType::U32 => values.to_vec1::<u32>()?.iter().for_each(|value| sum.update(value.to_le_bytes())),
            DType::U8 => sum.update(values.to_vec1::<u8>()?),
            other => bail!("a checkpoint holds no tensors of {other:?}, got {name}"),
        }
    }
    Ok(sum.finalize().to_vec())
}

/// Lists where two JSON values differ: `path: stored x, requested y`.
fn differences(path: &str, stored: &Value, requested: &Value, found: &mut Vec<String>) {
    match (stored, requested) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
            keys.sort();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: stored {a}, requested {b}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path().join("a/b"));
        (dir, run)
    }

    #[test]
    fn another_configuration_is_refused_and_named() -> Result<()> {
        let (_dir, run) = run();
        run.open(&json!({"settings": {"steps": 10, "lr": 0.1}, "source": "hub"}))?;
        run.open(&json!({"settings": {"steps": 10, "lr": 0.1}, "source": "embedded"}))?;
        let error = run.open(&json!({"settings": {"steps": 20, "lr": 0.1}})).unwrap_err().to_string();
        assert!(error.contains("steps: stored 10, requested 20") && !error.contains("lr:"), "{error}");
        assert_eq!(run.config::<Value>()?["source"], "hub");
        Ok(())
    }

    #[test]
    fn other_images_are_told_by_where_they_came_from() -> Result<()> {
        let (_dir, run) = run();
        let config =
            |identity: &str, source: Value| json!({"settings": {"train_identity": identity}, "data_source": source});
        let source = json!({"kind": "synthetic", "what": "creatures v2", "reason": "asked for"});
        run.open(&config("ab", source))?;
        let source = json!({"kind": "hub", "repository": "a/birds", "commit": "0123456789"});
        let error = run.open(&config("cd", source)).unwrap_err().to_string();
        assert!(error.contains("creatures v2") && error.contains("a/birds"), "{error}");
        Ok(())
    }

    #[test]
    fn a_checkpoint_with_a_flipped_bit_is_refused() -> Result<()> {
        let (_dir, run) = run();
        run.open(&json!({}))?;
        let tensors = HashMap::from([
            ("w".to_string(), Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?),
            ("progress".to_string(), Tensor::new(&[4f64], &Device::Cpu)?),
        ]);
        run.save_checkpoint(tensors.clone())?;
        let read = run.checkpoint()?.unwrap();
        assert_eq!((read.len(), read["w"].to_vec1::<f32>()?), (2, vec![1., 2., 3.]));
        let path = run.path().join(CHECKPOINT);
        let whole = fs::read(&path)?;
        let mut bytes = whole.clone();
        let at = bytes.windows(4).position(|window| window == 2f32.to_le_bytes()).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes)?;
        let error = format!("{:#}", run.checkpoint().unwrap_err());
        assert!(error.contains("remove the checkpoint") && error.contains("checksum"), "{error}");
        // As older programs wrote them.
        run.save_tensors(CHECKPOINT, &tensors)?;
        assert_eq!(run.checkpoint()?.unwrap().len(), 2);
        Ok(())
    }

    #[test]
    fn metrics_behind_the_checkpoint_and_half_lines_are_dropped() -> Result<()> {
        let (_dir, run) = run();
        run.open(&json!({}))?;
        let mut log = run.metrics_from(0)?;
        for step in [50, 100, 150] {
            log.push(&json!({"step": step}))?;
        }
        let damaged = b"\xff\xfe\n{\"step\": 75, \"loss\": 2.0903889566659926}\n{\"step\": 1";
        fs::write(run.path().join(METRICS), [&fs::read(run.path().join(METRICS))?, &damaged[..]].concat())?;
        run.metrics_from(100)?.push(&json!({"step": 125}))?;
        let steps: Vec<_> = run.metrics()?.iter().map(|line| line["step"].as_u64()).collect();
        assert_eq!(steps, [Some(50), Some(100), Some(75), Some(125)]);
        assert!(fs::read_to_string(run.path().join(METRICS))?.contains("2.0903889566659926"), "as it was written");
        Ok(())
    }

    #[test]
    fn what_a_killed_process_left_is_removed() -> Result<()> {
        let (_dir, run) = run();
        run.open(&json!({}))?;
        let left = run.path().join(format!("{CHECKPOINT}.4242.part"));
        fs::write(&left, "half")?;
        run.remove_leftovers();
        assert!(!left.exists() && run.has(CONFIG));
        Ok(())
    }

    #[test]
    fn only_one_process_trains_a_run() -> Result<()> {
        let (_dir, run) = run();
        run.open(&json!({}))?;
        assert!(!run.is_locked());
        let lock = run.lock()?;
        assert!(run.is_locked() && run.lock().unwrap_err().to_string().contains("another process trains"));
        drop(lock);
        assert!(!run.is_locked());
        run.lock().map(drop)
    }

    #[test]
    fn damaged_files_are_named() {
        let (_dir, run) = run();
        run.open(&json!({})).unwrap();
        fs::write(run.path().join(CHECKPOINT), "not tensors").unwrap();
        assert!(format!("{:#}", run.checkpoint().unwrap_err()).contains(CHECKPOINT));
        fs::write(run.path().join(RESULT), "{").unwrap();
        assert!(format!("{:#}", run.result::<Value>().unwrap_err()).contains(RESULT));
    }
}
