//! What was asked for.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::BENCHMARKS;

pub(crate) const USAGE: &str = "\
courser-benches <courser> [BENCHMARK…] [options]

Benchmarks: exec listing throughput idle sleeping start size trust trace archives docker secrets (all of them when none is named)

  --gitlab-ci-local PATH  the peer of `exec` and `listing`; otherwise npm installs it in target/peers
  --gitlab-runner PATH    measure this gitlab-runner in `throughput`, `idle`, `sleeping`, `start`, `docker` too
  --docker-engine FILE    measure `docker` on the Engine that this file describes, as target/docker-engine/env does the tests'
  --json                  figures as JSON";

/// How this program was called.
pub(crate) enum Invocation {
    /// By a person.
    Measure(Arguments),
    /// By itself, to watch one program: log file, program, arguments.
    Watch(Vec<OsString>),
}

/// A call by a person.
pub(crate) struct Arguments {
    /// The program under test.
    pub(crate) courser: PathBuf,
    /// The peer of `exec` and `listing`.
    pub(crate) gitlab_ci_local: Option<PathBuf>,
    /// The peer of the others.
    pub(crate) gitlab_runner: Option<PathBuf>,
    /// Describes the Engine of `docker`; otherwise that of the tests.
    pub(crate) docker_engine: Option<PathBuf>,
    /// JSON instead of a table.
    pub(crate) json: bool,
    names: Vec<String>,
}

impl Arguments {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

/// The word that starts [`Invocation::Watch`].
pub(crate) const WATCH: &str = "watch";

pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Invocation> {
    let first = words.next().context("no program to measure")?;
    if first == WATCH {
        return Ok(Invocation::Watch(words.collect()));
    }
    let mut arguments = Arguments {
        courser: absolute(first)?,
        gitlab_ci_local: None,
        gitlab_runner: None,
        docker_engine: None,
        json: false,
        names: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut path = || absolute(words.next().context("a path is missing")?);
        match word.to_str() {
            Some("--gitlab-ci-local") => arguments.gitlab_ci_local = Some(path()?),
            Some("--gitlab-runner") => arguments.gitlab_runner = Some(path()?),
            Some("--docker-engine") => arguments.docker_engine = Some(path()?),
            Some("--json") => arguments.json = true,
            Some(name) if BENCHMARKS.iter().any(|(known, _)| *known == name) => {
                arguments.names.push(name.to_owned());
            }
            _ => bail!("unknown: {}", word.display()),
        }
    }
    Ok(Invocation::Measure(arguments))
}

/// Programs are started in other directories than this one.
fn absolute(path: OsString) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    path.canonicalize()
        .with_context(|| path.display().to_string())
}
