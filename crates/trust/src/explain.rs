//! The whole story of a refused peer: what it served, which link is missing, what is trusted here, what to type.

use std::fmt::{self, Write as _};
use std::path::Path;

use crate::certificate::Certificate;
use crate::error::{Facts, Reason};
use crate::host_name::PeerName;
use crate::skip_reason::{SkipReason, shell_word};
use crate::store::Source;
use crate::verify::Usage;

/// What to do, in a sentence, and the command for it when there is one. Prints as `advice: command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// A sentence without a full stop.
    pub advice: String,
    /// A command line to type.
    pub command: Option<String>,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice)?;
        match &self.command {
            Some(command) => write!(f, ": {command}"),
            None => Ok(()),
        }
    }
}

impl Remedy {
    /// A sentence alone.
    pub fn advice(advice: impl Into<String>) -> Self {
        Self {
            advice: advice.into(),
            command: None,
        }
    }

    /// With a command line to type.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Several lines, the last one without a newline.
pub(crate) fn story(summary: &str, facts: &Facts, remedy: &Remedy) -> String {
    let mut text = format!("{summary}\n");
    served(&mut text, facts);
    if let Some(missing) = missing_link(facts) {
        let _ = writeln!(text, "missing: {missing}");
    }
    trusted(&mut text, facts);
    let _ = write!(text, "remedy: {}", remedy.advice);
    if let Some(command) = &remedy.command {
        let _ = write!(text, "\n  $ {command}");
    }
    let _ = write!(text, "\nhelp: docs/trust-errors.md#{}", help(facts));
    text
}

fn served(text: &mut String, facts: &Facts) {
    let peer = facts
        .peer
        .as_ref()
        .map_or_else(|| "the peer".to_owned(), PeerName::to_string);
    let _ = writeln!(
        text,
        "{peer} sent {} (looked at {}{}):",
        count(facts.received.len(), "certificate"),
        facts.checked_at,
        facts
            .proxy
            .as_ref()
            .map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"))
    );
    for (position, certificate) in facts.received.iter().enumerate() {
        let _ = writeln!(
            text,
            "  {position}. {}\n     issued by {}\n     valid from {} to {}, SHA-256 {}",
            certificate.subject(),
            if certificate.is_self_issued() {
                "itself".to_owned()
            } else {
                certificate.issuer().to_string()
            },
            certificate.not_before(),
            certificate.not_after(),
            certificate.fingerprint()
        );
    }
    if let Some(direct) = &facts.direct_issuer
        && facts.is_intercepted()
    {
        let _ = writeln!(
            text,
            "  without the proxy its certificate is issued by {direct}: the proxy replaces certificates"
        );
    }
    if let Reason::Unparsable { position, error } = &facts.reason {
        let _ = writeln!(text, "  {position}. not readable: {error}");
    }
}

fn trusted(text: &mut String, facts: &Facts) {
    if facts.consulted.is_empty() {
        let _ = writeln!(
            text,
            "trusted here: nothing, no source of trusted certificates was given"
        );
        return;
    }
    let _ = writeln!(text, "trusted here (generation {}):", facts.generation);
    for line in trusted_here(facts) {
        let _ = writeln!(text, "  {line}");
    }
    for block in facts
        .skipped
        .iter()
        .filter(|block| !is_system(&block.source))
    {
        let _ = writeln!(
            text,
            "  skipped: line {} of {}: {}",
            block.line,
            block.source.name(),
            block.reason
        );
    }
}

/// Where trusted certificates were looked for, a line each. A platform's store can be hundreds of files; they are one
/// line, and what several of them hold counts once.
pub(crate) fn trusted_here(facts: &Facts) -> Vec<String> {
    let (system, others): (Vec<_>, Vec<_>) = facts
        .consulted
        .iter()
        .partition(|one| is_system(&one.source));
    let system = (!system.is_empty()).then(|| {
        format!(
            "system store: {} in {}",
            count(facts.system_certificates, "certificate"),
            count(system.len(), "file")
        )
    });
    let others = others.into_iter().map(|one| {
        if one.found {
            format!("{}: {}", one.source, count(one.certificates, "certificate"))
        } else {
            format!("{}: not there", one.source)
        }
    });
    system.into_iter().chain(others).collect()
}

pub(crate) fn is_system(source: &Source) -> bool {
    matches!(source, Source::System(_))
}

/// The link without which no path can be built, when that is what failed.
pub(crate) fn missing_link(facts: &Facts) -> Option<String> {
    let Reason::UnknownAuthority {
        rejected,
        missing_issuer_of,
    } = &facts.reason
    else {
        return None;
    };
    if let Some((name, why)) = rejected {
        return Some(format!(
            "{name:?} has the issuer's name but was refused: {why}"
        ));
    }
    let end = missing_issuer_of.as_ref()?;
    if end.is_self_issued() {
        return Some(format!("trust in {} itself", end.subject()));
    }
    Some(format!(
        "the certificate of {}, which issued {}",
        end.issuer(),
        end.subject()
    ))
}

/// The section of `docs/trust-errors.md` that treats the fault; the headings there have these anchors.
pub(crate) fn help(facts: &Facts) -> &'static str {
    let expired_or_early = |detail: &str, expired, early| {
        if detail.contains(" is before ") {
            early
        } else {
            expired
        }
    };
    match &facts.reason {
        Reason::UnknownAuthority { .. } if facts.is_intercepted() => "interception-by-a-proxy",
        Reason::UnknownAuthority { .. } if repairable(facts).is_some() => "damaged-trust-file",
        Reason::UnknownAuthority {
            rejected: Some((_, why)),
            ..
        } => {
            if why.contains("insecure algorithm") {
                "weak-signature"
            } else if why.contains("cannot sign this kind") {
                "trusted-certificate-that-is-no-ca"
            } else {
                "issuer-that-did-not-sign"
            }
        }
        Reason::UnknownAuthority {
            missing_issuer_of: Some(end),
            ..
        } => {
            let is_leaf = facts
                .received
                .first()
                .is_some_and(|leaf| leaf.fingerprint() == end.fingerprint());
            let is_link = !end.issuing_certificate_urls().is_empty() || facts.trusts_a_private_ca();
            match (is_leaf, end.is_self_issued()) {
                (true, true) => "self-signed-certificate",
                (true, false) if is_link => "missing-intermediate",
                _ => "unknown-ca",
            }
        }
        Reason::UnknownAuthority { .. } => "unknown-ca",
        Reason::IssuerNotEntitled { why, .. } if why.contains("has expired or is not yet") => {
            expired_or_early(why, "expired-ca", "not-yet-valid")
        }
        Reason::IssuerNotEntitled { .. } => "issuer-that-may-not-vouch",
        Reason::OutsideValidity(detail) => {
            expired_or_early(detail, "expired-certificate", "not-yet-valid")
        }
        Reason::LegacyCommonName => "only-a-common-name",
        Reason::NoIpNames => "ip-address-without-ip-san",
        Reason::WrongName(_) => "wrong-name",
        Reason::IncompatibleUsage => "wrong-usage",
        Reason::RsaSize(_) | Reason::UnsupportedKey => "weak-key",
        Reason::Unparsable { .. } => "malformed-certificate",
        Reason::UnknownCriticalExtension(_) => "unknown-critical-extension",
        Reason::NameNotPermitted(_) => "name-constraints",
        Reason::InvalidPolicies => "certificate-policies",
        Reason::SignatureLimit | Reason::ConstraintLimit => "too-many-certificates",
    }
}

