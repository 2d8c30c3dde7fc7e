//! A job's log on disk: bytes as `job::trace` made them, written once, read by offset.
//!
//! The file has no name and mode 0600. A full disk cuts the log, never the job.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use courser_executor::Output;
use courser_job::trace::{Log, Masking, Origin, Pipe, Stream};
use courser_protocol::TraceSummary;
use jiff::Timestamp;

/// The log of one job. Written by its task, read by its reporter.
pub(crate) struct JobLog {
    state: Mutex<State>,
    masking: Masking,
    timestamps: bool,
}

struct State {
    log: Log,
    /// The runner's own lines.
    messages: Stream,
    file: File,
    /// Bytes in the file.
    length: u64,
    /// Bytes were lost: the checksum would not match.
    cut: bool,
}

impl JobLog {
    /// An empty log of at most `limit` bytes, spooled in `directory`.
    pub(crate) fn create(
        directory: &Path,
        limit: u64,
        masking: Masking,
        timestamps: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                log: Log::new(limit),
                messages: Stream::new(&masking, Origin::Runner, Pipe::Stdout, timestamps),
                file: tempfile::tempfile_in(directory)?,
                length: 0,
                cut: false,
            }),
            masking,
            timestamps,
        })
    }

    /// Writes a line, or a section marker, of the runner itself.
    pub(crate) fn say(&self, text: &str) {
        let mut state = self.state();
        let State { log, messages, .. } = &mut *state;
        messages.write(text.as_bytes(), Timestamp::now(), log);
        state.spool();
    }

    /// The two streams of a stage.
    pub(crate) fn stage(self: &Arc<Self>) -> StageLog {
        let stream = |pipe| Stream::new(&self.masking, Origin::Script, pipe, self.timestamps);
        StageLog {
            stdout: stream(Pipe::Stdout),
            stderr: stream(Pipe::Stderr),
            log: Arc::clone(self),
        }
    }

    /// Ends the log: what was held back as a possible secret is written.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        let State { log, messages, .. } = &mut *state;
        messages.close(Timestamp::now(), log);
        log.finish();
        state.spool();
    }

    /// Bytes that can be read.
    pub(crate) fn length(&self) -> u64 {
        self.state().length
    }

    /// Checksum and size for updates; nothing when bytes were lost.
    pub(crate) fn summary(&self) -> TraceSummary {
        let state = self.state();
        if state.cut {
            TraceSummary::default()
        } else {
            state.log.summary()
        }
    }

    /// Up to `most` bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let state = self.state();
        let left = usize::try_from(state.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(most)];
        state.file.read_exact_at(&mut piece, offset)?;
        Ok(Bytes::from(piece))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spool(&mut self) {
        let bytes = self.log.take();
        if bytes.is_empty() || self.cut {
            return;
        }
        match self.file.write_all(&bytes) {
            Ok(()) => self.length += bytes.len() as u64,
            Err(error) => {
                tracing::error!("a job's log is cut here, it cannot be spooled: {error}");
                self.cut = true;
            }
        }
    }
}

/// Where a stage's output goes. Closed when dropped.
pub(crate) struct StageLog {
    stdout: Stream,
    stderr: Stream,
    log: Arc<JobLog>,
}

impl Output for StageLog {
    fn write(&mut self, stream: courser_executor::Stream, bytes: &[u8]) {
        let stream = match stream {
            courser_executor::Stream::Stdout => &mut self.stdout,
            courser_executor::Stream::Stderr => &mut self.stderr,
        };
        let mut state = self.log.state();
        stream.write(bytes, Timestamp::now(), &mut state.log);
        state.spool();
    }
}

impl Drop for StageLog {
    fn drop(&mut self) {
        let mut state = self.log.state();
        let now = Timestamp::now();
        self.stdout.close(now, &mut state.log);
        self.stderr.close(now, &mut state.log);
        state.spool();
    }
}

#[cfg(test)]
mod tests {
    use courser_executor::Stream as Source;
    use courser_protocol::Secret;

    use super::*;

    fn log(limit: u64) -> Arc<JobLog> {
        let masking = Masking::new(&[Secret::new("s3cret")], &[]).expect("one phrase");
        let log = JobLog::create(Path::new("/tmp"), limit, masking, false);
        Arc::new(log.expect("/tmp is writable"))
    }

    fn text(log: &JobLog) -> String {
        let bytes = log.read(0, 1 << 20).expect("the file is there");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn messages_and_both_pipes_end_in_one_masked_file() {
        let log = log(1 << 20);
        log.say("before\n");
        let mut stage = log.stage();
        stage.write(Source::Stdout, b"out s3c");
        stage.write(Source::Stderr, b"err\n");
        stage.write(Source::Stdout, b"ret\n");
        drop(stage);
        log.finish();
        assert_eq!(text(&log), "before\nout err\n[MASKED]\n");
        assert_eq!(log.summary().bytesize, Some(log.length()));
    }

    #[test]
    fn reading_past_the_end_gives_nothing() {
        let log = log(1 << 20);
        log.say("12345");
        assert_eq!(log.read(3, 10).expect("readable"), "45");
        assert_eq!(log.read(99, 10).expect("readable"), "");
    }

    #[test]
    fn a_log_beyond_its_limit_stays_small() {
        let log = log(10);
        let mut stage = log.stage();
        for _ in 0..1000 {
            stage.write(Source::Stdout, b"This is the long message");
        }
        drop(stage);
        log.finish();
        assert_eq!(log.summary().checksum, "crc32:295921ca");
    }
}
