//! From the text of a file to a [`Config`], with warnings; and the stricter check of `lint`.
//!
//! Facts: `runner-config.md` 13 and 14.6, `runner-cli.md` 2.3.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::environment::Environment;
use crate::error::{ConfigError, Source, Warning};
use crate::keys::{self, Key, Kind};
use crate::model::{ACTED, Config, DockerConfig, INERT, KeyFault, fingerprint, secrets};
use crate::setting::{RemarkKind, Section, Setting, read};

/// A file that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says, defaults filled in.
    pub config: Config,
    /// Unknown keys, keys in another case, keys without effect yet.
    pub warnings: Vec<Warning>,
    /// What the schema check finds: worth one info line (`runner-config.md` 14.6).
    pub advice: Vec<String>,
}

/// Reads the text of a file; `file` is its path for messages.
pub fn load(text: &str, file: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
    let source = Source { file, text };
    let (section, remarks) = read(&source)?;
    check_labels(&source, &section)?;
    check_secrets(&source, &section)?;
    let mut warnings: Vec<_> = remarks
        .into_iter()
        .map(|remark| Warning {
            line: source.position(remark.span.start).0,
            key: remark.path,
            message: match remark.kind {
                RemarkKind::Unknown => "unknown key, ignored".to_owned(),
                RemarkKind::OtherCase(name) => format!("read as {name}"),
            },
        })
        .collect();
    warn_of_idle_keys(&source, &section, keys::FILE, "", &mut warnings);
    let config = Config::read(&section, environment);
    warnings.extend(
        docker_faults(&source, &section, &config).map(|(_, line, fault)| Warning {
            line,
            key: format!("runners.docker.{}", fault.key),
            message: format!("{}; every job of this runner is refused", fault.message),
        }),
    );
    warnings.sort_by_key(|warning| warning.line);
    Ok(Loaded {
        config,
        warnings,
        advice: schema_problems(&section, environment),
    })
}

/// Why `lint` refuses a file; `Display` is upstream's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LintError {
    /// It cannot be loaded.
    #[error("decoding config: {0}")]
    Decode(#[from] ConfigError),
    /// A value is none of those allowed.
    #[error("config schema validation failed: {}", .0.join("; "))]
    Schema(Vec<String>),
    /// Keys that nobody knows.
    #[error("{} unknown key(s) found in {file}:{}", .keys.len(), unknown_lines(.keys))]
    UnknownKeys {
        /// The file.
        file: String,
        /// Dotted keys with their lines.
        keys: Vec<(String, usize)>,
    },
}

fn unknown_lines(keys: &[(String, usize)]) -> String {
    keys.iter()
        .map(|(key, line)| format!("\n  unknown key: {key} (line {line})"))
        .collect()
}

/// The check of `lint`: what `load` takes with a warning may be an error here.
pub fn lint(text: &str, file: &str, environment: &Environment) -> Result<(), LintError> {
    let source = Source { file, text };
    let (section, remarks) = read(&source)?;
    check_labels(&source, &section)?;
    check_secrets(&source, &section)?;
    let mut problems = schema_problems(&section, environment);
    let config = Config::read(&section, environment);
    problems.extend(docker_faults(&source, &section, &config).map(
        |(index, line, KeyFault { key, message })| {
            format!("runners[{index}].docker.{key} (line {line}): {message}")
        },
    ));
    if !problems.is_empty() {
        return Err(LintError::Schema(problems));
    }
    let keys: Vec<_> = remarks
        .into_iter()
        .filter(|remark| remark.kind == RemarkKind::Unknown)
        .map(|remark| (remark.path, source.position(remark.span.start).0))
        .collect();
    if keys.is_empty() {
        Ok(())
    } else {
        Err(LintError::UnknownKeys {
            file: file.to_owned(),
            keys,
        })
    }
}

/// Only an executor that runs containers looks into this table.
const DOCKER: &str = "runners.docker";

fn is_acted(path: &str) -> bool {
    let of_docker = path
        .strip_prefix(DOCKER)
        .and_then(|rest| rest.strip_prefix('.'));
    let acted = |key| DockerConfig::KEYS.contains(&key) && !DockerConfig::IDLE.contains(&key);
    ACTED.contains(&path) || of_docker.is_some_and(acted)
}

