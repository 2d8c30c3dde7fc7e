//! The process environment, captured once.
//!
//! Commands read variables here only. Elsewhere: clap and `runner_flags.rs` for flags that have one,
//! `arguments.rs` for `RUNNER_DEBUG`, and `std::env::temp_dir` for `TMPDIR`. Facts:
//! `runner-cli.md` 9, `runner-protocol.md` 1.5, `runner-tls.md` 2, `runner-config.md` 14.1.

use std::path::{Path, PathBuf};

use courser_config::Environment;
use courser_net::{Legs, ProxySettings, SystemRoots};

use crate::failure::Failure;
use crate::platform;

/// Whose files and services are used (`runner-cli.md` 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Run by root: `/etc/gitlab-runner`.
    System,
    /// Anybody else: `~/.gitlab-runner`.
    User,
}

/// What commands may know of the process they run in.
#[derive(Debug, Clone)]
pub(crate) struct ProcessEnvironment {
    /// All variables that are UTF-8.
    pub(crate) variables: Environment,
    /// Proxies for GitLab and storage.
    pub(crate) proxy: ProxySettings,
    /// Where the platform's roots lie, with the overrides of the environment.
    pub(crate) system_roots: SystemRoots,
    /// `HOME`, or the account database's answer.
    pub(crate) home: PathBuf,
    /// Root or not.
    pub(crate) mode: Mode,
    /// Directory the command was started in.
    pub(crate) working_directory: PathBuf,
}

impl ProcessEnvironment {
    /// Where this user's runs, keys and coordinators are kept: `$XDG_STATE_HOME/courser`, else `~/.local/state/courser`.
    pub(crate) fn user_state(&self) -> PathBuf {
        let state = self.variables.get("XDG_STATE_HOME").map(Path::new);
        let state = state.filter(|path| path.is_absolute());
        state
            .map_or_else(|| self.home.join(".local/state"), Path::to_owned)
            .join("courser")
    }

    /// Where a user's own settings of Courser lie: `$XDG_CONFIG_HOME/courser`, else `~/.config/courser`.
    pub(crate) fn user_configuration(&self) -> PathBuf {
        let named = self.variables.get("XDG_CONFIG_HOME").map(Path::new);
        let base = named
            .filter(|path| path.is_absolute())
            .map_or_else(|| self.home.join(".config"), Path::to_owned);
        base.join("courser")
    }

    /// Reads everything.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub(crate) fn capture() -> Result<Self, Failure> {
        let variables = Environment::new(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        let working_directory = std::env::current_dir().map_err(|error| {
            Failure::invalid(format!("cannot tell the current directory: {error}"))
        })?;
        let uid = platform::user();
        Ok(Self {
            proxy: proxies(&variables),
            system_roots: system_roots(&variables),
            home: home(&variables, uid)?,
            mode: if uid == 0 { Mode::System } else { Mode::User },
            working_directory,
            variables,
        })
    }

    /// Directory of `config.toml`, `certs` and `.runner_system_id`.
    pub(crate) fn configuration_directory(&self) -> PathBuf {
        configuration_directory(cfg!(unix), self.mode, &self.home, &self.working_directory)
    }

    /// `config.toml` where none is named.
    pub(crate) fn default_config_file(&self) -> PathBuf {
        self.configuration_directory().join("config.toml")
    }

    /// Directory of the predefined files `<host>.crt`. It does not follow `--config`.
    pub(crate) fn certificate_directory(&self) -> PathBuf {
        self.configuration_directory().join("certs")
    }

    /// What each connection is handed as trust; relative paths start at the directory the command was started in.
    pub(crate) fn legs(&self) -> Legs {
        self.legs_from(&self.working_directory)
    }

    /// The same, relative paths starting elsewhere.
    pub(crate) fn legs_from(&self, directory: &Path) -> Legs {
        Legs::new(
            self.system_roots.clone(),
            Some(self.certificate_directory()),
            directory.to_owned(),
        )
        .with_variables(self.variables.iter())
    }

    /// Name of the user who runs this process; the number where there is no name.
    pub(crate) fn user_name(&self) -> String {
        let uid = platform::user();
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut lines = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        lines
            .find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))
            .map_or_else(|| uid.to_string(), |fields| fields[0].to_owned())
    }

    /// Name of this machine.
    pub(crate) fn host_name(&self) -> String {
        platform::host_name(|name| self.variables.get(name).map(str::to_owned))
    }
}

