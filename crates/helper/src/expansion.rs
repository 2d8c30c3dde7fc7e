//! Variables in artifact names and paths, expanded like the body of a here-document
//! (`runner-build-lifecycle.md` 4.2): parameters yes; quotes, tildes and globs stay; commands never run.

use courser_config::Environment;

/// Why a text stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpansionError {
    #[error("command substitution is not allowed")]
    Command,
    #[error("arithmetic expansion is not supported")]
    Arithmetic,
    #[error("reached the end without closing ${{")]
    Unclosed,
    #[error("unsupported parameter expansion ${{{0}}}")]
    Unsupported(String),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
}

/// Nested defaults deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// Expands `text`.
pub(crate) fn expand(text: &str, variables: &Environment) -> Result<String, ExpansionError> {
    expand_nested(text, variables, 0)
}

fn expand_nested(
    text: &str,
    variables: &Environment,
    depth: usize,
) -> Result<String, ExpansionError> {
    if depth > MAX_DEPTH {
        return Err(ExpansionError::Unsupported("nested too deeply".to_owned()));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\', '`']) {
        out.push_str(&rest[..at]);
        let mark = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match mark {
            b'`' => return Err(ExpansionError::Command),
            b'\\' => match rest.as_bytes().first() {
                Some(escaped @ (b'$' | b'`' | b'\\')) => {
                    out.push(char::from(*escaped));
                    rest = &rest[1..];
                }
                Some(b'\n') => rest = &rest[1..],
                _ => out.push('\\'),
            },
            _ => rest = parameter(rest, variables, depth, &mut out)?,
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Expands what follows a `$`; returns what follows it.
fn parameter<'a>(
    rest: &'a str,
    variables: &Environment,
    depth: usize,
    out: &mut String,
) -> Result<&'a str, ExpansionError> {
    if rest.starts_with("((") || rest.starts_with('[') {
        return Err(ExpansionError::Arithmetic);
    }
    if rest.starts_with('(') {
        return Err(ExpansionError::Command);
    }
    if let Some(body) = rest.strip_prefix('{') {
        let end = closing_brace(body).ok_or(ExpansionError::Unclosed)?;
        out.push_str(&braced(&body[..end], variables, depth)?);
        return Ok(&body[end + 1..]);
    }
    let length = name_length(rest);
    if length == 0 {
        out.push('$');
        return Ok(rest);
    }
    out.push_str(variables.get(&rest[..length]).unwrap_or_default());
    Ok(&rest[length..])
}

fn name_length(text: &str) -> usize {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    text.bytes().take_while(is_name).count()
}

