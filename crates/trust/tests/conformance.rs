//! Verdicts on 2,400 chains of others (C2SP x509-limbo, BetterTLS) against those of Go 1.26.8.
//!
//! The vectors lie beside the project in `../shared/data/trust` (its README says what they are) and are not copied into
//! it. This test has no harness, so that it can say loudly when they are absent. Differences from Go are listed in
//! [`DIFFERENCES`] with their reason; any other one, and any listed one that is gone, fails, and so does any verdict that
//! is not the one the vectors prescribe (`want`).
#![expect(clippy::print_stderr, reason = "the only output of this test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use courser_trust::{Generation, PeerName, Source, Store, Usage, verify};
use flate2::read::GzDecoder;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

/// Cases in which we differ from Go on purpose: id, our verdict, why.
const DIFFERENCES: &[(&str, bool, &str)] = &[
    (
        "limbo::pathological::nc-dos-1",
        false,
        "more than a million comparisons of names with constraints; x509-limbo wants it refused as well",
    ),
    (
        "limbo::pathological::nc-dos-2",
        false,
        "more than a million comparisons of names with constraints; x509-limbo wants it refused as well",
    ),
    (
        "limbo::rfc5280::validity::notafter-fractional",
        true,
        "time is counted in whole seconds, in which certificates are written",
    ),
    (
        "limbo::webpki::forbidden-weak-rsa-in-leaf",
        false,
        "RSA keys below 2048 bits are refused with a reason",
    ),
    (
        "limbo::webpki::forbidden-weak-rsa-key-in-root",
        false,
        "RSA keys below 2048 bits are refused with a reason",
    ),
];

const NO_CASE_MAY_TAKE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trust");
    let files: Vec<PathBuf> = ["limbo.jsonl.gz", "bettertls.jsonl.gz"]
        .iter()
        .map(|name| directory.join(name))
        .collect();
    if let Some(absent) = files.iter().find(|file| !file.exists()) {
        eprintln!(
            "\nNOT RUN: the conformance vectors are absent ({}); the other tests stand alone\n",
            absent.display()
        );
        return ExitCode::SUCCESS;
    }
    let mut cases = 0;
    let mut agreed = 0;
    let mut wanted = 0;
    let mut failures = Vec::new();
    let mut expected: BTreeMap<&str, bool> = DIFFERENCES
        .iter()
        .map(|(id, accepted, _)| (*id, *accepted))
        .collect();
    for file in &files {
        let reader = BufReader::new(GzDecoder::new(File::open(file).expect("a readable file")));
        for line in reader.lines() {
            let case: Value = serde_json::from_str(&line.expect("a line")).expect("a case in JSON");
            cases += 1;
            let id = text(&case, "id");
            let started = Instant::now();
            let verdict = judge(&case);
            if started.elapsed() > NO_CASE_MAY_TAKE {
                failures.push(format!("{id}: took {:?}", started.elapsed()));
            }
            let want = text(&case, "want");
            if want != "either" {
                wanted += 1;
                if (want == "accept") != verdict.is_ok() {
                    failures.push(format!("{id}: we {verdict:?}, wanted is {want}"));
                }
            }
            let go = text(&case, "go") == "accept";
            match expected.remove(id) {
                Some(listed) if listed == verdict.is_ok() && listed != go => {}
                Some(_) => failures.push(format!("{id}: is listed as a difference but is none")),
                None if verdict.is_ok() == go => agreed += 1,
                None => failures.push(format!(
                    "{id}: we {verdict:?}, Go {} {}",
                    text(&case, "go"),
                    text(&case, "go_error")
                )),
            }
        }
    }
    failures.extend(
        expected
            .keys()
            .map(|id| format!("{id}: listed, but there is no such case")),
    );
    eprintln!(
        "conformance: {agreed} of {cases} verdicts are Go's, {} differ on purpose; {wanted} are prescribed, and met unless \
         listed below",
        DIFFERENCES.len()
    );
    for failure in &failures {
        eprintln!("  {failure}");
    }
    if failures.is_empty() && agreed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn judge(case: &Value) -> Result<(), String> {
    let store = Store::builder()
        .add(Source::Inline("ca".into()), text(case, "ca").as_bytes())
        .build(Generation(1));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(text(case, "chain").as_bytes())
            .collect::<Result<_, _>>()
            .expect("a chain in PEM");
    let at: jiff::Timestamp = text(case, "at").parse().expect("a time");
    let host = case["host"].as_str().filter(|host| !host.is_empty());
    let name = host.map(PeerName::from_host);
    let usage = match text(case, "purpose") {
        "client" => Usage::ClientAuth,
        _ => Usage::ServerAuth,
    };
    let (leaf, intermediates) = chain.split_first().expect("a leaf");
    verify(leaf, intermediates, &store, name.as_ref(), at, usage)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}
