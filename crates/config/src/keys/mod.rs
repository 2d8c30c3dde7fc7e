//! Every key of `config.toml` by name: its type, when upstream writes it, its flag and variable.
//!
//! The one source for reading (types, unknown keys, case folding), for writing (order and what is
//! always written) and for the flags of `register` and `run-single`. Facts: `runner-config.md` 2 to 11.

mod docker;
mod executors;
mod file;
mod kubernetes;

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name as upstream writes it.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// When upstream writes it.
    pub(crate) saved: Saved,
    flag: &'static str,
    variable: &'static str,
}

/// Type of a key.
#[derive(Debug, Clone, Copy)]
#[expect(
    missing_docs,
    reason = "the names say it; `Optional` keys may be unset, which differs from empty"
)]
pub enum Kind {
    Text,
    OptionalText,
    Int,
    OptionalInt,
    Float,
    Bool,
    OptionalBool,
    Duration,
    OptionalDuration,
    Time,
    Texts,
    TextOrTexts,
    Ints,
    Floats,
    TextMap,
    BoolMap,
    IntMap,
    TextsMap,
    /// Anything below it is allowed.
    Free,
    /// A table with these keys.
    Table(&'static [Key]),
    /// An array of such tables.
    Tables(&'static [Key]),
}

/// When a key is written as the file is saved (`runner-config.md` 14.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// Also when it is zero or empty.
    Always,
    /// Where it was set.
    IfSet,
    /// Where it is not zero or empty.
    IfNotEmpty,
}

/// A flag of `register` and `run-single` that fills a key below `[[runners]]`.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Keys from the runner's table down to the one that is filled.
    pub path: Vec<&'static str>,
    /// Type of that key.
    pub kind: Kind,
    /// Name without dashes.
    pub name: String,
    /// Environment variable, if it has one.
    pub variable: Option<String>,
}

/// Keys of the top level.
pub(crate) const FILE: &[Key] = file::GLOBAL;
/// Keys of `[[runners]]`.
pub(crate) const RUNNER: &[Key] = file::RUNNER;

/// A key of `[runners.docker]`.
pub(crate) fn docker(name: &str) -> Option<&'static Key> {
    docker::DOCKER.iter().find(|key| key.name == name)
}

/// All flags that fill keys of a runner, in the order of the file.
pub fn runner_flags() -> Vec<Flag> {
    let mut flags = Vec::new();
    collect(RUNNER, &Flag::root(), &mut flags);
    flags
}

/// Finds a key: the exact name first, else without regard to case, as BurntSushi/toml does.
pub(crate) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter()
        .find(|key| key.name == name)
        .or_else(|| keys.iter().find(|key| key.name.eq_ignore_ascii_case(name)))
}

impl Flag {
    fn root() -> Self {
        Self {
            path: Vec::new(),
            kind: Kind::Free,
            name: String::new(),
            variable: None,
        }
    }

    /// Flag and variable of `key` below this one: those that begin with `-` and `_` are suffixes.
    fn below(&self, key: &Key) -> Self {
        let mut path = self.path.clone();
        path.push(key.name);
        let name = if key.flag.starts_with('-') {
            format!("{}{}", self.name, key.flag)
        } else {
            key.flag.to_owned()
        };
        let variable = match (key.variable, &self.variable) {
            ("", _) => None,
            (suffix, Some(prefix)) if suffix.starts_with('_') => Some(format!("{prefix}{suffix}")),
            (variable, _) => Some(variable.to_owned()),
        };
        Self {
            path,
            kind: key.kind,
            name,
            variable,
        }
    }
}

fn collect(keys: &'static [Key], parent: &Flag, flags: &mut Vec<Flag>) {
    for key in keys {
        let flag = parent.below(key);
        match key.kind {
            Kind::Table(below) => collect(below, &flag, flags),
            _ if !flag.name.is_empty() => flags.push(flag),
            _ => {}
        }
    }
}

const fn key(name: &'static str, kind: Kind, saved: Saved) -> Key {
    flagged(name, kind, saved, "", "")
}

const fn flagged(
    name: &'static str,
    kind: Kind,
    saved: Saved,
    flag: &'static str,
    variable: &'static str,
) -> Key {
    Key {
        name,
        kind,
        saved,
        flag,
        variable,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_as_many_flags_as_upstream_has_and_no_name_twice() {
        let flags = runner_flags();
        let names: BTreeSet<_> = flags.iter().map(|flag| flag.name.as_str()).collect();
        assert_eq!(names.len(), flags.len());
        assert_eq!(flags.len(), 348);
    }

    #[test]
    fn suffixes_of_security_contexts_are_joined() {
        let flags = runner_flags();
        let find = |name: &str| {
            flags
                .iter()
                .find(|flag| flag.name == name)
                .unwrap_or_else(|| panic!("no flag {name}"))
        };
        let user = find("kubernetes-build_container_security_context-run-as-user");
        assert_eq!(
            user.variable.as_deref(),
            Some("KUBERNETES_BUILD_CONTAINER_SECURITY_CONTEXT_RUN_AS_USER")
        );
        assert_eq!(
            user.path,
            [
                "kubernetes",
                "build_container_security_context",
                "run_as_user"
            ]
        );
        let profile = find("kubernetes-pod-security-context-seccomp_profile-localhost-profile");
        assert_eq!(
            profile.variable.as_deref(),
            Some("KUBERNETES_POD_SECURITY_CONTEXT_SECCOMP_PROFILE_LOCALHOST_PROFILE")
        );
        assert_eq!(
            find("cache-gcs-credentials-file").variable.as_deref(),
            Some("GOOGLE_APPLICATION_CREDENTIALS")
        );
        assert_eq!(find("unhealthy-interval").variable, None);
    }

    #[test]
    fn names_match_exactly_first_and_then_without_case() {
        assert_eq!(
            find(FILE, "Concurrent").map(|key| key.name),
            Some("concurrent")
        );
        assert!(find(FILE, "concurent").is_none());
    }
}
