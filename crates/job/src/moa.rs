//! Moa, the expression language of `${{ … }}` (`runner-protocol.md` 3.4; the language is in GitLab's
//! documentation, "Moa expression language").
//!
//! A text with expressions goes in, the text with their values comes out. Scripts and inputs are hostile:
//! nesting, length and the size of what comes out are bounded.

mod evaluate;
mod read;
mod value;

pub(crate) use value::Scope;

use read::Reader;
use value::Value;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Of an expression, what an error shows at most, in characters.
const SHOWN: usize = 200;

/// A text with each expression replaced by its value. A value that is no text has to be all of the text, and
/// a number or a boolean then.
///
/// # Errors
///
/// The expression and why it has no value, for the job's log.
pub(crate) fn interpolate(scope: &Scope, text: &str) -> Result<String, String> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let after = &rest[at + OPEN.len()..];
        if let Some(before) = rest[..at].strip_suffix('\\') {
            output.push_str(before);
            output.push_str(OPEN);
            rest = after;
            continue;
        }
        output.push_str(&rest[..at]);
        let mut reader = Reader::new(after);
        let value = reader
            .template()
            .and_then(|expression| expression.evaluate(scope))
            .map_err(|why| format!("{}: {why}", shown(after)))?;
        rest = reader.rest();
        let alone = output.is_empty() && rest.is_empty();
        let written = match value {
            Value::Text(_) => value.write(&mut output, scope),
            Value::Number(_) | Value::Boolean(_) if alone => value.write(&mut output, scope),
            other => Err(format!("is {}, not a text: use str()", other.kind())),
        };
        written.map_err(|why| format!("{}: {why}", shown(after)))?;
    }
    output.push_str(rest);
    Ok(output)
}

/// The expression that begins here, as an error shows it.
fn shown(after: &str) -> String {
    let end = after.find(CLOSE).unwrap_or(after.len());
    let expression = &after[..end];
    match expression.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{OPEN}{}…{CLOSE}", &expression[..cut]),
        None => format!("{OPEN}{expression}{CLOSE}"),
    }
}

#[cfg(test)]
mod tests;
