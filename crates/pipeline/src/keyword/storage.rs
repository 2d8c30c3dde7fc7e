//! `cache` and `artifacts` (`gitlab-ci-yaml.md` 16.1, 16.2).

use std::collections::BTreeMap;

use crate::model::{COVERAGE_FORMAT, CacheKey, JobArtifacts, JobCache};
use crate::shape::{Shape, flatten, given};
use crate::yaml::{Kind, Node};

const MAXIMUM_CACHES: usize = 4;
const MAXIMUM_KEY_FILES: usize = 2;
const MAXIMUM_FALLBACK_KEYS: usize = 5;
const MAXIMUM_EXPOSE_AS: usize = 100;
const WHEN: &[&str] = &["on_success", "on_failure", "always"];
const REPORTS: &[&str] = &[
    "accessibility",
    "annotations",
    "api_fuzzing",
    "browser_performance",
    "cluster_image_scanning",
    "codequality",
    "container_scanning",
    "coverage_fuzzing",
    "coverage_report",
    "cyclonedx",
    "dast",
    "dependency_scanning",
    "dotenv",
    "junit",
    "license_scanning",
    "load_performance",
    "lsif",
    "metrics",
    "performance",
    "repository_xray",
    "requirements",
    "sarif",
    "sast",
    "secret_detection",
    "terraform",
];

/// Reads `cache`; `place` is its location.
pub(crate) fn caches(node: &Node, place: &str, shape: &mut Shape<'_>) -> Vec<JobCache> {
    match &node.kind {
        // An alias of a list inside the list is common and accepted.
        Kind::Seq(_) => {
            let items = flatten(node);
            if items.len() > MAXIMUM_CACHES {
                shape.error(
                    node.span,
                    format!("{place} config no more than {MAXIMUM_CACHES} caches can be created"),
                );
            }
            items
                .into_iter()
                .filter_map(|item| cache(item, place, shape))
                .collect()
        }
        // `cache: {}` switches the default off.
        Kind::Map(map) if map.is_empty() => Vec::new(),
        Kind::Map(_) => cache(node, place, shape).into_iter().collect(),
        // Lenient where GitLab is: `cache: false` is an old way to say none.
        Kind::Bool(false) => Vec::new(),
        _ => {
            shape.error(
                node.span,
                format!("{place} config should be a hash or an array of hashes"),
            );
            Vec::new()
        }
    }
}

fn cache(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<JobCache> {
    let map = shape.hash(
        node,
        &[
            "key",
            "untracked",
            "paths",
            "when",
            "policy",
            "unprotect",
            "fallback_keys",
        ],
        place,
    )?;
    let fallback_keys = given(map, "fallback_keys")
        .and_then(|keys| shape.strings(keys, &format!("{place}:fallback_keys config")))
        .unwrap_or_default();
    if fallback_keys.len() > MAXIMUM_FALLBACK_KEYS
        && let Some(keys) = map.get("fallback_keys")
    {
        // GitLab's spelling.
        shape.error(
            keys.span,
            format!(
                "{place}:fallback_keys config has to many entries (maximum {MAXIMUM_FALLBACK_KEYS})"
            ),
        );
    }
    let policy = match given(map, "policy") {
        None => "pull-push".to_owned(),
        Some(policy) => {
            let text = shape.string(policy, &format!("{place} policy"))?;
            // GitLab searches for one of the words; a variable passes as well.
            if !["pull-push", "pull", "push", "$"]
                .iter()
                .any(|word| text.contains(word))
            {
                shape.error(
                    policy.span,
                    format!("{place} policy should be a variable or one of: pull-push, push, pull"),
                );
            }
            text
        }
    };
    let flag = |key: &str, shape: &mut Shape<'_>| {
        given(map, key)
            .and_then(|value| shape.boolean(value, &format!("{place}:{key} config")))
            .unwrap_or(false)
    };
    Some(JobCache {
        key: given(map, "key")
            .and_then(|key| cache_key(key, place, shape))
            .unwrap_or_else(|| CacheKey::Text("default".to_owned())),
        paths: given(map, "paths")
            .and_then(|paths| shape.strings(paths, &format!("{place}:paths config")))
            .unwrap_or_default(),
        untracked: flag("untracked", shape),
        policy,
        when: given(map, "when")
            .and_then(|when| shape.choice(when, WHEN, &format!("{place} when")))
            .unwrap_or_else(|| "on_success".to_owned()),
        unprotect: flag("unprotect", shape),
        fallback_keys,
    })
}

