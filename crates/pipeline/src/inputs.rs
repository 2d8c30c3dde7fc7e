//! `spec:inputs` and the interpolation of `$[[ … ]]` over the parsed tree (`gitlab-ci-yaml.md` 4).

use std::collections::HashMap;

use regex::Regex;

use crate::expression::Expression;
use crate::re2;
use crate::shape::given;
use crate::source::{Fault, Span};
use crate::variables::Scope;
use crate::yaml::{Document, Entry, Kind, MAXIMUM_EXPANDED_BYTES, Map, Node};

const MAXIMUM_FUNCTIONS: usize = 3;
const MAXIMUM_BLOCKS: usize = 10_000;
const MAXIMUM_ACCESS: usize = 1024;
const MAXIMUM_PARTS: usize = 5;
const MAXIMUM_NODE: usize = 1024 * 1024;
const MAXIMUM_OPTIONS: usize = 50;

/// Checks the header, takes the given inputs and interpolates the content. Without a header the content
/// stays as it is. `at` is where the inputs were given.
pub(crate) fn interpolate(
    document: Document,
    given: &Map,
    at: Span,
    scope: Scope<'_>,
) -> Result<Node, Fault> {
    let Some(header) = document.header else {
        if !given.is_empty() {
            return Err(Fault::new(
                at,
                "Given inputs not defined in the `spec` section of the included configuration file",
            ));
        }
        return Ok(document.content);
    };
    let header = parse_header(&header)?;
    let mut interpolation = Interpolation {
        values: take_values(header.inputs, given, at)?,
        component: header.component,
        scope,
        blocks: 0,
        written: 0,
    };
    interpolation.node(&document.content)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputType {
    String,
    Number,
    Boolean,
    Array,
}

struct InputSpec<'a> {
    name: &'a str,
    span: Span,
    kind: InputType,
    default: Option<&'a Node>,
    options: Option<&'a [Node]>,
    regex: Option<Regex>,
    rules: Vec<InputRule<'a>>,
}

/// Options and default that hold when other inputs have certain values.
struct InputRule<'a> {
    condition: Option<Expression>,
    options: Option<&'a [Node]>,
    default: Option<&'a Node>,
}

#[derive(Default)]
struct Header<'a> {
    inputs: Vec<InputSpec<'a>>,
    /// Facts of the component that the file wants to use.
    component: Vec<&'a str>,
}

/// What `spec:component` may list.
const COMPONENT_FACTS: &[&str] = &["name", "sha", "version", "reference"];

/// The items of `spec:include`, which the loader replaces by the inputs they name.
pub(crate) fn header_includes(header: &Node) -> Option<&Node> {
    let spec = header.as_map()?.get("spec")?.as_map()?;
    spec.get("include").filter(|node| !node.is_null())
}

fn parse_header(header: &Node) -> Result<Header<'_>, Fault> {
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
            .map(parse_input)
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

