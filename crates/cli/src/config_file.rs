//! `config.toml` and `.runner_system_id` on disk (`runner-config.md` 13 and 14).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use courser_config::{Config, ConfigDocument, ConfigError, LintError, Loaded, ShownKey};

use crate::failure::{Code, Failure};
use crate::platform;
use crate::session::Session;

/// `-c`, the same for all commands that open the file.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOption {
    /// Config file
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigOption {
    /// The path that holds: flag, variable, default.
    pub(crate) fn path(&self, session: &Session) -> PathBuf {
        match &self.config {
            Some(path) if !path.as_os_str().is_empty() => path.clone(),
            _ => session.environment.default_config_file(),
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    /// `None`: there is no file, the defaults hold.
    text: Option<String>,
    /// Modification time, taken before the text was read.
    pub(crate) modified: Option<SystemTime>,
    /// What the file says.
    pub(crate) config: Config,
}

impl ConfigFile {
    /// Reads the file; warnings go to the log. A file that does not exist is no error.
    pub(crate) fn open(path: &Path, session: &Session) -> Result<Self, Failure> {
        let modified = std::fs::metadata(path)
            .and_then(|data| data.modified())
            .ok();
        let Some(text) = read(path)? else {
            return Ok(Self {
                path: path.to_owned(),
                text: None,
                modified: None,
                config: Config::default(),
            });
        };
        let name = path.display().to_string();
        let Loaded {
            config,
            warnings,
            advice,
        } = courser_config::load(&text, &name, &session.environment.variables)
            .map_err(|error| undecodable(&error))?;
        for warning in warnings {
            tracing::warn!("{name}: {warning}");
        }
        if !advice.is_empty() {
            tracing::info!("{name} does not fit the schema: {}", advice.join("; "));
        }
        Ok(Self {
            path: path.to_owned(),
            text: Some(text),
            modified,
            config,
        })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A hidden path beside it that is named after it: `.config.toml.spool`.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        directory_of(&self.path).join(format!(".{name}{suffix}"))
    }

    /// The text to change; the one of a new file where there is none.
    pub(crate) fn document(&self) -> Result<ConfigDocument, Failure> {
        match &self.text {
            Some(text) => ConfigDocument::parse(text, &self.path.display().to_string())
                .map_err(|error| undecodable(&error)),
            None => Ok(ConfigDocument::for_new_file()),
        }
    }

    /// Every key with its value and its origin.
    pub(crate) fn shown(&self, session: &Session) -> Result<Vec<ShownKey>, Failure> {
        courser_config::show(
            self.text.as_deref().unwrap_or_default(),
            &self.path.display().to_string(),
            &session.environment.variables,
        )
        .map_err(|error| undecodable(&error))
    }

    /// Writes a changed document: a new file beside the old one takes its place at once.
    pub(crate) fn save(&self, document: &ConfigDocument) -> Result<(), Failure> {
        write_private(&self.path, document.render().as_bytes()).map_err(|error| {
            Failure::new(
                Code::Invalid,
                format!("cannot write {}: {error}", self.path.display()),
            )
        })
    }

    /// The id of this runner manager, from `.runner_system_id` beside the file or made anew.
    pub(crate) fn system_id(&self) -> Result<String, Failure> {
        let path = directory_of(&self.path).join(".runner_system_id");
        if let Some(content) = read(&path)?
            && let Some(id) = courser_config::parse_system_id(&content)
        {
            return Ok(id.to_owned());
        }
        let id = courser_config::system_id(machine_id().as_deref(), random_bytes());
        if let Err(error) = write_private(&path, id.as_bytes()) {
            tracing::warn!(
                state_file = %path.display(),
                system_id = %id,
                "the new system id could not be saved: {error}"
            );
        }
        Ok(id)
    }
}

/// The check of `lint`; writes nothing.
pub(crate) fn lint(path: &Path, session: &Session) -> Result<(), Failure> {
    let Some(text) = read(path)? else {
        return Err(Failure::invalid(format!(
            "config file not found: {}",
            path.display()
        )));
    };
    let name = path.display().to_string();
    courser_config::lint(&text, &name, &session.environment.variables).map_err(|error| {
        let failure = Failure::from_error(Code::Invalid, &error);
        match &error {
            LintError::Decode(error) => hinted(failure, error),
            _ => failure,
        }
    })
}

fn undecodable(error: &ConfigError) -> Failure {
    hinted(Failure::from_error(Code::Invalid, error), error)
}

fn hinted(failure: Failure, error: &ConfigError) -> Failure {
    match error.remedy() {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}

/// The text of a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(
            Failure::invalid(format!("cannot read {}: {error}", path.display()))
                .hint("check the permissions of the file and of its directory"),
        ),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Replaces a file at once, mode 0600, its directory made 0700. A symbolic link keeps its place:
/// what it points to is replaced.
fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = directory_of(&target);
    platform::private_directory()
        .recursive(true)
        .create(directory)?;
    // Made for the user only.
    let mut file = tempfile::Builder::new()
        .prefix(".courser-")
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

fn machine_id() -> Option<String> {
    ["/var/lib/dbus/machine-id", "/etc/machine-id"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find(|id| !id.trim().is_empty())
}

pub(crate) fn random_bytes() -> [u8; 12] {
    let mut bytes = [0; 12];
    for byte in &mut bytes {
        // `RandomState` is seeded by the operating system; each has keys of its own.
        use std::hash::{BuildHasher as _, Hasher as _};
        *byte = std::hash::RandomState::new()
            .build_hasher()
            .finish()
            .to_le_bytes()[0];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_links_stay_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("deep/real.toml");
        write_private(&real, b"one").expect("written");
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        write_private(&link, b"two").expect("written");
        assert_eq!(std::fs::read_to_string(&real).expect("there"), "two");
        assert!(link.symlink_metadata().expect("there").is_symlink());
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&real), 0o600);
        assert_eq!(mode(real.parent().expect("a parent")), 0o700);
    }
}
