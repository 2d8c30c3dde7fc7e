//! Pipeline variables (level 11 of `gitlab-ci-yaml.md` 17.2): from files in the user's configuration
//! directory, `--variables-file` and `--variable`.

use std::path::{Component, Path};

use courser_coordinator::{SHORTEST_MASKED, is_secret};
use courser_pipeline::Problem;
use courser_protocol::{JobVariable, Secret};
use serde::Deserialize;

use crate::environment::ProcessEnvironment;
use crate::failure::{Code, Failure};
use crate::private_file;

/// Bytes of a variables file.
const LARGEST_FILE: u64 = 1 << 20;

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

/// What the user gave, by level.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenVariables {
    /// Of files. They stand for the variables that the project would have on a server, so that child pipelines
    /// have them, too.
    pub(crate) of_project: Vec<JobVariable>,
    /// Of `--variable`.
    pub(crate) of_pipeline: Vec<JobVariable>,
}

impl GivenVariables {
    /// All, the last of a name wins.
    pub(crate) fn all(&self) -> Vec<JobVariable> {
        [self.of_project.as_slice(), &self.of_pipeline].concat()
    }
}

/// Replaces values that are not to be seen.
#[derive(Debug)]
pub(crate) struct Mask(Vec<Secret>);

impl Mask {
    /// The values of secrets ([`is_secret`]), the longest first.
    pub(crate) fn of(variables: &[JobVariable]) -> Self {
        let secret = variables
            .iter()
            .filter(|variable| is_secret(variable))
            .map(|variable| variable.value.clone());
        let mut secret: Vec<_> = secret.collect();
        secret.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        Self(secret)
    }

    /// The text without them.
    pub(crate) fn text(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, value| text.replace(value.expose(), "[MASKED]"))
    }

    /// The problems without them.
    pub(crate) fn problems(&self, problems: &[Problem]) -> Vec<Problem> {
        let mut problems = problems.to_vec();
        for problem in &mut problems {
            let texts = [
                &mut problem.file,
                &mut problem.message,
                &mut problem.source_line,
            ];
            for text in texts.into_iter().chain(&mut problem.detail) {
                *text = self.text(std::mem::take(text));
            }
        }
        problems
    }

    /// The value without them, names of members excepted.
    pub(crate) fn value(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(all) => all.into_iter().map(|one| self.value(one)).collect(),
            Value::Object(all) => all
                .into_iter()
                .map(|(name, one)| (name, self.value(one)))
                .collect(),
            other => other,
        }
    }
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

/// Variables from the files that a user keeps for all pipelines, and for those of the project whose path
/// `project` tells; they are settings, so there need be none. `project` is asked only where there are files of
/// projects.
///
/// # Errors
///
/// A file that cannot be used or that others can read.
pub(crate) fn of_user(
    environment: &ProcessEnvironment,
    project: impl FnOnce() -> Option<String>,
) -> Result<Vec<JobVariable>, Failure> {
    let directory = environment.user_configuration();
    let mut files = vec![directory.join("variables")];
    let of_projects = directory.join("variables.d");
    if of_projects.is_dir() {
        let down = |path: &String| {
            let mut parts = Path::new(path).components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let project = project().filter(down);
        files.extend(project.map(|project| of_projects.join(project)));
    }
    let mut all = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        all.extend(from_file(file)?);
    }
    Ok(all)
}

/// Lines of `KEY=VALUE`, or a JSON object: name to text, or to `{"value", "file", "masked", "raw"}`. It
/// holds secrets, so a file that others may read is refused.
pub(crate) fn from_file(path: &Path) -> Result<Vec<JobVariable>, Failure> {
    let named = |message: String| Failure::invalid(format!("{}: {message}", path.display()));
    let text = private_file::read(path, "variables file", LARGEST_FILE)?;
    if text.trim_start().starts_with('{') {
        parse_json(&text).map_err(named)
    } else {
        parse_lines(&text).map_err(named)
    }
}

/// `KEY=VALUE` lines, as tools for `.env` files write them: blank lines, comments, `export` and a pair of
/// quotes around the value do not count. Nothing is expanded. Values that GitLab could mask are masked.
fn parse_lines(text: &str) -> Result<Vec<JobVariable>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            // The text itself may hold a value.
            let refused = || format!("line {} is not KEY=VALUE", index + 1);
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) = line.split_once('=').ok_or_else(refused)?;
            let (key, value) = (key.trim_end(), value.trim_start());
            check_name(key).map_err(|_| refused())?;
            let quoted = ['"', '\'']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            let value = quoted.unwrap_or(value);
            Ok(JobVariable {
                key: key.to_owned(),
                value: Secret::new(value),
                masked: value.len() >= SHORTEST_MASKED,
                raw: true,
                public: false,
                ..JobVariable::default()
            })
        })
        .collect()
}

fn parse_json(text: &str) -> Result<Vec<JobVariable>, String> {
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
        let variables =
            parse_json(r#"{"A": "x", "B": {"value": "y", "masked": true, "file": true}}"#)
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
            let problem = parse_json(text).expect_err(text);
            assert!(!problem.contains("hush"), "{problem}");
        }
        for text in ["A=1\nhush", "hush it=7", "=hush"] {
            let problem = parse_lines(text).expect_err(text);
            assert!(!problem.contains("hush"), "{problem}");
        }
    }

    #[test]
    fn lines_of_key_and_value_are_read_as_env_files_are() {
        let text = "# note\n\nexport A=1\nB = 'x y'\nLONG=\"long-enough $A\"\nEMPTY=\n";
        let read: Vec<_> = parse_lines(text)
            .expect("read")
            .into_iter()
            .map(|variable| {
                let value = variable.value.expose().to_owned();
                (variable.key, value, variable.masked)
            })
            .collect();
        let expected = [
            ("A", "1", false),
            ("B", "x y", false),
            ("LONG", "long-enough $A", true),
            ("EMPTY", "", false),
        ];
        let expected =
            expected.map(|(key, value, masked)| (key.to_owned(), value.to_owned(), masked));
        assert_eq!(read, expected);
    }

    #[test]
    fn values_are_masked_in_texts_and_json() {
        let secret = |value: &str| JobVariable {
            value: Secret::new(value),
            masked: true,
            ..JobVariable::default()
        };
        let file = JobVariable {
            masked: false,
            file: true,
            ..secret("a")
        };
        let mask = Mask::of(&[secret("hush"), secret("hush-hush"), secret(" "), file]);
        assert_eq!(
            mask.text("a hush-hush b hush".to_owned()),
            "a [MASKED] b [MASKED]"
        );
        let value = serde_json::json!({"k": ["x hush"], "n": 1});
        assert_eq!(
            mask.value(value),
            serde_json::json!({"k": ["x [MASKED]"], "n": 1})
        );
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
