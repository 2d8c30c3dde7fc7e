//! What another process needs to go on with a job whose scripts are over: a file beside the journal, from the first
//! stage after the scripts until the job's end is decided. It holds the job's variables, and so is not there longer.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use courser_job::state::ScriptsOver;
use courser_job::{Job, RunnerContext};
use courser_protocol::JobResponse;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Name of the file.
const UNFINISHED: &str = "unfinished";
/// While it is written.
const BEING_WRITTEN: &str = "unfinished.part";

/// Longest file that is read; payloads are no longer, and a little is added.
const LONGEST: u64 = 80 << 20;

/// The job as it was accepted, and what its scripts came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unfinished<'a> {
    pub(crate) payload: Cow<'a, JobResponse>,
    pub(crate) context: Cow<'a, RunnerContext>,
    pub(crate) over: ScriptsOver,
}

impl<'a> Unfinished<'a> {
    pub(crate) fn new(job: &'a Job, over: ScriptsOver) -> Self {
        let mut payload = Cow::Borrowed(job.payload());
        // They are in their places already.
        if !payload.inputs.is_empty() {
            payload.to_mut().inputs.clear();
        }
        Self {
            payload,
            context: Cow::Borrowed(job.context()),
            over,
        }
    }

    /// Writes the file; there is a whole one or none.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(self)?);
        let part = directory.join(BEING_WRITTEN);
        let written = std::fs::remove_file(&part)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .and_then(|()| super::private_file(&part, true)?.write_all(&text))
            .and_then(|()| std::fs::rename(&part, directory.join(UNFINISHED)));
        if written.is_err() {
            std::fs::remove_file(&part).ok();
        }
        written
    }
}

impl Unfinished<'static> {
    /// Reads the file; nothing when there is none, or none that can be read.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(UNFINISHED);
        let read = super::private_file(&path, false).and_then(|file: File| {
            let mut text = Zeroizing::new(Vec::new());
            file.take(LONGEST).read_to_end(&mut text)?;
            Ok(serde_json::from_slice(&text)?)
        });
        match read {
            Ok(unfinished) => Some(unfinished),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!("cannot read {}: {error}", path.display());
                None
            }
        }
    }
}

/// Whether there is one.
pub(super) fn is_there(directory: &Path) -> bool {
    directory.join(UNFINISHED).exists()
}

/// The job's end is decided, or reported.
pub(super) fn remove(directory: &Path) {
    for name in [BEING_WRITTEN, UNFINISHED] {
        std::fs::remove_file(directory.join(name)).ok();
    }
}
