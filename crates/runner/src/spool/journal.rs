//! What is known of a job beside its log: one record a line, each with its checksum.
//!
//! Records are only appended. A line that is torn (the machine stopped while it was written) ends the
//! journal: what stands before it holds.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use courser_executor::Footprint;
use courser_protocol::{FailureReason, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Changes when an older Courser could not understand the records.
pub(crate) const VERSION: u32 = 1;

/// Longest journal that is read.
const LONGEST: u64 = 64 << 20;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first one.
    Job(Box<JobRecord>),
    /// The server was told that the job runs.
    Started,
    /// Where its processes and private files are.
    Footprint(Footprint),
    /// Everything that was written down of them so far was killed, and removed. Not again: others may have the
    /// directories by now.
    Swept,
    /// The server has all bytes before this one.
    Acknowledged {
        /// Of the log.
        offset: u64,
    },
    /// The bytes before this one are not kept any more.
    Dropped {
        /// Of the log.
        offset: u64,
        /// CRC-32 of the dropped bytes.
        checksum: u32,
    },
    /// Bytes were lost: there is no checksum.
    Cut,
    /// What will be reported.
    Ended(FinalState),
}

/// Whose job it is and how its server is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Job id.
    pub(crate) job: i64,
    /// Job token: all that the server wants to see.
    pub(crate) token: Secret,
    /// `url` of the runner.
    pub(crate) url: String,
    /// The runner, by its short token.
    pub(crate) runner: String,
    /// `tls-ca-file`, `tls-cert-file`, `tls-key-file`, for a runner that is not configured any more.
    pub(crate) tls_files: [Option<String>; 3],
    /// Lines have stamps.
    pub(crate) timestamps: bool,
    /// `debug_trace` of the patches.
    pub(crate) debug_trace: bool,
    /// Bytes after which the log ends (`output_limit`).
    #[serde(default = "no_limit")]
    pub(crate) limit: u64,
    /// The machine's run, which tells a restart of the machine from one of the runner.
    pub(crate) boot: String,
}

/// Of journals in which none is written.
fn no_limit() -> u64 {
    u64::MAX
}

#[cfg(test)]
impl JobRecord {
    /// Of some job.
    pub(crate) fn for_test() -> Self {
        Self {
            version: VERSION,
            job: 7,
            token: "job".into(),
            url: "https://h".to_owned(),
            runner: "abc".to_owned(),
            tls_files: [None, None, None],
            timestamps: false,
            debug_trace: false,
            limit: no_limit(),
            boot: String::new(),
        }
    }
}

/// How a job is reported in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum FinalState {
    /// Well.
    Success,
    /// Badly.
    Failed {
        /// Already mapped for the server.
        reason: FailureReason,
        /// 0 = none.
        exit_code: i32,
    },
}

/// Appends a record; a `write` of its own, so that it is whole or the last one. What was written of one that had no
/// room is taken back: the next one would be on its line.
pub(crate) fn append(file: &mut File, record: &Record) -> io::Result<()> {
    let text = Zeroizing::new(serde_json::to_string(record)?);
    let checksum = crc32fast::hash(text.as_bytes());
    let line = Zeroizing::new(format!("{checksum:08x} {}\n", text.as_str()));
    let before = file.stream_position()?;
    file.write_all(line.as_bytes()).inspect_err(|_| {
        file.set_len(before).ok();
        file.seek(io::SeekFrom::Start(before)).ok();
    })
}

/// What a journal that was left behind says.
#[derive(Debug)]
pub(crate) enum Read {
    /// Its whole records; the first is the job's.
    Records(Vec<Record>),
    /// Not even the first record is whole: the job had not begun.
    Nothing,
    /// Another version wrote it.
    Version(u32),
}

/// Reads a journal, and cuts a torn end off so that records can be appended.
pub(crate) fn read(file: &mut File) -> io::Result<Read> {
    let (read, whole) = look(file)?;
    if matches!(read, Read::Records(_)) {
        // The file's time tells when the job was last at work.
        if file.metadata()?.len() != whole {
            file.set_len(whole)?;
        }
        file.seek(io::SeekFrom::Start(whole))?;
    }
    Ok(read)
}

/// Reads a journal, and says how long its whole records are. Changes nothing: it may be somebody else's.
pub(super) fn look(file: &mut File) -> io::Result<(Read, u64)> {
    let mut text = Zeroizing::new(Vec::new());
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut text)?;
    let mut records = Vec::new();
    let mut whole = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(json) = checked(line) else { break };
        match serde_json::from_str(json) {
            Ok(record) => records.push(record),
            // Whole but not understood: somebody else's.
            Err(_) => return Ok((Read::Version(version_of(json)), whole)),
        }
        whole += line.len() as u64;
    }
    let read = match records.first() {
        Some(Record::Job(job)) if job.version == VERSION => Read::Records(records),
        Some(Record::Job(job)) => Read::Version(job.version),
        Some(_) | None => Read::Nothing,
    };
    Ok((read, whole))
}

fn checked(line: &[u8]) -> Option<&str> {
    let (checksum, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let checksum = std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    (crc32fast::hash(text) == checksum).then(|| std::str::from_utf8(text).ok())?
}

fn version_of(json: &str) -> u32 {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        version: u32,
    }
    serde_json::from_str(json).map_or(0, |record: Versioned| record.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(version: u32) -> Record {
        Record::Job(Box::new(JobRecord {
            version,
            ..JobRecord::for_test()
        }))
    }

    fn written(records: &[Record]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        for record in records {
            append(&mut file, record).expect("written");
        }
        file
    }

    fn told(records: &[Record]) -> String {
        serde_json::to_string(records).expect("records are JSON")
    }

    fn records(file: &mut File) -> String {
        match read(file).expect("readable") {
            Read::Records(records) => told(&records),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_is_torn() {
        let ended = Record::Ended(FinalState::Failed {
            reason: FailureReason::ScriptFailure,
            exit_code: 3,
        });
        let all = [job(VERSION), Record::Started, ended];
        let whole = written(&all).metadata().expect("its size").len();
        let two = written(&all[..2]).metadata().expect("its size").len();
        for length in two..whole {
            let mut file = written(&all);
            file.set_len(length).expect("cut");
            assert_eq!(records(&mut file), told(&all[..2]), "cut at {length}");
            append(&mut file, &all[2]).expect("appended");
            assert_eq!(records(&mut file), told(&all));
        }
        // A block that was never written is full of zeros after a crash of the machine.
        let mut file = written(&all[..2]);
        file.set_len(4096).expect("zeros");
        assert_eq!(records(&mut file), told(&all[..2]));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let all = [job(VERSION), Record::Acknowledged { offset: 1000 }];
        let mut file = written(&all);
        file.seek(io::SeekFrom::End(-4)).expect("sought");
        file.write_all(b"9").expect("changed");
        assert_eq!(records(&mut file), told(&all[..1]));
    }

    #[test]
    fn a_torn_beginning_and_another_version_are_no_records() {
        let mut file = written(&[job(VERSION)]);
        file.set_len(20).expect("cut");
        assert!(matches!(read(&mut file), Ok(Read::Nothing)));
        assert!(matches!(
            read(&mut tempfile::tempfile().expect("a file")),
            Ok(Read::Nothing)
        ));
        let mut file = written(&[job(VERSION + 1), Record::Started]);
        assert!(matches!(read(&mut file), Ok(Read::Version(2))));
    }
}
