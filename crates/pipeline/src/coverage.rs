//! `coverage`: the number that a job's log tells (`gitlab-ci-yaml.md` 16).

use regex::Regex;

use crate::re2::Patterns;

/// The pattern of a job's `coverage`.
#[derive(Debug, Clone)]
pub struct CoveragePattern(Regex);

impl CoveragePattern {
    /// From `/pattern/`; `None` when it is no such pattern.
    pub fn new(text: &str) -> Option<Self> {
        let compiled = Patterns::default().compile_delimited(text)?;
        compiled.ok().map(Self)
    }

    /// The first number in the last group of the last match in the line; in the whole match where the
    /// pattern has no groups.
    pub fn number_in(&self, line: &str) -> Option<f64> {
        let found = self.0.captures_iter(line).last()?;
        let groups = found.iter().skip(1).flatten();
        let matched = groups.last().or_else(|| found.get(0))?.as_str();
        let start = matched.find(|c: char| c.is_ascii_digit())?;
        let text = &matched[start..];
        let whole = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let fraction = text[whole..].strip_prefix('.').map_or(0, |rest| {
            let digits = rest.find(|c: char| !c.is_ascii_digit());
            digits.unwrap_or(rest.len())
        });
        let end = if fraction > 0 {
            whole + 1 + fraction
        } else {
            whole
        };
        text[..end].parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_that_fits_counts() {
        let cases = [
            (
                r"/\d+\.\d+%/",
                "total 12.5% then 87.25% of lines",
                Some(87.25),
            ),
            (r"/TOTAL.*? (\d+)%/", "TOTAL  10  2  80%", Some(80.0)),
            (r"/Lines:\s+(\d+(?:\.\d+)?)/", "Lines: 91.", Some(91.0)),
            (r"/cover(a)(\d+)?/", "covera", None),
            (r"/coverage/", "coverage: 3", None),
            (r"/x/", "nothing", None),
        ];
        for (pattern, line, expected) in cases {
            let pattern = CoveragePattern::new(pattern).unwrap();
            assert_eq!(pattern.number_in(line), expected, "{line}");
        }
        assert!(CoveragePattern::new("no slashes").is_none());
    }
}
