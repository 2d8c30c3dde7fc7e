//! Forty large public configurations, listed for a push to the default branch.
//!
//! They are data beside the project (`shared/data/pipeline`), under their own licences, and not copied here.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its data must stop"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use courser_pipeline::{Event, Files, Problem, evaluate};

struct Directory(PathBuf);

impl Files for Directory {
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn list(&self) -> Vec<String> {
        fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{path}/"), found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.0, "", &mut found);
        found
    }
}

/// Path and default branch where the rules of a project name them.
fn identity(project: &str) -> (&str, &str) {
    match project {
        "ginkgo" => ("ginkgo-project/ginkgo", "develop"),
        "gitlab-runner" => ("gitlab-org/gitlab-runner", "main"),
        "libvirt-python" => ("libvirt/libvirt-python", "master"),
        "CMake" => ("cmake/cmake", "master"),
        _ => ("group/project", "main"),
    }
}

fn push_to_default_branch(project: &str) -> Event {
    let (path, branch) = identity(project);
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    let predefined = [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_DEFAULT_BRANCH", branch),
        ("CI_COMMIT_BRANCH", branch),
        ("CI_COMMIT_REF_NAME", branch),
        ("CI_COMMIT_REF_SLUG", branch),
        ("CI_COMMIT_REF_PROTECTED", "true"),
        ("CI_PROJECT_NAME", name),
        ("CI_PROJECT_PATH", path),
        ("CI_PROJECT_NAMESPACE", namespace),
        ("CI_PROJECT_ROOT_NAMESPACE", namespace),
    ];
    Event {
        source: "push".to_owned(),
        ref_name: branch.to_owned(),
        tag: false,
        predefined: predefined
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Event::default()
    }
}

/// The folder of each project.
fn projects() -> Vec<(String, PathBuf)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let real = workspace.join("../shared/data/pipeline/real");
    let entries = fs::read_dir(&real).unwrap_or_else(|error| {
        panic!(
            "this test reads public configurations from {}, which stands beside the project: {error}",
            real.display()
        )
    });
    let mut projects: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.path())
        })
        .collect();
    projects.sort();
    assert_eq!(projects.len(), 40, "projects in {}", real.display());
    projects
}

#[test]
fn real_configurations_list_for_a_push_to_the_default_branch() {
    let mut refused: Vec<(String, Problem)> = Vec::new();
    for (name, folder) in projects() {
        let event = push_to_default_branch(&name);
        match evaluate(".gitlab-ci.yml", &Directory(folder), &event) {
            Ok(pipeline) => assert_eq!(
                pipeline.jobs.is_empty(),
                !pipeline.workflow.created,
                "{name}: a pipeline has jobs"
            ),
            Err(found) => refused.extend(found.errors.into_iter().map(|p| (name.clone(), p))),
        }
    }
    assert!(refused.is_empty(), "refused: {refused:#?}");
}
