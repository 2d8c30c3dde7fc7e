//! Calling Git.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use courser_config::Environment;
use courser_job::ToolFiles;

use crate::HelperError;
use crate::output::{Output, Programs};

/// Calls of Git in one directory.
pub(crate) struct Git<'a> {
    /// Where it runs.
    pub(crate) directory: &'a Path,
    /// The configuration outside of the project directory.
    pub(crate) external_config: Option<&'a Path>,
    /// Takes the place of `GIT_SSL_CAINFO`, which would beat the server's own CA file.
    pub(crate) ca_bundle: Option<&'a Path>,
}

impl Git<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(self.directory)
            .stdin(Stdio::null())
            // Nobody is there to answer.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GCM_INTERACTIVE", "Never")
            .env("LC_MESSAGES", "C")
            // A replacement that an earlier job has made is not what the commit says.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            // Smudging file by file is slow; `git lfs pull` follows the checkout.
            .env("GIT_LFS_SKIP_SMUDGE", "1");
        if let Some(path) = self.external_config {
            command.env("GLR_EXT_GIT_CONFIG_PATH", path);
        }
        if let Some(path) = self.ca_bundle {
            command.env("GIT_SSL_CAINFO", path);
        }
        command
    }

    /// Runs Git; its output is part of the job's log.
    pub(crate) fn run(
        &self,
        output: &mut Output<'_>,
        arguments: &[&str],
    ) -> Result<(), HelperError> {
        let mut command = self.command();
        command.args(arguments);
        let status = match output.programs {
            Programs::Inherit => command.status().map_err(not_started)?,
            Programs::Capture => {
                let captured = command.output().map_err(not_started)?;
                output.out.write_all(&captured.stdout)?;
                output.err.write_all(&captured.stderr)?;
                captured.status
            }
        };
        ended(arguments, status, String::new())
    }

    /// As [`run`](Self::run), and a failure knows what Git said.
    pub(crate) fn run_listening(
        &self,
        output: &mut Output<'_>,
        arguments: &[&str],
    ) -> Result<(), HelperError> {
        let mut command = self.command();
        command.args(arguments);
        if output.programs == Programs::Capture {
            let captured = command.output().map_err(not_started)?;
            output.out.write_all(&captured.stdout)?;
            output.err.write_all(&captured.stderr)?;
            return ended(arguments, captured.status, end_of(&captured.stderr));
        }
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let mut said = Vec::new();
        let pieces = child.stderr.take().map(pieces);
        let mut status = None;
        if let Some(pieces) = pieces {
            loop {
                match pieces.recv_timeout(PAUSE) {
                    Ok(piece) => {
                        output.err.write_all(&piece)?;
                        output.err.flush()?;
                        said.extend_from_slice(&piece);
                        if said.len() > 2 * LISTENED {
                            said.drain(..LISTENED);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                    // A daemon that Git has left behind may hold the stream open for ever.
                    Err(RecvTimeoutError::Timeout) if status.is_some() => break,
                    Err(RecvTimeoutError::Timeout) => {
                        status = child.try_wait().map_err(not_started)?;
                    }
                }
            }
        }
        let status = match status {
            Some(status) => status,
            None => child.wait().map_err(not_started)?,
        };
        ended(arguments, status, end_of(&said))
    }

    /// Runs Git for its answer; `None` when it fails.
    pub(crate) fn read(&self, arguments: &[&str]) -> Option<Vec<u8>> {
        let answer = self
            .command()
            .args(arguments)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        answer.status.success().then_some(answer.stdout)
    }

    /// Tells the user's credential stores to forget the job's token. Failures don't matter: most
    /// machines have no store.
    pub(crate) fn reject_credential(&self, url: &str) {
        let child = self
            .command()
            .args(["credential", "reject"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = child {
            if let Some(mut stdin) = child.stdin.take() {
                write!(stdin, "url={url}\nusername=gitlab-ci-token\n").ok();
            }
            child.wait().ok();
        }
    }
}

/// How often a stream that is silent makes us look whether Git is still there.
const PAUSE: Duration = Duration::from_millis(50);

/// What comes out of a stream, read by a thread of its own.
fn pieces(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(16);
    std::thread::spawn(move || {
        let mut piece = vec![0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// How much of what Git says is kept for its explanation.
const LISTENED: usize = 32 * 1024;

fn end_of(said: &[u8]) -> String {
    let end = &said[said.len().saturating_sub(LISTENED)..];
    String::from_utf8_lossy(end).into_owned()
}

fn ended(
    arguments: &[&str],
    status: std::process::ExitStatus,
    said: String,
) -> Result<(), HelperError> {
    if status.success() {
        return Ok(());
    }
    Err(HelperError::Git {
        command: subcommand(arguments).to_owned(),
        status,
        said,
    })
}

fn not_started(source: std::io::Error) -> HelperError {
    HelperError::Program {
        program: "git",
        source,
    }
}

/// The first argument that is no `-c key=value`.
fn subcommand<'a>(arguments: &[&'a str]) -> &'a str {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "-c" {
            rest.next();
        } else {
            return argument;
        }
    }
    ""
}

/// Whether any configuration that Git would read could name a credential helper for `url`. When in
/// doubt: yes.
pub(crate) fn may_have_credential_helper(
    variables: &Environment,
    project_dir: &Path,
    temporary_dir: &str,
    url: &str,
) -> bool {
    let overrides = [
        "GIT_CONFIG",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
    ];
    // Ours only adds a bundle to the machine's own, which is looked at below.
    let ours = ToolFiles::below(temporary_dir).git_config();
    let is_override = |value: &str| value != ours;
    if overrides
        .iter()
        .any(|name| variables.get(name).is_some_and(is_override))
    {
        return true;
    }
    let Some(home) = variables.get("HOME").map(PathBuf::from) else {
        return true;
    };
    let user = variables
        .get("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map_or_else(|| home.join(".config"), PathBuf::from);
    let files = [
        PathBuf::from("/etc/gitconfig"),
        PathBuf::from("/usr/etc/gitconfig"),
        PathBuf::from("/usr/local/etc/gitconfig"),
        home.join(".gitconfig"),
        user.join("git/config"),
    ];
    let may_name_one = |file: &Path, includes_count: bool| match std::fs::read_to_string(file) {
        Ok(text) => may_name_helper(&text, url, includes_count),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    files.iter().any(|file| may_name_one(file, true))
        // The repository's own file includes ours, whose helper keeps nothing.
        || may_name_one(&project_dir.join(".git/config"), false)
}

/// Whether a configuration file could name a credential helper for `url`. Lines are looked at without
/// Git's grammar; only the plain section of another host is passed over.
fn may_name_helper(text: &str, url: &str, includes_count: bool) -> bool {
    // A value that goes on in the next line could look like a section.
    let is_plain = !text.contains("\\\n");
    let mut is_elsewhere = false;
    text.to_lowercase().lines().any(|line| {
        let line = line.trim_start();
        if line.starts_with('[') {
            is_elsewhere = is_plain && is_of_another_host(line, url);
        }
        (line.contains("helper") && !is_elsewhere) || (line.contains("include") && includes_count)
    })
}

/// Whether a line is `[credential "<URL>"]` with a URL of another host than `url`'s.
fn is_of_another_host(line: &str, url: &str) -> bool {
    let section = line.strip_prefix("[credential \"");
    let named = section.and_then(|rest| host(rest.strip_suffix("\"]")?));
    named.is_some_and(|named| !named.contains('*') && host(&url.to_lowercase()) != Some(named))
}

/// Host and port of a URL.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    authority.rsplit('@').next()
}

/// Whether `git-lfs` can be found.
pub(crate) fn has_lfs(variables: &Environment) -> bool {
    let path = variables.get("PATH").unwrap_or("/usr/bin:/bin");
    path.split(':')
        .map(Path::new)
        .chain(["/usr/lib/git-core", "/usr/libexec/git-core"].map(Path::new))
        .any(|directory| directory.join("git-lfs").is_file())
}

/// Whether some tracked file could be in LFS: only files with attributes are. `true` when in doubt.
pub(crate) fn may_use_lfs(project_dir: &Path) -> bool {
    const NAME: &[u8] = b".gitattributes";
    if project_dir.join(".git/info/attributes").exists() {
        return true;
    }
    let Ok(index) = std::fs::read(project_dir.join(".git/index")) else {
        return true;
    };
    // Up to version 3 paths are written in full.
    let [b'D', b'I', b'R', b'C', 0, 0, 0, 2 | 3, ..] = index.as_slice() else {
        return true;
    };
    index.windows(NAME.len()).any(|window| window == NAME)
}

/// Whether the index could hold a submodule. `true` when in doubt.
pub(crate) fn may_have_submodules(project_dir: &Path) -> bool {
    // The mode of its entry, 0160000, in all versions of the index.
    const MODE: &[u8] = &[0, 0, 0xe0, 0];
    match std::fs::read(project_dir.join(".git/index")) {
        Ok(index) => index.windows(MODE.len()).any(|window| window == MODE),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_count_unless_they_are_for_another_host() {
        let table = [
            ("[user]\n\tname = Ada\n", false),
            ("[credential]\n\thelper = store\n", true),
            ("[Credential] helper = store\n", true),
            ("[include]\n\tpath = more\n", true),
            (
                "[credential \"https://elsewhere.example\"]\n\thelper = x\n",
                false,
            ),
            (
                "[credential \"https://elsewhere.example/x\"]\n\thelper = x\n[core]\n",
                false,
            ),
            (
                "[credential \"https://elsewhere.example\"] helper = x\n",
                true,
            ),
            ("[credential \"https://*.example\"]\n\thelper = x\n", true),
            (
                "[credential \"https://GitLab.example:8443\"]\n\thelper = x\n",
                true,
            ),
            ("[credential \"gitlab.example\"]\n\thelper = x\n", true),
            (
                "[alias]\n\ta = b\\\n[credential \"https://elsewhere.example\"]\n\thelper = x\n",
                true,
            ),
        ];
        for (text, expected) in table {
            let may = may_name_helper(text, "https://gitlab.example:8443", true);
            assert_eq!(may, expected, "{text}");
        }
        assert!(!may_name_helper(
            "[include]\n",
            "https://gitlab.example",
            false
        ));
    }
}
