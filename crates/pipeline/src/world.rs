//! What rules are judged against: the event, the repository's files, and files of other projects
//! (`gitlab-ci-yaml.md` 11).

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::event::{ChangedFiles, Comparison, Event, Files, OtherProject, Unavailable};
use crate::expression;
use crate::glob::{Glob, is_plain};
use crate::re2::Patterns;
use crate::rules::{Changes, Exists, Rule, RuleWhen};
use crate::source::{Fault, Findings, Span};
use crate::trace::{
    ConditionTrace, Decision, Outcome, PathsTrace, PathsVerdict, Place, Recorder, RuleTrace,
    Subject,
};
use crate::variables::Scope;

/// More comparisons of files with globs count as a match.
const MAXIMUM_COMPARISONS: usize = 50_000;

/// Everything around the configuration.
pub(crate) struct World<'a> {
    pub(crate) event: &'a Event,
    /// Predefined variables, those of the server too.
    pub(crate) predefined: BTreeMap<String, String>,
    pub(crate) files: &'a dyn Files,
    /// Where decisions go, when somebody wants to know them.
    pub(crate) recorder: Option<Recorder>,
    own: OnceCell<Listing>,
    /// What changed in the event, `None` when there is nothing to compare with.
    changed: OnceCell<Option<Listing>>,
    compared: RefCell<HashMap<String, Rc<Compared>>>,
    projects: RefCell<Projects>,
    pub(crate) patterns: Patterns,
}

/// Projects by path and reference.
type Projects = HashMap<(String, Option<String>), Rc<OpenedProject>>;

/// What `compare_to` a reference gave.
enum Compared {
    Changed(Listing),
    Refused(&'static str),
}

/// A project other than the pipeline's, at one commit.
#[derive(Debug)]
pub(crate) struct OpenedProject {
    /// `group/project`, with `@ref` where one was asked for.
    pub(crate) name: String,
    pub(crate) files: Rc<dyn OtherProject>,
    listing: OnceCell<Listing>,
}

/// Whose files `exists` looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tree<'t> {
    /// The pipeline's.
    Own,
    /// Those of the file that holds the rule.
    Of(&'t OpenedProject),
}

/// Paths that globs are compared with: of a commit, or those that changed.
#[derive(Debug)]
struct Listing {
    paths: Vec<String>,
    set: OnceCell<HashSet<String>>,
    directories: OnceCell<Vec<String>>,
    /// Position of the first path or directory that fits a glob: jobs that extend one another ask the same.
    known: RefCell<HashMap<String, Option<usize>>>,
}

/// Globs whose answers a listing remembers.
const MAXIMUM_KNOWN: usize = 10_000;

/// What one rule came to; clauses behind the first that does not hold are not looked at.
struct Judgement {
    condition: Option<expression::Outcome>,
    changes: Option<PathsVerdict>,
    exists: Option<PathsVerdict>,
}

impl Judgement {
    fn holds(&self) -> bool {
        self.condition.is_none_or(|outcome| outcome.holds)
            && self.changes.as_ref().is_none_or(PathsVerdict::holds)
            && self.exists.as_ref().is_none_or(PathsVerdict::holds)
    }
}

/// Who asks for a judgement, and what it may see.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'s> {
    /// Named in messages.
    pub(crate) owner: &'s str,
    pub(crate) scope: Scope<'s>,
    pub(crate) tree: Tree<'s>,
}

impl<'a> World<'a> {
    pub(crate) fn new(event: &'a Event, files: &'a dyn Files) -> Self {
        let mut predefined = event.of_server.clone();
        predefined.extend(event.predefined.clone());
        Self {
            event,
            predefined,
            files,
            recorder: None,
            own: OnceCell::new(),
            changed: OnceCell::new(),
            compared: RefCell::default(),
            projects: RefCell::default(),
            patterns: Patterns::default(),
        }
    }

