//! The bytes of a log where they are kept: in the job's file, and at its end in memory what had no room there.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use courser_job::messages;
use courser_job::trace::Digest;
use courser_protocol::TraceSummary;

use crate::platform;
use crate::spool::journal::{FinalState, Record};
use crate::spool::{JobFiles, LeaseJournal, Unfinished, Unsynced};

/// Of a job without files: what it may print before its log is cut.
const WITHOUT_FILES: usize = 256 * 1024;

/// A log up to this size is kept whole until the job is over, should the server want it again.
const KEPT_WHOLE: u64 = 64 << 20;

/// Of a longer one, what was acknowledged is given back in pieces of this size: pages that never reach the disk.
const PIECE: u64 = 8 << 20;

/// What is kept of a log.
pub(super) struct Kept {
    /// `None`: the disk has no room at all, or the job is over.
    files: Option<JobFiles>,
    digest: Digest,
    /// Bytes in the file; the rest is in `tail`.
    filed: u64,
    /// What could not be written to the disk: the notice, and all of a job without files.
    tail: Vec<u8>,
    /// Nothing more is kept.
    cut: bool,
    /// Bytes were lost that the server may have: the checksum would not match.
    lost: bool,
    /// Bytes before this one are not kept any more.
    dropped: u64,
    /// Checksums on the way, at ends of pieces that may be dropped.
    marks: Vec<(u64, u32)>,
}

/// Where bytes are.
pub(super) enum Found {
    InMemory(Bytes),
    /// That many, in the file at the place that was asked for.
    InFile(Arc<File>, usize),
}

impl Kept {
    pub(super) fn new(files: Option<JobFiles>) -> Self {
        Self {
            files,
            digest: Digest::default(),
            filed: 0,
            tail: Vec::new(),
            cut: false,
            lost: false,
            dropped: 0,
            marks: Vec::new(),
        }
    }

    /// What another process kept; `dropped` stands for the bytes that it had given back.
    pub(super) fn reopen(files: JobFiles, dropped: Digest, lost: bool) -> io::Result<Self> {
        let filed = files.log.metadata()?.len().max(dropped.size());
        Ok(Self {
            filed,
            lost,
            dropped: dropped.size(),
            digest: with_file(dropped, &files.log, filed)?,
            ..Self::new(Some(files))
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.filed + self.tail.len() as u64
    }

    /// First byte that is there.
    pub(super) fn begin(&self) -> u64 {
        self.dropped
    }

    pub(super) fn summary(&self) -> TraceSummary {
        if self.lost {
            TraceSummary::default()
        } else {
            self.digest.summary()
        }
    }

    pub(super) fn find(&self, offset: u64, most: usize) -> io::Result<Found> {
        if offset < self.dropped {
            let dropped = self.dropped;
            return Err(io::Error::other(format!(
                "its first {dropped} bytes are not kept any more"
            )));
        }
        if let Some(files) = &self.files
            && offset < self.filed
        {
            let left = usize::try_from(self.filed - offset).unwrap_or(usize::MAX);
            return Ok(Found::InFile(Arc::clone(&files.log), left.min(most)));
        }
        let from = usize::try_from(offset.saturating_sub(self.filed)).unwrap_or(usize::MAX);
        let rest = self.tail.get(from..).unwrap_or_default();
        let bytes = Bytes::copy_from_slice(&rest[..rest.len().min(most)]);
        Ok(Found::InMemory(bytes))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.cut {
            return;
        }
        let Some(files) = &mut self.files else {
            if self.tail.len() + bytes.len() > WITHOUT_FILES {
                self.cut("there is no room for it on the disk");
            } else {
                self.keep_in_memory(bytes);
            }
            return;
        };
        if let Some(why) = files.refuses(bytes.len() as u64) {
            self.cut(&why);
            return;
        }
        let (written, error) = write_as_much(&files.log, bytes, self.filed);
        files.grow(written as u64);
        self.filed += written as u64;
        self.digest.update(&bytes[..written]);
        if let Some(error) = error {
            tracing::error!("a job's log is cut here, it cannot be written: {error}");
            self.cut(&format!("it cannot be written to the disk ({error})"));
            return;
        }
        let passed = self.filed / PIECE;
        if self.marks.last().map_or(0, |(end, _)| end / PIECE) < passed {
            self.marks.push((self.filed, self.digest.checksum()));
        }
    }

    /// Ends the log with a line that says why; the line is kept in memory, there is no room for it.
    fn cut(&mut self, why: &str) {
        self.cut = true;
        self.record(&Record::Cut);
        self.keep_in_memory(messages::log_not_kept(why).as_bytes());
    }

    fn keep_in_memory(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.digest.update(bytes);
    }

    pub(super) fn acknowledged(&mut self, offset: u64) {
        self.record(&Record::Acknowledged { offset });
        if self.filed <= KEPT_WHOLE {
            return;
        }
        let passed = self.marks.partition_point(|(end, _)| *end <= offset);
        let Some((offset, checksum)) = self.marks[..passed].last().copied() else {
            return;
        };
        self.marks.drain(..passed);
        self.record(&Record::Dropped { offset, checksum });
        if let Some(files) = &mut self.files
            && files.give_back(self.dropped, offset)
        {
            self.dropped = offset;
        }
    }

    /// Whether what follows goes to `offset` now; not behind what had no room on the disk.
    pub(super) fn skip_to(&mut self, offset: u64) -> bool {
        if offset <= self.length() || !self.tail.is_empty() {
            return false;
        }
        (self.filed, self.dropped) = (offset, offset);
        self.lose();
        let checksum = 0;
        self.record(&Record::Dropped { offset, checksum });
        true
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.lost
    }

    pub(super) fn lose(&mut self) {
        if !std::mem::replace(&mut self.lost, true) {
            self.record(&Record::Cut);
        }
    }

    /// Without its records a job is reported as well as one can after a crash, so this is no failure.
    /// Returns whether it stands there.
    pub(super) fn record(&mut self, record: &Record) -> bool {
        let Some(files) = &mut self.files else {
            return false;
        };
        match files.record(record) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("cannot write the journal of a job: {error}");
                false
            }
        }
    }

