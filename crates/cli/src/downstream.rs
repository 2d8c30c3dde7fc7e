//! From what a bridge asks for to the evaluated pipeline: one way for `exec` and `coordinator serve`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use courser_coordinator::{
    Beforehand, DownstreamError, DownstreamRequest, DownstreamTarget, Evaluated, NewPipeline,
};
use courser_pipeline::{
    ChangedFiles, Comparison, Component, ComponentAddress, Elsewhere, Event, Files, InputValue,
    OtherProject, Unavailable,
};
use courser_protocol::JobVariable;
use serde_json::json;

use crate::problems;

/// Name of the document that includes what `trigger:include` names.
const ROOT: &str = "trigger:include";

/// A child pipeline: on the commit of its parent, whose `files` these are.
pub(crate) fn child(
    request: DownstreamRequest,
    files: &dyn Files,
    changed_files: ChangedFiles,
) -> Result<Evaluated, DownstreamError> {
    let DownstreamTarget::Child { include, generated } = &request.target else {
        return Err(DownstreamError::creation("it is no child pipeline"));
    };
    let event = Event {
        source: "parent_pipeline".to_owned(),
        ref_name: request.ref_name.clone(),
        tag: request.tag,
        predefined: request.predefined.clone(),
        of_server: request.of_server.clone(),
        pipeline_variables: named(&request),
        secret_variables: secret_names(&request),
        inputs: Vec::new(),
        changed_files,
    };
    let files = Overlay {
        // JSON is YAML.
        root: json!({ "include": include }).to_string(),
        files,
        elsewhere: WithArtifacts {
            generated,
            others: files.elsewhere(),
        },
    };
    let pipeline = evaluate(ROOT, &files, &event)?;
    Ok(Evaluated {
        project: None,
        pipeline: NewPipeline {
            project_id: request.project_id,
            pipeline,
            ref_name: request.ref_name,
            tag: request.tag,
            sha: request.sha,
            before_sha: request.before_sha,
            predefined: request.predefined,
            project_variables: request.project_variables,
            variables: request.variables,
            beforehand: Beforehand::default(),
        },
    })
}

/// The pipeline of another project: `root` in its files, for an event at the ref that the bridge names.
pub(crate) fn of_project(
    request: DownstreamRequest,
    project_id: i64,
    (root, files): (&str, &dyn Files),
    mut event: Event,
) -> Result<Evaluated, DownstreamError> {
    let DownstreamTarget::Project { inputs, .. } = &request.target else {
        return Err(DownstreamError::creation("it is no other project's"));
    };
    let inputs = inputs.as_object().into_iter().flatten();
    event.inputs = inputs
        .map(|(name, value)| (name.clone(), InputValue::Typed(value.clone())))
        .collect();
    event.pipeline_variables = named(&request);
    event.secret_variables = secret_names(&request);
    event.predefined.extend(request.predefined);
    let id = project_id.to_string();
    event.of_server.insert("CI_PROJECT_ID".to_owned(), id);
    let pipeline = evaluate(root, files, &event)?;
    let known = |name: &str| event.predefined.get(name).cloned();
    Ok(Evaluated {
        project: None,
        pipeline: NewPipeline {
            project_id,
            pipeline,
            sha: known("CI_COMMIT_SHA").unwrap_or_default(),
            before_sha: known("CI_COMMIT_BEFORE_SHA").unwrap_or_else(|| "0".repeat(40)),
            ref_name: event.ref_name,
            tag: event.tag,
            predefined: event.predefined,
            project_variables: request.project_variables,
            variables: request.variables,
            beforehand: Beforehand::default(),
        },
    })
}

/// The project's variables and the forwarded ones.
fn given(request: &DownstreamRequest) -> impl Iterator<Item = &JobVariable> {
    let project = request.project_variables.iter();
    project.chain(&request.variables)
}

/// As rules see them.
fn named(request: &DownstreamRequest) -> Vec<(String, String)> {
    given(request)
        .map(|variable| (variable.key.clone(), variable.value.expose().to_owned()))
        .collect()
}

fn secret_names(request: &DownstreamRequest) -> BTreeSet<String> {
    let secret = given(request).filter(|variable| variable.masked || variable.file);
    secret.map(|variable| variable.key.clone()).collect()
}

/// The pipeline, or why the bridge fails.
fn evaluate(
    root: &str,
    files: &dyn Files,
    event: &Event,
) -> Result<courser_pipeline::Pipeline, DownstreamError> {
    let pipeline = courser_pipeline::evaluate(root, files, event)
        .map_err(|found| DownstreamError::creation(problems::one_line(&found.errors)))?;
    if !pipeline.workflow.created {
        let text = "Pipeline filtered out by workflow rules.";
        return Err(DownstreamError::creation(text));
    }
    Ok(pipeline)
}

/// The files of a commit, and a root document that is in none.
struct Overlay<'a> {
    root: String,
    files: &'a dyn Files,
    elsewhere: WithArtifacts<'a>,
}

impl Files for Overlay<'_> {
    fn read(&self, path: &str) -> Option<String> {
        if path == ROOT {
            return Some(self.root.clone());
        }
        self.files.read(path)
    }

    fn list(&self) -> Vec<String> {
        self.files.list()
    }

    fn changed_since(&self, reference: &str) -> Comparison {
        self.files.changed_since(reference)
    }

    fn elsewhere(&self) -> &dyn Elsewhere {
        &self.elsewhere
    }
}

/// Other places, and what jobs of the parent pipeline generated.
struct WithArtifacts<'a> {
    generated: &'a BTreeMap<(String, String), String>,
    others: &'a dyn Elsewhere,
}

impl Elsewhere for WithArtifacts<'_> {
    fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<Rc<dyn OtherProject>, Unavailable> {
        self.others.project(path, reference)
    }

    fn remote(&self, url: &str) -> Result<String, Unavailable> {
        self.others.remote(url)
    }

    fn template(&self, name: &str) -> Result<String, Unavailable> {
        self.others.template(name)
    }

    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable> {
        self.others.component(address)
    }

    fn artifact(&self, job: &str, path: &str) -> Result<String, Unavailable> {
        let key = (job.to_owned(), path.to_owned());
        match self.generated.get(&key) {
            Some(text) => Ok(text.clone()),
            None => self.others.artifact(job, path),
        }
    }
}
