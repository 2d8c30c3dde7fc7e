//! `spec:inputs` and interpolation.
use crate::source::{Fault, Span};
use crate::variables::Scope;
use crate::yaml::{Document, Map, Node};

/// Checks the header, takes the inputs and interpolates the content.
pub(crate) fn interpolate(
    document: Document,
    given: &Map,
    at: Span,
    scope: Scope<'_>,
) -> Result<Node, Fault> {
    let _ = scope;
    let Some(header) = document.header else {
        if !given.is_empty() {
            return Err(Fault::new(
                at,
                "Given inputs not defined in the `spec` section of the included configuration file",
            ));
        }
        return Ok(document.content);
    };
    Err(Fault::new(header.span, "spec:inputs is not built yet"))
}
