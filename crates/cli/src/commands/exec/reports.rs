//! What reports of a job say: tests of `junit`, lines of `cobertura`.
//!
//! Reports are what jobs made of them: read as a stream, up to a bound, without entities of their own. One
//! that cannot be read is told of and changes nothing else.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read};

use courser_coordinator::JobArtifact;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::Serialize;

use crate::control_characters::written_out;
use crate::pipeline_variables::Mask;

/// Bytes of one report, unpacked.
const LARGEST: u64 = 32 << 20;
/// Names of failed tests that are kept.
const NAMED: usize = 10;
/// Characters of such a name.
const NAME: usize = 200;

/// Reports of one job.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Reports {
    /// All `junit` reports together; none without one.
    pub(super) tests: Option<Tests>,
    /// Covered lines in percent, as the last `cobertura` report says.
    pub(super) covered_lines: Option<f64>,
    /// What is wrong with reports.
    pub(super) problems: Vec<String>,
}

/// Test cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tests {
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) errors: u64,
    pub(super) skipped: u64,
    /// Names of the first that failed.
    pub(super) failures: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("not well-formed XML: {0}")]
    Xml(#[from] quick_xml::Error),
    #[error("larger than {} MiB", LARGEST >> 20)]
    TooLarge,
}

impl Reports {
    /// Reads those among what a job uploaded.
    pub(super) fn read(artifacts: &[JobArtifact]) -> Self {
        let mut reports = Self::default();
        for artifact in artifacts {
            let read = match artifact.kind.as_str() {
                "junit" => {
                    let tests = reports.tests.get_or_insert_default();
                    open(artifact).and_then(|text| tests.add(text))
                }
                "cobertura" => open(artifact).and_then(covered_lines).map(|covered| {
                    reports.covered_lines = covered.or(reports.covered_lines);
                }),
                _ => continue,
            };
            if let Err(error) = read {
                let kind = &artifact.kind;
                reports
                    .problems
                    .push(written_out(&format!("{kind} report: {error}")).into_owned());
            }
        }
        reports
    }

    /// Without values that are not to be seen.
    pub(super) fn mask(&mut self, mask: &Mask) {
        let failures = self.tests.iter_mut().flat_map(|tests| &mut tests.failures);
        for text in failures.chain(&mut self.problems) {
            *text = mask.text(std::mem::take(text));
        }
    }

    /// In words, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(tests) = &self.tests {
            lines.push(tests.summary());
            lines.extend(tests.failures.iter().map(|name| format!("✗ {name}")));
            let bad = tests.failed + tests.errors;
            let unnamed = bad.saturating_sub(tests.failures.len() as u64);
            if unnamed > 0 {
                lines.push(format!("and {unnamed} more"));
            }
        }
        lines.extend(
            self.covered_lines
                .map(|covered| format!("{covered:.1} % of lines covered")),
        );
        lines.extend(self.problems.iter().cloned());
        lines
    }
}

type Text = Reader<BufReader<io::Take<Box<dyn Read>>>>;

fn open(artifact: &JobArtifact) -> Result<Text, ReportError> {
    let file = File::open(&artifact.path)?;
    let reader: Box<dyn Read> = match artifact.format.as_str() {
        // Several files are members one after the other.
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut reader = Reader::from_reader(BufReader::new(reader.take(LARGEST + 1)));
    reader.config_mut().check_end_names = false;
    Ok(reader)
}

/// The next event; `None` at the end.
fn next<'a>(reader: &mut Text, buffer: &'a mut Vec<u8>) -> Result<Option<Event<'a>>, ReportError> {
    buffer.clear();
    let event = reader.read_event_into(buffer);
    if reader.buffer_position() > LARGEST {
        return Err(ReportError::TooLarge);
    }
    match event? {
        Event::Eof => Ok(None),
        event => Ok(Some(event)),
    }
}

/// How a test case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Passed,
    Failed,
    Error,
    Skipped,
}

impl Tests {
    /// Counts the cases of another report.
    fn add(&mut self, mut reader: Text) -> Result<(), ReportError> {
        let mut buffer = Vec::new();
        let mut open: Option<(String, Case)> = None;
        while let Some(event) = next(&mut reader, &mut buffer)? {
            let (element, empty) = match &event {
                Event::Start(element) => (element, false),
                Event::Empty(element) => (element, true),
                Event::End(element) if element.local_name().as_ref() == "testcase" => {
                    self.count(open.take());
                    continue;
                }
                _ => continue,
            };
            match element.local_name().as_ref() {
                "testcase" => {
                    self.count(open.take());
                    open = Some((case_name(element), Case::Passed));
                    if empty {
                        self.count(open.take());
                    }
                }
                outcome => {
                    let ended = match outcome {
                        "failure" => Case::Failed,
                        "error" => Case::Error,
                        "skipped" => Case::Skipped,
                        _ => continue,
                    };
                    if let Some((_, case)) = &mut open {
                        *case = ended;
                    }
                }
            }
        }
        self.count(open);
        Ok(())
    }

