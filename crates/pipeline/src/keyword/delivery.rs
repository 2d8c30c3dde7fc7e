//! What a job delivers and starts: `environment`, `release`, `pages`, `trigger`, job `inputs`.

use serde_json::{Value, json};

use crate::inputs;
use crate::shape::{Shape, given};
use crate::source::Span;
use crate::yaml::{Kind, Map, Node};

const MAXIMUM_URL: usize = 255;
const MAXIMUM_INCLUDES: usize = 3;
const MAXIMUM_INPUTS: usize = 50;

/// Reads `environment` into its mapping form.
pub(crate) fn environment(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    if let Some(name) = node.as_text() {
        environment_name(name, node, place, shape);
        return Some(json!({ "name": name, "action": "start" }));
    }
    let map = shape.hash_or_string(
        node,
        &[
            "name",
            "url",
            "action",
            "on_stop",
            "auto_stop_in",
            "kubernetes",
            "deployment_tier",
        ],
        place,
    )?;
    let Some(name_node) = given(map, "name") else {
        shape.error(node.span, format!("{place} name can't be blank"));
        return None;
    };
    let name = shape.string(name_node, &format!("{place} name"))?;
    environment_name(&name, name_node, place, shape);
    let mut value = json!({ "name": name, "action": "start" });
    for key in ["url", "on_stop", "deployment_tier"] {
        let Some(node) = given(map, key) else {
            continue;
        };
        let what = format!("{place} {}", key.replace('_', " "));
        let Some(text) = shape.string(node, &what) else {
            continue;
        };
        if key == "url" && text.chars().count() > MAXIMUM_URL {
            shape.error(
                node.span,
                format!("{what} is too long (maximum is {MAXIMUM_URL} characters)"),
            );
        }
        value[key] = text.into();
    }
    if let Some(action) = given(map, "action") {
        let choices = &["start", "stop", "prepare", "verify", "access"];
        if let Some(action) = shape.choice(action, choices, &format!("{place} action")) {
            value["action"] = action.into();
        }
    }
    if let Some(node) = given(map, "auto_stop_in") {
        // Variables are expanded when the job runs.
        match node.as_text() {
            Some(text) if text.contains('$') || text == "never" => {
                value["auto_stop_in"] = text.into();
            }
            _ => {
                let what = format!("{place} auto stop in");
                if let Some((text, _)) = shape.duration(node, None, &what) {
                    value["auto_stop_in"] = text.into();
                }
            }
        }
    }
    if let Some(node) = given(map, "kubernetes") {
        let allowed = &[
            "namespace",
            "agent",
            "flux_resource_path",
            "managed_resources",
            "dashboard",
        ];
        let place = format!("{place}:kubernetes");
        if let Some(map) = shape.hash(node, allowed, &place) {
            kubernetes(map, &place, shape);
        }
        value["kubernetes"] = node.to_json();
    }
    Some(value)
}

fn kubernetes(map: &Map, place: &str, shape: &mut Shape<'_>) {
    shape.text_values(map, &["namespace", "agent", "flux_resource_path"], place);
    if let Some(node) = given(map, "managed_resources") {
        let place = format!("{place}:managed_resources");
        if let Some(map) = shape.hash(node, &["enabled"], &place)
            && let Some(enabled) = given(map, "enabled")
        {
            shape.boolean(enabled, &format!("{place} enabled"));
        }
    }
    if let Some(node) = given(map, "dashboard") {
        let place = format!("{place}:dashboard");
        let keys = &["namespace", "flux_resource_path"];
        if let Some(map) = shape.hash(node, keys, &place) {
            shape.text_values(map, keys, &place);
        }
    }
}

fn environment_name(name: &str, node: &Node, place: &str, shape: &mut Shape<'_>) {
    let fits = !name.is_empty()
        && !name.starts_with('/')
        && !name.ends_with('/')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_/${}. ".contains(c));
    if !fits {
        shape.error(
            node.span,
            format!(
                "{place} name can contain only letters, digits, '-', '_', '/', '$', '{{', '}}', '.', and spaces, but it cannot start or end with '/'"
            ),
        );
    }
}

