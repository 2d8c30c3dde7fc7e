//! Which jobs of the pipeline run: all, or the named ones with or without what they need.

use std::collections::BTreeSet;

use courser_pipeline::{JobWhen, Pipeline, PipelineJob};
use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};
use crate::suggestion::nearest;

/// Job names shown when none is near.
const LISTED: usize = 20;

/// What of a pipeline is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Selection {
    /// Jobs to run [default: all]; a first argument that is a directory with a .gitlab-ci.yml selects
    /// that project. A named manual job is started
    #[arg(value_name = "JOB")]
    pub(crate) names: Vec<String>,
    /// Also run what the named jobs need
    #[arg(long, requires = "names")]
    pub(crate) needs: bool,
    /// Start this manual job when its turn comes; the rest of the pipeline runs as ever
    #[arg(long, value_name = "JOB")]
    manual: Vec<String>,
    /// Start all manual jobs when their turn comes
    #[arg(long)]
    manual_all: bool,
}

/// The jobs that run.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) pipeline: Pipeline,
    /// Positions of manual and delayed jobs that are started.
    pub(super) played: Vec<usize>,
}

impl Selection {
    /// One job and what it needs.
    pub(super) fn job_with_needs(name: &str) -> Self {
        Self {
            names: vec![name.to_owned()],
            needs: true,
            ..Self::default()
        }
    }

    /// Leaves only the named jobs (a parallel job is also meant by its plain name) and, with `needs`, all
    /// they wait for. A named manual or delayed job is started when its turn comes.
    pub(super) fn of(&self, pipeline: Pipeline) -> Result<Selected, Failure> {
        let pipeline = named(pipeline, &self.names, self.needs)?;
        let jobs = &pipeline.jobs;
        let mut played = BTreeSet::new();
        for name in &self.manual {
            let found = positions(jobs, name)?;
            let manual = |position: &&usize| jobs[**position].when == JobWhen::Manual;
            if !found.iter().any(|position| manual(&position)) {
                let message = format!("--manual {name}: this job starts by itself");
                return Err(Failure::new(Code::Usage, message));
            }
            played.extend(found);
        }
        for (position, job) in jobs.iter().enumerate() {
            let named = self.names.iter().any(|name| is_named(job, name));
            if named || (self.manual_all && job.when == JobWhen::Manual) {
                played.insert(position);
            }
        }
        Ok(Selected {
            played: played.into_iter().collect(),
            pipeline,
        })
    }
}

/// Places of the jobs of that name.
pub(super) fn positions(jobs: &[PipelineJob], name: &str) -> Result<Vec<usize>, Failure> {
    let found: Vec<_> = (0..jobs.len())
        .filter(|position| is_named(&jobs[*position], name))
        .collect();
    if found.is_empty() {
        let known = jobs.iter().map(|job| job.name.as_str());
        let message = format!("the pipeline has no job {name:?}");
        return Err(Failure::new(Code::Usage, message).hint(suggestion(known, name)));
    }
    Ok(found)
}

fn named(mut pipeline: Pipeline, names: &[String], needs: bool) -> Result<Pipeline, Failure> {
    if names.is_empty() {
        return Ok(pipeline);
    }
    let mut wanted = BTreeSet::new();
    for name in names {
        wanted.extend(positions(&pipeline.jobs, name)?);
    }
    for position in &wanted {
        let job = &mut pipeline.jobs[*position];
        // Nothing fails before it, and yet it is wanted.
        if job.when == JobWhen::OnFailure {
            job.when = JobWhen::OnSuccess;
        }
    }
    if needs {
        let mut open: Vec<_> = wanted.iter().copied().collect();
        while let Some(position) = open.pop() {
            for before in predecessors(&pipeline, position) {
                if wanted.insert(before) {
                    open.push(before);
                }
            }
        }
    }
    let jobs = std::mem::take(&mut pipeline.jobs).into_iter().enumerate();
    pipeline.jobs = jobs
        .filter(|(position, _)| wanted.contains(position))
        .map(|(_, job)| job)
        .collect();
    pipeline
        .stages
        .retain(|stage| pipeline.jobs.iter().any(|job| job.stage == *stage));
    Ok(pipeline)
}

