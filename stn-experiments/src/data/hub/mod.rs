//! Single files of the Hugging Face hub: at a pinned revision, verified, cached, and offline afterwards.
//!
//! Files lie where every hub client keeps them (`HF_HUB_CACHE`, or `HF_HOME/hub`), so a copy that another tool has
//! fetched is used as it is. A file that is in the cache and whose hash is right costs no network at all.
//!
//! Every file is verified before it is used, fresh or cached (see [`verify`]): `hf-hub` 1.0 checks neither the status of
//! the final GET nor size or hash, so the body of a 403 could stay in the cache as a data file for ever. What does not
//! match is removed, with a notice, and fetched once more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hf_hub::{HFClient, HFClientSync, HFRepositorySync, RepoType, split_id};

mod verify;
mod watch;

use watch::{Watch, within};

/// Says what a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data.
    Dataset,
    /// Weights.
    Model,
}

/// Names a repository of the hub at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`.
    pub id: &'static str,
    /// A commit of 40 hexadecimal digits; or a branch, of which the cached copy is taken where there is one.
    pub revision: &'static str,
}

impl Repository {
    /// Names a dataset.
    pub const fn dataset(id: &'static str, revision: &'static str) -> Self {
        Self { kind: Kind::Dataset, id, revision }
    }

    /// Names a model.
    pub const fn model(id: &'static str, revision: &'static str) -> Self {
        Self { kind: Kind::Model, id, revision }
    }
}

/// Holds verified files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The files in the cache, in the order of their names.
    pub files: Vec<PathBuf>,
    /// The commit that they belong to, 40 hexadecimal digits.
    pub commit: String,
}

/// Says which hub is asked, where its files are kept, and how long to wait.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Base URL.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Longest wait for the hub's first answer.
    pub answer: Duration,
    /// Longest pause between two bytes of a download.
    pub stall: Duration,
}

