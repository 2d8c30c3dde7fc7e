//! A certificate as the `trust` commands show it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use courser_trust::{Certificate, Moment, TrustedCertificate};

const DAY: i64 = 86_400;

/// The facts of a certificate, for JSON and text.
#[derive(Debug, serde::Serialize)]
pub(super) struct ShownCertificate {
    subject: String,
    issuer: String,
    self_issued: bool,
    ca: bool,
    dns_names: Vec<String>,
    ip_addresses: Vec<String>,
    key: String,
    extended_key_usages: Vec<String>,
    not_before: String,
    not_after: String,
    /// Whole days until the end of its validity, negative after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<i64>,
    fingerprint_sha256: String,
    /// Where it is trusted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<ShownSource>,
}

#[derive(Debug, serde::Serialize)]
struct ShownSource {
    name: String,
    line: usize,
}

impl ShownCertificate {
    /// A certificate that somebody sent.
    pub(super) fn new(certificate: &Certificate) -> Self {
        let addresses = certificate.ip_addresses().iter();
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            self_issued: certificate.is_self_issued(),
            ca: certificate.is_ca(),
            dns_names: certificate.dns_names().to_vec(),
            ip_addresses: addresses.map(ToString::to_string).collect(),
            key: certificate.key_name(),
            extended_key_usages: certificate.extended_key_usages(),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
            days_left: None,
            fingerprint_sha256: certificate.fingerprint().to_string(),
            source: None,
        }
    }

    /// A certificate that is trusted here.
    pub(super) fn trusted(trusted: &TrustedCertificate) -> Self {
        Self {
            source: Some(ShownSource {
                name: trusted.source().to_string(),
                line: trusted.line(),
            }),
            ..Self::new(trusted.certificate())
        }
    }

    /// A certificate of a file, with the days that it has left.
    pub(super) fn with_days_left(certificate: &Certificate, now: Moment) -> Self {
        Self {
            days_left: Some(days_left(certificate, now)),
            ..Self::new(certificate)
        }
    }

    /// Several lines, the first one numbered.
    pub(super) fn write(&self, text: &mut String, number: usize) {
        let issuer = if self.self_issued {
            "itself"
        } else {
            &self.issuer
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {number}. {}\n     issued by {issuer}\n     valid from {} to {}, SHA-256 {}",
            self.subject, self.not_before, self.not_after, self.fingerprint_sha256
        );
        if let Some(source) = &self.source {
            let _ = writeln!(
                text,
                "     trusted from {}, line {}",
                source.name, source.line
            );
        }
    }

    /// Names, key and purposes, below what [`write`](Self::write) writes.
    pub(super) fn write_details(&self, text: &mut String) {
        let names = self.dns_names.iter().chain(&self.ip_addresses);
        let names: Vec<&str> = names.map(String::as_str).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "     for {}", names.join(", ").escape_debug());
        }
        let kind = match (self.ca, self.self_issued) {
            (true, true) => "a root CA",
            (true, false) => "an intermediate CA",
            (false, true) => "self-signed, no CA",
            (false, false) => "no CA",
        };
        let _ = write!(text, "     {kind}, key {}", self.key);
        if !self.extended_key_usages.is_empty() {
            let _ = write!(text, ", for {}", self.extended_key_usages.join(", "));
        }
        if let Some(days) = self.days_left {
            let style = urgency(days);
            let _ = write!(text, ", {style}{}{style:#}", days_in_words(days));
        }
        text.push('\n');
    }

    /// One line: subject, and how long it is valid; coloured when that is not long.
    pub(super) fn line(&self) -> String {
        let Some(days) = self.days_left else {
            return self.subject.clone();
        };
        let style = urgency(days);
        let words = days_in_words(days);
        format!("{}, {style}{words}{style:#}", self.subject)
    }
}

fn days_in_words(days: i64) -> String {
    match days {
        -1 => "expired since yesterday".to_owned(),
        ..0 => format!("expired {} days ago", -days),
        0 => "expires today".to_owned(),
        1 => "1 day left".to_owned(),
        _ => format!("{days} days left"),
    }
}

/// Whole days until a certificate expires.
pub(super) fn days_left(certificate: &Certificate, now: Moment) -> i64 {
    let seconds = certificate.not_after().unix_seconds() - now.unix_seconds();
    seconds.div_euclid(DAY)
}

/// Red below a week, yellow below a month.
fn urgency(days: i64) -> Style {
    match days {
        ..7 => AnsiColor::Red.on_default().bold(),
        7..30 => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}