/// Go's rule: the upper-case name wins where it has a value; `ALL_PROXY` is not read.
fn proxies(variables: &Environment) -> ProxySettings {
    let either = |upper: &str, lower: &str| {
        [upper, lower]
            .into_iter()
            .filter_map(|name| variables.get(name))
            .find(|value| !value.is_empty())
            .map(ToOwned::to_owned)
    };
    ProxySettings {
        http: either("HTTP_PROXY", "http_proxy"),
        https: either("HTTPS_PROXY", "https_proxy"),
        no_proxy: either("NO_PROXY", "no_proxy"),
    }
}

/// Systems that are not Unix have no place of their own for it: it lies where the command was started
/// (`runner-tls.md` 2.3).
fn configuration_directory(is_unix: bool, mode: Mode, home: &Path, started_in: &Path) -> PathBuf {
    match mode {
        _ if !is_unix => started_in.to_owned(),
        Mode::System => PathBuf::from("/etc/gitlab-runner"),
        Mode::User => home.join(".gitlab-runner"),
    }
}

fn system_roots(variables: &Environment) -> SystemRoots {
    let set = |name| variables.get(name).filter(|value| !value.is_empty());
    SystemRoots::Platform {
        file: set("SSL_CERT_FILE").map(PathBuf::from),
        directories: set("SSL_CERT_DIR").map(|list| list.split(':').map(PathBuf::from).collect()),
    }
}

fn home(variables: &Environment, uid: u32) -> Result<PathBuf, Failure> {
    if let Some(home) = variables.get("HOME").filter(|home| !home.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    std::fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|accounts| home_in_accounts(&accounts, uid))
        .ok_or_else(|| {
            Failure::invalid(format!(
                "HOME is not set and /etc/passwd has no home directory for user {uid}"
            ))
            .hint("set HOME")
        })
}

/// Home directory of a user, from the account database.
pub(crate) fn home_of_user(name: &str) -> Option<PathBuf> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name))?;
    let home = fields.get(5).filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home))
}

fn home_in_accounts(accounts: &str, uid: u32) -> Option<PathBuf> {
    accounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, id, _, _, home, ..] = fields.as_slice() else {
            return None;
        };
        (id.parse() == Ok(uid) && !home.is_empty()).then(|| Path::new(home).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(
            pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        )
    }

    #[test]
    fn upper_case_proxies_win_and_empty_ones_count_as_absent() {
        let settings = proxies(&variables(&[
            ("HTTP_PROXY", ""),
            ("http_proxy", "http://lower:1"),
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:2"),
            ("ALL_PROXY", "http://all:1"),
        ]));
        assert_eq!(settings.http.as_deref(), Some("http://lower:1"));
        assert_eq!(settings.https.as_deref(), Some("http://upper:1"));
        assert_eq!(settings.no_proxy, None);
    }

    #[test]
    fn t13_elsewhere_than_on_unix_certificates_lie_where_the_command_was_started() {
        let (home, started_in) = (Path::new("/h"), Path::new("/started/here"));
        let certificates = |is_unix, mode| {
            let directory = configuration_directory(is_unix, mode, home, started_in);
            directory.join("certs").display().to_string()
        };
        let table = [
            (true, Mode::System, "/etc/gitlab-runner/certs"),
            (true, Mode::User, "/h/.gitlab-runner/certs"),
            (false, Mode::System, "/started/here/certs"),
            (false, Mode::User, "/started/here/certs"),
        ];
        for (is_unix, mode, expected) in table {
            assert_eq!(certificates(is_unix, mode), expected);
        }
    }

    #[test]
    fn certificate_overrides_replace_each_its_own_half() {
        assert_eq!(
            system_roots(&variables(&[
                ("SSL_CERT_DIR", "/a:/b"),
                ("SSL_CERT_FILE", "")
            ])),
            SystemRoots::Platform {
                file: None,
                directories: Some(vec!["/a".into(), "/b".into()])
            }
        );
    }

    #[test]
    fn home_comes_from_the_variable_then_from_the_account() {
        assert_eq!(
            home(&variables(&[("HOME", "/h")]), 0).expect("set"),
            Path::new("/h")
        );
        let accounts = "root:x:0:0:root:/root:/bin/bash\nbroken\njo:x:7:7::/home/jo:/bin/sh\n";
        assert_eq!(home_in_accounts(accounts, 7), Some("/home/jo".into()));
        assert_eq!(home_in_accounts(accounts, 8), None);
    }
}