impl Hub {
    /// Names a hub and a cache folder; waits 8 s for an answer, 60 s for the next byte.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into(),
            cache: cache.into(),
            answer: Duration::from_secs(8),
            stall: Duration::from_secs(60),
        }
    }

    /// Reads `HF_ENDPOINT`, and the cache's place from `HF_HUB_CACHE` or `HF_HOME`, as every hub client does.
    pub fn from_env() -> Self {
        let endpoint = std::env::var("HF_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|_| "https://huggingface.co".into());
        Self::new(endpoint, hf_hub::resolve_cache_dir())
    }

    /// Gets the parquet files `{folder}/{split}-*.parquet` of a dataset; with `offline`, from the cache alone.
    ///
    /// # Errors
    ///
    /// When there are no such files or not all shards of them, the hub does not answer, or a file is not what the hub says it
    /// is, twice.
    pub fn split(&self, repository: &Repository, folder: &str, split: &str, offline: bool) -> Result<Fetched> {
        let wanted = format!("{folder}/{split}-*.parquet");
        let mut names = self.cached_names(repository, folder, split);
        if names.is_empty() {
            ensure!(!offline, not_cached(repository, &wanted));
            names = self.list(repository)?;
            names.retain(|name| shard(name, folder, split).is_some());
            names.sort();
            ensure!(
                is_complete(&names, folder, split),
                "{}: expected {wanted} with all its shards, got [{}]",
                repository.id,
                names.join(", ")
            );
        }
        let fetched = names.iter().map(|name| self.file(repository, name, offline));
        let fetched = fetched.collect::<Result<Vec<_>>>()?;
        let commit = fetched.first().map(|f| f.commit.clone()).unwrap_or_default();
        ensure!(
            fetched.iter().all(|f| f.commit == commit),
            "{}: shards of several commits; ask for a commit instead of `{}`",
            repository.id,
            repository.revision
        );
        let files = fetched.into_iter().flat_map(|f| f.files).collect();
        Ok(Fetched { files, commit })
    }

    /// Gets one file; with `offline`, from the cache alone.
    ///
    /// # Errors
    ///
    /// As [`Hub::split`].
    pub fn file(&self, repository: &Repository, name: &str, offline: bool) -> Result<Fetched> {
        let place = format!("{} {name}", repository.id);
        if let Some((path, commit)) = self.cached(repository, name) {
            match verify::verify(&path, &self.blobs(repository), None) {
                Ok(()) => return Ok(Fetched { files: vec![path], commit }),
                Err(error) if offline => {
                    bail!("{place}: the cached file is spoilt: {error:#}; fetch it again without --offline")
                }
                Err(error) => {
                    eprintln!("{place}: removing the cached file: {error:#}");
                    verify::remove(&path);
                }
            }
        }
        ensure!(!offline, not_cached(repository, name));
        let client = self.client()?;
        let (owner, repo) = split_id(repository.id);
        match repository.kind {
            Kind::Dataset => self.download(client.dataset(owner, repo), repository, name),
            Kind::Model => self.download(client.model(owner, repo), repository, name),
        }
        .with_context(|| place)
    }

    /// Downloads and verifies one file; a second time where the first is not what the hub says it is.
    fn download<T: RepoType>(
        &self,
        handle: HFRepositorySync<T>,
        repository: &Repository,
        name: &str,
    ) -> Result<Fetched> {
        let mut again = false;
        loop {
            let watch = Arc::new(Watch::new(name));
            let (handle, seen, file) = (handle.clone(), watch.clone(), name.to_string());
            let revision = repository.revision;
            let got = within(self.stall, &watch, move || {
                let download = handle.download_file().filename(file).revision(revision);
                download.force_download(again).progress(seen).send()
            });
            watch.finish();
            let verified = match got? {
                Ok(path) => verify::verify(&path, &self.blobs(repository), watch.size())
                    .inspect_err(|_| verify::remove(&path))
                    .context("not the file that the hub announced"),
                Err(error) => Err(error.into()),
            };
            match (verified, self.cached(repository, name)) {
                (Ok(()), Some((path, commit))) => return Ok(Fetched { files: vec![path], commit }),
                (Ok(()), None) => bail!("was downloaded, but is not in the cache"),
                (Err(error), _) if again => {
                    return Err(error.context(
                        "the download failed twice and was removed; try again later, or look for a proxy or \
                         a login page between here and the hub",
                    ));
                }
                (Err(error), _) => {
                    eprintln!("{} {name}: {error:#}; fetching it again", repository.id);
                    again = true;
                }
            }
        }
    }

    /// Lists the repository's files.
    fn list(&self, repository: &Repository) -> Result<Vec<String>> {
        let client = self.client()?;
        let (owner, name) = split_id(repository.id);
        let revision = repository.revision;
        let watch = Arc::new(Watch::silent());
        let siblings = match repository.kind {
            Kind::Dataset => {
                let handle = client.dataset(owner, name);
                let ask = move || Ok(handle.info().revision(revision).send()?.siblings);
                within(self.answer, &watch, ask)
            }
            Kind::Model => {
                let handle = client.model(owner, name);
                let ask = move || Ok(handle.info().revision(revision).send()?.siblings);
                within(self.answer, &watch, ask)
            }
        };
        let siblings = siblings.and_then(|answer: hf_hub::HFResult<_>| Ok(answer?));
        let siblings = siblings.with_context(|| format!("{}: no answer from the hub", repository.id))?;
        Ok(siblings.unwrap_or_default().into_iter().map(|s| s.rfilename).collect())
    }

    /// Builds a client that gives up soon: one more try a request.
    fn client(&self) -> Result<HFClientSync> {
        HFClient::builder()
            .endpoint(&self.endpoint)
            .cache_dir(&self.cache)
            .retry_max_attempts(1)
            .build_sync()
            .context("cannot set up the hub's client")
    }

    /// The repository's folder in the cache.
    fn folder(&self, repository: &Repository) -> PathBuf {
        let kind = match repository.kind {
            Kind::Dataset => "datasets",
            Kind::Model => "models",
        };
        self.cache.join(format!("{kind}--{}", repository.id.replace('/', "--")))
    }

    fn blobs(&self, repository: &Repository) -> PathBuf {
        self.folder(repository).join("blobs")
    }

    /// The cached snapshot and its commit. Read without `hf-hub`, so that cached data need no client, TLS or certificates.
    fn snapshot(&self, repository: &Repository) -> Option<(PathBuf, String)> {
        let (folder, revision) = (self.folder(repository), repository.revision);
        let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = if is_commit {
            revision.to_string()
        } else {
            let commit = fs::read_to_string(folder.join("refs").join(revision)).ok()?;
            commit.trim().to_string()
        };
        Some((folder.join("snapshots").join(&commit), commit))
    }

    fn cached(&self, repository: &Repository, name: &str) -> Option<(PathBuf, String)> {
        let (snapshot, commit) = self.snapshot(repository)?;
        let path = snapshot.join(name);
        // A link to a blob that is gone does not exist.
        path.exists().then_some((path, commit))
    }

    /// The split's cached files, or none when a shard is missing.
    fn cached_names(&self, repository: &Repository, folder: &str, split: &str) -> Vec<String> {
        let snapshot = self.snapshot(repository);
        let entries = snapshot.and_then(|(dir, _)| fs::read_dir(dir.join(folder)).ok());
        let names = entries.into_iter().flatten().filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(format!("{folder}/{name}"))
        });
        let mut names: Vec<_> = names.filter(|name| shard(name, folder, split).is_some()).collect();
        names.sort();
        let whole = is_complete(&names, folder, split);
        if whole { names } else { Vec::new() }
    }
}

