//! `courser trust import`: certificates out of a file of any kind, written as plain PEM.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use courser_trust::{Certificate, Fingerprint, PrivateKey};

use super::fingerprint::{self, colons};
use super::now;
use super::opened::{self, Opened, PasswordOption};
use super::shown_certificate::ShownCertificate;
use super::trust_file::{self, TrustFile, commented};
use crate::failure::{Code, Failure};
use crate::platform;
use crate::questions::Questions;
use crate::session::Session;
use crate::stdout::print_text;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Import {
    /// A file with certificates: PEM, DER, PKCS#7, PKCS#12, UTF-16 text, …; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File to write or to add to; FILE itself is replaced [default: standard output]
    #[arg(long, value_name = "PATH", conflicts_with = "host")]
    to: Option<PathBuf>,
    /// Write to the predefined file of this host, certs/HOST.crt
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Take the certificate with this fingerprint only; may be given several times; nothing is asked then
    #[arg(long, value_name = "SHA256", value_parser = fingerprint::parse)]
    fingerprint: Vec<Fingerprint>,
    /// Take all certificates without asking
    #[arg(long, conflicts_with = "fingerprint")]
    yes: bool,
    /// Write the private key in the file to PATH, readable by its owner only
    #[arg(long, value_name = "PATH")]
    key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordOption,
}

const HELP: &str = "\
Reads any file that holds certificates and writes them as PEM, each below a comment with its
subject and fingerprint. The fingerprints are shown first; on a terminal you are asked, elsewhere
--fingerprint or --yes says that they are the right ones. A file that is there already is added
to, FILE itself is replaced. Private keys are left out unless --key names a file for them.

  courser trust import ca.der --host gitlab.example.com
  courser trust import company.p7b --to /etc/gitlab-runner/ca.crt --fingerprint 9D:B3:1B:A0:…
  courser trust import client.pfx --password-file password.txt --to client.crt --key client.key --yes
  courser trust import messy.crt > clean.crt

Exit codes: 0 written or held already, 1 not confirmed or nothing to import, 2 unusable arguments
or files.";

