//! Problems of a `.gitlab-ci.yml` for people: message, place and source line, in colour on a terminal.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use courser_pipeline::Problem;

use crate::control_characters::written_out_but_colours;

/// How grave the problems are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// The problems one after the other, with ANSI styles; `anstream` removes them where there is no terminal.
pub(crate) fn render(problems: &[Problem], severity: Severity) -> String {
    let renderer = Renderer::styled();
    let mut text = String::new();
    for problem in problems {
        let level = match severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.message.as_str());
        let place = AnnotationKind::Primary
            .span(token(problem))
            .label(problem.detail.as_deref());
        let snippet = Snippet::source(problem.source_line.as_str())
            .line_start(problem.line)
            .path(problem.file.as_str())
            .annotation(place);
        text.push_str(&renderer.render(&[title.element(snippet)]));
        text.push_str("\n\n");
    }
    written_out_but_colours(&text).into_owned()
}

/// The first problems in one line, each with its place; the rest is counted.
pub(crate) fn one_line(problems: &[Problem]) -> String {
    const SHOWN: usize = 10;
    let shown = problems.iter().take(SHOWN).map(|problem| {
        format!(
            "{}:{}:{}: {}",
            problem.file, problem.line, problem.column, problem.message
        )
    });
    let mut lines: Vec<_> = shown.collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more", problems.len() - SHOWN));
    }
    lines.join("; ")
}

/// Bytes of the word at the problem's column.
fn token(problem: &Problem) -> std::ops::Range<usize> {
    let line = &problem.source_line;
    let start = line
        .char_indices()
        .nth(problem.column - 1)
        .map_or(line.len(), |(at, _)| at);
    let rest = &line[start..];
    let quoted = rest
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''))
        .and_then(|quote| rest[1..].find(quote))
        .map(|end| end + 2);
    let length = quoted
        .or_else(|| rest.find([':', ',', ']', '}', '#']).filter(|end| *end > 0))
        .unwrap_or(rest.len());
    start..start + rest[..length].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_place_and_line() {
        let problem = Problem {
            file: "ci/build.yml".to_owned(),
            line: 7,
            column: 3,
            message: "jobs:build config contains unknown keys: scrip".to_owned(),
            detail: Some("why".to_owned()),
            source_line: "  scrip: make".to_owned(),
        };
        let text = anstream::adapter::strip_str(&render(&[problem], Severity::Error)).to_string();
        assert_eq!(
            text,
            "error: jobs:build config contains unknown keys: scrip\n --> ci/build.yml:7:3\n  |\n7 |   scrip: make\n  |   ^^^^^ why\n\n"
        );
    }

    #[test]
    fn places_beyond_the_line_do_not_panic() {
        let problem = Problem {
            file: "a.yml".to_owned(),
            line: 1,
            column: 80,
            message: "odd".to_owned(),
            detail: None,
            source_line: "é".to_owned(),
        };
        assert!(render(&[problem], Severity::Warning).contains("odd"));
    }
}
