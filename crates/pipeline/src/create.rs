//! From the checked configuration to the pipeline of one event (`gitlab-ci-yaml.md` 19).

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::budget::{self, Budget};
use crate::config::Config;
use crate::cycle;
use crate::graph::Graph;
use crate::job::JobSpec;
use crate::model::{AllowFailure, JobWhen, Need, Pipeline, PipelineJob, Workflow, YamlVariable};
use crate::needs::{MAXIMUM_NEEDS, NeedSpec, Target};
use crate::parallel::Instance;
use crate::policy::Policy;
use crate::rules::RuleWhen;
use crate::secrets;
use crate::slug::{environment_slug, slug};
use crate::source::{Fault, Findings, Span};
use crate::trace::{Decision, Outcome, Subject};
use crate::variables::{self, Scope};
use crate::world::{Asker, Tree, World};

/// What GitLab says when rules leave no job but those of `.pre` and `.post`.
pub const EMPTY_PIPELINE: &str = "The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.";

/// Keywords that are accepted but have no effect on one machine, with what they would do.
const NOT_RUN_HERE: &[(&str, &str)] = &[
    ("identity", "no cloud identity is federated"),
    ("dast_configuration", "no scan is configured"),
    ("run", "steps are not run; a job that has them fails"),
];

/// The pipeline with what is worth saying about it.
pub(crate) struct Created {
    pub(crate) pipeline: Pipeline,
    /// Where the `trigger` of each job stands.
    pub(crate) triggers: Vec<Option<Span>>,
    pub(crate) not_run_here: Vec<Fault>,
}

/// Evaluates the configuration for the world's event.
pub(crate) fn create(
    config: &Config,
    graph: &Graph<'_>,
    world: &World<'_>,
    root: Span,
    findings: &mut Findings,
) -> Result<Created, Fault> {
    let mut creation = Creation {
        config,
        graph,
        world,
        findings,
        not_run_here: Vec::new(),
        budget: Budget::for_jobs(),
    };
    let mut globals = config.variables.clone();
    let workflow = creation.workflow(&mut globals)?;
    let mut jobs: Vec<(&JobSpec, &Instance, Vec<NeedSpec>, PipelineJob)> = Vec::new();
    if workflow.created {
        for (spec, instances) in config.jobs.iter().zip(&graph.instances) {
            for instance in instances {
                if let Some((needs, job)) = creation.job(spec, instance, &globals)? {
                    creation.note(spec, &job);
                    jobs.push((spec, instance, needs, job));
                }
            }
        }
        let real = |job: &PipelineJob| job.stage != ".pre" && job.stage != ".post";
        if !jobs.iter().any(|(.., job)| real(job)) {
            return Err(Fault::new(root, EMPTY_PIPELINE));
        }
    }
    let present: HashSet<String> = jobs.iter().map(|(.., job)| job.name.clone()).collect();
    let mut finished = Vec::with_capacity(jobs.len());
    let mut triggers = Vec::with_capacity(jobs.len());
    for (spec, instance, needs, mut job) in jobs {
        creation.resolve_needs((spec, instance), &needs, &mut job, &present)?;
        if let Some(dependencies) = &job.dependencies {
            let names = dependencies
                .iter()
                .flat_map(|name| graph.resolve(name))
                .filter(|name| present.contains(name))
                .collect();
            job.dependencies = Some(names);
        }
        finished.push(job);
        triggers.push(spec.trigger_span);
    }
    check_cycles(&finished, root)?;
    let mut placed: Vec<(PipelineJob, Option<Span>)> = finished.into_iter().zip(triggers).collect();
    placed.sort_by_key(|(job, _)| graph.stage_position(&job.stage));
    let (finished, triggers): (Vec<_>, _) = placed.into_iter().unzip();
    let mut stages: Vec<String> = Vec::new();
    for job in &finished {
        if stages.last() != Some(&job.stage) {
            stages.push(job.stage.clone());
        }
    }
    Ok(Created {
        pipeline: Pipeline {
            workflow,
            stages,
            jobs: finished,
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        },
        triggers,
        not_run_here: creation.not_run_here,
    })
}

