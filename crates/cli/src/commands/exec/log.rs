//! A job's log as lines for people: read where the coordinator stores it, without section markers.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Lines kept to be shown when the job fails.
const TAIL: usize = 20;
/// Bytes of one line; the rest of a longer one is left out.
const LINE: usize = 4096;

/// Follows a growing log.
#[derive(Debug)]
pub(super) struct LogFollower {
    path: PathBuf,
    offset: u64,
    line: Vec<u8>,
    tail: VecDeque<String>,
}

impl LogFollower {
    /// Nothing is read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            line: Vec::new(),
            tail: VecDeque::with_capacity(TAIL),
        }
    }

    /// The whole log on disk.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Gives every line that is complete by now to `each`.
    pub(super) fn follow(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // A job that printed nothing has no log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            // The log was discarded to be sent once more.
            self.offset = 0;
            self.line.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.offset += read as u64;
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                let (text, ends) = match piece.split_last() {
                    Some((b'\n', text)) => (text, true),
                    _ => (piece, false),
                };
                let room = LINE.saturating_sub(self.line.len());
                self.line.extend_from_slice(&text[..text.len().min(room)]);
                if ends {
                    self.end_line(&mut each);
                }
            }
        }
    }

    /// Like [`LogFollower::follow`]; the last line counts although nothing ended it.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        self.follow(&mut each)?;
        if !self.line.is_empty() {
            self.end_line(&mut each);
        }
        Ok(())
    }

    /// The last lines.
    pub(super) fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn end_line(&mut self, each: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.line);
        if let Some(text) = visible(&line) {
            each(&text);
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(text);
        }
        self.line.clear();
    }
}

/// The line without section markers and what carriage returns overwrote. `None`: nothing is left of a
/// line that was markers only.
fn visible(line: &str) -> Option<String> {
    let mut had_marker = false;
    let mut shown = "";
    for piece in line.trim_end_matches('\r').split('\r') {
        let text = piece.strip_prefix("\u{1b}[0K").unwrap_or(piece);
        if text.starts_with("section_start:") || text.starts_with("section_end:") {
            had_marker = true;
            shown = "";
        } else {
            shown = text;
        }
    }
    (!had_marker || !strip_colours(shown).is_empty()).then(|| only_colours(shown))
}

/// The text with colours and nothing else that moves a terminal: a job must not clear the screen of
/// who watches it, or set the window's title. Colours end with the line.
fn only_colours(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 4);
    let mut coloured = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                Some('[') => {
                    let mut sequence = String::from("\u{1b}[");
                    for c in rest.by_ref() {
                        sequence.push(c);
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                    if sequence.ends_with('m') {
                        out.push_str(&sequence);
                        coloured = true;
                    }
                }
                // A command of the window: up to BEL or ESC \\.
                Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if coloured && !out.ends_with("\u{1b}[0m") {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The text without escape sequences.
pub(super) fn strip_colours(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_markers_and_overwritten_text_are_not_shown() {
        let cases = [
            ("plain", Some("plain")),
            ("", Some("")),
            ("\u{1b}[32mgreen\u{1b}[0m", Some("\u{1b}[32mgreen\u{1b}[0m")),
            (
                "section_start:1700000000:step_script\r\u{1b}[0KRunning",
                Some("Running"),
            ),
            ("section_end:1700000000:step_script\r\u{1b}[0K", None),
            (
                "section_end:1:a\r\u{1b}[0Ksection_start:1:b\r\u{1b}[0K\u{1b}[0K\u{1b}[36;1mText",
                Some("\u{1b}[36;1mText\u{1b}[0m"),
            ),
            (
                "a\u{1b}[2J\u{1b}[1;1H\u{1b}]0;title\u{7}b\u{8}\u{9b}c\td",
                Some("abc\td"),
            ),
            ("cut \u{1b}[3", Some("cut ")),
            ("10%\r20%\r30%", Some("30%")),
            ("windows\r", Some("windows")),
        ];
        for (line, expected) in cases {
            assert_eq!(visible(line).as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_growing_log_is_read_line_by_line_and_long_lines_are_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("1.log");
        let mut log = LogFollower::new(path.clone());
        let mut lines: Vec<String> = Vec::new();
        log.follow(|line| lines.push(line.to_owned()))
            .expect("no file is no line");
        std::fs::write(&path, "one\ntw").expect("written");
        log.follow(|line| lines.push(line.to_owned()))
            .expect("read");
        assert_eq!(lines, ["one"]);
        std::fs::write(&path, format!("one\ntwo\n{}", "x".repeat(10_000))).expect("written");
        log.finish(|line| lines.push(line.to_owned()))
            .expect("read");
        assert_eq!(lines[1], "two");
        assert_eq!(lines[2].len(), LINE);
        assert_eq!(log.tail().count(), 3);
    }
}
