//! The values of inputs: what was given, what stands for it otherwise, and whether it fits
//! (`gitlab-ci-yaml.md` 4).

use std::collections::{HashMap, HashSet};

use super::Surroundings;
use super::header::{InputSpec, InputType};
use crate::event::InputValue;
use crate::source::{Fault, Findings, Span};
use crate::yaml::{self, Entry, Key, Kind, Map, Node};

/// Values given for the inputs of a file.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Map,
    /// Names whose values are texts that a person typed.
    typed_in: HashSet<String>,
}

impl Given {
    /// Values of a file, with their types.
    pub(crate) fn typed(values: Map) -> Self {
        Self {
            values,
            typed_in: HashSet::new(),
        }
    }

    /// Values of the event, which count as given at `span`.
    pub(crate) fn of_event(inputs: &[(String, InputValue)], span: Span) -> Self {
        let mut given = Self::default();
        for (name, value) in inputs {
            let node = match value {
                InputValue::Text(text) => {
                    given.typed_in.insert(name.clone());
                    Node::new(span, Kind::Text(text.as_str().into()))
                }
                InputValue::Typed(value) => Node::from_json(value, span),
            };
            given.values.insert(Key::text(name), span, node);
        }
        given
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value for an input; one that was typed in takes the type that the input wants.
    fn get(&self, spec: &InputSpec<'_>) -> Option<Node> {
        let node = self.values.get(spec.name)?;
        match node.as_text() {
            Some(text) if self.typed_in.contains(spec.name) => {
                Some(Node::new(node.span, typed(text, spec.kind, node.span)))
            }
            _ => Some(node.clone()),
        }
    }
}

/// What YAML makes of the text where the input is no string; a text that does not fit stays one.
fn typed(text: &str, kind: InputType, span: Span) -> Kind {
    let read = match kind {
        InputType::String => None,
        InputType::Number | InputType::Boolean => yaml::plain(text),
        InputType::Array => yaml::read(text, span.file, &mut Findings::default())
            .ok()
            .map(|document| document.content.at(span).kind),
    };
    read.unwrap_or_else(|| Kind::Text(text.into()))
}

/// Rules see the inputs that have none themselves, and those with rules that stand before.
pub(super) fn take_values(
    mut specs: Vec<InputSpec<'_>>,
    given: &Given,
    surroundings: Surroundings<'_>,
) -> Result<HashMap<String, Node>, Fault> {
    let unknown: Vec<&Entry> = given
        .values
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
            Some(condition) => condition.evaluate(&lookup, surroundings.patterns).holds,
            None => true,
        });
        if let Some(rule) = rule {
            (spec.options, spec.default) = (rule.options, rule.default);
        }
        // The default must fit even where it is not used.
        let default = spec.default.map(|node| spec.check(node, "default"));
        let value = match (given.get(&spec), default.transpose()?) {
            (Some(value), _) => spec.check(&value, "provided")?,
            (None, Some(default)) => default,
            (None, None) => {
                let span = if given.is_empty() {
                    spec.span
                } else {
                    surroundings.at
                };
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
    pub(super) fn check(&self, value: &Node, origin: &str) -> Result<Node, Fault> {
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
