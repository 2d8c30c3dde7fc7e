//! What the pipeline is for.

use std::collections::BTreeMap;

/// Files of the repository at the pipeline's commit.
pub trait Files {
    /// Content of a file by its path from the root, `None` when there is none (or it is a directory).
    fn read(&self, path: &str) -> Option<String>;
    /// All paths, for globs and `exists`.
    fn list(&self) -> Vec<String>;
    /// What differs from where the commit left `reference`, for `rules:changes:compare_to`.
    fn changed_since(&self, _reference: &str) -> Comparison {
        Comparison::NotBuilt
    }
}

/// Answer of [`Files::changed_since`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// These files differ.
    Changed(Vec<String>),
    /// There is no such branch, tag or commit.
    UnknownReference,
    /// Nobody here can compare.
    NotBuilt,
}

/// Files that changed, for `rules:changes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedFiles {
    /// Nothing to compare with: `changes` is true.
    Unknown,
    /// Exactly these, between the commits of the event.
    Known(Vec<String>),
    /// Exactly these, whatever a rule wants to compare with.
    Given(Vec<String>),
}

/// The event that makes the pipeline.
#[derive(Debug, Clone)]
pub struct Event {
    /// `CI_PIPELINE_SOURCE`, for example `push`.
    pub source: String,
    /// Branch or tag.
    pub ref_name: String,
    /// Whether it is a tag.
    pub tag: bool,
    /// Predefined variables known while rules run, also the repository's (`gitlab-ci-yaml.md` 18).
    pub predefined: BTreeMap<String, String>,
    /// Pipeline variables (level 11 of 17.2), for example `--variable`.
    pub pipeline_variables: Vec<(String, String)>,
    /// Changed files.
    pub changed_files: ChangedFiles,
}