impl Facts {
    /// Whether somebody configured a certificate here: a server that sends its own certificate alone then more likely
    /// lacks an intermediate than an unheard-of CA.
    fn trusts_a_private_ca(&self) -> bool {
        self.consulted
            .iter()
            .any(|one| one.certificates > 0 && !matches!(*one.source, Source::System(_)))
    }

    /// Whether the certificate came from the proxy and not from the server.
    fn is_intercepted(&self) -> bool {
        let received = self.received.first().map(|leaf| leaf.issuer().to_string());
        self.direct_issuer.is_some() && received.is_some() && received != self.direct_issuer
    }
}

/// The one thing to do about it.
pub(crate) fn remedy(facts: &Facts) -> Remedy {
    let host = facts
        .peer
        .as_ref()
        .map_or_else(|| "HOST".to_owned(), PeerName::to_string);
    match &facts.reason {
        Reason::UnknownAuthority {
            rejected,
            missing_issuer_of,
        } => match (repairable(facts), rejected, missing_issuer_of) {
            (Some(remedy), _, _) => remedy,
            (None, Some((name, why)), _) => Remedy::advice(format!(
                "trust the CA certificate that really signed it, or have it issued again: {name:?} has its issuer's \
                 name, but {why}"
            ))
            .with_command(look_at(facts, &host, "-subject -issuer -ext authorityKeyIdentifier")),
            (None, None, Some(end)) => untrusted(end, facts, &host),
            (None, None, None) => Remedy::advice("let the peer present a certificate"),
        },
        Reason::IssuerNotEntitled { issuer, why } => {
            let trusted = facts
                .received
                .iter()
                .all(|one| one.fingerprint() != issuer.fingerprint());
            let replace = if trusted {
                "get its successor, and trust that one"
            } else {
                "let the server send its successor"
            };
            let clock = if why.contains("expired") {
                "; if its dates are right, set this machine's clock"
            } else {
                ""
            };
            Remedy::advice(format!(
                "{} cannot vouch for the server: {replace}{clock}",
                issuer.subject()
            ))
        }
        Reason::OutsideValidity(_) => Remedy::advice(
            "renew the certificate on the server; if its dates are right, set this machine's clock",
        )
        .with_command(look_at(facts, &host, "-subject -dates")),
        Reason::LegacyCommonName | Reason::WrongName(_) | Reason::NoIpNames => {
            let wanted = match &facts.peer {
                Some(PeerName::Ip(address)) => format!("IP:{address}"),
                _ => format!("DNS:{host}"),
            };
            let mut advice =
                format!("have the certificate issued again with subjectAltName {wanted}");
            if let Reason::WrongName(names) = &facts.reason
                && let [name, ..] = names.as_slice()
            {
                let _ = write!(advice, ", or call the server {:?}", name.as_str());
            }
            Remedy::advice(advice).with_command(look_at(facts, &host, "-ext subjectAltName"))
        }
        Reason::IncompatibleUsage => {
            let usage = match facts.usage {
                Usage::ServerAuth => "serverAuth",
                Usage::ClientAuth => "clientAuth",
            };
            Remedy::advice(format!(
                "have the certificate issued again with extendedKeyUsage {usage}, which every CA above it must allow"
            ))
            .with_command(look_at(facts, &host, "-ext extendedKeyUsage"))
        }
        Reason::RsaSize(_) | Reason::UnsupportedKey => Remedy::advice(
            "have the certificate issued again for an RSA key of 2048 to 8192 bits, an elliptic curve key (P-256, \
             P-384, P-521) or Ed25519",
        ),
        Reason::Unparsable { position, .. } => Remedy::advice(format!(
            "have certificate {position} of those that the server sends issued again, or taken out of its chain"
        )),
        Reason::UnknownCriticalExtension(ids) => Remedy::advice(format!(
            "have the certificate issued again without the critical extension {}",
            ids.join(", ")
        )),
        Reason::NameNotPermitted(_) => Remedy::advice(
            "have the certificate issued for names that its CA may certify, or by another CA",
        ),
        Reason::InvalidPolicies => Remedy::advice(
            "have the certificate issued with the certificate policies that its CA requires",
        ),
        Reason::SignatureLimit | Reason::ConstraintLimit => Remedy::advice(
            "let the server send its own chain only, leaf first, without other certificates",
        ),
    }
}

