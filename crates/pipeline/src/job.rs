//! One job as written: shape checks, defaults, inheritance (`gitlab-ci-yaml.md` 8, 9).

use std::collections::HashSet;

use serde_json::json;

use crate::keyword;
use crate::model::{AllowFailure, JobArtifacts, JobWhen, PipelineJob, YamlVariable};
use crate::needs::{self, NeedSpec};
use crate::parallel::{self, Parallel};
use crate::policy::{self, Policy};
use crate::rules::{self, MAXIMUM_START_IN, Owner, Rule};
use crate::secrets;
use crate::shape::{Shape, given};
use crate::source::Span;
use crate::variables::{self, Level};
use crate::yaml::{Entry, Kind, Map, Node};

/// Characters of a job's name.
pub(crate) const MAXIMUM_NAME: usize = 255;
/// Names that GitLab keeps for itself.
const RESERVED_NAMES: &[&str] = &["true", "false", "nil", "pages:deploy", "spec"];
/// Fewer than 50.
const MAXIMUM_TAGS: usize = 49;
/// A month of 30 days.
const MAXIMUM_TIMEOUT: u64 = 30 * 24 * 3600;

/// Keys of `default`, in the order of the fact sheet.
pub(crate) const DEFAULT_KEYS: &[&str] = &[
    "before_script",
    "after_script",
    "hooks",
    "cache",
    "image",
    "services",
    "interruptible",
    "timeout",
    "retry",
    "tags",
    "artifacts",
    "id_tokens",
    "identity",
];
const COMMON_KEYS: &[&str] = &[
    "extends",
    "stage",
    "only",
    "except",
    "rules",
    "variables",
    "inherit",
    "allow_failure",
    "when",
    "needs",
    "resource_group",
    "environment",
    "interruptible",
];
const JOB_KEYS: &[&str] = &[
    "tags",
    "script",
    "image",
    "services",
    "start_in",
    "artifacts",
    "cache",
    "dependencies",
    "before_script",
    "after_script",
    "hooks",
    "coverage",
    "retry",
    "parallel",
    "timeout",
    "inputs",
    "release",
    "id_tokens",
    "publish",
    "pages",
    "manual_confirmation",
    "run",
    "secrets",
    "identity",
    "dast_configuration",
];
const BRIDGE_KEYS: &[&str] = &["trigger", "parallel"];

/// A job before `parallel` and `rules`.
#[derive(Debug, Clone)]
pub(crate) struct JobSpec {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) stage_span: Span,
    pub(crate) on_stop_span: Span,
    pub(crate) secrets_span: Span,
    /// Where each ID token stands.
    pub(crate) token_spans: Vec<(String, Span)>,
    /// What does not depend on instance, rules and variables.
    pub(crate) job: PipelineJob,
    pub(crate) when: Option<JobWhen>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) variables: Vec<YamlVariable>,
    pub(crate) inherit_variables: Inherit,
    pub(crate) needs: Option<Vec<NeedSpec>>,
    pub(crate) dependencies: Vec<(String, Span)>,
    /// Jobs whose artifacts hold a child pipeline's file.
    pub(crate) trigger_jobs: Vec<(String, Span)>,
    /// Where `trigger` stands.
    pub(crate) trigger_span: Option<Span>,
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) only: Option<Policy>,
    pub(crate) except: Option<Policy>,
    pub(crate) parallel: Option<Parallel>,
    /// Keywords as written, with their places, for what does not run here.
    pub(crate) keywords: Vec<(String, Span)>,
}

/// `inherit:default` or `inherit:variables`.
#[derive(Debug, Clone, Default)]
pub(crate) enum Inherit {
    #[default]
    All,
    None,
    Only(Vec<String>),
}

impl Inherit {
    pub(crate) fn allows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.iter().any(|allowed| allowed == name),
        }
    }

    fn parse(node: &Node, place: &str, shape: &mut Shape<'_>) -> Self {
        match &node.kind {
            Kind::Null | Kind::Bool(true) => Self::All,
            Kind::Bool(false) => Self::None,
            Kind::Seq(_) => Self::Only(
                shape
                    .strings(node, &format!("{place} config"))
                    .unwrap_or_default(),
            ),
            _ => {
                shape.error(
                    node.span,
                    format!("{place} config should be a boolean value or an array of strings"),
                );
                Self::All
            }
        }
    }
}

