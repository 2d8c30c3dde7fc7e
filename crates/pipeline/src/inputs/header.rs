//! The header of a file: `spec` with its inputs, checked (`gitlab-ci-yaml.md` 4).

use regex::Regex;

use crate::expression::Expression;
use crate::re2::Patterns;
use crate::shape::given;
use crate::source::{Fault, Span};
use crate::yaml::{Entry, Kind, Map, Node};

const MAXIMUM_OPTIONS: usize = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputType {
    String,
    Number,
    Boolean,
    Array,
}

pub(super) struct InputSpec<'a> {
    pub(super) name: &'a str,
    pub(super) span: Span,
    pub(super) kind: InputType,
    pub(super) default: Option<&'a Node>,
    pub(super) options: Option<&'a [Node]>,
    pub(super) regex: Option<Regex>,
    pub(super) rules: Vec<InputRule<'a>>,
}

/// Options and default that hold when other inputs have certain values.
pub(super) struct InputRule<'a> {
    pub(super) condition: Option<Expression>,
    pub(super) options: Option<&'a [Node]>,
    pub(super) default: Option<&'a Node>,
}

#[derive(Default)]
pub(super) struct Header<'a> {
    pub(super) inputs: Vec<InputSpec<'a>>,
    /// Facts of the component that the file wants to use.
    pub(super) component: Vec<&'a str>,
}

/// What `spec:component` may list.
const COMPONENT_FACTS: &[&str] = &["name", "sha", "version", "reference"];

/// Checks the header.
pub(super) fn parse_header<'n>(header: &'n Node, patterns: &Patterns) -> Result<Header<'n>, Fault> {
    let top = header
        .as_map()
        .ok_or_else(|| Fault::new(header.span, "header config should be a hash"))?;
    refuse_unknown(top, &["spec"], "header")?;
    let Some(entry) = top.entry("spec").filter(|entry| !entry.value.is_null()) else {
        return Ok(Header::default());
    };
    let spec = entry
        .value
        .as_map()
        .ok_or_else(|| Fault::new(entry.value.span, "header:spec config should be a hash"))?;
    refuse_unknown(spec, &["inputs", "component", "include"], "header:spec")?;
    let mut found = Header::default();
    if let Some(node) = given(spec, "component") {
        found.component = component_facts(node)?;
    }
    if let Some(inputs) = given(spec, "inputs") {
        let inputs = inputs
            .as_map()
            .ok_or_else(|| Fault::new(inputs.span, "header:spec:inputs config should be a hash"))?;
        found.inputs = inputs
            .entries()
            .iter()
            .map(|entry| {
                let place = format!("header:spec:inputs:{}", entry.key);
                parse_input(entry, &place, patterns)
            })
            .collect::<Result<_, _>>()?;
    }
    Ok(found)
}

fn component_facts(node: &Node) -> Result<Vec<&str>, Fault> {
    let place = "header:spec:component config";
    let facts: Option<Vec<&str>> = node
        .as_seq()
        .and_then(|items| items.iter().map(Node::as_text).collect());
    let facts = facts
        .ok_or_else(|| Fault::new(node.span, format!("{place} should be an array of strings")))?;
    let unknown: Vec<&str> = facts
        .iter()
        .copied()
        .filter(|fact| !COMPONENT_FACTS.contains(fact))
        .collect();
    if unknown.is_empty() {
        return Ok(facts);
    }
    let names = unknown.join(", ");
    Err(Fault::new(
        node.span,
        format!("{place} contains unknown values: {names}"),
    ))
}

fn refuse_unknown(map: &Map, allowed: &[&str], place: &str) -> Result<(), Fault> {
    let unknown: Vec<&Entry> = map
        .entries()
        .iter()
        .filter(|entry| !allowed.contains(&&*entry.key.text))
        .collect();
    let Some(first) = unknown.first() else {
        return Ok(());
    };
    let names: Vec<&str> = unknown.iter().map(|entry| &*entry.key.text).collect();
    Err(Fault::new(
        first.span,
        format!("{place} config contains unknown keys: {}", names.join(", ")),
    ))
}

