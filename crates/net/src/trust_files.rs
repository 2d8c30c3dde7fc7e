//! Where certificates lie: configured files and predefined files (`runner-tls.md` 2.2 to 2.4).

use std::path::{Path, PathBuf};

use courser_trust::Source;

use crate::disk::Disk;
use crate::key_pair::PairFiles;
pub use crate::system_roots::SystemRoots;

/// Everything that decides which servers are trusted on one leg, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSettings {
    /// The platform's roots.
    pub system: SystemRoots,
    /// `tls-ca-file`: its certificates are added to the system's.
    pub ca_file: Option<PathBuf>,
    /// `tls-cert-file`.
    pub cert_file: Option<PathBuf>,
    /// `tls-key-file`.
    pub key_file: Option<PathBuf>,
    /// Directory of predefined files `<host>.crt`, `<host>.auth.crt`, `<host>.auth.key`. Each fills an
    /// option that is empty. IPv6 literals are written without brackets, ports never.
    pub certificate_directory: Option<PathBuf>,
    /// PEM text with further roots that never were a file (the coordinator of `courser exec`).
    pub inline_ca: Option<String>,
}

/// The files that count for one host. They need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFiles {
    pub(crate) ca: Option<CaFile>,
    /// Client certificate and key.
    pub(crate) pair: Option<PairFiles>,
}

/// Path of a CA file, and who named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CaFile {
    Configured(PathBuf),
    Predefined(PathBuf),
}

impl TrustSettings {
    /// The CA file that counts for `host` (a name or address without port and brackets), if it is there: `ca_file`, else
    /// the predefined file.
    pub fn ca_file_for(&self, host: &str) -> Option<PathBuf> {
        self.ca_path_for(host).filter(|path| path.exists())
    }

    /// As [`ca_file_for`](Self::ca_file_for), also when the file is not there yet.
    pub fn ca_path_for(&self, host: &str) -> Option<PathBuf> {
        let file = self.files_for(host.trim_matches(['[', ']'])).ca?;
        Some(file.path().to_owned())
    }

    /// Whether hosts differ in their files.
    pub(crate) fn depends_on_host(&self) -> bool {
        let all_named =
            self.ca_file.is_some() && self.cert_file.is_some() && self.key_file.is_some();
        self.certificate_directory.is_some() && !all_named
    }

    /// The files for `host`, a name or address without port and brackets.
    pub(crate) fn files_for(&self, host: &str) -> HostFiles {
        self.files_at(host, &mut Disk::before_use())
    }

    /// [`Self::files_for`] as of this look at the disk.
    pub(crate) fn files_at(&self, host: &str, disk: &mut Disk) -> HostFiles {
        let mut predefined = |ending: &str| {
            let directory = self.certificate_directory.as_deref()?;
            let is_name = !host.is_empty() && !host.contains(['/', '\\', '\0']);
            is_name.then(|| spelled_as_on_disk(disk, directory, format!("{host}{ending}")))
        };
        let ca = match &self.ca_file {
            Some(path) => Some(CaFile::Configured(path.clone())),
            None => predefined(".crt").map(CaFile::Predefined),
        };
        let certificate = self.cert_file.clone().or_else(|| predefined(".auth.crt"));
        let key = self.key_file.clone().or_else(|| predefined(".auth.key"));
        HostFiles {
            ca,
            pair: certificate
                .zip(key)
                .map(|(certificate, key)| PairFiles { certificate, key }),
        }
    }
}

impl CaFile {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Configured(path) | Self::Predefined(path) => path,
        }
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Configured(path) => Source::Configured(path.clone()),
            Self::Predefined(path) => Source::Predefined(path.clone()),
        }
    }
}

/// Upstream keeps the case of the host as typed, a URL type does not: a file that differs in case only
/// is taken when the lower-case one is not there.
fn spelled_as_on_disk(disk: &mut Disk, directory: &Path, name: String) -> PathBuf {
    let path = directory.join(&name);
    if disk.stamp(&path).is_some() {
        return path;
    }
    let names = disk.names(directory);
    let alike = names
        .iter()
        .filter(|entry| entry.eq_ignore_ascii_case(&name));
    alike.min().map_or(path, |found| directory.join(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TrustSettings {
        TrustSettings {
            system: SystemRoots::None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            certificate_directory: Some("/certs".into()),
            inline_ca: None,
        }
    }

    fn paths(settings: &TrustSettings, host: &str) -> Vec<String> {
        let HostFiles { ca, pair } = settings.files_for(host);
        let ca = ca.map(|file| file.path().to_owned());
        let pair = pair.map(|pair| [pair.certificate, pair.key]);
        let paths = ca.into_iter().chain(pair.into_iter().flatten());
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn predefined_files_are_named_after_the_host() {
        let table = [
            ("gitlab.example.com", "/certs/gitlab.example.com"),
            ("192.0.2.1", "/certs/192.0.2.1"),
            ("2001:db8::1", "/certs/2001:db8::1"),
        ];
        for (host, stem) in table {
            let expected = [".crt", ".auth.crt", ".auth.key"].map(|end| format!("{stem}{end}"));
            assert_eq!(paths(&settings(), host), expected);
        }
        assert!(paths(&settings(), "../etc/passwd").is_empty());
        assert!(paths(&settings(), "").is_empty());
    }

    #[test]
    fn each_option_wins_over_its_own_predefined_file_only() {
        let mut settings = settings();
        settings.cert_file = Some("/mine.crt".into());
        let expected = ["/certs/h.crt", "/mine.crt", "/certs/h.auth.key"];
        assert_eq!(paths(&settings, "h"), expected);
        assert!(settings.depends_on_host());
        settings.certificate_directory = None;
        assert_eq!(settings.files_for("h").pair, None);
        assert!(!settings.depends_on_host());
    }

    #[test]
    fn t14_a_service_started_somewhere_else_finds_the_named_file_and_no_predefined_one() {
        // Windows starts services in its own directory, where nobody has put certificates.
        let system = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.certificate_directory = Some(system.path().join("certs"));
        let mut found = |ca_file: Option<PathBuf>| {
            settings.ca_file = ca_file;
            let ca = settings.files_for("gitlab.example.com").ca;
            ca.filter(|file| file.path().is_file())
                .map(|file| file.path().to_owned())
        };
        assert_eq!(found(None), None);
        let named = system.path().join("ca.crt");
        std::fs::write(&named, "x").unwrap();
        assert_eq!(found(Some(named.clone())), Some(named));
    }

    #[test]
    fn a_file_named_in_the_case_as_typed_is_found() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("GitLab.Example.com.crt"), "x").unwrap();
        let mut settings = settings();
        settings.certificate_directory = Some(directory.path().to_owned());
        let files = settings.files_for("gitlab.example.com");
        assert_eq!(
            files.ca.unwrap().path(),
            directory.path().join("GitLab.Example.com.crt")
        );
    }
}
