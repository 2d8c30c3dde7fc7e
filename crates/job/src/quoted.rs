//! How tools write a value into logs: shells that trace, JSON, URLs. What stands between the quotes, where it is not the
//! value itself.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// What RFC 3986 leaves as it is in every part of a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Python's `quote`, and paths.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
/// `encodeURIComponent` of JavaScript.
const COMPONENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
/// Forms, before their blanks become `+`.
const FORM: &AsciiSet = &UNRESERVED.remove(b' ');

/// All forms of a value that differ from it.
pub(crate) fn forms(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    let mut add = |form: String| {
        let form = Zeroizing::new(form);
        if *form != value && !forms.contains(&form) {
            forms.push(form);
        }
    };
    if value.contains('\'') {
        // bash; dash and BusyBox.
        add(value.replace('\'', r"'\''"));
        add(in_double_quotes(value));
    }
    if value.contains(is_unprintable) {
        add(ansi_c(value));
    }
    add(backslashed(value));
    for escape in [
        |_| false,
        |c: char| !c.is_ascii(),
        |c| matches!(c, '<' | '>' | '&'),
    ] {
        add(json(value, escape));
    }
    for set in [UNRESERVED, PATH, COMPONENT] {
        let form = utf8_percent_encode(value, set).to_string();
        add(lower_case_escapes(&form));
        add(form);
    }
    add(utf8_percent_encode(value, FORM)
        .to_string()
        .replace(' ', "+"));
    forms
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
}

/// Runs of `'` between double quotes: `'a'"'"'b'`.
fn in_double_quotes(value: &str) -> String {
    let mut form = String::with_capacity(value.len() + 8);
    let mut rest = value;
    while let Some(at) = rest.find('\'') {
        let (before, quotes) = rest.split_at(at);
        let end = quotes.find(|c| c != '\'').unwrap_or(quotes.len());
        form.push_str(before);
        form.push_str("'\"");
        form.push_str(&quotes[..end]);
        form.push_str("\"'");
        rest = &quotes[end..];
    }
    form.push_str(rest);
    form
}

/// `$'…'` of bash.
fn ansi_c(value: &str) -> String {
    let mut form = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '\x07' => form.push_str("\\a"),
            '\x08' => form.push_str("\\b"),
            '\x0b' => form.push_str("\\v"),
            '\x0c' => form.push_str("\\f"),
            '\x1b' => form.push_str("\\E"),
            '\n' => form.push_str("\\n"),
            '\r' => form.push_str("\\r"),
            '\t' => form.push_str("\\t"),
            '\\' | '\'' => form.extend(['\\', c]),
            c if is_unprintable(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a text cannot fail.
                    write!(form, "\\{byte:03o}").ok();
                }
            }
            c => form.push(c),
        }
    }
    form
}

/// `printf %q` of bash.
fn backslashed(value: &str) -> String {
    let mut form = String::with_capacity(value.len() + 8);
    for (at, c) in value.char_indices() {
        let is_special = matches!(
            c,
            ' ' | '\''
                | '"'
                | '\\'
                | '|'
                | '&'
                | ';'
                | '('
                | ')'
                | '<'
                | '>'
                | '!'
                | '{'
                | '}'
                | '*'
                | '['
                | ']'
                | '?'
                | '^'
                | '$'
                | '`'
                | ','
        );
        if is_special || at == 0 && matches!(c, '#' | '~') {
            form.push('\\');
        }
        form.push(c);
    }
    form
}

/// Between the quotes of a JSON string, with some characters as `\uXXXX` that need not be: Python does so with all that
/// are not ASCII, Go with those of HTML.
fn json(value: &str, escape: impl Fn(char) -> bool) -> String {
    let quoted = Zeroizing::new(serde_json::Value::from(value).to_string());
    let inner = &quoted[1..quoted.len() - 1];
    let mut form = String::with_capacity(inner.len());
    for c in inner.chars() {
        if !escape(c) {
            form.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a text cannot fail.
            write!(form, "\\u{unit:04x}").ok();
        }
    }
    form
}

/// `%2f` for `%2F`.
fn lower_case_escapes(form: &str) -> String {
    let mut lower = String::with_capacity(form.len());
    let mut digits = 0;
    for c in form.chars() {
        lower.push(if digits > 0 {
            c.to_ascii_lowercase()
        } else {
            c
        });
        digits = match c {
            '%' => 2,
            _ => u8::saturating_sub(digits, 1),
        };
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        forms(value).iter().any(|found| **found == *form)
    }

    #[test]
    fn values_are_found_as_tools_write_them() {
        for (value, form) in [
            // set -x of bash and of dash; printf %q
            ("it's me", r"it'\''s me"),
            ("it's me", r#"it'"'"'s me"#),
            ("it''s", r#"it'"''"'s"#),
            ("it's me", r"it\'s\ me"),
            ("#a,b~", r"\#a\,b~"),
            ("a\nb\\'\t\u{1}\u{1b}", r"a\nb\\\'\t\001\E"),
            ("pä\nss", r"pä\nss"),
            // JSON
            ("say \"hi\"\n", r#"say \"hi\"\n"#),
            ("größer", r"gr\u00f6\u00dfer"),
            ("a😀b", r"a\ud83d\ude00b"),
            ("a<b&c", r"a\u003cb\u0026c"),
            // URLs
            ("a/b c?", "a%2Fb%20c%3F"),
            ("a/b c?", "a%2fb%20c%3f"),
            ("a/b c?", "a/b%20c%3F"),
            ("a/b c?", "a%2Fb+c%3F"),
            ("a!b=", "a!b%3D"),
            ("Ab%2F/", "Ab%252F%2f"),
        ] {
            assert!(has(value, form), "{value:?}: {form} in {:?}", forms(value));
        }
        assert!(forms("hunter2hunter2").is_empty());
    }

    /// What the shells of this machine print is what is looked for.
    #[test]
    fn shells_agree() {
        let value = "a'b \"c\" $d";
        for shell in ["bash", "sh"] {
            let traced = std::process::Command::new(shell)
                .args(["-c", "set -x; : \"$V\""])
                .env_clear()
                .env("V", value)
                .output();
            let traced = traced.expect("every machine has it");
            let traced = String::from_utf8_lossy(&traced.stderr).into_owned();
            let found = forms(value)
                .iter()
                .any(|form| traced.contains(form.as_str()));
            assert!(found || traced.contains(value), "{shell}: {traced}");
        }
    }
}
