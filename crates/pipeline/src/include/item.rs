//! One entry of `include` or `spec:include`: which file it names, checked (`gitlab-ci-yaml.md` 3.1).

use crate::duration;
use crate::shape::given;
use crate::source::{Fault, Span};
use crate::yaml::{Kind, Map, Node};

const KINDS: [&str; 6] = [
    "local",
    "project",
    "remote",
    "template",
    "artifact",
    "component",
];
/// Seconds that `cache` of a remote file lasts at least.
const MINIMUM_CACHE: u64 = 60;

/// An entry.
pub(super) struct Item<'n> {
    pub(super) target: Target<'n>,
    pub(super) rules: Option<&'n Node>,
    pub(super) inputs: Map,
}

/// What it names, variables not expanded.
pub(super) enum Target<'n> {
    Local(Text<'n>),
    Project {
        path: Text<'n>,
        files: Vec<Text<'n>>,
        reference: Option<Text<'n>>,
    },
    Remote {
        url: Text<'n>,
        integrity: Option<Text<'n>>,
    },
    Template(Text<'n>),
    Component(Text<'n>),
    Artifact {
        path: Text<'n>,
        job: Text<'n>,
    },
}

/// A text and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Text<'n> {
    pub(super) text: &'n str,
    pub(super) span: Span,
}

/// The entries of an `include`.
pub(super) fn items(include: &Node) -> Vec<&Node> {
    match &include.kind {
        Kind::Null => Vec::new(),
        Kind::Seq(items) => items.iter().collect(),
        _ => vec![include],
    }
}

impl<'n> Item<'n> {
    pub(super) fn parse(node: &'n Node) -> Result<Self, Fault> {
        if let Some(text) = node.as_text() {
            let text = Text {
                text,
                span: node.span,
            };
            let target = if text.text.contains("://") {
                Target::Remote {
                    url: text,
                    integrity: None,
                }
            } else {
                Target::Local(text)
            };
            return Ok(Self {
                target,
                rules: None,
                inputs: Map::default(),
            });
        }
        let Some(map) = node.as_map() else {
            return Err(Fault::new(
                node.span,
                "Each include must be a hash or a string",
            ));
        };
        Ok(Self {
            target: target(node, map)?,
            rules: given(map, "rules"),
            inputs: match given(map, "inputs") {
                None => Map::default(),
                Some(node) => node
                    .as_map()
                    .cloned()
                    .ok_or_else(|| Fault::new(node.span, "Given inputs must be a hash"))?,
            },
        })
    }

    /// Where it points to, as written.
    pub(super) fn location(&self) -> Text<'n> {
        match &self.target {
            Target::Local(text) | Target::Template(text) | Target::Component(text) => *text,
            Target::Project { path, .. } | Target::Artifact { path, .. } => *path,
            Target::Remote { url, .. } => *url,
        }
    }
}

fn target<'n>(node: &'n Node, map: &'n Map) -> Result<Target<'n>, Fault> {
    let kinds: Vec<_> = KINDS.iter().filter_map(|kind| map.entry(kind)).collect();
    let entry = match kinds[..] {
        [entry] => entry,
        [] => {
            return Err(Fault::new(
                node.span,
                format!(
                    "`{}` does not have a valid subkey for include. Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`",
                    node.inspect()
                ),
            ));
        }
        _ => {
            return Err(Fault::new(
                node.span,
                "Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
            ));
        }
    };
    let kind = &*entry.key.text;
    let named = text(&entry.value, kind)?;
    let companion = |key: &str| given(map, key).map(|node| text(node, key)).transpose();
    Ok(match kind {
        "project" => Target::Project {
            path: named,
            files: project_files(node, map)?,
            reference: companion("ref")?,
        },
        "remote" => {
            if let Some(cache) = given(map, "cache") {
                check_cache(cache)?;
            }
            Target::Remote {
                url: named,
                integrity: companion("integrity")?,
            }
        }
        "template" => Target::Template(named),
        "component" => Target::Component(named),
        "artifact" => Target::Artifact {
            path: named,
            job: companion("job")?.ok_or_else(|| {
                Fault::new(
                    node.span,
                    "include:include config must specify the job where to fetch the artifact from",
                )
            })?,
        },
        _ => Target::Local(named),
    })
}

fn text<'n>(node: &'n Node, key: &str) -> Result<Text<'n>, Fault> {
    let wrong = || {
        Fault::new(
            node.span,
            format!("include:{key} config should be a string"),
        )
    };
    Ok(Text {
        text: node.as_text().ok_or_else(wrong)?,
        span: node.span,
    })
}

fn project_files<'n>(node: &Node, map: &'n Map) -> Result<Vec<Text<'n>>, Fault> {
    let missing = "include:include config must specify the file where to fetch the config from";
    let file = given(map, "file").ok_or_else(|| Fault::new(node.span, missing))?;
    match file.as_seq() {
        Some([]) => Err(Fault::new(file.span, missing)),
        Some(items) => items.iter().map(|item| text(item, "file")).collect(),
        None if file.as_text().is_some() => Ok(vec![text(file, "file")?]),
        None => Err(Fault::new(
            file.span,
            "include:file config should be an array of strings or a string",
        )),
    }
}

fn check_cache(node: &Node) -> Result<(), Fault> {
    let fits = match &node.kind {
        Kind::Bool(_) => true,
        Kind::Text(text) => duration::parse(text).is_some_and(|seconds| seconds >= MINIMUM_CACHE),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Fault::new(
        node.span,
        "include:cache config should be a boolean value or a duration of at least 1 minute",
    ))
}
