//! What the pipeline is for.

use std::collections::BTreeMap;
use std::fmt;

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
#[derive(Clone)]
pub struct Event {
    /// `CI_PIPELINE_SOURCE`, for example `push`.
    pub source: String,
    /// Branch or tag; of a merge request its ref.
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

/// Without the values of pipeline variables: they may be secrets.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .pipeline_variables
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        f.debug_struct("Event")
            .field("source", &self.source)
            .field("ref_name", &self.ref_name)
            .field("tag", &self.tag)
            .field("predefined", &self.predefined)
            .field("pipeline_variables", &names)
            .field("changed_files", &self.changed_files)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_of_pipeline_variables_and_no_values() {
        let event = Event {
            source: "push".to_owned(),
            ref_name: "main".to_owned(),
            tag: false,
            predefined: BTreeMap::new(),
            pipeline_variables: vec![("TOKEN".to_owned(), "s3cr3t".to_owned())],
            changed_files: ChangedFiles::Unknown,
        };
        let shown = format!("{event:?}");
        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
