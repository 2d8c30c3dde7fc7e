//! `spec:inputs` and the interpolation of `$[[ … ]]` over the parsed tree (`gitlab-ci-yaml.md` 4).
//!
//! `header` checks what a file wants, `value` what it gets, `interpolation` puts it in, with the functions
//! of `function`.

mod function;
mod header;
mod interpolation;
mod value;

use std::collections::BTreeSet;

use self::header::{parse_header, parse_input};
use self::interpolation::Interpolation;
use self::value::take_values;
use crate::re2::Patterns;
use crate::source::{Fault, Span};
use crate::variables::Scope;
use crate::yaml::{Document, Entry, Node};

pub(crate) use self::value::Given;

/// What interpolation knows besides the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// Where the inputs were given.
    pub(crate) at: Span,
    pub(crate) component: Option<&'a ComponentFacts>,
    pub(crate) scope: Scope<'a>,
    /// Variables that must not be expanded.
    pub(crate) secret: &'a BTreeSet<String>,
    pub(crate) patterns: &'a Patterns,
}

/// What `$[[ component.X ]]` stands for.
#[derive(Debug, Clone)]
pub(crate) struct ComponentFacts {
    pub(crate) name: String,
    pub(crate) sha: String,
    pub(crate) version: String,
    pub(crate) reference: String,
}

impl ComponentFacts {
    fn get(&self, fact: &str) -> &str {
        match fact {
            "name" => &self.name,
            "sha" => &self.sha,
            "version" => &self.version,
            _ => &self.reference,
        }
    }
}

/// Checks the header, takes the given inputs and interpolates the content. Without a header the content
/// stays as it is.
pub(crate) fn interpolate(
    document: Document,
    given: &Given,
    surroundings: Surroundings<'_>,
) -> Result<Node, Fault> {
    let Some(header) = document.header else {
        if !given.is_empty() {
            return Err(Fault::new(
                surroundings.at,
                "Given inputs not defined in the `spec` section of the included configuration file",
            ));
        }
        return Ok(document.content);
    };
    let header = parse_header(&header, surroundings.patterns)?;
    let mut interpolation = Interpolation {
        values: take_values(header.inputs, given, surroundings)?,
        component: header.component,
        surroundings,
        blocks: 0,
        written: 0,
    };
    interpolation.node(&document.content)
}

/// Checks an input of a job, which must have a default; `place` is the location of the job's `inputs`.
pub(crate) fn check_job_input(
    entry: &Entry,
    place: &str,
    patterns: &Patterns,
) -> Result<(), Fault> {
    let place = format!("{place}:{}", entry.key);
    let fault = |text: &str| Fault::new(entry.span, format!("{place} {text}"));
    let map = entry.value.as_map();
    let map = map.ok_or_else(|| fault("config should be a hash"))?;
    if let Some(rules) = map.entry("rules") {
        let text = format!("{place} config contains unknown keys: rules");
        return Err(Fault::new(rules.span, text));
    }
    let spec = parse_input(entry, &place, patterns)?;
    match spec.default {
        None => Err(fault("must have a default value")),
        Some(default) => spec.check(default, "default").map(drop),
    }
}

