//! Deep merge (`gitlab-ci-yaml.md` 3.3): mappings key by key, everything else is replaced.

use crate::budget::Budget;
use crate::source::{Fault, Span};
use crate::yaml::{Map, Node};

/// Lays `over` on `base`. Keys keep the place of their first insertion.
pub(crate) fn deep_merge(
    base: &Map,
    over: &Map,
    span: Span,
    budget: &mut Budget,
) -> Result<Map, Fault> {
    budget.take(base.len() + over.len(), span)?;
    let mut merged = base.clone();
    for entry in over.entries() {
        let below = base.find(&entry.key).and_then(|below| below.value.as_map());
        let value = match (below, entry.value.as_map()) {
            (Some(below), Some(above)) => {
                let inner = deep_merge(below, above, span, budget)?;
                Node::map(entry.value.span, inner)
            }
            _ => entry.value.clone(),
        };
        merged.insert(entry.key.clone(), entry.span, value);
    }
    Ok(merged)
}
