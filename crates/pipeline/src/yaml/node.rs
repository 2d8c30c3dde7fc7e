//! The tree. Cloning is cheap: collections and texts are shared.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::scalar::ruby_float;
use crate::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// The plain types of YAML, and GitLab's one tag.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Seq(Arc<Vec<Node>>),
    Map(Arc<Map>),
    /// `!reference` with what stands behind it.
    Reference(Arc<Node>),
}

/// A mapping key. Keys that are no text (`on:`, `123:`) keep their text form but are no valid names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) text: Arc<str>,
    pub(crate) is_text: bool,
}

/// One pair of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) span: Span,
    pub(crate) value: Node,
}

/// A mapping in order of first insertion.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    entries: Vec<Entry>,
    /// Positions by the key's text, for keys that are text and for others; only where there are many
    /// entries, because few are found sooner one by one.
    index: Option<HashMap<Arc<str>, [Option<usize>; 2]>>,
}

/// More entries than this have an index.
const MAXIMUM_UNINDEXED: usize = 12;

impl Key {
    pub(crate) fn text(text: &str) -> Self {
        Self {
            text: text.into(),
            is_text: true,
        }
    }
}

/// In the order of the file, which [`Node::to_json`] does not keep.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Seq(items) => serializer.collect_seq(items.iter()),
            Kind::Map(map) => serializer.collect_map(
                map.entries()
                    .iter()
                    .map(|entry| (&*entry.key.text, &entry.value)),
            ),
            Kind::Reference(inner) => inner.serialize(serializer),
            _ => self.to_json().serialize(serializer),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn note(index: &mut HashMap<Arc<str>, [Option<usize>; 2]>, key: &Key, position: usize) {
    let positions = index.entry(Arc::clone(&key.text)).or_default();
    positions[usize::from(key.is_text)] = Some(position);
}

impl Map {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(self.position(key, true)?)
    }

    fn position(&self, text: &str, is_text: bool) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(text)?[usize::from(is_text)],
            None => self
                .entries
                .iter()
                .position(|entry| entry.key.is_text == is_text && &*entry.key.text == text),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    pub(crate) fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(self.position(&key.text, key.is_text)?)
    }

    /// Puts the pair in; a key that is there keeps its place and takes the new value and position.
    pub(crate) fn insert(&mut self, key: Key, span: Span, value: Node) {
        if let Some(position) = self.position(&key.text, key.is_text) {
            let entry = &mut self.entries[position];
            entry.span = span;
            entry.value = value;
            return;
        }
        self.entries.push(Entry { key, span, value });
        let count = self.entries.len();
        match &mut self.index {
            Some(index) => {
                if let Some(entry) = self.entries.last() {
                    note(index, &entry.key, count - 1);
                }
            }
            None if count > MAXIMUM_UNINDEXED => {
                let mut index = HashMap::with_capacity(2 * count);
                for (position, entry) in self.entries.iter().enumerate() {
                    note(&mut index, &entry.key, position);
                }
                self.index = Some(index);
            }
            None => {}
        }
    }

    /// The mapping without a key.
    pub(crate) fn without(&self, key: &str) -> Self {
        let mut rest = Self::default();
        for entry in &self.entries {
            if !(entry.key.is_text && &*entry.key.text == key) {
                rest.insert(entry.key.clone(), entry.span, entry.value.clone());
            }
        }
        rest
    }
}

impl Node {
    pub(crate) fn new(span: Span, kind: Kind) -> Self {
        Self { span, kind }
    }

    pub(crate) fn map(span: Span, map: Map) -> Self {
        Self::new(span, Kind::Map(Arc::new(map)))
    }

    pub(crate) fn seq(span: Span, items: Vec<Self>) -> Self {
        Self::new(span, Kind::Seq(Arc::new(items)))
    }

    /// A JSON value, all of it at one place.
    pub(crate) fn from_json(value: &Value, span: Span) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(number) => match number.as_i128() {
                Some(value) => Kind::Int(value),
                None => Kind::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Kind::Text(text.as_str().into()),
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::from_json(item, span));
                return Self::seq(span, items.collect());
            }
            Value::Object(object) => {
                let mut map = Map::default();
                for (key, value) in object {
                    map.insert(Key::text(key), span, Self::from_json(value, span));
                }
                return Self::map(span, map);
            }
        };
        Self::new(span, kind)
    }

    /// The same value, all of it at one place.
    pub(crate) fn at(&self, span: Span) -> Self {
        match &self.kind {
            Kind::Seq(items) => Self::seq(span, items.iter().map(|item| item.at(span)).collect()),
            Kind::Map(map) => {
                let mut moved = Map::default();
                for entry in map.entries() {
                    moved.insert(entry.key.clone(), span, entry.value.at(span));
                }
                Self::map(span, moved)
            }
            kind => Self::new(span, kind.clone()),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match self.kind {
            Kind::Int(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_seq(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Seq(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Ruby's `to_s` of a scalar: `true`, `1.1`, `8`, null as empty text. `None` for collections.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        Some(match &self.kind {
            Kind::Null => String::new(),
            Kind::Bool(value) => value.to_string(),
            Kind::Int(value) => value.to_string(),
            Kind::Float(value) => ruby_float(*value),
            Kind::Text(text) => text.to_string(),
            Kind::Seq(_) | Kind::Map(_) | Kind::Reference(_) => return None,
        })
    }

    /// The value as JSON; a `!reference` that was kept shows as its list.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => match i64::try_from(*value) {
                Ok(value) => Value::from(value),
                Err(_) => Value::from(value.to_string()),
            },
            Kind::Float(value) => {
                serde_json::Number::from_f64(*value).map_or(Value::Null, Value::Number)
            }
            Kind::Text(text) => Value::from(&**text),
            Kind::Seq(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(map) => map
                .entries()
                .iter()
                .map(|entry| (entry.key.text.to_string(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Kind::Reference(inner) => inner.to_json(),
        }
    }

    /// Text for messages: Ruby's `inspect` of small values.
    pub(crate) fn inspect(&self) -> String {
        match &self.kind {
            Kind::Null => "nil".to_owned(),
            Kind::Seq(items) => format!(
                "[{}]",
                items
                    .iter()
                    .map(Self::inspect)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Kind::Text(text) => format!("{:?}", &**text),
            Kind::Reference(inner) => inner.inspect(),
            _ => match self.scalar_text() {
                Some(text) => text,
                None => serde_json::to_string(self).unwrap_or_default(),
            },
        }
    }
}