/// Warns once of every key, or of every table as a whole, that is known but does nothing here.
fn warn_of_idle_keys(
    source: &Source<'_>,
    section: &Section,
    keys: &'static [Key],
    path: &str,
    warnings: &mut Vec<Warning>,
) {
    for key in keys {
        let Some(placed) = section.settings.get(key.name) else {
            continue;
        };
        let full = if path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{path}.{}", key.name)
        };
        if placed.setting.is_empty() || is_acted(&full) || INERT.contains(&full.as_str()) {
            continue;
        }
        let below = format!("{full}.");
        let looked_into = ACTED
            .iter()
            .chain(INERT)
            .any(|acted| acted.starts_with(&below))
            || (full == DOCKER && section.text("executor") == Some("docker"));
        match (&placed.setting, key.kind) {
            (Setting::Table(inner), Kind::Table(keys)) if looked_into => {
                warn_of_idle_keys(source, inner, keys, &full, warnings);
            }
            (Setting::Tables(inner), Kind::Tables(keys)) if looked_into => {
                for section in inner {
                    warn_of_idle_keys(source, section, keys, &full, warnings);
                }
            }
            _ => warnings.push(Warning {
                line: source.position(placed.span.start).0,
                message: if full == DOCKER {
                    let executor = section.text("executor").unwrap_or_default();
                    format!("has no effect with executor {executor:?}")
                } else {
                    "known, but has no effect in Courser yet".to_owned()
                },
                key: full,
            }),
        }
    }
}

/// Values of `[runners.docker]` that cannot be used: number of the runner, line, fault.
fn docker_faults<'a>(
    source: &'a Source<'_>,
    file: &'a Section,
    config: &'a Config,
) -> impl Iterator<Item = (usize, usize, &'a KeyFault)> {
    let sections = file.tables("runners").iter().zip(&config.runners);
    sections
        .enumerate()
        .flat_map(move |(index, (section, runner))| {
            let faults = runner.docker.iter().flat_map(|docker| &docker.faults);
            faults.filter_map(move |fault| {
                let place = section.table("docker")?.place(fault.key);
                Some((index, source.position(place.start).0, fault))
            })
        })
}

/// Tokens must not go elsewhere than the file says.
fn check_secrets(source: &Source<'_>, file: &Section) -> Result<(), ConfigError> {
    let tables = file.tables("runners").iter();
    match tables
        .filter_map(|runner| runner.table("secrets"))
        .find_map(secrets::fault)
    {
        None => Ok(()),
        Some((table, key, message)) => Err(source.error(table.place(key), message)),
    }
}

/// Labels decide which jobs come: a bad one fails the load (`runner-config.md` 2.4).
fn check_labels(source: &Source<'_>, file: &Section) -> Result<(), ConfigError> {
    const MOST: usize = 32;
    let none = BTreeMap::new();
    let check = |labels: &BTreeMap<String, String>, place: Range<usize>, path: &str| {
        for (key, value) in labels {
            if !is_label_key(key) || !is_label_value(value) {
                return Err(source.error(
                    place,
                    format!(
                        "{path}: label {key:?} = {value:?} is not allowed: a key has 3 to 65 and \
                         a value 1 to 256 letters, digits, dots, underscores and hyphens; a key \
                         begins with a letter, digit or underscore"
                    ),
                ));
            }
        }
        Ok(())
    };
    let global = file.text_map("labels").unwrap_or(&none);
    check(global, file.place("labels"), "labels")?;
    for runner in file.tables("runners") {
        let own = runner.text_map("labels").unwrap_or(&none);
        check(own, runner.place("labels"), "runners.labels")?;
        let count = global.len() + own.keys().filter(|key| !global.contains_key(*key)).count();
        if count > MOST {
            return Err(source.error(
                runner.place("labels"),
                format!("runners.labels: {count} labels with the global ones, at most {MOST} are allowed"),
            ));
        }
    }
    Ok(())
}

fn is_label_key(text: &str) -> bool {
    let first = text.bytes().next();
    (3..=65).contains(&text.len())
        && first.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
        && text.bytes().all(is_label_letter)
}

