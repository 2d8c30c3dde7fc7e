//! Texts of servers, certificates and jobs must not steer the terminal that shows them: control characters are written
//! out. Where such a text is made they are escaped already; this is the last gate.

use std::borrow::Cow;

/// With control characters written out (`\u{1b}`), but for those that end lines and columns.
pub(crate) fn written_out(text: &str) -> Cow<'_, str> {
    write_out(text, |_| None)
}

/// As [`written_out`], where our own colours pass.
pub(crate) fn written_out_but_colours(text: &str) -> Cow<'_, str> {
    write_out(text, colour)
}

/// `passes` gives the length of what may stay at the start of a text.
fn write_out(text: &str, passes: impl Fn(&str) -> Option<usize>) -> Cow<'_, str> {
    let steers = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = if steers(letter) {
            passes(rest)
        } else {
            Some(letter.len_utf8())
        };
        let (head, tail) = rest.split_at(length.unwrap_or_else(|| letter.len_utf8()));
        match length {
            Some(_) => written.push_str(head),
            None => written.extend(letter.escape_unicode()),
        }
        rest = tail;
    }
    Cow::Owned(written)
}

/// Length of the sequence `ESC [ … m` at the start of a text: it sets a colour and nothing else.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|letter: char| !(letter.is_ascii_digit() || letter == ';'))?;
    parameters[end..].starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_lines_columns_and_our_colours_passes() {
        let hostile = "\x1b[31mred\x1b[0m\tand\n\x1b]0;owned\x07\x1b[2J\r\u{9b}2J\x7f\x1b[31";
        assert_eq!(
            written_out_but_colours(hostile),
            "\x1b[31mred\x1b[0m\tand\n\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{d}\\u{9b}2J\\u{7f}\\u{1b}[31"
        );
        assert_eq!(written_out("\x1b[31mé\x1b"), "\\u{1b}[31mé\\u{1b}");
        assert!(matches!(written_out("plain\n"), Cow::Borrowed(_)));
    }
}
