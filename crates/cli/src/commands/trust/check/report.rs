//! What the legs showed: for eyes, and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use courser_net::{ClientCertificate, Fault, Inspection};
use courser_trust::{Certificate, Moment, Source, VerifyError};

use super::look::Finding;
use crate::commands::trust::shown_certificate::{ShownCertificate, days_left};
use crate::commands::trust::shown_remedy::ShownRemedy;

/// Days left from which a certificate is warned about.
const SOON: i64 = 30;
/// Names of a certificate that are shown; some have hundreds.
const MOST_NAMES: usize = 6;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
const LABEL: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// All findings.
pub(super) struct Report<'a> {
    /// As whom was looked.
    pub(super) user: String,
    /// Predefined files of the runner's legs.
    pub(super) directory: PathBuf,
    /// Predefined files of a job's legs.
    pub(super) job_directory: PathBuf,
    pub(super) findings: &'a [Finding],
    pub(super) now: Moment,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "As user {}; predefined files in {}{}\n",
            self.user,
            self.directory.display(),
            if self.job_directory == self.directory {
                String::new()
            } else {
                format!(", for jobs in {}", self.job_directory.display())
            }
        );
        for (number, finding) in self.findings.iter().enumerate() {
            text.push('\n');
            self.finding(&mut text, finding, &self.findings[..number]);
        }
        let failed = self.findings.iter().filter(|one| !one.is_fine()).count();
        let all = self.findings.len();
        let legs = if all == 1 { "leg" } else { "legs" };
        if failed == 0 {
            let _ = writeln!(text, "\n{GOOD}{all} {legs}, all fine{GOOD:#}");
        } else {
            let verb = if failed == 1 { "fails" } else { "fail" };
            let _ = writeln!(text, "\n{BAD}{failed} of {all} {legs} {verb}{BAD:#}");
        }
        text
    }

    fn finding(&self, text: &mut String, finding: &Finding, before: &[Finding]) {
        let same = before.iter().find(|one| same_fault(one, finding));
        let mark = if finding.is_fine() {
            format!("{GOOD}✓{GOOD:#}")
        } else {
            format!("{BAD}✗{BAD:#}")
        };
        let _ = writeln!(
            text,
            "{mark} {STRONG}{:<9}{STRONG:#} {}",
            finding.name, finding.url
        );
        if let Some(note) = &finding.note {
            wrapped(text, "said", note, Style::new());
        }
        let Some(inspection) = &finding.inspection else {
            if finding.is_fine() && finding.note.is_none() {
                line(text, "tls", "none: this is plain HTTP");
            }
            fault(text, finding, same);
            return;
        };
        line(text, "way", &way(inspection, finding.http_status));
        let known = before.iter().find(|one| same_server(one, finding));
        if let Some(known) = known {
            line(text, "sent", &format!("the same as {}", known.name));
        } else {
            for (number, certificate) in finding.received.iter().enumerate() {
                let label = if number == 0 { "sent" } else { "" };
                line(text, label, &self.certificate(number, certificate));
            }
            if let Some(leaf) = finding.received.first() {
                line(text, "names", &names(leaf));
            }
        }
        verdict(text, inspection);
        if known.is_none() {
            for warning in self.warnings(finding) {
                wrapped(text, "warning", &warning, WARNING);
            }
        }
        fault(text, finding, same);
    }

    fn certificate(&self, number: usize, certificate: &Certificate) -> String {
        let left = days_left(certificate, self.now);
        let until = match left {
            ..0 => format!("{BAD}expired {}{BAD:#}", date(certificate)),
            0..SOON => format!(
                "{WARNING}until {} ({left} days){WARNING:#}",
                date(certificate)
            ),
            _ => format!("until {} ({left} days)", date(certificate)),
        };
        let issuer = if certificate.is_self_issued() {
            "itself".to_owned()
        } else {
            short_name(&certificate.issuer().to_string())
        };
        format!(
            "{number}. {}, issued by {issuer}, {until}",
            short(certificate)
        )
    }

    fn warnings(&self, finding: &Finding) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut certificates: Vec<Arc<Certificate>> = finding.received.clone();
        if let Some(inspection) = &finding.inspection {
            if let Ok(chains) = &inspection.outcome {
                let anchor = chains.chains()[0].anchor().certificate();
                if !certificates
                    .iter()
                    .any(|one| one.fingerprint() == anchor.fingerprint())
                {
                    certificates.push(Arc::clone(anchor));
                }
            }
            if let ClientCertificate::Offered(own) = &inspection.client_certificate
                && let Ok(own) = Certificate::parse(own)
            {
                certificates.push(Arc::new(own));
            }
        }
        for certificate in &certificates {
            let left = days_left(certificate, self.now);
            if (0..SOON).contains(&left) {
                warnings.push(format!(
                    "{} expires in {left} days, at {}",
                    certificate.subject(),
                    certificate.not_after()
                ));
            }
        }
        let received = finding
            .received
            .first()
            .map(|leaf| leaf.issuer().to_string());
        if let (Some(direct), Some(received)) = (&finding.issuer_without_proxy, received)
            && finding.is_fine()
            && *direct != received
        {
            warnings.push(format!(
                "the proxy replaces certificates: without it the server's is issued by {direct}"
            ));
        }
        warnings
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let legs: Vec<_> = self.findings.iter().map(|one| self.leg_json(one)).collect();
        serde_json::json!({
            "ok": self.findings.iter().all(Finding::is_fine),
            "user": self.user,
            "certificate_directory": self.directory,
            "job_certificate_directory": self.job_directory,
            "legs": legs,
        })
    }

    fn leg_json(&self, finding: &Finding) -> serde_json::Value {
        let inspection = finding.inspection.as_ref();
        let shown = |certificates: &[Arc<Certificate>]| -> Vec<_> {
            certificates
                .iter()
                .map(|one| ShownCertificate::new(one))
                .collect()
        };
        let fault = finding.fault.as_ref();
        let refused = fault.and_then(Fault::refused);
        let remedy = fault.and_then(Fault::remedy);
        let accepted = inspection.and_then(|one| one.outcome.as_ref().ok());
        let chain = accepted.map(|chains| shown(chains.chains()[0].certificates()));
        let anchor = accepted.map(|chains| {
            let anchor = chains.chains()[0].anchor();
            serde_json::json!({"source": anchor.source().to_string(), "line": anchor.line()})
        });
        let client = inspection.map(|one| match &one.client_certificate {
            ClientCertificate::NotAsked => serde_json::json!({"asked": false}),
            ClientCertificate::NotOffered => serde_json::json!({"asked": true, "offered": null}),
            ClientCertificate::Offered(own) => serde_json::json!({
                "asked": true,
                "offered": Certificate::parse(own).ok().map(|own| ShownCertificate::new(&own)),
            }),
        });
        let leaf = finding.received.first();
        serde_json::json!({
            "leg": finding.name,
            "url": finding.url,
            "ok": finding.is_fine(),
            "host": inspection.map(|one| &one.host),
            "port": inspection.map(|one| one.port),
            "proxy": inspection.and_then(|one| one.proxy.as_ref()),
            "address": inspection.and_then(|one| one.address),
            "protocol": inspection.and_then(|one| one.protocol),
            "cipher_suite": inspection.and_then(|one| one.cipher_suite.as_ref()),
            "application_protocol": inspection.and_then(|one| one.application_protocol.as_ref()),
            "connected_after_ms": inspection.map(|one| milliseconds(one.connected_after)),
            "handshake_ms": inspection.map(|one| milliseconds(one.handshake)),
            "received": shown(&finding.received),
            "names": leaf.map(|leaf| all_names(leaf)),
            "days_left": leaf.map(|leaf| days_left(leaf, self.now)),
            "chain": chain,
            "anchor": anchor,
            "missing": refused.and_then(VerifyError::missing_link),
            "consulted": refused.map(trusted),
            "client_certificate": client,
            "issuer_without_proxy": finding.issuer_without_proxy,
            "http_status": finding.http_status,
            "note": finding.note,
            "warnings": self.warnings(finding),
            "error": fault.map(Fault::summary),
            "remedy": remedy.cloned().map(ShownRemedy::from),
            "help": fault.and_then(Fault::help).map(|help| format!("docs/trust-errors.md#{help}")),
        })
    }
}