/// Checks one input; `place` is its location.
pub(super) fn parse_input<'n>(
    entry: &'n Entry,
    place: &str,
    patterns: &Patterns,
) -> Result<InputSpec<'n>, Fault> {
    let name: &str = &entry.key.text;
    let mut spec = InputSpec {
        name,
        span: entry.span,
        kind: InputType::String,
        default: None,
        options: None,
        regex: None,
        rules: Vec::new(),
    };
    if entry.value.is_null() {
        return Ok(spec);
    }
    let fault = |node: &Node, text: String| Fault::new(node.span, format!("{place} {text}"));
    let map = entry
        .value
        .as_map()
        .ok_or_else(|| fault(&entry.value, "config should be a hash".to_owned()))?;
    let allowed = [
        "default",
        "description",
        "options",
        "regex",
        "type",
        "rules",
    ];
    refuse_unknown(map, &allowed, place)?;
    if let Some(kind) = map.get("type") {
        spec.kind = match kind.as_text() {
            Some("string") => InputType::String,
            Some("number") => InputType::Number,
            Some("boolean") => InputType::Boolean,
            Some("array") => InputType::Array,
            _ => {
                let value = kind.scalar_text().unwrap_or_else(|| kind.inspect());
                return Err(fault(kind, format!("input type unknown value: {value}")));
            }
        };
    }
    if let Some(node) = map.get("options") {
        spec.options = Some(parse_options(node, spec.kind, place)?);
    }
    if let Some(rules) = map.entry("rules") {
        if let Some(other) = map.entry("options").or_else(|| map.entry("default")) {
            let text = format!(
                "config these keys cannot be used together: rules, {}",
                other.key
            );
            return Err(Fault::new(other.span, format!("{place} {text}")));
        }
        spec.rules = parse_rules(&rules.value, spec.kind, place, patterns)?;
    }
    if let Some(node) = map.get("regex") {
        let compiled = node
            .as_text()
            .and_then(|pattern| patterns.compile(pattern, "").ok());
        if spec.kind != InputType::String {
            let text = "RegEx validation can only be used with string inputs";
            return Err(fault(node, text.to_owned()));
        }
        let wrong = || {
            fault(
                node,
                "regex must be a regular expression with re2 syntax".to_owned(),
            )
        };
        spec.regex = Some(compiled.ok_or_else(wrong)?);
    }
    if let Some(node) = given(map, "description")
        && node.as_text().is_none()
    {
        return Err(fault(node, "description should be a string".to_owned()));
    }
    spec.default = map.get("default");
    Ok(spec)
}

fn parse_options<'n>(node: &'n Node, kind: InputType, place: &str) -> Result<&'n [Node], Fault> {
    let fault = |text: &str| Err(Fault::new(node.span, format!("{place} {text}")));
    let Some(options) = node.as_seq() else {
        return fault("options should be an array");
    };
    if options.len() > MAXIMUM_OPTIONS {
        return fault(&format!(
            "options has too many entries (maximum {MAXIMUM_OPTIONS})"
        ));
    }
    if !matches!(kind, InputType::String | InputType::Number) {
        return fault("Options can only be used with string and number inputs");
    }
    let fits = |option: &Node| matches!(option.kind, Kind::Text(_) | Kind::Int(_) | Kind::Float(_));
    if !options.iter().all(fits) {
        return fault("options should be an array of strings or numbers");
    }
    Ok(options)
}

fn parse_rules<'n>(
    node: &'n Node,
    kind: InputType,
    place: &str,
    patterns: &Patterns,
) -> Result<Vec<InputRule<'n>>, Fault> {
    let place = format!("{place}:rules");
    let fault = |at: &Node, text: &str| Fault::new(at.span, format!("{place} {text}"));
    let items = node
        .as_seq()
        .filter(|items| !items.is_empty())
        .ok_or_else(|| fault(node, "config should be an array of hashes"))?;
    let mut rules = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let map = item
            .as_map()
            .ok_or_else(|| fault(item, "config should be an array of hashes"))?;
        refuse_unknown(map, &["if", "options", "default"], &format!("{place}:rule"))?;
        let condition = match map.get("if") {
            None if at + 1 < items.len() => {
                return Err(fault(item, "only the last rule may do without `if`"));
            }
            None => None,
            Some(node) => {
                let message = "if invalid expression syntax";
                let text = node.as_text().ok_or_else(|| fault(node, message))?;
                let parsed = Expression::parse(text, patterns);
                Some(parsed.map_err(|e| fault(node, message).with_detail(e.describe(text)))?)
            }
        };
        let rule = InputRule {
            options: match map.get("options") {
                Some(options) => Some(parse_options(options, kind, &place)?),
                None => None,
            },
            default: map.get("default"),
            condition,
        };
        match (&rule.condition, rule.options, rule.default) {
            (Some(_), None, None) => {
                return Err(fault(item, "a rule with `if` needs `options` or `default`"));
            }
            (None, None, _) => return Err(fault(item, "a rule without `if` needs `options`")),
            _ => rules.push(rule),
        }
    }
    Ok(rules)
}