/// The items of `spec:include`, which the loader replaces by the inputs they name.
pub(crate) fn header_includes(header: &Node) -> Option<&Node> {
    let spec = header.as_map()?.get("spec")?.as_map()?;
    spec.get("include").filter(|node| !node.is_null())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::source::Findings;
    use crate::yaml;

    /// The interpolated content as JSON, or the fault.
    fn check(text: &str, given: &str, expected: &str) {
        let mut findings = Findings::default();
        let document = yaml::read(text, 0, &mut findings).unwrap();
        let given = yaml::read(given, 1, &mut findings).unwrap().content;
        let given = given.as_map().cloned().unwrap_or_default();
        let predefined = BTreeMap::from([("CI".to_owned(), "true".to_owned())]);
        let scope = Scope {
            predefined: &predefined,
            ..Scope::EMPTY
        };
        let surroundings = Surroundings {
            at: Span::default(),
            component: None,
            scope,
            secret: &BTreeSet::from(["SECRET".to_owned()]),
            patterns: &Patterns::default(),
        };
        let actual = match interpolate(document, &Given::typed(given), surroundings) {
            Ok(node) => serde_json::to_string(&node).unwrap(),
            Err(fault) => format!("{}: {}", fault.span.line, fault.message),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn values_keep_their_type_only_when_they_are_the_whole_text() {
        let header = "spec: {inputs: {n: {type: number, default: 3}, l: {type: array, default: [a, b]}, s: {default: x}}}\n---\n";
        for (content, expected) in [
            ("a: $[[ inputs.n ]]", r#"{"a":3}"#),
            ("a: n-$[[inputs.n]]", r#"{"a":"n-3"}"#),
            ("a: $[[ inputs.l ]]", r#"{"a":["a","b"]}"#),
            ("a: $[[ inputs.l[1] ]]", r#"{"a":"b"}"#),
            ("a: '$[[ inputs.n ]]$[[ inputs.s ]]'", r#"{"a":"3x"}"#),
            ("job-$[[ inputs.s ]]: 1", r#"{"job-x":1}"#),
            ("a: $[[ matrix.X ]]", r#"{"a":"$[[ matrix.X ]]"}"#),
            (
                "a: $[[ inputs.t ]]",
                "3: unknown interpolation provided: `t` in `inputs.t`",
            ),
            (
                "a: $[[ inputs.s | upcase ]]",
                "3: no function matching `upcase`: check that the function name, arguments, and types are correct",
            ),
            (
                "a: $[[ inputs.n | truncate(0,1) ]]",
                "3: invalid input type: truncate can only be used with string inputs",
            ),
        ] {
            check(&format!("{header}{content}"), "", expected);
        }
    }

    #[test]
    fn functions_run_from_left_to_right() {
        for (value, functions, expected) in [
            ("$CI-$NO", "expand_vars", r#"{"a":"true-$NO"}"#),
            ("abcdef", "truncate(1,3)", r#"{"a":"bcd"}"#),
            ("$CI", "expand_vars | truncate(0,2)", r#"{"a":"tr"}"#),
            ("a b", "posix_escape", r#"{"a":"a\\ b"}"#),
            ("''", "posix_escape", r#"{"a":"''"}"#),
            ("a, b,,", "split(',')", r#"{"a":["a","b"]}"#),
        ] {
            let text = format!("spec: {{inputs: {{s: }}}}\n---\na: $[[ inputs.s | {functions} ]]");
            check(&text, &format!("s: {value}"), expected);
        }
    }

    #[test]
    fn inputs_are_checked() {
        let text = "spec:\n  inputs:\n    env: {options: [dev, prod]}\n    v: {regex: '^v[0-9]+$', default: v1}\n---\na: $[[ inputs.env ]]";
        for (given, expected) in [
            ("env: prod", r#"{"a":"prod"}"#),
            ("", "3: `env` input: required value has not been provided"),
            ("{env: prod, x: 1}", "1: unknown input arguments: x"),
            (
                "env: test",
                "1: `env` input: `test` cannot be used because it is not in the list of allowed options",
            ),
            (
                "{env: dev, v: 1}",
                "1: `v` input: provided value does not match required RegEx pattern",
            ),
        ] {
            check(text, given, expected);
        }
        check(
            "spec: {inputs: {n: {type: object}}}\n---\na: 1",
            "",
            "1: header:spec:inputs:n input type unknown value: object",
        );
        check(
            "spec: {inputs: {n: {type: number}}}\n---\na: 1",
            "n: x",
            "1: `n` input: provided value is not a number",
        );
        check(
            "a: 1",
            "n: x",
            "0: Given inputs not defined in the `spec` section of the included configuration file",
        );
        check("a: $[[ inputs.x ]]", "", r#"{"a":"$[[ inputs.x ]]"}"#);
    }
}
