//! Bridges in the queue: what they ask for, the pipelines they start, and what becomes of them.

use std::collections::BTreeMap;

use serde_json::Value;

use courser_protocol::JobVariable;

use super::{CreateError, Queue};
use crate::bridge::{
    BridgeWork, DownstreamError, DownstreamRequest, DownstreamTarget, Evaluated, Generated,
    Strategy, Trigger, TriggerTarget, Upstream,
};
use crate::cache_keys::CacheKeys;
use crate::payload::{full_ref, server_variables};
use crate::pipeline_run::{Event, JobState, Outcome, PipelineStatus, Position};
use crate::store::{PipelineContext, StoreError};
use crate::variables;

/// Children nest two levels deep (`gitlab-ci-yaml.md` 16.4).
const MAXIMUM_CHILDREN: usize = 2;
/// Pipelines of one tree, as on GitLab.
const MAXIMUM_TREE: u64 = 1000;
/// How often a project's ref may come back in a line of pipelines before it counts as a loop.
const MAXIMUM_REPEATS: usize = 2;

impl Queue {
    /// It is the bridge's turn.
    pub(super) fn call_bridge(&self, pipeline: i64, position: Position) {
        // The receiver ends with the coordinator.
        let _ = self.bridges.send((pipeline, position));
    }