fn parse_input(entry: &Entry) -> Result<InputSpec<'_>, Fault> {
    let name: &str = &entry.key.text;
    let place = format!("header:spec:inputs:{name}");
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
    refuse_unknown(map, &allowed, &place)?;
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
        spec.options = Some(parse_options(node, spec.kind, &place)?);
    }
    if let Some(rules) = map.entry("rules") {
        if let Some(other) = map.entry("options").or_else(|| map.entry("default")) {
            let text = format!(
                "config these keys cannot be used together: rules, {}",
                other.key
            );
            return Err(Fault::new(other.span, format!("{place} {text}")));
        }
        spec.rules = parse_rules(&rules.value, spec.kind, &place)?;
    }
    if let Some(node) = map.get("regex") {
        let compiled = node
            .as_text()
            .filter(|_| spec.kind == InputType::String)
            .and_then(|pattern| re2::compile(pattern, "").ok());
        let wrong = || {
            fault(
                node,
                "RegEx can only be used with string inputs, in RE2 syntax".to_owned(),
            )
        };
        spec.regex = Some(compiled.ok_or_else(wrong)?);
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
                let parsed = Expression::parse(text);
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

/// Rules see the inputs that have none themselves, and those with rules that stand before.
fn take_values(
    mut specs: Vec<InputSpec<'_>>,
    given: &Map,
    at: Span,
) -> Result<HashMap<String, Node>, Fault> {
    let unknown: Vec<&Entry> = given
        .entries()
        .iter()
        .filter(|entry| !specs.iter().any(|spec| spec.name == &*entry.key.text))
        .collect();
    if let Some(first) = unknown.first() {
        let names: Vec<&str> = unknown.iter().map(|entry| &*entry.key.text).collect();
        return Err(Fault::new(
            first.span,
            format!("unknown input arguments: {}", names.join(", ")),
        ));
    }
    specs.sort_by_key(|spec| !spec.rules.is_empty());
    let mut values: HashMap<String, Node> = HashMap::new();
    for mut spec in specs {
        let lookup = |name: &str| values.get(name.strip_prefix("inputs.")?)?.scalar_text();
        let rule = spec.rules.iter().find(|rule| match &rule.condition {
            Some(condition) => condition.evaluate(&lookup).holds,
            None => true,
        });
        if let Some(rule) = rule {
            (spec.options, spec.default) = (rule.options, rule.default);
        }
        let value = match (given.get(spec.name), spec.default) {
            (Some(value), _) => spec.check(value, "provided")?,
            (None, Some(default)) => spec.check(default, "default")?,
            (None, None) => {
                let span = if given.is_empty() { spec.span } else { at };
                return Err(Fault::new(
                    span,
                    format!(
                        "`{}` input: required value has not been provided",
                        spec.name
                    ),
                ));
            }
        };
        values.insert(spec.name.to_owned(), value);
    }
    Ok(values)
}

impl InputSpec<'_> {
    /// The value in the input's type; `origin` is `provided` or `default`.
    fn check(&self, value: &Node, origin: &str) -> Result<Node, Fault> {
        let fault = |text: &str| Fault::new(value.span, format!("`{}` input: {text}", self.name));
        let wrong_type = |kind: &str| fault(&format!("{origin} value is not {kind}"));
        let checked = match self.kind {
            // Numbers and booleans become text.
            InputType::String => {
                let text = value
                    .scalar_text()
                    .filter(|_| !value.is_null() || origin == "default")
                    .ok_or_else(|| wrong_type("a string"))?;
                Node::new(value.span, Kind::Text(text.into()))
            }
            InputType::Number => match value.kind {
                Kind::Int(_) | Kind::Float(_) => value.clone(),
                _ => return Err(wrong_type("a number")),
            },
            InputType::Boolean => match value.kind {
                Kind::Bool(_) => value.clone(),
                _ => return Err(wrong_type("a boolean")),
            },
            InputType::Array => match value.kind {
                Kind::Seq(_) => value.clone(),
                _ => return Err(wrong_type("an array")),
            },
        };
        let text = checked.scalar_text().unwrap_or_default();
        if let Some(options) = self.options
            && !options
                .iter()
                .any(|option| option.scalar_text().as_deref() == Some(&text))
        {
            return Err(fault(&format!(
                "`{text}` cannot be used because it is not in the list of allowed options"
            )));
        }
        if let Some(regex) = &self.regex
            && !regex.is_match(&text)
        {
            return Err(fault(&format!(
                "{origin} value does not match required RegEx pattern"
            )));
        }
        Ok(checked)
    }
}

