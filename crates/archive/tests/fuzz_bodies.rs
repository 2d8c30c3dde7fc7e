//! The body of the fuzz target about archives, run for a moment.

use std::path::Path;

#[path = "../../../fuzz/bodies/archive_reader.rs"]
mod archive_reader;
#[path = "../../../fuzz/bodies/smoke.rs"]
mod smoke;

#[test]
fn nothing_an_archive_says_reaches_outside() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/archive_reader");
    smoke::run(&seeds, archive_reader::check);
}
