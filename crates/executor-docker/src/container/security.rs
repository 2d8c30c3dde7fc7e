//! Security options: profiles of seccomp are files of the runner's machine, and travel with the request
//! (`executor-docker.md` 5.4).

use std::io;

use crate::plan::PlanError;

/// The options with each `seccomp=<path>` replaced by the profile in that file.
pub(crate) fn security_options(
    options: &[String],
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, PlanError> {
    let option = |option: &String| match option.strip_prefix("seccomp=") {
        Some(path) if !is_no_path(path) => Ok(format!("seccomp={}", profile(path, read_file)?)),
        _ => Ok(option.clone()),
    };
    options.iter().map(option).collect()
}

fn is_no_path(value: &str) -> bool {
    matches!(value, "" | "unconfined" | "builtin") || value.trim_start().starts_with('{')
}

/// One line of JSON.
fn profile(
    path: &str,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<String, PlanError> {
    let bytes = read_file(path).map_err(|error| PlanError::SeccompRead {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let profile: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
    profile
        .map(|profile| profile.to_string())
        .map_err(|_| PlanError::SeccompSyntax {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_and_all_else_stays() {
        let read = |path: &str| match path {
            "/good" => Ok(b"{\n \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}".to_vec()),
            "/bad" => Ok(b"{".to_vec()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        };
        for (option, expected) in [
            ("no-new-privileges", Ok("no-new-privileges")),
            ("seccomp=unconfined", Ok("seccomp=unconfined")),
            ("seccomp=builtin", Ok("seccomp=builtin")),
            ("seccomp={ }", Ok("seccomp={ }")),
            (
                "seccomp=/good",
                Ok("seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"),
            ),
            (
                "seccomp=/bad",
                Err("seccomp profile /bad is not valid JSON"),
            ),
            (
                "seccomp=/none",
                Err("failed to read seccomp profile from /none: no such file"),
            ),
        ] {
            let options = security_options(&[option.to_owned()], &read);
            let options = options.map_err(|error| error.to_string());
            let expected = expected
                .map(|option| vec![option.to_owned()])
                .map_err(str::to_owned);
            assert_eq!(options, expected, "{option}");
        }
    }
}