/// The chain that was needed, and whether the server wanted a certificate of ours.
fn verdict(text: &mut String, inspection: &Inspection) {
    if let Ok(chains) = &inspection.outcome {
        let chain = &chains.chains()[0];
        let anchor = chain.anchor();
        let needed: Vec<_> = chain
            .certificates()
            .iter()
            .map(|certificate| short(certificate))
            .collect();
        line(text, "chain", &needed.join(" ← "));
        let place = match anchor.source() {
            Source::Inline(label) => label.clone(),
            source => format!("{source}, line {}", anchor.line()),
        };
        line(text, "trusted", &format!("by {place}"));
    }
    match &inspection.client_certificate {
        ClientCertificate::NotAsked => {}
        ClientCertificate::NotOffered => {
            line(
                text,
                "client",
                "a certificate is asked for, none is configured",
            );
        }
        ClientCertificate::Offered(own) => {
            let own = Certificate::parse(own).map_or_else(
                |_| "a certificate".to_owned(),
                |own| format!("{}, until {}", own.subject(), own.not_after()),
            );
            line(text, "client", &format!("asked for, offered {own}"));
        }
    }
}

/// What fails, and the remedy.
fn fault(text: &mut String, finding: &Finding, earlier: Option<&Finding>) {
    let Some(fault) = &finding.fault else { return };
    if let Some(earlier) = earlier {
        line(
            text,
            "error",
            &format!("{BAD}the same as {}{BAD:#}", earlier.name),
        );
        return;
    }
    if let Some(refused) = fault.refused() {
        if let Some(missing) = refused.missing_link() {
            wrapped(text, "missing", &missing, BAD);
        }
        for (number, one) in trusted(refused).iter().enumerate() {
            line(text, if number == 0 { "trusted" } else { "" }, one);
        }
    }
    let mut summary = fault.summary().lines();
    wrapped(text, "error", summary.next().unwrap_or_default(), BAD);
    for more in summary {
        line(text, "", more);
    }
    if let Some(issuer) = &finding.issuer_without_proxy
        && fault.help() == Some("interception-by-a-proxy")
    {
        line(
            text,
            "direct",
            &format!("without the proxy it is issued by {issuer}"),
        );
    }
    if let Some(remedy) = fault.remedy() {
        wrapped(text, "remedy", &remedy.advice, Style::new());
        if let Some(command) = &remedy.command {
            line(text, "", &format!("{STRONG}$ {command}{STRONG:#}"));
        }
    }
    if let Some(help) = fault.help() {
        line(text, "help", &format!("docs/trust-errors.md#{help}"));
    }
}

