//! Single files of the Hugging Face hub: at a pinned revision, verified, cached, and offline afterwards.
//!
//! Files lie where every hub client keeps them (`HF_HUB_CACHE`, or `HF_HOME/hub`), so a copy that another tool has
//! fetched is used as it is. A file that is in the cache and whose hash is right costs no network at all.
//!
//! Every file is verified by its hash before it is used, fresh or cached: `hf-hub` 1.0 checks neither the status of
//! the final GET nor size or hash, so the body of a 403 could stay in the cache as a data file for ever. What does not
//! match is removed, with a notice, and fetched once more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, HFResult, RepoType, split_id};

mod cache;
mod shards;
mod verify;
mod watch;

use super::stand_in::is_of_the_disk;
pub(super) use shards::shards_in;
use shards::{is_complete, shard};
use verify::{Copies, verify};
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
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into());
        Self::new(endpoint, hf_hub::resolve_cache_dir())
    }

    /// Gets the parquet files `{folder}/{split}-*.parquet` of a dataset; with `offline`, from the cache alone.
    ///
    /// # Errors
    ///
    /// When there are no such files or not all shards of them, the hub does not answer, or a file is not what the hub says it
    /// is, twice.
    pub fn split(&self, repository: &Repository, folder: &str, split: &str, offline: bool) -> Result<Fetched> {
        let names = self.names(repository, folder, split, offline)?;
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

    /// Names the parquet files `{folder}/{split}-*.parquet` of a dataset, in order; with `offline`, those in the cache.
    ///
    /// # Errors
    ///
    /// When there are no such files or not all shards of them, or the hub does not answer.
    pub fn names(&self, repository: &Repository, folder: &str, split: &str, offline: bool) -> Result<Vec<String>> {
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
        Ok(names)
    }

    /// Gets one file; with `offline`, from the cache alone.
    ///
    /// # Errors
    ///
    /// As [`Hub::split`].
    pub fn file(&self, repository: &Repository, name: &str, offline: bool) -> Result<Fetched> {
        let place = format!("{} {name}", repository.id);
        if let Some((path, commit)) = self.cached(repository, name) {
            match verify(&path, &self.blobs(repository), None, Copies::Taken) {
                Ok(()) => return Ok(Fetched { files: vec![path], commit }),
                Err(error) if offline => {
                    bail!("{place}: the cached file is spoilt: {error:#}; fetch it again without --offline")
                }
                // What cannot be read may be whole.
                Err(error) if error.chain().any(|cause| cause.is::<std::io::Error>()) => {
                    return Err(error.context(format!("{place}: the cached file {} cannot be read", path.display())));
                }
                Err(error) => {
                    crate::warn!("{place}: removing the cached file: {error:#}");
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
            let watch = Arc::new(Watch::new(name, self.answer, self.stall));
            let (handle, seen, file) = (handle.clone(), watch.clone(), name.to_string());
            let revision = repository.revision;
            let got = within(&watch, move || {
                let download = handle.download_file().filename(file).revision(revision);
                download.force_download(again).progress(seen).send()
            });
            watch.finish();
            let verified = match got? {
                Ok(path) => verify(&path, &self.blobs(repository), watch.size(), Copies::Refused)
                    .inspect_err(|_| verify::remove(&path))
                    .context("not the file that the hub announced"),
                Err(error) => Err(self.plain(error)),
            };
            match (verified, self.cached(repository, name)) {
                (Ok(()), Some((path, commit))) => return Ok(Fetched { files: vec![path], commit }),
                (Ok(()), None) => bail!("was downloaded, but is not in the cache"),
                (Err(error), _) if is_of_the_disk(&error) => {
                    return Err(error.context(format!(
                        "cannot be kept in the hub's cache {}; HF_HOME names another place",
                        self.cache.display()
                    )));
                }
                (Err(error), _) if again => {
                    return Err(error.context(
                        "could not be downloaded in two tries, and nothing of it was kept; try again later, or look for a \
                         missing network, a proxy or a login page between here and the hub",
                    ));
                }
                (Err(error), _) => {
                    crate::warn!("{} {name}: {error:#}; fetching it again", repository.id);
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
        let watch = Arc::new(Watch::silent(self.answer));
        let siblings = match repository.kind {
            Kind::Dataset => {
                let handle = client.dataset(owner, name);
                let ask = move || Ok(handle.info().revision(revision).send()?.siblings);
                within(&watch, ask)
            }
            Kind::Model => {
                let handle = client.model(owner, name);
                let ask = move || Ok(handle.info().revision(revision).send()?.siblings);
                within(&watch, ask)
            }
        };
        let siblings = siblings.and_then(|answer: HFResult<_>| answer.map_err(|error| self.plain(error)));
        let siblings = siblings.with_context(|| format!("{}: no list of files from the hub", repository.id))?;
        Ok(siblings.unwrap_or_default().into_iter().map(|s| s.rfilename).collect())
    }

    /// Says in one line why a request failed; the chain below it repeats itself five times over.
    fn plain(&self, error: HFError) -> anyhow::Error {
        match error {
            HFError::Request { source, .. } => {
                let error = anyhow::Error::from(source);
                anyhow!("request to {} failed: {}", self.endpoint, error.root_cause())
            }
            // As it is: wrapped, it would not be found in the chain of causes.
            HFError::Io(error) => error.into(),
            error => error.into(),
        }
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
}

fn not_cached(repository: &Repository, name: &str) -> String {
    format!(
        "{} {name} is not in the cache at revision {}; fetch it once without --offline",
        repository.id, repository.revision
    )
}
