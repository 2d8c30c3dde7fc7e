//! Table T of `runner-tls.md` section 16: what the documentation promises operators of a private CA.
//!
//! Each test has the promise's number. The server is `courser coordinator serve` with certificates of
//! a private authority; the runner is the same binary, with a hand-written or registered `config.toml`.

use std::path::Path;

mod configured;
mod full_chain;
mod hosts;
mod job;
mod machine;
mod mutual_tls;
mod predefined;
mod proxies;
mod rotation;
pub(crate) mod site;
mod system_store;
mod tool_matrix;
mod tools;

/// Those that concern the shell executor (T1 to T3, T5 to T12, T15 to T22, T38 to T42, T45 to T49), and T4,
/// T13 and T14, which are about other systems and tested as far as that can be done here.
const PROMISES: [std::ops::RangeInclusive<u8>; 3] = [1..=22, 38..=42, 45..=49];

#[test]
fn each_promise_has_a_test_by_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut open = vec![root.join("tests"), root.join("crates")];
    let mut tests = String::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for pair in lines.windows(2) {
                if pair[0].starts_with("#[") && pair[0].contains("test") {
                    tests.push_str(pair[1].trim_start_matches("async "));
                    tests.push('\n');
                }
            }
        }
    }
    let missing: Vec<u8> = PROMISES
        .into_iter()
        .flatten()
        .filter(|number| !tests.contains(&format!("fn t{number}_")))
        .collect();
    assert_eq!(missing, Vec::<u8>::new(), "promises without a test");
}