/// Position of the brace that closes, with nested `${…}` and escapes stepped over.
fn closing_brace(body: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    let bytes = body.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The inside of `${…}`.
fn braced(body: &str, variables: &Environment, depth: usize) -> Result<String, ExpansionError> {
    let unsupported = || ExpansionError::Unsupported(body.to_owned());
    if let Some(name) = body.strip_prefix('#')
        && !name.is_empty()
        && name_length(name) == name.len()
    {
        let length = variables.get(name).unwrap_or_default().chars().count();
        return Ok(length.to_string());
    }
    let length = name_length(body);
    if length == 0 {
        return Err(unsupported());
    }
    let (name, operation) = body.split_at(length);
    let value = variables.get(name);
    if operation.is_empty() {
        return Ok(value.unwrap_or_default().to_owned());
    }
    // With a colon an empty value counts as none.
    let (operation, value_or_none) = match operation.strip_prefix(':') {
        Some(operation) => (operation, value.filter(|value| !value.is_empty())),
        None => (operation, value),
    };
    let mut characters = operation.chars();
    let operator = characters.next().ok_or_else(unsupported)?;
    let word = characters.as_str();
    let expanded = |word: &str| expand_nested(word, variables, depth + 1);
    match operator {
        // Assigning has no effect that lasts: each text is expanded by itself.
        '-' | '=' => match value_or_none {
            Some(value) => Ok(value.to_owned()),
            None => expanded(word),
        },
        '+' => match value_or_none {
            Some(_) => expanded(word),
            None => Ok(String::new()),
        },
        '?' => match value_or_none {
            Some(value) => Ok(value.to_owned()),
            None => Err(ExpansionError::Required {
                name: name.to_owned(),
                message: if word.is_empty() {
                    "parameter null or not set".to_owned()
                } else {
                    expanded(word)?
                },
            }),
        },
        '%' | '#' if !body[length..].starts_with(':') => {
            let value = value.unwrap_or_default();
            let (longest, pattern) = match word.strip_prefix(operator) {
                Some(pattern) => (true, expanded(pattern)?),
                None => (false, expanded(word)?),
            };
            trimmed(value, &pattern, operator == '%', longest).ok_or_else(unsupported)
        }
        _ => Err(unsupported()),
    }
}

/// `value` without the shortest or longest suffix or prefix that matches. `None`: no valid pattern.
fn trimmed(value: &str, pattern: &str, suffix: bool, longest: bool) -> Option<String> {
    let matcher = Pattern::new(pattern)?;
    let mut cuts: Vec<usize> = value
        .char_indices()
        .map(|(at, _)| at)
        .chain([value.len()])
        .collect();
    // In the order in which cuts are tried: a suffix is short when it begins late.
    if suffix != longest {
        cuts.reverse();
    }
    for at in cuts {
        let (head, tail) = value.split_at(at);
        if matcher.matches(if suffix { tail } else { head }) {
            return Some(if suffix { head } else { tail }.to_owned());
        }
    }
    Some(value.to_owned())
}

/// `*`, `?` and literals; a star also matches slashes here.
struct Pattern(Vec<Piece>);

#[derive(PartialEq)]
enum Piece {
    Star,
    Any,
    Literal(char),
}

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '*' => Piece::Star,
                '?' => Piece::Any,
                '[' => return None,
                '\\' => Piece::Literal(characters.next()?),
                other => Piece::Literal(other),
            });
        }
        Some(Self(pieces))
    }

    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t, mut star) = (0, 0, None);
        loop {
            match (self.0.get(p), text.get(t)) {
                (Some(Piece::Star), _) => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                (None, None) => return true,
                (Some(Piece::Any), Some(_)) => (p, t) = (p + 1, t + 1),
                (Some(Piece::Literal(wanted)), Some(found)) if wanted == found => {
                    (p, t) = (p + 1, t + 1);
                }
                _ => match star {
                    Some((after, from)) if from < text.len() => {
                        star = Some((after, from + 1));
                        (p, t) = (after, from + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Environment {
        let pairs = [
            ("A", "x/y.tar.gz"),
            ("EMPTY", ""),
            ("JOB", "build 1/2"),
            ("DOLLAR", "$A"),
        ];
        Environment::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn parameters_expand_as_in_a_here_document() {
        let table = [
            ("plain", "plain"),
            ("$JOB-${A}", "build 1/2-x/y.tar.gz"),
            ("$MISSING|", "|"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${MISSING:-${A}}", "x/y.tar.gz"),
            ("${A:+set}${MISSING+set}", "set"),
            ("${MISSING:=v}$MISSING", "v"),
            ("${#A}", "10"),
            ("${A%.*}", "x/y.tar"),
            ("${A%%.*}", "x/y"),
            ("${A#*/}", "y.tar.gz"),
            ("${A##*.}", "gz"),
            ("${A%nothing}", "x/y.tar.gz"),
            ("$DOLLAR", "$A"),
            (r"\$A \\ \` \n", r"$A \ ` \n"),
            ("'$EMPTY' \"~\" *", "'' \"~\" *"),
            ("100$ $1 $", "100$ $1 $"),
        ];
        for (text, expected) in table {
            assert_eq!(
                expand(text, &variables()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        let table = [
            ("$(id)", "command substitution is not allowed"),
            ("`id`", "command substitution is not allowed"),
            ("$((1+1))", "arithmetic expansion is not supported"),
            ("${A", "reached the end without closing ${"),
            ("${A/x/y}", "unsupported parameter expansion ${A/x/y}"),
            ("${MISSING:?no}", "MISSING: no"),
            ("${}", "unsupported parameter expansion ${}"),
        ];
        for (text, expected) in table {
            let error = expand(text, &variables()).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"[${}A:\-+%#*?\\\[`(a é]{0,30}") {
            expand(&text, &variables()).ok();
        }
    }
}
