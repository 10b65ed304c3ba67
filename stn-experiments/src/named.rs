//! Things that go by a name on the command line and in records.

use anyhow::{Result, bail};

/// Finds the one of `all` whose id is `s`, in capital or small letters.
///
/// # Errors
/// When there is none; the message lists the ids that there are.
pub(crate) fn by_id<T: Copy, Id: AsRef<str>>(
    what: &str,
    s: &str,
    all: impl IntoIterator<Item = T>,
    id: impl Fn(T) -> Id,
) -> Result<T> {
    let mut known = Vec::new();
    for one in all {
        let id = id(one);
        if id.as_ref().eq_ignore_ascii_case(s) {
            return Ok(one);
        }
        known.push(id.as_ref().to_string());
    }
    bail!("unknown {what} `{s}`; there are {}", known.join(", "))
}
