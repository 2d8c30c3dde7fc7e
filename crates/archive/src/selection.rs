//! Which files go into an archive (`runner-build-lifecycle.md` 4.3).
//!
//! In: paths, globs and excludes as a job writes them, and what Git does not track. Out: a sorted list
//! of relative paths and what there is to say about it. Links are never followed while walking.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::glob::{Glob, has_meta, split_base};
use crate::platform;

/// What a job asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Paths and globs.
    pub paths: &'a [String],
    /// Globs to leave out.
    pub exclude: &'a [String],
    /// Relative paths that Git does not track; `None` when they are not wanted.
    pub untracked: Option<&'a [PathBuf]>,
}

/// The files found, and what a log says about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Paths relative to the working directory, sorted by their bytes, each once.
    pub files: Vec<PathBuf>,
    /// In the order in which they came up.
    pub findings: Vec<Finding>,
}

/// One fact about a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A path gave this many files and directories; overlaps count several times.
    Matched {
        /// As written by the job.
        path: String,
        /// Visits that were not excluded.
        count: usize,
    },
    /// A path gave nothing.
    NoMatch {
        /// As written by the job.
        path: String,
    },
    /// A path that is empty.
    EmptyPath,
    /// A path whose base lies outside of the working directory.
    NotBelow {
        /// As written by the job.
        path: String,
    },
    /// A path that leads outside by way of a link.
    Outside {
        /// As written by the job.
        path: String,
    },
    /// Anything else, for example a malformed pattern.
    Problem {
        /// What it is about.
        path: String,
        /// What happened.
        message: String,
    },
    /// How much Git does not track.
    Untracked {
        /// Files that were not excluded.
        count: usize,
    },
    /// An exclude left this many files out.
    Excluded {
        /// As written by the job.
        rule: String,
        /// Files.
        count: usize,
    },
}

/// Selects files below `root`, which has to be absolute.
pub fn select(root: &Path, wanted: Wanted<'_>) -> Selection {
    let mut chosen = Chosen {
        root,
        // Fails only when the directory is gone; then nothing matches.
        real_root: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
        files: BTreeSet::new(),
        findings: Vec::new(),
        rules: Vec::new(),
    };
    chosen.rules = wanted
        .exclude
        .iter()
        .map(|rule| Rule::new(root, rule))
        .collect();
    for path in wanted.paths {
        chosen.path(path);
    }
    if let Some(untracked) = wanted.untracked {
        let mut count = 0;
        for path in untracked {
            if root.join(path).symlink_metadata().is_ok() {
                count += usize::from(chosen.add(&platform::to_name(path.as_os_str()), 1));
            }
        }
        chosen.findings.push(Finding::Untracked { count });
    }
    let excluded: Vec<Finding> = chosen
        .rules
        .iter()
        .filter(|rule| rule.count > 0)
        .map(|rule| Finding::Excluded {
            rule: rule.text.clone(),
            count: rule.count,
        })
        .collect();
    chosen.findings.extend(excluded);
    Selection {
        files: chosen
            .files
            .into_iter()
            .map(|path| platform::from_name(&path).into_owned())
            .collect(),
        findings: chosen.findings,
    }
}

/// Whether `exclude` leaves out a path below `root`, which [`select`] did not meet.
pub fn is_excluded(root: &Path, exclude: &[String], path: &Path) -> bool {
    let rules = exclude.iter().map(|rule| Rule::new(root, rule));
    rules
        .take_while(|rule| !matches!(rule.meaning, RuleMeaning::Outside))
        .any(|rule| rule.matches(&platform::to_name(path.as_os_str())))
}

struct Chosen<'a> {
    root: &'a Path,
    real_root: PathBuf,
    files: BTreeSet<Vec<u8>>,
    findings: Vec<Finding>,
    rules: Vec<Rule>,
}

/// An exclude.
struct Rule {
    text: String,
    meaning: RuleMeaning,
    count: usize,
}

enum RuleMeaning {
    Matches(Glob),
    /// Malformed: matches nothing.
    Broken,
    /// Outside of the working directory: this and every later rule is not looked at.
    Outside,
}

