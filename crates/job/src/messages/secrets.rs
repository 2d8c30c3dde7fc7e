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

/// What was obtained with the secrets and is given back at the job's end.
pub fn secrets_revoked(tokens: usize, leases: usize, ended: usize) -> String {
    let count = |number: usize, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {one}{plural}"))
    };
    let given = [count(tokens, "token"), count(leases, "lease")];
    let given: Vec<_> = given.into_iter().flatten().collect();
    let mut text = String::new();
    if !given.is_empty() {
        text = format!("Revoked {} of this job's secrets", given.join(" and "));
    }
    if let Some(ended) = count(ended, "token") {
        let (separator, verb) = (if text.is_empty() { "" } else { "; " }, "had ended before");
        text = format!("{text}{separator}{ended} {verb}");
    }
    plain(&text)
}

/// A server of secrets that does not take back what it gave.
pub fn secrets_not_revoked(why: &str) -> String {
    let why: String = why.lines().next().unwrap_or_default().to_owned();
    warning(&format!(
        "Could not revoke a token of this job's secrets, tried again later: {why}"
    ))
}
