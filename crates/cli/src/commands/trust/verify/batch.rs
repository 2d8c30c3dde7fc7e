//! `--batch`: one JSON object a line in, one a line out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use courser_trust::{Generation, Moment, Source, SourceContent, Store};
use serde_json::{Map, Value};

use super::question::{Purpose, Question, Unusable, trusted};
use crate::failure::{Code, Failure};

/// A bundle of all roots of the world and a chain that fills a handshake have a tenth of this.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// Programs of Windows begin files with it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Bundles that are kept parsed, and the largest text that is.
const KEPT_BUNDLES: usize = 16;
const LARGEST_KEPT_BUNDLE: usize = 1024 * 1024;

/// Answers every line. The exit code is 2 when one of them could not be used.
pub(super) fn run(file: &Path, system: Option<Arc<Store>>) -> Result<ExitCode, Failure> {
    let unreadable =
        |error: io::Error| Failure::invalid(format!("cannot read {}: {error}", file.display()));
    let input: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(unreadable)?)
    };
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut output = BufWriter::new(io::stdout().lock());
    let mut bundles = Bundles::new(system);
    let mut all_usable = true;
    let mut line = Vec::new();
    let mut is_first = true;
    while let Some(whole) = read_line(&mut input, &mut line).map_err(unreadable)? {
        if std::mem::take(&mut is_first) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if whole && line.trim_ascii().is_empty() {
            continue;
        }
        let answer = if whole {
            answer(&line, &mut bundles)
        } else {
            Answer::unusable(
                Value::Null,
                format!("the line is longer than {LONGEST_LINE} bytes"),
            )
        };
        all_usable &= answer.usable;
        // Whoever asks line by line waits for the answer.
        let waits = input.buffer().is_empty();
        match answer.write(&mut output, waits) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| {
                Failure::new(
                    Code::Surroundings,
                    format!("cannot write to standard output: {error}"),
                )
            })?,
        }
    }
    Ok(if all_usable {
        ExitCode::SUCCESS
    } else {
        Code::Invalid.into()
    })
}

/// The next line without its end; `None` at the end of the input, `false` for one that is too long, which is skipped.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let length = input
        .by_ref()
        .take(LONGEST_LINE + 1)
        .read_until(b'\n', line)?;
    if length == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(true));
    }
    if length as u64 <= LONGEST_LINE {
        return Ok(Some(true));
    }
    line.clear();
    input.skip_until(b'\n')?;
    Ok(Some(false))
}

/// One line of the answer.
struct Answer {
    id: Value,
    usable: bool,
    error: Option<String>,
}

impl Answer {
    fn unusable(id: Value, why: impl std::fmt::Display) -> Self {
        Self {
            id,
            usable: false,
            error: Some(format!("unusable input: {why}")),
        }
    }

    fn write(&self, output: &mut impl Write, flush: bool) -> io::Result<()> {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            id: &'a Value,
            accepted: bool,
            error: Option<&'a str>,
        }
        let line = Line {
            id: &self.id,
            accepted: self.error.is_none(),
            error: self.error.as_deref(),
        };
        serde_json::to_writer(&mut *output, &line)?;
        output.write_all(b"\n")?;
        if flush { output.flush() } else { Ok(()) }
    }
}

fn answer(line: &[u8], bundles: &mut Bundles) -> Answer {
    let mut fields: Map<String, Value> = match serde_json::from_slice(line) {
        Ok(fields) => fields,
        Err(error) => return Answer::unusable(Value::Null, format!("no JSON object: {error}")),
    };
    let id = fields.remove("id").unwrap_or_default();
    match ask(&fields, bundles) {
        Ok(error) => Answer {
            id,
            usable: true,
            error,
        },
        Err(why) => Answer::unusable(id, why),
    }
}

/// The verdict: an error's sentence, or none.
fn ask(fields: &Map<String, Value>, bundles: &mut Bundles) -> Result<Option<String>, String> {
    let purpose = match text(fields, "purpose")? {
        None | Some("server") => Purpose::Server,
        Some("client") => Purpose::Client,
        Some(other) => return Err(format!("purpose: {other:?} is neither server nor client")),
    };
    let at = match text(fields, "at")? {
        None => crate::commands::trust::now(),
        Some(at) => {
            Moment::parse_rfc3339(at).ok_or_else(|| format!("at: {at:?} is no time in RFC 3339"))?
        }
    };
    let ca = text(fields, "ca")?.ok_or("ca: missing")?;
    let chain = text(fields, "chain")?.ok_or("chain: missing")?;
    let store = bundles.store(ca).map_err(|error| format!("ca: {error}"))?;
    let question = Question::new(
        store,
        Source::Inline("chain".to_owned()),
        chain.as_bytes(),
        text(fields, "host")?,
        at,
        purpose,
    )
    .map_err(|error| match error {
        Unusable::Host(_) => error.to_string(),
        _ => format!("chain: {error}"),
    })?;
    Ok(question.answer().err().map(|error| error.to_string()))
}

/// A field with text; `null` counts as absent.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: not a string")),
    }
}

/// Parsed bundles, the last used first: a batch asks many questions about few.
struct Bundles {
    system: Option<Arc<Store>>,
    parsed: VecDeque<(String, Arc<Store>)>,
}

impl Bundles {
    fn new(system: Option<Arc<Store>>) -> Self {
        Self {
            system,
            parsed: VecDeque::new(),
        }
    }

    fn store(&mut self, text: &str) -> Result<Arc<Store>, Unusable> {
        if let Some(at) = self.parsed.iter().position(|(known, _)| known == text)
            && let Some(found) = self.parsed.remove(at)
        {
            let store = Arc::clone(&found.1);
            self.parsed.push_front(found);
            return Ok(store);
        }
        let source = Source::Inline("ca".to_owned());
        let content = trusted(SourceContent::read(source, text.as_bytes()))?;
        let mut builder = Store::builder();
        if let Some(system) = &self.system {
            builder = builder.include(system);
        }
        let store = Arc::new(builder.add_content(&content).build(Generation(1)));
        if text.len() <= LARGEST_KEPT_BUNDLE {
            self.parsed.truncate(KEPT_BUNDLES - 1);
            self.parsed
                .push_front((text.to_owned(), Arc::clone(&store)));
        }
        Ok(store)
    }
}