    /// The same, with decisions recorded.
    pub(crate) fn recording(event: &'a Event, files: &'a dyn Files) -> Self {
        Self {
            recorder: Some(Recorder::default()),
            ..Self::new(event, files)
        }
    }

    /// Paths of the repository.
    pub(crate) fn listed(&self) -> &[String] {
        &self.own_listing().paths
    }

    fn own_listing(&self) -> &Listing {
        self.own.get_or_init(|| Listing::new(self.files.list()))
    }

    /// Another project, opened once.
    pub(crate) fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<Rc<OpenedProject>, Unavailable> {
        let key = (path.to_owned(), reference.map(str::to_owned));
        if let Some(known) = self.projects.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let files = self.files.elsewhere().project(path, reference)?;
        let name = match reference {
            Some(reference) => format!("{path}@{reference}"),
            None => path.to_owned(),
        };
        let opened = Rc::new(OpenedProject::new(name, files));
        self.projects.borrow_mut().insert(key, Rc::clone(&opened));
        Ok(opened)
    }

    /// The first rule that holds, with its index.
    pub(crate) fn first_match<'r>(
        &self,
        rules: &'r [Rule],
        asker: Asker<'_>,
        subject: impl FnOnce() -> Subject,
        findings: &mut Findings,
    ) -> Result<Option<(usize, &'r Rule)>, Fault> {
        let mut traces = Vec::new();
        let mut found = None;
        for (index, rule) in rules.iter().enumerate() {
            let judgement = self.judge(rule, asker, findings)?;
            let holds = judgement.holds();
            if self.recorder.is_some() {
                traces.push(self.traced(index, rule, judgement, asker.scope));
            }
            if holds {
                found = Some((index, rule));
                break;
            }
        }
        if let Some(recorder) = &self.recorder {
            let outcome = match found {
                None => Outcome::NoRuleHolds,
                Some((_, rule)) if rule.when == Some(RuleWhen::Never) => Outcome::Never,
                Some(_) => Outcome::In,
            };
            let decision = Decision {
                subject: subject(),
                outcome,
                rules: traces,
                policies: Vec::new(),
            };
            let spans = rules.iter().map(|rule| rule.span).collect();
            recorder.add(decision, spans);
        }
        Ok(found)
    }

    fn judge(
        &self,
        rule: &Rule,
        asker: Asker<'_>,
        findings: &mut Findings,
    ) -> Result<Judgement, Fault> {
        let mut judgement = Judgement {
            condition: None,
            changes: None,
            exists: None,
        };
        if let Some(condition) = &rule.condition {
            let outcome = condition.evaluate(&|name| asker.scope.value(name), &self.patterns);
            if outcome.matched_plain_text {
                findings.warn(
                    rule.span,
                    format!(
                        "{}: the right side of `=~` is no /pattern/, so it is searched for the left side",
                        asker.owner
                    ),
                );
            }
            judgement.condition = Some(outcome);
            if !outcome.holds {
                return Ok(judgement);
            }
        }
        if let Some(changes) = &rule.changes {
            judgement.changes = Some(self.changes(changes, asker)?);
            if !judgement.holds() {
                return Ok(judgement);
            }
        }
        if let Some(exists) = &rule.exists {
            judgement.exists = Some(self.exists(exists, rule.span, asker)?);
        }
        Ok(judgement)
    }

    fn traced(
        &self,
        index: usize,
        rule: &Rule,
        judgement: Judgement,
        scope: Scope<'_>,
    ) -> RuleTrace {
        let holds = judgement.holds();
        let expanded = |globs: &[String]| globs.iter().map(|glob| scope.expand(glob)).collect();
        RuleTrace {
            index,
            place: Place::default(),
            condition: judgement.condition.zip(rule.condition.as_ref()).map(
                |(outcome, condition)| ConditionTrace {
                    text: condition.text().to_owned(),
                    expanded: condition
                        .shown(&|name| self.shown_value(name, scope), &self.patterns),
                    holds: outcome.holds,
                },
            ),
            changes: judgement
                .changes
                .zip(rule.changes.as_ref())
                .map(|(verdict, changes)| PathsTrace {
                    globs: expanded(&changes.paths),
                    compare_to: changes
                        .compare_to
                        .as_ref()
                        .map(|(reference, _)| scope.expand(reference)),
                    project: None,
                    verdict,
                }),
            exists: judgement
                .exists
                .zip(rule.exists.as_ref())
                .map(|(verdict, exists)| PathsTrace {
                    globs: expanded(&exists.paths),
                    compare_to: None,
                    project: exists
                        .project
                        .as_ref()
                        .map(|project| scope.expand(&project.path)),
                    verdict,
                }),
            holds,
            when: rule.when.map(RuleWhen::keyword),
        }
    }

    /// A value as people may see it.
    fn shown_value(&self, name: &str, scope: Scope<'_>) -> Option<String> {
        if self.event.secret_variables.contains(name) {
            return Some("[MASKED]".to_owned());
        }
        scope.value(name)
    }

    fn changes(&self, changes: &Changes, asker: Asker<'_>) -> Result<PathsVerdict, Fault> {
        let scope = asker.scope;
        let given = matches!(self.event.changed_files, ChangedFiles::Given(_));
        let Some((reference, span)) = changes.compare_to.as_ref().filter(|_| !given) else {
            return Ok(self.changed(&changes.paths, scope));
        };
        match &*self.compared(scope.expand_all(reference)) {
            Compared::Changed(changed) => Ok(changed.match_changes(&changes.paths, scope)),
            Compared::Refused(text) => {
                let owner = asker.owner;
                let message =
                    format!("Failed to parse rule for {owner}: rules:changes:compare_to {text}");
                Err(Fault::new(*span, message))
            }
        }
    }

    fn compared(&self, reference: String) -> Rc<Compared> {
        let mut known = self.compared.borrow_mut();
        let compared = known.entry(reference).or_insert_with_key(|reference| {
            Rc::new(match self.files.changed_since(reference) {
                Comparison::Changed(changed) => Compared::Changed(Listing::new(changed)),
                Comparison::UnknownReference => Compared::Refused("is not a valid ref"),
                Comparison::NotBuilt => Compared::Refused("needs a Git repository"),
            })
        });
        Rc::clone(compared)
    }

    /// Which of the changed files matches which of the globs.
    pub(crate) fn changed(&self, globs: &[String], scope: Scope<'_>) -> PathsVerdict {
        let changed = self
            .changed
            .get_or_init(|| match &self.event.changed_files {
                ChangedFiles::Known(changed) | ChangedFiles::Given(changed) => {
                    Some(Listing::new(changed.clone()))
                }
                ChangedFiles::Unknown => None,
            });
        match changed {
            Some(changed) => changed.match_changes(globs, scope),
            None => PathsVerdict::NothingToCompare,
        }
    }

    fn exists(&self, exists: &Exists, span: Span, asker: Asker<'_>) -> Result<PathsVerdict, Fault> {
        let scope = asker.scope;
        let globs: Vec<String> = exists
            .paths
            .iter()
            .map(|glob| scope.expand(glob).trim_start_matches('/').to_owned())
            .collect();
        let fault = |span: Span, error: Unavailable| {
            let owner = asker.owner;
            let message = format!("Failed to parse rule for {owner}: rules:exists {error}");
            Fault::new(span, message)
        };
        if let Some(project) = &exists.project {
            let path = scope.expand_all(&project.path);
            let reference = project.reference.as_ref();
            let reference = reference.map(|reference| scope.expand_all(reference));
            let fault = |error| fault(project.span, error);
            let opened = self.project(&path, reference.as_deref()).map_err(fault)?;
            return Ok(opened.listing().map_err(fault)?.find(&globs));
        }
        Ok(match asker.tree {
            Tree::Own => self.own_listing().find(&globs),
            Tree::Of(project) => project
                .listing()
                .map_err(|error| fault(span, error))?
                .find(&globs),
        })
    }
}