    /// Without it the job is failed should this process die, so this is no failure either.
    pub(super) fn unfinished(&self, job: &Unfinished<'_>) {
        if let Some(files) = &self.files
            && let Err(error) = files.keep_unfinished(job)
        {
            tracing::warn!("cannot keep what is needed to go on with a job: {error}");
        }
    }

    /// Where the job's tokens and leases are written down; nowhere where it has no files.
    pub(super) fn lease_journal(&self, job: i64, ca_file: Option<String>) -> Option<LeaseJournal> {
        Some(self.files.as_ref()?.lease_journal(job, ca_file))
    }

    /// What will be reported.
    pub(super) fn ended(&mut self, state: &FinalState) {
        let recorded = self.record(&Record::Ended(state.clone()));
        if recorded && let Some(files) = &self.files {
            files.forget_unfinished();
        }
    }

    pub(super) fn unsynced(&self) -> Option<Unsynced> {
        self.files.as_ref()?.unsynced().ok()
    }

    pub(super) fn remove(&mut self) {
        if let Some(mut files) = self.files.take() {
            files.remove();
        }
    }
}

/// `digest` with the bytes of `file` up to `end`.
fn with_file(mut digest: Digest, file: &File, end: u64) -> io::Result<Digest> {
    let mut piece = vec![0; 256 * 1024];
    while digest.size() < end {
        let left = usize::try_from(end - digest.size()).unwrap_or(usize::MAX);
        let most = left.min(piece.len());
        platform::read_exact_at(file, &mut piece[..most], digest.size())?;
        digest.update(&piece[..most]);
    }
    Ok(digest)
}

