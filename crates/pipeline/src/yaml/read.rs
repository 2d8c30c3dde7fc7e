//! Events to tree: documents, anchors and aliases within a budget, merge keys, duplicate keys, tags.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::node::{Key, Kind, Map, Node};
use super::{MAXIMUM_BYTES, MAXIMUM_DEPTH, MAXIMUM_EXPANDED_BYTES, MAXIMUM_NODES, scalar};
use crate::source::{Fault, Findings, Span};

/// The content of one file.
#[derive(Debug)]
pub(crate) struct Document {
    /// The document with `spec`, when the file has one.
    pub(crate) header: Option<Node>,
    /// The configuration; null when the file is empty.
    pub(crate) content: Node,
}

/// Reads a file; `file` is its number in [`crate::source::Sources`].
pub(crate) fn read(text: &str, file: u32, findings: &mut Findings) -> Result<Document, Fault> {
    let mut documents = Vec::new();
    for (part, first_line) in split_documents(text) {
        let span = Span {
            file,
            line: first_line + 1,
            column: 1,
        };
        if part.len() > MAXIMUM_BYTES {
            return Err(Fault::new(span, "The provided YAML is too big"));
        }
        let node = Reader::new(part, file, first_line, findings).read()?;
        if documents.is_empty() && node.is_null() {
            continue;
        }
        if documents.len() == 2 {
            return Err(Fault::new(span, "too many documents (maximum is 2)"));
        }
        documents.push(node);
    }
    let mut documents = documents.into_iter();
    let empty = || {
        let span = Span {
            file,
            line: 1,
            column: 1,
        };
        Node::new(span, Kind::Null)
    };
    let first = documents.next().unwrap_or_else(empty);
    let is_header = first.as_map().is_some_and(|map| map.has("spec"));
    match documents.next() {
        Some(second) if is_header => Ok(Document {
            header: Some(first),
            content: second,
        }),
        Some(second) => {
            findings.warn(
                second.span,
                "the second document is ignored, because the first has no `spec`",
            );
            Ok(Document {
                header: None,
                content: first,
            })
        }
        None => Ok(Document {
            header: None,
            content: first,
        }),
    }
}

/// The parts between lines that begin with `---`, each with the number of lines before it.
fn split_documents(text: &str) -> Vec<(&str, u32)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let mut offset = 0;
    for (number, line) in (0u32..).zip(text.split_inclusive('\n')) {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            parts.push((&text[start..offset], start_line));
            // What follows on the divider's own line belongs to the new document; granit reads the
            // divider itself as a document start.
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    parts.push((&text[start..], start_line));
    parts
}

/// Size of a subtree, for the budget.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

enum Building {
    Seq(Vec<Node>),
    Map {
        map: Map,
        key: Option<Node>,
        merges: bool,
        /// The keys that were written here, once others were merged in.
        written: Option<HashSet<Key>>,
    },
}

struct Frame {
    span: Span,
    anchor: usize,
    reference: bool,
    building: Building,
    weight: Weight,
}