/// The `default` values, with the keys whose own shape is wrong and was reported already.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) entries: Map,
    pub(crate) wrong: HashSet<String>,
}

/// Whether a mapping under a top-level name is a job rather than a keyword's value.
pub(crate) fn looks_like_job(map: &Map) -> bool {
    ["script", "run", "trigger", "needs"]
        .iter()
        .any(|key| map.has(key))
}

/// Reads a visible top-level entry.
pub(crate) fn parse(entry: &Entry, defaults: &Defaults, shape: &mut Shape<'_>) -> Option<JobSpec> {
    let name = entry.key.text.to_string();
    let place = format!("jobs:{name}");
    if !entry.key.is_text {
        shape.error(entry.span, format!("{place} name should be a symbol"));
        return None;
    }
    if name.is_empty() {
        shape.error(entry.span, "jobs name can't be blank");
        return None;
    }
    if name.chars().count() > MAXIMUM_NAME {
        shape.error(
            entry.span,
            format!("{place} name is too long (maximum is {MAXIMUM_NAME} characters)"),
        );
    }
    if RESERVED_NAMES.contains(&name.as_str()) {
        shape.error(entry.span, format!("{place} name is reserved"));
    }
    let Some(own) = entry.value.as_map().filter(|map| looks_like_job(map)) else {
        shape.error(
            entry.span,
            format!("jobs {name} config should implement the script:, run:, or trigger: keyword"),
        );
        return None;
    };
    let bridge = !own.has("script") && !own.has("run");
    check_keys(own, entry.span, bridge, &place, shape);

    let inherit = given(own, "inherit")
        .and_then(|node| shape.hash(node, &["default", "variables"], &format!("{place}:inherit")));
    let inherit_default = inherit
        .and_then(|map| map.get("default"))
        .map(|node| parse_inherit_default(node, &place, shape))
        .unwrap_or_default();
    let inherit_variables = inherit
        .and_then(|map| map.get("variables"))
        .map(|node| Inherit::parse(node, &format!("{place}:inherit:variables"), shape))
        .unwrap_or_default();

    let mut job = PipelineJob {
        name: name.clone(),
        stage: "test".to_owned(),
        ..PipelineJob::default()
    };
    for default in defaults.entries.entries() {
        let key = &*default.key.text;
        let fits = !bridge || key == "interruptible";
        if fits
            && given(own, key).is_none()
            && inherit_default.allows(key)
            && !defaults.wrong.contains(key)
        {
            parse_defaultable(&mut job, key, &default.value, &place, shape);
        }
    }
    for own in own.entries() {
        if !own.value.is_null() {
            parse_defaultable(&mut job, &own.key.text, &own.value, &place, shape);
        }
    }
    let mut spec = JobSpec {
        name,
        span: entry.span,
        stage_span: own
            .entry("stage")
            .map_or(entry.span, |entry| entry.value.span),
        on_stop_span: entry.span,
        secrets_span: entry.span,
        token_spans: token_spans(own, &defaults.entries),
        job,
        when: None,
        allow_failure: None,
        variables: Vec::new(),
        inherit_variables,
        needs: None,
        dependencies: Vec::new(),
        trigger_jobs: Vec::new(),
        trigger_span: None,
        rules: None,
        only: None,
        except: None,
        parallel: None,
        keywords: own
            .entries()
            .iter()
            .filter(|entry| !entry.value.is_null())
            .map(|entry| (entry.key.text.to_string(), entry.span))
            .collect(),
    };
    parse_own(&mut spec, own, bridge, &place, shape);
    add_pages_directory(&mut spec.job, own);
    Some(spec)
}

