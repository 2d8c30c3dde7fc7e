//! `config.toml`: model, defaults, edit in place, reload as a difference, lint.
//!
//! In: the text of the file and an [`Environment`] value that `cli` captured once. Out: a [`Config`]
//! with defaults filled in, warnings with lines, and edited text with comments kept. No I/O.
//! Facts: `runner-config.md`, `runner-cli.md`.

mod environment;
mod model;

pub use environment::Environment;
pub use model::*;
