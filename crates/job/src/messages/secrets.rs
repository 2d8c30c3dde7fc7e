//! Resolving secrets (`secrets.md` 4.3).

use super::{plain, warning};

/// Before each secret.
pub fn resolving_secret(name: &str) -> String {
    plain(&format!("Resolving secret {name:?}..."))
}

/// Which provider it is fetched from.
pub fn using_resolver(resolver: &str) -> String {
    plain(&format!("Using {resolver:?} secret resolver..."))
}

/// No provider of ours is meant.
pub fn secret_not_resolved() -> String {
    warning("Not resolved: no resolver that can handle the secret")
}
