//! A job's log: bytes as `job::trace` made them, written once, read by offset, kept in the spool.
//!
//! A full disk, or a full spool, cuts the log, never the job: one line says so, and the job goes on.

mod kept;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use courser_executor::{Footprint, Output};
use courser_job::trace::{Digest, Log, Masking, Origin, Pipe, Stream};
use courser_protocol::TraceSummary;
use jiff::Timestamp;
use tokio::sync::Notify;

use kept::{Found, Kept};

use crate::platform;
use crate::spool::journal::{FinalState, Record};
use crate::spool::{JobFiles, LeaseJournal, LeftOver, Unfinished, Unsynced};

/// The log of one job. Written by its task, read by its reporter.
pub(crate) struct JobLog {
    state: Mutex<State>,
    /// There is more than [`State::wanted`] now.
    grown: Notify,
    masking: Mutex<Masking>,
    timestamps: bool,
}

struct State {
    log: Log,
    /// The runner's own lines.
    messages: Stream,
    /// Lines of services.
    services: Stream,
    kept: Kept,
    /// Length that somebody waits for.
    wanted: u64,
}

/// What a log that was left behind needs beside its bytes.
pub(crate) struct Reopened {
    pub(crate) log: JobLog,
    /// The server has the bytes before this one, as far as is known.
    pub(crate) acknowledged: u64,
    /// The server was told that the job runs.
    pub(crate) started: bool,
    /// What was decided, if it was.
    pub(crate) ended: Option<FinalState>,
}

impl JobLog {
    /// An empty log of at most `limit` bytes, kept in `files`. Without files the beginning is kept in memory.
    pub(crate) fn new(
        files: Option<JobFiles>,
        limit: u64,
        masking: Masking,
        timestamps: bool,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                log: Log::new(limit),
                messages: Stream::new(&masking, Origin::Runner, Pipe::Stdout, timestamps),
                services: Stream::new(&masking, Origin::Service, Pipe::Stdout, timestamps),
                kept: Kept::new(files),
                wanted: u64::MAX,
            }),
            grown: Notify::new(),
            masking: Mutex::new(masking),
            timestamps,
        }
    }

    /// A log that another process began.
    pub(crate) fn reopen(left: LeftOver, masking: Masking) -> io::Result<Reopened> {
        let LeftOver {
            files,
            job,
            records,
            unfinished: _,
        } = left;
        let (mut acknowledged, mut dropped) = (0, None);
        let (mut started, mut ended, mut lost) = (false, None, false);
        for record in records {
            match record {
                Record::Job(_) | Record::Footprint(_) | Record::Swept => {}
                Record::Started => started = true,
                Record::Acknowledged { offset } => acknowledged = offset,
                Record::Dropped { offset, checksum } => {
                    dropped = Some(Digest::resume(checksum, offset));
                }
                Record::Cut => lost = true,
                Record::Ended(state) => ended = Some(state),
            }
        }
        let kept = Kept::reopen(files, dropped.unwrap_or_default(), lost)?;
        let log = Self::new(None, job.limit, masking, job.timestamps);
        {
            let mut state = log.state();
            state.log = Log::resume(job.limit, kept.length());
            state.kept = kept;
        }
        Ok(Reopened {
            acknowledged: acknowledged.max(log.begin()),
            log,
            started,
            ended,
        })
    }

    /// Writes a line, or a section marker, of the runner itself.
    pub(crate) fn say(&self, text: &str) {
        let mut state = self.state();
        let State { log, messages, .. } = &mut *state;
        messages.write(text.as_bytes(), Timestamp::now(), log);
        state.keep();
    }

    /// Writes a line of a service.
    pub(crate) fn say_of_services(&self, text: &str) {
        let mut state = self.state();
        let State { log, services, .. } = &mut *state;
        services.write(text.as_bytes(), Timestamp::now(), log);
        state.keep();
    }

    /// The two streams of a stage.
    pub(crate) fn stage(self: &Arc<Self>) -> StageLog {
        let masking = self.masking.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = |pipe| Stream::new(&masking, Origin::Script, pipe, self.timestamps);
        StageLog {
            stdout: stream(Pipe::Stdout),
            stderr: stream(Pipe::Stderr),
            log: Arc::clone(self),
        }
    }

    /// Ends the log: what was held back as a possible secret is written.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        let State {
            log,
            messages,
            services,
            ..
        } = &mut *state;
        services.close(Timestamp::now(), log);
        messages.close(Timestamp::now(), log);
        log.finish();
        state.keep();
    }

    /// Bytes that can be read.
    pub(crate) fn length(&self) -> u64 {
        self.state().kept.length()
    }

    /// Returns when there are that many bytes behind `offset`.
    pub(crate) async fn waiting(&self, offset: u64, bytes: u64) {
        let wanted = offset.saturating_add(bytes);
        loop {
            {
                let mut state = self.state();
                if state.kept.length() >= wanted {
                    state.wanted = u64::MAX;
                    return;
                }
                state.wanted = wanted;
            }
            self.grown.notified().await;
        }
    }

    /// First byte that can be read.
    pub(crate) fn begin(&self) -> u64 {
        self.state().kept.begin()
    }

    /// Checksum and size for updates; nothing when bytes were lost.
    pub(crate) fn summary(&self) -> TraceSummary {
        self.state().kept.summary()
    }

    /// Whether the last byte that is kept ends a line.
    pub(crate) fn ends_a_line(&self) -> bool {
        let length = self.length();
        let last = self.read(length.saturating_sub(1), 1, &mut BytesMut::new());
        last.is_ok_and(|last| matches!(last.first(), None | Some(b'\n')))
    }

    /// Up to `most` bytes from `offset`; `room` is used again by the next call. Bytes that were dropped are an
    /// error.
    pub(crate) fn read(&self, offset: u64, most: usize, room: &mut BytesMut) -> io::Result<Bytes> {
        let found = self.state().kept.find(offset, most)?;
        match found {
            Found::InMemory(bytes) => Ok(bytes),
            // What was written stays as it is until it is acknowledged: nobody has to wait.
            Found::InFile(file, length) => {
                room.resize(length, 0);
                platform::read_exact_at(&file, room, offset)?;
                Ok(room.split().freeze())
            }
        }
    }

    /// The server has the bytes before `offset`.
    pub(crate) fn acknowledged(&self, offset: u64) {
        self.state().kept.acknowledged(offset);
    }

    /// The server has more than is here, as after a power failure: what follows goes behind it. `false`: it does not,
    /// the log ends here.
    pub(crate) fn skip_to(&self, offset: u64) -> bool {
        self.state().kept.skip_to(offset)
    }

    /// Whether there is a checksum of all bytes.
    pub(crate) fn is_whole(&self) -> bool {
        self.state().kept.is_whole()
    }

    /// The server can never have all bytes: there is no checksum any more.
    pub(crate) fn lose(&self) {
        self.state().kept.lose();
    }

    /// The server was told that the job runs.
    pub(crate) fn started(&self) {
        self.state().kept.record(&Record::Started);
    }

    /// Writes down how to find what the job leaves behind, should this process die.
    pub(crate) fn footprint(&self, footprint: Footprint) {
        self.state().kept.record(&Record::Footprint(footprint));
    }

    /// Keeps what another process needs to go on with a job whose scripts are over.
    pub(crate) fn unfinished(&self, job: &Unfinished<'_>) {
        self.state().kept.unfinished(job);
    }

    /// Where the job's tokens and leases are written down.
    pub(crate) fn lease_journal(&self, job: i64, ca_file: Option<String>) -> Option<LeaseJournal> {
        self.state().kept.lease_journal(job, ca_file)
    }

    /// Masks more from now on. Between stages: what a stage has begun to write is masked as before.
    pub(crate) fn mask(&self, masking: Masking) {
        let mut state = self.state();
        let now = Timestamp::now();
        let State {
            log,
            messages,
            services,
            ..
        } = &mut *state;
        for (stream, origin) in [(messages, Origin::Runner), (services, Origin::Service)] {
            stream.close(now, log);
            *stream = Stream::new(&masking, origin, Pipe::Stdout, self.timestamps);
        }
        state.keep();
        *self.masking.lock().unwrap_or_else(PoisonError::into_inner) = masking;
    }

    /// Writes down what will be reported.
    pub(crate) fn ended(&self, state: &FinalState) {
        self.state().kept.ended(state);
    }

    /// What a power failure must not take.
    pub(crate) fn unsynced(&self) -> Option<Unsynced> {
        self.state().kept.unsynced()
    }

    /// The server knows everything: nothing stays on the disk.
    pub(crate) fn remove(&self) {
        self.state().kept.remove();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps what became final.
    fn keep(&mut self) {
        let Self { log, kept, .. } = self;
        log.drain(|bytes| kept.append(bytes));
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
        state.keep();
        if state.kept.length() >= state.wanted {
            self.log.grown.notify_one();
        }
    }

    /// Only the stamp of a line tells where it came from.
    fn tells_streams_apart(&self) -> bool {
        self.log.timestamps
    }
}

