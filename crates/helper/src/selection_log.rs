//! Selecting files for artifacts and caches, with the lines a log shows about it
//! (`runner-build-lifecycle.md` 4.2, 4.3).

use std::path::{Path, PathBuf};

use courser_archive::{Finding, Wanted, select};
use courser_config::Environment;
use courser_job::messages;

use crate::expansion::expand;
use crate::git::Git;
use crate::output::Output;
use crate::{HelperError, platform};

/// Paths, excludes and untracked files of one entry, as the job wrote them.
pub(crate) struct Entry<'a> {
    pub(crate) paths: &'a [String],
    pub(crate) exclude: &'a [String],
    pub(crate) untracked: bool,
}

/// Expands, selects and logs; the files are sorted and relative to `project_dir`.
pub(crate) fn select_and_log(
    project_dir: &Path,
    entry: &Entry<'_>,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<Vec<PathBuf>, HelperError> {
    let paths = expanded(entry.paths, variables, output)?;
    let exclude = expanded(entry.exclude, variables, output)?;
    let untracked = entry.untracked.then(|| untracked(project_dir));
    if let Some(None) = untracked {
        output.log(&messages::path_problem("untracked", "git ls-files failed"))?;
    }
    let wanted = Wanted {
        paths: &paths,
        exclude: &exclude,
        untracked: untracked.as_ref().and_then(Option::as_deref),
    };
    let selection = select(project_dir, wanted);
    for finding in &selection.findings {
        output.log(&line(finding, project_dir))?;
    }
    Ok(selection.files)
}

fn expanded(
    texts: &[String],
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<Vec<String>, HelperError> {
    let mut done = Vec::with_capacity(texts.len());
    for text in texts {
        done.push(match expand(text, variables) {
            Ok(text) => text,
            Err(error) => {
                output.log(&messages::invalid_path(&error.to_string()))?;
                text.clone()
            }
        });
    }
    Ok(done)
}

/// Adds a file that was made after the selection, in its place; excludes hold for it too.
pub(crate) fn add_unless_excluded(
    files: &mut Vec<PathBuf>,
    path: PathBuf,
    project_dir: &Path,
    entry: &Entry<'_>,
    variables: &Environment,
) {
    // What could not be expanded has been told.
    let exclude: Vec<String> = entry
        .exclude
        .iter()
        .map(|text| expand(text, variables).unwrap_or_else(|_| text.clone()))
        .collect();
    if courser_archive::is_excluded(project_dir, &exclude, &path) {
        return;
    }
    if let Err(at) = files.binary_search_by(|file| file.as_os_str().cmp(path.as_os_str())) {
        files.insert(at, path);
    }
}

/// What Git does not track, ignored files included.
fn untracked(project_dir: &Path) -> Option<Vec<PathBuf>> {
    let git = Git {
        directory: project_dir,
        external_config: None,
        ca_bundle: None,
    };
    let answer = git.read(&["ls-files", "-o", "-z"])?;
    Some(
        answer
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .map(platform::path_of)
            .collect(),
    )
}

fn line(finding: &Finding, project_dir: &Path) -> String {
    match finding {
        Finding::Matched { path, count } => messages::found_files(path, *count),
        Finding::NoMatch { path } => {
            messages::no_matching_files(path, &project_dir.display().to_string())
        }
        Finding::EmptyPath => messages::empty_path(),
        Finding::NotBelow { path } => messages::path_outside(path),
        Finding::Outside { path } => messages::path_behind_link(path),
        Finding::Problem { path, message } => messages::path_problem(path, message),
        Finding::Untracked { count } => messages::untracked_files(*count),
        Finding::Excluded { rule, count } => messages::excluded_files(rule, *count),
    }
}