struct Reader<'a> {
    text: &'a str,
    file: u32,
    lines_before: u32,
    findings: &'a mut Findings,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, Weight)>,
    total: Weight,
    root: Option<Node>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: u32, lines_before: u32, findings: &'a mut Findings) -> Self {
        Self {
            text,
            file,
            lines_before,
            findings,
            frames: Vec::new(),
            anchors: HashMap::new(),
            total: Weight::default(),
            root: None,
        }
    }

    fn at(&self, line: usize, column: usize) -> Span {
        let line = u32::try_from(line.max(1)).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            line: line.saturating_add(self.lines_before),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn read(mut self) -> Result<Node, Fault> {
        let options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
        };
        for next in Parser::new_from_str_with_options(self.text, options) {
            let (event, range) = next.map_err(|error| {
                let marker = error.marker();
                Fault::new(
                    self.at(marker.line(), marker.col()),
                    format!("invalid YAML: {}", error.info()),
                )
            })?;
            let start = range.tag_start().unwrap_or(range.start);
            let span = self.at(start.line(), start.col());
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let (node, weight) = self.scalar(&text, style, tag.as_deref(), span)?;
                    self.anchor(anchor, &node, weight);
                    self.put(node, weight, style == ScalarStyle::Plain)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.open(span, anchor, tag.as_deref(), Building::Seq(Vec::new()))?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    let building = Building::Map {
                        map: Map::default(),
                        key: None,
                        merges: false,
                        written: None,
                    };
                    self.open(span, anchor, tag.as_deref(), building)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(id) => {
                    let Some((target, weight)) = self.anchors.get(&id).cloned() else {
                        let name = range.slice(self.text).unwrap_or_default();
                        return Err(unknown_alias(span, name.trim_start_matches('*')));
                    };
                    self.put(target, weight, false)?;
                }
                Event::UnresolvedAlias(name) => return Err(unknown_alias(span, &name)),
                _ => {}
            }
        }
        let start = self.at(1, 0);
        Ok(self.root.unwrap_or_else(|| Node::new(start, Kind::Null)))
    }

    fn open(
        &mut self,
        span: Span,
        anchor: usize,
        tag: Option<&Tag>,
        building: Building,
    ) -> Result<(), Fault> {
        if self.frames.len() >= MAXIMUM_DEPTH {
            return Err(too_big(span));
        }
        let reference = self.is_reference(tag, span);
        self.frames.push(Frame {
            span,
            anchor,
            reference,
            building,
            weight: Weight {
                nodes: 1,
                bytes: 0,
                depth: 1,
            },
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let mut node = match frame.building {
            Building::Seq(items) => Node::seq(frame.span, items),
            Building::Map { map, .. } => Node::map(frame.span, map),
        };
        if frame.reference {
            node = Node::new(frame.span, Kind::Reference(node.into()));
        }
        self.anchor(frame.anchor, &node, frame.weight);
        self.put(node, frame.weight, false)
    }

    fn anchor(&mut self, id: usize, node: &Node, weight: Weight) {
        if id != 0 {
            self.anchors.insert(id, (node.clone(), weight));
        }
    }

    /// Hands a finished node to the collection around it.
    fn put(&mut self, node: Node, weight: Weight, plain: bool) -> Result<(), Fault> {
        let span = node.span;
        self.total.nodes = self.total.nodes.saturating_add(weight.nodes);
        self.total.bytes = self.total.bytes.saturating_add(weight.bytes);
        if self.total.nodes > MAXIMUM_NODES
            || self.total.bytes > MAXIMUM_EXPANDED_BYTES
            || self.frames.len() + weight.depth > MAXIMUM_DEPTH
        {
            return Err(too_big(span));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.weight.nodes = frame.weight.nodes.saturating_add(weight.nodes);
        frame.weight.bytes = frame.weight.bytes.saturating_add(weight.bytes);
        frame.weight.depth = frame.weight.depth.max(weight.depth + 1);
        match &mut frame.building {
            Building::Seq(items) => items.push(node),
            Building::Map {
                map,
                key,
                merges,
                written,
            } => {
                let Some(key_node) = key.take() else {
                    *merges = plain && node.as_text() == Some("<<");
                    *key = Some(node);
                    return Ok(());
                };
                if *merges {
                    written.get_or_insert_with(|| {
                        let entries = map.entries().iter();
                        entries.map(|entry| entry.key.clone()).collect()
                    });
                    if merge(map, &node) {
                        return Ok(());
                    }
                }
                let key = Key {
                    is_text: matches!(key_node.kind, Kind::Text(_)),
                    text: key_node
                        .scalar_text()
                        .unwrap_or_else(|| key_node.inspect())
                        .into(),
                };
                let repeated = match written {
                    Some(written) => !written.insert(key.clone()),
                    None => map.find(&key).is_some(),
                };
                if repeated {
                    self.findings.warn(
                        key_node.span,
                        format!("duplicate key `{key}`, the last one is used"),
                    );
                }
                map.insert(key, key_node.span, node);
            }
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(Node, Weight), Fault> {
        let plain = style == ScalarStyle::Plain;
        let core = tag.and_then(Tag::core_suffix);
        let reference = core.is_none() && self.is_reference(tag, span);
        // granit gives an empty plain value as `~`; a tilde that was written means the same.
        let kind = match (tag, core) {
            (None, _) if plain => scalar::resolve(text).map_err(|scalar::Refused(class)| {
                Fault::new(span, format!("Tried to load unspecified class: {class}"))
            })?,
            (Some(_), Some("int" | "float" | "bool" | "null")) => {
                scalar::resolve(text).map_err(|scalar::Refused(class)| {
                    Fault::new(span, format!("Tried to load unspecified class: {class}"))
                })?
            }
            (Some(_), _) if plain && text == "~" => Kind::Text("".into()),
            _ => Kind::Text(text.into()),
        };
        let weight = Weight {
            nodes: 1,
            bytes: text.len(),
            depth: 0,
        };
        let node = Node::new(span, kind);
        Ok(if reference {
            (Node::new(span, Kind::Reference(node.into())), weight)
        } else {
            (node, weight)
        })
    }

    fn is_reference(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let written = tag.original();
        if written == "!reference" {
            return true;
        }
        if !tag.is_yaml_core_schema() && written != "!" {
            self.findings
                .warn(span, format!("unknown tag `{written}` is ignored"));
        }
        false
    }
}

/// `<<`: the merged pairs win over those written before and lose to those written after, as in Psych.
/// False when the value is nothing that can be merged.
fn merge(into: &mut Map, value: &Node) -> bool {
    let mut lay = |source: &Map| {
        for entry in source.entries() {
            into.insert(entry.key.clone(), entry.span, entry.value.clone());
        }
    };
    match &value.kind {
        Kind::Map(source) => lay(source),
        Kind::Seq(sources) if sources.iter().all(|source| source.as_map().is_some()) => {
            // The earlier mapping wins, so it is laid last.
            for source in sources.iter().rev().filter_map(Node::as_map) {
                lay(source);
            }
        }
        _ => return false,
    }
    true
}

fn unknown_alias(span: Span, name: &str) -> Fault {
    Fault::new(span, format!("Unknown alias: {name}"))
}

fn too_big(span: Span) -> Fault {
    Fault::new(span, "The parsed YAML is too big")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Document, Fault> {
        read(text, 0, &mut Findings::default())
    }

    fn check(text: &str, expected: &str) {
        let actual = match parse(text) {
            Ok(document) => serde_json::to_string(&document.content).unwrap(),
            Err(fault) => format!(
                "{}:{} {}",
                fault.span.line, fault.span.column, fault.message
            ),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn collections_anchors_and_merge_keys_read_as_in_psych() {
        for (text, expected) in [
            ("a: {b: [1, 'x', ~]}", r#"{"a":{"b":[1,"x",null]}}"#),
            (
                "x: &x {s: theirs, t: 1}\na: {s: own, <<: *x}",
                r#"{"x":{"s":"theirs","t":1},"a":{"s":"theirs","t":1}}"#,
            ),
            (
                "x: &x {s: theirs}\na: {<<: *x, s: own}",
                r#"{"x":{"s":"theirs"},"a":{"s":"own"}}"#,
            ),
            (
                "x: &x {k: 1}\ny: &y {k: 2, l: 3}\na: {<<: [*x, *y]}",
                r#"{"x":{"k":1},"y":{"k":2,"l":3},"a":{"k":1,"l":3}}"#,
            ),
            ("a: 1\nb: 2\na: 3", r#"{"a":3,"b":2}"#),
            ("on: 1\n12: 2", r#"{"true":1,"12":2}"#),
            ("a: !foo x", r#"{"a":"x"}"#),
            ("a: !!str 12", r#"{"a":"12"}"#),
            ("a: '2024-01-01'", r#"{"a":"2024-01-01"}"#),
            ("a:\n  b: *nope", "2:6 Unknown alias: nope"),
            ("a: &a [*a]", "1:8 Unknown alias: a"),
            (
                "a: 1\nb: 2024-01-01",
                "2:4 Tried to load unspecified class: Date",
            ),
            ("", "null"),
            ("# only a comment\n", "null"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn a_reference_keeps_its_tag() {
        let document = parse("a: !reference [.b, script]").unwrap();
        let value = document.content.as_map().unwrap().get("a").unwrap();
        assert!(matches!(value.kind, Kind::Reference(_)));
    }

    #[test]
    fn a_header_is_taken_only_with_spec() {
        let document = parse("spec: {inputs: {}}\n---\na: 1\n").unwrap();
        assert!(document.header.is_some());
        let value = document.content.as_map().unwrap().entry("a").unwrap();
        assert_eq!((value.span.line, value.span.column), (3, 1));
        check("a: 1\n---\nb: 1\n", r#"{"a":1}"#);
        check("---\na: 1\n", r#"{"a":1}"#);
        check("--- {a: 1}\n", r#"{"a":1}"#);
    }

    #[test]
    fn duplicate_keys_and_unknown_tags_warn_with_their_place() {
        let mut findings = Findings::default();
        read("a: 1\nb: !x 2\na: 3\n", 0, &mut findings).unwrap();
        let seen: Vec<_> = findings
            .warnings
            .iter()
            .map(|fault| (fault.span.line, fault.span.column, fault.message.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (2, 4, "unknown tag `!x` is ignored"),
                (3, 1, "duplicate key `a`, the last one is used"),
            ]
        );
    }

    #[test]
    fn a_billion_laughs_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            let aliases = vec![format!("*a{below}"); 10].join(", ");
            writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        let fault = parse(&text).unwrap_err();
        assert_eq!(fault.message, "The parsed YAML is too big");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("a: {}{}", "[".repeat(150), "]".repeat(150));
        assert_eq!(
            parse(&text).unwrap_err().message,
            "The parsed YAML is too big"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
            drop(parse(&text));
        }

        #[test]
        fn yaml_like_text_is_read_or_refused(
            text in r#"([a-c]: |- |\[|\]|\{|\}|, |&a |\*a|<<: |!reference |!x |---\n|\n|\n  |\n    |'|"|0x|1:2|~|\||>){0,60}"#
        ) {
            drop(parse(&text));
        }
    }
}
