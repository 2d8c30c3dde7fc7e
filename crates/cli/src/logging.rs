//! The program's own log in the three formats of gitlab-runner (`runner-cli.md` 1.7).
//!
//! Other crates log with `tracing`, fields as in `tracing::info!(runner = %short, "message")`; the
//! messages and field names are an interface. Job output never comes through here.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use jiff::{Timestamp, Zoned};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use crate::arguments::GlobalOptions;
use crate::commands::Kind;
use crate::control_characters::written_out;
use crate::failure::Failure;

/// Target that makes an error line a fatal one; `tracing` has no such level.
pub(crate) const FATAL: &str = "fatal";
/// Target that makes an error line a panic one.
pub(crate) const PANIC: &str = "panic";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    /// Coloured lines that begin with the message.
    Runner,
    /// logrus' text form.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "runner" => Ok(Self::Runner),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Failure::invalid(format!(
                "unknown log format {text:?}, expected one of: runner, text, json"
            ))),
        }
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "error" => Ok(LevelFilter::ERROR),
        "fatal" | "panic" => Ok(LevelFilter::OFF),
        _ => Err(Failure::invalid(format!(
            "unknown log level {text:?}, expected one of: \
             trace, debug, info, warn, error, fatal, panic"
        ))),
    }
}

/// Level and format while the program runs.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    format: Arc<AtomicU8>,
    filter: reload::Handle<Targets, Registry>,
    level_is_given: bool,
    format_is_given: bool,
    counts: Arc<LineCounts>,
}

/// Lines of warning and above since the start.
#[derive(Debug, Default)]
struct LineCounts {
    warning: AtomicU64,
    error: AtomicU64,
    fatal: AtomicU64,
    panic: AtomicU64,
}