/// Reads `release`.
pub(crate) fn release(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    let map = shape.hash(
        node,
        &[
            "tag_name",
            "tag_message",
            "name",
            "description",
            "ref",
            "milestones",
            "released_at",
            "assets",
        ],
        place,
    )?;
    for key in ["tag_name", "description"] {
        if given(map, key).is_none() {
            let key = key.replace('_', " ");
            shape.error(node.span, format!("{place} {key} can't be blank"));
        }
    }
    for key in ["tag_name", "tag_message", "name", "description", "ref"] {
        if let Some(value) = given(map, key) {
            shape.string(value, &format!("{place} {}", key.replace('_', " ")));
        }
    }
    if let Some(milestones) = given(map, "milestones") {
        shape.string_or_strings(milestones, &format!("{place} milestones"));
    }
    if let Some(date) = given(map, "released_at")
        && let Some(text) = shape.string(date, &format!("{place} released at"))
        && !text.contains('$')
        && text.parse::<jiff::Timestamp>().is_err()
    {
        shape.error(
            date.span,
            format!("{place} released at must be a valid datetime"),
        );
    }
    if let Some(assets) = given(map, "assets") {
        release_assets(assets, &format!("{place}:assets"), shape);
    }
    Some(node.to_json())
}

fn release_assets(node: &Node, place: &str, shape: &mut Shape<'_>) {
    let Some(map) = shape.hash(node, &["links"], place) else {
        return;
    };
    let Some(links) = given(map, "links") else {
        shape.error(node.span, format!("{place} links can't be blank"));
        return;
    };
    let Some(items) = links.as_seq() else {
        shape.error(
            links.span,
            format!("{place}:links config should be an array of hashes"),
        );
        return;
    };
    for item in items {
        let place = format!("{place}:links:link");
        let allowed = &["name", "url", "filepath", "link_type"];
        let Some(link) = shape.hash(item, allowed, &place) else {
            continue;
        };
        for key in ["name", "url"] {
            if given(link, key).is_none() {
                shape.error(item.span, format!("{place} {key} can't be blank"));
            }
        }
        for entry in link.entries() {
            shape.string(&entry.value, &format!("{place} {}", entry.key));
        }
    }
}

/// Reads `pages`.
pub(crate) fn pages(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    match &node.kind {
        Kind::Bool(_) => Some(node.to_json()),
        Kind::Map(_) => {
            let map = shape.hash(node, &["path_prefix", "expire_in", "publish"], place)?;
            for key in ["path_prefix", "publish"] {
                if let Some(value) = given(map, key) {
                    shape.string(value, &format!("{place} {}", key.replace('_', " ")));
                }
            }
            if let Some(value) = given(map, "expire_in")
                && value.as_text() != Some("never")
            {
                shape.duration(value, None, &format!("{place} expire in"));
            }
            Some(node.to_json())
        }
        _ => {
            shape.error(
                node.span,
                format!("{place} config should be a hash or a boolean value"),
            );
            None
        }
    }
}

/// Reads `trigger` into its mapping form.
pub(crate) fn trigger(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    if let Some(project) = node.as_text() {
        return Some(json!({ "project": project }));
    }
    if node.as_map().is_none() {
        shape.error(
            node.span,
            format!("{place} has to be either a string or a hash"),
        );
        return None;
    }
    let child = node.as_map().is_some_and(|map| map.has("include"));
    let allowed: &[&str] = if child {
        &["include", "strategy", "forward"]
    } else {
        &["project", "branch", "strategy", "forward", "inputs"]
    };
    let map = shape.hash(node, allowed, place)?;
    if !child {
        match given(map, "project") {
            None => shape.error(node.span, format!("{place} project can't be blank")),
            Some(project) => {
                shape.string(project, &format!("{place} project"));
            }
        }
    }
    if let Some(branch) = given(map, "branch") {
        shape.string(branch, &format!("{place} branch"));
    }
    if let Some(inputs) = given(map, "inputs") {
        trigger_inputs(inputs, place, shape);
    }
    if let Some(strategy) = given(map, "strategy") {
        shape.choice(
            strategy,
            &["depend", "mirror"],
            &format!("{place} strategy"),
        );
    }
    if let Some(forward) = given(map, "forward") {
        let place = format!("{place}:forward");
        let allowed = &["yaml_variables", "pipeline_variables"];
        if let Some(map) = shape.hash(forward, allowed, &place) {
            for entry in map.entries() {
                let what = format!("{place} {}", entry.key.text.replace('_', " "));
                shape.boolean(&entry.value, &what);
            }
        }
    }
    if let Some(include) = given(map, "include") {
        trigger_includes(include, &format!("{place}:include"), shape);
    }
    Some(node.to_json())
}

