//! Everything one can do with this workspace.
fn main() {}
