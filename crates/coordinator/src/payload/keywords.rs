//! One function a keyword: from the evaluated job to the payload's static part and the plan.

use std::collections::HashMap;

use serde_json::Value;

use courser_pipeline::{JobArtifacts, JobCache, Pipeline, PipelineJob, YamlVariable};
use courser_protocol::{
    Artifact, Cache, DockerOptions, ExecutorOptions, Hook, Image, Input, InputKind, InputValue,
    JobInfo, JobResponse, JobVariable, KubernetesOptions, Port, RunText, Step, UserText, When,
};

use super::{ForeignNeed, JobTemplate};
use crate::bridge::Trigger;
use crate::pipeline_run::{JobPlan, Position, Retry};
use crate::results::Declared;
use crate::variables::public;

/// Plans of all jobs. A need that is not in the pipeline was optional or left out on purpose.
pub(crate) fn plans(pipeline: &Pipeline, played: &[Position]) -> Vec<JobPlan> {
    let positions = positions(&pipeline.jobs);
    pipeline
        .jobs
        .iter()
        .enumerate()
        .map(|(position, job)| JobPlan {
            name: job.name.clone(),
            stage: stage_position(job, &pipeline.stages),
            needs: job.needs.is_some().then(|| {
                job.job_needs
                    .iter()
                    .filter_map(|need| positions.get(need.job.as_str()).copied())
                    .collect()
            }),
            when: job.when,
            allow_failure: job.allow_failure.clone(),
            retry: job.retry.as_ref().map(retry_of).unwrap_or_default(),
            start_in: job
                .start_in
                .as_deref()
                .and_then(courser_pipeline::duration_seconds)
                .unwrap_or(0),
            bridge: is_bridge(job),
            interruptible: job.interruptible,
            played: played.contains(&position),
        })
        .collect()
}

/// A job with `trigger`, or one that only mirrors another project's pipeline (`needs:pipeline`).
fn is_bridge(job: &PipelineJob) -> bool {
    let mirrors = |need: &Value| need.get("pipeline").is_some() && need.get("job").is_none();
    job.trigger.is_some() || job.needs.iter().flatten().any(mirrors)
}

fn positions(jobs: &[PipelineJob]) -> HashMap<&str, Position> {
    jobs.iter()
        .enumerate()
        .map(|(position, job)| (job.name.as_str(), position))
        .collect()
}

fn stage_position(job: &PipelineJob, stages: &[String]) -> usize {
    stages
        .iter()
        .position(|stage| *stage == job.stage)
        .unwrap_or_default()
}

/// `{max, when, exit_codes}`.
fn retry_of(value: &Value) -> Retry {
    let list = |key: &str| match value.get(key) {
        Some(Value::Array(entries)) => entries.clone(),
        Some(Value::Null) | None => Vec::new(),
        Some(single) => vec![single.clone()],
    };
    Retry {
        max: value
            .get("max")
            .or_else(|| value.is_number().then_some(value))
            .and_then(Value::as_u64)
            .and_then(|max| u32::try_from(max).ok())
            .unwrap_or(0),
        when: list("when")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        exit_codes: list("exit_codes")
            .iter()
            .filter_map(Value::as_i64)
            .collect(),
    }
}

pub(super) fn template(
    job: &PipelineJob,
    stages: &[String],
    jobs: &[PipelineJob],
    protected: bool,
    cache_key: impl Fn(usize, &JobCache) -> String,
) -> JobTemplate {
    JobTemplate {
        payload: JobResponse {
            job_info: JobInfo {
                name: job.name.clone(),
                stage: job.stage.clone(),
                ..JobInfo::default()
            },
            steps: steps(job),
            run: job
                .run
                .as_ref()
                .filter(|run| run.as_array().is_some_and(|steps| !steps.is_empty()))
                .and_then(|steps| RunText::try_from(steps.to_string()).ok())
                .unwrap_or_default(),
            image: job.image.as_ref().map(image).unwrap_or_default(),
            services: job.services.iter().map(image).collect(),
            artifacts: job.artifacts.as_ref().map(artifacts).unwrap_or_default(),
            cache: job
                .cache
                .iter()
                .enumerate()
                .map(|(index, cache)| self::cache(cache, cache_key(index, cache), protected))
                .collect(),
            hooks: hooks(job),
            inputs: inputs(job),
            ..JobResponse::default()
        },
        yaml_variables: job.variables.iter().map(yaml_variable).collect(),
        job_variables: job_variables(job),
        tags: job.tags.clone(),
        sources: sources(job, stages, jobs),
        timeout: job.timeout,
        environment: job.environment.is_some(),
        elsewhere: foreign_needs(job),
        trigger: Trigger::of(job),
        resource_group: job.resource_group.clone(),
        declared: Declared::of(job),
        id_tokens: job.id_tokens.clone(),
        secrets: job.secrets.clone(),
    }
}