/// Needs that rules brought may be circular although those of the file are not.
fn check_cycles(jobs: &[PipelineJob], span: Span) -> Result<(), Fault> {
    let positions: HashMap<&str, usize> = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| (job.name.as_str(), at))
        .collect();
    let edges: Vec<Vec<usize>> = jobs
        .iter()
        .map(|job| {
            let needs = job.job_needs.iter();
            needs
                .filter_map(|need| positions.get(need.job.as_str()).copied())
                .collect()
        })
        .collect();
    match cycle::find(&edges, &|at| jobs[at].name.as_str()) {
        Some((_, message)) => Err(Fault::new(span, message)),
        None => Ok(()),
    }
}

fn subject(spec: &JobSpec, instance: &Instance) -> Subject {
    Subject::Job {
        name: instance.name.clone(),
        group: spec.name.clone(),
    }
}

struct Creation<'a> {
    config: &'a Config,
    graph: &'a Graph<'a>,
    world: &'a World<'a>,
    findings: &'a mut Findings,
    not_run_here: Vec<Fault>,
    budget: Budget,
}

impl Creation<'_> {
    fn scope<'s>(&'s self, yaml: &'s [YamlVariable], job: &'s [(String, String)]) -> Scope<'s> {
        Scope {
            pipeline: &self.world.event.pipeline_variables,
            yaml,
            job,
            predefined: &self.world.predefined,
        }
    }

    /// Judges `workflow:rules` and lays the matched rule's variables over the globals.
    fn workflow(&mut self, globals: &mut Vec<YamlVariable>) -> Result<Workflow, Fault> {
        let spec = &self.config.workflow;
        let mut workflow = Workflow {
            created: true,
            auto_cancel: spec.auto_cancel.as_ref().map(|(value, _)| value.clone()),
            ..Workflow::default()
        };
        if let Some(rules) = &spec.rules {
            let scope = Scope {
                pipeline: &self.world.event.pipeline_variables,
                yaml: globals,
                job: &[],
                predefined: &self.world.predefined,
            };
            let asker = Asker {
                owner: "workflow",
                scope,
                tree: Tree::Own,
            };
            let found =
                self.world
                    .first_match(rules, asker, || Subject::Workflow, self.findings)?;
            match found {
                Some((_, rule)) if rule.when != Some(RuleWhen::Never) => {
                    variables::lay_over(globals, &rule.variables);
                    workflow.variables = rule
                        .variables
                        .iter()
                        .map(|variable| (variable.key.clone(), variable.value.clone()))
                        .collect();
                    if let Some(auto_cancel) = &rule.auto_cancel {
                        workflow.auto_cancel = Some(auto_cancel.clone());
                    }
                }
                _ => workflow.created = false,
            }
        }
        if workflow.created {
            workflow.name = spec
                .name
                .as_ref()
                .map(|name| self.scope(globals, &[]).expand_all(name).trim().to_owned())
                .filter(|name| !name.is_empty());
        }
        Ok(workflow)
    }

    /// One instance for the event, `None` when rules or `only`/`except` drop it.
    fn job(
        &mut self,
        spec: &JobSpec,
        instance: &Instance,
        globals: &[YamlVariable],
    ) -> Result<Option<(Vec<NeedSpec>, PipelineJob)>, Fault> {
        let mut variables: Vec<YamlVariable> = globals
            .iter()
            .filter(|variable| spec.inherit_variables.allows(&variable.key))
            .cloned()
            .collect();
        variables::lay_over(&mut variables, &spec.variables);
        let matrix: Vec<YamlVariable> = instance
            .combination
            .iter()
            .map(|(key, value)| YamlVariable {
                key: key.clone(),
                value: value.clone(),
                raw: false,
            })
            .collect();
        variables::lay_over(&mut variables, &matrix);
        if let Some(cycle) = variables::cycle(&variables) {
            return Err(Fault::new(
                spec.span,
                format!(
                    "{}: circular variable reference detected: {cycle:?}",
                    instance.name
                ),
            ));
        }
        let bytes = budget::job_bytes(&spec.job, &variables);
        self.budget.take(bytes, spec.span)?;
        let predefined = self.predefined(spec, instance, &variables);
        let mut job = spec.job.clone();
        job.name.clone_from(&instance.name);
        job.group.clone_from(&spec.name);
        job.when = spec.when.unwrap_or_default();
        job.allow_failure = spec
            .allow_failure
            .clone()
            .unwrap_or_else(|| AllowFailure::Always(spec.when == Some(JobWhen::Manual)));
        job.parallel = instance
            .index
            .map(|(index, total)| json!({ "index": index, "total": total }));
        let mut needs = spec.needs.clone();

        if let Some(rules) = &spec.rules {
            let scope = self.scope(&variables, &predefined);
            let asker = Asker {
                owner: &spec.name,
                scope,
                tree: Tree::Own,
            };
            let mut findings = Findings::default();
            let subject = || subject(spec, instance);
            let found = self
                .world
                .first_match(rules, asker, subject, &mut findings)?;
            for warning in findings.warnings {
                self.findings.warn(warning.span, warning.message);
            }
            let Some((index, rule)) = found else {
                return Ok(None);
            };
            match rule.when {
                Some(RuleWhen::Never) => return Ok(None),
                Some(RuleWhen::Job(when)) => job.when = when,
                None => {}
            }
            if let Some(allow_failure) = &rule.allow_failure {
                job.allow_failure = allow_failure.clone();
            }
            if let Some(start_in) = &rule.start_in {
                job.start_in = Some(start_in.clone());
            }
            if let Some(interruptible) = rule.interruptible {
                job.interruptible = interruptible;
            }
            if let Some(own) = &rule.needs {
                needs = Some(own.clone());
            }
            variables::lay_over(&mut variables, &rule.variables);
            job.rules_matched = Some(index);
        } else if !self.policies_allow((spec, instance), &variables, &predefined) {
            return Ok(None);
        }

        let scope = self.scope(&variables, &predefined);
        job.tags = job.tags.iter().map(|tag| scope.expand(tag)).collect();
        let unset = secrets::missing_variables(&job.secrets, scope);
        for (token, what) in secrets::hidden_tokens(&job.id_tokens, scope) {
            let message = format!("jobs:{}:id_tokens:{token} {what}", spec.name);
            let mut spans = spec.token_spans.iter();
            let span = spans.find(|(name, _)| *name == token);
            let span = span.map_or(spec.span, |(_, span)| *span);
            self.findings.warn(span, message);
        }
        for (secret, what) in unset {
            let message = format!("jobs:{}:secrets:{secret} {what}", spec.name);
            self.findings.warn(spec.secrets_span, message);
        }
        job.needs = needs.as_ref().map(|_| Vec::new());
        job.variables = variables;
        Ok(Some((needs.unwrap_or_default(), job)))
    }

    /// `only` and `except`.
    fn policies_allow(
        &mut self,
        (spec, instance): (&JobSpec, &Instance),
        variables: &[YamlVariable],
        predefined: &[(String, String)],
    ) -> bool {
        let kubernetes = [&spec.only, &spec.except]
            .into_iter()
            .flatten()
            .find_map(Policy::kubernetes);
        if let Some(span) = kubernetes {
            let name = &spec.name;
            self.findings.warn(
                span,
                format!("jobs:{name} `kubernetes: active` does not hold: no cluster is known here"),
            );
        }
        let scope = self.scope(variables, predefined);
        let only = match &spec.only {
            Some(only) => Some(only.clone().with_default_refs()),
            None if self.config.workflow.rules.is_some() => None,
            None => Some(Policy::branches_and_tags()),
        };
        let wanted = only.as_ref().is_none_or(|only| only.all(self.world, scope));
        let refused = spec
            .except
            .as_ref()
            .is_some_and(|except| except.any(self.world, scope));
        if let Some(recorder) = &self.world.recorder {
            let traced = |keyword, policy: &Option<Policy>| match policy {
                Some(policy) => policy.traced(keyword, self.world, scope),
                None => Vec::new(),
            };
            let mut policies = traced("only", &only);
            policies.extend(traced("except", &spec.except));
            let decision = Decision {
                subject: subject(spec, instance),
                outcome: match (wanted, refused) {
                    (false, _) => Outcome::OnlyDoesNotHold,
                    (true, true) => Outcome::ExceptHolds,
                    (true, false) => Outcome::In,
                },
                rules: Vec::new(),
                policies,
            };
            recorder.add(decision, Vec::new());
        }
        wanted && !refused
    }

    /// `CI_JOB_*`, `CI_NODE_*` and `CI_ENVIRONMENT_*` as far as rules may use them.
    fn predefined(
        &self,
        spec: &JobSpec,
        instance: &Instance,
        variables: &[YamlVariable],
    ) -> Vec<(String, String)> {
        let mut predefined = Vec::with_capacity(8);
        let mut add = |key: &str, value: String| predefined.push((key.to_owned(), value));
        add("CI_JOB_NAME", instance.name.clone());
        add("CI_JOB_NAME_SLUG", slug(&instance.name));
        add("CI_JOB_GROUP_NAME", spec.name.clone());
        add("CI_JOB_STAGE", spec.job.stage.clone());
        let (index, total) = instance.index.unzip();
        if let Some(index) = index {
            add("CI_NODE_INDEX", index.to_string());
        }
        add("CI_NODE_TOTAL", total.unwrap_or(1).to_string());
        if matches!(spec.when, Some(JobWhen::Manual | JobWhen::Delayed)) {
            add("CI_JOB_MANUAL", "true".to_owned());
        }
        if let Some(environment) = &spec.job.environment {
            let known = predefined.clone();
            let mut add = |key: &str, value: String| predefined.push((key.to_owned(), value));
            for (key, name) in [
                ("name", "CI_ENVIRONMENT_NAME"),
                ("action", "CI_ENVIRONMENT_ACTION"),
                ("deployment_tier", "CI_ENVIRONMENT_TIER"),
                ("url", "CI_ENVIRONMENT_URL"),
            ] {
                if let Some(text) = environment.get(key).and_then(Value::as_str) {
                    let scope = self.scope(variables, &known);
                    let value = scope.expand_all(text);
                    if key == "name" {
                        add("CI_ENVIRONMENT_SLUG", environment_slug(&value));
                    }
                    add(name, value);
                }
            }
        }
        predefined
    }

    /// Needs by name become needs of jobs that are there.
    fn resolve_needs(
        &self,
        (spec, instance): (&JobSpec, &Instance),
        needs: &[NeedSpec],
        job: &mut PipelineJob,
        present: &HashSet<String>,
    ) -> Result<(), Fault> {
        let mut shown = Vec::new();
        for need in needs {
            match &need.target {
                Target::Elsewhere(value) => shown.push(value.clone()),
                Target::Job {
                    job: name,
                    artifacts,
                    optional,
                    matrix,
                } => {
                    let own = &instance.combination;
                    for name in self.graph.resolve_need(name, matrix.as_deref(), own) {
                        if present.contains(&name) {
                            shown.push(json!({
                                "job": name, "artifacts": artifacts, "optional": optional,
                            }));
                            job.job_needs.push(Need {
                                job: name,
                                artifacts: *artifacts,
                                optional: *optional,
                            });
                        } else if !optional {
                            return Err(Fault::new(
                                need.span,
                                format!(
                                    "'{}' job needs '{name}' job, but '{name}' does not exist in the pipeline. This might be because of the only, except, or rules keywords. To need a job that sometimes does not exist in the pipeline, use needs:optional.",
                                    job.name
                                ),
                            ));
                        }
                    }
                }
            }
        }
        if job.job_needs.len() > MAXIMUM_NEEDS {
            return Err(Fault::new(
                spec.span,
                format!(
                    "{}: one job can only need {MAXIMUM_NEEDS} others, but you have listed {}. See needs keyword documentation for more details",
                    job.name,
                    job.job_needs.len()
                ),
            ));
        }
        if job.needs.is_some() {
            job.needs = Some(shown);
        }
        Ok(())
    }

    /// Remembers the first place of each keyword that has no effect here.
    fn note(&mut self, spec: &JobSpec, job: &PipelineJob) {
        for (key, span) in &spec.keywords {
            if let Some((key, effect)) = NOT_RUN_HERE.iter().find(|(known, _)| known == key) {
                self.note_once(*span, key, effect);
            }
        }
        let mirrors = job
            .needs
            .iter()
            .flatten()
            .any(|need| need.get("pipeline").is_some() && need.get("job").is_none());
        if mirrors {
            let effect = "no pipeline of another project is mirrored";
            self.note_once(spec.span, "needs:pipeline", effect);
        }
    }

    fn note_once(&mut self, span: Span, key: &str, effect: &str) {
        let message = format!("`{key}` has no effect here: {effect}");
        if !self
            .not_run_here
            .iter()
            .any(|known| known.message == message)
        {
            self.not_run_here.push(Fault::new(span, message));
        }
    }
}
