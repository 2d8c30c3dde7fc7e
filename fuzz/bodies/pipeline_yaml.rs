//! Any bytes as the files of a project: YAML, include, inputs, extends, references, rules.
//!
//! A zero byte separates files: the root file, then `1.yml`, `2.yml`, … of the repository, which are those of
//! any other place as well.

use std::rc::Rc;

use courser_pipeline::{
    ChangedFiles, Comparison, Component, ComponentAddress, Elsewhere, Event, Files, OtherProject,
    Unavailable, evaluate, explain, lint, merge,
};

const ROOT: &str = ".gitlab-ci.yml";

#[derive(Debug, Clone)]
struct Texts(Vec<String>);

impl Texts {
    fn find(&self, path: &str) -> Option<String> {
        if path == ROOT {
            return self.0.first().cloned();
        }
        let number = path.rsplit('/').next()?.strip_suffix(".yml")?;
        self.0.get(number.parse::<usize>().ok()?).cloned()
    }

    fn get(&self, path: &str) -> Result<String, Unavailable> {
        self.find(path)
            .ok_or_else(|| Unavailable(format!("no {path}")))
    }

    fn paths(&self) -> Vec<String> {
        let others = (1..self.0.len()).map(|at| format!("{at}.yml"));
        others
            .chain([ROOT.to_owned(), "src/main.c".to_owned()])
            .collect()
    }
}

impl Files for Texts {
    fn read(&self, path: &str) -> Option<String> {
        self.find(path)
    }

    fn list(&self) -> Vec<String> {
        self.paths()
    }

    fn changed_since(&self, reference: &str) -> Comparison {
        match reference {
            "" => Comparison::UnknownReference,
            _ => Comparison::Changed(vec!["src/main.c".to_owned()]),
        }
    }

    fn elsewhere(&self) -> &dyn Elsewhere {
        self
    }
}

impl Elsewhere for Texts {
    fn project(&self, _: &str, _: Option<&str>) -> Result<Rc<dyn OtherProject>, Unavailable> {
        Ok(Rc::new(self.clone()))
    }

    fn remote(&self, url: &str) -> Result<String, Unavailable> {
        self.get(url)
    }

    fn template(&self, name: &str) -> Result<String, Unavailable> {
        self.get(&name.replace(".gitlab-ci.yml", ".yml"))
    }

    fn component(&self, address: &ComponentAddress<'_>) -> Result<Component, Unavailable> {
        Ok(Component {
            content: self.get(&format!("{}.yml", address.path))?,
            file: address.path.to_owned(),
            project: Rc::new(self.clone()),
            name: "name".to_owned(),
            sha: "sha".to_owned(),
            version: address.version.to_owned(),
        })
    }

    fn artifact(&self, _: &str, path: &str) -> Result<String, Unavailable> {
        self.get(path)
    }
}

impl OtherProject for Texts {
    fn read(&self, path: &str) -> Result<Option<String>, Unavailable> {
        Ok(self.find(path))
    }

    fn list(&self) -> Result<Vec<String>, Unavailable> {
        Ok(self.paths())
    }
}

fn event(source: &str, tag: bool) -> Event {
    let mut predefined = vec![
        ("CI", "true"),
        ("CI_PIPELINE_SOURCE", source),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_COMMIT_REF_NAME", "main"),
    ];
    predefined.push(match (source, tag) {
        ("merge_request_event", _) => ("CI_MERGE_REQUEST_IID", "1"),
        (_, true) => ("CI_COMMIT_TAG", "main"),
        (_, false) => ("CI_COMMIT_BRANCH", "main"),
    });
    Event {
        source: source.to_owned(),
        ref_name: "main".to_owned(),
        tag,
        predefined: predefined
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        changed_files: ChangedFiles::Known(vec!["src/main.c".to_owned()]),
        ..Event::default()
    }
}

/// Runs one input.
pub(crate) fn check(bytes: &[u8]) {
    let texts = String::from_utf8_lossy(bytes);
    let files = Texts(texts.split('\0').map(str::to_owned).collect());
    for event in [
        event("push", false),
        event("merge_request_event", false),
        event("parent_pipeline", true),
    ] {
        let made = evaluate(ROOT, &files, &event);
        if let Err(found) = &made {
            assert!(!found.valid && !found.errors.is_empty());
            for problem in &found.errors {
                assert!(problem.line >= 1 && problem.column >= 1 && !problem.file.is_empty());
            }
        }
        // What is explained is what is done. NaN in a keyword's JSON is null, so both compare.
        assert_eq!(explain(ROOT, &files, &event).result, made);
    }
    let event = event("push", false);
    let linted = lint(ROOT, &files, &event);
    assert_eq!(linted.valid, linted.errors.is_empty());
    // The merged tree reads back as the same tree.
    if let Ok(tree) = merge(ROOT, &files, &event) {
        let text = tree.to_yaml();
        if text != "{}\n" {
            let again = merge(ROOT, &Texts(vec![text.clone()]), &event);
            // Tags and depth may make the written form one that is refused; read at all, it is the same.
            if let Ok(again) = again {
                assert_eq!(again.to_yaml(), text);
            }
        }
    }
}
