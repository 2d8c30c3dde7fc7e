//! The environment of the runner's process, as far as providers read it.

use std::collections::BTreeMap;
use std::fmt;

/// Prefixes of the variables that count.
const PREFIXES: [&str; 5] = ["AWS_", "AZURE_", "BAO_", "GOOGLE_", "VAULT_"];

/// Variables of the process. Values may be secrets: they stay out of `Debug`.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Keeps the variables that some provider reads.
    pub fn collect<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let counts =
            |(name, _): &(&str, &str)| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let kept = all.into_iter().filter(counts);
        Self(
            kept.map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// A variable, also an empty one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