fn check_keys(own: &Map, span: Span, bridge: bool, place: &str, shape: &mut Shape<'_>) {
    let allowed = if bridge {
        [COMMON_KEYS, BRIDGE_KEYS].concat()
    } else {
        // `trigger` beside `script` has its own message below.
        [COMMON_KEYS, JOB_KEYS, &["trigger"]].concat()
    };
    shape.known_keys(own, &allowed, place);
    for pair in [
        ["script", "trigger"],
        ["run", "trigger"],
        ["script", "run"],
        ["before_script", "run"],
        ["after_script", "run"],
    ] {
        shape.exclusive(own, &pair, place);
    }
    if given(own, "rules").is_some() {
        let refused: Vec<_> = own
            .entries()
            .iter()
            .filter(|entry| ["only", "except", "start_in"].contains(&&*entry.key.text))
            .filter(|entry| !entry.value.is_null())
            .collect();
        if let Some(first) = refused.first() {
            let names: Vec<&str> = refused.iter().map(|entry| &*entry.key.text).collect();
            shape.error(
                first.span,
                format!(
                    "{place} config key may not be used with `rules`: {}",
                    names.join(", ")
                ),
            );
        }
    }
    if bridge {
        let mirrors = given(own, "needs").is_some_and(|needs| match &needs.kind {
            Kind::Map(map) => map.has("pipeline"),
            Kind::Seq(items) => items
                .iter()
                .any(|item| item.as_map().is_some_and(|map| map.has("pipeline"))),
            _ => false,
        });
        if given(own, "trigger").is_none() && !mirrors {
            shape.error(
                span,
                format!("{place} config should contain either a trigger or a needs:pipeline"),
            );
        }
    } else if own.has("script") && is_blank(own.get("script")) {
        let span = own.entry("script").map_or(span, |entry| entry.span);
        shape.error(span, format!("{place} script can't be blank"));
    }
}

fn token_spans(own: &Map, defaults: &Map) -> Vec<(String, Span)> {
    let tokens = given(own, "id_tokens").or_else(|| given(defaults, "id_tokens"));
    let entries = tokens.and_then(Node::as_map).map(Map::entries);
    let entries = entries.unwrap_or_default().iter();
    entries
        .map(|entry| (entry.key.text.to_string(), entry.span))
        .collect()
}

fn is_blank(node: Option<&Node>) -> bool {
    match node.map(|node| &node.kind) {
        None | Some(Kind::Null) => true,
        Some(Kind::Text(text)) => text.trim().is_empty(),
        Some(Kind::Seq(items)) => items.is_empty(),
        Some(Kind::Map(map)) => map.is_empty(),
        Some(_) => false,
    }
}

fn parse_inherit_default(node: &Node, place: &str, shape: &mut Shape<'_>) -> Inherit {
    let place = format!("{place}:inherit:default");
    let inherit = Inherit::parse(node, &place, shape);
    if let Inherit::Only(names) = &inherit {
        let unknown: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !DEFAULT_KEYS.contains(name))
            .collect();
        if !unknown.is_empty() {
            shape.error(
                node.span,
                format!(
                    "{place} config contains unknown values: {}",
                    unknown.join(", ")
                ),
            );
        }
    }
    inherit
}

/// Reads one of the keys that `default` may have; other keys are left alone.
pub(crate) fn parse_defaultable(
    job: &mut PipelineJob,
    key: &str,
    node: &Node,
    place: &str,
    shape: &mut Shape<'_>,
) {
    let here = || format!("{place}:{key}");
    match key {
        "before_script" => job.before_script = shape.script(node, &here()).unwrap_or_default(),
        "after_script" => job.after_script = shape.script(node, &here()).unwrap_or_default(),
        "hooks" => job.hooks = keyword::hooks(node, &here(), shape),
        "cache" => job.cache = keyword::caches(node, &here(), shape),
        "image" => job.image = keyword::image(node, &here(), shape),
        "services" => job.services = keyword::services(node, &here(), shape),
        "interruptible" => {
            job.interruptible = shape
                .boolean(node, &format!("{place} interruptible"))
                .unwrap_or(false);
        }
        "timeout" => {
            job.timeout = shape
                .duration(node, Some(MAXIMUM_TIMEOUT), &format!("{place} timeout"))
                .map(|(_, seconds)| seconds);
        }
        "retry" => job.retry = keyword::retry(node, shape),
        "tags" => {
            let what = format!("{place}:tags config");
            job.tags = shape.strings(node, &what).unwrap_or_default();
            if job.tags.len() > MAXIMUM_TAGS {
                shape.error(
                    node.span,
                    format!(
                        "{what} must be less than the limit of {} tags",
                        MAXIMUM_TAGS + 1
                    ),
                );
            }
        }
        "artifacts" => {
            job.artifacts = keyword::artifacts(node, &here(), shape)
                .filter(|_| node.as_map().is_some_and(|map| !map.is_empty()));
        }
        "id_tokens" => job.id_tokens = secrets::id_tokens(node, &here(), shape),
        "identity" => {
            shape.choice(node, &["google_cloud"], &format!("{place}:identity config"));
        }
        _ => {}
    }
}

