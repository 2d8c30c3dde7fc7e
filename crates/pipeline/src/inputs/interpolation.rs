//! `$[[ … ]]` over the parsed tree (`gitlab-ci-yaml.md` 4.1).

use std::collections::HashMap;

use super::Surroundings;
use super::function::{self, text_form};
use crate::source::{Fault, Span};
use crate::yaml::{Kind, MAXIMUM_EXPANDED_BYTES, Map, Node};

const MAXIMUM_FUNCTIONS: usize = 3;
const MAXIMUM_BLOCKS: usize = 10_000;
const MAXIMUM_ACCESS: usize = 1024;
const MAXIMUM_PARTS: usize = 5;
const MAXIMUM_INDEXES: usize = 5;
const MAXIMUM_NODE: usize = 1024 * 1024;

/// Puts values into the nodes of one file.
pub(super) struct Interpolation<'a> {
    pub(super) values: HashMap<String, Node>,
    /// Facts of the component that the header lists.
    pub(super) component: Vec<&'a str>,
    pub(super) surroundings: Surroundings<'a>,
    pub(super) blocks: usize,
    /// Bytes that blocks have made, in all: results of functions, texts put into longer ones.
    pub(super) written: usize,
}

impl Interpolation<'_> {
    pub(super) fn node(&mut self, node: &Node) -> Result<Node, Fault> {
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
                        let form = text_form(&value);
                        self.makes(form.len(), entry.span)?;
                        key.text = form.into();
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
            self.makes(form.len(), span)?;
            if out.len() + form.len() > MAXIMUM_NODE {
                return Err(too_big(span));
            }
            out.push_str(&form);
            rest = &rest[end..];
        }
        out.push_str(rest);
        Ok(Node::new(span, Kind::Text(out.into())))
    }

    /// Counts what a block has made; a value that is only named is shared and costs nothing.
    fn makes(&mut self, bytes: usize, span: Span) -> Result<(), Fault> {
        self.written = self.written.saturating_add(bytes);
        if self.written > MAXIMUM_EXPANDED_BYTES {
            return Err(too_big(span));
        }
        Ok(())
    }

    fn block(&mut self, block: &str, span: Span) -> Result<Node, Fault> {
        let mut parts = function::pipeline(block).into_iter();
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
            value = function::apply(function, &value, &self.surroundings, span)?;
            self.makes(made(&value), span)?;
        }
        Ok(value)
    }

    /// `inputs.name`, `inputs.list[0]`, `component.sha`.
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
        match parts[..] {
            ["component", fact] if self.component.contains(&fact) => {
                let facts = self.surroundings.component.ok_or_else(|| {
                    let text = format!(
                        "`{access}` is not known: the file was not included as a component"
                    );
                    Fault::new(span, text)
                })?;
                Ok(Node::new(span, Kind::Text(facts.get(fact).into())))
            }
            ["inputs", first, ref deeper @ ..] => {
                let (name, indexes) = split_indexes(first);
                let value = self.values.get(name).ok_or_else(|| unknown(name))?;
                let mut left = MAXIMUM_INDEXES;
                let mut value = indexed(value, indexes, &mut left).ok_or_else(|| unknown(first))?;
                for part in deeper {
                    let (key, indexes) = split_indexes(part);
                    value = value
                        .as_map()
                        .and_then(|map| map.get(key))
                        .and_then(|value| indexed(value, indexes, &mut left))
                        .ok_or_else(|| unknown(part))?;
                }
                Ok(value.clone())
            }
            [root, ..] => Err(unknown(root)),
            [] => Err(unknown(access)),
        }
    }
}

fn too_big(span: Span) -> Fault {
    Fault::new(span, "The parsed YAML is too big")
}

/// Bytes that the result of a function takes: a text, or a list of texts.
fn made(value: &Node) -> usize {
    let items = value.as_seq().unwrap_or_default();
    let texts = items.iter().chain([value]).filter_map(Node::as_text);
    size_of_val(items) + texts.map(str::len).sum::<usize>()
}

/// `list[0][1]` as its name and `[0][1]`.
fn split_indexes(part: &str) -> (&str, &str) {
    part.split_at(part.find('[').unwrap_or(part.len()))
}

fn indexed<'n>(mut value: &'n Node, indexes: &str, left: &mut usize) -> Option<&'n Node> {
    for index in indexes.split('[').skip(1) {
        *left = left.checked_sub(1)?;
        let index: usize = index.strip_suffix(']')?.trim().parse().ok()?;
        value = value.as_seq()?.get(index)?;
    }
    Some(value)
}
