//! The CA file that is mounted into helper containers (`runner-tls.md` 5.1, T29).
//!
//! Upstream's helper image has an entrypoint for it, in front of each command. Ours has none: the process that serves the
//! runner in the container does it before anything else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use courser_config::Environment;

use crate::HelperError;

/// Names another file than [`SOURCE`].
const VARIABLE: &str = "CA_CERTIFICATES_PATH";
const SOURCE: &str = "/etc/gitlab-runner/certs/ca.crt";

/// Where `update-ca-certificates` looks; here it tells what was done before.
const TARGET: &str = "usr/local/share/ca-certificates/ca.crt";

/// Bundles that programs of images read, the first that is there counts: Debian and Alpine, Red Hat, SUSE.
const BUNDLES: [&str; 3] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
];

/// Far more than any file of CAs has.
const LARGEST: u64 = 4 << 20;

/// Has the programs of the container at `root` trust the mounted certificates. `false`: there are none, or it was done
/// before.
///
/// # Errors
///
/// A file cannot be read or written, as when the container does not run as root, or holds no certificate.
pub fn trust_mounted_ca(root: &Path, variables: &Environment) -> Result<bool, HelperError> {
    let named = variables.get(VARIABLE).filter(|path| !path.is_empty());
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let source = below(named.unwrap_or(SOURCE));
    let Some(certificates) = read(&source)? else {
        return Ok(false);
    };
    let target = below(TARGET);
    if read(&target)?.as_ref() == Some(&certificates) {
        return Ok(false);
    }
    if !certificates.contains("-----BEGIN CERTIFICATE-----") {
        let text = format!("{} holds no certificate in PEM form", source.display());
        return Err(HelperError::Request(text));
    }
    let bundles = BUNDLES.map(below);
    let bundle = bundles.iter().find(|path| path.is_file());
    append(bundle.unwrap_or(&bundles[0]), &certificates)?;
    write_new(&target, &certificates)?;
    Ok(true)
}

/// The text of a file, `None` when there is none.
fn read(path: &Path) -> Result<Option<String>, HelperError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HelperError::io(path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(HelperError::io(path))?;
    if bytes.len() as u64 > LARGEST {
        let text = format!("{} is larger than {LARGEST} bytes", path.display());
        return Err(HelperError::Request(text));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// In place: the bundle may be a mount, which nothing can be renamed to.
fn append(bundle: &Path, certificates: &str) -> Result<(), HelperError> {
    make_parent(bundle)?;
    let appended = || {
        let mut file = OpenOptions::new().append(true).create(true).open(bundle)?;
        write!(file, "\n{}\n", certificates.trim_end())
    };
    appended().map_err(HelperError::io(bundle))
}

fn write_new(path: &Path, text: &str) -> Result<(), HelperError> {
    make_parent(path)?;
    fs::write(path, text).map_err(HelperError::io(path))
}

fn make_parent(path: &Path) -> Result<(), HelperError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(HelperError::io(parent))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const OURS: &str = "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n";
    const THEIRS: &str = "-----BEGIN CERTIFICATE-----\ntheirs\n-----END CERTIFICATE-----\n";

    fn container(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a directory");
        for (path, text) in files {
            write_new(&root.path().join(path), text).expect("written");
        }
        root
    }

    fn trusted(root: &TempDir, variables: &[(&str, &str)]) -> Result<bool, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = Environment::new(variables.iter().map(owned));
        trust_mounted_ca(root.path(), &variables).map_err(|error| error.to_string())
    }

    fn text(root: &TempDir, path: &str) -> String {
        fs::read_to_string(root.path().join(path)).expect("there")
    }

    #[test]
    fn t29_a_mounted_ca_is_added_once() {
        let source = "etc/gitlab-runner/certs/ca.crt";
        for bundle in BUNDLES {
            let root = container(&[(source, OURS), (bundle, THEIRS)]);
            assert_eq!(trusted(&root, &[]), Ok(true));
            assert_eq!(text(&root, bundle), format!("{THEIRS}\n{OURS}"));
            assert_eq!(text(&root, TARGET), OURS);
            assert_eq!(trusted(&root, &[]), Ok(false), "it was done");
            assert_eq!(text(&root, bundle), format!("{THEIRS}\n{OURS}"));
            // The mount has another one now.
            write_new(&root.path().join(source), THEIRS).expect("written");
            assert_eq!(trusted(&root, &[]), Ok(true));
            assert!(text(&root, bundle).ends_with(THEIRS));
        }
    }

    #[test]
    fn an_image_without_a_bundle_gets_one_and_the_variable_names_the_file() {
        let root = container(&[("srv/ca.pem", OURS)]);
        assert_eq!(trusted(&root, &[]), Ok(false), "nothing is mounted");
        assert_eq!(trusted(&root, &[(VARIABLE, "/srv/ca.pem")]), Ok(true));
        assert!(text(&root, BUNDLES[0]).contains("ours"));
    }

    #[test]
    fn what_holds_no_certificate_is_named_and_not_added() {
        let root = container(&[
            ("etc/gitlab-runner/certs/ca.crt", "hello"),
            (BUNDLES[0], THEIRS),
        ]);
        let error = trusted(&root, &[]).expect_err("refused");
        assert!(
            error.ends_with("ca.crt holds no certificate in PEM form"),
            "{error}"
        );
        assert_eq!(text(&root, BUNDLES[0]), THEIRS);
    }
}
