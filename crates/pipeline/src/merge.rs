//! Deep merge (`gitlab-ci-yaml.md` 3.3): mappings key by key, everything else is replaced.

use crate::budget::Budget;
use crate::source::{Fault, Span};
use crate::yaml::{Map, Node};

/// Lays `over` on `base`. Keys keep the place of their first insertion.
pub(crate) fn deep_merge(
    mut base: Map,
    over: &Map,
    span: Span,
    budget: &mut Budget,
) -> Result<Map, Fault> {
    budget.take(base.len() + over.len(), span)?;
    if base.is_empty() {
        return Ok(over.clone());
    }
    for entry in over.entries() {
        let above = entry.value.as_map();
        let below = above
            .and_then(|_| base.find(&entry.key)?.value.as_map())
            .cloned();
        let value = match (below, above) {
            (Some(below), Some(above)) => {
                let inner = deep_merge(below, above, span, budget)?;
                Node::map(entry.value.span, inner)
            }
            _ => entry.value.clone(),
        };
        base.insert(entry.key.clone(), entry.span, value);
    }
    Ok(base)
}
