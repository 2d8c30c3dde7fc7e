//! Every fault of `docs/trust-errors.md`: its text names what is wrong and what to do, and doing it cures it.
//!
//! Each test has a section's anchor. The remedy's command is run as it stands; where the remedy is a sentence, the test
//! does what it says.

mod certificates;
mod connections;
mod scene;

use std::path::Path;

/// One test for each anchor, and the list of them.
macro_rules! faults {
    ($($anchor:literal => $module:ident::$test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $module::$test($anchor);
            }
        )*

        const ANCHORS: &[&str] = &[$($anchor),*];
    };
}

faults! {
    "unknown-ca" => certificates::an_unknown_ca,
    "missing-intermediate" => certificates::a_missing_intermediate,
    "self-signed-certificate" => certificates::a_self_signed_certificate,
    "expired-certificate" => certificates::an_expired_certificate,
    "expired-ca" => certificates::an_expired_ca,
    "not-yet-valid" => certificates::a_certificate_of_the_future,
    "wrong-name" => certificates::a_wrong_name,
    "ip-address-without-ip-san" => certificates::an_address_without_ip_san,
    "only-a-common-name" => certificates::only_a_common_name,
    "wrong-usage" => certificates::a_client_certificate_at_a_server,
    "name-constraints" => certificates::a_name_that_the_ca_may_not_certify,
    "issuer-that-did-not-sign" => certificates::a_namesake_of_the_ca,
    "issuer-that-may-not-vouch" => certificates::a_ca_below_one_that_allows_none,
    "trusted-certificate-that-is-no-ca" => certificates::a_trusted_certificate_that_is_no_ca,
    "weak-key" => certificates::a_weak_key,
    "weak-signature" => certificates::a_weak_signature,
    "malformed-certificate" => certificates::a_malformed_certificate,
    "unknown-critical-extension" => certificates::an_unknown_critical_extension,
    "certificate-policies" => certificates::a_policy_that_is_not_met,
    "too-many-certificates" => certificates::too_many_certificates,
    "damaged-trust-file" => certificates::a_damaged_trust_file,
    "client-certificate-demanded" => connections::a_client_certificate_is_demanded,
    "client-certificate-refused" => connections::a_client_certificate_is_refused,
    "key-that-is-not-the-certificates" => connections::a_key_that_is_not_the_certificates,
    "encrypted-key" => connections::an_encrypted_key,
    "interception-by-a-proxy" => connections::a_proxy_replaces_certificates,
    "proxy-wants-a-password" => connections::a_proxy_wants_a_password,
    "plain-http-on-the-tls-port" => connections::plain_http_on_the_tls_port,
    "old-tls-version" => connections::an_old_tls_version,
    "no-common-cipher" => connections::no_common_cipher,
}

#[test]
fn the_page_has_exactly_these_faults() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trust-errors.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: Vec<String> = headings
        .map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept.replace(' ', "-");
            kept.chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect()
        })
        .collect();
    assert_eq!(anchors, ANCHORS, "in this order");
    for anchor in ANCHORS {
        assert!(
            page.contains(&format!("(#{anchor})")),
            "the table links {anchor}"
        );
    }
}