    /// What a bridge wants, if it is still its turn.
    pub(crate) fn bridge_work(
        &mut self,
        pipeline: i64,
        position: Position,
    ) -> Result<Option<BridgeWork>, DownstreamError> {
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(None);
        };
        let job = &live.jobs[position];
        if job.state != JobState::Pending || self.waits_for_resource(pipeline, job) {
            return Ok(None);
        }
        let Some(trigger) = job.template.trigger.clone() else {
            // It would mirror a pipeline of another project; the file was warned of.
            let passed = self.apply(pipeline, Event::Finish(position, Outcome::Success));
            return passed
                .map(|()| None)
                .map_err(|error| DownstreamError::creation(error.to_string()));
        };
        let upstream_job = job.id;
        let known = self.known_variables(pipeline, position);
        self.check_lineage(pipeline, &trigger)?;
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(None);
        };
        let mut forwarded = forwarded(
            &trigger,
            &live.jobs[position].template,
            &live.context,
            &known,
        );
        let mut generated = Vec::new();
        let mut predefined = BTreeMap::new();
        let (target, source) = match &trigger.target {
            TriggerTarget::Child { include } => {
                predefined.extend(live.context.predefined.iter().cloned());
                for name in ["CI_PIPELINE_NAME", "CI_PIPELINE_CREATED_AT"] {
                    predefined.remove(name);
                }
                let include: Vec<_> = include.iter().map(|entry| located(entry, &known)).collect();
                generated = self.generated(pipeline, &include);
                let target = DownstreamTarget::Child {
                    include,
                    generated: BTreeMap::new(),
                };
                (target, "parent_pipeline")
            }
            TriggerTarget::Project {
                path,
                branch,
                inputs,
            } => {
                let expand = |text: &String| variables::expand(text, &known);
                let target = DownstreamTarget::Project {
                    path: expand(path),
                    branch: branch.as_ref().map(expand).filter(|name| !name.is_empty()),
                    inputs: variables::expand_value(inputs, &known),
                };
                (target, "pipeline")
            }
        };
        let context = &live.context;
        let project_variables = if self.is_own(context.project_id, &target) {
            context.project_variables.clone()
        } else {
            Vec::new()
        };
        mark_secrets(&mut forwarded, &target, &known);
        for (key, value) in [
            ("CI_PIPELINE_SOURCE", source.to_owned()),
            ("CI_UPSTREAM_PIPELINE_ID", pipeline.to_string()),
            ("CI_UPSTREAM_PROJECT_ID", context.project_id.to_string()),
            ("CI_UPSTREAM_JOB_ID", upstream_job.to_string()),
        ] {
            predefined.insert(key.to_owned(), value);
        }
        Ok(Some(BridgeWork {
            request: DownstreamRequest {
                project_id: context.project_id,
                ref_name: context.ref_name.clone(),
                tag: context.tag,
                sha: context.sha.clone(),
                before_sha: context.before_sha.clone(),
                predefined,
                of_server: self.of_server(context),
                project_variables,
                variables: forwarded,
                target,
            },
            generated,
        }))
    }

    /// Whether it is a pipeline of the same project.
    fn is_own(&self, project: i64, target: &DownstreamTarget) -> bool {
        let DownstreamTarget::Project { path, .. } = target else {
            return true;
        };
        let own = self.projects.get(&project);
        own.is_some_and(|own| own.path.eq_ignore_ascii_case(path.trim_matches('/')))
    }

    /// What this server sets for every job of the pipeline's project.
    fn of_server(&self, context: &PipelineContext) -> BTreeMap<String, String> {
        let Some(project) = self.projects.get(&context.project_id) else {
            return BTreeMap::new();
        };
        let full_ref = full_ref(&context.ref_name, context.tag);
        server_variables(&self.server.url, project.id, &project.path, &full_ref)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// The archives that hold what `{artifact, job}` name; the evaluator tells of those that are not there.
    fn generated(&self, pipeline: i64, include: &[Value]) -> Vec<Generated> {
        let live = self.pipelines.get(&pipeline);
        let jobs = live.map_or(&[][..], |live| &live.jobs);
        let found = include.iter().filter_map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let (file, job) = (text("artifact")?, text("job")?);
            let archive = jobs
                .iter()
                .filter(|candidate| candidate.plan.name == job)
                .find_map(|candidate| self.archive_of(candidate.id))?;
            Some(Generated {
                job,
                file,
                archive: self.files.artifact(&archive.stored_as),
            })
        });
        found.collect()
    }

    /// The bounds on trees of pipelines.
    fn check_lineage(&mut self, pipeline: i64, trigger: &Trigger) -> Result<(), DownstreamError> {
        let mut children = 0;
        let mut refs: BTreeMap<(i64, String), usize> = BTreeMap::new();
        let (mut next, mut root) = (Some(pipeline), pipeline);
        while let Some(id) = next.take() {
            let known = self.bring_back(id);
            known.map_err(|error| DownstreamError::creation(error.to_string()))?;
            let Some(live) = self.pipelines.get(&id) else {
                break;
            };
            root = id;
            let place = (live.context.project_id, live.context.ref_name.clone());
            let upstream = live.context.upstream.as_ref();
            if upstream.is_some_and(|upstream| upstream.child) {
                children += 1;
            } else {
                *refs.entry(place).or_default() += 1;
            }
            next = upstream.map(|upstream| upstream.pipeline);
        }
        let refused = |reason: &'static str, message: &str| {
            Err(DownstreamError {
                reason,
                message: message.to_owned(),
            })
        };
        if matches!(trigger.target, TriggerTarget::Child { .. }) {
            if children >= MAXIMUM_CHILDREN {
                return refused(
                    "reached_max_descendant_pipelines_depth",
                    "child pipelines may nest two levels deep",
                );
            }
        } else if refs.values().any(|count| *count > MAXIMUM_REPEATS) {
            return refused(
                "pipeline_loop_detected",
                "it would start pipelines of the same projects in a circle",
            );
        }
        match self.store.tree_size(root) {
            Ok(size) if size >= MAXIMUM_TREE => refused(
                "reached_max_pipeline_hierarchy_size",
                "the tree of downstream pipelines has reached 1000",
            ),
            Ok(_) => Ok(()),
            Err(error) => Err(DownstreamError::creation(error.to_string())),
        }
    }

    /// Creates a bridge's pipeline, unless the bridge was stopped meanwhile.
    pub(crate) fn start_downstream(
        &mut self,
        (pipeline, position): (i64, Position),
        downstream: Evaluated,
        cache_keys: &CacheKeys,
    ) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(());
        };
        let job = &live.jobs[position];
        let Some(trigger) = job.template.trigger.clone() else {
            return Ok(());
        };
        // Another of its resource group may have begun meanwhile; the bridge is called again after that one.
        if job.state != JobState::Pending || self.waits_for_resource(pipeline, job) {
            return Ok(());
        }
        let upstream = Upstream {
            pipeline,
            position,
            job: job.id,
            strategy: trigger.strategy,
            child: matches!(trigger.target, TriggerTarget::Child { .. }),
        };
        // A process that died between the two had created it already.
        let created = match self.store.downstream_of(upstream.job)? {
            Some(id) => Ok(id),
            None => self.create(downstream.pipeline, cache_keys, Some(upstream)),
        };
        let id = match created {
            Ok(id) => id,
            Err(CreateError::Store(error)) => return Err(error),
            Err(error) => {
                let error = DownstreamError::creation(error.to_string());
                return self.drop_job(pipeline, position, error.reason, error.message);
            }
        };
        if let Some(live) = self.pipelines.get_mut(&pipeline) {
            live.jobs[position].run.downstream = Some(id);
        }
        if trigger.strategy == Strategy::Start {
            self.apply(pipeline, Event::Finish(position, Outcome::Success))
        } else {
            self.apply(pipeline, Event::Start(position))?;
            self.tell_upstream(id)
        }
    }

    /// A job that cannot run, and why; a bridge names its place in the file.
    pub(crate) fn drop_job(
        &mut self,
        pipeline: i64,
        position: Position,
        reason: &str,
        message: String,
    ) -> Result<(), StoreError> {
        if let Some(live) = self.pipelines.get_mut(&pipeline) {
            let job = &mut live.jobs[position];
            let trigger = job.template.trigger.as_ref();
            let place = trigger.and_then(|trigger| trigger.place.as_deref());
            job.run.failure_reason = Some(reason.to_owned());
            job.run.message = Some(match place {
                Some(place) => format!("{place}: {message}"),
                None => message,
            });
        }
        self.apply(pipeline, Event::Drop(position))
    }

    /// Tells the bridge that waits for this pipeline where it is.
    pub(super) fn tell_upstream(&mut self, pipeline: i64) -> Result<(), StoreError> {
        let Some(live) = self.pipelines.get(&pipeline) else {
            return Ok(());
        };
        let status = live.run.status();
        let Some(upstream) = live.context.upstream.clone() else {
            return Ok(());
        };
        if upstream.strategy == Strategy::Start {
            return Ok(());
        }
        self.bring_back(upstream.pipeline)?;
        let job = upstream.position;
        let bridge = self.pipelines.get_mut(&upstream.pipeline);
        let waiting = bridge.map(|live| &mut live.jobs[job]).filter(|bridge| {
            bridge.id == upstream.job && matches!(bridge.state, JobState::Running | JobState::Held)
        });
        // What has ended stays as it is, and one that has not begun is told when it does.
        let Some(bridge) = waiting else {
            return Ok(());
        };
        let event = match status {
            PipelineStatus::Running => Event::Hold { job, held: false },
            PipelineStatus::Manual => Event::Hold { job, held: true },
            PipelineStatus::Success => Event::Finish(job, Outcome::Success),
            PipelineStatus::Canceled => Event::Finish(job, Outcome::Canceled),
            PipelineStatus::Failed | PipelineStatus::Skipped => {
                bridge.run.failure_reason = Some("unknown_failure".to_owned());
                bridge.run.message = Some(format!(
                    "downstream pipeline {pipeline} {}",
                    status.as_str()
                ));
                let reason = "unknown_failure".to_owned();
                let exit_code = None;
                Event::Finish(job, Outcome::Failed { reason, exit_code })
            }
        };
        self.apply(upstream.pipeline, event)
    }

    /// Cancels or aborts a pipeline and all that it started.
    pub(crate) fn stop(&mut self, pipeline: i64, event: &Event) -> Result<(), StoreError> {
        self.apply(pipeline, event.clone())?;
        let live = self.pipelines.get(&pipeline);
        let started: Vec<i64> = live
            .iter()
            .flat_map(|live| &live.jobs)
            .filter_map(|job| job.run.downstream)
            .collect();
        for pipeline in started {
            self.stop(pipeline, event)?;
        }
        Ok(())
    }
}

