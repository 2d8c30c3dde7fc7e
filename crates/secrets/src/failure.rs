//! Why a secret could not be had, and whose fault it is (`secrets.md` 4.7).

use std::fmt;

use courser_protocol::FailureReason;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// Role, policy, path: what the job or the server's configuration says.
    Configuration,
    /// The provider is there and does not work.
    ExternalDependency,
    /// Everything else; upstream counts network, TLS and missing secrets here.
    System,
}

impl FailureClass {
    /// The reason for the server, before it is mapped to those that it knows.
    pub fn reason(self) -> FailureReason {
        match self {
            Self::Configuration => FailureReason::RunnerConfigurationError,
            Self::ExternalDependency => FailureReason::RunnerExternalDependencyFailure,
            Self::System => FailureReason::RunnerSystemFailure,
        }
    }
}

/// A secret that could not be had. `Display` is the text of upstream, without `resolving secrets: `; no value and no
/// token is in it.
#[derive(Debug, Clone)]
pub struct Failure {
    message: String,
    /// Whose fault it is.
    pub class: FailureClass,
    /// Whether another attempt may help.
    pub is_transient: bool,
    /// What to look at or to change, a line each.
    pub advice: Vec<String>,
}

impl Failure {
    /// A failure that no other attempt mends.
    pub(crate) fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            class,
            is_transient: false,
            advice: Vec::new(),
        }
    }

    /// [`FailureClass::System`].
    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(FailureClass::System, message)
    }

    /// Another attempt may help.
    pub(crate) fn transient(mut self, is_transient: bool) -> Self {
        self.is_transient = is_transient;
        self
    }

    /// With a line of advice.
    pub(crate) fn advise(mut self, line: impl Into<String>) -> Self {
        self.advice.push(line.into());
        self
    }

    /// Puts `context` and a colon before the message.
    pub(crate) fn within(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
