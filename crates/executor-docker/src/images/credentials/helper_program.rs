//! Docker's credential helpers: `docker-credential-<name>`, asked over standard input and output.
//!
//! They run as the runner's user with its environment, as under Docker's own client: cloud helpers live on it. A job can
//! name one in `DOCKER_AUTH_CONFIG`, so what it prints and how long it takes are bounded.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::SourceError;

const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer.
const LIMIT: u64 = 1024 * 1024;

/// A helper that can be asked.
pub(super) struct HelperProgram {
    program: String,
    /// Where it is looked for.
    path: Option<OsString>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    username: String,
    secret: String,
}

/// The user name with which a helper says that its secret is a token.
const TOKEN: &str = "<token>";

/// What helpers print when they know nothing of a server.
const UNKNOWN_SERVER: &str = "credentials not found in native keychain";

impl HelperProgram {
    pub(super) fn named(name: &str, path: Option<&OsStr>) -> Result<Self, SourceError> {
        if name.contains(['/', '\\']) || name == ".." {
            return Err(SourceError::PathTraversal);
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
            path: path.map(OsStr::to_owned),
        })
    }

    /// The servers that it knows.
    pub(super) async fn list(&self) -> Result<Vec<String>, SourceError> {
        let printed = self.ask("list", "").await?.unwrap_or_default();
        let servers: Result<BTreeMap<String, serde::de::IgnoredAny>, _> =
            serde_json::from_slice(&printed);
        let servers = servers.map_err(|_| self.failed("list", "what it prints is no list"))?;
        Ok(servers.into_keys().collect())
    }

    /// The login for a server, if it has one.
    pub(super) async fn get(&self, server: &str) -> Result<Option<DockerCredentials>, SourceError> {
        let Some(printed) = self.ask("get", server).await? else {
            return Ok(None);
        };
        let answer: Answer = serde_json::from_slice(&printed)
            .map_err(|_| self.failed("get", "what it prints is no login"))?;
        let mut login = DockerCredentials {
            serveraddress: Some(server.to_owned()),
            ..DockerCredentials::default()
        };
        if answer.username == TOKEN {
            login.identitytoken = Some(answer.secret);
        } else {
            login.username = Some(answer.username);
            login.password = Some(answer.secret);
        }
        Ok(Some(login))
    }

    /// What it prints; nothing when it knows nothing of the server.
    async fn ask(&self, action: &str, input: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let mut command = Command::new(&self.program);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let child = command
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.failed(action, &error.to_string()))?;
        let asking = tokio::time::timeout(PATIENCE, talk(child, input));
        match asking.await {
            Ok(Ok((true, printed))) if printed.len() as u64 <= LIMIT => Ok(Some(printed)),
            Ok(Ok((true, _))) => Err(self.failed(action, "it prints more than 1 MiB")),
            // Helpers tell failures on standard output.
            Ok(Ok((false, printed))) => {
                let text = String::from_utf8_lossy(&printed).trim().to_owned();
                if text.contains(UNKNOWN_SERVER) {
                    return Ok(None);
                }
                let short: String = text.chars().take(300).collect();
                Err(self.failed(action, &short))
            }
            Ok(Err(error)) => Err(self.failed(action, &error.to_string())),
            Err(_) => Err(self.failed(action, &format!("no answer for {} s", PATIENCE.as_secs()))),
        }
    }

    fn failed(&self, action: &str, why: &str) -> SourceError {
        SourceError::Other(format!("{} {action}: {why}", self.program))
    }
}

/// Whether it succeeded, and what it printed, a byte over the limit at most.
async fn talk(mut child: Child, input: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let mut printed = Vec::new();
    let writing = async {
        if let Some(stdin) = &mut stdin {
            // One that does not read is judged by what it prints.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        drop(stdin);
    };
    let reading = async {
        match stdout {
            Some(stdout) => stdout
                .take(LIMIT + 1)
                .read_to_end(&mut printed)
                .await
                .map(drop),
            None => Ok(()),
        }
    };
    let ((), read) = tokio::join!(writing, reading);
    read?;
    if printed.len() as u64 > LIMIT {
        child.start_kill()?;
    }
    let ended = child.wait().await?;
    Ok((ended.success() || printed.len() as u64 > LIMIT, printed))
}
