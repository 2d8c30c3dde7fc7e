//! The merged tree as a checked configuration (`gitlab-ci-yaml.md` 7, steps 7 and 8 of 1).

use serde_json::Value;

use crate::budget::{self, Budget};
use crate::job::{self, DEFAULT_KEYS, Defaults, JobSpec};
use crate::model::{PipelineJob, YamlVariable};
use crate::rules::{self, Owner, Rule};
use crate::shape::{Shape, flatten, given};
use crate::source::Span;
use crate::variables::{self, Level};
use crate::yaml::{Map, Node};

const MAXIMUM_WORKFLOW_NAME: usize = 255;
/// Top-level keys that are never jobs.
const KEYWORDS: &[&str] = &[
    "image",
    "services",
    "stages",
    "before_script",
    "after_script",
    "variables",
    "cache",
    "include",
];
/// Their old form at top level stands for `default`.
const OLD_DEFAULTS: &[&str] = &[
    "image",
    "services",
    "before_script",
    "after_script",
    "cache",
];

/// Everything the file says.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) stages: Vec<String>,
    pub(crate) variables: Vec<YamlVariable>,
    pub(crate) workflow: WorkflowSpec,
    pub(crate) jobs: Vec<JobSpec>,
}

/// `workflow` as written.
#[derive(Debug, Default)]
pub(crate) struct WorkflowSpec {
    pub(crate) name: Option<String>,
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) auto_cancel: Option<(Value, Span)>,
}

/// Checks the shape of everything; errors go to `shape`.
pub(crate) fn parse(tree: &Map, span: Span, shape: &mut Shape<'_>) -> Config {
    let defaults = parse_defaults(tree, shape);
    let config = Config {
        stages: parse_stages(tree.get("stages"), shape),
        variables: tree
            .get("variables")
            .map(|node| variables::parse(node, "variables", Level::Global, shape))
            .unwrap_or_default(),
        workflow: tree
            .get("workflow")
            .filter(|node| !is_job(node))
            .map(|node| parse_workflow(node, shape))
            .unwrap_or_default(),
        jobs: parse_jobs(tree, &defaults, shape),
    };
    warn_of_double_pipelines(&config, shape);
    if config.jobs.is_empty() && shape.findings.errors.is_empty() {
        shape.error(span, "jobs config should contain at least one visible job");
    }
    config
}

/// `gitlab-ci-yaml.md` 19.6: such a job runs for the push as well as for its merge request.
fn warn_of_double_pipelines(config: &Config, shape: &mut Shape<'_>) {
    if config.workflow.rules.is_some() {
        return;
    }
    for job in &config.jobs {
        let last = job.rules.as_ref().and_then(|rules| rules.last());
        if let Some(rule) = last.filter(|rule| rule.only_when) {
            shape.findings.warn(
                rule.span,
                format!(
                    "jobs:{} may allow multiple pipelines to run for a single action due to `rules:when` clause with no `workflow:rules`",
                    job.name
                ),
            );
        }
    }
}

fn parse_jobs(tree: &Map, defaults: &Defaults, shape: &mut Shape<'_>) -> Vec<JobSpec> {
    let mut budget = Budget::for_jobs();
    let mut jobs = Vec::new();
    for entry in tree.entries() {
        let name = &*entry.key.text;
        let keyword = KEYWORDS.contains(&name)
            || (matches!(name, "default" | "workflow") && !is_job(&entry.value));
        if keyword || name.starts_with('.') {
            continue;
        }
        let Some(job) = job::parse(entry, defaults, shape) else {
            continue;
        };
        let bytes = budget::job_bytes(&job.job, &job.variables);
        if let Err(fault) = budget.take(bytes, entry.span) {
            shape.error(fault.span, fault.message);
            break;
        }
        jobs.push(job);
    }
    jobs
}

fn is_job(node: &Node) -> bool {
    node.as_map().is_some_and(job::looks_like_job)
}

