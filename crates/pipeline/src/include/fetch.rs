//! From an entry to its files: which place has them, and what may be asked of it from where
//! (`gitlab-ci-yaml.md` 3.1).

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::item::{Item, Target, Text};
use super::{Loader, MAXIMUM_INCLUDES};
use crate::event::{ComponentAddress, Unavailable};
use crate::glob::Glob;
use crate::inputs::ComponentFacts;
use crate::source::{Fault, Span};
use crate::variables::Scope;
use crate::world::{OpenedProject, Tree};
use crate::yaml;

/// Where a file came from, which decides what its own includes mean.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The repository of the pipeline.
    Repository,
    /// Another project at a commit; a component's as well.
    Project(Rc<OpenedProject>),
    /// A URL, a template or an artifact: there is no project around it.
    Alone,
}

/// A file that was read.
pub(super) struct Fetched {
    pub(super) file: u32,
    pub(super) document: yaml::Document,
    pub(super) origin: Origin,
    pub(super) component: Option<ComponentFacts>,
}

impl Origin {
    /// Whose files `exists` looks at.
    pub(super) fn tree(&self) -> Tree<'_> {
        match self {
            Self::Project(project) => Tree::Of(project),
            Self::Repository | Self::Alone => Tree::Own,
        }
    }
}

impl<'a> Loader<'a> {
    /// Variables that an `include` in a file from there may use: a file without a project knows none.
    pub(super) fn scope(&self, origin: &Origin) -> Scope<'a> {
        match origin {
            Origin::Alone => Scope::EMPTY,
            Origin::Repository | Origin::Project(_) => Scope {
                pipeline: &self.world.event.pipeline_variables,
                yaml: &[],
                job: &[],
                predefined: &self.world.predefined,
            },
        }
    }

    /// The files that an entry names, in order.
    pub(super) fn fetch(
        &mut self,
        item: &Item<'_>,
        origin: &Origin,
    ) -> Result<Vec<Fetched>, Fault> {
        let scope = self.scope(origin);
        let expand = |text: Text<'_>| scope.expand_all(text.text);
        let elsewhere = self.world.files.elsewhere();
        match &item.target {
            Target::Local(path) => self.local(*path, origin),
            Target::Project {
                path,
                files,
                reference,
            } => {
                let name = expand(*path);
                let reference = reference.map(expand).filter(|text| !text.is_empty());
                let opened = self
                    .world
                    .project(&name, reference.as_deref())
                    .map_err(|error| unavailable(path.span, error))?;
                let mut fetched = Vec::with_capacity(files.len());
                for file in files {
                    let written = expand(*file);
                    let location = with_extension(&written, file.span)?;
                    let content = opened.files.read(location);
                    let content = content
                        .map_err(|error| unavailable(file.span, error))?
                        .ok_or_else(|| {
                            let text =
                                format!("Project `{name}` file `{location}` does not exist!");
                            Fault::new(file.span, text)
                        })?;
                    let empty = || format!("Project `{name}` file `{location}` is empty!");
                    let shown = format!("{}:{location}", opened.name);
                    let origin = Origin::Project(Rc::clone(&opened));
                    fetched.push(self.read(file.span, &shown, &content, origin, empty)?);
                }
                Ok(fetched)
            }
            Target::Remote { url, integrity } => {
                let address = expand(*url);
                let at = url.span;
                if !(address.starts_with("https://") || address.starts_with("http://")) {
                    let text = format!("Remote file `{address}` does not have a valid address!");
                    return Err(Fault::new(at, text));
                }
                with_extension(&address, at)?;
                let content = elsewhere.remote(&address);
                let content = content.map_err(|error| unavailable(at, error))?;
                if let Some(integrity) = integrity {
                    check_integrity(&address, &content, *integrity)?;
                }
                let empty = || format!("Remote file `{address}` is empty!");
                let fetched = self.read(at, &address, &content, Origin::Alone, empty)?;
                Ok(vec![fetched])
            }
            Target::Template(name) => {
                let at = name.span;
                let name = expand(*name);
                if !name.ends_with(".gitlab-ci.yml") {
                    let text = format!("Template file `{name}` is not a valid location!");
                    return Err(Fault::new(at, text));
                }
                let content = elsewhere.template(&name);
                let content = content.map_err(|error| unavailable(at, error))?;
                let empty = || format!("Template file `{name}` is empty!");
                let fetched = self.read(at, &name, &content, Origin::Alone, empty)?;
                Ok(vec![fetched])
            }
            Target::Component(address) => {
                Ok(vec![self.component(&expand(*address), address.span)?])
            }
            Target::Artifact { path, job } => {
                let at = path.span;
                if self.world.event.source != "parent_pipeline" {
                    return Err(Fault::new(
                        at,
                        "including configs from artifacts is only allowed when triggering child pipelines",
                    ));
                }
                let (path, job) = (expand(*path), expand(*job));
                let location = with_extension(&path, at)?;
                let content = elsewhere.artifact(&job, location);
                let content = content.map_err(|error| unavailable(at, error))?;
                let empty = || format!("File `{location}` is empty!");
                // The artifact belongs to the project, so its own includes do.
                let origin = Origin::Repository;
                Ok(vec![self.read(at, location, &content, origin, empty)?])
            }
        }
    }

    /// Paths and patterns from the root of the project around the including file.
    fn local(&mut self, written: Text<'_>, origin: &Origin) -> Result<Vec<Fetched>, Fault> {
        let at = written.span;
        let expanded = self.scope(origin).expand_all(written.text);
        let path = with_extension(&expanded, at)?;
        if matches!(origin, Origin::Alone) {
            let text = format!("Local file `{path}` does not have project!");
            return Err(Fault::new(at, text));
        }
        let paths = if path.contains('*') {
            let found = self.matching(path, origin, at)?;
            if found.is_empty() {
                let message = format!("no file matches `{path}`, nothing is included");
                self.findings.warn(at, message);
            }
            found
        } else {
            vec![path.to_owned()]
        };
        let mut fetched = Vec::with_capacity(paths.len());
        for path in paths {
            let (content, shown) = match origin {
                Origin::Project(project) => {
                    let content = project.files.read(&path);
                    let content = content.map_err(|error| unavailable(at, error))?;
                    (content, format!("{}:{path}", project.name))
                }
                Origin::Repository | Origin::Alone => (self.world.files.read(&path), path.clone()),
            };
            let missing = || Fault::new(at, format!("Local file `{path}` does not exist!"));
            let content = content.ok_or_else(missing)?;
            let empty = || format!("Local file `{path}` is empty!");
            fetched.push(self.read(at, &shown, &content, origin.clone(), empty)?);
        }
        Ok(fetched)
    }

    fn matching(&self, pattern: &str, origin: &Origin, at: Span) -> Result<Vec<String>, Fault> {
        // `dir/**.yml` means any depth as well.
        let glob = Glob::new(&pattern.replace("**", "**/*").replace("**/*/", "**/"));
        let listed = match origin {
            Origin::Project(project) => project.listed().map_err(|error| unavailable(at, error))?,
            Origin::Repository | Origin::Alone => self.world.listed(),
        };
        let mut found: Vec<String> = listed
            .iter()
            .filter(|path| glob.matches(path))
            .cloned()
            .collect();
        found.sort();
        Ok(found)
    }

    fn component(&mut self, full: &str, at: Span) -> Result<Fetched, Fault> {
        let address = component_address(full).ok_or_else(|| {
            let text =
                format!("Given component `{full}` must be `host/group/project/name@version`");
            Fault::new(at, text)
        })?;
        let found = self.world.files.elsewhere().component(&address);
        let found = found.map_err(|error| unavailable(at, error))?;
        let project = OpenedProject::new(full.to_owned(), found.project);
        let origin = Origin::Project(Rc::new(project));
        let empty = || format!("Component `{full}` is empty!");
        let mut fetched = self.read(at, &found.file, &found.content, origin, empty)?;
        fetched.component = Some(ComponentFacts {
            name: found.name,
            sha: found.sha,
            version: found.version,
            reference: address.version.to_owned(),
        });
        Ok(fetched)
    }

    /// Counts and reads one file; `empty` words the fault of an empty one.
    fn read(
        &mut self,
        at: Span,
        shown: &str,
        text: &str,
        origin: Origin,
        empty: impl Fn() -> String,
    ) -> Result<Fetched, Fault> {
        self.included += 1;
        if self.included > MAXIMUM_INCLUDES {
            return Err(Fault::new(
                at,
                format!("Maximum of {MAXIMUM_INCLUDES} nested includes are allowed!"),
            ));
        }
        if text.trim().is_empty() {
            return Err(Fault::new(at, empty()));
        }
        let file = self.sources.add(shown, text);
        let document =
            yaml::read(text, file, self.findings).map_err(|fault| self.prefixed(file, fault))?;
        Ok(Fetched {
            file,
            document,
            origin,
            component: None,
        })
    }
}

