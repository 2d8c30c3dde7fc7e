//! What holds, key by key, and where it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::duration::GoDuration;
use crate::error::{ConfigError, Source};
use crate::model::{ACTED, Config, RunnerConfig};
use crate::setting::{Section, Setting, read};
use crate::{Environment, load};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file has it in this line, from 1.
    Line(usize),
    /// It is not in the file, or there it means the default.
    Default,
}

/// One key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// Dotted key; runners are numbered from 0.
    pub path: String,
    /// Value as TOML; confidential ones are `"[redacted]"`.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every key that Courser acts on, in the order of the model.
pub fn show(
    text: &str,
    file: &str,
    environment: &Environment,
) -> Result<Vec<ShownKey>, ConfigError> {
    let config = load(text, file, environment)?.config;
    let source = Source { file, text };
    let (section, _) = read(&source)?;
    let mut shown = Vec::new();
    for path in ACTED.iter().filter(|path| !path.starts_with("runners.")) {
        shown.push(ShownKey {
            path: (*path).to_owned(),
            value: global(&config, path),
            origin: origin(&source, &section, path),
        });
    }
    for (number, runner) in config.runners.iter().enumerate() {
        let own = section.tables("runners").get(number);
        for path in ACTED
            .iter()
            .filter_map(|path| path.strip_prefix("runners."))
        {
            shown.push(ShownKey {
                path: format!("runners[{number}].{path}"),
                value: of_runner(runner, path),
                origin: own.map_or(Origin::Default, |own| origin(&source, own, path)),
            });
        }
    }
    Ok(shown)
}

fn origin(source: &Source<'_>, section: &Section, path: &str) -> Origin {
    let (name, rest) = match path.split_once('.') {
        Some((table, rest)) => (table, Some(rest)),
        None => (path, None),
    };
    match (section.settings.get(name), rest) {
        (Some(placed), None) => Origin::Line(source.position(placed.span.start).0),
        (Some(placed), Some(rest)) => match &placed.setting {
            Setting::Table(inner) => origin(source, inner, rest),
            _ => Origin::Default,
        },
        (None, _) => Origin::Default,
    }
}

fn global(config: &Config, path: &str) -> String {
    match path {
        "concurrent" => config.concurrent.to_string(),
        "check_interval" => config.check_interval.as_secs().to_string(),
        "connection_max_age" => duration(config.connection_max_age),
        "shutdown_timeout" => config.shutdown_timeout.as_secs().to_string(),
        "log_level" => quoted(config.log_level.as_deref().unwrap_or("info")),
        "log_format" => quoted(config.log_format.as_deref().unwrap_or("runner")),
        "listen_address" => quoted(&config.listen_address),
        "labels" => map(&config.labels, |text| quoted(text)),
        "spool.directory" => quoted(&config.spool.directory),
        "spool.job_limit" => config.spool.job_limit.to_string(),
        "spool.total_limit" => config.spool.total_limit.to_string(),
        other => unreachable_key(other),
    }
}

