//! The binary that is shipped.

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::figure::{Figure, Goal};
use crate::world::workspace;

pub(crate) fn figures(_: &Arguments) -> Result<Vec<Figure>> {
    let path = workspace().join("dist/courser");
    let data = std::fs::metadata(&path)
        .with_context(|| format!("{}: make it with `cargo xtask dist`", path.display()))?;
    let figure = Figure::megabytes("the binary that is shipped", data.len());
    Ok(vec![figure.goal(Goal::AtMost(25.0))])
}
