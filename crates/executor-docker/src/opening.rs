//! Directories that stages of all users write to: opened when the first container of a job has its volumes.

use std::collections::BTreeSet;
use std::path::Path;

use courser_job::Job;

use crate::plan::JobContainers;

/// What [`script`] opens where it is new, each after its parents. `new_volumes` are places of volumes that were not there
/// before.
pub(crate) fn directories(
    job: &Job,
    plan: &JobContainers<'_>,
    new_volumes: &BTreeSet<&str>,
) -> Vec<String> {
    let mut open = new_volumes.clone();
    open.extend(shared(job, plan));
    open.into_iter().map(str::to_owned).collect()
}

/// Directories of new volumes that stages of all users share.
fn shared<'a>(job: &'a Job, plan: &JobContainers<'_>) -> BTreeSet<&'a str> {
    let directories = job.directories();
    [&directories.project, &directories.temporary]
        .into_iter()
        .flat_map(|directory| Path::new(directory).ancestors().filter_map(Path::to_str))
        .filter(|path| plan.volumes.is_new(path))
        .collect()
}

/// A script that opens volumes to all users, and makes the job's own directories: open as well, unless they are to belong
/// to one user.
pub(crate) fn script(job: &Job, plan: &JobContainers<'_>) -> String {
    let quoted = |path: &str| format!("'{}'", path.replace('\'', r"'\''"));
    let made = plan.volumes.made();
    let opened = made.map(|(path, _)| format!("chmod 0777 {}\n", quoted(path)));
    let mut script: String = std::iter::once("set -e\n".to_owned())
        .chain(opened)
        .collect();
    let directories = job.directories();
    for directory in [&directories.project, &directories.temporary] {
        script.push_str("mkdir -p ");
        script.push_str(&quoted(directory));
        script.push('\n');
    }
    if job.features().disable_umask_for_docker {
        return script;
    }
    // Where the image's working directory is one of them, the engine has made it by now, as root's.
    let shared = shared(job, plan).into_iter();
    script.extend(shared.map(|path| format!("chmod 0777 {} || :\n", quoted(path))));
    for directory in [&directories.project, &directories.temporary] {
        let path = quoted(directory);
        script.push_str(
            &[
                "[ -n \"$(ls -A ",
                &path,
                ")\" ] || chmod 0777 ",
                &path,
                " || :\n",
            ]
            .concat(),
        );
    }
    script
}
