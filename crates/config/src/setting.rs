//! From TOML to typed settings: every value checked against the table of keys, each with its place.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use toml_edit::{Item, Key as TomlKey, TableLike, Value};

use crate::duration::GoDuration;
use crate::error::{ConfigError, Source};
use crate::keys::{self, Key, Kind};

/// A value of a known key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Duration(GoDuration),
    /// `None` is the year 1, upstream's zero time.
    Time(Option<Timestamp>),
    Texts(Vec<String>),
    Numbers(usize),
    TextMap(BTreeMap<String, String>),
    TextsMap(BTreeMap<String, Vec<String>>),
    BoolMap(BTreeMap<String, bool>),
    /// A table whose entries only have to be of the right type so far.
    Entries(usize),
    Table(Section),
    Tables(Vec<Section>),
}

impl Setting {
    /// Zero, false, or without content: as good as absent.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Int(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Bool(value) => !value,
            Self::Duration(duration) => duration.nanoseconds() == 0,
            Self::Time(time) => time.is_none(),
            Self::Texts(list) => list.is_empty(),
            Self::Numbers(count) | Self::Entries(count) => *count == 0,
            Self::TextMap(map) => map.is_empty(),
            Self::TextsMap(map) => map.is_empty(),
            Self::BoolMap(map) => map.is_empty(),
            Self::Table(section) => section.is_empty(),
            Self::Tables(sections) => sections.is_empty(),
        }
    }
}

/// A setting and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub(crate) span: Range<usize>,
    pub(crate) setting: Setting,
}

/// The known keys of one table, by upstream's name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Section {
    pub(crate) span: Range<usize>,
    pub(crate) settings: BTreeMap<&'static str, Placed>,
}

impl Section {
    fn is_empty(&self) -> bool {
        self.settings
            .values()
            .all(|placed| placed.setting.is_empty())
    }