/// A trust file of the user's in which something was skipped is the likeliest cause of an unknown authority. One that
/// holds nothing needs no repair but a certificate.
fn repairable(facts: &Facts) -> Option<Remedy> {
    let block = facts.skipped.iter().find(|block| {
        !matches!(*block.source, Source::System(_))
            && !matches!(block.reason, SkipReason::EmptyFile | SkipReason::NoPem)
    })?;
    let repair = block.repair();
    Some(Remedy {
        advice: format!(
            "{}:{}: {}; {}",
            block.source.name(),
            block.line,
            block.reason,
            repair.advice
        ),
        command: repair.command,
    })
}

/// A chain that ends nowhere: which certificate to trust, and the command that shows it and asks.
fn untrusted(end: &Certificate, facts: &Facts, host: &str) -> Remedy {
    let is_leaf = facts
        .received
        .first()
        .is_some_and(|leaf| leaf.fingerprint() == end.fingerprint());
    let (verb, advice) = match (is_leaf, end.is_self_issued()) {
        (true, true) => (
            "pin",
            format!(
                "the server's certificate is self-signed: pin it, when SHA-256 {} is the right fingerprint",
                end.fingerprint()
            ),
        ),
        (true, false) => {
            let missing = end.issuer();
            let can_be_fetched = end
                .issuing_certificate_urls()
                .iter()
                .any(|url| url.starts_with("http://"));
            if can_be_fetched {
                (
                    "fetch --complete",
                    format!(
                        "let the server send the certificate of {missing} too; or fetch it from where the server's \
                         certificate says, and trust it when its fingerprint is the right one"
                    ),
                )
            } else if facts.trusts_a_private_ca() {
                (
                    "pin",
                    format!(
                        "let the server send the certificate of {missing} too, if what is trusted issued that one; or, \
                         when the fingerprint is the right one, pin the server's own certificate"
                    ),
                )
            } else {
                (
                    "pin",
                    format!(
                        "get the CA certificate of {missing} from its owner and put it into {}; or, when the \
                         fingerprint is the right one, pin the server's own certificate",
                        trust_file(facts, host)
                    ),
                )
            }
        }
        (false, true) => (
            "fetch",
            format!(
                "trust the CA certificate of {}, when SHA-256 {} is the fingerprint that its owner tells you",
                end.subject(),
                end.fingerprint()
            ),
        ),
        (false, false) => (
            "fetch",
            format!(
                "get the CA certificate of {} from its owner and put it into {}; or trust {}, which the server sends, \
                 when SHA-256 {} is the right fingerprint",
                end.issuer(),
                trust_file(facts, host),
                end.subject(),
                end.fingerprint()
            ),
        ),
    };
    let advice = match (&facts.proxy, &facts.direct_issuer) {
        (Some(proxy), Some(direct)) if facts.is_intercepted() => format!(
            "the proxy {proxy} replaces the server's certificate, which is issued by {direct}: set NO_PROXY={} to go \
             past it; or {advice}",
            shell_word(host)
        ),
        (Some(proxy), None) => format!(
            "{advice}; it came through the proxy {proxy}, which may have put it in place of the server's: `courser \
             trust check {}` compares",
            shell_word(&format!("https://{}", endpoint(facts, host)))
        ),
        _ => advice,
    };
    let command = format!(
        "courser trust {verb} {}",
        shell_word(&endpoint(facts, host))
    );
    Remedy::advice(advice).with_command(format!("{command}{}", into_configured_file(facts)))
}

