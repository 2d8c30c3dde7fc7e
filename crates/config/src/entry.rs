//! A `[[runners]]` table in the making: filled from flags, completed from a template, written in
//! upstream's order (`runner-config.md` 14.5 and 17.1).

use std::collections::BTreeMap;

use toml_edit::{Array, InlineTable, Item, TableLike, Value};

use crate::duration::GoDuration;
use crate::error::{ConfigError, Source};
use crate::keys::{self, Key, Kind, Saved};
use crate::setting;

/// The runner to be appended.
#[derive(Debug, Clone, Default)]
pub struct RunnerEntry {
    fields: Fields,
}

type Fields = BTreeMap<&'static str, Field>;

#[derive(Clone)]
enum Field {
    Value(Value),
    Table(Fields),
    Tables(Vec<Fields>),
}

impl std::fmt::Debug for Field {
    /// Names only: values may be tokens and passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("…"),
            Self::Table(fields) => fields.fmt(f),
            Self::Tables(list) => list.fmt(f),
        }
    }
}

/// A flag's text that does not fit its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ValueError {
    text: String,
    expected: &'static str,
}

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It must say how one runner looks.
    #[error(
        "configuration template {file} contains {found} [[runners]] sections, expected exactly one"
    )]
    Runners {
        /// The file.
        file: String,
        /// How many there are.
        found: usize,
    },
}

