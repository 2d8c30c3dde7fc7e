//! See the body, which a test runs for a moment too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/archive_reader.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::check(bytes));
