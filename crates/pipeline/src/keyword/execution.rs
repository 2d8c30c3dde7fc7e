//! How a job runs: `image`, `services`, `retry`, `hooks`, `run`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::shape::{Shape, given};
use crate::variables::{self, Level};
use crate::yaml::{Kind, Map, Node};

const PULL_POLICIES: &[&str] = &["always", "never", "if-not-present"];
const MAXIMUM_RETRIES: i64 = 2;
/// `always` and the failure reasons of `runner-protocol.md` 6.3, with the server's own.
const RETRY_REASONS: &[&str] = &[
    "always",
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "stuck_pending",
    "no_matching_runner",
    "runner_system_failure",
    "runner_unsupported",
    "runner_configuration_error",
    "runner_provisioning_timeout",
    "image_pull_failure",
    "stale_schedule",
    "job_execution_timeout",
    "job_execution_server_timeout",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "job_router_failure",
    "missing_dependency_failure",
    "forward_deployment_failure",
    "environment_creation_failure",
    "deployment_rejected",
    "ci_quota_exceeded",
    "no_matching_runner_failure",
    "trace_size_exceeded",
    "builds_disabled",
    "failed_outdated_deployment_job",
    "reached_max_descendant_pipelines_depth",
    "ip_restriction_failure",
    "runner_interrupted",
    "cache_extract_failure",
    "runner_external_dependency_failure",
    "job_canceled",
];

/// Reads `image` into its mapping form.
pub(crate) fn image(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    if let Some(text) = node.as_text() {
        return Some(json!({ "name": text }));
    }
    let map = shape.hash_or_string(
        node,
        &[
            "name",
            "entrypoint",
            "pull_policy",
            "docker",
            "kubernetes",
            "ports",
        ],
        place,
    )?;
    container(node, map, place, shape)
}

/// Reads `services` into a list of mappings.
pub(crate) fn services(node: &Node, place: &str, shape: &mut Shape<'_>) -> Vec<Value> {
    let Some(items) = node.as_seq() else {
        shape.error(node.span, format!("{place} config should be an array"));
        return Vec::new();
    };
    let place = format!("{place}:service");
    items
        .iter()
        .filter_map(|item| service(item, &place, shape))
        .collect()
}