    fn count(&mut self, case: Option<(String, Case)>) {
        let Some((name, case)) = case else { return };
        self.total += 1;
        match case {
            Case::Passed => return,
            Case::Skipped => {
                self.skipped += 1;
                return;
            }
            Case::Failed => self.failed += 1,
            Case::Error => self.errors += 1,
        }
        if self.failures.len() < NAMED {
            self.failures.push(name);
        }
    }

    /// `12 tests, 2 failed, 1 skipped`.
    fn summary(&self) -> String {
        let noun = if self.total == 1 { "test" } else { "tests" };
        let mut words = vec![format!("{} {noun}", self.total)];
        for (count, word) in [
            (self.failed, "failed"),
            (self.errors, "with errors"),
            (self.skipped, "skipped"),
        ] {
            if count > 0 {
                words.push(format!("{count} {word}"));
            }
        }
        words.join(", ")
    }
}

/// `class: name`.
fn case_name(element: &BytesStart<'_>) -> String {
    let name = attribute(element, "name").unwrap_or_else(|| "a test without a name".to_owned());
    let full = match attribute(element, "classname").filter(|class| !class.is_empty()) {
        Some(class) => format!("{class}: {name}"),
        None => name,
    };
    written_out(&full.chars().take(NAME).collect::<String>()).into_owned()
}

/// An attribute's value; entities other than XML's own stay as they are written.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.attributes().flatten();
    let value = found
        .into_iter()
        .find(|known| known.key.local_name().as_ref() == name)?;
    let text = quick_xml::escape::unescape(&value.value).unwrap_or(Cow::Borrowed(&*value.value));
    Some(text.into_owned())
}

fn covered_lines(mut reader: Text) -> Result<Option<f64>, ReportError> {
    let mut buffer = Vec::new();
    while let Some(event) = next(&mut reader, &mut buffer)? {
        if let Event::Start(element) | Event::Empty(element) = event
            && element.local_name().as_ref() == "coverage"
        {
            let rate = attribute(&element, "line-rate").and_then(|rate| rate.parse::<f64>().ok());
            return Ok(rate
                .filter(|rate| (0.0..=1.0).contains(rate))
                .map(|rate| rate * 100.0));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Reports as a runner uploads them: members of one gzip file.
    fn read(kind: &str, files: &[&str]) -> Reports {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        for text in files {
            let level = flate2::Compression::fast();
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
            packed.write_all(text.as_bytes()).expect("packed");
            file.write_all(&packed.finish().expect("packed"))
                .expect("written");
        }
        Reports::read(&[JobArtifact {
            kind: kind.to_owned(),
            format: "gzip".to_owned(),
            file_name: "report.xml.gz".to_owned(),
            path: file.path().to_owned(),
        }])
    }

    #[test]
    fn cases_of_several_files_are_counted_and_failures_named() {
        let one = r#"<?xml version="1.0"?><testsuites><testsuite name="s" tests="3">
            <testcase classname="a.B" name="adds &lt;two&gt;"/>
            <testcase classname="a.B" name="divides"><failure message="no">text <b/></failure></testcase>
            <testcase name="later"><skipped/></testcase></testsuite></testsuites>"#;
        let two = r#"<testsuite><testcase name="breaks"><error/><system-out>x</system-out></testcase></testsuite>"#;
        let reports = read("junit", &[one, two]);
        let expected = [
            "4 tests, 1 failed, 1 with errors, 1 skipped",
            "✗ a.B: divides",
            "✗ breaks",
        ];
        assert_eq!(reports.lines(), expected);
    }

    #[test]
    fn hostile_reports_are_bounded_and_expand_nothing() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;"><!ENTITY d SYSTEM "file:///etc/passwd">]>
            <testsuite><testcase name="&c;&d;"><failure>&c;</failure></testcase></testsuite>"#;
        let reports = read("junit", &[bomb]);
        assert_eq!(reports.lines(), ["1 test, 1 failed", "✗ &c;&d;"]);
        let large = format!("<a>{}</a>", " ".repeat(LARGEST as usize + 1));
        let reports = read("junit", &[&large]);
        assert_eq!(reports.problems, ["junit report: larger than 32 MiB"]);
        let many = "<testcase name='\u{1b}[2Jx'><failure/></testcase>".repeat(1000);
        let reports = read("junit", &[&many]);
        let tests = reports.tests.expect("tests");
        assert_eq!((tests.failed, tests.failures.len()), (1000, NAMED));
        assert!(
            !tests.failures[0].contains('\u{1b}'),
            "{:?}",
            tests.failures[0]
        );
        let reports = read("junit", &["<testcase name='x'><failure"]);
        assert_eq!(reports.problems.len(), 1, "{reports:?}");
    }

    #[test]
    fn covered_lines_come_from_the_first_element() {
        let text =
            "<?xml version='1.0'?><!DOCTYPE coverage><coverage line-rate='0.875' version='1'>";
        assert_eq!(
            read("cobertura", &[text]).lines(),
            ["87.5 % of lines covered"]
        );
        assert_eq!(
            read("cobertura", &["<coverage line-rate='7'/>"]).covered_lines,
            None
        );
    }
}