/// Inputs with their defaults: nobody is asked for others.
fn inputs(job: &PipelineJob) -> Vec<Input> {
    let declared = job.inputs.as_ref().and_then(Value::as_object);
    let input = |(name, spec): (&String, &Value)| {
        let kind = match spec.get("type").and_then(Value::as_str) {
            Some("number") => InputKind::Number,
            Some("boolean") => InputKind::Boolean,
            Some("array") => InputKind::Array,
            _ => InputKind::String,
        };
        let content = match spec.get("default")? {
            Value::String(text) => Value::from(text.as_str()),
            // A text input takes numbers and booleans, too.
            other if kind == InputKind::String => Value::from(other.to_string()),
            other => other.clone(),
        };
        Some(Input {
            key: name.clone(),
            value: InputValue {
                kind,
                content,
                sensitive: false,
            },
        })
    };
    declared.into_iter().flatten().filter_map(input).collect()
}

/// Scripts as steps. A job with `run` has none, defaults included: runners refuse a payload with both.
fn steps(job: &PipelineJob) -> Vec<Step> {
    if job.run.is_some() {
        return Vec::new();
    }
    let mut steps = Vec::with_capacity(2);
    if !job.script.is_empty() || !job.before_script.is_empty() {
        steps.push(Step {
            name: "script".to_owned(),
            script: job
                .before_script
                .iter()
                .chain(&job.script)
                .cloned()
                .collect(),
            when: "on_success".to_owned(),
            ..Step::default()
        });
    }
    if !job.after_script.is_empty() {
        steps.push(Step {
            name: "after_script".to_owned(),
            script: job.after_script.clone(),
            when: "always".to_owned(),
            allow_failure: true,
            ..Step::default()
        });
    }
    steps
}

fn yaml_variable(variable: &YamlVariable) -> JobVariable {
    JobVariable {
        raw: variable.raw,
        ..public(&variable.key, &*variable.value)
    }
}

/// Predefined variables that the job itself decides.
fn job_variables(job: &PipelineJob) -> Vec<JobVariable> {
    let number = |key: &str| {
        let parallel = job.parallel.as_ref()?;
        parallel.get(key)?.as_u64().map(|number| number.to_string())
    };
    let mut variables = vec![
        public("CI_JOB_NAME", &*job.name),
        public("CI_JOB_NAME_SLUG", courser_pipeline::slug(&job.name)),
        public("CI_JOB_GROUP_NAME", group_name(job)),
        public("CI_JOB_STAGE", &*job.stage),
        public(
            "CI_NODE_TOTAL",
            number("total").unwrap_or_else(|| "1".to_owned()),
        ),
    ];
    variables.extend(number("index").map(|index| public("CI_NODE_INDEX", index)));
    if matches!(
        job.when,
        courser_pipeline::JobWhen::Manual | courser_pipeline::JobWhen::Delayed
    ) {
        variables.push(public("CI_JOB_MANUAL", "true"));
    }
    // Names may hold `$`, which means nothing in them.
    for variable in &mut variables {
        variable.raw = variable.value.expose().contains(['$', '%']);
    }
    if let Some(environment) = &job.environment {
        let keys = [
            ("name", "CI_ENVIRONMENT_NAME"),
            ("url", "CI_ENVIRONMENT_URL"),
            ("action", "CI_ENVIRONMENT_ACTION"),
            ("deployment_tier", "CI_ENVIRONMENT_TIER"),
        ];
        variables.extend(keys.iter().filter_map(|(key, name)| {
            let text = environment.get(*key)?.as_str()?;
            Some(public(name, text))
        }));
    }
    variables
}

/// The name without its parallel suffix. Only the evaluator can tell it: values of a matrix may look like one.
fn group_name(job: &PipelineJob) -> &str {
    match job.group.as_str() {
        "" => &job.name,
        group => group,
    }
}

/// Jobs whose artifacts are fetched: needs with `artifacts`, else earlier stages; `dependencies` narrows.
fn sources(job: &PipelineJob, stages: &[String], jobs: &[PipelineJob]) -> Vec<Position> {
    let positions = positions(jobs);
    let all: Vec<Position> = if job.needs.is_some() {
        job.job_needs
            .iter()
            .filter(|need| need.artifacts)
            .filter_map(|need| positions.get(need.job.as_str()).copied())
            .collect()
    } else {
        let stage = stage_position(job, stages);
        (0..jobs.len())
            .filter(|position| stage_position(&jobs[*position], stages) < stage)
            .collect()
    };
    let Some(wanted) = &job.dependencies else {
        return all;
    };
    // A parallel job is also meant by its plain name.
    let named = |position: &Position| {
        let other = &jobs[*position];
        wanted
            .iter()
            .any(|name| *name == other.name || name == group_name(other))
    };
    all.into_iter().filter(named).collect()
}