/// Reads `{folder}/{split}-00001-of-00003.parquet` as (1, 3).
fn shard(name: &str, folder: &str, split: &str) -> Option<(usize, usize)> {
    let name = name.strip_prefix(folder)?.strip_prefix('/')?;
    let name = name.strip_prefix(split)?.strip_prefix('-')?;
    let (index, count) = name.strip_suffix(".parquet")?.split_once("-of-")?;
    Some((index.parse().ok()?, count.parse().ok()?))
}

/// Says whether sorted names are shards 0..n of n.
fn is_complete(names: &[String], folder: &str, split: &str) -> bool {
    let expected = (0..names.len()).map(|index| Some((index, names.len())));
    !names.is_empty() && names.iter().map(|name| shard(name, folder, split)).eq(expected)
}

fn not_cached(repository: &Repository, name: &str) -> String {
    format!(
        "{} {name} is not in the cache at revision {}; fetch it once without --offline",
        repository.id, repository.revision
    )
}

/// Says whether `path` ends as a parquet file does.
fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards() {
        assert_eq!(shard("mnist/train-00001-of-00003.parquet", "mnist", "train"), Some((1, 3)));
        for other in [
            "mnist/test-00000-of-00001.parquet",
            "fashion/train-00000-of-00001.parquet",
            "mnist/train-00000-of-00001.json",
            "mnist/../train-00000-of-00001.parquet",
            "mnist/train-00000-of-../x.parquet",
            "mnist/train.parquet",
        ] {
            assert_eq!(shard(other, "mnist", "train"), None, "{other}");
        }
        let names = |range: std::ops::Range<usize>, n: usize| -> Vec<_> {
            range.map(|i| format!("d/s-{i:05}-of-{n:05}.parquet")).collect()
        };
        assert!(is_complete(&names(0..3, 3), "d", "s"));
        assert!(!is_complete(&names(0..2, 3), "d", "s"));
        assert!(!is_complete(&names(1..3, 2), "d", "s"));
        assert!(!is_complete(&[], "d", "s"));
    }
}
