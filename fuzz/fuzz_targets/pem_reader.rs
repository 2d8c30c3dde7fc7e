//! Any bytes as a file of trusted certificates and as a chain.
#![no_main]

use courser_trust::{Generation, ServedChain, Source, Store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let source = || Source::Inline("fuzz".to_owned());
    let store = Store::builder().add(source(), bytes).build(Generation(1));
    let lines = bytes.split(|&byte| byte == b'\n').count();
    for block in store.skipped() {
        assert!((1..=lines).contains(&block.line), "{block}");
    }
    let found = store.certificates().len();
    assert!(
        found + store.skipped().len() > 0,
        "nothing is passed over in silence"
    );
    for trusted in store.certificates() {
        assert!((1..=lines).contains(&trusted.line()));
        let _ = trusted.certificate().subject().to_string();
    }

    // What a store holds can be written and read again.
    let chain = store.certificates().iter();
    let pem = courser_trust::chain_pem(chain.map(|trusted| trusted.certificate()));
    let again = Store::builder()
        .add(source(), pem.as_bytes())
        .build(Generation(2));
    assert_eq!(again.skipped().len(), usize::from(found == 0));

    // A served chain keeps what cannot be parsed.
    let served = ServedChain::read(source(), bytes);
    assert!(served.certificates().len() >= found || bytes.is_empty());
});
