//! The process environment as a value.

use std::collections::BTreeMap;

/// Environment variables, captured once by `cli`.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes name and value pairs.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Replaces `$NAME` and `${NAME}` as Go's `os.Expand` does: an unset name gives nothing, a `$`
    /// cannot be escaped (`runner-config.md` 14.3).
    pub fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, width) = reference(after);
            match name {
                Some(name) => expanded.push_str(self.get(name).unwrap_or_default()),
                None if width == 0 => expanded.push('$'),
                None => {}
            }
            rest = &after[width..];
        }
        expanded.push_str(rest);
        expanded
    }

    /// Value of a variable, also an empty one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The name that follows a `$`, and how many bytes the reference takes; no name but a width is a
/// reference that Go swallows (`${}`, `${a`).
fn reference(after: &str) -> (Option<&str>, usize) {
    const SPECIAL: &str = "*#$@!?-0123456789";
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.find('}') {
            Some(0) => (None, 2),
            Some(end) => (Some(&braced[..end]), end + 2),
            None => (None, 1),
        };
    }
    if after.starts_with(|letter| SPECIAL.contains(letter)) {
        return (Some(&after[..1]), 1);
    }
    let end = after
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(after.len());
    if end == 0 {
        (None, 0)
    } else {
        (Some(&after[..end]), end)
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_go_does() {
        let environment = Environment::new([("A".to_owned(), "x".to_owned())]);
        for (text, expected) in [
            ("$A/${A}/$B.", "x/x/."),
            ("100%$", "100%$"),
            ("$A$A", "xx"),
            ("${}a${A", "aA"),
            ("$$A", "A"),
            ("$-", ""),
            ("$/", "$/"),
        ] {
            assert_eq!(environment.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn values_stay_out_of_debug_output() {
        let environment = Environment::new([("TOKEN".to_owned(), "hidden".to_owned())]);
        assert_eq!(format!("{environment:?}"), "[\"TOKEN\"]");
    }
}
