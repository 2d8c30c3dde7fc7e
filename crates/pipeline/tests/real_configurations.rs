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
        "cli" => ("gitlab-org/cli", "main"),
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
        // The rules of this one ask for the server; those of others include what only that server has.
        if project == "cli" {
            predefined.push(("CI_SERVER_HOST", "gitlab.com"));
        }
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

/// Where there is no pipeline for an event on any GitLab either, with its reason: every job is for branches
/// and tags only, or a needed job is.
fn reason(project: &str, occasion: Occasion) -> Option<&'static str> {
    const EMPTY: &str = "The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs.";
    match (project, occasion) {
        // Their rules ask for variables of a project that this one is not.
        ("ginkgo", Occasion::MergeRequest | Occasion::Tag) | ("bind9", Occasion::Tag) => {
            return Some(EMPTY);
        }
        (_, Occasion::MergeRequest) => {}
        _ => return None,
    }
    Some(match project {
        "RAJA" => "'dane-build-and-test' job needs 'generate-job-lists' job, but",
        "epiphany" => "'check-code-style' job needs 'build.container.fedora@x86_64' job, but",
        "gnome-shell" => "'test-coverity' job needs 'build' job, but",
        "librsvg" => "'clippy' job needs 'check' job, but",
        "Umpire"
        | "aurweb"
        | "dav1d"
        | "evince"
        | "glib"
        | "gnome-builder"
        | "gnome-control-center"
        | "gnutls"
        | "knot"
        | "libadwaita"
        | "pango"
        | "rocq"
        | "sundials" => EMPTY,
        _ => return None,
    })
}

#[test]
fn real_configurations_list_for_a_push_a_merge_request_and_a_tag() {
    let mut wrong: Vec<String> = Vec::new();
    for (name, folder) in projects() {
        for occasion in [Occasion::Push, Occasion::MergeRequest, Occasion::Tag] {
            let files = Directory(folder.clone());
            let found = evaluate(".gitlab-ci.yml", &files, &occasion.event(&name));
            let told = |problem: &Problem| {
                format!("{}:{}: {}", problem.file, problem.line, problem.message)
            };
            match (found, reason(&name, occasion)) {
                (Ok(pipeline), None) => assert_eq!(
                    pipeline.jobs.is_empty(),
                    !pipeline.workflow.created,
                    "{name} {occasion:?}: a pipeline has jobs"
                ),
                (Err(found), Some(reason))
                    if found.errors.len() == 1 && found.errors[0].message.starts_with(reason) => {}
                (Ok(_), Some(_)) => wrong.push(format!("{name} {occasion:?}: is listed")),
                (Err(found), _) => {
                    let problems: Vec<String> = found.errors.iter().map(told).collect();
                    wrong.push(format!("{name} {occasion:?}: {}", problems.join("; ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