    /// The value of a key, where it is there.
    pub(crate) fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name).map(|placed| &placed.setting)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.setting(name) {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.setting(name) {
            Some(Setting::Int(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        match self.setting(name) {
            Some(Setting::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Option<GoDuration> {
        match self.setting(name) {
            Some(Setting::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    pub(crate) fn time(&self, name: &str) -> Option<Timestamp> {
        match self.setting(name) {
            Some(Setting::Time(time)) => *time,
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> &[String] {
        match self.setting(name) {
            Some(Setting::Texts(list)) => list,
            _ => &[],
        }
    }

    pub(crate) fn text_map(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        match self.setting(name) {
            Some(Setting::TextMap(map)) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn bool_map(&self, name: &str) -> Option<&BTreeMap<String, bool>> {
        match self.setting(name) {
            Some(Setting::BoolMap(map)) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Self> {
        match self.setting(name) {
            Some(Setting::Table(section)) => Some(section),
            _ => None,
        }
    }

    pub(crate) fn tables(&self, name: &str) -> &[Self] {
        match self.setting(name) {
            Some(Setting::Tables(sections)) => sections,
            _ => &[],
        }
    }

    /// Place of a key, or of the table that lacks it.
    pub(crate) fn place(&self, name: &str) -> Range<usize> {
        self.settings
            .get(name)
            .map_or_else(|| self.span.clone(), |placed| placed.span.clone())
    }
}

/// Something to tell about a key that does not stop the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) span: Range<usize>,
    /// Dotted key as it is written.
    pub(crate) path: String,
    pub(crate) kind: RemarkKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemarkKind {
    Unknown,
    /// Found without regard to case; upstream's name.
    OtherCase(&'static str),
}

/// Reads the whole document.
pub(crate) fn read(source: &Source<'_>) -> Result<(Section, Vec<Remark>), ConfigError> {
    let document =
        toml_edit::Document::parse(source.text).map_err(|error| source.syntax_error(&error))?;
    let mut reader = Reader {
        source,
        remarks: Vec::new(),
    };
    let section = reader.section(document.as_table(), 0..0, keys::FILE, "")?;
    Ok((section, reader.remarks))
}

struct Reader<'a> {
    source: &'a Source<'a>,
    remarks: Vec<Remark>,
}

impl Reader<'_> {
    fn section(
        &mut self,
        table: &dyn TableLike,
        span: Range<usize>,
        keys: &'static [Key],
        path: &str,
    ) -> Result<Section, ConfigError> {
        let mut section = Section {
            span,
            settings: BTreeMap::new(),
        };
        for (name, item) in table.iter() {
            let span = table
                .key(name)
                .and_then(TomlKey::span)
                .or_else(|| item.span())
                .unwrap_or_else(|| section.span.clone());
            let written = joined(path, name);
            let Some(key) = keys::find(keys, name) else {
                self.remarks.push(Remark {
                    span,
                    path: written,
                    kind: RemarkKind::Unknown,
                });
                continue;
            };
            if key.name != name {
                if table.contains_key(key.name) {
                    // The exact name is there too; upstream reads that one.
                    self.remarks.push(Remark {
                        span,
                        path: written,
                        kind: RemarkKind::Unknown,
                    });
                    continue;
                }
                self.remarks.push(Remark {
                    span: span.clone(),
                    path: written.clone(),
                    kind: RemarkKind::OtherCase(key.name),
                });
            }
            let setting = self.setting(item, &span, key.kind, &written)?;
            section.settings.insert(key.name, Placed { span, setting });
        }
        Ok(section)
    }

    fn setting(
        &mut self,
        item: &Item,
        key_span: &Range<usize>,
        kind: Kind,
        path: &str,
    ) -> Result<Setting, ConfigError> {
        let span = item.span().unwrap_or_else(|| key_span.clone());
        match kind {
            Kind::Table(keys) => {
                let table = item
                    .as_table_like()
                    .ok_or_else(|| self.mismatch(item, &span, path, "a table"))?;
                Ok(Setting::Table(self.section(
                    table,
                    key_span.clone(),
                    keys,
                    path,
                )?))
            }
            Kind::Tables(keys) => self.tables(item, &span, keys, path),
            Kind::Free => {
                let table = item
                    .as_table_like()
                    .ok_or_else(|| self.mismatch(item, &span, path, "a table"))?;
                Ok(Setting::Entries(table.len()))
            }
            Kind::TextMap => self
                .map(item, &span, path, "a table of strings", |value| {
                    value.as_str().map(ToOwned::to_owned)
                })
                .map(Setting::TextMap),
            Kind::BoolMap => self
                .map(item, &span, path, "a table of booleans", Value::as_bool)
                .map(Setting::BoolMap),
            Kind::IntMap => self
                .map(item, &span, path, "a table of integers", Value::as_integer)
                .map(|map| Setting::Entries(map.len())),
            Kind::TextsMap => self
                .map(item, &span, path, "a table of arrays of strings", |value| {
                    texts(value)
                })
                .map(Setting::TextsMap),
            scalar => {
                let value = item
                    .as_value()
                    .ok_or_else(|| self.mismatch(item, &span, path, expectation(scalar)))?;
                self.scalar(value, &span, scalar, path)
            }
        }
    }

    fn tables(
        &mut self,
        item: &Item,
        span: &Range<usize>,
        keys: &'static [Key],
        path: &str,
    ) -> Result<Setting, ConfigError> {
        let mut sections = Vec::new();
        if let Some(tables) = item.as_array_of_tables() {
            for table in tables {
                let span = table.span().unwrap_or_else(|| span.clone());
                sections.push(self.section(table, span, keys, path)?);
            }
        } else if let Some(array) = item.as_array() {
            for value in array {
                let span = value.span().unwrap_or_else(|| span.clone());
                let table = value.as_inline_table().ok_or_else(|| {
                    self.source.error(
                        span.clone(),
                        format!("{path}: expected a table, found {}", type_name(value)),
                    )
                })?;
                sections.push(self.section(table, span, keys, path)?);
            }
        } else {
            return Err(self
                .mismatch(item, span, path, "an array of tables")
                .hint(format!("write [[{path}]] instead of [{path}]")));
        }
        Ok(Setting::Tables(sections))
    }

    fn map<T>(
        &self,
        item: &Item,
        span: &Range<usize>,
        path: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<BTreeMap<String, T>, ConfigError> {
        let table = item
            .as_table_like()
            .ok_or_else(|| self.mismatch(item, span, path, expected))?;
        table
            .iter()
            .map(|(name, item)| {
                let value = item.as_value().and_then(&read).ok_or_else(|| {
                    let span = item.span().unwrap_or_else(|| span.clone());
                    self.mismatch(item, &span, &joined(path, name), expected)
                })?;
                Ok((name.to_owned(), value))
            })
            .collect()
    }

    fn scalar(
        &self,
        value: &Value,
        span: &Range<usize>,
        kind: Kind,
        path: &str,
    ) -> Result<Setting, ConfigError> {
        let setting = match kind {
            Kind::Text | Kind::OptionalText => {
                value.as_str().map(|text| Setting::Text(text.to_owned()))
            }
            Kind::Int | Kind::OptionalInt => value.as_integer().map(Setting::Int),
            Kind::Float => number(value).map(Setting::Float),
            Kind::Bool | Kind::OptionalBool => value.as_bool().map(Setting::Bool),
            Kind::Texts => texts(value).map(Setting::Texts),
            Kind::TextOrTexts => match value.as_str() {
                Some(text) => Some(Setting::Texts(vec![text.to_owned()])),
                None => texts(value).map(Setting::Texts),
            },
            Kind::Ints => all(value, Value::as_integer).map(|list| Setting::Numbers(list.len())),
            Kind::Floats => all(value, number).map(|list| Setting::Numbers(list.len())),
            Kind::Duration | Kind::OptionalDuration => match (value.as_str(), value.as_integer()) {
                (Some(text), _) => Some(Setting::Duration(GoDuration::parse(text).map_err(
                    |error| self.source.error(span.clone(), format!("{path}: {error}")),
                )?)),
                (None, Some(nanoseconds)) => {
                    Some(Setting::Duration(GoDuration::from_nanoseconds(nanoseconds)))
                }
                (None, None) => None,
            },
            Kind::Time => {
                let text = match value {
                    Value::Datetime(time) => time.value().to_string(),
                    Value::String(text) => text.value().clone(),
                    _ => return Err(self.wrong(value, span, path, kind)),
                };
                Some(Setting::Time(go_time(&text).ok_or_else(|| {
                    self.source.error(
                        span.clone(),
                        format!("{path}: {text:?} is no date and time with an offset"),
                    )
                })?))
            }
            Kind::TextMap
            | Kind::BoolMap
            | Kind::IntMap
            | Kind::TextsMap
            | Kind::Free
            | Kind::Table(_)
            | Kind::Tables(_) => None,
        };
        setting.ok_or_else(|| self.wrong(value, span, path, kind))
    }

    fn wrong(&self, value: &Value, span: &Range<usize>, path: &str, kind: Kind) -> ConfigError {
        self.source.error(
            span.clone(),
            format!(
                "{path}: expected {}, found {}",
                expectation(kind),
                type_name(value)
            ),
        )
    }

    fn mismatch(
        &self,
        item: &Item,
        span: &Range<usize>,
        path: &str,
        expected: &str,
    ) -> ConfigError {
        let found = match item {
            Item::Value(value) => type_name(value),
            Item::Table(_) => "a table",
            Item::ArrayOfTables(_) => "an array of tables",
            Item::None => "nothing",
        };
        self.source.error(
            span.clone(),
            format!("{path}: expected {expected}, found {found}"),
        )
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn number(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or_else(|| value.as_integer().map(|number| number as f64))
}

fn all<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    all(value, |entry| entry.as_str().map(ToOwned::to_owned))
}

/// A time; `Some(None)` for upstream's zero time, the year 1.
fn go_time(text: &str) -> Option<Option<Timestamp>> {
    let time: Timestamp = text.parse().ok()?;
    let zero: Timestamp = "0001-01-01T00:00:00Z".parse().ok()?;
    Some((time != zero).then_some(time))
}

fn expectation(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::OptionalText => "a string",
        Kind::Int | Kind::OptionalInt => "an integer",
        Kind::Float => "a number",
        Kind::Bool | Kind::OptionalBool => "true or false",
        Kind::Duration | Kind::OptionalDuration => "a duration such as \"1h30m\"",
        Kind::Time => "a date and time",
        Kind::Texts => "an array of strings",
        Kind::TextOrTexts => "a string or an array of strings",
        Kind::Ints => "an array of integers",
        Kind::Floats => "an array of numbers",
        Kind::Tables(_) => "an array of tables",
        Kind::TextMap
        | Kind::BoolMap
        | Kind::IntMap
        | Kind::TextsMap
        | Kind::Free
        | Kind::Table(_) => "a table",
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date and time",
        Value::Array(_) => "an array",
        Value::InlineTable(_) => "a table",
    }
}
