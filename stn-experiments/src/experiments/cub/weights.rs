//! ImageNet's weights of a backbone, for all runs of a setting.

use crate::data::{Hub, hex};
use crate::models::backbone::{BackboneKind, backbone_weights};
use anyhow::{Context, Result, anyhow};
use candle_core::Tensor;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// ImageNet's weights by their published names.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) tensors: HashMap<String, Tensor>,
    /// Where they came from, in words that stay true: the repository, or the name of the user's file.
    pub(super) name: String,
    /// The file's checksum.
    pub(super) sha256: String,
}

impl Weights {
    /// Tells them from others in a few words.
    pub(super) fn label(&self) -> String {
        format!("({}, sha256 {}..)", self.name, &self.sha256[..8])
    }
}

/// ImageNet's weights of a backbone: from the user's file, else from the hub.
pub(super) fn weights(hub: &Hub, kind: BackboneKind, file: Option<&Path>, offline: bool) -> Result<Option<Weights>> {
    if kind == BackboneKind::Small {
        return Ok(None);
    }
    let (file, name): (PathBuf, String) = match (file, kind.repository()) {
        (Some(file), _) => (file.to_path_buf(), "a file of the user's".into()),
        (None, Some(repository)) => {
            let fetched = hub.file(&repository, "model.safetensors", offline);
            let fetched =
                fetched.with_context(|| format!("ImageNet's weights of {kind} (--weights takes a file of yours)"))?;
            (fetched.files.into_iter().next().context("no file of weights")?, repository.id.into())
        }
        (None, None) => return Err(nobody_hosts(kind)),
    };
    Ok(Some(Weights { tensors: backbone_weights(kind, &file)?, name, sha256: sha256(&file)? }))
}

/// Checks what can be checked of them before anything is fetched: that somebody hosts them, or that the user's file holds them.
pub(super) fn weights_at_hand(kind: BackboneKind, file: Option<&Path>) -> Result<()> {
    match (file, kind.repository()) {
        (Some(file), _) => backbone_weights(kind, file).map(drop),
        (None, None) if kind != BackboneKind::Small => Err(nobody_hosts(kind)),
        (None, _) => Ok(()),
    }
}

fn nobody_hosts(kind: BackboneKind) -> anyhow::Error {
    anyhow!("nobody hosts the weights of {kind}; name a safetensors file of yours with --weights")
}

fn sha256(file: &Path) -> Result<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bytes = std::fs::read(file).with_context(|| format!("{name}: cannot read the file of weights"))?;
    Ok(hex(&Sha256::digest(bytes)))
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
        assert_eq!(super::sha256(&file)?, sha256);
        let error = super::sha256(&folder.path().join("none")).unwrap_err().to_string();
        assert_eq!(error, "none: cannot read the file of weights");
        // A file that holds something else is refused before anything is fetched.
        let error = format!("{:#}", weights_at_hand(BackboneKind::BnInception, Some(&file)).unwrap_err());
        assert!(error.contains("mine.safetensors: not a whole safetensors file"), "{error}");
        Ok(())
    }

    #[test]
    fn weights_that_nobody_hosts_are_asked_for() {
        let hub = Hub::new("http://127.0.0.1:1", "/nonexistent");
        let nobody = "nobody hosts the weights of bn-inception; name a safetensors file of yours with --weights";
        assert_eq!(weights(&hub, BackboneKind::BnInception, None, true).unwrap_err().to_string(), nobody);
        assert_eq!(weights_at_hand(BackboneKind::BnInception, None).unwrap_err().to_string(), nobody);
        assert!(weights_at_hand(BackboneKind::EfficientNetLite0, None).is_ok());
        let error = format!("{:#}", weights(&hub, BackboneKind::EfficientNetLite0, None, true).unwrap_err());
        assert!(error.contains("--weights takes a file of yours") && error.contains("not in the cache"), "{error}");
    }
}