fn foreign_needs(job: &PipelineJob) -> Vec<ForeignNeed> {
    let wanted = |need: &&Value| need.get("artifacts") != Some(&Value::Bool(false));
    let needs = job.needs.iter().flatten().filter(wanted);
    needs
        .filter_map(|need| {
            let text = |key: &str| need.get(key).and_then(Value::as_str).map(str::to_owned);
            if let Some(project) = text("project") {
                return Some(ForeignNeed::Project {
                    project,
                    reference: text("ref")?,
                    job: text("job")?,
                });
            }
            Some(ForeignNeed::Pipeline {
                pipeline: text("pipeline")?,
                job: text("job")?,
            })
        })
        .collect()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(entries)) => entries
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// The text of a mapping's key; empty where there is none.
fn text_of(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// `image` or an entry of `services`, in mapping form or as a plain name.
fn image(value: &Value) -> Image {
    let text = |key: &str| text_of(value, key);
    let variables = value.get("variables").and_then(Value::as_object);
    Image {
        name: value.as_str().map_or_else(|| text("name"), str::to_owned),
        alias: text("alias"),
        command: texts(value.get("command")),
        entrypoint: texts(value.get("entrypoint")),
        ports: value
            .get("ports")
            .and_then(Value::as_array)
            .map(|ports| ports.iter().map(port).collect())
            .unwrap_or_default(),
        variables: variables
            .map(|variables| {
                let text = |value: &Value| match value {
                    Value::String(text) => text.clone(),
                    Value::Object(_) => text_of(value, "value"),
                    other => other.to_string(),
                };
                variables
                    .iter()
                    .map(|(key, value)| public(key, text(value)))
                    .collect()
            })
            .unwrap_or_default(),
        pull_policy: texts(value.get("pull_policy")),
        executor_opts: executor_options(value),
    }
}

fn port(value: &Value) -> Port {
    let text = |key: &str| text_of(value, key);
    Port {
        number: value
            .get("number")
            .or(Some(value))
            .and_then(Value::as_i64)
            .unwrap_or_default(),
        protocol: text("protocol"),
        name: text("name"),
    }
}

/// `image:docker` and `image:kubernetes`; keys a runner may not know are passed on by name.
fn executor_options(value: &Value) -> ExecutorOptions {
    let user = |options: &Value| match options.get("user") {
        Some(Value::String(user)) => UserText(user.clone()),
        Some(Value::Number(user)) => UserText(user.to_string()),
        _ => UserText::default(),
    };
    let others = |options: &Value, known: &[&str]| {
        options
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    ExecutorOptions {
        docker: value.get("docker").map(|options| DockerOptions {
            platform: texts(options.get("platform")).concat(),
            user: user(options),
            unsupported: others(options, &["platform", "user"]),
        }),
        kubernetes: value.get("kubernetes").map(|options| KubernetesOptions {
            user: user(options),
            unsupported: others(options, &["user"]),
        }),
        ..ExecutorOptions::default()
    }
}

fn upload_when(text: &str) -> When {
    match text {
        "on_failure" => When::OnFailure,
        "always" => When::Always,
        _ => When::OnSuccess,
    }
}

/// The archive, then one entry a report.
fn artifacts(artifacts: &JobArtifacts) -> Vec<Artifact> {
    let mut entries = Vec::new();
    let expire_in = artifacts.expire_in.clone().unwrap_or_default();
    if !artifacts.paths.is_empty() || artifacts.untracked {
        entries.push(Artifact {
            name: artifacts.name.clone().unwrap_or_default(),
            untracked: artifacts.untracked,
            paths: artifacts.paths.clone(),
            exclude: artifacts.exclude.clone(),
            when: upload_when(&artifacts.when),
            artifact_type: "archive".to_owned(),
            artifact_format: "zip".to_owned(),
            expire_in: expire_in.clone(),
        });
    }
    entries.extend(artifacts.reports.iter().map(|(kind, paths)| {
        let (kind, name, format) = report(kind);
        Artifact {
            name,
            paths: paths.clone(),
            when: When::Always,
            artifact_type: kind,
            artifact_format: format.to_owned(),
            expire_in: expire_in.clone(),
            ..Artifact::default()
        }
    }));
    entries
}

/// Wire type, archive name and format of a report.
fn report(kind: &str) -> (String, String, &'static str) {
    let kind = if kind == "coverage_report" {
        "cobertura"
    } else {
        kind
    };
    let (name, format) = match kind {
        "dotenv" => (".env", "gzip"),
        "junit" => ("junit.xml", "gzip"),
        "cobertura" => ("cobertura-coverage.xml", "gzip"),
        "metrics" => ("metrics.txt", "gzip"),
        "cyclonedx" => ("gl-sbom.cdx.json", "gzip"),
        "annotations" => ("gl-annotations.json", "gzip"),
        "lsif" => ("lsif.json", "zip"),
        "terraform" => ("tfplan.json", "raw"),
        "requirements" => ("requirements.json", "raw"),
        "codequality" => ("gl-code-quality-report.json", "raw"),
        "performance" => ("performance.json", "raw"),
        "browser_performance" => ("browser-performance.json", "raw"),
        "load_performance" => ("load-performance.json", "raw"),
        other => {
            let name = format!("gl-{}-report.json", other.replace('_', "-"));
            return (other.to_owned(), name, "raw");
        }
    };
    (kind.to_owned(), name.to_owned(), format)
}

fn cache(cache: &JobCache, key: String, protected: bool) -> Cache {
    let suffix = match (cache.unprotect, protected) {
        (true, _) => "",
        (false, true) => "-protected",
        (false, false) => "-non_protected",
    };
    let suffixed = |key: &str| format!("{key}{suffix}");
    Cache {
        key: suffixed(&key),
        untracked: cache.untracked,
        policy: cache.policy.clone(),
        paths: cache.paths.clone(),
        when: upload_when(&cache.when),
        fallback_keys: cache
            .fallback_keys
            .iter()
            .map(|key| suffixed(key))
            .collect(),
    }
}

fn hooks(job: &PipelineJob) -> Vec<Hook> {
    job.hooks
        .iter()
        .flatten()
        .map(|(name, script)| Hook {
            name: name.clone(),
            script: script.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload(job: &PipelineJob) -> JobResponse {
        template(job, &[], &[], false, |_, _| String::new()).payload
    }

    #[test]
    fn a_job_with_run_has_no_steps_whatever_the_defaults_say() {
        let job = PipelineJob {
            run: Some(json!([{"name": "a", "script": "echo"}])),
            before_script: vec!["echo before".to_owned()],
            after_script: vec!["echo after".to_owned()],
            ..PipelineJob::default()
        };
        let payload = payload(&job);
        assert!(payload.steps.is_empty() && !payload.run.is_empty());
        // Runners refuse a payload with both.
        let wire = serde_json::to_string(&payload).unwrap();
        assert!(serde_json::from_str::<JobResponse>(&wire).is_ok(), "{wire}");
    }

    #[test]
    fn the_group_of_a_job_is_its_name_whatever_a_matrix_puts_behind_it() {
        let job = PipelineJob {
            name: "build: [a: [b]".to_owned(),
            group: "build".to_owned(),
            parallel: Some(json!({"index": 1, "total": 2})),
            ..PipelineJob::default()
        };
        let template = template(&job, &[], &[], false, |_, _| String::new());
        let mut known = template.job_variables.iter();
        let group = known.find(|variable| variable.key == "CI_JOB_GROUP_NAME");
        assert_eq!(group.map(|group| group.value.expose()), Some("build"));
    }

    #[test]
    fn inputs_are_their_defaults_with_the_kind_that_they_want() {
        let job = PipelineJob {
            inputs: Some(json!({
                "text": {"default": "a"}, "number as text": {"default": 1.5},
                "number": {"type": "number", "default": 3, "options": [3, 4]},
                "flag": {"type": "boolean", "default": false, "description": "d"},
                "list": {"type": "array", "default": ["a", 1]},
            })),
            ..PipelineJob::default()
        };
        let wire = serde_json::to_value(payload(&job).inputs).unwrap();
        let input = |key: &str, kind: &str, content: Value| json!({"key": key, "value": {"type": kind, "content": content, "sensitive": false}});
        let mut expected = vec![
            input("text", "string", json!("a")),
            input("number as text", "string", json!("1.5")),
            input("number", "number", json!(3)),
            input("flag", "boolean", json!(false)),
            input("list", "array", json!(["a", 1])),
        ];
        let mut found = wire.as_array().cloned().unwrap();
        for list in [&mut expected, &mut found] {
            list.sort_by_key(|input| input["key"].to_string());
        }
        assert_eq!(found, expected);
    }
}