impl RunnerEntry {
    /// An entry without any key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key from the text or texts of a flag (`runner-cli.md` 1.3).
    pub fn set_from_flag(
        &mut self,
        path: &[&'static str],
        kind: Kind,
        texts: &[String],
    ) -> Result<(), ValueError> {
        let last = texts.last().map(String::as_str).unwrap_or_default();
        let field = match kind {
            Kind::Tables(keys) => Field::Tables(json_tables(keys, last)?),
            kind => Field::Value(value_from_flag(kind, texts, last)?),
        };
        self.put(path, field);
        Ok(())
    }

    /// Sets a text.
    pub fn set_text(&mut self, path: &[&'static str], text: &str) {
        self.put(path, Field::Value(text.into()));
    }

    /// Sets a number.
    pub fn set_number(&mut self, path: &[&'static str], number: i64) {
        self.put(path, Field::Value(number.into()));
    }

    /// Sets a list of texts.
    pub fn set_texts(&mut self, path: &[&'static str], texts: &[String]) {
        self.put(path, Field::Value(Value::Array(texts.iter().collect())));
    }

    /// Sets a time, whole seconds, UTC.
    pub fn set_time(&mut self, path: &[&'static str], time: Option<jiff::Timestamp>) {
        self.put(path, Field::Value(time_value(time)));
    }

    /// A text, absent where it is empty or no text.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        match self.find(path)? {
            Field::Value(value) => value.as_str().filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, path: &[&str]) -> Option<i64> {
        match self.find(path)? {
            Field::Value(value) => value.as_integer(),
            _ => None,
        }
    }

    /// Whether a boolean is there and true.
    pub fn is_true(&self, path: &[&str]) -> bool {
        matches!(self.find(path), Some(Field::Value(value)) if value.as_bool() == Some(true))
    }

    /// A list of texts, empty where there is none.
    pub fn texts(&self, path: &[&str]) -> Vec<String> {
        match self.find(path) {
            Some(Field::Value(value)) => value
                .as_array()
                .map(|array| {
                    array
                        .iter()
                        .filter_map(|entry| entry.as_str().map(ToOwned::to_owned))
                        .collect()
                })
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Takes over what the template says and this entry does not (`runner-config.md` 17.1).
    pub fn merge_template(&mut self, text: &str, file: &str) -> Result<(), TemplateError> {
        let source = Source { file, text };
        let (section, _) = setting::read(&source)?;
        let found = section.tables("runners").len();
        let document =
            toml_edit::Document::parse(text).map_err(|error| source.syntax_error(&error))?;
        let runner = document
            .as_table()
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("runners"))
            .and_then(|(_, item)| only_table(item));
        let (1, Some(runner)) = (found, runner) else {
            return Err(TemplateError::Runners {
                file: file.to_owned(),
                found,
            });
        };
        let mut template = fields_of(runner, keys::RUNNER);
        template.remove("token");
        template.remove("name");
        complete(&mut self.fields, template);
        Ok(())
    }

    /// Leaves the sections of other executors out and adds those that always stand there.
    pub fn settle_for_executor(&mut self) {
        const SECTIONS: [&str; 7] = [
            "ssh",
            "docker",
            "parallels",
            "virtualbox",
            "machine",
            "kubernetes",
            "custom",
        ];
        let executor = self.text(&["executor"]).unwrap_or_default().to_owned();
        let wanted: &[&str] = match executor.as_str() {
            "docker" | "docker-windows" | "docker-autoscaler" => &["docker"],
            "docker+machine" => &["docker", "machine"],
            "ssh" => &["ssh"],
            "parallels" => &["ssh", "parallels"],
            "virtualbox" => &["ssh", "virtualbox"],
            "kubernetes" => &["kubernetes"],
            "custom" => &["custom"],
            _ => &[],
        };
        self.fields.remove("referees");
        for section in SECTIONS {
            if wanted.contains(&section) {
                self.touch(&[section]);
            } else {
                self.fields.remove(section);
            }
        }
        for adapter in ["s3", "gcs", "azure"] {
            self.touch(&["cache", adapter]);
        }
        if executor == "kubernetes" {
            for context in CONTAINER_CONTEXTS {
                self.touch(&["kubernetes", context, "capabilities"]);
            }
            for context in CONTAINER_CONTEXTS.iter().chain(&["pod_security_context"]) {
                self.touch(&["kubernetes", context, "seccomp_profile"]);
                self.touch(&["kubernetes", context, "app_armor_profile"]);
            }
            self.touch(&["kubernetes", "volumes"]);
            self.touch(&["kubernetes", "dns_config"]);
        }
    }

    /// The table, laid out as upstream does.
    pub(crate) fn to_table(&self) -> toml_edit::Table {
        table(&self.fields, keys::RUNNER, 1)
    }

    fn put(&mut self, path: &[&'static str], field: Field) {
        if let Some((name, above)) = path.split_last()
            && let Some(fields) = self.touch(above)
        {
            fields.insert(name, field);
        }
    }

    /// Makes the table at `path` exist; `None` where something else stands there.
    fn touch(&mut self, path: &[&'static str]) -> Option<&mut Fields> {
        let mut fields = &mut self.fields;
        for name in path {
            fields = match fields
                .entry(name)
                .or_insert_with(|| Field::Table(Fields::new()))
            {
                Field::Table(below) => below,
                _ => return None,
            };
        }
        Some(fields)
    }

    fn find(&self, path: &[&str]) -> Option<&Field> {
        let (name, above) = path.split_last()?;
        let mut fields = &self.fields;
        for part in above {
            fields = match fields.get(*part)? {
                Field::Table(below) => below,
                _ => return None,
            };
        }
        fields.get(*name)
    }
}

const CONTAINER_CONTEXTS: [&str; 4] = [
    "init_permissions_container_security_context",
    "build_container_security_context",
    "helper_container_security_context",
    "service_container_security_context",
];

pub(crate) fn time_value(time: Option<jiff::Timestamp>) -> Value {
    let text = time.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| {
            jiff::Timestamp::from_second(time.as_second())
                .unwrap_or(time)
                .to_string()
        },
    );
    text.parse::<toml_edit::Datetime>()
        .map_or_else(|_| Value::from(text), Value::from)
}

fn only_table(item: &Item) -> Option<&dyn TableLike> {
    if let Some(tables) = item.as_array_of_tables() {
        return tables.get(0).map(|table| table as &dyn TableLike);
    }
    item.as_array()?
        .get(0)?
        .as_inline_table()
        .map(|table| table as &dyn TableLike)
}

/// Known keys of a checked table under their canonical names.
fn fields_of(table: &dyn TableLike, keys: &'static [Key]) -> Fields {
    let mut fields = Fields::new();
    for (name, item) in table.iter() {
        let Some(key) = keys::find(keys, name) else {
            continue;
        };
        if key.name != name && table.contains_key(key.name) {
            continue;
        }
        let field = match (key.kind, item) {
            (Kind::Table(below), item) => item
                .as_table_like()
                .map(|table| Field::Table(fields_of(table, below))),
            (Kind::Tables(below), Item::ArrayOfTables(tables)) => Some(Field::Tables(
                tables.iter().map(|table| fields_of(table, below)).collect(),
            )),
            (Kind::Tables(below), item) => item.as_array().map(|array| {
                Field::Tables(
                    array
                        .iter()
                        .filter_map(|value| value.as_inline_table())
                        .map(|table| fields_of(table, below))
                        .collect(),
                )
            }),
            (_, item) => item
                .clone()
                .into_value()
                .ok()
                .map(|value| Field::Value(undecorated(value))),
        };
        if let Some(field) = field {
            fields.insert(key.name, field);
        }
    }
    fields
}

fn undecorated(mut value: Value) -> Value {
    if let Value::Array(array) = &mut value {
        array.fmt();
        array.set_trailing("");
        array.set_trailing_comma(false);
    }
    value.decorated(" ", "")
}

/// Fills what is empty; maps of values merge key by key, lists are taken whole.
fn complete(fields: &mut Fields, template: Fields) {
    for (name, wanted) in template {
        match (fields.get_mut(name), wanted) {
            (Some(Field::Table(own)), Field::Table(wanted)) => complete(own, wanted),
            (
                Some(Field::Value(Value::InlineTable(own))),
                Field::Value(Value::InlineTable(wanted)),
            ) => {
                for (name, value) in wanted {
                    if own.get(&name).is_none_or(is_empty_value) {
                        own.insert(name, value);
                    }
                }
            }
            (Some(own), wanted) if is_empty(own) => *own = wanted,
            (Some(_), _) => {}
            (None, wanted) => {
                fields.insert(name, wanted);
            }
        }
    }
}

fn is_empty(field: &Field) -> bool {
    match field {
        Field::Value(value) => is_empty_value(value),
        Field::Table(fields) => fields.values().all(is_empty),
        Field::Tables(list) => list.is_empty(),
    }
}

fn is_empty_value(value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(text.value().as_str(), "" | "0s"),
        Value::Integer(number) => *number.value() == 0,
        Value::Float(number) => *number.value() == 0.0,
        Value::Boolean(value) => !value.value(),
        Value::Datetime(time) => time.value().date.is_some_and(|date| date.year <= 1),
        Value::Array(array) => array.is_empty(),
        Value::InlineTable(table) => table.is_empty(),
    }
}

/// Lays a table out: plain keys first, then tables, both in the order of the keys; two blanks a level.
fn table(fields: &Fields, keys: &'static [Key], level: usize) -> toml_edit::Table {
    let mut table = toml_edit::Table::new();
    let indent = "  ".repeat(level);
    for key in keys {
        let value = match (fields.get(key.name), key.saved) {
            (Some(Field::Value(value)), saved)
                if saved != Saved::IfNotEmpty || !is_empty_value(value) =>
            {
                value.clone()
            }
            (None | Some(Field::Value(_)), Saved::Always) => match zero(key.kind) {
                Some(value) => value,
                None => continue,
            },
            _ => continue,
        };
        if matches!(
            key.kind,
            Kind::TextMap | Kind::BoolMap | Kind::IntMap | Kind::TextsMap | Kind::Free
        ) {
            continue;
        }
        table.insert(key.name, Item::Value(value));
        if let Some(mut name) = table.key_mut(key.name) {
            name.leaf_decor_mut().set_prefix(indent.clone());
        }
    }
    for key in keys {
        match fields.get(key.name) {
            Some(Field::Table(below)) => {
                if let Kind::Table(keys) = key.kind {
                    let mut inner = self::table(below, keys, level + 1);
                    inner.decor_mut().set_prefix(indent.clone());
                    table.insert(key.name, Item::Table(inner));
                }
            }
            Some(Field::Tables(list)) if !list.is_empty() => {
                if let Kind::Tables(keys) = key.kind {
                    let mut tables = toml_edit::ArrayOfTables::new();
                    for fields in list {
                        let mut inner = self::table(fields, keys, level + 1);
                        inner.decor_mut().set_prefix(format!("\n{indent}"));
                        tables.push(inner);
                    }
                    table.insert(key.name, Item::ArrayOfTables(tables));
                }
            }
            Some(Field::Value(Value::InlineTable(map))) if !map.is_empty() => {
                let mut inner = toml_edit::Table::new();
                let mut names: Vec<_> = map.iter().collect();
                names.sort_by_key(|(name, _)| *name);
                for (name, value) in names {
                    inner.insert(name, Item::Value(value.clone().decorated(" ", "")));
                    if let Some(mut name) = inner.key_mut(name) {
                        name.leaf_decor_mut().set_prefix(format!("{indent}  "));
                        name.leaf_decor_mut().set_suffix(" ");
                    }
                }
                inner.decor_mut().set_prefix(indent.clone());
                table.insert(key.name, Item::Table(inner));
            }
            _ => {}
        }
    }
    table
}

/// What upstream writes for a key that is always written.
fn zero(kind: Kind) -> Option<Value> {
    match kind {
        Kind::Text | Kind::OptionalText => Some("".into()),
        Kind::Int | Kind::OptionalInt => Some(0.into()),
        Kind::Float => Some(0.0.into()),
        Kind::Bool | Kind::OptionalBool => Some(false.into()),
        Kind::Duration | Kind::OptionalDuration => Some("0s".into()),
        Kind::Time => Some(time_value(None)),
        _ => None,
    }
}

fn value_from_flag(kind: Kind, texts: &[String], last: &str) -> Result<Value, ValueError> {
    let wrong = |expected| ValueError {
        text: last.to_owned(),
        expected,
    };
    let split = |text: &String| {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(match kind {
        Kind::Text | Kind::OptionalText => last.into(),
        Kind::Int | Kind::OptionalInt => {
            last.parse::<i64>().map_err(|_| wrong("an integer"))?.into()
        }
        Kind::Float => last.parse::<f64>().map_err(|_| wrong("a number"))?.into(),
        Kind::Bool | Kind::OptionalBool => {
            go_bool(last).ok_or_else(|| wrong("true or false"))?.into()
        }
        Kind::Duration | Kind::OptionalDuration => GoDuration::parse(last)
            .map_err(|_| wrong("a duration such as 1h30m"))?
            .to_string()
            .into(),
        Kind::Time => return Err(wrong("settable by a flag")),
        Kind::Texts => Value::Array(texts.iter().collect()),
        // Unlike other lists: commas separate, a later use replaces.
        Kind::TextOrTexts => {
            let list: Array = last
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .collect();
            Value::Array(list)
        }
        Kind::Ints => {
            let list: Result<Array, _> = texts.iter().map(|text| text.parse::<i64>()).collect();
            Value::Array(list.map_err(|_| wrong("an integer"))?)
        }
        Kind::Floats => {
            let list: Result<Array, _> = texts.iter().map(|text| text.parse::<f64>()).collect();
            Value::Array(list.map_err(|_| wrong("a number"))?)
        }
        Kind::TextMap => {
            let map: InlineTable = texts.iter().map(split).collect();
            Value::InlineTable(map)
        }
        Kind::TextsMap => {
            let map: InlineTable = texts
                .iter()
                .map(split)
                .map(|(name, value)| (name, Array::from_iter([value])))
                .collect();
            Value::InlineTable(map)
        }
        Kind::BoolMap => {
            let mut map = InlineTable::new();
            for (name, value) in texts.iter().map(split) {
                let value = go_bool(&value).ok_or_else(|| wrong("of the form NAME:true"))?;
                map.insert(name, value.into());
            }
            Value::InlineTable(map)
        }
        Kind::IntMap => {
            let mut map = InlineTable::new();
            for (name, value) in texts.iter().map(split) {
                let value: i64 = value
                    .parse()
                    .map_err(|_| wrong("of the form TEXT:NUMBER"))?;
                map.insert(name, value.into());
            }
            Value::InlineTable(map)
        }
        Kind::Free | Kind::Table(_) | Kind::Tables(_) => {
            return Err(wrong("settable by a flag"));
        }
    })
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `--kubernetes-host_aliases`: a JSON array of objects with texts and lists of texts.
fn json_tables(keys: &'static [Key], text: &str) -> Result<Vec<Fields>, ValueError> {
    let wrong = || ValueError {
        text: text.to_owned(),
        expected: "a JSON array of objects with known keys",
    };
    let list: Vec<BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(text).map_err(|_| wrong())?;
    list.into_iter()
        .map(|object| {
            object
                .into_iter()
                .map(|(name, value)| {
                    let key = keys::find(keys, &name).ok_or_else(wrong)?;
                    let value = match (key.kind, value) {
                        (Kind::Text, serde_json::Value::String(text)) => Value::from(text),
                        (Kind::Texts, serde_json::Value::Array(entries)) => {
                            let texts: Option<Array> =
                                entries.iter().map(|entry| entry.as_str()).collect();
                            Value::Array(texts.ok_or_else(wrong)?)
                        }
                        _ => return Err(wrong()),
                    };
                    Ok((key.name, Field::Value(value)))
                })
                .collect()
        })
        .collect()
}
