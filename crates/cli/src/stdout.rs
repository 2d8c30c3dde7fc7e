//! Results on standard output.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use crate::control_characters::written_out_but_colours;
use crate::failure::{Code, Failure};

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("cannot write JSON: {error}")))?;
    print_document(&(without_controls(&text) + "\n"))
}

/// Writes text for people, with colours on a terminal only. Whatever else would steer the terminal is written out.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    print_document(&written_out_but_colours(text))
}

/// Writes a text of a format that knows itself what to escape. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print_document(text: &str) -> Result<(), Failure> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Code::Surroundings,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// JSON escapes control characters of ASCII but lets DEL and those above it stand, which steer terminals too. They can
/// only stand inside texts.
fn without_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if matches!(letter, '\u{7f}'..='\u{9f}') {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_free_of_control_characters_and_means_the_same() {
        let value = "\x1b[2J\u{9b}2J\u{7f}é";
        let json = serde_json::to_string(value).expect("JSON");
        let shown = without_controls(&json);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        let read: String = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read, value);
    }
}