fn of_runner(runner: &RunnerConfig, path: &str) -> String {
    match path {
        "name" => quoted(&runner.name),
        "url" => quoted(&without_credentials(&runner.url)),
        "id" => runner.id.to_string(),
        "token" if runner.token.is_empty() => quoted(""),
        "token" => quoted("[redacted]"),
        "token_obtained_at" => time(runner.token_obtained_at),
        "token_expires_at" => time(runner.token_expires_at),
        "tls-ca-file" => quoted(runner.tls_ca_file.as_deref().unwrap_or_default()),
        "tls-cert-file" => quoted(runner.tls_cert_file.as_deref().unwrap_or_default()),
        "tls-key-file" => quoted(runner.tls_key_file.as_deref().unwrap_or_default()),
        "limit" => runner.limit.to_string(),
        "output_limit" => runner.output_limit.to_string(),
        "request_concurrency" => runner.request_concurrency.to_string(),
        "strict_check_interval" => runner.strict_check_interval.to_string(),
        "unhealthy_requests_limit" => runner.unhealthy_requests_limit.to_string(),
        "unhealthy_interval" => duration(runner.unhealthy_interval),
        "job_status_final_update_retry_limit" => runner.final_update_retry_limit.to_string(),
        "executor" => quoted(&runner.executor),
        "shell" => quoted(&runner.shell),
        "environment" => {
            // Values of variables may be secrets; names are not.
            let names = runner
                .environment
                .iter()
                .map(|entry| {
                    entry
                        .split_once('=')
                        .map_or(entry.as_str(), |(name, _)| name)
                })
                .map(|name| quoted(&format!("{name}=[redacted]")));
            format!("[{}]", names.collect::<Vec<_>>().join(", "))
        }
        "clone_url" => quoted(&without_credentials(&runner.clone_url)),
        "builds_dir" => quoted(&runner.builds_dir),
        "cache_dir" => quoted(&runner.cache_dir),
        "custom_build_dir.enabled" => optional(runner.custom_build_dir_enabled),
        "pre_get_sources_script" => quoted(&runner.pre_get_sources_script),
        "post_get_sources_script" => quoted(&runner.post_get_sources_script),
        "pre_build_script" => quoted(&runner.pre_build_script),
        "post_build_script" => quoted(&runner.post_build_script),
        "prepare_timeout" => runner
            .prepare_timeout
            .map_or_else(|| unset("the job's"), duration),
        "get_sources_timeout" => runner
            .get_sources_timeout
            .map_or_else(|| unset("the job's"), duration),
        "debug_trace_disabled" => runner.debug_trace_disabled.to_string(),
        "clean_git_config" => optional(runner.clean_git_config),
        "feature_flags" => map(&runner.feature_flags, ToString::to_string),
        "labels" => map(&runner.labels, |text| quoted(text)),
        "artifact.upload_timeout" => duration(runner.artifact_upload_timeout),
        "artifact.response_header_timeout" => duration(runner.artifact_response_header_timeout),
        "trust.job_tools" => runner.job_tools.to_string(),
        "trust.job_tools_anchors" => match &runner.job_tools_anchors {
            None => unset("all"),
            Some(anchors) => {
                let digits = |anchor: &[u8; 32]| -> String {
                    anchor.iter().map(|byte| format!("{byte:02x}")).collect()
                };
                let shown = anchors.iter().map(|anchor| quoted(&digits(anchor)));
                format!("[{}]", shown.collect::<Vec<_>>().join(", "))
            }
        },
        other => unreachable_key(other),
    }
}

/// A key of [`ACTED`] that is not shown yet; a test keeps this from happening.
fn unreachable_key(path: &str) -> String {
    unset(&format!("{path} is not shown"))
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn unset(meaning: &str) -> String {
    quoted(&format!("({meaning})"))
}

fn optional(value: Option<bool>) -> String {
    value.map_or_else(|| unset("the executor's"), |value| value.to_string())
}

fn duration(duration: Duration) -> String {
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    quoted(&GoDuration::from_nanoseconds(nanoseconds).to_string())
}

fn time(time: Option<jiff::Timestamp>) -> String {
    time.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| time.to_string(),
    )
}

fn map<T>(entries: &BTreeMap<String, T>, value: impl Fn(&T) -> String) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, entry)| format!("{} = {}", toml_edit::Key::new(name), value(entry)))
        .collect();
    if entries.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", entries.join(", "))
    }
}

fn without_credentials(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return text.to_owned();
    };
    if url.username().is_empty() && url.password().is_none() {
        return text.to_owned();
    }
    url.set_username("").ok();
    url.set_password(None).ok();
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_with_its_origin_and_without_secrets() {
        let text = "concurrent = 4\n[[runners]]\nurl = \"https://u:p@h/\"\ntoken = \"hidden\"\n\
                    environment = [\"A=hidden\"]\n[runners.artifact]\nupload_timeout = \"5m\"\n\
                    [runners.feature_flags]\nFF_X = true\n";
        let shown = show(text, "c", &Environment::default()).expect("valid");
        let line = |path: &str| {
            shown
                .iter()
                .find(|key| key.path == path)
                .map(|key| (key.value.as_str(), key.origin))
        };
        assert_eq!(shown.len(), ACTED.len());
        assert_eq!(line("concurrent"), Some(("4", Origin::Line(1))));
        assert_eq!(line("check_interval"), Some(("3", Origin::Default)));
        assert_eq!(
            line("runners[0].url"),
            Some(("\"https://h/\"", Origin::Line(3)))
        );
        assert_eq!(
            line("runners[0].token"),
            Some(("\"[redacted]\"", Origin::Line(4)))
        );
        assert_eq!(
            line("runners[0].artifact.upload_timeout"),
            Some(("\"5m0s\"", Origin::Line(7)))
        );
        assert_eq!(
            line("runners[0].feature_flags"),
            Some(("{ FF_X = true }", Origin::Line(8)))
        );
        for key in &shown {
            assert!(
                !key.value.contains("hidden") && !key.value.contains("not shown"),
                "{key:?}"
            );
        }
    }
}