impl OpenedProject {
    pub(crate) fn new(name: String, files: Rc<dyn OtherProject>) -> Self {
        Self {
            name,
            files,
            listing: OnceCell::new(),
        }
    }

    fn listing(&self) -> Result<&Listing, Unavailable> {
        if let Some(listing) = self.listing.get() {
            return Ok(listing);
        }
        let paths = self.files.list()?;
        Ok(self.listing.get_or_init(|| Listing::new(paths)))
    }

    /// All paths, for a pattern of `include:local`.
    pub(crate) fn listed(&self) -> Result<&[String], Unavailable> {
        Ok(&self.listing()?.paths)
    }
}

impl Listing {
    fn new(paths: Vec<String>) -> Self {
        Self {
            paths,
            set: OnceCell::new(),
            directories: OnceCell::new(),
            known: RefCell::default(),
        }
    }

    fn has(&self, path: &str) -> bool {
        self.set
            .get_or_init(|| self.paths.iter().cloned().collect())
            .contains(path)
    }

    /// The directories, each with a slash at the end.
    fn directories(&self) -> &[String] {
        self.directories.get_or_init(|| {
            let mut found = BTreeSet::new();
            for path in &self.paths {
                let mut end = path.len();
                while let Some(at) = path[..end].rfind('/') {
                    if !found.insert(path[..=at].to_owned()) {
                        break;
                    }
                    end = at;
                }
            }
            found.into_iter().collect()
        })
    }