impl Log {
    /// How many lines of warning and above there were, by level.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 4] {
        let LineCounts {
            warning,
            error,
            fatal,
            panic,
        } = &*self.counts;
        [
            ("panic", panic),
            ("fatal", fatal),
            ("error", error),
            ("warning", warning),
        ]
        .map(|(level, count)| (level, count.load(Ordering::Relaxed)))
    }

    /// Takes level and format over from `config.toml`; what was given on the command line wins.
    pub(crate) fn follow_config(
        &self,
        level: Option<&str>,
        format: Option<&str>,
    ) -> Result<(), Failure> {
        if let Some(level) = level.filter(|text| !text.is_empty() && !self.level_is_given) {
            let level = parse_level(level)?;
            self.filter
                .modify(|filter| *filter = targets(level, level))
                .map_err(|error| Failure::internal(format!("cannot change the level: {error}")))?;
        }
        if let Some(format) = format.filter(|text| !text.is_empty() && !self.format_is_given) {
            self.format
                .store(Format::parse(format)? as u8, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Starts the log on standard error.
pub(crate) fn start(options: &GlobalOptions, kind: Kind) -> Result<Log, Failure> {
    let level_is_given = options.debug || options.log_level.is_some();
    let level = match &options.log_level {
        _ if options.debug => Ok(LevelFilter::DEBUG),
        Some(text) => parse_level(text),
        None if kind.speaks_as_runner() => Ok(LevelFilter::INFO),
        None => Ok(LevelFilter::WARN),
    };
    // `exec` shows how its jobs end; the runner inside need not say it again.
    let general = *level.as_ref().unwrap_or(&LevelFilter::INFO);
    let runner = if level_is_given || kind.speaks_as_runner() {
        general
    } else {
        LevelFilter::ERROR
    };
    let format = options
        .log_format
        .as_deref()
        .map_or(Ok(Format::Runner), Format::parse);
    let shared = Arc::new(AtomicU8::new(
        *format.as_ref().unwrap_or(&Format::Runner) as u8
    ));
    let (filter, handle) = reload::Layer::new(targets(general, runner));
    let counts = Arc::<LineCounts>::default();
    let lines = Lines {
        counts: Arc::clone(&counts),
        format: Arc::clone(&shared),
        terminal: std::io::stderr().is_terminal(),
        colours: kind.speaks_as_runner()
            || anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        start: Timestamp::now(),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(lines);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(filter).with(layer));
    level?;
    format?;
    Ok(Log {
        format: shared,
        counts,
        filter: handle,
        level_is_given,
        format_is_given: options.log_format.is_some(),
    })
}

/// A fatal line before there is a log.
pub(crate) fn print_fatal(message: &str) {
    let mut line = String::new();
    let entry = Entry {
        severity: Severity::Fatal,
        message: message.to_owned(),
        fields: BTreeMap::new(),
    };
    if entry.write_runner(&mut line).is_ok() {
        eprint!("{line}");
    }
}

/// Only our own crates speak; fatal lines always do.
fn targets(level: LevelFilter, runner: LevelFilter) -> Targets {
    Targets::new()
        .with_target("courser", level)
        .with_target("courser_runner", runner)
        .with_target(FATAL, LevelFilter::ERROR)
        .with_target(PANIC, LevelFilter::ERROR)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
    Panic,
}

impl Severity {
    fn of(metadata: &tracing::Metadata<'_>) -> Self {
        match (*metadata.level(), metadata.target()) {
            (Level::ERROR, FATAL) => Self::Fatal,
            (Level::ERROR, PANIC) => Self::Panic,
            (Level::ERROR, _) => Self::Error,
            (Level::WARN, _) => Self::Warning,
            (Level::INFO, _) => Self::Info,
            (Level::DEBUG, _) => Self::Debug,
            (Level::TRACE, _) => Self::Trace,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
            Self::Panic => "panic",
        }
    }

    /// Colour and prefix of the `runner` format.
    fn decoration(self) -> (&'static str, &'static str) {
        match self {
            Self::Trace | Self::Info => ("", ""),
            Self::Debug => ("\x1b[37;1m", ""),
            Self::Warning => ("\x1b[0;33m", "WARNING: "),
            Self::Error => ("\x1b[31;1m", "ERROR: "),
            Self::Fatal => ("\x1b[31;1m", "FATAL: "),
            Self::Panic => ("\x1b[31;1m", "PANIC: "),
        }
    }

    /// Four letters and the colour of logrus' terminal form.
    fn terminal_form(self) -> (&'static str, u8) {
        match self {
            Self::Trace => ("TRAC", 37),
            Self::Debug => ("DEBU", 37),
            Self::Info => ("INFO", 36),
            Self::Warning => ("WARN", 33),
            Self::Error => ("ERRO", 31),
            Self::Fatal => ("FATA", 31),
            Self::Panic => ("PANI", 31),
        }
    }
}

/// Turns events into lines.
struct Lines {
    counts: Arc<LineCounts>,
    format: Arc<AtomicU8>,
    terminal: bool,
    /// gitlab-runner's own format is coloured wherever it goes; for Courser's commands a terminal decides.
    colours: bool,
    start: Timestamp,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut entry = Entry {
            severity: Severity::of(event.metadata()),
            message: String::new(),
            fields: BTreeMap::new(),
        };
        event.record(&mut entry);
        self.counts.add(entry.severity);
        let mut line = String::with_capacity(160);
        match self.format.load(Ordering::Relaxed) {
            format if format == Format::Json as u8 => entry.write_json(&mut line, &Zoned::now())?,
            format if format == Format::Text as u8 && self.terminal => {
                let seconds = Timestamp::now().as_second() - self.start.as_second();
                entry.write_text_on_terminal(&mut line, seconds)?;
            }
            format if format == Format::Text as u8 => entry.write_text(&mut line, &Zoned::now())?,
            _ => entry.write_runner(&mut line)?,
        }
        if self.colours {
            writer.write_str(&line)
        } else {
            write!(writer, "{}", anstream::adapter::strip_str(&line))
        }
    }
}

impl LineCounts {
    fn add(&self, severity: Severity) {
        let count = match severity {
            Severity::Trace | Severity::Debug | Severity::Info => return,
            Severity::Warning => &self.warning,
            Severity::Error => &self.error,
            Severity::Fatal => &self.fatal,
            Severity::Panic => &self.panic,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One line to be.
struct Entry {
    severity: Severity,
    message: String,
    fields: BTreeMap<&'static str, Value>,
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name(), Value::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.insert(field.name(), value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.insert(field.name(), value.into());
    }
}

impl Entry {
    fn write_runner(&self, line: &mut String) -> fmt::Result {
        const RESET: &str = "\x1b[0;m";
        let (colour, prefix) = self.severity.decoration();
        let width = 50 - prefix.len();
        write!(
            line,
            "{colour}{prefix}{:<width$}{RESET} ",
            written_out(&self.message)
        )?;
        for (name, value) in &self.fields {
            write!(
                line,
                " {colour}{name}{RESET}={}",
                written_out(&plain(value))
            )?;
        }
        line.push('\n');
        Ok(())
    }

    fn write_text(&self, line: &mut String, now: &Zoned) -> fmt::Result {
        write!(
            line,
            "time=\"{}\" level={} msg={}",
            rfc3339(now),
            self.severity.name(),
            quoted(&self.message),
        )?;
        for (name, value) in &self.fields {
            write!(line, " {}={}", free_name(name), quoted(&plain(value)))?;
        }
        line.push('\n');
        Ok(())
    }

    fn write_text_on_terminal(&self, line: &mut String, seconds: i64) -> fmt::Result {
        let (letters, colour) = self.severity.terminal_form();
        write!(
            line,
            "\x1b[{colour}m{letters}\x1b[0m[{seconds:04}] {:<44} ",
            written_out(&self.message)
        )?;
        for (name, value) in &self.fields {
            let value = quoted(&plain(value));
            write!(line, " \x1b[{colour}m{}\x1b[0m={value}", free_name(name))?;
        }
        line.push('\n');
        Ok(())
    }

    fn write_json(&self, line: &mut String, now: &Zoned) -> fmt::Result {
        let mut object: BTreeMap<String, Value> = self
            .fields
            .iter()
            .map(|(name, value)| (free_name(name), value.clone()))
            .collect();
        object.insert("level".to_owned(), self.severity.name().into());
        object.insert("msg".to_owned(), self.message.as_str().into());
        object.insert("time".to_owned(), rfc3339(now).into());
        let json = serde_json::to_string(&object).map_err(|_| fmt::Error)?;
        for letter in json.chars() {
            // Go escapes these wherever they stand; in JSON they can only stand inside texts.
            match letter {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    write!(line, "\\u{:04x}", u32::from(letter))?;
                }
                letter => line.push(letter),
            }
        }
        line.push('\n');
        Ok(())
    }
}

/// A field that has the name of a fixed one is moved aside.
fn free_name(name: &str) -> String {
    match name {
        "level" | "msg" | "time" => format!("fields.{name}"),
        name => name.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// logrus quotes whatever holds more than letters, digits and `-._/@^+`.
fn quoted(text: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || "-._/@^+".contains(letter);
    if text.chars().all(bare) {
        text.to_owned()
    } else {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for letter in text.chars() {
            match letter {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                letter if letter.is_control() => {
                    quoted.extend(format!("\\x{:02x}", u32::from(letter)).chars());
                }
                letter => quoted.push(letter),
            }
        }
        quoted.push('"');
        quoted
    }
}

/// RFC 3339 with nanoseconds, trailing zeros cut, `Z` for UTC, as Go writes it.
fn rfc3339(now: &Zoned) -> String {
    if now.offset().seconds() == 0 {
        now.timestamp().to_string()
    } else {
        now.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(severity: Severity, message: &str, fields: &[(&'static str, Value)]) -> Entry {
        Entry {
            severity,
            message: message.to_owned(),
            fields: fields.iter().cloned().collect(),
        }
    }

    fn noon() -> Zoned {
        "2026-08-01T12:00:00.5+02:00[+02:00]"
            .parse()
            .expect("a time")
    }

    #[test]
    fn what_a_server_says_does_not_steer_the_terminal() {
        let hostile = "403 \x1b]0;owned\x07\r\u{9b}2J";
        let entry = entry(Severity::Warning, hostile, &[("status", hostile.into())]);
        let (mut runner, mut text) = (String::new(), String::new());
        entry.write_runner(&mut runner).expect("written");
        entry.write_text_on_terminal(&mut text, 0).expect("written");
        for line in [runner, text] {
            assert!(line.contains("403 \\u{1b}]0;owned\\u{7}"), "{line:?}");
            for control in ["\x1b]", "\x07", "\r", "\u{9b}"] {
                assert!(!line.contains(control), "{line:?}");
            }
        }
    }

    #[test]
    fn runner_lines_begin_with_the_message_and_pad_it_to_fifty() {
        let mut line = String::new();
        entry(
            Severity::Info,
            "Verifying runner... is alive",
            &[("runner", "abc".into()), ("correlation_id", "1".into())],
        )
        .write_runner(&mut line)
        .expect("written");
        assert_eq!(
            line,
            "Verifying runner... is alive                      \x1b[0;m  correlation_id\x1b[0;m=1 runner\x1b[0;m=abc\n"
        );
        let mut line = String::new();
        entry(Severity::Fatal, "no", &[])
            .write_runner(&mut line)
            .expect("written");
        assert_eq!(line, format!("\x1b[31;1mFATAL: {:<43}\x1b[0;m \n", "no"));
    }

    #[test]
    fn text_lines_are_those_of_logrus() {
        let mut line = String::new();
        let fields = [
            ("pid", 7.into()),
            ("msg", "two words".into()),
            ("os", "linux".into()),
        ];
        let warning = entry(Severity::Warning, "a \"b\"\n", &fields);
        warning.write_text(&mut line, &noon()).expect("written");
        assert_eq!(
            line,
            "time=\"2026-08-01T12:00:00.5+02:00\" level=warning msg=\"a \\\"b\\\"\\n\" fields.msg=\"two words\" os=linux pid=7\n"
        );
        let mut line = String::new();
        warning
            .write_text_on_terminal(&mut line, 12)
            .expect("written");
        assert!(line.starts_with("\x1b[33mWARN\x1b[0m[0012] a \"b\"\n"));
    }

    #[test]
    fn json_lines_are_sorted_and_escape_what_go_escapes() {
        let mut line = String::new();
        entry(
            Severity::Info,
            "<a> & b",
            &[
                ("zone", 1.5.into()),
                ("level", true.into()),
                ("alpha", "x".into()),
            ],
        )
        .write_json(&mut line, &noon())
        .expect("written");
        assert_eq!(
            line,
            "{\"alpha\":\"x\",\"fields.level\":true,\"level\":\"info\",\"msg\":\"\\u003ca\\u003e \\u0026 b\",\
             \"time\":\"2026-08-01T12:00:00.5+02:00\",\"zone\":1.5}\n"
        );
    }

    #[test]
    fn unknown_levels_and_formats_are_refused() {
        assert!(parse_level("loud").is_err());
        assert!(Format::parse("xml").is_err());
        assert_eq!(parse_level("WARNING").ok(), Some(LevelFilter::WARN));
    }
}