/// Reads the keys that only a job may have.
fn parse_own(spec: &mut JobSpec, own: &Map, bridge: bool, place: &str, shape: &mut Shape<'_>) {
    for entry in own.entries() {
        let node = &entry.value;
        let key = &*entry.key.text;
        if node.is_null() {
            continue;
        }
        let here = || format!("{place}:{key}");
        let what = || format!("{place} {}", key.replace('_', " "));
        let job = &mut spec.job;
        match key {
            "script" => job.script = shape.script(node, &here()).unwrap_or_default(),
            "stage" => {
                if let Some(stage) = shape.string(node, &format!("{place}:stage config")) {
                    job.stage = stage;
                }
            }
            "variables" => spec.variables = variables::parse(node, &here(), Level::Job, shape),
            "rules" => spec.rules = Some(rules::parse(node, &here(), Owner::Job, shape)),
            "only" => spec.only = policy::parse(node, &here(), shape),
            "except" => spec.except = policy::parse(node, &here(), shape),
            "needs" => spec.needs = Some(needs::parse(node, &here(), bridge, shape)),
            "parallel" => spec.parallel = parallel::parse(node, place, bridge, shape),
            "when" => spec.when = parse_when(node, bridge, place, shape),
            "allow_failure" => {
                spec.allow_failure = parse_allow_failure(node, bridge, place, shape);
            }
            "dependencies" => {
                if let Some(names) = shape.strings(node, &what()) {
                    let items = node.as_seq().unwrap_or_default();
                    spec.dependencies = names
                        .iter()
                        .cloned()
                        .zip(items.iter().map(|item| item.span))
                        .collect();
                    job.dependencies = Some(names);
                }
            }
            "start_in" => {
                job.start_in = shape
                    .duration(node, Some(MAXIMUM_START_IN), &what())
                    .map(|(text, _)| text);
            }
            "environment" => {
                job.environment = keyword::environment(node, &here(), shape);
                let on_stop = node.as_map().and_then(|map| map.get("on_stop"));
                spec.on_stop_span = on_stop.map_or(entry.span, |node| node.span);
            }
            "resource_group" => job.resource_group = shape.string(node, &what()),
            "manual_confirmation" => job.manual_confirmation = shape.string(node, &what()),
            "coverage" => job.coverage = parse_coverage(node, place, shape),
            "release" => job.release = keyword::release(node, &here(), shape),
            "secrets" => {
                spec.secrets_span = entry.span;
                job.secrets = secrets::secrets(node, &here(), &job.id_tokens, shape);
            }
            "run" => job.run = keyword::run(node, &here(), shape),
            "inputs" => job.inputs = keyword::job_inputs(node, &here(), shape),
            "pages" => job.pages = keyword::pages(node, &here(), shape),
            "trigger" => {
                job.trigger = keyword::trigger(node, &here(), shape);
                spec.trigger_jobs = keyword::trigger_jobs(node);
                spec.trigger_span = Some(entry.span);
            }
            "publish" => {
                shape.string(node, &what());
                if spec.name != "pages" && given(own, "pages").is_none() {
                    shape.error(
                        entry.span,
                        format!("{place} publish can only be used within a `pages` job"),
                    );
                }
                let pages = given(own, "pages").and_then(Node::as_map);
                if pages.is_some_and(|pages| given(pages, "publish").is_some()) {
                    shape.error(
                        entry.span,
                        format!(
                            "{place} publish either the `publish` or `pages.publish` option may be present in `.gitlab-ci.yml`, but not both."
                        ),
                    );
                }
            }
            "dast_configuration" => {
                let keys = &["site_profile", "scanner_profile"];
                if let Some(map) = shape.hash(node, keys, &here()) {
                    shape.text_values(map, keys, &here());
                }
            }
            _ => {}
        }
    }
    check_dependencies(spec, place, shape);
    let delayed = spec.when == Some(JobWhen::Delayed);
    if delayed && given(own, "start_in").is_none() {
        let span = own
            .entry("when")
            .map_or(spec.span, |entry| entry.value.span);
        shape.error(span, format!("{place} start in should be a duration"));
    }
    if let Some(entry) = own.entry("start_in")
        && !entry.value.is_null()
        && !delayed
        && given(own, "rules").is_none()
    {
        shape.error(entry.span, format!("{place} start in must be blank"));
    }
}

