//! The whole story of a refused peer: what it served, which link is missing, what is trusted here, what to type.

use std::fmt::{self, Write as _};

use crate::certificate::Certificate;
use crate::error::{Facts, Reason};
use crate::host_name::PeerName;
use crate::skip_reason::SkipReason;
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
    fn advice(advice: impl Into<String>) -> Self {
        Self {
            advice: advice.into(),
            command: None,
        }
    }

    fn with_command(mut self, command: String) -> Self {
        self.command = Some(command);
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
    text
}

fn served(text: &mut String, facts: &Facts) {
    let peer = facts
        .peer
        .as_ref()
        .map_or_else(|| "the peer".to_owned(), PeerName::to_string);
    let _ = writeln!(
        text,
        "{peer} sent {} (looked at {}):",
        count(facts.received.len(), "certificate"),
        facts.checked_at
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
    // A platform's store can be hundreds of files; they are one line.
    let of_system = |source: &Source| matches!(source, Source::System(_));
    let system = facts.consulted.iter().filter(|one| of_system(&one.source));
    let (files, certificates) = system.fold((0, 0), |(files, sum), one| {
        (files + 1, sum + one.certificates)
    });
    if files > 0 {
        let _ = writeln!(
            text,
            "  system store: {} in {}",
            count(certificates, "certificate"),
            count(files, "file")
        );
    }
    for one in facts.consulted.iter().filter(|one| !of_system(&one.source)) {
        let _ = writeln!(
            text,
            "  {}: {}",
            one.source,
            count(one.certificates, "certificate")
        );
    }
    for block in facts
        .skipped
        .iter()
        .filter(|block| !of_system(&block.source))
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

/// The link without which no path can be built, when that is what failed.
fn missing_link(facts: &Facts) -> Option<String> {
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

fn untrusted(end: &Certificate, facts: &Facts, host: &str) -> Remedy {
    const WHERE: &str = "name its file in tls-ca-file (register: --tls-ca-file) or put it into the certs directory as";
    let is_leaf = facts
        .received
        .first()
        .is_some_and(|leaf| leaf.fingerprint() == end.fingerprint());
    if is_leaf && !end.is_self_issued() {
        let missing = end.issuer();
        if let Some(url) = end
            .issuing_certificate_urls()
            .iter()
            .find(|url| is_plain(url))
        {
            return Remedy::advice(format!(
                "let the server send the certificate of {missing} too, or fetch it, check it and {WHERE} {host}.crt"
            ))
            .with_command(format!(
                "curl -fsS '{url}' | openssl x509 -inform der -out {host}.crt"
            ));
        }
        return Remedy::advice(format!(
            "get the CA certificate of {missing} and {WHERE} {host}.crt; or, when the fingerprint is the right one, \
             pin the server's own certificate"
        ))
        .with_command(look_at(facts, host, &format!("-out {host}.crt")));
    }
    if is_leaf {
        return Remedy::advice(format!(
            "the server's certificate is self-signed: when SHA-256 {} is the right fingerprint, {WHERE} {host}.crt",
            end.fingerprint()
        ))
        .with_command(look_at(facts, host, &format!("-out {host}.crt")));
    }
    let wanted = if end.is_self_issued() {
        end.subject()
    } else {
        end.issuer()
    };
    Remedy::advice(format!(
        "get the CA certificate of {wanted} and {WHERE} {host}.crt; this shows what the server sends"
    ))
    .with_command(format!(
        "openssl s_client -showcerts -connect {} </dev/null",
        endpoint(facts, host)
    ))
}

/// A command that fetches the server's own certificate and shows or writes it.
fn look_at(facts: &Facts, host: &str, how: &str) -> String {
    format!(
        "openssl s_client -connect {} </dev/null | openssl x509 {how}{}",
        endpoint(facts, host),
        if how.starts_with("-out ") {
            ""
        } else {
            " -noout"
        }
    )
}

fn endpoint(facts: &Facts, host: &str) -> String {
    match &facts.peer {
        Some(PeerName::Ip(address)) if address.is_ipv6() => format!("[{address}]:{}", facts.port),
        Some(PeerName::Ip(address)) => format!("{address}:{}", facts.port),
        _ => format!("{host}:{} -servername {host}", facts.port),
    }
}

/// Whether a URL out of a certificate may stand between single quotes in a command that somebody types.
fn is_plain(url: &str) -> bool {
    url.starts_with("http")
        && url
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":/.-_~%?&=+".contains(&byte))
}

fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}
