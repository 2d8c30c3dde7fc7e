//! `include` (`gitlab-ci-yaml.md` 3): files of the repository, merged in order, the including file last.

use crate::budget::Budget;
use crate::glob::Glob;
use crate::inputs;
use crate::merge::deep_merge;
use crate::model::JobWhen;
use crate::rules::{self, Owner, RuleWhen, World};
use crate::shape::Shape;
use crate::source::{Fault, Findings, Sources, Span};
use crate::variables::Scope;
use crate::yaml::{self, Key, Kind, Map, Node};

const MAXIMUM_INCLUDES: usize = 150;
const KINDS: [&str; 6] = [
    "local",
    "project",
    "remote",
    "template",
    "artifact",
    "component",
];

/// Reads files and merges them.
pub(crate) struct Loader<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) sources: &'a mut Sources,
    pub(crate) findings: &'a mut Findings,
    included: usize,
    budget: Budget,
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
        let tree = self.expand(document, &Map::default(), span)?;
        Ok(Loaded { tree, span })
    }

    /// Interpolates inputs, then replaces `include` by what it names.
    fn expand(
        &mut self,
        mut document: yaml::Document,
        given: &Map,
        at: Span,
    ) -> Result<Map, Fault> {
        if let Some(header) = &document.header
            && let Some(include) = inputs::header_includes(header)
        {
            document.header = Some(self.with_included_inputs(header, include)?);
        }
        let content = inputs::interpolate(document, given, at, self.scope())?;
        let own = content
            .as_map()
            .ok_or_else(|| Fault::new(content.span, "Invalid configuration format"))?;
        let Some(include) = own.get("include") else {
            return Ok(own.clone());
        };
        let mut merged = Map::default();
        for item in include_items(include) {
            for file in self.item(item)? {
                merged = deep_merge(&merged, &file, item.span, &mut self.budget)?;
            }
        }
        deep_merge(
            &merged,
            &own.without("include"),
            content.span,
            &mut self.budget,
        )
    }

    /// The header with the inputs of the files that `spec:include` names; its own ones win.
    fn with_included_inputs(&mut self, header: &Node, include: &Node) -> Result<Node, Fault> {
        let mut inputs = Map::default();
        for item in include_items(include) {
            let local = item.as_map().and_then(|map| map.get("local"));
            let local = local.unwrap_or(item);
            let Some(path) = local.as_text().filter(|path| !path.contains("://")) else {
                return Err(Fault::new(
                    item.span,
                    "spec:include of other than local files is not built yet",
                ));
            };
            for (_, content) in self.read_local(local, path)? {
                let top = content.content;
                let found = top.as_map().and_then(|map| map.get("inputs"));
                let found = found.and_then(Node::as_map).ok_or_else(|| {
                    let text = format!("`{path}`: a file of spec:include must have `inputs`");
                    Fault::new(top.span, text)
                })?;
                inputs = deep_merge(&inputs, found, item.span, &mut self.budget)?;
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
        let merged = deep_merge(&included, &own, span, &mut self.budget)?;
        let spec = merged.get("spec").and_then(Node::as_map);
        let spec = spec.map(|spec| spec.without("include")).unwrap_or_default();
        Ok(Node::map(span, entry("spec", Node::map(span, spec))))
    }

    fn scope(&self) -> Scope<'a> {
        Scope {
            pipeline: &self.world.event.pipeline_variables,
            yaml: &[],
            job: &[],
            predefined: &self.world.event.predefined,
        }
    }

    fn item(&mut self, item: &Node) -> Result<Vec<Map>, Fault> {
        if let Some(text) = item.as_text() {
            if text.contains("://") {
                return Err(needs_network("remote", text, item.span));
            }
            return self.local(item, text, &Map::default());
        }
        let Some(map) = item.as_map() else {
            return Err(Fault::new(
                item.span,
                "Each include must be a hash or a string",
            ));
        };
        let kinds: Vec<_> = KINDS.iter().filter_map(|kind| map.entry(kind)).collect();
        let entry = match kinds[..] {
            [entry] => entry,
            [] => {
                return Err(Fault::new(
                    item.span,
                    format!(
                        "`{}` does not have a valid subkey for include. Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`",
                        item.inspect()
                    ),
                ));
            }
            _ => {
                return Err(Fault::new(
                    item.span,
                    "Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
                ));
            }
        };
        if let Some(rules) = map.get("rules")
            && !rules.is_null()
            && !self.wanted(rules)?
        {
            return Ok(Vec::new());
        }
        let kind = &*entry.key.text;
        let Some(target) = entry.value.as_text() else {
            return Err(Fault::new(
                entry.value.span,
                format!("include:{kind} config should be a string"),
            ));
        };
        if kind != "local" {
            if kind == "project" && map.get("file").is_none() {
                return Err(Fault::new(
                    item.span,
                    "include:include config must specify the file where to fetch the config from",
                ));
            }
            return Err(needs_network(kind, target, entry.span));
        }
        let given = match map.get("inputs").filter(|node| !node.is_null()) {
            None => Map::default(),
            Some(node) => node
                .as_map()
                .cloned()
                .ok_or_else(|| Fault::new(node.span, "Given inputs must be a hash"))?,
        };
        self.local(&entry.value, target, &given)
    }

    /// `include:rules`: the first that holds decides.
    fn wanted(&mut self, rules: &Node) -> Result<bool, Fault> {
        let before = self.findings.errors.len();
        let mut shape = Shape {
            findings: self.findings,
        };
        let parsed = rules::parse(rules, "include:rules", Owner::Include, &mut shape);
        if let Some(fault) = shape.findings.errors.drain(before..).next() {
            return Err(fault);
        }
        let scope = Scope {
            pipeline: &self.world.event.pipeline_variables,
            yaml: &[],
            job: &[],
            predefined: &self.world.event.predefined,
        };
        let found = self
            .world
            .first_match(&parsed, scope, "include", &mut shape)?;
        Ok(found.is_some_and(|(_, rule)| {
            matches!(
                rule.when,
                None | Some(RuleWhen::Job(JobWhen::Always | JobWhen::OnSuccess))
            )
        }))
    }

    fn local(&mut self, at: &Node, written: &str, given: &Map) -> Result<Vec<Map>, Fault> {
        let mut maps = Vec::new();
        for (file, document) in self.read_local(at, written)? {
            let map = self
                .expand(document, given, at.span)
                .map_err(|fault| self.prefixed(file, fault))?;
            maps.push(map);
        }
        Ok(maps)
    }

    /// The files that a path or pattern names, each with its number.
    fn read_local(
        &mut self,
        at: &Node,
        written: &str,
    ) -> Result<Vec<(u32, yaml::Document)>, Fault> {
        let expanded = self.scope().expand_all(written);
        let path = expanded.trim_start_matches('/');
        let fault = |message: String| Fault::new(at.span, message);
        let lower = path.to_ascii_lowercase();
        if !(lower.ends_with(".yml") || lower.ends_with(".yaml")) {
            return Err(fault(format!(
                "Included file `{path}` does not have YAML extension!"
            )));
        }
        let paths = if path.contains('*') {
            // `dir/**.yml` means any depth as well.
            let glob = Glob::new(&path.replace("**", "**/*").replace("**/*/", "**/"));
            let mut found: Vec<String> = self
                .world
                .listed()
                .iter()
                .filter(|file| glob.matches(file))
                .cloned()
                .collect();
            found.sort();
            if found.is_empty() {
                let message = format!("no file matches `{path}`, nothing is included");
                self.findings.warn(at.span, message);
            }
            found
        } else {
            vec![path.to_owned()]
        };
        let mut documents = Vec::with_capacity(paths.len());
        for path in paths {
            self.included += 1;
            if self.included > MAXIMUM_INCLUDES {
                return Err(fault(format!(
                    "Maximum of {MAXIMUM_INCLUDES} nested includes are allowed!"
                )));
            }
            let text = self
                .world
                .files
                .read(&path)
                .ok_or_else(|| fault(format!("Local file `{path}` does not exist!")))?;
            if text.trim().is_empty() {
                return Err(fault(format!("Local file `{path}` is empty!")));
            }
            let file = self.sources.add(&path, &text);
            let document = yaml::read(&text, file, self.findings)
                .map_err(|fault| self.prefixed(file, fault))?;
            documents.push((file, document));
        }
        Ok(documents)
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

fn include_items(include: &Node) -> Vec<&Node> {
    match &include.kind {
        Kind::Null => Vec::new(),
        Kind::Seq(items) => items.iter().collect(),
        _ => vec![include],
    }
}

fn needs_network(kind: &str, target: &str, span: Span) -> Fault {
    Fault::new(
        span,
        format!(
            "include:{kind} `{target}` is not built yet: it needs a file from outside the repository"
        ),
    )
}
