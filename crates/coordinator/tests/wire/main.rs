//! The coordinator over real TLS, spoken to by programs that know nothing of Courser.

#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

mod foreign_runner;
mod git_over_tls;
mod world;