/// Runs it.
pub(super) async fn run(import: &Import, session: &Session) -> Result<ExitCode, Failure> {
    let opened = opened::open(&import.file, &import.password, session)?;
    let chosen = choose(import, &opened)?;
    let key = match &import.key {
        Some(path) => Some((
            session.environment.working_directory.join(path),
            key(import, &opened)?,
        )),
        None => None,
    };
    let source = session.environment.working_directory.join(&import.file);
    let target = target(import, session)?;
    if let Some((path, _)) = &key
        && (path.symlink_metadata().is_ok() || target.as_ref() == Some(path))
    {
        let path = path.display();
        return Err(Failure::invalid(format!(
            "{path} is there already, and keys replace nothing: nothing was written"
        ))
        .hint("name another file with --key"));
    }
    let in_place = target
        .as_ref()
        .is_some_and(|target| same_file(&source, target));
    if in_place && import.key.is_none() && opened.file.private_keys().next().is_some() {
        let file = import.file.display();
        return Err(Failure::new(
            Code::Failed,
            format!("{file} holds a private key, which would be lost: nothing was written"),
        )
        .hint("write the key elsewhere with --key, or the certificates with --to"));
    }
    let Some(target) = target else {
        let text: String = chosen.iter().map(|one| commented(one)).collect();
        print_text(&text)?;
        if let Some((path, key)) = key {
            write_key(&path, key)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut text = format!("{}: {}\n", import.file.display(), opened.file.form);
    for (number, certificate) in chosen.iter().enumerate() {
        ShownCertificate::with_days_left(certificate, now()).write(&mut text, number);
    }
    let _ = writeln!(text, "to be written to {}", target.display());
    print_text(&text)?;
    if let Err(reason) = confirm(import).await? {
        print_text(&format!("nothing was written: {reason}\n"))?;
        return Ok(Code::Failed.into());
    }
    let added = if in_place {
        let text: String = chosen.iter().map(|one| commented(one)).collect();
        trust_file::write(&target, text.as_bytes()).map_err(|error| {
            Failure::invalid(format!("cannot write {}: {error}", target.display()))
        })?;
        chosen.len()
    } else {
        TrustFile::read(&target)?.add(&target, &chosen)?
    };
    let target = target.display();
    print_text(&match added {
        0 => format!("{target} holds them already\n"),
        1 => format!("written to {target}: 1 certificate\n"),
        added => format!("written to {target}: {added} certificates\n"),
    })?;
    if let Some((path, key)) = key {
        write_key(&path, key)?;
        print_text(&format!("written to {}: the private key\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The certificates that are taken, each once.
fn choose(import: &Import, opened: &Opened) -> Result<Vec<Arc<Certificate>>, Failure> {
    let mut chosen: Vec<Arc<Certificate>> = Vec::new();
    for certificate in opened.file.certificates() {
        let fingerprint = certificate.fingerprint();
        let known = chosen.iter().any(|one| one.fingerprint() == fingerprint);
        let wanted = import.fingerprint.is_empty() || import.fingerprint.contains(&fingerprint);
        if wanted && !known {
            chosen.push(Arc::new(certificate.clone()));
        }
    }
    let file = import.file.display();
    let nothing = |why: String| {
        Err(Failure::new(Code::Failed, why)
            .hint(format!("courser trust explain {file} says what it is")))
    };
    if let Some(error) = &opened.file.locked {
        return Err(Failure::invalid(format!("{file}: {error}"))
            .hint("--password-file names a file whose first line is the password"));
    }
    let missing = import
        .fingerprint
        .iter()
        .find(|wanted| !chosen.iter().any(|one| one.fingerprint() == **wanted));
    if let (Some(missing), true) = (missing, opened.file.certificates().next().is_some()) {
        let missing = colons(*missing);
        return nothing(format!(
            "no certificate in {file} has the fingerprint {missing}"
        ));
    }
    if chosen.is_empty() {
        return nothing(format!(
            "{file} holds no certificate: it is {}",
            opened.file.form
        ));
    }
    Ok(chosen)
}

/// The one private key of the file.
fn key<'a>(import: &Import, opened: &'a Opened) -> Result<&'a PrivateKey, Failure> {
    let file = import.file.display();
    let mut keys = opened.file.private_keys();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(Failure::new(
            Code::Failed,
            format!("{file} holds no private key"),
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            Code::Failed,
            format!("{file} holds several private keys"),
        )),
    }
}

/// Where the certificates go; none is standard output.
fn target(import: &Import, session: &Session) -> Result<Option<PathBuf>, Failure> {
    let environment = &session.environment;
    if let Some(path) = &import.to {
        return Ok(Some(environment.working_directory.join(path)));
    }
    let Some(host) = &import.host else {
        return Ok(None);
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() || bare.contains(['/', '\\', '\0']) || bare.starts_with('.') {
        return Err(Failure::invalid(format!("{host:?} is no host name"))
            .hint("write the host of the URL, without scheme and port"));
    }
    let directory = environment.certificate_directory();
    Ok(Some(directory.join(format!("{bare}.crt"))))
}

/// Whether to write; else why not.
async fn confirm(import: &Import) -> Result<Result<(), &'static str>, Failure> {
    if import.yes || !import.fingerprint.is_empty() {
        return Ok(Ok(()));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(Err(
            "nobody is here to compare the fingerprints; --fingerprint or --yes says that they are right",
        ));
    }
    let question =
        "Are these the fingerprints that the owner of the certificates tells you? (yes/no)";
    let answer = Questions::new(false)
        .ask("yes", question, None, true)
        .await?;
    Ok(if answer == "yes" {
        Ok(())
    } else {
        Err("the fingerprints were not confirmed")
    })
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::canonicalize(one), std::fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Writes a new file with mode 0600; one that is there stays.
fn write_key(path: &Path, key: &PrivateKey) -> Result<(), Failure> {
    use std::io::Write as _;

    let written = platform::new_private_file()
        .open(path)
        .and_then(|mut file| {
            file.write_all(key.to_pem().as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))
}
