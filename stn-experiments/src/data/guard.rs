//! Decoders of other people's files that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail};

/// Makes a panic an error that begins with `what`: decoders take some contradictions of a corrupt file for bugs of their own
/// and panic. Whatever was read is dropped, so no half-changed state survives.
pub(super) fn guarded<T>(what: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        bail!("{what}: {}", text.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded("file", || Ok(3)).unwrap(), 3);
        for (text, number) in [("no number", None), ("row 3", Some(3))] {
            let read = || -> Result<()> {
                match number {
                    Some(number) => panic!("row {number}"),
                    None => panic!("no number"),
                }
            };
            assert_eq!(guarded("corrupt file", read).unwrap_err().to_string(), format!("corrupt file: {text}"));
        }
    }
}