fn trigger_inputs(node: &Node, place: &str, shape: &mut Shape<'_>) {
    if node.as_map().is_none() {
        shape.error(node.span, format!("{place}:inputs config should be a hash"));
    }
}

/// The jobs that `trigger:include:artifact` takes a file from.
pub(crate) fn trigger_jobs(node: &Node) -> Vec<(String, Span)> {
    let include = node.as_map().and_then(|map| given(map, "include"));
    let items = match include.map(|include| &include.kind) {
        Some(Kind::Seq(items)) => &items[..],
        Some(Kind::Map(_)) => include.map(std::slice::from_ref).unwrap_or_default(),
        _ => &[],
    };
    let jobs = items
        .iter()
        .filter_map(|item| item.as_map())
        .filter(|map| map.has("artifact"))
        .filter_map(|map| given(map, "job"));
    jobs.filter_map(|job| Some((job.as_text()?.to_owned(), job.span)))
        .collect()
}

fn trigger_includes(node: &Node, place: &str, shape: &mut Shape<'_>) {
    let items: Vec<&Node> = match &node.kind {
        Kind::Text(_) | Kind::Map(_) => vec![node],
        Kind::Seq(items) => items.iter().collect(),
        _ => {
            shape.error(
                node.span,
                format!("{place} config should be an array or a string"),
            );
            return;
        }
    };
    if items.len() > MAXIMUM_INCLUDES {
        shape.error(
            node.span,
            format!("{place} config is too long (maximum is {MAXIMUM_INCLUDES})"),
        );
    }
    for item in items {
        if item.as_text().is_some() {
            continue;
        }
        let allowed = &[
            "local",
            "file",
            "remote",
            "template",
            "artifact",
            "job",
            "project",
            "ref",
            "component",
            "integrity",
            "inputs",
            "rules",
            "cache",
        ];
        let Some(map) = shape.hash(item, allowed, place) else {
            continue;
        };
        let kinds = [
            "local",
            "remote",
            "template",
            "artifact",
            "project",
            "component",
        ];
        match kinds.iter().filter(|kind| map.has(kind)).count() {
            1 => {}
            0 => shape.error(
                item.span,
                format!(
                    "{place} config must have one of these keys: {}",
                    kinds.join(", ")
                ),
            ),
            _ => shape.error(
                item.span,
                format!(
                    "{place} config must use exactly one of these keys: {}",
                    kinds.join(", ")
                ),
            ),
        }
        if let Some(inputs) = given(map, "inputs") {
            trigger_inputs(inputs, place, shape);
        }
        if map.has("artifact") && given(map, "job").is_none() {
            shape.error(
                item.span,
                format!("{place} config must specify the job where to fetch the artifact from"),
            );
        }
        if map.has("project") && given(map, "file").is_none() {
            shape.error(
                item.span,
                format!("{place} config must specify the file where to fetch the config from"),
            );
        }
    }
}

/// Reads the `inputs` of a job.
pub(crate) fn job_inputs(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Value> {
    let Some(map) = node.as_map() else {
        shape.error(node.span, format!("{place} config should be a hash"));
        return None;
    };
    if map.len() > MAXIMUM_INPUTS {
        shape.error(
            node.span,
            format!("{place} config has too many entries (maximum {MAXIMUM_INPUTS})"),
        );
    }
    for entry in map.entries() {
        if let Err(fault) = inputs::check_job_input(entry, place, shape.patterns) {
            shape.findings.push(fault);
        }
    }
    Some(node.to_json())
}
