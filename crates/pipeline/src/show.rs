//! The merged tree as text: `courser pipeline show` (`gitlab-ci-yaml.md` 23).

use std::fmt::Write as _;

use serde::Serialize;

use crate::yaml::{Kind, Map, Node, is_plain_text};

/// The tree after `include`, `extends` and `!reference`, hidden entries kept. Serializes in file order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct MergedTree {
    root: Node,
}

impl MergedTree {
    pub(crate) fn new(root: Node) -> Self {
        Self { root }
    }

    /// The tree as YAML that reads back as the same tree.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self.root.as_map() {
            Some(map) if !map.is_empty() => write_map(map, 0, &mut out),
            _ => out.push_str("{}\n"),
        }
        out
    }
}

fn indent(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn write_map(map: &Map, depth: usize, out: &mut String) {
    for (at, entry) in map.entries().iter().enumerate() {
        // The first key of a mapping inside a list follows the dash.
        if at > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        if entry.key.is_text {
            write_text(&entry.key.text, out);
        } else {
            out.push_str(&entry.key.text);
        }
        out.push(':');
        write_value(&entry.value, depth, out);
    }
}

fn write_value(node: &Node, depth: usize, out: &mut String) {
    match &node.kind {
        Kind::Map(map) if !map.is_empty() => {
            out.push('\n');
            write_map(map, depth + 1, out);
        }
        Kind::Seq(items) if !items.is_empty() => {
            out.push('\n');
            write_seq(items, depth, out);
        }
        Kind::Text(text) if is_block(text) => write_block(text, depth + 1, out),
        _ => {
            out.push(' ');
            write_inline(node, out);
            out.push('\n');
        }
    }
}

fn write_seq(items: &[Node], depth: usize, out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push('-');
        match &item.kind {
            Kind::Map(map) if !map.is_empty() => {
                out.push(' ');
                write_map(map, depth + 1, out);
            }
            Kind::Seq(inner) if !inner.is_empty() => {
                out.push(' ');
                write_seq(inner, depth + 1, out);
            }
            Kind::Text(text) if is_block(text) => write_block(text, depth + 1, out),
            _ => {
                out.push(' ');
                write_inline(item, out);
                out.push('\n');
            }
        }
    }
}

fn write_inline(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Null => out.push_str("null"),
        Kind::Text(text) => write_text(text, out),
        Kind::Float(value) if value.is_nan() => out.push_str(".nan"),
        Kind::Float(value) if value.is_infinite() => {
            out.push_str(if *value > 0.0 { ".inf" } else { "-.inf" });
        }
        Kind::Seq(_) => out.push_str("[]"),
        Kind::Map(_) => out.push_str("{}"),
        _ => out.push_str(&node.scalar_text().unwrap_or_default()),
    }
}

/// Several lines without odd characters read best as a literal block.
fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text
            .chars()
            .all(|c| c == '\n' || c == '\t' || is_printable(c))
        && text.lines().all(|line| line.trim_end() == line)
}

fn write_block(text: &str, depth: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    let breaks = text.len() - body.len();
    out.push_str(match breaks {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in body.split('\n') {
        if !line.is_empty() {
            indent(depth, out);
        }
        out.push_str(line);
        out.push('\n');
    }
    for _ in 1..breaks {
        out.push('\n');
    }
}

fn write_text(text: &str, out: &mut String) {
    if is_plain_text(text) {
        out.push_str(text);
        return;
    }
    if !text.contains('\'') && text.chars().all(is_printable) {
        out.push('\'');
        out.push_str(text);
        out.push('\'');
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) <= 0xffff => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => {
                let _infallible = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}

fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{Findings, Span};
    use crate::yaml::{self, Key};

    fn parse(text: &str) -> Node {
        yaml::read(text, 0, &mut Findings::default())
            .unwrap_or_else(|fault| panic!("{fault:?} in\n{text}"))
            .content
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(MergedTree::new(parse(text)).to_yaml(), expected);
    }

    #[test]
    fn trees_are_written_in_block_style() {
        check(
            "a: {b: [1, 'yes', ~, [x, y], {k: v, l: []}]}\n'on': {}\nc: \"l1\\nl2\\n\"",
            "a:\n  b:\n  - 1\n  - 'yes'\n  - null\n  - - x\n    - y\n  - k: v\n    l: []\n'on': {}\nc: |\n  l1\n  l2\n",
        );
    }

    #[test]
    fn a_list_as_a_key_reads_back_whatever_its_tag() {
        for written in ["[a, b]: 1\n", "!reference [a, b]: 1\n"] {
            check(written, "[\"a\", \"b\"]: 1\n");
        }
        check("[\"a\", \"b\"]: 1\n", "[\"a\", \"b\"]: 1\n");
    }

    fn leaf() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Null),
            any::<bool>().prop_map(Kind::Bool),
            any::<i32>().prop_map(|value| Kind::Int(value.into())),
            "[ -~\n\t\u{e9}]{0,12}".prop_map(|text| Kind::Text(text.into())),
            "(yes|~|1:2|0x1|- a|a: b|#c|'|\"|\\||!x|&a|2024-01-01|:a|a b|<<){1,2}"
                .prop_map(|text| Kind::Text(text.into())),
        ]
    }

    fn node() -> impl Strategy<Value = Node> {
        let span = Span::default();
        let leaf = leaf().prop_map(move |kind| Node::new(span, kind));
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(move |items| Node::seq(span, items)),
                prop::collection::vec(("[ -~]{0,8}", inner), 0..4).prop_map(move |pairs| {
                    let mut map = Map::default();
                    for (key, value) in pairs {
                        map.insert(Key::text(&key), span, value);
                    }
                    Node::map(span, map)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in node()) {
            let mut map = Map::default();
            map.insert(Key::text("root"), Span::default(), value);
            let tree = MergedTree::new(Node::map(Span::default(), map));
            let text = tree.to_yaml();
            prop_assert_eq!(
                serde_json::to_string(&parse(&text)).unwrap(),
                serde_json::to_string(&tree).unwrap(),
                "{}", text
            );
        }
    }
}
