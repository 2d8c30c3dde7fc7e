//! `courser run` against a GitLab that is strict about the protocol, with jobs as others send them.

mod files;
pub(crate) mod gitlab;
mod outcomes;
mod requests;
pub(crate) mod sources;
mod trace;
mod variables;