fn is_label_value(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(is_label_letter)
}

fn is_label_letter(letter: u8) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'_' | b'-')
}

/// The schema check (`runner-config.md` 14.6).
fn schema_problems(file: &Section, environment: &Environment) -> Vec<String> {
    const SHELLS: [&str; 6] = ["", "bash", "sh", "cmd", "pwsh", "powershell"];
    let mut problems = Vec::new();
    for (index, runner) in file.tables("runners").iter().enumerate() {
        let at = format!("runners[{index}]");
        for name in ["url", "token"] {
            if environment
                .expand(runner.text(name).unwrap_or_default())
                .is_empty()
            {
                problems.push(format!("{at}.{name}: must not be empty"));
            }
        }
        let shell = runner.text("shell").unwrap_or_default();
        if !SHELLS.contains(&shell) {
            problems.push(format!(
                "{at}.shell: {shell:?} is none of bash, sh, cmd, pwsh, powershell"
            ));
        }
        if runner
            .table("referees")
            .is_some_and(|referees| referees.table("metrics").is_none())
        {
            problems.push(format!("{at}.referees: metrics is missing"));
        }
        let trust = runner.table("trust");
        let anchors = trust.map_or(&[][..], |trust| trust.texts("job_tools_anchors"));
        for (number, anchor) in anchors.iter().enumerate() {
            if fingerprint(anchor).is_none() {
                problems.push(format!(
                    "{at}.trust.job_tools_anchors[{number}]: {anchor:?} is no SHA-256 fingerprint (64 hexadecimal digits)"
                ));
            }
        }
        let kubernetes = runner
            .table("kubernetes")
            .and_then(|kubernetes| kubernetes.table("autoscaler"));
        for (path, scaler) in [
            ("autoscaler", runner.table("autoscaler")),
            ("kubernetes.autoscaler", kubernetes),
        ] {
            let policies = scaler.map_or(&[][..], |scaler| scaler.tables("policy"));
            for (number, policy) in policies.iter().enumerate() {
                let idle = policy
                    .duration("idle_time")
                    .unwrap_or_default()
                    .nanoseconds();
                if idle != 0 && idle < 1_000_000_000 {
                    problems.push(format!(
                        "{at}.{path}.policy[{number}].idle_time: must be 0 or at least 1s"
                    ));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn environment() -> Environment {
        Environment::new([("TOKEN".to_owned(), "glrt-secret".to_owned())])
    }

    fn loaded(text: &str) -> Loaded {
        load(text, "config.toml", &environment()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(text: &str) -> String {
        load(text, "config.toml", &environment())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn an_empty_file_has_all_the_defaults() {
        let loaded = loaded("");
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.config.concurrent, 1);
        assert_eq!(loaded.config.check_interval, Duration::from_secs(3));
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn zero_and_negative_numbers_mean_the_default() {
        let loaded = loaded(
            "check_interval = -1\nshutdown_timeout = 0\nconnection_max_age = \"0s\"\nconcurrent = 0\n\
             [[runners]]\noutput_limit = 0\nrequest_concurrency = 0\nunhealthy_interval = \"0s\"\n\
             prepare_timeout = \"-1s\"",
        );
        let runner = &loaded.config.runners[0];
        assert_eq!(loaded.config.check_interval, Duration::from_secs(3));
        assert_eq!(loaded.config.shutdown_timeout, Duration::from_secs(30));
        assert_eq!(loaded.config.connection_max_age, Duration::ZERO);
        assert_eq!(loaded.config.concurrent, 0);
        assert_eq!(runner.output_limit, 4096);
        assert_eq!(runner.request_concurrency, 1);
        assert_eq!(runner.unhealthy_interval, Duration::from_secs(3600));
        assert_eq!(runner.prepare_timeout, None);
    }

    #[test]
    fn url_and_token_take_references_and_nothing_else_does() {
        let loaded = loaded(
            "[[runners]]\nname = \"$TOKEN\"\nurl = \"https://${HOST}/\"\ntoken = \"$TOKEN\"",
        );
        let runner = &loaded.config.runners[0];
        assert_eq!(runner.name, "$TOKEN");
        assert_eq!(runner.url, "https:///");
        assert_eq!(runner.token.expose(), "glrt-secret");
    }

    #[test]
    fn the_year_one_means_never_and_texts_are_times_too() {
        let loaded = loaded(
            "[[runners]]\ntoken_obtained_at = \"2026-01-02T03:04:05Z\"\n\
             token_expires_at = 0001-01-01T00:00:00Z",
        );
        let runner = &loaded.config.runners[0];
        assert_eq!(runner.token_expires_at, None);
        assert_eq!(
            runner.token_obtained_at.map(|time| time.to_string()),
            Some("2026-01-02T03:04:05Z".to_owned())
        );
    }

    #[test]
    fn a_runner_s_labels_lie_over_the_global_ones() {
        let loaded = loaded(
            "[labels]\nzone = \"one\"\nrack = \"r1\"\n[[runners]]\n[runners.labels]\nzone = \"two\"",
        );
        let labels: Vec<_> = loaded.config.runners[0].labels.iter().collect();
        assert_eq!(
            labels,
            [
                (&"rack".to_owned(), &"r1".to_owned()),
                (&"zone".to_owned(), &"two".to_owned())
            ]
        );
        assert!(
            refused("[labels]\nab = \"x\"").starts_with("config.toml:1:2: labels: label \"ab\"")
        );
        let many: String = (0..33).map(|n| format!("label{n} = \"x\"\n")).collect();
        assert!(refused(&format!("[[runners]]\n[runners.labels]\n{many}")).contains("33 labels"));
    }

    #[test]
    fn unknown_idle_and_differently_written_keys_are_warned_of_with_their_line() {
        let text = "Concurrent = 4\nconcurent = 5\n\n[session_server]\nsession_timeout = 1800\n\n\
                    [[runners]]\nname = \"a\"\nexecuter = \"shell\"\n\
                    [runners.docker]\nimage = \"x\"\nprivileged = false\n\
                    [runners.cache]\nMaxUploadedArchiveSize = 0\n[runners.cache.s3]\n\
                    [runner.ssh]\n";
        let loaded = loaded(text);
        assert_eq!(loaded.config.concurrent, 4);
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "line 1: Concurrent: read as concurrent",
                "line 2: concurent: unknown key, ignored",
                "line 9: runners.executer: unknown key, ignored",
                "line 10: runners.docker: has no effect with executor \"\"",
                "line 16: runner: unknown key, ignored",
            ]
        );
    }

    #[test]
    fn the_exact_name_beats_another_case() {
        assert_eq!(
            loaded("CONCURRENT = 9\nconcurrent = 2").config.concurrent,
            2
        );
    }

    #[test]
    fn trust_for_the_jobs_tools_can_be_turned_off_and_limited() {
        const RUNNER: &str = "[[runners]]\nurl = \"u\"\ntoken = \"t\"\n";
        let runner = |keys: &str| {
            let loaded = loaded(&format!("{RUNNER}[runners.trust]\n{keys}\n"));
            assert_eq!(loaded.warnings, [], "{keys}");
            loaded.config.runners[0].clone()
        };
        assert!(runner("").job_tools && runner("job_tools = true").job_tools);
        assert!(!runner("job_tools = false").job_tools);
        assert!(runner("job_tools = false").trust_in_images);
        assert!(!runner("images = false").trust_in_images);
        assert_eq!(runner("job_tools_anchors = []").job_tools_anchors, None);
        let colons = ["AB"; 32].join(":");
        let both = format!(
            "job_tools_anchors = [\"{colons}\", \"{}\"]",
            "ab".repeat(32)
        );
        assert_eq!(runner(&both).job_tools_anchors, Some(vec![[0xab; 32]; 2]));
        // A typing error must not open what was meant to be limited.
        let typo = "job_tools_anchors = [\"sha1:12\"]";
        assert_eq!(runner(typo).job_tools_anchors, Some(vec![]));
        let text = format!("{RUNNER}[runners.trust]\n{typo}\n");
        let error = lint(&text, "config.toml", &environment()).expect_err("lint says so");
        assert!(
            error
                .to_string()
                .contains("job_tools_anchors[0]: \"sha1:12\" is no SHA-256"),
            "{error}"
        );
    }

    #[test]
    fn what_upstream_writes_itself_draws_no_warning() {
        let text = "concurrent = 1\ncheck_interval = 0\nconnection_max_age = \"15m0s\"\n\
            shutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n\n[[runners]]\n  \
            name = \"host\"\n  url = \"https://gitlab.example.com\"\n  id = 7\n  token = \"glrt-x\"\n  \
            token_obtained_at = 2026-01-02T03:04:05Z\n  token_expires_at = 0001-01-01T00:00:00Z\n  \
            executor = \"shell\"\n  [runners.cache]\n    MaxUploadedArchiveSize = 0\n    \
            [runners.cache.s3]\n      AssumeRoleMaxConcurrency = 0\n    [runners.cache.gcs]\n    \
            [runners.cache.azure]\n";
        let loaded = loaded(text);
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.advice, Vec::<String>::new());
    }

    #[test]
    fn wrong_types_name_the_line_and_the_full_key() {
        for (text, expected) in [
            (
                "concurrent = \"5\"",
                "config.toml:1:14: concurrent: expected an integer, found a string\n  |\n1 | concurrent = \"5\"\n  |              ^",
            ),
            (
                "[runners]\nname = \"x\"",
                "config.toml:1:1: runners: expected an array of tables, found a table\n  |\n1 | [runners]\n  | ^",
            ),
            (
                "[[runners]]\n  [runners.ssh]\n  port = 22",
                "config.toml:3:10: runners.ssh.port: expected a string, found an integer\n  |\n3 |   port = 22\n  |          ^",
            ),
            (
                "[[runners]]\nunhealthy_interval = \"3600 s\"",
                "config.toml:2:22: runners.unhealthy_interval: \"3600 s\" is no duration; write numbers with units and no blanks, as in \"1h30m\"\n  |\n2 | unhealthy_interval = \"3600 s\"\n  |                      ^",
            ),
            (
                "[[runners]]\nstrict_check_interval = 1",
                "config.toml:2:25: runners.strict_check_interval: expected true or false, found an integer\n  |\n2 | strict_check_interval = 1\n  |                         ^",
            ),
        ] {
            assert_eq!(refused(text), expected);
        }
    }

    #[test]
    fn errors_do_not_show_lines_that_may_hold_a_secret() {
        let message = refused("[[runners]]\ntoken = glrt-hidden\n");
        assert!(message.starts_with("config.toml:2:"), "{message}");
        assert!(!message.contains("hidden"), "{message}");
    }

    #[test]
    fn inline_tables_are_tables_too() {
        let loaded = loaded("runners = [{ name = \"a\", artifact = { upload_timeout = \"5m\" } }]");
        let runner = &loaded.config.runners[0];
        assert_eq!(runner.name, "a");
        assert_eq!(runner.artifact_upload_timeout, Duration::from_secs(300));
    }

    #[test]
    fn lint_is_stricter_than_loading() {
        let check = |text: &str| match lint(text, "c.toml", &environment()) {
            Ok(()) => "valid".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check(""), "valid");
        assert_eq!(
            check("a = 1\n[[runners]]\nurl = \"u\"\ntoken = \"t\"\nb = 2"),
            "2 unknown key(s) found in c.toml:\n  unknown key: a (line 1)\n  unknown key: runners.b (line 5)"
        );
        assert_eq!(
            check("[[runners]]\nurl = \"u\"\nshell = \"zsh\""),
            "config schema validation failed: runners[0].token: must not be empty; runners[0].shell: \"zsh\" is none of bash, sh, cmd, pwsh, powershell"
        );
        assert!(check("concurrent = true").starts_with("decoding config: c.toml:1:14: "));
    }

    #[test]
    fn every_key_that_is_acted_on_is_a_known_key() {
        for path in ACTED.iter().chain(INERT) {
            let mut keys = Some(keys::FILE);
            for name in path.split('.') {
                let key = keys
                    .and_then(|keys| keys.iter().find(|key| key.name == name))
                    .unwrap_or_else(|| panic!("{path} is not in the table of keys"));
                keys = match key.kind {
                    Kind::Table(below) | Kind::Tables(below) => Some(below),
                    _ => None,
                };
            }
        }
    }
}
