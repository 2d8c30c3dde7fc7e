//! The functions of interpolation: `$[[ inputs.x | truncate(0,8) | posix_escape ]]`
//! (`gitlab-ci-yaml.md` 4.1).

use super::Surroundings;
use crate::source::{Fault, Span};
use crate::yaml::{Kind, Node};

/// The parts between the bars of a block; a bar inside quotes separates nothing.
pub(super) fn pipeline(block: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (at, c) in block.char_indices() {
        match quote {
            Some(open) if open == c => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c == '|' => {
                parts.push(block[start..at].trim());
                start = at + 1;
            }
            None => {}
        }
    }
    parts.push(block[start..].trim());
    parts
}

/// Applies one function, such as `split(',')`.
pub(super) fn apply(
    function: &str,
    value: &Node,
    surroundings: &Surroundings<'_>,
    span: Span,
) -> Result<Node, Fault> {
    let (name, arguments) = match function.split_once('(') {
        Some((name, rest)) => (name.trim_end(), rest.strip_suffix(')').map(str::trim)),
        None => (function, None),
    };
    let unknown = || {
        Fault::new(
            span,
            format!(
                "no function matching `{function}`: check that the function name, arguments, and types are correct"
            ),
        )
    };
    let text = || {
        value.as_text().ok_or_else(|| {
            Fault::new(
                span,
                format!("invalid input type: {name} can only be used with string inputs"),
            )
        })
    };
    let result = match (name, arguments) {
        ("expand_vars", None) => expand_vars(text()?, surroundings, span)?,
        ("posix_escape", None) => posix_escape(text()?),
        ("posix_quote", None) => format!("'{}'", text()?.replace('\'', "'\\''")),
        ("truncate", Some(arguments)) => {
            let (offset, length) = arguments.split_once(',').ok_or_else(unknown)?;
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| unknown());
            let (offset, length) = (number(offset)?, number(length)?);
            text()?.chars().skip(offset).take(length).collect()
        }
        ("split", Some(arguments)) => {
            let separator = ['\'', '"']
                .into_iter()
                .find_map(|quote| arguments.strip_prefix(quote)?.strip_suffix(quote))
                .filter(|separator| !separator.is_empty())
                .ok_or_else(unknown)?;
            let items = text()?
                .split(separator)
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Node::new(span, Kind::Text(part.into())))
                .collect();
            return Ok(Node::seq(span, items));
        }
        _ => return Err(unknown()),
    };
    Ok(Node::new(span, Kind::Text(result.into())))
}

fn expand_vars(text: &str, surroundings: &Surroundings<'_>, span: Span) -> Result<String, Fault> {
    if surroundings.scope.uses_any(text, surroundings.secret) {
        return Err(Fault::new(
            span,
            "variable expansion error: masked variables cannot be expanded",
        ));
    }
    Ok(surroundings.scope.expand(text))
}

/// What a value looks like inside a longer text.
pub(super) fn text_form(value: &Node) -> String {
    value.scalar_text().unwrap_or_else(|| value.inspect())
}

/// Backslashes before everything a POSIX shell might read.
fn posix_escape(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' {
            out.push_str("'\n'");
            continue;
        }
        if !(c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c)) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
