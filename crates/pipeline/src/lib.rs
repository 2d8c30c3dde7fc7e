//! `.gitlab-ci.yml` to jobs.
//!
//! In: the path of the root file, a [`Files`] that reads it and what it includes, and the [`Event`] the
//! pipeline is for. Out: a [`Pipeline`] of [`PipelineJob`]s, or [`Problem`]s with file, line, column and the
//! source line. No I/O of its own. Facts: `gitlab-ci-yaml.md`.
//!
//! ```
//! use courser_pipeline::{Event, Files, evaluate};
//!
//! struct OneFile(&'static str);
//!
//! impl Files for OneFile {
//!     fn read(&self, path: &str) -> Option<String> {
//!         (path == ".gitlab-ci.yml").then(|| self.0.to_owned())
//!     }
//!     fn list(&self) -> Vec<String> {
//!         vec![".gitlab-ci.yml".to_owned()]
//!     }
//! }
//!
//! let event = Event {
//!     source: "push".to_owned(),
//!     ref_name: "main".to_owned(),
//!     ..Event::default()
//! };
//! let files = OneFile("hello:\n  script: echo hello\n");
//! let pipeline = evaluate(".gitlab-ci.yml", &files, &event).unwrap();
//! assert_eq!(pipeline.jobs[0].name, "hello");
//!
//! let files = OneFile("hello:\n  scrip: echo hello\n");
//! let found = evaluate(".gitlab-ci.yml", &files, &event).unwrap_err();
//! assert_eq!((found.errors[0].line, found.errors[0].column), (1, 1));
//! ```

mod budget;
mod config;
mod coverage;
mod create;
mod cycle;
mod duration;
mod event;
mod expression;
mod extends;
mod glob;
mod graph;
mod include;
mod inputs;
mod job;
mod keyword;
mod merge;
mod model;
mod needs;
mod parallel;
mod policy;
mod re2;
mod reference;
mod rules;
mod secrets;
mod shape;
mod show;
mod slug;
mod source;
mod trace;
mod variables;
mod world;
mod yaml;

use config::Config;
use graph::Graph;
use include::Loader;
use shape::Shape;
use source::{Fault, Findings, Sources, Span};
use world::World;
use yaml::{Map, Node};

pub use coverage::CoveragePattern;
pub use create::EMPTY_PIPELINE;
pub use duration::parse as duration_seconds;
pub use event::{
    ChangedFiles, Comparison, Component, ComponentAddress, Elsewhere, Event, Files, InputValue,
    OtherProject, Unavailable,
};
pub use model::*;
pub use secrets::{
    Audience, AwsSecret, AzureSecret, GcpSecret, GitlabSecret, IdToken, SecretProvider, SecretSpec,
    VaultEngine, VaultSecret,
};
pub use show::MergedTree;
pub use slug::{environment_slug, slug};
pub use trace::{
    ConditionTrace, Decision, Explanation, Outcome, PathsTrace, PathsVerdict, Place, PolicyTrace,
    RuleTrace, Subject,
};

/// Reads, merges and checks the file at `root`, then evaluates it for `event`.
///
/// # Errors
///
/// All shape errors together, otherwise the first logical or creation error; with the warnings so far.
pub fn evaluate(root: &str, files: &dyn Files, event: &Event) -> Result<Pipeline, Lint> {
    let world = World::new(event, files);
    evaluate_in(root, &world, &mut Sources::default())
}

/// As [`evaluate`], with the reason for each decision.
pub fn explain(root: &str, files: &dyn Files, event: &Event) -> Explanation {
    let mut world = World::recording(event, files);
    let mut sources = Sources::default();
    let result = evaluate_in(root, &world, &mut sources);
    let recorder = world.recorder.take().unwrap_or_default();
    Explanation {
        decisions: recorder.finish(&sources),
        result,
    }
}

fn evaluate_in(root: &str, world: &World<'_>, sources: &mut Sources) -> Result<Pipeline, Lint> {
    let mut findings = Findings::default();
    let created = checked(root, world, sources, &mut findings).and_then(|(config, span)| {
        let graph = Graph::new(&config);
        graph.check()?;
        create::create(&config, &graph, world, span, &mut findings)
    });
    match created {
        Ok(mut created) if findings.errors.is_empty() => {
            for (job, trigger) in created.pipeline.jobs.iter_mut().zip(&created.triggers) {
                job.place = trigger.map(|span| sources.place(span));
            }
            Ok(Pipeline {
                warnings: sources.problems(&findings.warnings),
                not_run_here: sources.problems(&created.not_run_here),
                ..created.pipeline
            })
        }
        Ok(_) => Err(Lint::new(sources, &findings)),
        Err(fault) => {
            findings.errors.push(fault);
            Err(Lint::new(sources, &findings))
        }
    }
}

/// Checks the file at `root` without making a pipeline. The event decides only `include:rules`.
pub fn lint(root: &str, files: &dyn Files, event: &Event) -> Lint {
    let world = World::new(event, files);
    let mut sources = Sources::default();
    let mut findings = Findings::default();
    let checked = checked(root, &world, &mut sources, &mut findings)
        .and_then(|(config, _)| Graph::new(&config).check());
    if let Err(fault) = checked {
        findings.errors.push(fault);
    }
    Lint::new(&sources, &findings)
}

impl Lint {
    fn new(sources: &Sources, findings: &Findings) -> Self {
        Self {
            valid: findings.errors.is_empty(),
            errors: sources.problems(&findings.errors),
            warnings: sources.problems(&findings.warnings),
        }
    }
}

/// Reads and merges the file at `root` without checking its entries.
///
/// # Errors
///
/// The first error of reading, `include`, `extends` or `!reference`.
pub fn merge(root: &str, files: &dyn Files, event: &Event) -> Result<MergedTree, Vec<Problem>> {
    let world = World::new(event, files);
    let mut sources = Sources::default();
    let mut findings = Findings::default();
    match merged(root, &world, &mut sources, &mut findings) {
        Ok((tree, span)) => Ok(MergedTree::new(Node::map(span, tree))),
        Err(fault) => Err(vec![sources.problem(&fault)]),
    }
}

/// The tree after `include`, `extends` and `!reference` (steps 1 to 6).
fn merged(
    root: &str,
    world: &World<'_>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Result<(Map, Span), Fault> {
    let loaded = Loader::new(world, sources, findings).root(root)?;
    let extended = extends::resolve(&loaded.tree)?;
    let resolved = reference::resolve(&extended)?;
    Ok((resolved, loaded.span))
}

/// The configuration; its shape errors end the work here, all but the last already in `findings`.
fn checked(
    root: &str,
    world: &World<'_>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Result<(Config, Span), Fault> {
    let (tree, span) = merged(root, world, sources, findings)?;
    let mut shape = Shape {
        findings,
        patterns: &world.patterns,
    };
    let config = config::parse(&tree, span, &mut shape);
    match findings.errors.pop() {
        Some(fault) => Err(fault),
        None => Ok((config, span)),
    }
}
