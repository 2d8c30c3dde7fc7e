//! `courser trust explain`: what a file is, what is in it, and what it would do as `tls-ca-file`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use courser_trust::{
    Certificate, FileForm, ItemContent, Moment, Pkcs12Error, Remedy, Source, SourceContent,
    shell_word,
};

use super::now;
use super::opened::{self, Opened, PasswordOption};
use super::shown_certificate::ShownCertificate;
use super::shown_remedy::ShownRemedy;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Explain {
    /// A file of any kind: PEM, DER, PKCS#7, PKCS#12, a key, a request, …; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    password: PasswordOption,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Says what the file is, what each certificate in it is and how long it is valid, whether a chain is
in order, what gitlab-runner and Courser would do with it as tls-ca-file, and the one command that
makes a trust file out of it. Nothing is written or connected to.

  courser trust explain /etc/gitlab-runner/certs/gitlab.example.com.crt
  courser trust explain company.pfx --password-file password.txt
  courser trust explain download.crt --json

Exit codes: 0 it holds a certificate, 1 it holds none, 2 it cannot be read.";

/// Runs it.
pub(super) fn run(explain: &Explain, session: &Session) -> Result<ExitCode, Failure> {
    let opened = opened::open(&explain.file, &explain.password, session)?;
    let explanation = Explanation::new(&explain.file, &opened, now());
    if explain.json {
        print_json(&explanation)?;
    } else {
        print_text(&explanation.text())?;
    }
    Ok(if opened.file.certificates().next().is_some() {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    })
}

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Explanation {
    file: String,
    form: String,
    /// Why it could not be opened.
    locked: Option<String>,
    contents: Vec<Content>,
    /// What is wrong with the order, for files that hold a server's chain.
    order: Option<String>,
    as_tls_ca_file: AsTrust,
    remedy: Option<ShownRemedy>,
}

#[derive(serde::Serialize)]
struct Content {
    line: Option<usize>,
    kind: &'static str,
    /// What is to be said beside its kind.
    note: Option<String>,
    certificate: Option<ShownCertificate>,
}

/// What reading the file as `tls-ca-file` gives.
#[derive(serde::Serialize)]
struct AsTrust {
    certificates: usize,
    words: String,
    skipped: Vec<String>,
}

impl Explanation {
    fn new(path: &Path, opened: &Opened, now: Moment) -> Self {
        let file = &opened.file;
        let form = match (file.is_utf16, file.form) {
            (true, form) => format!("{form}, in UTF-16"),
            (false, form) => form.to_string(),
        };
        let content = SourceContent::read(Source::Configured(path.to_owned()), &opened.bytes);
        let worrying = || {
            let skipped = content.skipped().iter();
            skipped.filter(|block| !block.reason.is_harmless())
        };
        let mut seen = HashSet::new();
        let certificates: Vec<&Certificate> = file
            .certificates()
            .filter(|one| seen.insert(one.fingerprint()))
            .collect();
        Self {
            file: path.display().to_string(),
            form,
            locked: file.locked.as_ref().map(ToString::to_string),
            contents: file
                .items
                .iter()
                .map(|item| Content::new(item.line, &item.content, now))
                .collect(),
            order: order(&certificates),
            as_tls_ca_file: AsTrust {
                certificates: content.count(),
                words: as_trust(path, &content, &certificates),
                skipped: worrying()
                    .map(|block| format!("line {}: {}", block.line, block.reason))
                    .collect(),
            },
            remedy: remedy(path, opened, worrying().next().is_some()).map(ShownRemedy::from),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.file, self.form);
        if let Some(locked) = &self.locked {
            let _ = writeln!(text, "  not opened: {locked}");
        }
        let mut number = 0;
        for content in &self.contents {
            let line = content
                .line
                .map_or_else(String::new, |line| format!(" (line {line})"));
            if let Some(certificate) = &content.certificate {
                certificate.write(&mut text, number);
                certificate.write_details(&mut text);
                number += 1;
            } else {
                let _ = writeln!(text, "  {}{line}", content.kind);
            }
            if let Some(note) = &content.note {
                let _ = writeln!(text, "     {note}");
            }
        }
        if let Some(order) = &self.order {
            let _ = writeln!(text, "order: {order}");
        }
        let _ = writeln!(text, "as tls-ca-file: {}", self.as_tls_ca_file.words);
        for skipped in &self.as_tls_ca_file.skipped {
            let _ = writeln!(text, "  skipped {skipped}");
        }
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(text, "remedy: {}", remedy.advice);
            if let Some(command) = &remedy.command {
                let _ = writeln!(text, "  $ {command}");
            }
        }
        text
    }
}

