//! Pipeline variables from the command line: `--variable` and `--variables-file` (level 11 of
//! `gitlab-ci-yaml.md` 17.2).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use courser_protocol::{JobVariable, Secret};
use serde::Deserialize;

use crate::environment::ProcessEnvironment;
use crate::failure::{Code, Failure};

/// An entry of a variables file: the value, or a mapping with flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Plain(Secret),
    Flagged(Flagged),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flagged {
    value: Secret,
    #[serde(default)]
    file: bool,
    #[serde(default)]
    masked: bool,
    #[serde(default)]
    raw: bool,
}

/// `K=V`, or `K` with the value of the environment.
pub(crate) fn from_argument(
    argument: &str,
    environment: &ProcessEnvironment,
) -> Result<JobVariable, Failure> {
    let (key, value) = match argument.split_once('=') {
        Some((key, value)) => (key, value),
        None => {
            let value = environment.variables.get(argument).ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    format!("--variable {argument}: the environment has no variable of this name"),
                )
                .hint(format!("write --variable {argument}=VALUE"))
            })?;
            (argument, value)
        }
    };
    check_name(key)
        .map_err(|problem| Failure::new(Code::Usage, format!("--variable: {problem}")))?;
    Ok(JobVariable {
        key: key.to_owned(),
        value: Secret::new(value),
        public: false,
        ..JobVariable::default()
    })
}

/// A JSON object: name to text, or to `{"value", "file", "masked", "raw"}`. It holds secrets, so a
/// file that others may read is refused.
pub(crate) fn from_file(path: &Path) -> Result<Vec<JobVariable>, Failure> {
    let named = |message: String| Failure::invalid(format!("{}: {message}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| named(error.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(named(format!(
            "variables file with mode {mode:04o}: others can read it"
        ))
        .hint(format!("chmod 600 {}", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    parse(&text).map_err(named)
}

fn parse(text: &str) -> Result<Vec<JobVariable>, String> {
    let entries: std::collections::BTreeMap<String, Entry> = serde_json::from_str(text)
        .map_err(|error| {
            // The library's own words could quote a value.
            format!(
                "line {}, column {}: expected an object of NAME: \"text\" or NAME: {{\"value\": \"text\", \"file\", \"masked\", \"raw\"}}",
                error.line(),
                error.column()
            )
        })?;
    entries
        .into_iter()
        .map(|(key, entry)| {
            check_name(&key)?;
            let Flagged {
                value,
                file,
                masked,
                raw,
            } = match entry {
                Entry::Plain(value) => Flagged {
                    value,
                    file: false,
                    masked: false,
                    raw: false,
                },
                Entry::Flagged(flagged) => flagged,
            };
            Ok(JobVariable {
                key,
                value,
                public: false,
                file,
                masked,
                raw,
            })
        })
        .collect()
}

fn check_name(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        Ok(())
    } else {
        Err(format!("{name:?} is not a variable name"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_gives_values_and_flags() {
        let variables = parse(r#"{"A": "x", "B": {"value": "y", "masked": true, "file": true}}"#)
            .expect("read");
        assert_eq!(
            (variables[0].key.as_str(), variables[0].value.expose()),
            ("A", "x")
        );
        assert!(!variables[0].masked && !variables[0].public);
        assert!(variables[1].masked && variables[1].file && !variables[1].raw);
    }

    #[test]
    fn what_is_wrong_is_named_without_the_value() {
        for text in [
            r#"{"A": 7}"#,
            r#"["hush"]"#,
            r#"{"A": {"value": "hush", "mask": true}}"#,
            r#"{"A-B": "hush"}"#,
        ] {
            let problem = parse(text).expect_err(text);
            assert!(!problem.contains("hush"), "{problem}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"A": "x"}"#).expect("written");
        let mode = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode))
                .expect("set");
        };
        mode(0o640);
        let refused = from_file(file.path()).expect_err("refused");
        assert!(refused.message().contains("0640"), "{}", refused.message());
        mode(0o600);
        assert_eq!(from_file(file.path()).expect("read").len(), 1);
    }
}