/// Whether both legs ended at one server with one certificate.
fn same_server(one: &Finding, other: &Finding) -> bool {
    let place = |finding: &Finding| {
        let inspection = finding.inspection.as_ref();
        let inspection = inspection.filter(|inspection| !inspection.received.is_empty())?;
        let proxy = inspection.proxy.clone();
        let received = inspection.received.clone();
        Some((inspection.host.clone(), inspection.port, proxy, received))
    };
    let own = place(one);
    own.is_some() && own == place(other)
}

/// Whether telling the fault again would tell nothing new.
fn same_fault(one: &Finding, other: &Finding) -> bool {
    let facts = |finding: &Finding| {
        let fault = finding.fault.as_ref()?;
        let inspection = finding.inspection.as_ref()?;
        let missing = fault.refused().and_then(VerifyError::missing_link);
        Some((
            inspection.host.clone(),
            inspection.port,
            fault.summary().to_owned(),
            missing,
        ))
    };
    let own = facts(one);
    own.is_some() && own == facts(other)
}

fn line(text: &mut String, label: &str, content: &str) {
    let _ = writeln!(text, "    {LABEL}{label:<8}{LABEL:#} {content}");
}

/// A longer text in lines of its own.
fn wrapped(text: &mut String, label: &str, content: &str, style: Style) {
    const WIDTH: usize = 96;
    let mut lines: Vec<String> = vec![String::new()];
    for word in content.split(' ') {
        let current = lines
            .last_mut()
            .unwrap_or_else(|| unreachable!("never empty"));
        if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
    }
    for (number, content) in lines.iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        line(text, label, &format!("{style}{content}{style:#}"));
    }
}

fn way(inspection: &Inspection, http_status: Option<u16>) -> String {
    let mut parts = Vec::new();
    parts.push(match (&inspection.proxy, inspection.address) {
        (Some(proxy), _) => format!("through the proxy {proxy}"),
        (None, Some(address)) => format!("directly to {address}"),
        (None, None) => "directly".to_owned(),
    });
    parts.extend(inspection.protocol.map(ToOwned::to_owned));
    parts.extend(inspection.cipher_suite.clone());
    parts.extend(inspection.application_protocol.clone());
    if inspection.protocol.is_some() {
        let all = inspection.connected_after + inspection.handshake;
        parts.push(format!("{} ms", milliseconds(all)));
    }
    parts.extend(http_status.map(|status| format!("HTTP {status}")));
    parts.join(", ")
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn all_names(leaf: &Certificate) -> Vec<String> {
    let addresses = leaf.ip_addresses().iter().map(ToString::to_string);
    leaf.dns_names().iter().cloned().chain(addresses).collect()
}

fn names(leaf: &Certificate) -> String {
    let all = all_names(leaf);
    let shown: Vec<_> = all
        .iter()
        .take(MOST_NAMES)
        .map(|name| name.escape_debug().to_string())
        .collect();
    match all.len().saturating_sub(MOST_NAMES) {
        _ if all.is_empty() => "none: it has no subjectAltName".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn short(certificate: &Certificate) -> String {
    short_name(&certificate.subject().to_string())
}

/// Long names are cut: what tells them apart stands first.
fn short_name(name: &str) -> String {
    const LONGEST: usize = 60;
    if name.is_empty() {
        return "(no name)".to_owned();
    }
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn date(certificate: &Certificate) -> String {
    let whole = certificate.not_after().to_string();
    whole.split('T').next().unwrap_or_default().to_owned()
}

/// Where trusted certificates were looked for.
fn trusted(refused: &VerifyError) -> Vec<String> {
    let mut lines = refused.trusted_here();
    if lines.is_empty() {
        lines.push("nothing: no source of trusted certificates was given".to_owned());
    }
    lines
}
