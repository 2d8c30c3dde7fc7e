//! `.gitlab-ci.yml` to jobs.
//!
//! In: the text of the file, a [`Files`] to read includes from, and the [`Event`] the pipeline is for.
//! Out: a [`Pipeline`] of [`PipelineJob`]s, or [`Problem`]s with file, line, column and the source line.
//! No I/O of its own. Facts: `gitlab-ci-yaml.md`.

mod event;
mod model;

pub use event::{ChangedFiles, Event, Files};
pub use model::*;

/// Reads, merges and checks the file, then evaluates it for `event`.
pub fn evaluate(root: &str, files: &dyn Files, event: &Event) -> Result<Pipeline, Vec<Problem>> {
    let _ = (root, files, event);
    todo!()
}

/// Checks the file only. Returns errors and warnings.
pub fn lint(root: &str, files: &dyn Files) -> Lint {
    let _ = (root, files);
    todo!()
}
