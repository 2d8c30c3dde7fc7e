//! Logs of services in the job's, while it runs (`CI_DEBUG_SERVICES`, `executor-docker.md` 14.4).

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use courser_executor::Say;
use courser_job::messages;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::engine::{Engine, EngineError};

/// Bytes of a line; a longer one is shown in pieces.
const LONGEST_LINE: usize = 16 * 1024;

/// Services that are followed until this is dropped.
#[derive(Default)]
pub(crate) struct FollowedLogs {
    tasks: JoinSet<()>,
}

/// A service whose log is wanted.
pub(crate) struct Followed {
    /// Name of its container.
    pub(crate) container: String,
    /// Id of its container.
    pub(crate) id: String,
    /// Names by which the log calls it.
    pub(crate) aliases: Vec<String>,
}

impl FollowedLogs {
    /// Follows one from its beginning. `say` takes what goes wrong, `show` the lines.
    pub(crate) fn follow(&mut self, engine: &Engine, followed: Followed, say: &Say, show: &Say) {
        let (engine, say, show) = (engine.clone(), Arc::clone(say), Arc::clone(show));
        self.tasks.spawn(async move {
            let options = LogsOptionsBuilder::default()
                .follow(true)
                .stdout(true)
                .stderr(true)
                .timestamps(true)
                .build();
            let mut pieces = engine.api().logs(&followed.id, Some(options));
            // One for each of its outputs.
            let mut lines = [Lines::default(), Lines::default()];
            let mut opened = false;
            while let Some(piece) = pieces.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(error) => {
                        let why = EngineError::from(error).to_string();
                        let told = if opened {
                            messages::service_log_broken(&followed.container, &why)
                        } else {
                            messages::service_log_not_opened(&followed.container, &why)
                        };
                        say(&told);
                        break;
                    }
                };
                opened = true;
                let output = usize::from(matches!(piece, LogOutput::StdErr { .. }));
                lines[output].add(&piece.into_bytes(), |line| {
                    show(&messages::service_line(&followed.aliases, line));
                });
            }
            for lines in &mut lines {
                lines.end(|line| show(&messages::service_line(&followed.aliases, line)));
            }
        });
    }
}

/// Lines of an output that comes in pieces.
#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    fn add(&mut self, mut bytes: &[u8], mut show: impl FnMut(&str)) {
        while !bytes.is_empty() {
            let room = (LONGEST_LINE - self.unfinished.len()).min(bytes.len());
            let end = bytes[..room].iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.map_or(room, |end| end + 1));
            self.unfinished.extend_from_slice(line);
            bytes = rest;
            if end.is_some() || self.unfinished.len() == LONGEST_LINE {
                self.end(&mut show);
            }
        }
    }

    fn end(&mut self, mut show: impl FnMut(&str)) {
        if self.unfinished.is_empty() {
            return;
        }
        let line = self
            .unfinished
            .strip_suffix(b"\n")
            .unwrap_or(&self.unfinished);
        show(&String::from_utf8_lossy(line));
        self.unfinished.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_in_pieces_where_they_are_too_long() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        for piece in ["a", "b\nc\n\nd", "\n"] {
            lines.add(piece.as_bytes(), |line| shown.push(line.to_owned()));
        }
        assert_eq!(shown, ["ab", "c", "", "d"]);
        shown.clear();
        lines.add("x".repeat(LONGEST_LINE + 3).as_bytes(), |line| {
            shown.push(line.to_owned());
        });
        lines.end(|line| shown.push(line.to_owned()));
        let lengths: Vec<_> = shown.iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, 3]);
    }
}
