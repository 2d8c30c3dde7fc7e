//! Any bytes as what a server answers where a certificate says that its issuer lies: PEM, DER, PKCS#7.
#![no_main]

use std::sync::Arc;

use courser_trust::{Certificate, Completion, certificates_of_pkcs7, issuer_in_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match issuer_in_answer(bytes) {
        Ok(Some(issuer)) => {
            // What is found is a whole certificate, and no issuer of itself is asked for without end.
            let again = Certificate::parse(issuer.der()).expect("it was parsed before");
            assert_eq!(again.fingerprint(), issuer.fingerprint());
            let mut completion = Completion::of(&[Arc::new(issuer)]);
            let mut fetches = 0;
            while let courser_trust::NextIssuer::Fetch(_) = completion.next_issuer() {
                fetches += 1;
                assert!(fetches <= 14, "at most 14 issuers are fetched");
                if completion.answered(bytes).is_err() {
                    break;
                }
            }
        }
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
    if let Ok(bag) = certificates_of_pkcs7(bytes) {
        assert!(bag.len() <= bytes.len() / 64, "a certificate is longer");
    }
});
