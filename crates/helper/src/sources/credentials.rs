//! Credentials of a job's remotes, kept off every command line.
//!
//! Git hands a URL with credentials to the program that fetches, as an argument that every user of the machine can read.
//! So URLs are rewritten without them, and a credential helper prints them from a file that only the job's user can read.

use std::path::Path;

use courser_job::helper_request::GetSources;
use percent_encoding::percent_decode_str;

use super::configuration::{make_private_directory, text, write_private};
use crate::HelperError;
use crate::git_config::GitConfig;
use crate::leftovers::remove_directory;

/// Directory of these files, one a server, below the temporary one.
pub(crate) const CREDENTIALS: &str = "git-credentials";

/// Who one is at a server.
#[derive(Debug, PartialEq)]
struct Login<'a> {
    /// `scheme://host[:port]`.
    base: String,
    /// As in a URL, encoded.
    user: &'a str,
    password: &'a str,
}

/// Writes the rewriting of URLs, and the credentials that they hold.
pub(super) fn write(
    request: &GetSources,
    temporary_dir: &Path,
    external: &mut GitConfig,
) -> Result<(), HelperError> {
    let directory = temporary_dir.join(CREDENTIALS);
    remove_directory(&directory)?;
    let mut known: Vec<String> = Vec::new();
    for (new, old) in &request.instead_of {
        let (url, login) = split(new.expose());
        if url != *old {
            external.section("url", &url, &[("insteadOf", old)])?;
        }
        let Some(login) = login.filter(|login| !known.contains(&login.base)) else {
            continue;
        };
        make_private_directory(&directory)?;
        let file = directory.join(known.len().to_string());
        write_private(&file, &login.for_git()?)?;
        let quoted = text(&file)?.replace('\'', r"'\''");
        // Git has a shell run it, which needs no further program to copy lines.
        let lines =
            format!("while IFS= read -r line; do printf '%s\\n' \"$line\"; done <'{quoted}'");
        let helper = format!("!f() {{ if [ \"$1\" = get ]; then {lines}; fi; }}; f");
        // Helpers that others configured are left out: they would keep the token.
        let values = [("helper", ""), ("helper", helper.as_str())];
        external.section("credential", &login.base, &values)?;
        known.push(login.base);
    }
    Ok(())
}

/// A URL without its credentials, and these. Only HTTP has a password; a user alone belongs to the address.
fn split(url: &str) -> (String, Option<Login<'_>>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@')?;
        let (user, password) = user.split_once(':')?;
        matches!(scheme, "http" | "https").then_some((scheme, user, password, host, path))
    });
    let Some((scheme, user, password, host, path)) = parts else {
        return (url.to_owned(), None);
    };
    let base = format!("{scheme}://{host}");
    let plain = format!("{base}{path}");
    let login = Login {
        base,
        user,
        password,
    };
    (plain, Some(login))
}

impl Login<'_> {
    /// What a credential helper answers.
    fn for_git(&self) -> Result<String, HelperError> {
        let decoded = |part: &str| {
            let text = percent_decode_str(part).decode_utf8_lossy().into_owned();
            if text.contains(['\n', '\r', '\0']) {
                return Err(HelperError::Request(
                    "credentials of the job hold a line break".to_owned(),
                ));
            }
            Ok(text)
        };
        let (user, password) = (decoded(self.user)?, decoded(self.password)?);
        Ok(format!("username={user}\npassword={password}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_http_urls_only() {
        for (url, plain, login) in [
            (
                "https://u:p%2Fw@h:8443/g/p.git",
                "https://h:8443/g/p.git",
                Some(("https://h:8443", "u", "p%2Fw")),
            ),
            ("http://u:p@h", "http://h", Some(("http://h", "u", "p"))),
            ("https://h/a@b:c", "https://h/a@b:c", None),
            ("https://u@h/p", "https://u@h/p", None),
            ("ssh://git:x@h/p", "ssh://git:x@h/p", None),
            ("/srv/p.git", "/srv/p.git", None),
        ] {
            let login = login.map(|(base, user, password)| Login {
                base: base.to_owned(),
                user,
                password,
            });
            assert_eq!(split(url), (plain.to_owned(), login), "{url}");
        }
    }

    #[test]
    fn an_answer_has_two_lines() {
        let login = |password| Login {
            base: String::new(),
            user: "gitlab-ci-token",
            password,
        };
        let answer = login("a%2Fb").for_git().expect("one line");
        assert_eq!(answer, "username=gitlab-ci-token\npassword=a/b\n");
        assert!(login("a%0Ahost=elsewhere").for_git().is_err());
    }
}
