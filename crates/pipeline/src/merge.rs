//! Deep merge (`gitlab-ci-yaml.md` 3.3): mappings key by key, everything else is replaced.

use crate::yaml::{Map, Node};

/// Lays `over` on `base`. Keys keep the place of their first insertion.
pub(crate) fn deep_merge(base: &Node, over: &Node) -> Node {
    match (base.as_map(), over.as_map()) {
        (Some(below), Some(above)) => Node::map(over.span, deep_merge_maps(below, above)),
        _ => over.clone(),
    }
}

pub(crate) fn deep_merge_maps(base: &Map, over: &Map) -> Map {
    let mut merged = base.clone();
    for entry in over.entries() {
        let value = match base.find(&entry.key) {
            Some(below) => deep_merge(&below.value, &entry.value),
            None => entry.value.clone(),
        };
        merged.insert(entry.key.clone(), entry.span, value);
    }
    merged
}
