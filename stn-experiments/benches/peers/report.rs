//! The table on the screen, and the file.

use crate::derived::{Derived, Target};
use crate::python::Hello;
use crate::race::Measured;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use stn_experiments::run::versions;

pub const HEADING: &str = "\n\
| row | ours, ms | PyTorch, ms | PyTorch / ours | target | |\n\
|---|---|---|---|---|---|";

pub const DERIVED_HEADING: &str = "\n\
| | ours | PyTorch | target | |\n\
|---|---|---|---|---|";

/// A row of the table.
pub fn line(measured: &Measured) -> String {
    let Measured { row, ours_ms, pytorch_ms } = measured;
    let ratio = pytorch_ms / ours_ms;
    let (target, verdict) = match row.target {
        Some(target) => (format!("{target}"), if ratio >= target { "met" } else { "missed" }),
        None => ("-".into(), ""),
    };
    format!("| {} | {ours_ms:.2} | {pytorch_ms:.2} | {ratio:.2} | {target} | {verdict} |", row.name)
}

/// A line below the table.
pub fn derived_line(line: &Derived) -> String {
    let Derived { name, unit, ours, pytorch, target } = line;
    let show = |value: f64| if value >= 1000.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") };
    let pytorch = pytorch.map_or("-".into(), show);
    let (wanted, verdict) = match *target {
        Some(Target::AtLeast(least)) => (format!(">= {least}"), if *ours >= least { "met" } else { "missed" }),
        Some(Target::AtMost(most)) => (format!("<= {most}"), if *ours <= most { "met" } else { "missed" }),
        None => ("-".into(), ""),
    };
    format!("| {name} | {} | {pytorch} | {wanted} | {verdict} |", show(*ours))
}

/// Writes the file.
pub fn write(out: &Path, measured: &[Measured], derived: &[Derived], threads: usize, peer: &Hello) -> Result<()> {
    let rows = measured.iter().map(|Measured { row, ours_ms, pytorch_ms }| {
        json!({
            "name": row.name, "ours_ms": rounded(*ours_ms), "pytorch_ms": rounded(*pytorch_ms),
            "ratio": rounded(pytorch_ms / ours_ms), "target": row.target,
        })
    });
    let derived = derived.iter().map(|Derived { name, unit, ours, pytorch, target }| {
        let (target, better) = match *target {
            Some(Target::AtLeast(least)) => (Some(least), Some("higher")),
            Some(Target::AtMost(most)) => (Some(most), Some("lower")),
            None => (None, None),
        };
        json!({
            "name": name, "unit": unit, "ours": rounded(*ours), "pytorch": pytorch.map(rounded), "target": target, "better": better,
        })
    });
    let mut all_versions = json!(versions());
    all_versions["torch"] = Value::String(peer.torch.clone());
    all_versions["python"] = Value::String(peer.python.clone());
    let file = json!({
        "rows": rows.collect::<Vec<_>>(),
        "derived": derived.collect::<Vec<_>>(),
        "machine": machine(),
        "threads": threads,
        "versions": all_versions,
    });
    let context = || format!("cannot write {}", out.display());
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    fs::write(out, format!("{file:#}\n")).with_context(context)
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The processor's name and its number of cores.
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores")
}

/// The processes that computed at a time over the last minute, where Linux tells.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