fn cache_key(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<CacheKey> {
    let place = format!("{place}:key");
    let Some(map) = node.as_map() else {
        let text = match &node.kind {
            Kind::Text(_) | Kind::Int(_) | Kind::Float(_) => node.scalar_text()?,
            _ => {
                shape.error(
                    node.span,
                    format!("{place} should be a hash, a string or a symbol"),
                );
                return None;
            }
        };
        if text.contains('/') || text.to_ascii_lowercase().contains("%2f") {
            shape.error(
                node.span,
                format!("{place} config cannot contain the \"/\" character"),
            );
        } else if matches!(text.as_str(), "." | "..") {
            shape.error(
                node.span,
                format!("{place} config cannot be \".\" or \"..\""),
            );
        }
        return Some(CacheKey::Text(text));
    };
    shape.known_keys(map, &["files", "files_commits", "prefix"], &place);
    if map.has("files") == map.has("files_commits") {
        shape.error(
            node.span,
            format!("{place} config must use exactly one of these keys: files, files_commits"),
        );
        return None;
    }
    let prefix = given(map, "prefix").and_then(|prefix| {
        let text = prefix.scalar_text();
        if text.is_none() {
            shape.error(
                prefix.span,
                format!("{place}:prefix config should be a string"),
            );
        }
        text
    });
    let kind = if map.has("files") {
        "files"
    } else {
        "files_commits"
    };
    let list = map.get(kind)?;
    let files = shape.strings(list, &format!("{place}:{kind} config"))?;
    if files.is_empty() {
        shape.error(
            list.span,
            format!("{place}:{kind} config requires at least 1 item"),
        );
    } else if files.len() > MAXIMUM_KEY_FILES {
        shape.error(
            list.span,
            format!("{place}:{kind} config has too many items (maximum is {MAXIMUM_KEY_FILES})"),
        );
    }
    Some(if kind == "files" {
        CacheKey::Files { files, prefix }
    } else {
        CacheKey::FilesCommits {
            files_commits: files,
            prefix,
        }
    })
}

/// Reads `artifacts`; `place` is its location.
pub(crate) fn artifacts(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<JobArtifacts> {
    let map = shape.hash(
        node,
        &[
            "name",
            "untracked",
            "paths",
            "reports",
            "when",
            "expire_in",
            "expose_as",
            "exclude",
            "public",
            "access",
        ],
        place,
    )?;
    shape.exclusive(map, &["access", "public"], place);
    let strings = |key: &str, shape: &mut Shape<'_>| {
        given(map, key)
            .and_then(|value| shape.strings(value, &format!("{place} {key}")))
            .unwrap_or_default()
    };
    let mut other = BTreeMap::new();
    if let Some(public) = given(map, "public")
        && let Some(value) = shape.boolean(public, &format!("{place} public"))
    {
        other.insert("public".to_owned(), value.into());
    }
    if let Some(access) = given(map, "access") {
        let choices = &["none", "developer", "maintainer", "all"];
        if let Some(value) = shape.choice(access, choices, &format!("{place} access")) {
            other.insert("access".to_owned(), value.into());
        }
    }
    let paths = strings("paths", shape);
    if let Some(node) = given(map, "expose_as")
        && let Some(text) = expose_as(node, &paths, place, shape)
    {
        other.insert("expose_as".to_owned(), text.into());
    }
    Some(JobArtifacts {
        name: given(map, "name").and_then(|name| shape.string(name, &format!("{place} name"))),
        exclude: strings("exclude", shape),
        paths,
        untracked: given(map, "untracked")
            .and_then(|value| shape.boolean(value, &format!("{place} untracked")))
            .unwrap_or(false),
        when: given(map, "when")
            .and_then(|when| shape.choice(when, WHEN, &format!("{place} when")))
            .unwrap_or_else(|| "on_success".to_owned()),
        expire_in: given(map, "expire_in").and_then(|value| match value.as_text() {
            Some("never") => Some("never".to_owned()),
            _ => shape
                .duration(value, None, &format!("{place} expire in"))
                .map(|(text, _)| text),
        }),
        reports: given(map, "reports")
            .map(|value| reports(value, place, &mut other, shape))
            .unwrap_or_default(),
        other,
    })
}

fn expose_as(node: &Node, paths: &[String], place: &str, shape: &mut Shape<'_>) -> Option<String> {
    let text = shape.string(node, &format!("{place} expose as"))?;
    let fits = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c));
    if !fits {
        shape.error(
            node.span,
            format!("{place} expose as can contain only letters, digits, '-', '_' and spaces"),
        );
    }
    if text.chars().count() > MAXIMUM_EXPOSE_AS {
        shape.error(
            node.span,
            format!("{place} expose as is too long (maximum is {MAXIMUM_EXPOSE_AS} characters)"),
        );
    }
    if paths.is_empty() {
        shape.error(node.span, format!("{place} paths can't be blank"));
    } else if paths.iter().any(|path| path.contains('*')) {
        shape.error(
            node.span,
            format!("{place} paths can't contain '*' when used with 'expose_as'"),
        );
    }
    Some(text)
}

/// Report types to paths. The format of a coverage report goes to `other`, the map holds its path.
fn reports(
    node: &Node,
    place: &str,
    other: &mut BTreeMap<String, serde_json::Value>,
    shape: &mut Shape<'_>,
) -> BTreeMap<String, Vec<String>> {
    let place = format!("{place}:reports");
    let mut found = BTreeMap::new();
    let Some(map) = shape.hash(node, REPORTS, &place) else {
        return found;
    };
    for entry in map.entries() {
        let key = entry.key.text.to_string();
        if entry.value.is_null() || !REPORTS.contains(&key.as_str()) {
            continue;
        }
        if key != "coverage_report" {
            let what = format!("{place} {}", key.replace('_', " "));
            if let Some(paths) = shape.string_or_strings(&entry.value, &what) {
                found.insert(key, paths);
            }
            continue;
        }
        let place = format!("{place}:coverage_report");
        let allowed = &["coverage_format", "path"];
        let Some(report) = shape.hash(&entry.value, allowed, &place) else {
            continue;
        };
        let format = match report.get("coverage_format") {
            Some(value) => {
                let what = format!("{place} coverage format");
                shape.choice(value, &["cobertura", "jacoco"], &what)
            }
            None => {
                shape.error(
                    entry.span,
                    format!("{place} coverage format can't be blank"),
                );
                None
            }
        };
        let path = match report.get("path") {
            Some(value) => shape.string(value, &format!("{place} path")),
            None => {
                shape.error(entry.span, format!("{place} path can't be blank"));
                None
            }
        };
        if let (Some(format), Some(path)) = (format, path) {
            other.insert(COVERAGE_FORMAT.to_owned(), format.into());
            found.insert(key, vec![path]);
        }
    }
    found
}
