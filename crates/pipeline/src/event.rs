//! What the pipeline is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

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
    /// Where files of other places come from.
    fn elsewhere(&self) -> &dyn Elsewhere {
        &Nowhere
    }
}

/// Files outside of the repository, for `include` and `rules:exists:project` (`gitlab-ci-yaml.md` 3.1).
/// Who implements it answers from memory what is asked twice.
pub trait Elsewhere {
    /// A project by its path at a branch, tag or commit; without one, at its default branch.
    ///
    /// # Errors
    ///
    /// There is no such project or reference, or it cannot be reached.
    fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<Rc<dyn OtherProject>, Unavailable>;

    /// The text at a URL.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn remote(&self, url: &str) -> Result<String, Unavailable>;

    /// A template of the server, such as `Jobs/Build.gitlab-ci.yml`.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn template(&self, name: &str) -> Result<String, Unavailable>;

    /// A component, such as `gitlab.com/group/project/name@1.0`.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable>;

    /// A file out of the artifacts of a job of the parent pipeline.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn artifact(&self, job: &str, _path: &str) -> Result<String, Unavailable> {
        Err(Unavailable(format!(
            "Job `{job}` not found in parent pipeline or does not have artifacts!"
        )))
    }
}

/// Files of another project at one commit.
pub trait OtherProject: fmt::Debug {
    /// Content of a file by its path from the root.
    ///
    /// # Errors
    ///
    /// It cannot be had; that there is none is `None`.
    fn read(&self, path: &str) -> Result<Option<String>, Unavailable>;

    /// All paths.
    ///
    /// # Errors
    ///
    /// They cannot be had.
    fn list(&self) -> Result<Vec<String>, Unavailable>;
}

/// Why a file of another place cannot be had, as a sentence for the one who included it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `host/group/project/name@version`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentAddress<'a> {
    /// As it was written, variables expanded.
    pub full: &'a str,
    /// Host, with its port where there is one.
    pub host: &'a str,
    /// `group/project/name`: which part of it is the project, only a server can tell.
    pub path: &'a str,
    /// What stands behind the `@`: a tag, branch, commit, `~latest`, or part of a version.
    pub version: &'a str,
}

/// A component that was found.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its text.
    pub content: String,
    /// Its file, as shown in messages.
    pub file: String,
    /// Its project at that version, for `include:local` inside it.
    pub project: Rc<dyn OtherProject>,
    /// `$[[ component.name ]]`.
    pub name: String,
    /// `$[[ component.sha ]]`: the commit.
    pub sha: String,
    /// `$[[ component.version ]]`: the released version, empty when that commit was never released.
    pub version: String,
}

/// Knows no other place.
struct Nowhere;

impl Nowhere {
    fn refuse<T>(what: &str) -> Result<T, Unavailable> {
        Err(Unavailable(format!(
            "{what} lies outside of the repository, and nothing is known of other places here"
        )))
    }
}

impl Elsewhere for Nowhere {
    fn project(&self, path: &str, _: Option<&str>) -> Result<Rc<dyn OtherProject>, Unavailable> {
        Self::refuse(&format!("project `{path}`"))
    }

    fn remote(&self, url: &str) -> Result<String, Unavailable> {
        Self::refuse(&format!("`{url}`"))
    }

    fn template(&self, name: &str) -> Result<String, Unavailable> {
        Self::refuse(&format!("template `{name}`"))
    }

    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable> {
        Self::refuse(&format!("component `{}`", address.full))
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// Nothing to compare with: `changes` is true.
    #[default]
    Unknown,
    /// Exactly these, between the commits of the event.
    Known(Vec<String>),
    /// Exactly these, whatever a rule wants to compare with.
    Given(Vec<String>),
}

/// The event that makes the pipeline.
#[derive(Clone, Default)]
pub struct Event {
    /// `CI_PIPELINE_SOURCE`, for example `push`.
    pub source: String,
    /// Branch or tag; of a merge request its ref.
    pub ref_name: String,
    /// Whether it is a tag.
    pub tag: bool,
    /// Predefined variables known while rules run, also the repository's (`gitlab-ci-yaml.md` 18).
    pub predefined: BTreeMap<String, String>,
    /// Predefined variables that jobs get from the server they run on. Here they stand for rules and includes
    /// where `predefined` does not have them.
    pub of_server: BTreeMap<String, String>,
    /// Pipeline variables (level 11 of 17.2), for example `--variable`.
    pub pipeline_variables: Vec<(String, String)>,
    /// Names of pipeline variables that are masked or of file type: no message shows their values, and the
    /// function `expand_vars` refuses them.
    pub secret_variables: BTreeSet<String>,
    /// Values of the root file's inputs, for example `--input`.
    pub inputs: Vec<(String, InputValue)>,
    /// Changed files.
    pub changed_files: ChangedFiles,
}

/// A value for an input of the root file.
#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// As typed by a person: read as what the input's type wants, an array in YAML's or JSON's form.
    Text(String),
    /// With its type, as in `trigger:inputs`.
    Typed(serde_json::Value),
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
            .field("inputs", &self.inputs)
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
            pipeline_variables: vec![("TOKEN".to_owned(), "s3cr3t".to_owned())],
            ..Event::default()
        };
        let shown = format!("{event:?}");
        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
