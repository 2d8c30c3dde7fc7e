//! What a job leaves behind beside its log and artifacts: coverage, a deployment, a release, pages
//! (`gitlab-ci-yaml.md` 16).
//!
//! The coordinator records them; it publishes nothing, and makes no tag.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use courser_pipeline::{CoveragePattern, PipelineJob, duration_seconds, environment_slug};
use courser_protocol::JobVariable;

use crate::variables::{expand, expand_value};

/// Bytes of a log's line that are looked at.
const LINE: u64 = 64 << 10;

/// What a job left behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobResults {
    /// Percent, as the log told.
    pub coverage: Option<f64>,
    /// Of a job with `environment` that passed.
    pub deployment: Option<Deployment>,
    /// Where the record of a `release` lies: the keyword, expanded, as JSON.
    pub release: Option<PathBuf>,
    /// The directory in the artifacts that a pages job publishes.
    pub pages: Option<String>,
}

/// What a job did to an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Name.
    pub environment: String,
    /// Name for host names.
    pub slug: String,
    /// `production`, `staging`, `testing`, `development` or `other`.
    pub tier: String,
    /// `start` (a deployment), `stop`, `prepare`, `verify` or `access`.
    pub action: String,
    /// Where it can be seen.
    pub url: Option<String>,
    /// The job that stops it.
    pub on_stop: Option<String>,
    /// When it should be stopped, in Unix seconds.
    pub stops_at: Option<i64>,
}

/// What the file says of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Declared {
    pub(crate) coverage: Option<String>,
    pub(crate) environment: Option<Value>,
    pub(crate) release: Option<Value>,
    pub(crate) pages: Option<String>,
}

impl Declared {
    pub(crate) fn of(job: &PipelineJob) -> Self {
        Self {
            coverage: job.coverage.clone(),
            environment: job.environment.clone(),
            release: job.release.clone(),
            pages: pages_directory(job),
        }
    }

    /// The deployment of a job that passed at `now` (Unix seconds), with variables that hold what its
    /// own dotenv report told.
    pub(crate) fn deployment(&self, variables: &[JobVariable], now: i64) -> Option<Deployment> {
        let environment = self.environment.as_ref()?;
        let text = |key: &str| {
            let text = environment.get(key)?.as_str()?;
            Some(expand(text, variables)).filter(|text| !text.is_empty())
        };
        let name = text("name")?;
        Some(Deployment {
            slug: environment_slug(&name),
            tier: text("deployment_tier").unwrap_or_else(|| tier_of(&name).to_owned()),
            action: text("action").unwrap_or_else(|| "start".to_owned()),
            url: text("url"),
            on_stop: text("on_stop"),
            stops_at: text("auto_stop_in")
                .and_then(|after| duration_seconds(&after))
                .map(|after| now.saturating_add_unsigned(after)),
            environment: name,
        })
    }

    /// The release, expanded.
    pub(crate) fn release(&self, variables: &[JobVariable]) -> Option<Value> {
        let release = self.release.as_ref()?;
        Some(expand_value(release, variables))
    }
}

/// The tier that a name stands for, where the file does not say.
pub(crate) fn tier_of(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["dev", "review", "trunk"]) {
        "development"
    } else if has(&[
        "test", "tst", "int", "acpt", "accept", "qa", "qc", "control", "quality",
    ]) {
        "testing"
    } else if has(&["stg", "stag", "model", "pre", "demo", "non"]) {
        "staging"
    } else if has(&["prd", "prod", "live"]) {
        "production"
    } else {
        "other"
    }
}

fn pages_directory(job: &PipelineJob) -> Option<String> {
    let pages = job
        .pages
        .as_ref()
        .filter(|pages| **pages != Value::Bool(false))?;
    let named = pages.get("publish").and_then(Value::as_str);
    let paths = job.artifacts.iter().flat_map(|artifacts| &artifacts.paths);
    // The directory of a plain `publish` was put behind the job's own paths.
    let last = || paths.clone().last().cloned();
    match named {
        Some(directory) => Some(directory.to_owned()),
        None if paths.clone().any(|path| path == "public") => Some("public".to_owned()),
        None => last(),
    }
}

/// The number in the last line of the log that has one.
pub(crate) fn coverage_in(log: &Path, pattern: &str) -> std::io::Result<Option<f64>> {
    let Some(pattern) = CoveragePattern::new(pattern) else {
        return Ok(None);
    };
    let mut log = match File::open(log) {
        Ok(file) => BufReader::with_capacity(64 << 10, file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut found, mut line) = (None, Vec::new());
    loop {
        line.clear();
        if (&mut log).take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let text = String::from_utf8_lossy(&line);
        found = pattern
            .number_in(text.trim_end_matches(['\n', '\r']))
            .or(found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::variables::public;

    #[test]
    fn a_deployment_is_expanded_and_its_tier_guessed() {
        let declared = Declared {
            environment: Some(json!({
                "name": "review/$BRANCH", "url": "https://$HOST/", "action": "start",
                "on_stop": "stop it", "auto_stop_in": "1 day",
            })),
            ..Declared::default()
        };
        let variables = [public("BRANCH", "my-branch"), public("HOST", "example.com")];
        let deployment = declared.deployment(&variables, 1000).unwrap();
        assert_eq!(deployment.environment, "review/my-branch");
        assert_eq!(deployment.url.as_deref(), Some("https://example.com/"));
        assert_eq!(deployment.tier, "development");
        assert_eq!(deployment.stops_at, Some(1000 + 86_400));
        assert_eq!(Declared::default().deployment(&variables, 0), None);
    }

    #[test]
    fn names_stand_for_tiers() {
        for (name, tier) in [
            ("production", "production"),
            ("Live-eu", "production"),
            ("staging", "staging"),
            ("qa", "testing"),
            ("review/x", "development"),
            ("somewhere", "other"),
        ] {
            assert_eq!(tier_of(name), tier, "{name}");
        }
    }

    #[test]
    fn the_last_line_with_a_number_counts_and_a_log_may_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert_eq!(coverage_in(&log, r"/(\d+)%/").unwrap(), None);
        std::fs::write(&log, b"10%\r\nlines: 45%\nno number\n\xff\n").unwrap();
        assert_eq!(coverage_in(&log, r"/(\d+)%$/").unwrap(), Some(45.0));
    }
}
