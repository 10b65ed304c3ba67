//! ImageNet's weights of a backbone, for all runs of a setting.

use crate::data::{Hub, hex};
use crate::models::backbone::{BackboneKind, backbone_weights};
use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// ImageNet's weights by their published names.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) tensors: HashMap<String, Tensor>,
    /// Where they came from, in words.
    pub(super) from: String,
}

/// ImageNet's weights of a backbone: from the user's file, else from the hub.
pub(super) fn weights(hub: &Hub, kind: BackboneKind, file: Option<&Path>, offline: bool) -> Result<Option<Weights>> {
    if kind == BackboneKind::Small {
        return Ok(None);
    }
    let (file, from): (PathBuf, String) = match (file, kind.repository()) {
        (Some(file), _) => (file.to_path_buf(), users_file(file)?),
        (None, Some(repository)) => {
            let fetched = hub.file(&repository, "model.safetensors", offline);
            let fetched =
                fetched.with_context(|| format!("ImageNet's weights of {kind} (--weights takes a file of yours)"))?;
            let file = fetched.files.into_iter().next().context("no file of weights")?;
            (file, format!("hub {}@{}", repository.id, fetched.commit))
        }
        (None, None) => bail!("nobody hosts the weights of {kind}; name a safetensors file of yours with --weights"),
    };
    Ok(Some(Weights { tensors: backbone_weights(kind, &file)?, from }))
}

/// A file of the user's in words that stay true where its name is given to another.
fn users_file(file: &Path) -> Result<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bytes = std::fs::read(file).with_context(|| format!("{name}: cannot read the file of weights"))?;
    Ok(format!("the user's file {name}, sha256 {}", hex(&Sha256::digest(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_checksum() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("mine.safetensors");
        std::fs::write(&file, "abc")?;
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(users_file(&file)?, format!("the user's file mine.safetensors, sha256 {sha256}"));
        let error = users_file(&folder.path().join("none")).unwrap_err().to_string();
        assert_eq!(error, "none: cannot read the file of weights");
        Ok(())
    }

    #[test]
    fn weights_that_nobody_hosts_are_asked_for() {
        let hub = Hub::new("http://127.0.0.1:1", "/nonexistent");
        let error = weights(&hub, BackboneKind::BnInception, None, true).unwrap_err().to_string();
        assert_eq!(error, "nobody hosts the weights of bn-inception; name a safetensors file of yours with --weights");
        let error = format!("{:#}", weights(&hub, BackboneKind::EfficientNetLite0, None, true).unwrap_err());
        assert!(error.contains("--weights takes a file of yours") && error.contains("not in the cache"), "{error}");
    }
}