impl Rule {
    fn new(root: &Path, text: &str) -> Self {
        let meaning = match relative(root, text) {
            None => RuleMeaning::Outside,
            Some(pattern) => Glob::new(&pattern).map_or(RuleMeaning::Broken, RuleMeaning::Matches),
        };
        Self {
            text: text.to_owned(),
            meaning,
            count: 0,
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        matches!(&self.meaning, RuleMeaning::Matches(glob) if glob.is_match(path))
    }
}

impl Chosen<'_> {
    fn path(&mut self, text: &str) {
        if text.is_empty() {
            self.findings.push(Finding::EmptyPath);
            return;
        }
        let path = text.to_owned();
        let Some(pattern) = relative(self.root, text) else {
            self.findings.push(Finding::NotBelow { path });
            return;
        };
        let (base, glob) = if has_meta(&pattern) {
            let (base, rest) = split_base(&pattern);
            match Glob::new(rest) {
                Ok(glob) => (base.to_owned(), Some(glob)),
                Err(error) => {
                    let message = error.to_string();
                    self.findings.push(Finding::Problem { path, message });
                    return;
                }
            }
        } else {
            (pattern, None)
        };
        if self.leads_outside(&base, glob.is_some()) {
            self.findings.push(Finding::Outside { path });
            return;
        }
        let mut walk = Walk {
            glob: glob.as_ref(),
            depth: glob.as_ref().and_then(Glob::max_depth),
            count: 0,
            problems: Vec::new(),
        };
        let start = if base == "." {
            Vec::new()
        } else {
            base.into_bytes()
        };
        walk.start(self, start);
        let (count, problems) = (walk.count, walk.problems);
        for (path, message) in problems {
            self.findings.push(Finding::Problem { path, message });
        }
        self.findings.push(if count == 0 {
            Finding::NoMatch { path }
        } else {
            Finding::Matched { path, count }
        });
    }

    /// Links in the literal part are followed, but not to somewhere else.
    fn leads_outside(&self, base: &str, follow_last: bool) -> bool {
        let base = Path::new(base);
        let checked = if follow_last {
            Some(base)
        } else {
            base.parent()
        };
        checked
            .and_then(|path| self.root.join(path).canonicalize().ok())
            .is_some_and(|real| !real.starts_with(&self.real_root))
    }

    /// Adds a path met `visits` times; whether it is in.
    fn add(&mut self, path: &[u8], visits: usize) -> bool {
        for rule in &mut self.rules {
            if matches!(rule.meaning, RuleMeaning::Outside) {
                break;
            }
            if rule.matches(path) {
                rule.count += visits;
                return false;
            }
        }
        if !self.files.contains(path) {
            self.files.insert(path.to_vec());
        }
        true
    }
}

/// A walk over one path. Each match is walked with everything below it, so that an entry is visited
/// once for each match among itself and the directories above it.
struct Walk<'a> {
    glob: Option<&'a Glob>,
    depth: Option<usize>,
    count: usize,
    problems: Vec<(String, String)>,
}

/// A directory that is still to be read.
struct Pending {
    /// Relative to the root; empty for the root itself.
    path: Vec<u8>,
    /// The same relative to the base of the pattern.
    below_base: Vec<u8>,
    depth: usize,
    /// Matches among it and the directories above.
    visits: usize,
}