/// The variables that the downstream pipeline is given: those of the file as they are expanded here, then
/// the pipeline's.
fn forwarded(
    trigger: &Trigger,
    template: &crate::payload::JobTemplate,
    context: &PipelineContext,
    known: &[JobVariable],
) -> Vec<JobVariable> {
    let mut forwarded: Vec<JobVariable> = Vec::new();
    if trigger.yaml_variables {
        forwarded.extend(template.yaml_variables.iter().map(|variable| {
            if variable.raw {
                return variable.clone();
            }
            JobVariable {
                value: variables::expand(variable.value.expose(), known).into(),
                ..variable.clone()
            }
        }));
    }
    if trigger.pipeline_variables {
        forwarded.extend(context.variables.iter().cloned());
    }
    forwarded
}

/// An entry of `trigger:include` with its place expanded. Rules and inputs are the child's: references in them
/// are not resolved here (`gitlab-ci-yaml.md` 4.1).
fn located(entry: &Value, known: &[JobVariable]) -> Value {
    const PLACES: [&str; 9] = [
        "local",
        "project",
        "ref",
        "file",
        "remote",
        "template",
        "component",
        "artifact",
        "job",
    ];
    let Value::Object(entry) = entry else {
        return variables::expand_value(entry, known);
    };
    let members = entry.iter().map(|(key, value)| {
        let value = if PLACES.contains(&key.as_str()) {
            variables::expand_value(value, known)
        } else {
            value.clone()
        };
        (key.clone(), value)
    });
    members.collect()
}

