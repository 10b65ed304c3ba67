//! What happens when the hub's images cannot be had: others stand in for them, and say so.

use anyhow::Result;
use std::io::ErrorKind;

use super::Source;
use super::hub::Hub;

/// A set of the hub and what stands in for it, in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandIn {
    /// The set: `MNIST`.
    pub set: &'static str,
    /// What is taken instead: `SYNTHETIC creatures: the results are not CUB's`.
    pub taken: &'static str,
    /// What `--source embedded` gives: `synthetic creatures, which are no birds,`.
    pub offered: &'static str,
    /// Whether it is the set itself, so that nothing is lost with it.
    pub same_images: bool,
}

/// Where images come from.
#[derive(Debug)]
pub(super) enum Chosen<T> {
    /// From the hub or its cache: these.
    Hub(T),
    /// From this program, because the stand-in was asked for or the hub's could not be had.
    StandIn {
        /// Which of the two, for the records.
        reason: String,
    },
}

impl StandIn {
    /// Asks `fetch` for the hub's files as `source` wants it. `Auto` takes the stand-in where they cannot be had, and says so on standard error.
    ///
    /// `fetch` only gets the files: what then goes wrong with them is an error whatever the source, and so is a disk that cannot be written.
    ///
    /// # Errors
    ///
    /// With `Hub`, when `fetch` fails; with `Auto`, when it fails over this machine's disk and other images would be taken.
    pub(super) fn choose<T>(
        self,
        hub: &Hub,
        source: Source,
        offline: bool,
        fetch: impl FnOnce() -> Result<T>,
    ) -> Result<Chosen<T>> {
        let Self { set, taken, offered, same_images } = self;
        let error = match source {
            Source::Embedded => return Ok(Chosen::StandIn { reason: "asked for".into() }),
            Source::Hub => {
                return fetch().map(Chosen::Hub).map_err(|error| {
                    let first = match is_of_the_disk(&error) {
                        true => "HF_HOME names another place for data",
                        false => "check the network and HF_ENDPOINT",
                    };
                    error.context(format!(
                        "{set} was asked from the hub alone and cannot be had ({first}, or take {offered} with --source embedded)"
                    ))
                });
            }
            Source::Auto => match fetch() {
                Ok(fetched) => return Ok(Chosen::Hub(fetched)),
                Err(error) if !same_images && is_of_the_disk(&error) => {
                    return Err(error.context(format!(
                        "{set} cannot be kept on this machine (HF_HOME names another place for data; --source embedded takes {offered})"
                    )));
                }
                Err(error) => error,
            },
        };
        if offline {
            crate::warn!("{set} cannot be had offline, taking {taken}: {error:#}");
            return Ok(Chosen::StandIn { reason: "--offline".into() });
        }
        crate::warn!(
            "\nWARNING: {set} could not be had from the hub, taking {taken}.\n  The hub's error: {error:#}\n  \
             `--source hub` fails instead; `--source embedded` asks for this.\n"
        );
        // The reason goes into records that others read: neither this machine's folders nor a mirror's address belong there.
        let reason = format!("{error:#}")
            .replace(&hub.cache.display().to_string(), "<cache>")
            .replace(hub.endpoint.trim_end_matches('/'), "<hub>");
        Ok(Chosen::StandIn { reason })
    }
}

/// Says whether this machine's disk is to blame: hours of training on a stand-in would not be what its owner wants.
pub(super) fn is_of_the_disk(error: &anyhow::Error) -> bool {
    let kinds = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::NotADirectory,
    ];
    error.chain().any(|cause| match cause.downcast_ref::<std::io::Error>() {
        Some(error) => kinds.contains(&error.kind()),
        // The client of the hub's own store keeps the text of an error alone.
        None => cause.to_string().contains("No space left on device"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, bail};

    const BIRDS: StandIn =
        StandIn { set: "CUB", taken: "SYNTHETIC creatures", offered: "synthetic creatures", same_images: false };

    fn choose(source: Source, fetch: impl FnOnce() -> Result<u8>) -> Result<Chosen<u8>> {
        BIRDS.choose(&Hub::new("http://mirror.example/", "/home/me/cache"), source, false, fetch)
    }

    #[test]
    fn what_cannot_be_fetched_is_stood_in_for_where_that_is_allowed() -> Result<()> {
        assert!(matches!(choose(Source::Auto, || Ok(3))?, Chosen::Hub(3)));
        assert!(matches!(choose(Source::Embedded, || Ok(3))?, Chosen::StandIn { reason } if reason == "asked for"));
        let gone = || -> Result<u8> { bail!("no answer from http://mirror.example/x for /home/me/cache/y") };
        let Chosen::StandIn { reason } = choose(Source::Auto, gone)? else { panic!("not from a hub that is gone") };
        assert_eq!(reason, "no answer from <hub>/x for <cache>/y");
        let error = format!("{:#}", choose(Source::Hub, gone).unwrap_err());
        assert!(
            error.contains("network") && error.contains("--source embedded") && error.contains("no answer"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn a_full_disk_is_no_reason_to_train_on_something_else() {
        let full = || Err::<u8, _>(std::io::Error::from(ErrorKind::StorageFull)).context("cannot write the blob");
        let error = format!("{:#}", choose(Source::Auto, full).unwrap_err());
        assert!(error.contains("HF_HOME") && error.contains("cannot write the blob"), "{error}");
        let error = format!("{:#}", choose(Source::Hub, full).unwrap_err());
        assert!(error.contains("HF_HOME") && !error.contains("network"), "{error}");
        let flattened = || bail!("Xet download failed: No space left on device (os error 28)");
        assert!(choose(Source::Auto, flattened).is_err());
        // Where the stand-in is the set itself, nothing is lost.
        let mnist = StandIn { same_images: true, ..BIRDS };
        let chosen = mnist.choose(&Hub::new("http://mirror.example", "/cache"), Source::Auto, false, full);
        assert!(matches!(chosen, Ok(Chosen::StandIn { .. })));
    }
}
