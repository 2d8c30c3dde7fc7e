//! Jobs among each other: instances of parallel jobs, and the logical checks (`gitlab-ci-yaml.md` 1,
//! steps 9 and 10).

use std::collections::{HashMap, HashSet};

use crate::config::Config;
use crate::cycle;
use crate::job::{JobSpec, MAXIMUM_NAME};
use crate::needs::{NeedSpec, Target};
use crate::parallel::{self, Combination, Instance, matrix_name};
use crate::source::{Fault, Span};

/// Expanded jobs by name.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    config: &'a Config,
    /// Instances of each job, in the order of [`Config::jobs`].
    pub(crate) instances: Vec<Vec<Instance>>,
    by_name: HashMap<&'a str, usize>,
    by_instance: HashMap<String, usize>,
    stages: HashMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        let instances: Vec<Vec<Instance>> = config
            .jobs
            .iter()
            .map(|job| match &job.parallel {
                None => vec![Instance {
                    name: job.name.clone(),
                    index: None,
                    combination: Vec::new(),
                }],
                Some(parallel) => parallel.instances(&job.name),
            })
            .collect();
        Self {
            by_name: config
                .jobs
                .iter()
                .enumerate()
                .map(|(at, job)| (job.name.as_str(), at))
                .collect(),
            by_instance: instances
                .iter()
                .enumerate()
                .flat_map(|(at, instances)| {
                    instances
                        .iter()
                        .map(move |instance| (instance.name.clone(), at))
                })
                .collect(),
            stages: config
                .stages
                .iter()
                .enumerate()
                .map(|(at, stage)| (stage.as_str(), at))
                .collect(),
            config,
            instances,
        }
    }

    /// The first logical fault of the configuration. A job without instances is not there.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        for (at, job) in self.config.jobs.iter().enumerate() {
            let Some(first) = self.instances[at].first() else {
                continue;
            };
            let name = &first.name;
            self.check_stage(name, job)?;
            for (dependency, span) in &job.dependencies {
                self.check_dependency(name, job, dependency, *span)?;
            }
            for needs in needs_of(job) {
                self.check_needs(at, job, needs)?;
            }
            for (dependency, span) in &job.trigger_jobs {
                self.check_dependency(name, job, dependency, *span)?;
            }
            self.check_on_stop(name, job)?;
        }
        self.check_cycles()
    }

    /// Position of a stage, for the order of jobs.
    pub(crate) fn stage_position(&self, stage: &str) -> usize {
        self.stages.get(stage).copied().unwrap_or(usize::MAX)
    }

    /// Names of the instances that a name means: all of a parallel job, or the one itself.
    pub(crate) fn resolve(&self, name: &str) -> Vec<String> {
        match self.by_name.get(name) {
            Some(&at) => self.instances[at]
                .iter()
                .map(|instance| instance.name.clone())
                .collect(),
            None if self.by_instance.contains_key(name) => vec![name.to_owned()],
            None => Vec::new(),
        }
    }

    /// Names of the instances that a need means; `own` is the needing instance's combination, which
    /// matrix expressions take their values from. A combination asked of a job that is not parallel
    /// means the job.
    pub(crate) fn resolve_need(
        &self,
        job: &str,
        matrix: Option<&[Combination]>,
        own: &Combination,
    ) -> Vec<String> {
        let job = parallel::with_values(job, own);
        let Some(combinations) = matrix.filter(|_| self.is_parallel_or_absent(&job)) else {
            return self.resolve(&job);
        };
        combinations
            .iter()
            .map(|combination| {
                let values: Combination = combination
                    .iter()
                    .map(|(name, value)| (name.clone(), parallel::with_values(value, own)))
                    .collect();
                matrix_name(&job, &values)
            })
            .collect()
    }

    fn is_parallel_or_absent(&self, job: &str) -> bool {
        self.by_name
            .get(job)
            .is_none_or(|&at| self.config.jobs[at].parallel.is_some())
    }

    fn job_of(&self, name: &str) -> Option<usize> {
        self.by_name
            .get(name)
            .or_else(|| self.by_instance.get(name))
            .copied()
    }

    fn check_stage(&self, name: &str, job: &JobSpec) -> Result<(), Fault> {
        let stage = &job.job.stage;
        if self.stages.contains_key(stage.as_str()) {
            return Ok(());
        }
        Err(Fault::new(
            job.stage_span,
            format!(
                "{name} job: chosen stage {stage} does not exist; available stages are {}",
                self.config.stages.join(", ")
            ),
        ))
    }

    fn is_later(&self, other: usize, job: &JobSpec) -> bool {
        let stage = |job: &JobSpec| self.stage_position(&job.job.stage);
        stage(&self.config.jobs[other]) > stage(job)
    }

    fn check_dependency(
        &self,
        name: &str,
        job: &JobSpec,
        dependency: &str,
        span: Span,
    ) -> Result<(), Fault> {
        let fault = |text: String| Err(Fault::new(span, format!("{name} job: {text}")));
        match self.job_of(dependency) {
            None => fault(format!("undefined dependency: {dependency}")),
            Some(other) if self.is_later(other, job) => fault(format!(
                "dependency {dependency} is not defined in current or prior stages"
            )),
            Some(_) => Ok(()),
        }
    }

    fn check_needs(&self, at: usize, job: &JobSpec, needs: &[NeedSpec]) -> Result<(), Fault> {
        // Instances differ only where a need takes values of their matrix.
        let own_values = needs
            .iter()
            .any(|need| need.target.matrix_expressions().next().is_some());
        let instances = &self.instances[at];
        let checked = if own_values { instances.len() } else { 1 };
        for instance in instances.iter().take(checked) {
            check_matrix_expressions(job, needs, instance)?;
            self.check_needs_of_instance(job, needs, instance)?;
        }
        Ok(())
    }

    fn check_needs_of_instance(
        &self,
        job: &JobSpec,
        needs: &[NeedSpec],
        instance: &Instance,
    ) -> Result<(), Fault> {
        let fault = |span: Span, text: String| Err(Fault::new(span, text));
        let own_name = &instance.name;
        let mut seen = HashSet::new();
        let mut repeated: Vec<(String, Span)> = Vec::new();
        for need in needs {
            let Target::Job {
                job: name,
                optional,
                matrix,
                ..
            } = &need.target
            else {
                continue;
            };
            for name in self.needed_names(name, matrix.as_deref(), &instance.combination) {
                let length = name.chars().count();
                if length > MAXIMUM_NAME {
                    return fault(
                        need.span,
                        format!(
                            "{own_name} job: need `{name}` name is too long (actual is {length}, maximum is {MAXIMUM_NAME})"
                        ),
                    );
                }
                match self.job_of(&name) {
                    None if *optional => {}
                    None => {
                        return fault(need.span, format!("{own_name} job: undefined need: {name}"));
                    }
                    Some(other) if self.is_later(other, job) => {
                        return fault(
                            need.span,
                            format!(
                                "{own_name} job: need {name} is not defined in current or prior stages"
                            ),
                        );
                    }
                    Some(_) => {}
                }
                if !seen.insert(name.clone()) && !repeated.iter().any(|(known, _)| *known == name) {
                    repeated.push((name, need.span));
                }
            }
        }
        let Some((_, span)) = repeated.first() else {
            return Ok(());
        };
        let names: Vec<&str> = repeated.iter().map(|(name, _)| name.as_str()).collect();
        fault(
            *span,
            format!(
                "{own_name} has the following needs duplicated: {}.",
                names.join(", ")
            ),
        )
    }

    /// As [`Self::resolve_need`], but a name that is not there stays, so that it can be reported.
    fn needed_names(
        &self,
        job: &str,
        matrix: Option<&[Combination]>,
        own: &Combination,
    ) -> Vec<String> {
        let names = self.resolve_need(job, matrix, own);
        if names.is_empty() && matrix.is_none() {
            let job = parallel::with_values(job, own);
            if self.job_of(&job).is_none() {
                return vec![job];
            }
        }
        names
    }

    fn check_on_stop(&self, name: &str, job: &JobSpec) -> Result<(), Fault> {
        let Some(environment) = &job.job.environment else {
            return Ok(());
        };
        let Some(on_stop) = environment.get("on_stop").and_then(|name| name.as_str()) else {
            return Ok(());
        };
        let span = job.on_stop_span;
        let wrong = |text: String| Err(Fault::new(span, format!("{name} job: {text}")));
        let Some(&at) = self.by_name.get(on_stop) else {
            return wrong(format!("on_stop job {on_stop} is not defined"));
        };
        let Some(other) = &self.config.jobs[at].job.environment else {
            return wrong(format!(
                "on_stop job {on_stop} does not have environment defined"
            ));
        };
        if other.get("name") != environment.get("name") {
            return wrong(format!(
                "on_stop job {on_stop} have different environment name"
            ));
        }
        if other.get("action").and_then(|action| action.as_str()) != Some("stop") {
            return wrong(format!(
                "on_stop job {on_stop} needs to have action stop defined"
            ));
        }
        Ok(())
    }

    /// Instances of one job have the same needs, so cycles are looked for among jobs. Needs of rules
    /// count only where a rule matches ([`crate::create`]).
    fn check_cycles(&self) -> Result<(), Fault> {
        let jobs = &self.config.jobs;
        let edges: Vec<Vec<usize>> = jobs
            .iter()
            .map(|job| {
                let needs = job.needs.iter().flatten();
                needs
                    .filter_map(|need| match &need.target {
                        Target::Job {
                            job: name, matrix, ..
                        } => match matrix {
                            Some(_) => self.by_name.get(name.as_str()).copied(),
                            None => self.job_of(name),
                        },
                        Target::Elsewhere(_) => None,
                    })
                    .collect()
            })
            .collect();
        let name = |at: usize| match self.instances[at].first() {
            Some(instance) => instance.name.as_str(),
            None => jobs[at].name.as_str(),
        };
        match cycle::find(&edges, &name) {
            Some((at, message)) => Err(Fault::new(jobs[at].span, message)),
            None => Ok(()),
        }
    }
}

/// Every name in a matrix expression of a matrix job's needs is one of its own matrix.
fn check_matrix_expressions(
    job: &JobSpec,
    needs: &[NeedSpec],
    instance: &Instance,
) -> Result<(), Fault> {
    let own = &instance.combination;
    if own.is_empty() {
        return Ok(());
    }
    for need in needs {
        let missing = need
            .target
            .matrix_expressions()
            .find(|name| !own.iter().any(|(known, _)| known == name));
        if let Some(missing) = missing {
            return Err(Fault::new(
                need.span,
                format!(
                    "{} job: '{missing}' does not exist in matrix configuration",
                    job.name
                ),
            ));
        }
    }
    Ok(())
}

/// The job's own needs and those of its rules, which count even if the rule never matches.
fn needs_of(job: &JobSpec) -> impl Iterator<Item = &[NeedSpec]> {
    let of_rules = job
        .rules
        .iter()
        .flatten()
        .filter_map(|rule| rule.needs.as_deref());
    job.needs.as_deref().into_iter().chain(of_rules)
}
