//! `needs`: forms, resolution to the jobs of the pipeline, and the checks among jobs
//! (`gitlab-ci-yaml.md` 14).

use serde_json::json;

use crate::parallel;
use crate::shape::Shape;
use crate::source::Span;
use crate::yaml::{Kind, Node};

/// More needs than this are refused when the pipeline is made.
pub(crate) const MAXIMUM_NEEDS: usize = 50;
const MAXIMUM_CROSS_PIPELINE: usize = 5;

/// One need as written.
#[derive(Debug, Clone)]
pub(crate) struct NeedSpec {
    pub(crate) span: Span,
    pub(crate) target: Target,
}

/// Where the needed job is.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// In this pipeline.
    Job {
        job: String,
        artifacts: bool,
        optional: bool,
        /// Combinations of a parallel job: each a list of names and values.
        matrix: Option<Vec<parallel::Combination>>,
    },
    /// In another pipeline or project, as JSON.
    Elsewhere(serde_json::Value),
}

impl Target {
    /// Names in the matrix expressions of the job's name and of the combinations.
    pub(crate) fn matrix_expressions(&self) -> impl Iterator<Item = &str> {
        let (job, matrix) = match self {
            Self::Job { job, matrix, .. } => (Some(job), matrix.as_deref()),
            Self::Elsewhere(_) => (None, None),
        };
        let values = matrix.unwrap_or_default().iter().flatten();
        job.into_iter()
            .chain(values.map(|(_, value)| value))
            .flat_map(|text| parallel::expressions(text).map(|expression| expression.name))
    }
}

/// Reads `needs` of a rule, where only jobs of the same pipeline may stand.
pub(crate) fn parse_of_rule(node: &Node, place: &str, shape: &mut Shape<'_>) -> Vec<NeedSpec> {
    let needs = parse(node, place, false, shape);
    if let Some(need) = needs
        .iter()
        .find(|need| matches!(need.target, Target::Elsewhere(_)))
    {
        shape.error(
            need.span,
            format!("{place} config uses invalid types: cross_dependency"),
        );
    }
    needs
}

/// Reads `needs`; a bridge may mirror another project's pipeline.
pub(crate) fn parse(
    node: &Node,
    place: &str,
    bridge: bool,
    shape: &mut Shape<'_>,
) -> Vec<NeedSpec> {
    let items: Vec<&Node> = match &node.kind {
        Kind::Seq(items) => items.iter().collect(),
        Kind::Map(map) if map.is_empty() => {
            shape.error(
                node.span,
                format!("{place} config can not be an empty hash"),
            );
            return Vec::new();
        }
        Kind::Map(_) => vec![node],
        _ => {
            shape.error(
                node.span,
                format!("{place} config can only be a hash or an array"),
            );
            return Vec::new();
        }
    };
    let needs: Vec<NeedSpec> = items
        .into_iter()
        .filter_map(|item| parse_one(item, place, bridge, shape))
        .collect();
    let across = needs.iter().filter(
        |need| matches!(&need.target, Target::Elsewhere(value) if value.get("pipeline").is_some()),
    );
    if across.count() > MAXIMUM_CROSS_PIPELINE {
        shape.error(
            node.span,
            format!("{place} config must be less than or equal to {MAXIMUM_CROSS_PIPELINE}"),
        );
    }
    needs
}

fn parse_one(node: &Node, place: &str, bridge: bool, shape: &mut Shape<'_>) -> Option<NeedSpec> {
    let place = format!("{place}:need");
    let unsupported = format!("{place} has an unsupported type");
    if let Some(name) = node.as_text() {
        return Some(NeedSpec {
            span: node.span,
            target: Target::Job {
                job: name.to_owned(),
                artifacts: true,
                optional: false,
                matrix: None,
            },
        });
    }
    let Some(map) = node.as_map() else {
        shape.error(node.span, unsupported);
        return None;
    };
    let flag = |key: &str, default: bool, shape: &mut Shape<'_>| match map.get(key) {
        None => default,
        Some(value) if value.is_null() => default,
        Some(value) => shape
            .boolean(value, &format!("{place} {key}"))
            .unwrap_or(default),
    };
    let text = |key: &str, shape: &mut Shape<'_>| {
        map.get(key)
            .and_then(|value| shape.string(value, &format!("{place} {key}")))
    };
    let target = if map.has("project") {
        shape.known_keys(map, &["project", "ref", "job", "artifacts"], &place);
        for key in ["ref", "job"] {
            shape.required(map, node.span, key, &place);
        }
        Target::Elsewhere(json!({
            "project": text("project", shape),
            "ref": text("ref", shape),
            "job": text("job", shape),
            "artifacts": flag("artifacts", true, shape),
        }))
    } else if map.has("pipeline") && (map.has("job") || !bridge) {
        shape.known_keys(map, &["pipeline", "job", "artifacts"], &place);
        if !map.has("job") {
            shape.error(node.span, unsupported);
            return None;
        }
        Target::Elsewhere(json!({
            "pipeline": text("pipeline", shape),
            "job": text("job", shape),
            "artifacts": flag("artifacts", true, shape),
        }))
    } else if map.has("pipeline") {
        shape.known_keys(map, &["pipeline"], &place);
        Target::Elsewhere(json!({ "pipeline": text("pipeline", shape) }))
    } else if map.has("job") {
        shape.known_keys(map, &["job", "artifacts", "optional", "parallel"], &place);
        Target::Job {
            job: text("job", shape)?,
            artifacts: flag("artifacts", true, shape),
            optional: flag("optional", false, shape),
            matrix: match map.get("parallel") {
                None => None,
                Some(value) if value.as_map().is_some() => {
                    parallel::parse_matrix_of_need(value, &place, shape)
                }
                Some(value) => {
                    shape.error(
                        value.span,
                        format!("{place} cannot use \"parallel: <number>\"."),
                    );
                    None
                }
            },
        }
    } else {
        shape.error(node.span, unsupported);
        return None;
    };
    Some(NeedSpec {
        span: node.span,
        target,
    })
}
