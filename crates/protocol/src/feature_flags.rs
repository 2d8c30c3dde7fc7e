//! Every feature flag of gitlab-runner 19.4: name, default, and what Courser does with it.
//!
//! Facts: `runner-protocol.md` 4.5.

/// One feature flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureFlag {
    /// `FF_…`.
    pub name: &'static str,
    /// Value where nothing is set.
    pub default: bool,
    /// What it does in Courser, one sentence; names what is not built yet.
    pub effect: &'static str,
}

/// The table.
pub const ALL: &[FeatureFlag] = &[];

/// Looks a flag up by name.
pub fn find(name: &str) -> Option<&'static FeatureFlag> {
    ALL.iter().find(|flag| flag.name == name)
}
