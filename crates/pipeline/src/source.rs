//! Where things stand: files, positions, and faults that carry one.

use std::sync::Arc;

use crate::model::Problem;
use crate::trace::Place;

/// A position in one of the [`Sources`]. Lines and columns start at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) message: String,
    /// What GitLab does not say, for people.
    pub(crate) detail: Option<String>,
}

impl Fault {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            detail: None,
        }
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// More faults than this help nobody, and a hostile file could hold a million.
const MAXIMUM_FINDINGS: usize = 100;

/// Faults found so far; shape errors are reported all together (`gitlab-ci-yaml.md` 1).
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
}

impl Findings {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Fault::new(span, message));
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.errors.len() < MAXIMUM_FINDINGS {
            self.errors.push(fault);
        }
    }

    pub(crate) fn warn(&mut self, span: Span, message: impl Into<String>) {
        let fault = Fault::new(span, message);
        if self.warnings.len() < MAXIMUM_FINDINGS && !self.warnings.contains(&fault) {
            self.warnings.push(fault);
        }
    }
}

/// The files read, so that a [`Span`] can be shown.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<(Arc<str>, Arc<str>)>,
}

impl Sources {
    /// Adds a file and returns its number.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        self.files.push((name.into(), text.into()));
        u32::try_from(self.files.len() - 1).expect("the number of files is limited to 150")
    }

    pub(crate) fn name(&self, file: u32) -> &str {
        self.files
            .get(file as usize)
            .map_or("", |(name, _)| name.as_ref())
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        let Span { file, line, column } = span;
        let source_line = self
            .files
            .get(file as usize)
            .and_then(|(_, text)| text.lines().nth((line as usize).saturating_sub(1)))
            .unwrap_or_default();
        Place {
            file: self.name(file).to_owned(),
            line: line.max(1) as usize,
            column: column.max(1) as usize,
            source_line: source_line.to_owned(),
        }
    }

    pub(crate) fn problem(&self, fault: &Fault) -> Problem {
        let place = self.place(fault.span);
        Problem {
            file: place.file,
            line: place.line,
            column: place.column,
            message: fault.message.clone(),
            detail: fault.detail.clone(),
            source_line: place.source_line,
        }
    }

    pub(crate) fn problems(&self, faults: &[Fault]) -> Vec<Problem> {
        faults.iter().map(|fault| self.problem(fault)).collect()
    }
}
