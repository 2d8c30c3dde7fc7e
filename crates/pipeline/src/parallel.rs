//! `parallel` (`gitlab-ci-yaml.md` 15): numbers and matrices become instances of a job.

use std::ops::Range;

use crate::shape::Shape;
use crate::source::Span;
use crate::yaml::{Kind, Node};

/// Instances of one job.
const MAXIMUM_INSTANCES: usize = 200;

/// Names and values of one instance, in the order of the names.
pub(crate) type Combination = Vec<(String, String)>;

/// `parallel` as written.
#[derive(Debug, Clone)]
pub(crate) enum Parallel {
    Number(usize),
    Matrix(Vec<Combination>),
}

/// One instance of a job.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) name: String,
    /// From 1, and of how many; `None` for a job without `parallel`.
    pub(crate) index: Option<(usize, usize)>,
    pub(crate) combination: Combination,
}

impl Parallel {
    /// The instances of the job `name`.
    pub(crate) fn instances(&self, name: &str) -> Vec<Instance> {
        match self {
            Self::Number(total) => (1..=*total)
                .map(|index| Instance {
                    name: format!("{name} {index}/{total}"),
                    index: Some((index, *total)),
                    combination: Vec::new(),
                })
                .collect(),
            Self::Matrix(combinations) => {
                let mut instances: Vec<Instance> = Vec::with_capacity(combinations.len());
                for (at, combination) in combinations.iter().enumerate() {
                    let instance = Instance {
                        name: matrix_name(name, combination),
                        index: Some((at + 1, combinations.len())),
                        combination: combination.clone(),
                    };
                    // Equal values under other names make the same name; the later one takes the place.
                    match instances
                        .iter_mut()
                        .find(|known| known.name == instance.name)
                    {
                        Some(known) => *known = instance,
                        None => instances.push(instance),
                    }
                }
                instances
            }
        }
    }
}

/// `J: [v1, v2]`: only values, in the order of the names.
pub(crate) fn matrix_name(name: &str, combination: &[(String, String)]) -> String {
    let values: Vec<&str> = combination
        .iter()
        .map(|(_, value)| value.as_str())
        .collect();
    format!("{name}: [{}]", values.join(", "))
}

/// `$[[ matrix.NAME ]]` in a text.
pub(crate) struct Expression<'a> {
    pub(crate) name: &'a str,
    place: Range<usize>,
}

/// The matrix expressions of a text, in order; anything else in `$[[ ]]` is text.
pub(crate) fn expressions(text: &str) -> impl Iterator<Item = Expression<'_>> {
    text.match_indices("$[[")
        .filter_map(move |(start, opening)| {
            let inner = start + opening.len();
            let length = text[inner..].find("]]")?;
            let name = text[inner..inner + length].trim().strip_prefix("matrix.")?;
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            (!name.is_empty() && name.bytes().all(of_name)).then(|| Expression {
                name,
                place: start..inner + length + "]]".len(),
            })
        })
}

/// The text with the values of `own` in the place of its matrix expressions; an unknown name stays.
pub(crate) fn with_values(text: &str, own: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for expression in expressions(text) {
        if let Some((_, value)) = own.iter().find(|(name, _)| name == expression.name) {
            out.push_str(&text[copied..expression.place.start]);
            out.push_str(value);
            copied = expression.place.end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// Reads `parallel` of a job; `place` is the job's location.
pub(crate) fn parse(
    node: &Node,
    place: &str,
    bridge: bool,
    shape: &mut Shape<'_>,
) -> Option<Parallel> {
    let place = format!("{place}:parallel");
    match &node.kind {
        Kind::Map(_) => {
            let map = shape.hash(node, &["matrix"], &place)?;
            let Some(matrix) = map.get("matrix") else {
                shape.required(map, node.span, "matrix", &place);
                return None;
            };
            parse_matrix(matrix, &format!("{place}:matrix"), shape).map(Parallel::Matrix)
        }
        _ if bridge => {
            shape.error(node.span, format!("{place} config should be a hash"));
            None
        }
        Kind::Int(_) | Kind::Float(_) => {
            let most = i64::try_from(MAXIMUM_INSTANCES).unwrap_or(i64::MAX);
            let number = shape.integer(node, 1..=most, &format!("{place} config"))?;
            usize::try_from(number).ok().map(Parallel::Number)
        }
        _ => {
            shape.error(node.span, format!("{place} should be an integer or a hash"));
            None
        }
    }
}

/// Reads `parallel: {matrix: …}` of a need.
pub(crate) fn parse_matrix_of_need(
    node: &Node,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<Vec<Combination>> {
    let place = format!("{place}:parallel");
    let map = shape.hash(node, &["matrix"], &place)?;
    let matrix = map.get("matrix")?;
    parse_matrix(matrix, &format!("{place}:matrix"), shape)
}

fn parse_matrix(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<Vec<Combination>> {
    let Some(items) = node.as_seq() else {
        shape.error(
            node.span,
            format!("{place} config should be an array of hashes"),
        );
        return None;
    };
    let mut combinations = Vec::new();
    for item in items {
        let axes = parse_axes(item, place, shape)?;
        let count = axes
            .iter()
            .try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()));
        if count.is_none_or(|count| combinations.len() + count > MAXIMUM_INSTANCES) {
            too_many(node.span, place, shape);
            return None;
        }
        let mut products: Vec<Combination> = vec![Vec::new()];
        for (name, values) in &axes {
            products = products
                .iter()
                .flat_map(|product| {
                    values.iter().map(|value| {
                        let mut longer = product.clone();
                        longer.push((name.clone(), value.clone()));
                        longer
                    })
                })
                .collect();
        }
        combinations.append(&mut products);
    }
    Some(combinations)
}

fn parse_axes(
    node: &Node,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<Vec<(String, Vec<String>)>> {
    let place = format!("{place}:variables");
    let wrong =
        format!("{place} config should be a hash of key value pairs, value can be an array");
    let Some(map) = node.as_map() else {
        shape.error(node.span, wrong);
        return None;
    };
    if map.is_empty() {
        shape.error(
            node.span,
            format!("{place} config requires at least 1 items"),
        );
        return None;
    }
    let value = |node: &Node| match &node.kind {
        Kind::Text(_) | Kind::Int(_) => node.scalar_text(),
        _ => None,
    };
    let mut axes = Vec::with_capacity(map.len());
    for entry in map.entries() {
        let values = match entry.value.as_seq() {
            Some(items) => items.iter().map(value).collect(),
            None => value(&entry.value).map(|value| vec![value]),
        };
        match values {
            Some(values) if entry.key.is_text => axes.push((entry.key.text.to_string(), values)),
            _ => {
                shape.error(entry.value.span, wrong);
                return None;
            }
        }
    }
    Some(axes)
}

fn too_many(span: Span, place: &str, shape: &mut Shape<'_>) {
    shape.error(
        span,
        format!("{place} config generates too many jobs (maximum is {MAXIMUM_INSTANCES})"),
    );
}
