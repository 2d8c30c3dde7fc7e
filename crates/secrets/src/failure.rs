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

/// What was under way when a secret could not be had. Whoever fails at one has been through those before it, but for
/// [`Self::Read`], which says nothing of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// What job, variables and runner say of the secret: nothing was asked yet.
    Settings,
    /// The way to the server that is asked first, and its TLS.
    Connect,
    /// The login: its method, its role, and whether the ID token is one of the issuer's.
    LogIn,
    /// What the ID token claims against what the role demands.
    Claims,
    /// The read, which brought no answer or none that is usable.
    Read,
    /// Whether the role may read the path.
    Policy,
    /// Whether there is something at the path.
    Path,
    /// The value: a field of what is there, as text, within the limits of a variable.
    Field,
}

/// A secret that could not be had. `Display` is the text of upstream, without `resolving secrets: `; no value and no
/// token is in it.
#[derive(Debug, Clone)]
pub struct Failure {
    message: String,
    /// Whose fault it is.
    pub class: FailureClass,
    /// How far it came.
    pub step: Step,
    /// Whether another attempt may help.
    pub is_transient: bool,
    /// The server may have done what was asked for, at one of the tries: there was no answer.
    pub(crate) may_be_processed: bool,
    /// What to look at or to change, a line each.
    pub advice: Vec<String>,
}

impl Failure {
    /// A failure that no other attempt mends, before anything was asked.
    pub(crate) fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            class,
            step: Step::Settings,
            is_transient: false,
            may_be_processed: false,
            advice: Vec::new(),
        }
    }

    /// [`FailureClass::System`].
    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(FailureClass::System, message)
    }

    /// Nobody wants it any more: there is another failure that is to be told.
    pub(crate) fn given_up() -> Self {
        Self::system("not asked any more")
    }

    /// As one of this step.
    pub(crate) fn at(mut self, step: Step) -> Self {
        self.step = step;
        self
    }

    /// Another attempt may help.
    pub(crate) fn transient(mut self, is_transient: bool) -> Self {
        self.is_transient = is_transient;
        self
    }

    /// The server may have done what was asked for.
    pub(crate) fn processed(mut self, may_be: bool) -> Self {
        self.may_be_processed = may_be;
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
