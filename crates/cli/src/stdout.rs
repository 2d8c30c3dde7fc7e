//! Results on standard output.

use std::io::{ErrorKind, Write as _};

use crate::failure::{Code, Failure};

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("cannot write JSON: {error}")))?;
    print_text(&(text + "\n"))
}

/// Writes text, with colours on a terminal only. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Code::Surroundings,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