impl Content {
    fn new(line: Option<usize>, content: &ItemContent, now: Moment) -> Self {
        let (kind, note, certificate) = match content {
            ItemContent::Certificate(certificate) => (
                "certificate",
                standing(certificate, now),
                Some(ShownCertificate::with_days_left(certificate, now)),
            ),
            ItemContent::PrivateKey(key) if key.is_encrypted() => (
                "encrypted private key",
                Some(
                    "the runner cannot use it: openssl pkey writes it without a passphrase"
                        .to_owned(),
                ),
                None,
            ),
            ItemContent::PrivateKey(_) => ("private key", None, None),
            ItemContent::PublicKey => ("public key", None, None),
            ItemContent::Request => (
                "certificate signing request",
                Some("a CA makes a certificate out of it; it is none itself".to_owned()),
                None,
            ),
            ItemContent::RevocationList => ("revocation list", None, None),
            ItemContent::BadCertificate(error) => (
                "unusable certificate",
                Some(format!("Go and Courser refuse it: x509: {error}")),
                None,
            ),
            ItemContent::Damaged(why) => ("damaged block", Some(why.clone()), None),
            ItemContent::Other(label) => (
                "other content",
                Some(label.escape_debug().to_string()),
                None,
            ),
            _ => ("other content", None, None),
        };
        Self {
            line,
            kind,
            note,
            certificate,
        }
    }
}

/// What trusting it means, where that is worth a line.
fn standing(certificate: &Certificate, now: Moment) -> Option<String> {
    if now > certificate.not_after() {
        return Some("it has expired: nothing is accepted because of it".to_owned());
    }
    if now < certificate.not_before() {
        return Some("it is not valid yet: nothing is accepted because of it".to_owned());
    }
    if certificate.is_ca() || certificate.is_self_signed() {
        return None;
    }
    Some("it is no CA: as trusted certificate it stands for its own server only".to_owned())
}

/// A server's chain goes from its own certificate upwards. Files without one, or with one certificate, have no order.
fn order(certificates: &[&Certificate]) -> Option<String> {
    let leaves = certificates.iter().filter(|one| !one.is_ca()).count();
    if certificates.len() < 2 || leaves == 0 {
        return None;
    }
    if certificates[0].is_ca() {
        return Some(
            "a server sends its own certificate first, here a CA comes first; as trusted certificates the order \
             does not matter"
                .to_owned(),
        );
    }
    if leaves > 1 {
        return Some(format!(
            "it holds {leaves} certificates of servers or clients; a chain has one"
        ));
    }
    let broken = certificates
        .windows(2)
        .find(|pair| !pair[0].is_issued_by(pair[1]))?;
    Some(format!(
        "{} is followed by {}, which did not issue it",
        broken[0].subject(),
        broken[1].subject()
    ))
}

fn as_trust(path: &Path, content: &SourceContent, certificates: &[&Certificate]) -> String {
    let file = path.display();
    match (content.count(), certificates.len()) {
        (0, _) => format!(
            "nothing is trusted; gitlab-runner and Courser log \"Failed to parse PEM in {file}\" and go on with the \
             system store"
        ),
        (count, all) if count < all => {
            let verb = if count == 1 { "is" } else { "are" };
            format!("{count} of its {all} certificates {verb} trusted beside the system store")
        }
        (1, _) => "its certificate is trusted beside the system store".to_owned(),
        (count, _) => format!("its {count} certificates are trusted beside the system store"),
    }
}

/// The one thing to do, if there is any.
fn remedy(path: &Path, opened: &Opened, skipped: bool) -> Option<Remedy> {
    let file = &opened.file;
    let word = shell_word(&path.display().to_string());
    let clean = match word.as_str() {
        "-" => "certificates.pem".to_owned(),
        word => format!("{word}.pem"),
    };
    let advice = |advice: &str| Some(Remedy::advice(advice));
    let with = |advice: &str, command: String| Some(Remedy::advice(advice).with_command(command));
    if file.certificates().next().is_some() {
        let usable = file.form == FileForm::Pem && !skipped;
        return if usable {
            None
        } else {
            with(
                "write its certificates as plain PEM",
                format!("courser trust import {word} --to {clean}"),
            )
        };
    }
    match &file.locked {
        Some(Pkcs12Error::PasswordNeeded | Pkcs12Error::WrongPassword) => {
            return with(
                "give the password that it was made with, in the first line of a file",
                format!("courser trust import {word} --password-file PASSWORD --to {clean}"),
            );
        }
        Some(error) => {
            return with(
                &format!("{error}; OpenSSL may open it"),
                format!("openssl pkcs12 -legacy -nokeys -in {word} -out {clean}"),
            );
        }
        None => {}
    }
    let holds =
        |wanted: fn(&ItemContent) -> bool| file.items.iter().any(|item| wanted(&item.content));
    if holds(|content| matches!(content, ItemContent::BadCertificate(_))) {
        return advice("have the certificate issued again");
    }
    if holds(|content| matches!(content, ItemContent::Request)) {
        return advice("send it to the CA; what comes back is the certificate");
    }
    if holds(|content| matches!(content, ItemContent::PrivateKey(_))) {
        return advice(
            "this is a key: name it in tls-key-file, keep it to yourself (chmod 600), and look for the certificate in \
             another file",
        );
    }
    match file.form {
        FileForm::JavaKeyStore => with(
            "turn it into PKCS#12, which can be imported",
            format!(
                "keytool -importkeystore -srckeystore {word} -destkeystore {word}.p12 -deststoretype pkcs12"
            ),
        ),
        FileForm::Html => advice(
            "the download gave a page instead of the file, most likely for want of a login or because of a proxy: open \
             it in a browser, and download again",
        ),
        FileForm::SshKey => {
            advice("keys of SSH have nothing to do with TLS: ask for the CA certificate")
        }
        _ => advice("ask whoever runs the CA for its certificate, in PEM form"),
    }
}