/// With `needs` every dependency must be one of them.
fn check_dependencies(spec: &JobSpec, place: &str, shape: &mut Shape<'_>) {
    let Some(needs) = spec.needs.as_ref().filter(|needs| !needs.is_empty()) else {
        return;
    };
    let Some((_, first)) = spec.dependencies.first() else {
        return;
    };
    let needed: Vec<&str> = needs
        .iter()
        .filter_map(|need| match &need.target {
            needs::Target::Job { job, .. } => Some(job.as_str()),
            needs::Target::Elsewhere(_) => None,
        })
        .collect();
    if needed.is_empty() {
        let text = "needs corresponding to dependencies must be from the same pipeline";
        shape.error(*first, format!("{place} {text}"));
        return;
    }
    let missing: Vec<_> = spec
        .dependencies
        .iter()
        .filter(|(name, _)| !needed.contains(&name.as_str()))
        .collect();
    if let Some((_, span)) = missing.first() {
        let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        shape.error(
            *span,
            format!(
                "{place} dependencies the {} should be part of needs",
                names.join(", ")
            ),
        );
    }
}

fn parse_when(node: &Node, bridge: bool, place: &str, shape: &mut Shape<'_>) -> Option<JobWhen> {
    let choices: &[&str] = if bridge {
        &["on_success", "on_failure", "always", "manual"]
    } else {
        &["on_success", "on_failure", "always", "manual", "delayed"]
    };
    let text = shape.choice(node, choices, &format!("{place} when"))?;
    Some(match text.as_str() {
        "on_failure" => JobWhen::OnFailure,
        "always" => JobWhen::Always,
        "manual" => JobWhen::Manual,
        "delayed" => JobWhen::Delayed,
        _ => JobWhen::OnSuccess,
    })
}

fn parse_allow_failure(
    node: &Node,
    bridge: bool,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<AllowFailure> {
    match &node.kind {
        Kind::Bool(value) => Some(AllowFailure::Always(*value)),
        Kind::Map(_) if !bridge => {
            let place = format!("{place}:allow_failure");
            let map = shape.hash(node, &["exit_codes"], &place)?;
            let Some(codes) = given(map, "exit_codes") else {
                shape.required(map, node.span, "exit_codes", &place);
                return None;
            };
            let exit_codes = keyword::exit_codes(codes, &place, shape)?;
            Some(AllowFailure::ExitCodes { exit_codes })
        }
        _ => {
            let types = if bridge {
                "a boolean value"
            } else {
                "a hash or a boolean value"
            };
            shape.error(
                node.span,
                format!("{place} allow failure should be {types}"),
            );
            None
        }
    }
}

fn parse_coverage(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<String> {
    let text = node.as_text();
    let fits =
        text.is_some_and(|text| matches!(shape.patterns.compile_delimited(text), Some(Ok(_))));
    if !fits {
        shape.error(
            node.span,
            format!("{place}:coverage config must be a regular expression with re2 syntax"),
        );
    }
    text.filter(|_| fits).map(str::to_owned)
}

/// A pages job publishes its directory as an artifact.
fn add_pages_directory(job: &mut PipelineJob, own: &Map) {
    let pages = given(own, "pages");
    let is_pages = match pages.map(|node| &node.kind) {
        None => job.name == "pages",
        Some(Kind::Bool(value)) => *value,
        Some(_) => true,
    };
    if !is_pages {
        return;
    }
    let publish = given(own, "publish")
        .or_else(|| {
            pages
                .and_then(Node::as_map)
                .and_then(|map| given(map, "publish"))
        })
        .and_then(Node::as_text)
        .unwrap_or("public")
        .to_owned();
    if job.pages.is_none() {
        job.pages = Some(json!(true));
    }
    let artifacts = job.artifacts.get_or_insert_with(|| JobArtifacts {
        when: "on_success".to_owned(),
        ..JobArtifacts::default()
    });
    if !artifacts.paths.contains(&publish) {
        artifacts.paths.push(publish);
    }
}
