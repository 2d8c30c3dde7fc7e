//! RE2's syntax on top of `regex`: patterns of `rules:if`, `only`, `coverage` and inputs.
//!
//! The engines agree on matching; they differ in a few spellings, which are translated here: `\d`, `\w`,
//! `\s` and `\b` are ASCII in RE2, a `{` that starts no repetition is literal, and brackets do not nest.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

/// Compiled size of a pattern; hostile repetitions end in an error instead of memory.
const SIZE_LIMIT: usize = 1 << 20;

/// Sizes that are tried one after the other: a pattern costs as much as the one it fits into, and giving up
/// early is cheap.
const SIZES: [usize; 3] = [8 << 10, 128 << 10, SIZE_LIMIT];

/// What all patterns of one evaluation may cost: more than any project has, and less than a second's work.
const MAXIMUM_COST: usize = 64 << 20;

/// The patterns of one evaluation: what they may cost together, and those that are compiled. Jobs that extend
/// one another have the same rules, and compiling is most of what those cost.
#[derive(Debug)]
pub(crate) struct Patterns {
    left: Cell<usize>,
    known: RefCell<HashMap<(String, String), Regex>>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            left: Cell::new(MAXIMUM_COST),
            known: RefCell::default(),
        }
    }
}

impl Patterns {
    /// Compiles `pattern` with flags out of `i`, `m`, `s`, `U`.
    pub(crate) fn compile(&self, pattern: &str, flags: &str) -> Result<Regex, regex::Error> {
        let key = (pattern.to_owned(), flags.to_owned());
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let compiled = self.build(pattern, flags)?;
        self.known.borrow_mut().insert(key, compiled.clone());
        Ok(compiled)
    }

    /// Compiles `/pattern/flags`; `None` when the text has no such form.
    pub(crate) fn compile_delimited(&self, text: &str) -> Option<Result<Regex, regex::Error>> {
        let (pattern, flags) = split_delimited(text)?;
        Some(self.compile(&pattern.replace("\\/", "/"), flags))
    }

    fn build(&self, pattern: &str, flags: &str) -> Result<Regex, regex::Error> {
        let pattern = translate(pattern);
        for size in SIZES {
            let left = self.left.get().checked_sub(size);
            let left = left.ok_or(regex::Error::CompiledTooBig(MAXIMUM_COST))?;
            self.left.set(left);
            match build_within(&pattern, flags, size) {
                Err(regex::Error::CompiledTooBig(_)) if size < SIZE_LIMIT => {}
                built => return built,
            }
        }
        Err(regex::Error::CompiledTooBig(SIZE_LIMIT))
    }
}

fn build_within(pattern: &str, flags: &str, size: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .swap_greed(flags.contains('U'))
        .size_limit(size)
        .dfa_size_limit(SIZE_LIMIT)
        .nest_limit(100)
        .build()
}

/// Splits `/pattern/flags`.
pub(crate) fn split_delimited(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('/')?;
    let end = rest.rfind('/')?;
    let (pattern, flags) = (&rest[..end], &rest[end + 1..]);
    (!pattern.is_empty() && flags.chars().all(|flag| "ismU".contains(flag)))
        .then_some((pattern, flags))
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let (taken, piece) = match next {
            '\\' => escape(rest, in_class),
            '[' if in_class && rest.starts_with("[:") => match rest.find(":]") {
                Some(end) => (end + 2, rest[..end + 2].to_owned()),
                None => (1, "\\[".to_owned()),
            },
            '[' if in_class => (1, "\\[".to_owned()),
            '[' => {
                in_class = true;
                // A bracket in first place is literal.
                let lead = ["[^]", "[]", "[^"]
                    .into_iter()
                    .find(|lead| rest.starts_with(lead))
                    .unwrap_or("[");
                (lead.len(), lead.replace(']', "\\]"))
            }
            ']' if in_class => {
                in_class = false;
                (1, "]".to_owned())
            }
            '&' | '~' if in_class => (1, format!("\\{next}")),
            '{' if !in_class && !starts_repetition(rest) => (1, "\\{".to_owned()),
            _ => (next.len_utf8(), next.to_string()),
        };
        out.push_str(&piece);
        rest = &rest[taken..];
    }
    out
}

fn escape(rest: &str, in_class: bool) -> (usize, String) {
    let Some(escaped) = rest.chars().nth(1) else {
        return (1, "\\".to_owned());
    };
    let taken = 1 + escaped.len_utf8();
    let class = |set: &str| {
        if in_class {
            set.to_owned()
        } else {
            format!("[{set}]")
        }
    };
    let piece = match escaped {
        'd' => class("0-9"),
        'w' => class("0-9A-Za-z_"),
        's' => class("\\t\\n\\x0C\\r "),
        'D' => "[^0-9]".to_owned(),
        'W' => "[^0-9A-Za-z_]".to_owned(),
        'S' => "[^\\t\\n\\x0C\\r ]".to_owned(),
        'b' if !in_class => "(?-u:\\b)".to_owned(),
        '<' | '>' => escaped.to_string(),
        'Q' if !in_class => {
            let quoted = &rest[2..];
            let end = quoted.find("\\E").unwrap_or(quoted.len());
            let length = (2 + end + 2).min(rest.len());
            return (length, regex::escape(&quoted[..end]));
        }
        _ => format!("\\{escaped}"),
    };
    (taken, piece)
}

fn starts_repetition(rest: &str) -> bool {
    let Some(end) = rest.find('}') else {
        return false;
    };
    let (least, most) = rest[1..end]
        .split_once(',')
        .unwrap_or_else(|| (&rest[1..end], ""));
    !least.is_empty()
        && least
            .chars()
            .chain(most.chars())
            .all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_re2_are_understood() {
        for (pattern, text, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\d.]+$", "1.2", true),
            (r"^v{$", "v{", true),
            (r"^a{2}$", "aa", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "b", true),
            ("^[[]$", "[", true),
            ("^[a&&b]+$", "a&b", true),
            (r"\bmain\b", "a main b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            ("^[[:alpha:]]+$", "abc", true),
        ] {
            assert_eq!(
                Patterns::default()
                    .compile(pattern, "")
                    .unwrap()
                    .is_match(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_re2_lacks_is_refused_and_size_is_bounded() {
        for pattern in [
            "(?=a)",
            r"(a)\1",
            "a{1000}{1000}",
            "(",
            "((a{100}){100}){100}",
        ] {
            assert!(
                Patterns::default().compile(pattern, "").is_err(),
                "{pattern}"
            );
        }
    }

    #[test]
    fn all_patterns_of_an_evaluation_share_a_budget() {
        let patterns = Patterns::default();
        let heavy = |at: usize| {
            let pattern = format!(r"(\pL{{10}}N{at}x){{2}}");
            patterns.compile(&pattern, "").is_ok()
        };
        let plain = |at: usize| {
            let pattern = format!(r"^release/v{at}\.\d+$");
            patterns.compile(&pattern, "").is_ok()
        };
        // As many as a large project may have, and again, because they are known now.
        assert!((0..1_000).chain(0..1_000).all(plain));
        assert!(heavy(0));
        assert!(!(1..480).all(heavy));
        assert!(heavy(0), "it is known");
    }

    #[test]
    fn flags_apply() {
        let patterns = Patterns::default();
        let compiled = |text: &str| patterns.compile_delimited(text).map(Result::unwrap);
        assert!(compiled("/^B$/im").unwrap().is_match("a\nb"));
        assert!(compiled("/a\\/b/").unwrap().is_match("a/b"));
        assert!(compiled("a/b").is_none());
    }
}
