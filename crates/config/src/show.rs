//! What holds, key by key, and where it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use crate::duration::GoDuration;
use crate::error::{ConfigError, Source};
use crate::keys::{self, Kind};
use crate::model::{ACTED, Config, DockerConfig, RunnerConfig};
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
        if runner.executor == "docker" {
            let docker = own.and_then(|own| own.table("docker"));
            for path in DockerConfig::KEYS
                .iter()
                .filter(|key| !DockerConfig::IDLE.contains(key))
            {
                shown.push(ShownKey {
                    path: format!("runners[{number}].docker.{path}"),
                    value: of_docker(docker, path),
                    origin: docker.map_or(Origin::Default, |docker| origin(&source, docker, path)),
                });
            }
        }
    }
    Ok(shown)
}

/// A key of `[runners.docker]` as it is written, or what holds without it.
fn of_docker(docker: Option<&Section>, key: &str) -> String {
    let written = docker.and_then(|docker| docker.setting(key));
    if let Some(text) = written
        .filter(|setting| !setting.is_empty())
        .and_then(as_written)
    {
        return text;
    }
    match key {
        "pull_policy" => list(&["always".to_owned()]),
        "allowed_pull_policies" => unset("those of pull_policy"),
        "wait_for_services_timeout" => "30".to_owned(),
        "services_limit" => written
            .and_then(as_written)
            .unwrap_or_else(|| unset("none")),
        "services_privileged" => written
            .and_then(as_written)
            .unwrap_or_else(|| unset("as privileged")),
        key => match keys::docker(key).map(|key| key.kind) {
            Some(Kind::Bool) => "false".to_owned(),
            Some(Kind::Int) => "0".to_owned(),
            Some(Kind::Texts | Kind::Tables(_)) => list(&[]),
            Some(Kind::TextMap | Kind::TextsMap) => "{}".to_owned(),
            _ => quoted(""),
        },
    }
}

fn as_written(setting: &Setting) -> Option<String> {
    Some(match setting {
        Setting::Text(text) => quoted(text),
        Setting::Int(number) => number.to_string(),
        Setting::Bool(value) => value.to_string(),
        Setting::Texts(texts) => list(texts),
        Setting::TextMap(entries) => map(entries, |text| quoted(text)),
        Setting::TextsMap(entries) => map(entries, |texts| list(texts)),
        // Services have variables, which may be secrets.
        Setting::Tables(tables) => unset(&format!("{} of them", tables.len())),
        _ => return None,
    })
}

fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
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
        "safe_directory_checkout" => optional(runner.safe_directory_checkout),
        "feature_flags" => map(&runner.feature_flags, ToString::to_string),
        "labels" => map(&runner.labels, |text| quoted(text)),
        "artifact.upload_timeout" => duration(runner.artifact_upload_timeout),
        "artifact.response_header_timeout" => duration(runner.artifact_response_header_timeout),
        "secrets.timeout" => duration(runner.secrets.timeout),
        "secrets.revoke" => runner.secrets.revoke.to_string(),
        "secrets.mask_parts" => runner.secrets.mask_parts.to_string(),
        "secrets.servers" => match &runner.secrets.servers {
            None => unset("all but metadata services"),
            Some(servers) => {
                let servers: Vec<_> = servers.iter().map(|host| quoted(host)).collect();
                format!("[{}]", servers.join(", "))
            }
        },
        "secrets.google.sts_url" => url(&runner.secrets.google.sts_url, "Google's"),
        "secrets.google.secret_manager_url" => {
            url(&runner.secrets.google.secret_manager_url, "Google's")
        }
        "secrets.azure.authority_url" => url(&runner.secrets.azure.authority_url, "Microsoft's"),
        "secrets.azure.trusted_vaults" => {
            let vaults = runner.secrets.azure.trusted_vaults.iter();
            let vaults: Vec<_> = vaults.map(|url| quoted(url.as_str())).collect();
            format!("[{}]", vaults.join(", "))
        }
        "secrets.aws.sts_url" => url(&runner.secrets.aws.sts_url, "the region's"),
        "secrets.aws.secrets_manager_url" => {
            url(&runner.secrets.aws.secrets_manager_url, "the region's")
        }
        "secrets.aws.allow_ambient_identity" => {
            runner.secrets.aws.allow_ambient_identity.to_string()
        }
        "trust.images" => runner.trust_in_images.to_string(),
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

fn url(url: &Option<Url>, usual: &str) -> String {
    match url {
        Some(url) => quoted(url.as_str()),
        None => unset(usual),
    }
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
    let Ok(mut url) = Url::parse(text) else {
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

    #[test]
    fn the_docker_keys_of_a_runner_with_that_executor_are_shown_as_written() {
        let text = "[[runners]]\nexecutor = \"docker\"\n[runners.docker]\nmemory = \"1g\"\n\
                    pull_policy = \"never\"\nservices_privileged = false\n\
                    services_devices = { x = [\"/dev/a\"] }\n\
                    [[runners.docker.services]]\nname = \"x\"\nenvironment = [\"A=hidden\"]\n";
        let shown = show(text, "c", &Environment::default()).expect("valid");
        let value = |key: &str| {
            let path = format!("runners[0].docker.{key}");
            let found = shown.iter().find(|shown| shown.path == path);
            found.map(|key| (key.value.as_str(), key.origin))
        };
        for (key, expected, line) in [
            ("memory", "\"1g\"", Some(4)),
            ("pull_policy", "[\"never\"]", Some(5)),
            ("services_privileged", "false", Some(6)),
            ("services_devices", "{ x = [\"/dev/a\"] }", Some(7)),
            ("services", "\"(1 of them)\"", Some(8)),
            ("wait_for_services_timeout", "30", None),
            ("services_limit", "\"(none)\"", None),
            ("image", "\"\"", None),
            ("privileged", "false", None),
            ("volumes", "[]", None),
            ("tmpfs", "{}", None),
        ] {
            let origin = line.map_or(Origin::Default, Origin::Line);
            assert_eq!(value(key), Some((expected, origin)), "{key}");
        }
        assert_eq!(value("helper_image_flavor"), None);
        let idle = DockerConfig::IDLE.len();
        let docker = shown
            .iter()
            .filter(|key| key.path.starts_with("runners[0].docker."));
        assert_eq!(docker.count(), DockerConfig::KEYS.len() - idle);
    }
}
