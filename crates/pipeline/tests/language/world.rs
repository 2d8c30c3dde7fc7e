//! A repository of texts, an event, and outcomes as short texts.

use std::collections::BTreeMap;
use std::rc::Rc;

use courser_pipeline::{
    AllowFailure, Component, ComponentAddress, Elsewhere, Event, Files, OtherProject, PipelineJob,
    Unavailable, evaluate,
};

/// Files by path. Those of other places have names such as `project g/p@v1:a.yml`, `remote URL`,
/// `template X.gitlab-ci.yml`, `component host/g/p/name@1`, `artifact job:a.yml`.
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    fn place(&self, name: &str) -> Result<String, Unavailable> {
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| Unavailable(format!("no {name} here")))
    }
}

impl Files for Tree {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }

    fn list(&self) -> Vec<String> {
        let own = self.0.keys().filter(|name| !name.contains(' '));
        own.cloned().collect()
    }

    fn elsewhere(&self) -> &dyn Elsewhere {
        self
    }
}

impl Elsewhere for Tree {
    fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<Rc<dyn OtherProject>, Unavailable> {
        let prefix = match reference {
            Some(reference) => format!("project {path}@{reference}:"),
            None => format!("project {path}:"),
        };
        let files: BTreeMap<String, String> = self
            .0
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix(&prefix)?.to_owned(), text.clone())))
            .collect();
        if files.is_empty() {
            return Err(Unavailable(format!("no {prefix} here")));
        }
        Ok(Rc::new(Project(files)))
    }

    fn remote(&self, url: &str) -> Result<String, Unavailable> {
        self.place(&format!("remote {url}"))
    }

    fn template(&self, name: &str) -> Result<String, Unavailable> {
        self.place(&format!("template {name}"))
    }

    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable> {
        let (project, name) = address.path.rsplit_once('/').unwrap_or_default();
        Ok(Component {
            content: self.place(&format!("component {}", address.full))?,
            file: format!("{project}@{}:templates/{name}.yml", address.version),
            project: Elsewhere::project(self, project, Some(address.version))
                .unwrap_or_else(|_| Rc::new(Project(BTreeMap::new()))),
            name: name.to_owned(),
            sha: "5a1".to_owned(),
            version: "1.2.3".to_owned(),
        })
    }

    fn artifact(&self, job: &str, path: &str) -> Result<String, Unavailable> {
        self.place(&format!("artifact {job}:{path}"))
    }
}

#[derive(Debug)]
struct Project(BTreeMap<String, String>);

impl OtherProject for Project {
    fn read(&self, path: &str) -> Result<Option<String>, Unavailable> {
        Ok(self.0.get(path).cloned())
    }

    fn list(&self) -> Result<Vec<String>, Unavailable> {
        Ok(self.0.keys().cloned().collect())
    }
}

pub(crate) fn tree(root: &str, others: &[(&str, &str)]) -> Tree {
    let files = [(".gitlab-ci.yml", root)].into_iter();
    Tree(
        files
            .chain(others.iter().copied())
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .collect(),
    )
}

pub(crate) fn push_to_main() -> Event {
    let predefined = [
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_DEFAULT_BRANCH", "main"),
    ];
    Event {
        source: "push".to_owned(),
        ref_name: "main".to_owned(),
        predefined: predefined
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Event::default()
    }
}

/// `stage/name` with what is not the default: when, allow_failure, needs, tags, variables.
fn describe(job: &PipelineJob) -> String {
    let mut parts = vec![format!("{}/{}", job.stage, job.name)];
    let when = serde_json::to_value(job.when).unwrap_or_default();
    if let Some(when) = when.as_str().filter(|when| *when != "on_success") {
        parts.push(when.to_owned());
    }
    if job.allow_failure != AllowFailure::Always(false) {
        let value = serde_json::to_string(&job.allow_failure).unwrap_or_default();
        parts.push(format!("allow_failure={value}"));
    }
    if job.needs.is_some() {
        let names: Vec<&str> = job.job_needs.iter().map(|need| need.job.as_str()).collect();
        parts.push(format!("needs={}", names.join("+")));
    }
    if !job.tags.is_empty() {
        parts.push(format!("tags={}", job.tags.join("+")));
    }
    if !job.variables.is_empty() {
        let pairs: Vec<String> = job
            .variables
            .iter()
            .map(|variable| format!("{}={}", variable.key, variable.value))
            .collect();
        parts.push(pairs.join(","));
    }
    parts.join(" ")
}

pub(crate) fn outcome(files: &Tree, event: &Event) -> String {
    match evaluate(".gitlab-ci.yml", files, event) {
        Ok(pipeline) if !pipeline.workflow.created => "no pipeline".to_owned(),
        Ok(pipeline) => {
            let jobs: Vec<String> = pipeline.jobs.iter().map(describe).collect();
            jobs.join("\n")
        }
        Err(found) => {
            let lines: Vec<String> = found
                .errors
                .iter()
                .map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message))
                .collect();
            lines.join("\n")
        }
    }
}

pub(crate) fn check(root: &str, expected: &str) {
    assert_eq!(
        outcome(&tree(root, &[]), &push_to_main()),
        expected,
        "{root}"
    );
}

/// The first error, without its file.
pub(crate) fn check_error(root: &str, expected: &str) {
    let problems = evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main());
    let actual = match problems {
        Ok(_) => "valid".to_owned(),
        Err(found) => {
            let first = &found.errors[0];
            format!("{}:{}: {}", first.line, first.column, first.message)
        }
    };
    assert_eq!(actual, expected, "{root}");
}
