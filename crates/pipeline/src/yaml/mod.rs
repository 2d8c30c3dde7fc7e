//! YAML as GitLab reads it: granit-parser's events become a [`Node`] tree under the rules of YAML 1.1
//! as Psych applies them (`gitlab-ci-yaml.md` 2).

mod node;
mod read;
mod scalar;

pub(crate) use node::{Entry, Key, Kind, Map, Node};
pub(crate) use read::{Document, read};
pub(crate) use scalar::{is_plain_text, plain};

/// Bytes of one document (`gitlab-ci-yaml.md` 20).
pub(crate) const MAXIMUM_BYTES: usize = 2 * 1024 * 1024;
/// Depth of one document (`gitlab-ci-yaml.md` 20).
pub(crate) const MAXIMUM_DEPTH: usize = 100;
/// Nodes of one document after aliases are expanded, and of the merged tree after `!reference`.
pub(crate) const MAXIMUM_NODES: usize = 500_000;
/// Bytes of text after aliases are expanded.
pub(crate) const MAXIMUM_EXPANDED_BYTES: usize = 16 * MAXIMUM_BYTES;
