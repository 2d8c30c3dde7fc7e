//! Docker's `config.json`, its ancestor `.dockercfg`, and the text of `DOCKER_AUTH_CONFIG`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use courser_protocol::Secret;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::SourceError;
use super::helper_program::HelperProgram;

/// Larger files are no configuration.
const LIMIT: u64 = 1024 * 1024;

/// What counts of it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore")]
    store: String,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    /// `user:password` in base64.
    auth: String,
    username: String,
    password: String,
    email: String,
    identitytoken: String,
    registrytoken: String,
}

impl ConfigFile {
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        // serde's texts quote what they find, which may be a password.
        let wrong = |error: serde_json::Error| {
            SourceError::Other(format!(
                "it is no Docker configuration: line {}, column {}",
                error.line(),
                error.column()
            ))
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        if !value.is_object() {
            return Err(SourceError::Other("it is no JSON object".to_owned()));
        }
        let is_new = ["auths", "credsStore", "credHelpers"]
            .iter()
            .any(|key| value.get(key).is_some());
        let is_old = value
            .as_object()
            .is_some_and(|entries| entries.values().all(|entry| entry.get("auth").is_some()));
        if !is_new && is_old {
            // `.dockercfg`: the content of `auths` alone.
            return Ok(Self {
                auths: serde_json::from_value(value).map_err(wrong)?,
                ..Self::default()
            });
        }
        serde_json::from_value(value).map_err(wrong)
    }

    /// By server: what is written down, then what the store lists, then the helpers of single servers, each over the
    /// ones before. Helpers are looked for in `path`, or where this process looks.
    pub(super) async fn logins(
        self,
        path: Option<&OsStr>,
    ) -> Result<Vec<(String, DockerCredentials)>, SourceError> {
        let mut logins = BTreeMap::new();
        for (server, auth) in self.auths {
            // What a store holds is listed here without a value.
            if let Some(login) = auth.login(&server)? {
                logins.insert(server, login);
            }
        }
        if !self.store.is_empty() {
            let store = HelperProgram::named(&self.store, path)?;
            for server in store.list().await? {
                if let Some(login) = store.get(&server).await? {
                    logins.insert(server, login);
                }
            }
        }
        for (server, name) in self.helpers {
            if let Some(login) = HelperProgram::named(&name, path)?.get(&server).await? {
                logins.insert(server, login);
            }
        }
        Ok(logins.into_iter().collect())
    }
}

impl Auth {
    fn login(self, server: &str) -> Result<Option<DockerCredentials>, SourceError> {
        let (mut username, mut password) = (self.username, self.password);
        if !self.auth.is_empty() {
            let wrong = || {
                SourceError::Other(format!(
                    "the auth of {server:?} is no base64 of user:password"
                ))
            };
            let decoded = STANDARD.decode(self.auth.trim()).map_err(|_| wrong())?;
            let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
            let (user, secret) = decoded.split_once(':').ok_or_else(wrong)?;
            username = user.to_owned();
            password = secret.trim_matches('\0').to_owned();
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let login = DockerCredentials {
            username: given(username),
            password: given(password),
            email: given(self.email),
            identitytoken: given(self.identitytoken),
            registrytoken: given(self.registrytoken),
            serveraddress: Some(server.to_owned()),
            auth: None,
        };
        let is_empty = login.username.is_none()
            && login.identitytoken.is_none()
            && login.registrytoken.is_none();
        Ok((!is_empty).then_some(login))
    }
}

/// The file of a home and its text; whatever hinders is passed over, as upstream does.
pub(super) async fn of_home(home: Option<&Path>) -> Option<(PathBuf, Secret)> {
    let home = home?;
    for name in [".docker/config.json", ".dockercfg"] {
        let path = home.join(name);
        if let Some(text) = text_of(&path).await {
            return Some((path, text));
        }
    }
    None
}

async fn text_of(path: &Path) -> Option<Secret> {
    let file = tokio::fs::File::open(path).await.ok()?;
    if !file.metadata().await.ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let read = file.take(LIMIT).read_to_string(&mut text).await;
    read.is_ok().then(|| Secret::new(text))
}