impl Walk<'_> {
    fn start(&mut self, chosen: &mut Chosen<'_>, base: Vec<u8>) {
        let full = chosen.root.join(platform::from_name(&base));
        // The base of a pattern may be a link, a path itself is taken as it is.
        let kind = if self.glob.is_some() {
            fs::metadata(&full)
        } else {
            fs::symlink_metadata(&full)
        };
        let Ok(kind) = kind else { return };
        let visits = usize::from(match self.glob {
            None => true,
            // `a/**` matches `a` itself.
            Some(glob) => !base.is_empty() && glob.matches_its_base(),
        });
        let shown: &[u8] = if base.is_empty() { b"." } else { &base };
        if visits > 0 && chosen.add(shown, visits) {
            self.count += visits;
        }
        if !kind.is_dir() {
            return;
        }
        let mut pending = vec![Pending {
            path: base,
            below_base: Vec::new(),
            depth: 0,
            visits,
        }];
        while let Some(directory) = pending.pop() {
            self.directory(chosen, directory, &mut pending);
        }
    }

    fn directory(
        &mut self,
        chosen: &mut Chosen<'_>,
        directory: Pending,
        pending: &mut Vec<Pending>,
    ) {
        let full = chosen.root.join(platform::from_name(&directory.path));
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            // What vanishes meanwhile is not missed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                self.problems.push((
                    String::from_utf8_lossy(&directory.path).into_owned(),
                    error.to_string(),
                ));
                return;
            }
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            let name = platform::to_name(&name);
            let path = joined(&directory.path, &name);
            let mut visits = directory.visits;
            let mut below_base = Vec::new();
            if let Some(glob) = self.glob {
                below_base = joined(&directory.below_base, &name);
                visits += usize::from(glob.matches(&below_base, kind.is_dir()));
            }
            if visits > 0 && chosen.add(&path, visits) {
                self.count += visits;
            }
            let depth = directory.depth + 1;
            let reachable = visits > 0 || self.depth.is_none_or(|deepest| depth < deepest);
            if kind.is_dir() && reachable {
                pending.push(Pending {
                    path,
                    below_base,
                    depth,
                    visits,
                });
            }
        }
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Makes a path or pattern relative to `root`; `None` when its literal part lies outside.
fn relative(root: &Path, text: &str) -> Option<String> {
    let (base, pattern) = if has_meta(text) {
        split_base(text)
    } else {
        (text, "")
    };
    let base = clean(&root.join(base));
    let below = base.strip_prefix(clean(root)).ok()?.as_os_str();
    let below = String::from_utf8(platform::to_name(below).into_owned()).ok()?;
    Some(match (below.is_empty(), pattern.is_empty()) {
        (true, true) => ".".to_owned(),
        (true, false) => pattern.to_owned(),
        (false, true) => below,
        (false, false) => format!("{below}/{pattern}"),
    })
}

