//! The bodies of the fuzz targets about jobs, run for a moment.

use std::path::{Path, PathBuf};

#[path = "../../../fuzz/bodies/protocol_reader.rs"]
mod protocol_reader;
#[path = "../../../fuzz/bodies/smoke.rs"]
mod smoke;
#[path = "../../../fuzz/bodies/trace_reader.rs"]
mod trace_reader;

fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target)
}

#[test]
fn a_log_is_the_same_however_its_output_arrives() {
    smoke::run(&seeds("trace_reader"), trace_reader::check);
}

#[test]
fn no_answer_of_a_server_breaks_what_reads_it() {
    smoke::run(&seeds("protocol_reader"), protocol_reader::check);
}
