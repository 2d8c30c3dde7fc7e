//! Errors that name file, line, column and show the line.

use std::fmt;
use std::ops::Range;

/// Why a `config.toml` cannot be used.
///
/// `Display` is two parts: `file:line:column: message`, then the source line with a marker. Values
/// of confidential keys are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}{}", excerpt(.line, .shown, .column))]
pub struct ConfigError {
    /// Path of the file, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, with the dotted key.
    pub message: String,
    shown: Option<String>,
    hint: Option<String>,
}

impl ConfigError {
    pub(crate) fn hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// An action that mends it, where one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Text of a file and its name, to place errors in.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    pub(crate) fn error(&self, span: Range<usize>, message: String) -> ConfigError {
        let (line, column) = self.position(span.start);
        ConfigError {
            file: self.file.to_owned(),
            line,
            column,
            message,
            shown: self
                .text
                .lines()
                .nth(line - 1)
                .filter(|text| !may_hold_secret(text))
                .map(ToOwned::to_owned),
            hint: None,
        }
    }

    pub(crate) fn syntax_error(&self, error: &toml_edit::TomlError) -> ConfigError {
        self.error(error.span().unwrap_or(0..0), error.message().to_owned())
    }

    /// Line and column, from 1.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }
}

/// Whether a line sets a key whose value must not be shown.
fn may_hold_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["token", "password", "secret", "key", "dsn", "environment"]
        .iter()
        .any(|word| line.contains(word))
}

fn excerpt(line: &usize, shown: &Option<String>, column: &usize) -> String {
    match shown {
        Some(text) => {
            let number = line.to_string();
            let blank = " ".repeat(number.len());
            // Tabs keep their width in the marker line.
            let indent: String = text
                .chars()
                .take(column - 1)
                .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                .collect();
            format!("\n{blank} |\n{number} | {text}\n{blank} | {indent}^")
        }
        None => String::new(),
    }
}

/// Something about a file that works all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Line, from 1.
    pub line: usize,
    /// Dotted key.
    pub key: String,
    /// What to know.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.key, self.message)
    }
}