fn parse_defaults(tree: &Map, shape: &mut Shape<'_>) -> Defaults {
    let mut defaults = Defaults::default();
    let mut scratch = PipelineJob::default();
    let mut check =
        |defaults: &mut Defaults, key: &str, node: &Node, place: &str, shape: &mut Shape<'_>| {
            let before = shape.findings.errors.len();
            job::parse_defaultable(&mut scratch, key, node, place, shape);
            if shape.findings.errors.len() > before {
                defaults.wrong.insert(key.to_owned());
            }
        };
    if let Some(node) = given(tree, "default").filter(|node| !is_job(node))
        && let Some(map) = shape.hash(node, DEFAULT_KEYS, "default")
    {
        for entry in map.entries() {
            if !entry.value.is_null() {
                check(
                    &mut defaults,
                    &entry.key.text,
                    &entry.value,
                    "default",
                    shape,
                );
                let key = entry.key.clone();
                defaults
                    .entries
                    .insert(key, entry.span, entry.value.clone());
            }
        }
    }
    for key in OLD_DEFAULTS {
        let Some(entry) = tree.entry(key).filter(|entry| !entry.value.is_null()) else {
            continue;
        };
        if defaults.entries.has(key) {
            shape.error(
                entry.span,
                format!("{key} is defined in top-level and `default:` entry"),
            );
            continue;
        }
        // At top level the location is the key itself, without a `default:` before it.
        let before = shape.findings.errors.len();
        check(&mut defaults, key, &entry.value, "", shape);
        for fault in &mut shape.findings.errors[before..] {
            fault.message = fault.message.trim_start_matches(':').to_owned();
        }
        let key = entry.key.clone();
        defaults
            .entries
            .insert(key, entry.span, entry.value.clone());
    }
    defaults
}

fn parse_stages(node: Option<&Node>, shape: &mut Shape<'_>) -> Vec<String> {
    let named: Vec<String> = match node.filter(|node| !node.is_null()) {
        None => ["build", "test", "deploy"].map(str::to_owned).into(),
        Some(node) => {
            let texts: Option<Vec<String>> = node.as_seq().and_then(|_| {
                flatten(node)
                    .into_iter()
                    .map(|item| item.as_text().map(str::to_owned))
                    .collect()
            });
            let Some(texts) = texts else {
                shape.error(
                    node.span,
                    "stages config should be an array of strings or a nested array of strings up to 10 levels deep",
                );
                return Vec::new();
            };
            if texts.is_empty() {
                return Vec::new();
            }
            texts
        }
    };
    let mut stages = vec![".pre".to_owned()];
    for stage in named {
        if stage != ".post" && !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    stages.push(".post".to_owned());
    stages
}

fn parse_workflow(node: &Node, shape: &mut Shape<'_>) -> WorkflowSpec {
    let mut workflow = WorkflowSpec::default();
    if node.is_null() {
        return workflow;
    }
    let Some(map) = shape.hash(node, &["rules", "name", "auto_cancel"], "workflow") else {
        return workflow;
    };
    workflow.rules = given(map, "rules")
        .map(|rules| rules::parse(rules, "workflow:rules", Owner::Workflow, shape));
    if let Some(name) = given(map, "name")
        && let Some(text) = shape.string(name, "workflow name")
    {
        let length = text.chars().count();
        if length == 0 || length > MAXIMUM_WORKFLOW_NAME {
            let bound = if length == 0 {
                "is too short (minimum is 1 character)".to_owned()
            } else {
                format!("is too long (maximum is {MAXIMUM_WORKFLOW_NAME} characters)")
            };
            shape.error(name.span, format!("workflow name {bound}"));
        }
        workflow.name = Some(text);
    }
    if let Some(entry) = map.entry("auto_cancel")
        && !entry.value.is_null()
    {
        let value = rules::auto_cancel(&entry.value, "workflow", shape);
        workflow.auto_cancel = Some((value, entry.span));
    }
    workflow
}
