//! Forty large public configurations, listed for a push to the default branch, a merge
//! request and a tag.
//!
//! They are data beside the project (`shared/data/pipeline`), under their own licences, and not copied here.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its data must stop"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use courser_pipeline::{Comparison, Event, Files, Problem, evaluate};

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

    fn changed_since(&self, _: &str) -> Comparison {
        Comparison::Changed(self.list())
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

/// What pipelines are listed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Push,
    MergeRequest,
    Tag,
}

impl Occasion {
    fn event(self, project: &str) -> Event {
        let (path, branch) = identity(project);
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        let (ref_name, source) = match self {
            Self::Push => (branch, "push"),
            Self::MergeRequest => ("feature", "merge_request_event"),
            Self::Tag => ("v1.2.3", "push"),
        };
        let mut predefined = vec![
            ("CI", "true"),
            ("GITLAB_CI", "true"),
            ("CI_PIPELINE_SOURCE", source),
            ("CI_DEFAULT_BRANCH", branch),
            ("CI_COMMIT_REF_NAME", ref_name),
            ("CI_COMMIT_REF_SLUG", ref_name),
            ("CI_COMMIT_REF_PROTECTED", "true"),
            ("CI_PROJECT_NAME", name),
            ("CI_PROJECT_PATH", path),
            ("CI_PROJECT_NAMESPACE", namespace),
            ("CI_PROJECT_ROOT_NAMESPACE", namespace),
        ];
        match self {
            Self::Push => predefined.push(("CI_COMMIT_BRANCH", branch)),
            Self::Tag => predefined.push(("CI_COMMIT_TAG", ref_name)),
            Self::MergeRequest => predefined.extend([
                ("CI_MERGE_REQUEST_ID", "1"),
                ("CI_MERGE_REQUEST_IID", "1"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_PROJECT_PATH", path),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", path),
                ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", ref_name),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", branch),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
            ]),
        }
        Event {
            source: source.to_owned(),
            ref_name: ref_name.to_owned(),
            tag: self == Self::Tag,
            predefined: predefined
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect::<BTreeMap<_, _>>(),
            ..Event::default()
        }
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
fn real_configurations_list_for_a_push_a_merge_request_and_a_tag() {
    let mut refused: Vec<(String, Occasion, Problem)> = Vec::new();
    let mut listed = 0;
    for (name, folder) in projects() {
        for occasion in [Occasion::Push, Occasion::MergeRequest, Occasion::Tag] {
            let files = Directory(folder.clone());
            match evaluate(".gitlab-ci.yml", &files, &occasion.event(&name)) {
                Ok(pipeline) => {
                    assert_eq!(
                        pipeline.jobs.is_empty(),
                        !pipeline.workflow.created,
                        "{name} {occasion:?}: a pipeline has jobs"
                    );
                    listed += 1;
                }
                Err(found) => {
                    let problems = found.errors.into_iter();
                    refused.extend(problems.map(|problem| (name.clone(), occasion, problem)));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{listed} listed, refused: {refused:#?}");
    assert_eq!(listed, 120);
}