fn service(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    if let Some(text) = node.as_text() {
        return Some(json!({ "name": text }));
    }
    let map = shape.hash_or_string(
        node,
        &[
            "name",
            "entrypoint",
            "pull_policy",
            "docker",
            "kubernetes",
            "ports",
            "alias",
            "command",
            "variables",
        ],
        place,
    )?;
    let mut value = container(node, map, place, shape)?;
    if let Some(alias) = given(map, "alias")
        && let Some(text) = shape.string(alias, &format!("{place} alias"))
    {
        value["alias"] = text.into();
    }
    if let Some(command) = given(map, "command")
        && let Some(words) = shape.script(command, &format!("{place}:command"))
    {
        value["command"] = words.into();
    }
    if let Some(node) = given(map, "variables") {
        let place = format!("{place}:variables");
        let variables = variables::parse(node, &place, Level::Job, shape);
        value["variables"] = variables
            .into_iter()
            .map(|variable| (variable.key, Value::from(variable.value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    Some(value)
}

/// What images and services have in common.
fn container(node: &Node, map: &Map, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    let Some(name) = given(map, "name") else {
        shape.error(node.span, format!("{place} name can't be blank"));
        return None;
    };
    let mut value = json!({ "name": shape.string(name, &format!("{place} name"))? });
    if let Some(entrypoint) = given(map, "entrypoint")
        && let Some(words) = shape.strings(entrypoint, &format!("{place} entrypoint"))
    {
        value["entrypoint"] = words.into();
    }
    if let Some(policy) = given(map, "pull_policy") {
        let place = format!("{place}:pull_policy");
        let policies = shape
            .string_or_strings(policy, &format!("{place} config"))
            .unwrap_or_default();
        if policies.is_empty() {
            shape.error(policy.span, format!("{place} config can't be blank"));
        }
        for unknown in policies
            .iter()
            .filter(|policy| !PULL_POLICIES.contains(&policy.as_str()))
        {
            shape.error(
                policy.span,
                format!("{place} config contains unknown values: {unknown}"),
            );
        }
        value["pull_policy"] = policies.into();
    }
    for (key, allowed) in [
        ("docker", &["platform", "user"][..]),
        ("kubernetes", &["user"][..]),
    ] {
        let Some(options) = given(map, key) else {
            continue;
        };
        let place = format!("{place}:{key}");
        if let Some(options) = shape.hash(options, allowed, &place) {
            for entry in options.entries() {
                if let Kind::Text(_) | Kind::Int(_) = entry.value.kind {
                    continue;
                }
                shape.error(
                    entry.value.span,
                    format!("{place} {} should be a string", entry.key),
                );
            }
        }
        value[key] = options.to_json();
    }
    if let Some(ports) = given(map, "ports") {
        value["ports"] = ports.to_json();
    }
    Some(value)
}

/// Reads `retry` into `{max, when, exit_codes}`. GitLab reports its errors at `retry`.
pub(crate) fn retry(node: &Node, shape: &mut Shape<'_>) -> Option<Value> {
    if let Kind::Int(_) = node.kind {
        let max = shape.integer(node, 0..=MAXIMUM_RETRIES, "retry config")?;
        return Some(json!({ "max": max, "when": ["always"] }));
    }
    if node.as_map().is_none() {
        shape.error(node.span, "retry has to be either an integer or a hash");
        return None;
    }
    let map = shape.hash(node, &["max", "when", "exit_codes"], "retry")?;
    let max = match given(map, "max") {
        Some(max) => shape.integer(max, 0..=MAXIMUM_RETRIES, "retry max")?,
        None => MAXIMUM_RETRIES,
    };
    let when = given(map, "when").and_then(|when| {
        let reasons = shape.string_or_strings(when, "retry when")?;
        let unknown: Vec<&str> = reasons
            .iter()
            .map(String::as_str)
            .filter(|reason| !RETRY_REASONS.contains(reason))
            .collect();
        if !unknown.is_empty() {
            let text = match when.as_text() {
                Some(_) => "is not included in the list".to_owned(),
                None => format!("contains unknown values: {}", unknown.join(", ")),
            };
            shape.error(when.span, format!("retry when {text}"));
        }
        Some(reasons)
    });
    let codes = given(map, "exit_codes").and_then(|codes| exit_codes(codes, "retry", shape));
    let when = match (when, &codes) {
        (Some(when), _) => when,
        (None, None) => vec!["always".to_owned()],
        (None, Some(_)) => Vec::new(),
    };
    let mut value = json!({ "max": max, "when": when });
    if let Some(codes) = codes {
        value["exit_codes"] = codes.into();
    }
    Some(value)
}

/// Reads a number or a list of numbers.
pub(crate) fn exit_codes(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Vec<i64>> {
    let codes = match node.as_seq() {
        Some(items) => items.iter().map(Node::as_int).collect(),
        None => node.as_int().map(|code| vec![code]),
    };
    if codes.is_none() {
        shape.error(
            node.span,
            format!("{place} exit codes should be an array of integers or an integer"),
        );
    }
    codes
}

/// Reads `hooks`.
pub(crate) fn hooks(
    node: &Node,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<BTreeMap<String, Vec<String>>> {
    let name = "pre_get_sources_script";
    let map = shape.hash(node, &[name], place)?;
    let lines = shape.script(given(map, name)?, &format!("{place}:{name}"))?;
    Some(BTreeMap::from([(name.to_owned(), lines)]))
}

/// Reads `run`: steps with `script` or with a reference.
pub(crate) fn run(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    let Some(items) = node.as_seq() else {
        shape.error(
            node.span,
            format!("{place} config should be an array of hashes"),
        );
        return None;
    };
    for item in items {
        let allowed = &["name", "script", "step", "func", "env", "inputs"];
        let Some(step) = shape.hash(item, allowed, place) else {
            continue;
        };
        match given(step, "name") {
            None => shape.required(step, item.span, "name", place),
            Some(name) => {
                let text = shape
                    .string(name, &format!("{place} name"))
                    .unwrap_or_default();
                let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !fits {
                    shape.error(name.span, format!("{place} name is invalid"));
                }
            }
        }
        let kinds = ["script", "step", "func"];
        if kinds.iter().filter(|kind| step.has(kind)).count() != 1 {
            shape.error(
                item.span,
                format!("{place} config must use exactly one of these keys: script, step, func"),
            );
        }
        if let Some(script) = given(step, "script") {
            shape.string(script, &format!("{place} script"));
            if step.has("inputs") {
                shape.exclusive(step, &["script", "inputs"], place);
            }
        }
        for key in ["step", "func"] {
            if let Some(reference) = given(step, key) {
                step_reference(reference, &format!("{place}:{key}"), shape);
            }
        }
        if let Some(env) = given(step, "env") {
            variables::parse(env, &format!("{place}:env"), Level::Job, shape);
        }
        if let Some(inputs) = given(step, "inputs")
            && inputs.as_map().is_none()
        {
            shape.error(
                inputs.span,
                format!("{place}:inputs config should be a hash"),
            );
        }
    }
    Some(node.to_json())
}

/// A text, a place in a Git repository or an image.
fn step_reference(node: &Node, place: &str, shape: &mut Shape<'_>) {
    if node.as_text().is_some() {
        return;
    }
    let Some(map) = shape.hash_or_string(node, &["git", "oci"], place) else {
        return;
    };
    if map.has("git") == map.has("oci") {
        shape.error(
            node.span,
            format!("{place} config must use exactly one of these keys: git, oci"),
        );
    }
    for (key, allowed, required) in [
        (
            "git",
            &["url", "rev", "dir", "file"][..],
            &["url", "rev"][..],
        ),
        (
            "oci",
            &["registry", "repository", "tag", "dir", "file"][..],
            &["registry", "repository", "tag"][..],
        ),
    ] {
        let Some(node) = given(map, key) else {
            continue;
        };
        let place = format!("{place}:{key}");
        if let Some(map) = shape.hash(node, allowed, &place) {
            for key in required {
                shape.required(map, node.span, key, &place);
            }
            shape.text_values(map, allowed, &place);
        }
    }
}
