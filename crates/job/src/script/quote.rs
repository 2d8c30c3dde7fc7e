//! Quoting for POSIX shells (`runner-build-lifecycle.md` 3.3).

use std::fmt::Write as _;

/// How literal text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// `$'…'`, for bash.
    AnsiC,
    /// `'…'`, for shells that may not know `$'…'` (dash).
    Single,
    /// `"…"`, with `FF_POSIXLY_CORRECT_ESCAPES`.
    Double,
}

impl Quoting {
    /// Appends `text` as one literal word. NUL, which no shell can hold, is left out.
    ///
    /// Unlike upstream's POSIX mode everything outside the safe set is quoted: a newline or `;` alone
    /// must not end the command.
    pub(crate) fn push(self, script: &mut String, text: &str) {
        if !text.is_empty() && text.bytes().all(is_safe) {
            script.push_str(text);
            return;
        }
        match self {
            _ if text.is_empty() => script.push_str("''"),
            Self::AnsiC => push_ansi_c(script, text),
            Self::Single => {
                script.push('\'');
                for character in text.chars() {
                    match character {
                        '\0' => {}
                        '\'' => script.push_str("'\\''"),
                        other => script.push(other),
                    }
                }
                script.push('\'');
            }
            Self::Double => {
                script.push('"');
                for character in text.chars() {
                    match character {
                        '\0' => {}
                        '`' | '"' | '\\' | '$' => {
                            script.push('\\');
                            script.push(character);
                        }
                        other => script.push(other),
                    }
                }
                script.push('"');
            }
        }
    }

    /// `text` as one literal word.
    pub(crate) fn word(self, text: &str) -> String {
        let mut word = String::with_capacity(text.len() + 3);
        self.push(&mut word, text);
        word
    }
}

fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b",-./@_".contains(&byte)
}

fn push_ansi_c(script: &mut String, text: &str) {
    script.reserve(text.len() + text.len() / 8 + 3);
    script.push_str("$'");
    for byte in text.bytes() {
        match byte {
            0 => {}
            b'\\' => script.push_str("\\\\"),
            b'\'' => script.push_str("\\'"),
            0x07 => script.push_str("\\a"),
            0x08 => script.push_str("\\b"),
            b'\t' => script.push_str("\\t"),
            b'\n' => script.push_str("\\n"),
            0x0b => script.push_str("\\v"),
            0x0c => script.push_str("\\f"),
            b'\r' => script.push_str("\\r"),
            b' '..=b'~' => script.push(char::from(byte)),
            other => {
                // Two hex digits exactly, so a following digit is not taken in by bash.
                let _ = write!(script, "\\x{other:02x}");
            }
        }
    }
    script.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn words_are_quoted_as_documented() {
        for (text, ansi, single, double) in [
            ("", "''", "''", "''"),
            (
                "a/b-c.d,e@f_0",
                "a/b-c.d,e@f_0",
                "a/b-c.d,e@f_0",
                "a/b-c.d,e@f_0",
            ),
            ("a b", "$'a b'", "'a b'", "\"a b\""),
            ("it's", "$'it\\'s'", "'it'\\''s'", "\"it's\""),
            (
                "$A`b`\\\"",
                "$'$A`b`\\\\\"'",
                "'$A`b`\\\"'",
                "\"\\$A\\`b\\`\\\\\\\"\"",
            ),
            ("a\nb\t", "$'a\\nb\\t'", "'a\nb\t'", "\"a\nb\t\""),
            (
                "\u{1b}[0mé",
                "$'\\x1b[0m\\xc3\\xa9'",
                "'\u{1b}[0mé'",
                "\"\u{1b}[0mé\"",
            ),
            ("a\0b c", "$'ab c'", "'ab c'", "\"ab c\""),
        ] {
            assert_eq!(Quoting::AnsiC.word(text), ansi);
            assert_eq!(Quoting::Single.word(text), single);
            assert_eq!(Quoting::Double.word(text), double);
        }
    }

    fn run(shell: &str, script: &str) -> Vec<u8> {
        let mut child = Command::new(shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shell starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(script.as_bytes()).expect("the shell reads");
        drop(stdin);
        child.wait_with_output().expect("the shell ends").stdout
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_shell_gives_back_every_text(
            texts in proptest::collection::vec("(?s)[^\0]{0,40}", 1..12),
            noise in "[\x01-\x7f]{1,80}",
        ) {
            for (shell, quoting) in [
                ("bash", Quoting::AnsiC),
                ("bash", Quoting::Single),
                ("bash", Quoting::Double),
                ("dash", Quoting::Single),
                ("dash", Quoting::Double),
            ] {
                let mut script = String::new();
                let mut expected = Vec::new();
                for text in texts.iter().chain([&noise]) {
                    script.push_str("printf '%s\\0' ");
                    quoting.push(&mut script, text);
                    script.push('\n');
                    expected.extend_from_slice(text.as_bytes());
                    expected.push(0);
                }
                prop_assert_eq!(run(shell, &script), expected, "{} {:?}", shell, quoting);
            }
        }
    }
}
