//! Values of expressions, and what is in scope.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use courser_protocol::Input;
use serde_json::Value as Json;

/// What all expressions of a job may make at most, in bytes: `a + a + a` is shorter than its value.
const MOST_MADE: usize = 64 << 20;

/// A value. Copies share what is long.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Number(f64),
    Text(Arc<str>),
    Array(Arc<[Self]>),
    Struct(Arc<Struct>),
    /// An input whose value must not be used; its name.
    Sensitive(Arc<str>),
}

/// Named values.
#[derive(Debug)]
pub(super) struct Struct {
    fields: BTreeMap<String, Value>,
    /// What a field of it is called.
    noun: &'static str,
    /// The name of an input in it that must not be used.
    sensitive: Option<Arc<str>>,
}

impl Struct {
    fn sensitive(value: &Value) -> Option<&Arc<str>> {
        match value {
            Value::Sensitive(name) => Some(name),
            Value::Struct(inner) => inner.sensitive.as_ref(),
            _ => None,
        }
    }
}

impl FromIterator<(String, Self)> for Value {
    fn from_iter<T: IntoIterator<Item = (String, Self)>>(fields: T) -> Self {
        Self::of_fields("field", fields)
    }
}

/// What names refer to: `job.inputs`.
pub(crate) struct Scope {
    job: Value,
    /// Bytes that may still be made.
    budget: Cell<usize>,
}

impl Scope {
    /// The inputs of a job. Of several with one name the last one counts, as with variables.
    pub(crate) fn of_inputs(inputs: &[Input]) -> Self {
        let inputs = inputs.iter().map(|input| {
            let value = match input.value.sensitive {
                true => Value::Sensitive(input.key.as_str().into()),
                false => Value::from(&input.value.content),
            };
            (input.key.clone(), value)
        });
        let inputs = Value::of_fields("input", inputs);
        Self {
            job: Value::from_iter([("inputs".to_owned(), inputs)]),
            budget: Cell::new(MOST_MADE),
        }
    }

    /// Pays for bytes that are made.
    pub(super) fn pay(&self, bytes: usize) -> Result<(), String> {
        let left = self.budget.get().checked_sub(bytes);
        let left = left
            .ok_or_else(|| format!("all expressions together make more than {MOST_MADE} bytes"))?;
        self.budget.set(left);
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Result<Value, String> {
        match name {
            "job" => Ok(self.job.clone()),
            _ => Err(format!("{name:?} is not known, only job.inputs")),
        }
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Boolean(*value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(values) => Self::Array(values.iter().map(Self::from).collect()),
            Json::Object(fields) => {
                let fields = fields.iter();
                fields
                    .map(|(name, value)| (name.clone(), Self::from(value)))
                    .collect()
            }
        }
    }
}

impl Value {
    fn of_fields(noun: &'static str, fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let fields = BTreeMap::from_iter(fields);
        let sensitive = fields.values().find_map(Struct::sensitive).cloned();
        Self::Struct(Arc::new(Struct {
            fields,
            noun,
            sensitive,
        }))
    }

    /// What it is, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Struct(_) => "a struct",
            Self::Sensitive(_) => "a secret",
        }
    }

    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Boolean(value) => *value,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Array(values) => !values.is_empty(),
            Self::Struct(of) => !of.fields.is_empty(),
            Self::Sensitive(_) => true,
        }
    }

    /// The field or element of it.
    pub(super) fn at(&self, selector: &Self) -> Result<Self, String> {
        match (self, selector) {
            (Self::Struct(of), Self::Text(name)) => {
                let field = of.fields.get(name.as_ref()).cloned();
                field.ok_or_else(|| format!("there is no {} {name:?}", of.noun))
            }
            (_, Self::Text(name)) => Err(format!("there is no field {name:?} in {}", self.kind())),
            (Self::Array(values), Self::Number(number)) => {
                let index = index(*number).ok_or_else(|| format!("{number} is no index"))?;
                let element = values.get(index).cloned();
                element.ok_or_else(|| {
                    format!(
                        "there is no element {index}, the array has {}",
                        values.len()
                    )
                })
            }
            (_, Self::Number(number)) => {
                Err(format!("there is no element {number} in {}", self.kind()))
            }
            (_, other) => Err(format!("{} cannot stand in brackets", other.kind())),
        }
    }

    /// Fails where it is, or holds, what must not be used. Of containers only the inputs as a whole can.
    pub(super) fn usable(self) -> Result<Self, String> {
        match Struct::sensitive(&self) {
            Some(name) => Err(format!(
                "input {name:?} is sensitive, which is not supported"
            )),
            None => Ok(self),
        }
    }

    /// As `str()` shows it: texts as they are, lists and structs as JSON.
    pub(super) fn write(&self, output: &mut String, scope: &Scope) -> Result<(), String> {
        match self {
            Self::Null => output.push_str("<null>"),
            Self::Text(text) => {
                scope.pay(text.len())?;
                output.push_str(text);
            }
            other => other.write_json(output, scope)?,
        }
        Ok(())
    }

    fn write_json(&self, output: &mut String, scope: &Scope) -> Result<(), String> {
        let before = output.len();
        match self {
            Self::Null => output.push_str("null"),
            Self::Boolean(value) => output.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => {
                // Writing to a String does not fail.
                let _ = write!(output, "{number}");
            }
            Self::Text(text) => {
                scope.pay(text.len())?;
                output.push_str(&Json::from(text.as_ref()).to_string());
            }
            Self::Array(values) => {
                let mut separator = '[';
                for value in values.iter() {
                    output.push(separator);
                    value.write_json(output, scope)?;
                    separator = ',';
                }
                output.push_str(if separator == '[' { "[]" } else { "]" });
            }
            Self::Struct(of) => {
                let mut separator = '{';
                for (name, value) in &of.fields {
                    output.push(separator);
                    output.push_str(&Json::from(name.as_str()).to_string());
                    output.push(':');
                    value.write_json(output, scope)?;
                    separator = ',';
                }
                output.push_str(if separator == '{' { "{}" } else { "}" });
            }
            Self::Sensitive(_) => return Err("a sensitive input is in it".to_owned()),
        }
        // What is in it is paid for again: a few levels at most.
        scope.pay(output.len() - before)
    }

    /// Values of different kinds are ordered by kind.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => {
                one.partial_cmp(other).unwrap_or(Ordering::Equal)
            }
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Array(ones), Self::Array(others)) => {
                let pairs = ones.iter().zip(others.iter());
                let different = pairs
                    .map(|(one, other)| one.compare(other))
                    .find(|order| order.is_ne());
                different.unwrap_or_else(|| ones.len().cmp(&others.len()))
            }
            (Self::Struct(one), Self::Struct(other)) => {
                let (ones, others) = (&one.fields, &other.fields);
                let values = || {
                    let pairs = ones.values().zip(others.values());
                    pairs
                        .map(|(one, other)| one.compare(other))
                        .find(|order| order.is_ne())
                        .unwrap_or(Ordering::Equal)
                };
                let lengths = ones.len().cmp(&others.len());
                lengths
                    .then_with(|| ones.keys().cmp(others.keys()))
                    .then_with(values)
            }
            (one, other) => one.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::Array(_) => 4,
            Self::Struct(_) => 5,
            Self::Sensitive(_) => 6,
        }
    }
}

fn index(number: f64) -> Option<usize> {
    // Beyond 2^53 numbers are not exact, and no array is that long.
    let whole = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    whole.then_some(number as usize)
}
