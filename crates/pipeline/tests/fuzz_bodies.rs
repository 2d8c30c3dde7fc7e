//! The body of the fuzz target about `.gitlab-ci.yml`, run for a moment.

use std::path::Path;

#[path = "../../../fuzz/bodies/pipeline_yaml.rs"]
mod pipeline_yaml;
#[path = "../../../fuzz/bodies/smoke.rs"]
mod smoke;

#[test]
fn no_text_of_a_pipeline_breaks_what_reads_it() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/pipeline_yaml");
    smoke::run(&seeds, pipeline_yaml::check);
}