/// The option with which a fetched certificate goes into the file that is configured; without one, into the
/// predefined file.
fn into_configured_file(facts: &Facts) -> String {
    configured_file(facts).map_or_else(String::new, |path| {
        format!(" --to {}", shell_word(&path.display().to_string()))
    })
}

fn configured_file(facts: &Facts) -> Option<&Path> {
    facts.consulted.iter().find_map(|one| match &*one.source {
        // A job has a copy of its own under this name, which is made anew for each job.
        Source::Configured(path) if !path.ends_with("CI_SERVER_TLS_CA_FILE") => Some(&**path),
        _ => None,
    })
}

/// The file that a CA certificate for this server belongs into.
fn trust_file(facts: &Facts, host: &str) -> String {
    let predefined = || {
        facts.consulted.iter().find_map(|one| match &*one.source {
            Source::Predefined(path) => Some(&**path),
            _ => None,
        })
    };
    match configured_file(facts).or_else(predefined) {
        Some(path) => path.display().to_string(),
        None => format!("{host}.crt of the certs directory (or name its file in tls-ca-file)"),
    }
}

/// A command that shows a part of the server's own certificate.
fn look_at(facts: &Facts, host: &str, how: &str) -> String {
    format!(
        "openssl s_client -connect {} </dev/null | openssl x509 {how} -noout",
        openssl_endpoint(facts, host),
    )
}

/// `host` or `host:port`, as commands take it. Not yet a word for a shell: a host out of a redirect can have any
/// character that a URL's may have, `$` and `;` among them.
fn endpoint(facts: &Facts, host: &str) -> String {
    let host = match &facts.peer {
        Some(PeerName::Ip(address)) if address.is_ipv6() => format!("[{address}]"),
        _ => host.to_owned(),
    };
    match facts.port {
        443 => host,
        port => format!("{host}:{port}"),
    }
}

/// The arguments of `openssl s_client`.
fn openssl_endpoint(facts: &Facts, host: &str) -> String {
    match &facts.peer {
        Some(PeerName::Ip(address)) if address.is_ipv6() => {
            shell_word(&format!("[{address}]:{}", facts.port))
        }
        Some(PeerName::Ip(address)) => format!("{address}:{}", facts.port),
        _ => {
            let address = format!("{host}:{}", facts.port);
            format!("{} -servername {}", shell_word(&address), shell_word(host))
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}