struct Interpolation<'a> {
    values: HashMap<String, Node>,
    component: Vec<&'a str>,
    scope: Scope<'a>,
    blocks: usize,
    /// Bytes put into longer texts, in all.
    written: usize,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &Node) -> Result<Node, Fault> {
        Ok(match &node.kind {
            Kind::Text(text) if text.contains("$[[") => self.text(text, node.span)?,
            Kind::Seq(items) => {
                let items = items
                    .iter()
                    .map(|item| self.node(item))
                    .collect::<Result<_, _>>()?;
                Node::seq(node.span, items)
            }
            Kind::Map(map) => {
                let mut changed = Map::default();
                for entry in map.entries() {
                    let mut key = entry.key.clone();
                    if key.is_text && key.text.contains("$[[") {
                        let value = self.text(&key.text, entry.span)?;
                        key.text = text_form(&value).into();
                    }
                    changed.insert(key, entry.span, self.node(&entry.value)?);
                }
                Node::map(node.span, changed)
            }
            Kind::Reference(inner) => {
                Node::new(node.span, Kind::Reference(self.node(inner)?.into()))
            }
            _ => node.clone(),
        })
    }

    /// A block that is the whole text gives the typed value, otherwise its text form is put in.
    fn text(&mut self, text: &str, span: Span) -> Result<Node, Fault> {
        if text.len() > MAXIMUM_NODE {
            return Err(Fault::new(span, "too large node to interpolate"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("$[[") {
            let Some(length) = rest[start..].find("]]") else {
                break;
            };
            self.blocks += 1;
            if self.blocks > MAXIMUM_BLOCKS {
                return Err(Fault::new(span, "too many interpolation blocks"));
            }
            let end = start + length + 2;
            let block = rest[start + 3..end - 2].trim();
            // Expressions over the matrix belong to a later step.
            if block.starts_with("matrix.") {
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            let value = self.block(block, span)?;
            if start == 0 && end == rest.len() && out.is_empty() {
                return Ok(Node::new(span, value.kind));
            }
            out.push_str(&rest[..start]);
            let form = text_form(&value);
            self.written = self.written.saturating_add(form.len());
            if out.len() + form.len() > MAXIMUM_NODE || self.written > MAXIMUM_EXPANDED_BYTES {
                return Err(Fault::new(span, "The parsed YAML is too big"));
            }
            out.push_str(&form);
            rest = &rest[end..];
        }
        out.push_str(rest);
        Ok(Node::new(span, Kind::Text(out.into())))
    }

    fn block(&self, block: &str, span: Span) -> Result<Node, Fault> {
        let mut parts = block.split('|').map(str::trim);
        let access = parts.next().unwrap_or_default();
        let functions: Vec<&str> = parts.collect();
        if functions.len() > MAXIMUM_FUNCTIONS {
            return Err(Fault::new(
                span,
                "too many functions in interpolation block",
            ));
        }
        let mut value = self.access(access, span)?;
        for function in functions {
            value = self.apply(function, &value, span)?;
        }
        Ok(value)
    }

    fn access(&self, access: &str, span: Span) -> Result<Node, Fault> {
        let unknown = |part: &str| {
            Fault::new(
                span,
                format!("unknown interpolation provided: `{part}` in `{access}`"),
            )
        };
        let parts: Vec<&str> = access.split('.').collect();
        if access.len() > MAXIMUM_ACCESS || parts.len() > MAXIMUM_PARTS {
            return Err(Fault::new(span, "interpolation access is too long"));
        }
        let [root, rest @ ..] = &parts[..] else {
            return Err(unknown(access));
        };
        if let ("component", [fact]) = (*root, rest)
            && self.component.contains(fact)
        {
            return Err(Fault::new(
                span,
                format!("`{access}` is not known: the file was not included as a component"),
            ));
        }
        if *root != "inputs" {
            return Err(unknown(root));
        }
        let [name, deeper @ ..] = rest else {
            return Err(unknown(root));
        };
        if let Some(part) = deeper.first() {
            return Err(unknown(part));
        }
        let (name, indexes) = match name.find('[') {
            Some(at) => name.split_at(at),
            None => (*name, ""),
        };
        let mut value = self.values.get(name).ok_or_else(|| unknown(name))?;
        for index in indexes.split('[').skip(1).take(MAXIMUM_PARTS) {
            value = index
                .strip_suffix(']')
                .and_then(|index| index.trim().parse::<usize>().ok())
                .and_then(|index| value.as_seq()?.get(index))
                .ok_or_else(|| unknown(indexes))?;
        }
        Ok(value.clone())
    }

    fn apply(&self, function: &str, value: &Node, span: Span) -> Result<Node, Fault> {
        let (name, arguments) = match function.split_once('(') {
            Some((name, rest)) => (
                name.trim(),
                rest.strip_suffix(')').map(str::trim).unwrap_or_default(),
            ),
            None => (function, ""),
        };
        let unknown = || {
            Fault::new(
                span,
                format!(
                    "no function matching `{function}`: check that the function name, arguments, and types are correct"
                ),
            )
        };
        let text = |node: &Node| {
            node.as_text().map(str::to_owned).ok_or_else(|| {
                Fault::new(
                    span,
                    format!("invalid input type: {name} can only be used with string inputs"),
                )
            })
        };
        let result = match (name, arguments) {
            ("expand_vars", "") => self.scope.expand(&text(value)?),
            ("posix_escape", "") => posix_escape(&text(value)?),
            ("posix_quote", "") => format!("'{}'", text(value)?.replace('\'', "'\\''")),
            ("truncate", _) => {
                let numbers: Option<Vec<usize>> = arguments
                    .split(',')
                    .map(|number| number.trim().parse().ok())
                    .collect();
                let Some(&[offset, length]) = numbers.as_deref() else {
                    return Err(unknown());
                };
                text(value)?.chars().skip(offset).take(length).collect()
            }
            ("split", _) => {
                let separator = ['\'', '"']
                    .into_iter()
                    .find_map(|quote| arguments.strip_prefix(quote)?.strip_suffix(quote))
                    .filter(|separator| !separator.is_empty())
                    .ok_or_else(unknown)?;
                let items = text(value)?
                    .split(separator)
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Node::new(span, Kind::Text(part.into())))
                    .collect();
                return Ok(Node::seq(span, items));
            }
            _ => return Err(unknown()),
        };
        Ok(Node::new(span, Kind::Text(result.into())))
    }
}

/// What a value looks like inside a longer text.
fn text_form(value: &Node) -> String {
    value.scalar_text().unwrap_or_else(|| value.inspect())
}

/// Backslashes before everything a POSIX shell might read.
fn posix_escape(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' {
            out.push_str("'\n'");
            continue;
        }
        if !(c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c)) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::source::Findings;
    use crate::yaml;

    /// The interpolated content as JSON, or the fault.
    fn check(text: &str, given: &str, expected: &str) {
        let mut findings = Findings::default();
        let document = yaml::read(text, 0, &mut findings).unwrap();
        let given = yaml::read(given, 1, &mut findings).unwrap().content;
        let given = given.as_map().cloned().unwrap_or_default();
        let predefined = BTreeMap::from([("CI".to_owned(), "true".to_owned())]);
        let scope = Scope {
            pipeline: &[],
            yaml: &[],
            job: &[],
            predefined: &predefined,
        };
        let actual = match interpolate(document, &given, Span::default(), scope) {
            Ok(node) => serde_json::to_string(&node).unwrap(),
            Err(fault) => format!("{}: {}", fault.span.line, fault.message),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn values_keep_their_type_only_when_they_are_the_whole_text() {
        let header = "spec: {inputs: {n: {type: number, default: 3}, l: {type: array, default: [a, b]}, s: {default: x}}}\n---\n";
        for (content, expected) in [
            ("a: $[[ inputs.n ]]", r#"{"a":3}"#),
            ("a: n-$[[inputs.n]]", r#"{"a":"n-3"}"#),
            ("a: $[[ inputs.l ]]", r#"{"a":["a","b"]}"#),
            ("a: $[[ inputs.l[1] ]]", r#"{"a":"b"}"#),
            ("a: '$[[ inputs.n ]]$[[ inputs.s ]]'", r#"{"a":"3x"}"#),
            ("job-$[[ inputs.s ]]: 1", r#"{"job-x":1}"#),
            ("a: $[[ matrix.X ]]", r#"{"a":"$[[ matrix.X ]]"}"#),
            (
                "a: $[[ inputs.t ]]",
                "3: unknown interpolation provided: `t` in `inputs.t`",
            ),
            (
                "a: $[[ inputs.s | upcase ]]",
                "3: no function matching `upcase`: check that the function name, arguments, and types are correct",
            ),
            (
                "a: $[[ inputs.n | truncate(0,1) ]]",
                "3: invalid input type: truncate can only be used with string inputs",
            ),
        ] {
            check(&format!("{header}{content}"), "", expected);
        }
    }

    #[test]
    fn functions_run_from_left_to_right() {
        for (value, functions, expected) in [
            ("$CI-$NO", "expand_vars", r#"{"a":"true-$NO"}"#),
            ("abcdef", "truncate(1,3)", r#"{"a":"bcd"}"#),
            ("$CI", "expand_vars | truncate(0,2)", r#"{"a":"tr"}"#),
            ("a b", "posix_escape", r#"{"a":"a\\ b"}"#),
            ("''", "posix_escape", r#"{"a":"''"}"#),
            ("a, b,,", "split(',')", r#"{"a":["a","b"]}"#),
        ] {
            let text = format!("spec: {{inputs: {{s: }}}}\n---\na: $[[ inputs.s | {functions} ]]");
            check(&text, &format!("s: {value}"), expected);
        }
    }

    #[test]
    fn inputs_are_checked() {
        let text = "spec:\n  inputs:\n    env: {options: [dev, prod]}\n    v: {regex: '^v[0-9]+$', default: v1}\n---\na: $[[ inputs.env ]]";
        for (given, expected) in [
            ("env: prod", r#"{"a":"prod"}"#),
            ("", "3: `env` input: required value has not been provided"),
            ("{env: prod, x: 1}", "1: unknown input arguments: x"),
            (
                "env: test",
                "1: `env` input: `test` cannot be used because it is not in the list of allowed options",
            ),
            (
                "{env: dev, v: 1}",
                "1: `v` input: provided value does not match required RegEx pattern",
            ),
        ] {
            check(text, given, expected);
        }
        check(
            "spec: {inputs: {n: {type: object}}}\n---\na: 1",
            "",
            "1: header:spec:inputs:n input type unknown value: object",
        );
        check(
            "spec: {inputs: {n: {type: number}}}\n---\na: 1",
            "n: x",
            "1: `n` input: provided value is not a number",
        );
        check(
            "a: 1",
            "n: x",
            "0: Given inputs not defined in the `spec` section of the included configuration file",
        );
        check("a: $[[ inputs.x ]]", "", r#"{"a":"$[[ inputs.x ]]"}"#);
    }
}
