//! The state of trust in numbers: `courser_trust_…`.

use courser_net::TrustReport;

use super::exposition::{Exposition, Kind};

/// Writes the families. `now` in seconds since 1970.
pub fn write_trust(page: &mut Exposition, report: &TrustReport, now: i64) {
    page.single(
        "courser_trust_generation",
        Kind::Gauge,
        "Newest generation of trusted certificates in use.",
        report.generation as f64,
    );
    page.single(
        "courser_trust_changes_total",
        Kind::Counter,
        "Changes of what a client of this process trusts or shows.",
        report.changes as f64,
    );
    let mut handshakes = page.family(
        "courser_trust_handshakes_total",
        Kind::Counter,
        "TLS handshakes with servers, by the verdict on their certificate.",
    );
    handshakes.sample(&[("verdict", "accepted")], report.accepted as f64);
    handshakes.sample(&[("verdict", "refused")], report.refused as f64);
    let mut failures = page.family(
        "courser_trust_reload_failures_total",
        Kind::Counter,
        "Contents of a trust file that could not be used.",
    );
    for (file, refusals) in &report.refusals {
        failures.sample(&[("file", file)], refusals.total as f64);
    }
    let mut refused = page.family(
        "courser_trust_file_refused",
        Kind::Gauge,
        "1 while a file cannot be used and its last good content, if any, is in force.",
    );
    for (file, refusals) in &report.refusals {
        let now = f64::from(u8::from(refusals.is_refused_now()));
        refused.sample(&[("file", file)], now);
    }
    write_certificates(page, report, now);
    let system = &report.system;
    page.single(
        "courser_trust_system_certificates",
        Kind::Gauge,
        "Certificates of the system's store.",
        system.certificates as f64,
    );
    page.single(
        "courser_trust_system_certificates_expired",
        Kind::Gauge,
        "Those of them that have expired.",
        system.expired as f64,
    );
    if let Some(next) = system.next_end {
        page.single(
            "courser_trust_system_next_expiry_timestamp_seconds",
            Kind::Gauge,
            "When the next one of them expires.",
            next.unix_seconds() as f64,
        );
    }
}

fn write_certificates(page: &mut Exposition, report: &TrustReport, now: i64) {
    type Value = fn(i64, i64) -> f64;
    let families: [(&str, &str, Value); 2] = [
        (
            "courser_trust_certificate_expiry_timestamp_seconds",
            "When a certificate that is trusted, shown or was shown by a server expires.",
            |end, _| end as f64,
        ),
        (
            "courser_trust_certificate_days_left",
            "Days until then; negative afterwards.",
            |end, now| ((end - now) as f64 / 864.0).floor() / 100.0,
        ),
    ];
    for (name, help, value) in families {
        let mut family = page.family(name, Kind::Gauge, help);
        for dated in &report.certificates {
            let fingerprint = dated.fingerprint.to_string();
            let labels = [
                ("role", dated.role.name()),
                ("source", dated.source.as_str()),
                ("subject", dated.subject.as_str()),
                ("fingerprint", fingerprint.as_str()),
            ];
            family.sample(&labels, value(dated.not_after.unix_seconds(), now));
        }
    }
    page.single(
        "courser_trust_certificates_left_out",
        Kind::Gauge,
        "Certificates beyond the 500 that expire first.",
        report.left_out as f64,
    );
}