/// `.` and `..` resolved as text.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree: files by path, directories with a trailing slash, links as `link -> target`.
    fn tree(entries: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        for entry in entries {
            let (name, target) = entry.split_once(" -> ").unwrap_or((entry, ""));
            let path = root.path().join(name.trim_end_matches('/'));
            fs::create_dir_all(path.parent().expect("has a parent")).expect("parents");
            if !target.is_empty() {
                std::os::unix::fs::symlink(target, path).expect("link");
            } else if name.ends_with('/') {
                fs::create_dir_all(path).expect("directory");
            } else {
                fs::write(path, name).expect("file");
            }
        }
        root
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn chosen(root: &Path, paths: &[&str], exclude: &[&str]) -> (Vec<String>, Vec<Finding>) {
        let selection = select(
            root,
            Wanted {
                paths: &strings(paths),
                exclude: &strings(exclude),
                untracked: None,
            },
        );
        let files = selection
            .files
            .iter()
            .map(|path| path.to_str().expect("UTF-8").to_owned())
            .collect();
        (files, selection.findings)
    }

    #[test]
    fn paths_globs_and_directories() {
        let root = tree(&["a/x.c", "a/b/y.c", "a/b/z.h", "top.c", ".hidden", "e/"]);
        let table: &[(&[&str], &[&str])] = &[
            (&["a"], &["a", "a/b", "a/b/y.c", "a/b/z.h", "a/x.c"]),
            (&["a/"], &["a", "a/b", "a/b/y.c", "a/b/z.h", "a/x.c"]),
            (&["./top.c"], &["top.c"]),
            (&["**/*.c"], &["a/b/y.c", "a/x.c", "top.c"]),
            (&["*.c"], &["top.c"]),
            (&["a/*.c"], &["a/x.c"]),
            (&["a/**"], &["a", "a/b", "a/b/y.c", "a/b/z.h", "a/x.c"]),
            (
                &["*"],
                &[
                    ".hidden", "a", "a/b", "a/b/y.c", "a/b/z.h", "a/x.c", "e", "top.c",
                ],
            ),
            (&["{top,a/x}.c"], &["a/x.c", "top.c"]),
            (
                &["."],
                &[
                    ".", ".hidden", "a", "a/b", "a/b/y.c", "a/b/z.h", "a/x.c", "e", "top.c",
                ],
            ),
        ];
        for (paths, expected) in table {
            assert_eq!(chosen(root.path(), paths, &[]).0, *expected, "{paths:?}");
        }
    }

    #[test]
    fn overlapping_matches_are_counted_several_times() {
        let root = tree(&["dir/a", "dir/sub/b"]);
        let (files, findings) = chosen(root.path(), &["dir/**"], &[]);
        assert_eq!(files, ["dir", "dir/a", "dir/sub", "dir/sub/b"]);
        // dir: 1, dir/a and dir/sub: 2 each, dir/sub/b: 3.
        let path = "dir/**".to_owned();
        assert_eq!(findings, [Finding::Matched { path, count: 8 }]);
    }

    #[test]
    fn an_excluded_directory_keeps_its_files() {
        let root = tree(&["dir/a", "dir/b"]);
        let (files, findings) = chosen(root.path(), &["dir"], &["dir", "**/b"]);
        assert_eq!(files, ["dir/a"]);
        let excluded = |rule: &str| Finding::Excluded {
            rule: rule.to_owned(),
            count: 1,
        };
        let path = "dir".to_owned();
        assert_eq!(
            findings,
            [
                Finding::Matched { path, count: 1 },
                excluded("dir"),
                excluded("**/b")
            ]
        );
    }

    #[test]
    fn an_exclude_outside_of_the_project_ends_the_list() {
        let root = tree(&["a", "b"]);
        let (files, _) = chosen(root.path(), &["*"], &["a", "/elsewhere/*", "b"]);
        assert_eq!(files, ["b"]);
    }

    #[test]
    fn what_lies_outside_is_not_taken() {
        let world = tree(&["project/x", "secret/key"]);
        let root = world.path().join("project");
        std::os::unix::fs::symlink("../secret", root.join("link")).expect("link");
        let table = [
            ("../secret/key", "NotBelow"),
            ("/etc/passwd", "NotBelow"),
            ("link/key", "Outside"),
            ("link/*", "Outside"),
        ];
        for (path, expected) in table {
            let (files, findings) = chosen(&root, &[path], &[]);
            assert_eq!(files, [""; 0], "{path}");
            assert!(format!("{:?}", findings[0]).starts_with(expected), "{path}");
        }
        // The link itself may be taken: as a link.
        assert_eq!(chosen(&root, &["link"], &[]).0, ["link"]);
        assert_eq!(chosen(&root, &["**"], &[]).0, ["link", "x"]);
    }

    #[test]
    fn empty_missing_and_malformed_paths_are_named() {
        let root = tree(&["a"]);
        let (_, findings) = chosen(root.path(), &["", "nothing", "[a"], &[]);
        assert_eq!(
            findings,
            [
                Finding::EmptyPath,
                Finding::NoMatch {
                    path: "nothing".to_owned()
                },
                Finding::Problem {
                    path: "[a".to_owned(),
                    message: "syntax error in pattern".to_owned()
                }
            ]
        );
    }

    #[test]
    fn untracked_files_obey_excludes() {
        let root = tree(&["a", "b"]);
        let untracked = [
            PathBuf::from("a"),
            PathBuf::from("b"),
            PathBuf::from("gone"),
        ];
        let selection = select(
            root.path(),
            Wanted {
                paths: &[],
                exclude: &strings(&["b"]),
                untracked: Some(&untracked),
            },
        );
        assert_eq!(selection.files, [PathBuf::from("a")]);
        assert_eq!(selection.findings[0], Finding::Untracked { count: 1 });
    }
}
