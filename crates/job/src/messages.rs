//! Every line that a job's log shows, one function a line (`runner-protocol.md` 5.4, lifecycle 1 to 5).
//!
//! Functions without a level in their name give the text only: lines that a script prints carry their
//! colour ([`notice`], [`script_warning`], [`script_error`]), lines of the runner itself go through
//! [`plain`], [`info`], [`warning`] and [`error`], lines of helper work through [`work_info`] and its
//! siblings.

mod artifacts;
mod caches;
mod docker;
mod image_trust;
mod images;
mod log;
mod outline;
mod scripts;
mod secrets;
mod sources;

use std::fmt::Write as _;

pub use artifacts::*;
pub use caches::*;
pub use docker::*;
pub use image_trust::*;
pub use images::*;
pub use log::*;
pub use outline::*;
pub use scripts::*;
pub use secrets::*;
pub use sources::*;

const BOLD_RED: &str = "\u{1b}[31;1m";
const BOLD_GREEN: &str = "\u{1b}[32;1m";
const BOLD_CYAN: &str = "\u{1b}[36;1m";
const YELLOW: &str = "\u{1b}[0;33m";
const RESET: &str = "\u{1b}[0;m";
const CLEAR: &str = "\u{1b}[0K";

// ---- levels of the runner's own lines, each with its line end

/// A plain line.
pub fn plain(text: &str) -> String {
    format!("{CLEAR}{text}{RESET}\n")
}

/// An information, green.
pub fn info(text: &str) -> String {
    format!("{BOLD_GREEN}{text}{RESET}\n")
}

/// A warning, yellow.
pub fn warning(text: &str) -> String {
    format!("{YELLOW}WARNING: {text}{RESET}\n")
}

/// An error, red.
pub fn error(text: &str) -> String {
    format!("{BOLD_RED}ERROR: {text}{RESET}\n")
}

// ---- levels of lines printed inside a stage's script, without line end

/// A notice, green.
pub fn notice(text: &str) -> String {
    format!("{BOLD_GREEN}{text}{RESET}")
}

/// A warning, yellow.
pub fn script_warning(text: &str) -> String {
    format!("{YELLOW}{text}{RESET}")
}

/// An error, red.
pub fn script_error(text: &str) -> String {
    format!("{BOLD_RED}{text}{RESET}")
}

// ---- levels of helper lines (`runner-cli.md` 1.7), for standard error, each with its line end

/// Informations of archiving and transfer. Fields are sorted by name here.
pub fn work_info(text: &str, fields: &[(&str, String)]) -> String {
    work_line("", "", text, fields)
}

/// Warnings of archiving and transfer.
pub fn work_warning(text: &str, fields: &[(&str, String)]) -> String {
    work_line(YELLOW, "WARNING: ", text, fields)
}

/// Errors of archiving and transfer.
pub fn work_error(text: &str, fields: &[(&str, String)]) -> String {
    work_line(BOLD_RED, "ERROR: ", text, fields)
}

/// The error that ends the helper with status 1.
pub fn work_fatal(text: &str, fields: &[(&str, String)]) -> String {
    work_line(BOLD_RED, "FATAL: ", text, fields)
}

fn work_line(color: &str, prefix: &str, text: &str, fields: &[(&str, String)]) -> String {
    let width = 50 - prefix.len();
    let mut line = format!("{color}{prefix}{text:<width$}{RESET} ");
    let mut sorted: Vec<&(&str, String)> = fields.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        let _ = write!(line, " {color}{key}{RESET}={value}");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_upstream_bytes() {
        for (line, expected) in [
            (plain("p"), "\u{1b}[0Kp\u{1b}[0;m\n"),
            (info("i"), "\u{1b}[32;1mi\u{1b}[0;m\n"),
            (warning("w"), "\u{1b}[0;33mWARNING: w\u{1b}[0;m\n"),
            (error("e"), "\u{1b}[31;1mERROR: e\u{1b}[0;m\n"),
            (
                stage_title("Preparing environment"),
                "\u{1b}[0K\u{1b}[36;1mPreparing environment\u{1b}[0;m\u{1b}[0;m\n",
            ),
            (
                work_info("short", &[]),
                "short                                             \u{1b}[0;m \n",
            ),
            (
                work_warning("w", &[("token", "abc".to_owned()), ("id", "7".to_owned())]),
                "\u{1b}[0;33mWARNING: w                                        \u{1b}[0;m  \u{1b}[0;33mid\u{1b}[0;m=7 \u{1b}[0;33mtoken\u{1b}[0;m=abc\n",
            ),
            (
                work_fatal("permission denied", &[]),
                "\u{1b}[31;1mFATAL: permission denied                          \u{1b}[0;m \n",
            ),
            (
                section_start(12, "get_sources"),
                "section_start:12:get_sources\r\u{1b}[0K",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }
}
