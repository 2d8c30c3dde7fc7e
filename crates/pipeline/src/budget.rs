//! Bounds on what a small file can make of itself by merging and inheriting.

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::model::{PipelineJob, YamlVariable};
use crate::source::{Fault, Span};

/// Mapping entries that all merges together may write.
const MAXIMUM_MERGED: usize = 2_000_000;
/// Bytes of text in all jobs together.
const MAXIMUM_JOB_BYTES: usize = 256 * 1024 * 1024;

/// What is left of a bound.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    /// For [`crate::merge()`].
    pub(crate) fn for_merging() -> Self {
        Self {
            left: MAXIMUM_MERGED,
        }
    }

    /// For the jobs of a configuration or of a pipeline.
    pub(crate) fn for_jobs() -> Self {
        Self {
            left: MAXIMUM_JOB_BYTES,
        }
    }

    /// Takes `amount`; the fault stands at `span`.
    pub(crate) fn take(&mut self, amount: usize, span: Span) -> Result<(), Fault> {
        self.left = self
            .left
            .checked_sub(amount)
            .ok_or_else(|| Fault::new(span, "The parsed YAML is too big"))?;
        Ok(())
    }
}

/// Bytes of text that a job and variables laid over it hold.
pub(crate) fn job_bytes(job: &PipelineJob, variables: &[YamlVariable]) -> usize {
    let lines = [
        &job.script,
        &job.before_script,
        &job.after_script,
        &job.tags,
    ];
    let lines: usize = lines.into_iter().flatten().map(String::len).sum();
    let variables: usize = variables
        .iter()
        .map(|variable| variable.key.len() + variable.value.len())
        .sum();
    let values = [&job.image, &job.retry, &job.run];
    let values: usize = values
        .into_iter()
        .flatten()
        .chain(&job.services)
        .map(value_bytes)
        .sum();
    let caches: usize = job
        .cache
        .iter()
        .flat_map(|cache| cache.paths.iter().chain(&cache.fallback_keys))
        .map(String::len)
        .sum();
    let artifacts: usize = job
        .artifacts
        .iter()
        .flat_map(|artifacts| artifacts.paths.iter().chain(&artifacts.exclude))
        .map(String::len)
        .sum();
    let secrets = json_bytes(&job.id_tokens) + json_bytes(&job.secrets);
    // The job itself is not free either.
    1024 + lines + variables + values + caches + artifacts + secrets
}

/// Bytes of the JSON; nothing is written.
fn json_bytes<T: Serialize>(entries: &[T]) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail; what could not be written is not in the job either.
    drop(serde_json::to_writer(&mut count, entries));
    count.0
}

fn value_bytes(value: &Value) -> usize {
    16 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| key.len() + value_bytes(value))
            .sum(),
        _ => 0,
    }
}
