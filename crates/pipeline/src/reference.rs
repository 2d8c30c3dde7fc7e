//! `!reference` (`gitlab-ci-yaml.md` 6), resolved over the merged tree after `extends`.

use std::collections::HashMap;

use crate::source::{Fault, Span};
use crate::yaml::{Kind, MAXIMUM_DEPTH, MAXIMUM_EXPANDED_BYTES, MAXIMUM_NODES, Map, Node};

/// Resolves every reference in the tree.
pub(crate) fn resolve(tree: &Map) -> Result<Map, Fault> {
    let mut resolver = Resolver {
        tree,
        done: HashMap::new(),
        under_way: Vec::new(),
    };
    let mut resolved = Map::default();
    let mut total = Weight::default();
    for entry in tree.entries() {
        let found = resolver.node(&entry.value, 0)?;
        total.grow(found.weight, entry.span)?;
        resolved.insert(entry.key.clone(), entry.span, found.node);
    }
    Ok(resolved)
}

/// A node without references and what it weighs with everything shared counted again.
#[derive(Clone)]
struct Resolved {
    node: Node,
    weight: Weight,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    fn grow(&mut self, more: Self, span: Span) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more.nodes);
        self.bytes = self.bytes.saturating_add(more.bytes);
        if self.nodes > MAXIMUM_NODES || self.bytes > MAXIMUM_EXPANDED_BYTES {
            return Err(too_big(span));
        }
        Ok(())
    }
}

struct Resolver<'a> {
    tree: &'a Map,
    done: HashMap<Vec<&'a str>, Resolved>,
    under_way: Vec<Vec<&'a str>>,
}

impl<'a> Resolver<'a> {
    fn node(&mut self, node: &'a Node, depth: usize) -> Result<Resolved, Fault> {
        // Twice the depth of a document: once for the tree, once for what references put into it.
        if depth > 2 * MAXIMUM_DEPTH {
            return Err(too_big(node.span));
        }
        let span = node.span;
        let mut weight = Weight {
            nodes: 1,
            bytes: node.as_text().map_or(0, str::len),
        };
        let node = match &node.kind {
            Kind::Seq(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for item in items.iter() {
                    let item = self.node(item, depth + 1)?;
                    weight.grow(item.weight, span)?;
                    resolved.push(item.node);
                }
                Node::seq(node.span, resolved)
            }
            Kind::Map(map) => {
                let mut resolved = Map::default();
                for entry in map.entries() {
                    let value = self.node(&entry.value, depth + 1)?;
                    weight.grow(value.weight, span)?;
                    resolved.insert(entry.key.clone(), entry.span, value.node);
                }
                Node::map(node.span, resolved)
            }
            Kind::Reference(inner) => return self.reference(node.span, inner, depth),
            _ => node.clone(),
        };
        Ok(Resolved { node, weight })
    }

    fn reference(&mut self, span: Span, inner: &'a Node, depth: usize) -> Result<Resolved, Fault> {
        let shown = inner.inspect();
        let path: Option<Vec<&str>> = inner
            .as_seq()
            .filter(|items| !items.is_empty())
            .and_then(|items| items.iter().map(Node::as_text).collect());
        let Some(path) = path else {
            return Err(Fault::new(span, format!("!reference {shown} is not valid")));
        };
        if self.under_way.contains(&path) {
            return Err(Fault::new(
                span,
                format!("!reference {shown} is part of a circular chain"),
            ));
        }
        if let Some(done) = self.done.get(&path) {
            return Ok(done.clone());
        }
        let missing = || Fault::new(span, format!("!reference {shown} could not be found"));
        let (first, rest) = path.split_first().ok_or_else(missing)?;
        let mut target = self.tree.get(first).ok_or_else(missing)?;
        for key in rest {
            target = target
                .as_map()
                .and_then(|map| map.get(key))
                .ok_or_else(missing)?;
        }
        self.under_way.push(path.clone());
        let resolved = self.node(target, depth + 1)?;
        self.under_way.pop();
        if matches!(resolved.node.kind, Kind::Null | Kind::Bool(false)) {
            return Err(missing());
        }
        self.done.insert(path, resolved.clone());
        Ok(resolved)
    }
}

fn too_big(span: Span) -> Fault {
    Fault::new(span, "The parsed YAML is too big")
}