/// Values that the bridge's jobs mask are masked downstream, too: forwarded variables that hold one are marked,
/// and each is given to the downstream pipeline under a name of its own, as far as it was put into what the
/// pipeline is given. Without that, its log would show it in any other piece than the marked whole.
fn mark_secrets(
    forwarded: &mut Vec<JobVariable>,
    target: &DownstreamTarget,
    known: &[JobVariable],
) {
    let inputs = match target {
        DownstreamTarget::Project { inputs, .. } => texts_of(inputs),
        DownstreamTarget::Child { .. } => Vec::new(),
    };
    let mut given = Vec::new();
    for secret in known.iter().filter(|known| variables::is_secret(known)) {
        let value = secret.value.expose().trim();
        let holds = |text: &str| text.contains(value);
        let mut found = inputs.iter().any(|text| holds(text));
        let mut is_masked = false;
        for variable in forwarded.iter_mut() {
            if !holds(variable.value.expose()) {
                continue;
            }
            found = true;
            if !variable.file {
                variable.masked = true;
            }
            variable.public = false;
            is_masked |= variable.masked && variable.value.expose() == value;
        }
        if found && !is_masked {
            given.push(value.to_owned());
        }
    }
    given.sort_unstable();
    given.dedup();
    let mut numbers = 1..;
    for value in given {
        let free = |number: &u32| {
            let name = format!("COURSER_UPSTREAM_SECRET_{number}");
            let taken = forwarded.iter().any(|variable| variable.key == name);
            (!taken).then_some(name)
        };
        let Some(name) = numbers.find_map(|number| free(&number)) else {
            return;
        };
        forwarded.push(JobVariable {
            raw: true,
            ..variables::masked(&name, value)
        });
    }
}

fn texts_of(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(entries) => entries.iter().flat_map(texts_of).collect(),
        Value::Object(map) => map.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_no_secret_of_the_pipelines_below() {
        let variable = |key: &str, value: &str| variables::public(key, value);
        let file = |key: &str, value: &str| JobVariable {
            file: true,
            ..variable(key, value)
        };
        let known = [
            file("SWITCH", "1\n"),
            file("KEY", "hunter2hunter2\n"),
            JobVariable {
                masked: true,
                ..variable("PIN", "4711")
            },
        ];
        let mut forwarded = vec![
            variable("VERSION", "1.21.1"),
            variable("URL", "https://hunter2hunter2@host"),
            variable("CODE", "code 4711"),
        ];
        let target = DownstreamTarget::Child {
            include: Vec::new(),
            generated: BTreeMap::new(),
        };
        mark_secrets(&mut forwarded, &target, &known);
        let marked: Vec<(&str, bool)> = forwarded
            .iter()
            .map(|variable| (variable.value.expose(), variable.masked))
            .collect();
        let expected = [
            ("1.21.1", false),
            ("https://hunter2hunter2@host", true),
            ("code 4711", true),
            ("4711", true),
            ("hunter2hunter2", true),
        ];
        assert_eq!(marked, expected);
    }
}