    fn find(&self, globs: &[String]) -> PathsVerdict {
        // Plain names need no matching and do not count as comparisons.
        if let Some(glob) = globs.iter().find(|glob| is_plain(glob) && self.has(glob)) {
            return PathsVerdict::Matched {
                path: glob.clone(),
                glob: glob.clone(),
            };
        }
        let patterns = globs.iter().filter(|glob| !is_plain(glob)).count();
        if self.paths.len().saturating_mul(patterns) > MAXIMUM_COMPARISONS {
            return PathsVerdict::TooMany;
        }
        for glob in globs {
            let is_directory = glob.ends_with('/');
            if is_plain(glob) && !is_directory {
                continue;
            }
            let candidates = if is_directory {
                self.directories()
            } else {
                &self.paths
            };
            if let Some(at) = self.first(glob, candidates) {
                return PathsVerdict::Matched {
                    path: candidates[at].clone(),
                    glob: glob.clone(),
                };
            }
        }
        PathsVerdict::NoMatch {
            files: self.paths.len(),
        }
    }

    /// `changes`: plain names are patterns as well, and directories do not change.
    fn match_changes(&self, globs: &[String], scope: Scope<'_>) -> PathsVerdict {
        if self.paths.len().saturating_mul(globs.len()) > MAXIMUM_COMPARISONS {
            return PathsVerdict::TooMany;
        }
        for glob in globs {
            let glob = scope.expand(glob);
            if let Some(at) = self.first(&glob, &self.paths) {
                let path = self.paths[at].clone();
                return PathsVerdict::Matched { path, glob };
            }
        }
        PathsVerdict::NoMatch {
            files: self.paths.len(),
        }
    }

    /// Position of the first candidate that fits; which candidates those are, the glob decides.
    fn first(&self, glob: &str, candidates: &[String]) -> Option<usize> {
        if let Some(known) = self.known.borrow().get(glob) {
            return *known;
        }
        let pattern = Glob::new(glob);
        let found = candidates.iter().position(|path| pattern.matches(path));
        let mut known = self.known.borrow_mut();
        if known.len() >= MAXIMUM_KNOWN {
            known.clear();
        }
        known.insert(glob.to_owned(), found);
        found
    }
}
