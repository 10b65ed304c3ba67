//! PyTorch's side: one Python process that is asked for milliseconds and sleeps in between.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The Python process.
pub struct Peer {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub hello: Hello,
}

/// What it says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Hello {
    pub torch: String,
    pub python: String,
    pub threads: usize,
    /// Today, year-month-day.
    pub date: String,
}

/// What it says of a row.
#[derive(Debug, Deserialize)]
pub struct Opened {
    /// The output's shape.
    pub shape: Vec<usize>,
    /// Elements that get a gradient; a network's parameters.
    pub params: usize,
}

impl Peer {
    /// Starts the interpreter with `threads` threads for PyTorch.
    pub fn start(python: &Path, threads: usize) -> Result<Self> {
        // Cargo runs benches in their package's folder; whoever types a path means the repository's.
        let python = if python.components().count() > 1 { repository().join(python) } else { python.to_path_buf() };
        let mut process = Command::new(&python)
            .arg(repository().join("stn-experiments/benches/peers.py"))
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| missing(&python, "cannot be started", &error.into()))?;
        let (requests, answers) = (process.stdin.take(), process.stdout.take().context("Python has no output")?);
        let mut answers = BufReader::new(answers);
        let hello = read(&mut answers).map_err(|error| missing(&python, "cannot import torch", &error))?;
        let hello: Hello = serde_json::from_value(hello)?;
        ensure!(hello.threads == threads, "PyTorch must run {threads} threads, it runs {}", hello.threads);
        Ok(Self { process, requests, answers, hello })
    }

    /// Builds a row.
    pub fn open(&mut self, name: &str, work: &Value) -> Result<Opened> {
        Ok(serde_json::from_value(self.ask(&json!({"open": work, "name": name}))?)?)
    }

    /// Runs a row `warm` times, and then `reps` times by the clock: milliseconds.
    pub fn time(&mut self, name: &str, warm: usize, reps: usize) -> Result<Vec<f64>> {
        let said = self.ask(&json!({"time": reps, "warm": warm, "name": name}))?;
        Ok(serde_json::from_value(said["ms"].clone())?)
    }

    /// Forgets a row.
    pub fn close(&mut self, name: &str) -> Result<()> {
        self.ask(&json!({"close": name})).map(|_| ())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let requests = self.requests.as_mut().context("Python has no input")?;
        writeln!(requests, "{request}").context("Python is gone")?;
        requests.flush()?;
        read(&mut self.answers)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.requests = None; // the end of its input is its end
        let _ = self.process.wait();
    }
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(answers: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    ensure!(answers.read_line(&mut line)? > 0, "Python ended without an answer");
    let said: Value = serde_json::from_str(&line).with_context(|| format!("Python said {line}"))?;
    match &said["error"] {
        Value::String(error) => bail!("{error}"),
        _ => Ok(said),
    }
}

fn missing(python: &Path, what: &str, error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{} {what}: {error}\nPyTorch is needed for this race alone. To have it, in the repository's folder:\n  \
         python3 -m venv target/venv && target/venv/bin/pip install torch\n  \
         just bench-peers --python target/venv/bin/python",
        python.display()
    )
}
