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

/// A server of secrets that does not take back what it gave; whether that is tried `again`.
pub fn secrets_not_revoked(why: &str, again: bool) -> String {
    let why: String = why.lines().next().unwrap_or_default().to_owned();
    let then = if again {
        "tried again later"
    } else {
        "it stays until it ends by itself"
    };
    warning(&format!(
        "Could not revoke a token of this job's secrets, {then}: {why}"
    ))
}

/// A login that got no usable answer, to one of its tries at least, at this server.
pub fn login_not_answered(server: &str) -> String {
    warning(&format!(
        "A login at {server} got no usable answer: had it made a token, this ends by itself"
    ))
}

/// The server of secrets takes its time: so many requests are under way.
pub fn revoked_later(requests: usize) -> String {
    let plural = if requests == 1 { " is" } else { "s are" };
    plain(&format!(
        "{requests} request{plural} still under way for this job's secrets: what comes of it is revoked when it comes"
    ))
}

/// The caches and artifacts of a job are saved by another process than its secrets were fetched by.
pub fn saving_lacks_secrets() -> String {
    warning(
        "What is saved now is saved without this job's secrets: its runner does not have them any more",
    )
}

/// Nor can they be, as `keyword` is made of secrets.
pub fn artifacts_need_secrets(keyword: &str) -> String {
    warning(&format!(
        "Caches and artifacts are not saved: {keyword} is made of this job's secrets, which its runner does not have \
         any more"
    ))
}

/// A cache that is not saved, as `keyword` is made of secrets.
pub fn cache_needs_secrets(keyword: &str) -> String {
    warning(&format!(
        "A cache is not saved: {keyword} is made of this job's secrets, which its runner does not have any more"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_will_revoke_is_not_promised_to_be() {
        for (again, wanted) in [
            (true, "tried again later"),
            (false, "until it ends by itself"),
        ] {
            let text = secrets_not_revoked("https://v: status 500", again);
            assert!(text.contains(wanted), "{text}");
            assert_eq!(text.contains("again"), again, "{text}");
        }
    }
}
