//! `extends` (`gitlab-ci-yaml.md` 5): bases merged left to right, the entry on top.

use std::collections::HashMap;

use crate::budget::Budget;
use crate::merge::deep_merge;
use crate::source::{Fault, Span};
use crate::yaml::{Entry, Kind, Map, Node};

/// An entry with more ancestors above it may not extend further.
const MAXIMUM_ANCESTORS: usize = 10;

/// Resolves every top-level entry.
pub(crate) fn resolve(tree: &Map) -> Result<Map, Fault> {
    let mut resolver = Resolver {
        tree,
        done: HashMap::new(),
        ancestors: Vec::new(),
        budget: Budget::for_merging(),
    };
    let mut resolved = Map::default();
    for entry in tree.entries() {
        let value = match entry.value.as_map() {
            Some(map) if map.has("extends") => {
                let (map, _) = resolver.entry(entry, map)?;
                Node::map(entry.value.span, map)
            }
            _ => entry.value.clone(),
        };
        resolved.insert(entry.key.clone(), entry.span, value);
    }
    Ok(resolved)
}

struct Resolver<'a> {
    tree: &'a Map,
    /// Resolved entries with the length of their longest chain.
    done: HashMap<&'a str, (Map, usize)>,
    ancestors: Vec<&'a str>,
    budget: Budget,
}

impl<'a> Resolver<'a> {
    fn entry(&mut self, entry: &'a Entry, map: &'a Map) -> Result<(Map, usize), Fault> {
        let name: &'a str = &entry.key.text;
        let Some(extends) = map.entry("extends") else {
            return Ok((map.clone(), 0));
        };
        if self.ancestors.contains(&name) {
            return Err(Fault::new(
                extends.span,
                format!("{name}: circular dependency detected in `extends`"),
            ));
        }
        let too_deep = || {
            Fault::new(
                extends.span,
                format!("{name}: nesting too deep in `extends`"),
            )
        };
        if let Some((resolved, height)) = self.done.get(name) {
            if self.ancestors.len() + height > MAXIMUM_ANCESTORS + 1 {
                return Err(too_deep());
            }
            return Ok((resolved.clone(), *height));
        }
        if self.ancestors.len() > MAXIMUM_ANCESTORS {
            return Err(too_deep());
        }
        self.ancestors.push(name);
        let mut merged = Map::default();
        let mut height = 0;
        for (base, span) in bases(name, &extends.value)? {
            let found = self.tree.entry(base).ok_or_else(|| {
                Fault::new(span, format!("{name}: unknown keys in `extends` ({base})"))
            })?;
            let base_map = found.value.as_map().ok_or_else(|| {
                Fault::new(
                    span,
                    format!("{name}: invalid base hashes in `extends` ({base})"),
                )
            })?;
            let (resolved, below) = self.entry(found, base_map)?;
            height = height.max(below + 1);
            merged = deep_merge(merged, &resolved, span, &mut self.budget)?;
        }
        self.ancestors.pop();
        let merged = deep_merge(merged, map, extends.span, &mut self.budget)?;
        self.done.insert(name, (merged.clone(), height));
        Ok((merged, height))
    }
}

fn bases<'a>(name: &str, value: &'a Node) -> Result<Vec<(&'a str, Span)>, Fault> {
    let wrong = |span| {
        Fault::new(
            span,
            format!("jobs:{name} extends should be an array of strings or a string"),
        )
    };
    match &value.kind {
        Kind::Null => Ok(Vec::new()),
        Kind::Text(text) => Ok(vec![(text, value.span)]),
        Kind::Seq(items) => items
            .iter()
            .map(|item| {
                item.as_text()
                    .map(|text| (text, item.span))
                    .ok_or_else(|| wrong(item.span))
            })
            .collect(),
        _ => Err(wrong(value.span)),
    }
}