/// How many bytes were written at `offset`, and why not all.
fn write_as_much(file: &File, bytes: &[u8], offset: u64) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match platform::write_at(file, &bytes[written..], offset + written as u64) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::JobLog;
    use crate::spool::journal::JobRecord;
    use crate::spool::{Spool, SpoolLimits};
    use courser_job::trace::Masking;

    const MEBIBYTE: u64 = 1 << 20;

    fn spool(directory: &tempfile::TempDir, total: u64) -> Spool {
        let limits = SpoolLimits {
            job: u64::MAX,
            total,
        };
        Spool::open(directory.path().join("spool"), limits).expect("a spool")
    }

    fn begun(spool: &Spool) -> Kept {
        let files = spool.begin(JobRecord::for_test());
        Kept::new(Some(files.expect("files of a job")))
    }

    fn print(kept: &mut Kept, mebibytes: u64) {
        let text: Vec<u8> = (0..MEBIBYTE).map(|byte| b'a' + (byte % 23) as u8).collect();
        for _ in 0..mebibytes {
            kept.append(&text);
        }
    }

    #[test]
    fn what_is_acknowledged_of_a_long_log_is_given_back_and_still_counts_in_the_checksum() {
        let directory = tempfile::tempdir().expect("a directory");
        // Room for less than is printed in all.
        let limited = spool(&directory, 80 * MEBIBYTE);
        let mut kept = begun(&limited);
        print(&mut kept, 70);
        kept.acknowledged(60 * MEBIBYTE);
        assert_eq!(kept.begin(), 56 * MEBIBYTE);
        assert!(kept.find(56 * MEBIBYTE - 1, 10).is_err());
        assert!(matches!(
            kept.find(56 * MEBIBYTE, 10),
            Ok(Found::InFile(_, 10))
        ));
        print(&mut kept, 50);
        assert!(!kept.cut, "what was given back is free again");
        let summary = kept.summary();
        assert_eq!(summary.bytesize, Some(120 * MEBIBYTE));
        drop(kept);

        let mut found = limited.left_over();
        let nothing = Masking::new(&[], &[]).expect("nothing to mask");
        let reopened = JobLog::reopen(found.remove(0), nothing).expect("a log");
        assert_eq!(reopened.log.summary(), summary);
        assert_eq!(reopened.log.begin(), 56 * MEBIBYTE);
        assert_eq!(reopened.acknowledged, 60 * MEBIBYTE);
        assert!(limited.left_over().is_empty(), "it is locked");
        reopened.log.remove();
        drop(reopened);
        assert!(limited.left_over().is_empty(), "it is gone");
    }

    #[test]
    fn a_full_spool_cuts_a_log_once_and_room_comes_back_with_other_jobs() {
        let directory = tempfile::tempdir().expect("a directory");
        let limited = spool(&directory, 3 * MEBIBYTE);
        let (mut first, mut second) = (begun(&limited), begun(&limited));
        print(&mut first, 2);
        print(&mut second, 3);
        assert!(second.cut);
        let notice = second.length() - MEBIBYTE;
        assert_eq!(notice, second.tail.len() as u64);
        first.remove();
        drop(first);
        let mut third = begun(&limited);
        print(&mut third, 2);
        assert!(!third.cut);
    }

    #[test]
    fn a_server_that_has_more_is_followed_without_a_checksum() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut kept = begun(&spool(&directory, u64::MAX));
        kept.append(b"short");
        assert!(kept.skip_to(1000));
        kept.append(b"last words");
        assert_eq!((kept.begin(), kept.length()), (1000, 1010));
        assert_eq!(kept.summary(), TraceSummary::default());
        kept.cut("test");
        assert!(!kept.skip_to(5000), "nothing follows a log that was cut");
    }

    #[test]
    fn a_job_without_files_has_its_beginning_in_memory() {
        let mut kept = Kept::new(None);
        for _ in 0..1000 {
            kept.append(&[b'x'; 1000]);
        }
        let length = usize::try_from(kept.length()).expect("small");
        assert!((256_000..300_000).contains(&length), "{length}");
        let Ok(Found::InMemory(end)) = kept.find(262_000, 1000) else {
            panic!("it is in memory");
        };
        let end = String::from_utf8_lossy(&end).into_owned();
        assert!(
            end.contains("Job's log is cut here: there is no room for it on the disk"),
            "{end}"
        );
        assert_eq!(kept.summary().bytesize, Some(kept.length()));
    }
}
