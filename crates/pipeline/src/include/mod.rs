//! `include` (`gitlab-ci-yaml.md` 3): files are read, merged in order, and the including file last.
//!
//! `item` knows the forms of an entry, `fetch` where its files come from.

mod fetch;
mod item;

use self::fetch::Origin;
use self::item::{Item, items};
use crate::budget::Budget;
use crate::inputs::{self, ComponentFacts, Given};
use crate::merge::deep_merge;
use crate::rules::{self, Owner, RuleWhen};
use crate::shape::Shape;
use crate::source::{Fault, Findings, Sources, Span};
use crate::trace::Subject;
use crate::world::{Asker, World};
use crate::yaml::{self, Key, Map, Node};

const MAXIMUM_INCLUDES: usize = 150;

/// Reads files and merges them.
pub(crate) struct Loader<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) sources: &'a mut Sources,
    pub(crate) findings: &'a mut Findings,
    included: usize,
    budget: Budget,
}

/// What a file is read with.
#[derive(Clone, Copy)]
struct Context<'c> {
    given: &'c Given,
    /// Where it was included.
    at: Span,
    component: Option<&'c ComponentFacts>,
    origin: &'c Origin,
}

/// The merged tree and where the root file begins.
pub(crate) struct Loaded {
    pub(crate) tree: Map,
    pub(crate) span: Span,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        world: &'a World<'a>,
        sources: &'a mut Sources,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            world,
            sources,
            findings,
            included: 0,
            budget: Budget::for_merging(),
        }
    }

    /// Reads the root file with everything it includes.
    pub(crate) fn root(&mut self, path: &str) -> Result<Loaded, Fault> {
        let text = self.world.files.read(path);
        let file = self.sources.add(path, text.as_deref().unwrap_or_default());
        let span = Span {
            file,
            line: 1,
            column: 1,
        };
        let text = text.ok_or_else(|| Fault::new(span, format!("`{path}` does not exist")))?;
        if text.trim().is_empty() {
            return Err(Fault::new(span, "Please provide content of .gitlab-ci.yml"));
        }
        let document = yaml::read(&text, file, self.findings)?;
        let given = Given::of_event(&self.world.event.inputs, span);
        let context = Context {
            given: &given,
            at: span,
            component: None,
            origin: &Origin::Repository,
        };
        let tree = self.expand(document, context)?;
        Ok(Loaded { tree, span })
    }

    /// Interpolates inputs, then replaces `include` by what it names.
    fn expand(&mut self, mut document: yaml::Document, context: Context<'_>) -> Result<Map, Fault> {
        let origin = context.origin;
        if let Some(header) = &document.header
            && let Some(include) = inputs::header_includes(header)
        {
            document.header = Some(self.with_included_inputs(header, include, origin)?);
        }
        let surroundings = inputs::Surroundings {
            at: context.at,
            component: context.component,
            scope: self.scope(origin),
            secret: &self.world.event.secret_variables,
            patterns: &self.world.patterns,
        };
        let content = inputs::interpolate(document, context.given, surroundings)?;
        let own = content
            .as_map()
            .ok_or_else(|| Fault::new(content.span, "Invalid configuration format"))?;
        let Some(include) = own.get("include") else {
            return Ok(own.clone());
        };
        let mut merged = Map::default();
        for node in items(include) {
            let item = Item::parse(node)?;
            if !self.wanted(&item, origin)? {
                continue;
            }
            let given = Given::typed(item.inputs.clone());
            for fetched in self.fetch(&item, origin)? {
                let context = Context {
                    given: &given,
                    at: item.location().span,
                    component: fetched.component.as_ref(),
                    origin: &fetched.origin,
                };
                let file = fetched.file;
                let tree = self.expand(fetched.document, context);
                let tree = tree.map_err(|fault| self.prefixed(file, fault))?;
                merged = deep_merge(merged, &tree, item.location().span, &mut self.budget)?;
            }
        }
        deep_merge(
            merged,
            &own.without("include"),
            content.span,
            &mut self.budget,
        )
    }

    /// The header with the inputs of the files that `spec:include` names; its own ones win.
    fn with_included_inputs(
        &mut self,
        header: &Node,
        include: &Node,
        origin: &Origin,
    ) -> Result<Node, Fault> {
        let mut inputs = Map::default();
        for node in items(include) {
            let item = Item::parse(node)?;
            if !self.wanted(&item, origin)? {
                continue;
            }
            for fetched in self.fetch(&item, origin)? {
                let top = fetched.document.content;
                let found = top.as_map().and_then(|map| map.get("inputs"));
                let found = found.and_then(Node::as_map).ok_or_else(|| {
                    let name = self.sources.name(fetched.file);
                    let text = format!("`{name}`: a file of spec:include must have `inputs`");
                    Fault::new(top.span, text)
                })?;
                inputs = deep_merge(inputs, found, item.location().span, &mut self.budget)?;
            }
        }
        let span = header.span;
        let entry = |key: &str, value: Node| {
            let mut map = Map::default();
            map.insert(Key::text(key), span, value);
            map
        };
        let included = entry(
            "spec",
            Node::map(span, entry("inputs", Node::map(span, inputs))),
        );
        let own = header.as_map().cloned().unwrap_or_default();
        let merged = deep_merge(included, &own, span, &mut self.budget)?;
        let spec = merged.get("spec").and_then(Node::as_map);
        let spec = spec.map(|spec| spec.without("include")).unwrap_or_default();
        Ok(Node::map(span, entry("spec", Node::map(span, spec))))
    }

    /// `include:rules`: the first that holds decides.
    fn wanted(&mut self, item: &Item<'_>, origin: &Origin) -> Result<bool, Fault> {
        let Some(rules) = item.rules else {
            return Ok(true);
        };
        let before = self.findings.errors.len();
        let mut shape = Shape {
            findings: self.findings,
            patterns: &self.world.patterns,
        };
        let parsed = rules::parse(rules, "include:rules", Owner::Include, &mut shape);
        if let Some(fault) = shape.findings.errors.drain(before..).next() {
            return Err(fault);
        }
        let asker = Asker {
            owner: "include",
            scope: self.scope(origin),
            tree: origin.tree(),
        };
        let subject = || Subject::Include(item.location().text.to_owned());
        let found = self
            .world
            .first_match(&parsed, asker, subject, self.findings)?;
        Ok(found.is_some_and(|(_, rule)| rule.when != Some(RuleWhen::Never)))
    }

    /// A fault inside an included file names the file in its text as well.
    fn prefixed(&self, file: u32, mut fault: Fault) -> Fault {
        if fault.span.file == file {
            let path = self.sources.name(file);
            fault.message = format!("`{path}`: {}", fault.message);
        }
        fault
    }
}
