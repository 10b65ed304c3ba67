//! Where files lie in the hub's cache: `{kind}s--{owner}--{name}/snapshots/{commit}/{file}`, each a link to a blob.
//!
//! Read without `hf-hub`, so that cached data need no client, no TLS and no certificates.

use std::fs;
use std::path::PathBuf;

use super::shards::shards_in;
use super::{Hub, Kind, Repository};

impl Hub {
    /// The repository's folder in the cache.
    fn folder(&self, repository: &Repository) -> PathBuf {
        let kind = match repository.kind {
            Kind::Dataset => "datasets",
            Kind::Model => "models",
        };
        self.cache.join(format!("{kind}--{}", repository.id.replace('/', "--")))
    }

    /// The folder of the repository's blobs, each named after its etag.
    pub(super) fn blobs(&self, repository: &Repository) -> PathBuf {
        self.folder(repository).join("blobs")
    }

    /// The cached snapshot and its commit.
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

    /// A file of the cached snapshot and its commit.
    pub(super) fn cached(&self, repository: &Repository, name: &str) -> Option<(PathBuf, String)> {
        let (snapshot, commit) = self.snapshot(repository)?;
        let path = snapshot.join(name);
        // A link to a blob that is gone does not exist.
        path.exists().then_some((path, commit))
    }

    /// The split's cached files, or none when a shard is missing.
    pub(super) fn cached_names(&self, repository: &Repository, folder: &str, split: &str) -> Vec<String> {
        let snapshot = self.snapshot(repository);
        snapshot.map_or(Vec::new(), |(dir, _)| shards_in(&dir.join(folder), "parquet", folder, split))
    }

    /// Puts a file into the cache as a hub client does where there are no links.
    #[cfg(test)]
    pub(in crate::data) fn put(
        &self,
        repository: &Repository,
        folder: &str,
        name: &str,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        use sha2::{Digest, Sha256};
        let (snapshot, _) = self.snapshot(repository).unwrap();
        fs::create_dir_all(snapshot.join(folder))?;
        fs::create_dir_all(self.blobs(repository))?;
        fs::write(snapshot.join(folder).join(name), bytes)?;
        let blob = self.blobs(repository).join(crate::data::hex(&Sha256::digest(bytes)));
        Ok(fs::write(blob, bytes)?)
    }
}
