//! Compares a cached file with what its name in the cache promises.
//!
//! In the hub's cache a file of a snapshot is a link to a blob, and the blob is named after the hub's etag, which for
//! large files (parquet and weights always) is the SHA-256 of the content. So a file carries its own checksum, and
//! hashing it (some hundred megabytes a second) is all it takes, years later and offline.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::data::hex;

/// Checks hash, size and, of a parquet file, the magic at both ends.
///
/// Where links are not available the cache holds copies that do not say their blob; then a blob of the file's own hash must exist, or,
/// of `copies` that another tool put there, it is as it is: of these only size and magic are checked, as of small files that the hub keeps in git.
///
/// # Errors
///
/// When something differs (what, expected, got), or the file cannot be read.
pub(super) fn verify(path: &Path, blobs: &Path, size: Option<u64>, copies: Copies) -> Result<()> {
    let mut file = File::open(path).context("cannot open the file")?;
    let (sha256, length, start) = hash(&mut file).context("cannot read the file")?;
    let got = format!("{length} bytes{start}");
    if let Some(size) = size.filter(|&size| size > 0) {
        ensure!(length == size, "size must be {size} bytes, got {got}");
    }
    let etag = fs::read_link(path).ok().and_then(|blob| {
        let name = blob.file_name()?.to_str()?;
        Some(name.to_string())
    });
    match etag {
        Some(etag) if is_sha256(&etag) => ensure!(sha256 == etag, "sha256 must be {etag}, got {sha256} ({got})"),
        Some(_) => {}
        None if copies == Copies::Taken && !has_blobs(blobs) => {}
        None => {
            ensure!(blobs.join(&sha256).exists(), "sha256 must be that of a blob in the cache, got {sha256} ({got})")
        }
    }
    if path.extension().is_some_and(|extension| extension == "parquet") {
        let mut ends = [[0; 4]; 2];
        let mut read = || {
            file.seek(SeekFrom::Start(0))?;
            file.read_exact(&mut ends[0])?;
            file.seek(SeekFrom::End(-4))?;
            file.read_exact(&mut ends[1])
        };
        let whole = read().is_ok() && length >= 12 && ends == [*b"PAR1"; 2];
        ensure!(whole, "a parquet file must start and end with PAR1, got {got}");
    }
    Ok(())
}

/// Whether a file counts that is neither a link to a blob nor has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// Where no file of the repository has a blob: a tool that makes no links put them there, and nothing tells their checksum.
    Taken,
    /// No: it was fetched by us.
    Refused,
}

fn has_blobs(blobs: &Path) -> bool {
    fs::read_dir(blobs).is_ok_and(|mut blobs| blobs.next().is_some())
}

/// Removes a file of a snapshot and the blob that it links to, as far as they are there.
pub(super) fn remove(path: &Path) {
    if let (Ok(blob), Some(folder)) = (fs::read_link(path), path.parent()) {
        let _ = fs::remove_file(folder.join(blob));
    }
    let _ = fs::remove_file(path);
}

/// Hashes a file; also its length, and in words how it starts if that is text.
fn hash(file: &mut File) -> std::io::Result<(String, u64, String)> {
    let (mut hash, mut length, mut start) = (Sha256::new(), 0, Vec::new());
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        if length == 0 {
            start.extend_from_slice(&chunk[..n.min(40)]);
        }
        hash.update(&chunk[..n]);
        length += n as u64;
    }
    // An error's body is worth quoting, binary data are not.
    let text = String::from_utf8(start).ok().filter(|text| !text.is_empty() && !text.contains('\0'));
    let start = text.map(|text| format!(" that start with `{}`", text.escape_debug())).unwrap_or_default();
    Ok((hex(&hash.finalize()), length, start))
}

fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit())
}