fn unavailable(span: Span, error: Unavailable) -> Fault {
    Fault::new(span, error.0)
}

/// The path without leading slashes, which must be one of a YAML file.
fn with_extension(path: &str, at: Span) -> Result<&str, Fault> {
    let path = path.trim_start_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let stem = lower
        .strip_suffix(".yml")
        .or_else(|| lower.strip_suffix(".yaml"));
    if stem.is_some_and(|stem| !stem.is_empty()) {
        return Ok(path);
    }
    let text = format!("Included file `{path}` does not have YAML extension!");
    Err(Fault::new(at, text))
}

/// `sha256-` and the digest in base64.
fn check_integrity(address: &str, content: &str, integrity: Text<'_>) -> Result<(), Fault> {
    let fault = |text: String| Err(Fault::new(integrity.span, text));
    let expected = integrity.text.strip_prefix("sha256-");
    let expected = expected.and_then(|text| STANDARD.decode(text).ok());
    let Some(expected) = expected.filter(|digest| digest.len() == 32) else {
        return fault(
            "include:integrity config must be `sha256-` and a digest in base64".to_owned(),
        );
    };
    let actual = Sha256::digest(content.as_bytes());
    if actual[..] == expected[..] {
        return Ok(());
    }
    fault(format!(
        "Remote file `{address}` failed the integrity check: its digest is sha256-{}",
        STANDARD.encode(actual)
    ))
}

fn component_address(full: &str) -> Option<ComponentAddress<'_>> {
    let (location, version) = full.rsplit_once('@')?;
    let (host, path) = location.split_once('/')?;
    // At least a namespace, a project and the component's name.
    let parts = path.split('/');
    let fits = !host.is_empty()
        && !version.is_empty()
        && parts.clone().count() >= 3
        && parts
            .clone()
            .all(|part| !part.is_empty() && part != "." && part != "..");
    fits.then_some(ComponentAddress {
        full,
        host,
        path,
        version,
    })
}
