//! The provenance statement of an archive: in-toto v0.1 around SLSA v1, written into the working
//! directory and added to the archive (`runner-build-lifecycle.md` 4.6).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use courser_config::Environment;
use courser_job::helper_request::Provenance;
use courser_protocol::info::{RUNNER_VERSION, architecture, revision};
use jiff::Timestamp;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{HelperEnvironment, HelperError, platform};

/// The only version of the predicate that is known.
pub(super) const SCHEMA_VERSION: &str = "v1";

/// Writes the statement about `files` as `<name>-metadata.json`; answers its name.
pub(super) fn write(
    facts: &Provenance,
    job_id: i64,
    name: &str,
    root: &Path,
    files: &[PathBuf],
    environment: &HelperEnvironment,
) -> Result<PathBuf, HelperError> {
    let statement = statement(facts, job_id, root, files, environment)?;
    let path = PathBuf::from(format!("{name}-metadata.json"));
    let full = root.join(&path);
    let failed = |error: io::Error| HelperError::io(&full)(error);
    // Renamed into place: a link that a job put there is replaced, not followed.
    let mut file = tempfile::NamedTempFile::new_in(root).map_err(failed)?;
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(Vec::new(), formatter);
    statement
        .serialize(&mut serializer)
        .map_err(|error| failed(error.into()))?;
    file.write_all(&serializer.into_inner()).map_err(failed)?;
    platform::set_mode(file.as_file(), 0o644).map_err(failed)?;
    file.persist(&full).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// What Go's `protojson` writes; an order of keys is not part of it.
fn statement(
    facts: &Provenance,
    job_id: i64,
    root: &Path,
    files: &[PathBuf],
    environment: &HelperEnvironment,
) -> Result<Value, HelperError> {
    let version = runner_version();
    let job = job_id.to_string();
    let mut external: Map<String, Value> = facts
        .parameters
        .iter()
        .map(|name| (name.clone(), "".into()))
        .collect();
    external.insert("entryPoint".to_owned(), facts.job_name.as_str().into());
    external.insert("source".to_owned(), facts.repo_url.as_str().into());
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": subjects(root, files)?,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!(
                    "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/{version}/PROVENANCE.md"
                ),
                "externalParameters": external,
                "internalParameters": {
                    "name": facts.runner_name,
                    "executor": facts.executor_name,
                    "architecture": architecture(),
                    "job": job,
                },
                "resolvedDependencies": [{
                    "uri": facts.repo_url,
                    // Called sha256 whatever hash the repository uses, as upstream.
                    "digest": {"sha256": facts.repo_digest},
                }],
            },
            "runDetails": {
                "builder": {
                    "id": format!("{}/-/runners/{}", facts.repo_url, facts.runner_id),
                    "version": {"gitlab-runner": version},
                },
                "metadata": {
                    "invocationId": job,
                    "startedOn": started(facts, environment)?.to_string(),
                    "finishedOn": time("--ended-at", &facts.ended_at, environment.started)?.to_string(),
                },
            },
        },
    }))
}

/// The version when it is a release's tag, else the revision.
fn runner_version() -> &'static str {
    if RUNNER_VERSION.starts_with('v') {
        RUNNER_VERSION
    } else {
        revision()
    }
}

/// As told, else when the server says that the job started, else when this process did.
fn started(facts: &Provenance, environment: &HelperEnvironment) -> Result<Timestamp, HelperError> {
    let of_job = job_start(&environment.variables).unwrap_or(environment.started);
    time("--started-at", &facts.started_at, of_job)
}

fn job_start(variables: &Environment) -> Option<Timestamp> {
    variables.get("CI_JOB_STARTED_AT")?.parse().ok()
}

fn time(flag: &str, text: &str, otherwise: Timestamp) -> Result<Timestamp, HelperError> {
    if text.is_empty() {
        return Ok(otherwise);
    }
    text.parse().map_err(|error| {
        HelperError::Request(format!("{flag} {text:?} is no time in RFC 3339: {error}"))
    })
}

/// Regular files with their digests.
fn subjects(root: &Path, files: &[PathBuf]) -> Result<Vec<Value>, HelperError> {
    let mut subjects = Vec::new();
    let mut buffer = vec![0; 128 << 10];
    for path in files {
        let full = root.join(path);
        let is_file = full
            .symlink_metadata()
            .map_err(HelperError::io(&full))?
            .is_file();
        if !is_file {
            continue;
        }
        let mut hash = Sha256::new();
        let mut file = File::open(&full).map_err(HelperError::io(&full))?;
        loop {
            match file.read(&mut buffer).map_err(HelperError::io(&full))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        subjects.push(json!({
            "name": path.to_string_lossy(),
            "digest": {"sha256": hex::encode(hash.finalize())},
        }));
    }
    Ok(subjects)
}
