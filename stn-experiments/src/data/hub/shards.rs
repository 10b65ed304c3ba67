//! Names of a split's parquet files.

use std::path::Path;

/// Reads `{folder}/{split}-00001-of-00003.parquet` as (1, 3).
pub(super) fn shard(name: &str, folder: &str, split: &str) -> Option<(usize, usize)> {
    let name = name.strip_prefix(folder)?.strip_prefix('/')?;
    let name = name.strip_prefix(split)?.strip_prefix('-')?;
    let (index, count) = name.strip_suffix(".parquet")?.split_once("-of-")?;
    Some((index.parse().ok()?, count.parse().ok()?))
}

/// Says whether sorted names are shards 0..n of n.
pub(super) fn is_complete(names: &[String], folder: &str, split: &str) -> bool {
    let expected = (0..names.len()).map(|index| Some((index, names.len())));
    !names.is_empty() && names.iter().map(|name| shard(name, folder, split)).eq(expected)
}

/// Names the shards of a split, in order, as the repository does, that lie in a folder on the disk with another extension or the same; none where not all are there.
pub(in crate::data) fn shards_in(dir: &Path, extension: &str, folder: &str, split: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        Some(format!("{folder}/{}.parquet", name.strip_suffix(extension)?.strip_suffix('.')?))
    });
    let mut names: Vec<_> = names.filter(|name| shard(name, folder, split).is_some()).collect();
    names.sort();
    if is_complete(&names, folder, split) { names } else { Vec::new() }
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
