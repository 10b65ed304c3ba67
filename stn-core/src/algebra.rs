#![doc = include_str!("../docs/algebra.md")]