/// The nearest names, else all of them.
fn suggestion<'a>(known: impl Iterator<Item = &'a str> + Clone, name: &str) -> String {
    if let Some(near) = nearest(known.clone(), name) {
        return near;
    }
    let some: Vec<_> = known.clone().take(LISTED).collect();
    let more = known.count().saturating_sub(LISTED);
    let more = if more > 0 {
        format!(" and {more} more: courser exec --list")
    } else {
        String::new()
    };
    format!("its jobs: {}{more}", some.join(", "))
}

fn is_named(job: &PipelineJob, name: &str) -> bool {
    job.name == name
        || (job.parallel.is_some()
            && job
                .name
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(": [") || rest.starts_with(' ')))
}

/// Jobs whose end decides whether this one runs.
pub(super) fn predecessors(pipeline: &Pipeline, position: usize) -> Vec<usize> {
    let job = &pipeline.jobs[position];
    let stage = |job: &PipelineJob| pipeline.stages.iter().position(|stage| *stage == job.stage);
    (0..pipeline.jobs.len())
        .filter(|other| {
            let other = &pipeline.jobs[*other];
            if job.needs.is_some() {
                job.job_needs.iter().any(|need| need.job == other.name)
            } else {
                stage(other) < stage(job)
                    && !matches!(other.when, JobWhen::Manual | JobWhen::OnFailure)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use courser_pipeline::{Need, Workflow};

    use super::*;

    fn pipeline() -> Pipeline {
        let job = |name: &str, stage: &str| PipelineJob {
            name: name.to_owned(),
            stage: stage.to_owned(),
            ..PipelineJob::default()
        };
        let parallel = |name: &str| PipelineJob {
            parallel: Some(serde_json::json!({"index": 1, "total": 2})),
            ..job(name, "test")
        };
        let needing = PipelineJob {
            needs: Some(Vec::new()),
            job_needs: vec![Need {
                job: "test: [a]".to_owned(),
                artifacts: true,
                optional: false,
            }],
            when: JobWhen::Manual,
            ..job("deploy", "deploy")
        };
        Pipeline {
            workflow: Workflow::default(),
            stages: ["build", "test", "deploy"].map(str::to_owned).into(),
            jobs: vec![
                job("build", "build"),
                parallel("test: [a]"),
                parallel("test: [b]"),
                needing,
            ],
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        }
    }

    fn names(names: &[&str], needs: bool) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let selected = named(pipeline(), &names, needs).expect("selected");
        selected.jobs.into_iter().map(|job| job.name).collect()
    }

    #[test]
    fn named_jobs_alone_or_with_all_they_wait_for() {
        assert_eq!(names(&[], false).len(), 4);
        assert_eq!(names(&["deploy"], false), ["deploy"]);
        assert_eq!(names(&["deploy"], true), ["build", "test: [a]", "deploy"]);
        assert_eq!(names(&["test"], false), ["test: [a]", "test: [b]"]);
        assert_eq!(names(&["test: [b]"], true), ["build", "test: [b]"]);
    }

    #[test]
    fn a_named_manual_job_runs_and_stages_without_jobs_vanish() {
        let selection = Selection {
            names: vec!["deploy".to_owned()],
            ..Selection::default()
        };
        let selected = selection.of(pipeline()).expect("selected");
        assert_eq!(selected.played, [0]);
        assert_eq!(selected.pipeline.stages, ["deploy"]);
    }

    #[test]
    fn manual_jobs_are_started_by_name_or_all_at_once() {
        let manual = |names: &[&str], manual_all| {
            let selection = Selection {
                manual: names.iter().map(|name| (*name).to_owned()).collect(),
                manual_all,
                ..Selection::default()
            };
            selection.of(pipeline()).map(|selected| selected.played)
        };
        assert_eq!(manual(&["deploy"], false).expect("manual"), [3]);
        assert_eq!(manual(&[], true).expect("manual"), [3]);
        assert!(manual(&["build"], false).is_err(), "starts by itself");
        assert!(manual(&["nope"], false).is_err());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let refused = named(pipeline(), &["nope".to_owned()], false).expect_err("refused");
        assert!(refused.message().contains("nope"));
    }

    #[test]
    fn near_names_are_suggested() {
        let known = ["build", "test: [a]", "deploy production"];
        let cases = [
            ("biuld", "did you mean \"build\"?"),
            ("Build", "did you mean \"build\"?"),
            ("deploy", "did you mean \"deploy production\"?"),
            ("nothing", "its jobs: build, test: [a], deploy production"),
        ];
        for (name, expected) in cases {
            assert_eq!(suggestion(known.into_iter(), name), expected, "{name}");
        }
    }
}
