//! How a job and `courser shell` meet: in place of its script the job runs `courser helper hold`, which
//! writes the environment that the script would have had and waits until the shell is closed.
//!
//! They meet in a directory for the owner only. A FIFO tells both that the other is there; when `courser shell` ends, in
//! whatever way, the job's end of it sees that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::environment::ProcessEnvironment;
use crate::failure::Failure;
use crate::platform;

const GATE: &str = "gate";
const ENVIRONMENT: &str = "environment";

/// Where a job and `courser shell` meet; gone when dropped.
#[derive(Debug)]
pub(super) struct Meeting {
    directory: PathBuf,
}

/// A job that waits at the place of its script.
#[derive(Debug)]
pub(super) struct Held {
    /// Its environment.
    pub(super) variables: Vec<(String, String)>,
    /// Its working directory.
    pub(super) directory: PathBuf,
    _gate: File,
}

impl Meeting {
    /// Makes the place.
    pub(super) fn new(directory: PathBuf) -> io::Result<Self> {
        platform::private_directory().create(&directory)?;
        platform::make_fifo(&directory.join(GATE))?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the wait for a job that will not come, as long as the result lives.
    pub(super) fn give_up(&self) -> Option<File> {
        // The one who waits opens its end now and finds no environment.
        platform::open_fifo(&self.directory.join(GATE)).ok()
    }
}

impl Held {
    /// Waits for the job that comes to this place; blocking.
    pub(super) fn meet(directory: &Path) -> io::Result<Self> {
        let gate = OpenOptions::new().write(true).open(directory.join(GATE))?;
        let path = directory.join(ENVIRONMENT);
        let text = std::fs::read_to_string(&path)?;
        std::fs::remove_file(&path)?;
        let mut entries = text.split('\0');
        let directory = PathBuf::from(entries.next().unwrap_or_default());
        let variables = entries
            .filter_map(|entry| entry.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Self {
            variables: variables.collect(),
            directory,
            _gate: gate,
        })
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // It is below the directory of the run, which goes as a whole.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// The job's side.
pub(crate) fn hold(
    directory: &Path,
    environment: &ProcessEnvironment,
) -> Result<ExitCode, Failure> {
    wait(directory, environment)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| {
            Failure::internal(format!("{}: {error}", directory.display()))
                .hint("this command is started by Courser itself")
        })
}

fn wait(directory: &Path, environment: &ProcessEnvironment) -> io::Result<()> {
    let mut text = environment.working_directory.display().to_string();
    for (name, value) in environment.variables.iter() {
        text.extend(["\0", name, "=", value]);
    }
    let mut file = platform::new_private_file().open(directory.join(ENVIRONMENT))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    let mut gate = File::open(directory.join(GATE))?;
    gate.read_to_end(&mut Vec::new()).map(drop)
}
