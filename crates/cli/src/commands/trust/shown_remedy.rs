//! What to do, in the JSON of the `trust` commands.

use courser_trust::Remedy;

/// `{"advice", "command"}`; the command is null where there is none.
#[derive(Debug, serde::Serialize)]
pub(super) struct ShownRemedy {
    pub(super) advice: String,
    pub(super) command: Option<String>,
}

impl From<Remedy> for ShownRemedy {
    fn from(remedy: Remedy) -> Self {
        Self {
            advice: remedy.advice,
            command: remedy.command,
        }
    }
}
