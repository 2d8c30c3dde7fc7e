//! Where the log is cut.

use super::RESET;

/// Appended, once, where the log is cut.
pub fn log_limit_exceeded(limit: u64) -> String {
    format!(
        "\n\u{1b}[33;1mJob's log exceeded limit of {limit} bytes.\nJob execution will continue but no more output will be collected.{RESET}\n"
    )
}

/// Appended, once, where the log is cut because it cannot be kept: `why` is a clause.
pub fn log_not_kept(why: &str) -> String {
    format!(
        "\n\u{1b}[33;1mJob's log is cut here: {why}.\nJob execution will continue but no more output will be collected.{RESET}\n"
    )
}