impl Drop for StageLog {
    fn drop(&mut self) {
        let mut state = self.log.state();
        let now = Timestamp::now();
        self.stdout.close(now, &mut state.log);
        self.stderr.close(now, &mut state.log);
        state.keep();
    }
}

#[cfg(test)]
mod tests {
    use courser_executor::Stream as Source;
    use courser_protocol::Secret;

    use super::*;
    use crate::spool::journal::JobRecord;
    use crate::spool::{Spool, SpoolLimits};

    fn log(limit: u64) -> Arc<JobLog> {
        let masking = Masking::new(&[Secret::new("s3cret")], &[]).expect("one phrase");
        Arc::new(JobLog::new(None, limit, masking, false))
    }

    fn text(log: &JobLog) -> String {
        let bytes = log.read(0, 1 << 20, &mut BytesMut::new());
        let bytes = bytes.expect("the file is there");
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
        let read = |offset| log.read(offset, 10, &mut BytesMut::new());
        assert_eq!(read(3).expect("readable"), "45");
        assert_eq!(read(99).expect("readable"), "");
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

    #[test]
    fn a_log_that_another_process_ended_at_its_limit_grows_no_further() {
        let directory = tempfile::tempdir().expect("a directory");
        let limits = SpoolLimits {
            job: u64::MAX,
            total: u64::MAX,
        };
        let spool = Spool::open(directory.path().join("spool"), limits).expect("a spool");
        let nothing = || Masking::new(&[], &[]).expect("nothing to mask");
        let record = JobRecord {
            limit: 10,
            ..JobRecord::for_test()
        };
        let files = spool.begin(record).expect("files of a job");
        let log = JobLog::new(Some(files), 10, nothing(), false);
        log.say("12345");
        drop(log);
        let reopen = || {
            let reopened = JobLog::reopen(spool.left_over().remove(0), nothing());
            reopened.expect("a log").log
        };
        let log = reopen();
        log.say("67890 and more");
        let ended = text(&log);
        assert!(ended.starts_with("1234567890"), "{ended}");
        assert!(!ended.contains("and more"), "{ended}");
        drop(log);
        let log = reopen();
        log.say("last words");
        assert_eq!(text(&log), ended);
    }
}
