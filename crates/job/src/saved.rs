//! What is saved of a job where another process saves it than the one that had its secrets: they are on no disk, and what
//! is made of them would be saved under a wrong name, or not be found.

use courser_protocol::JobVariable;

use crate::Job;

/// Stands for a secret's value; no text of a job holds it.
const MARK: &str = "\u{1}secret\u{1}";

/// What is made of a job's secrets, each by its keyword.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MadeOfSecrets {
    /// Of its artifacts.
    pub artifacts: Option<&'static str>,
    /// Its caches, by their places in the payload.
    pub caches: Vec<(usize, &'static str)>,
}

impl Job {
    /// What of its artifacts and caches cannot be saved; nothing once the job has its secrets.
    pub fn made_of_secrets(&self) -> MadeOfSecrets {
        let mut made = MadeOfSecrets::default();
        if !self.lacks_secrets() {
            return made;
        }
        let payload = self.payload();
        let secrets = payload.secrets.iter().flat_map(|all| all.iter());
        let marked = secrets.map(|(name, _)| JobVariable {
            key: name.to_owned(),
            value: MARK.into(),
            ..JobVariable::default()
        });
        let mut plain = payload.clone();
        // They are in their places already.
        plain.inputs.clear();
        for cache in &mut plain.cache {
            // No policy holds the mark: that would be refused for the whole job.
            cache.policy.clear();
        }
        let context = self.context().clone();
        let Ok(marked) = Self::accept_with(plain, context, Some(marked.collect())) else {
            // Such as where its working copy lies.
            made.artifacts = Some("a setting");
            return made;
        };
        let variables = marked.variables();
        let is_made = |text: &String| variables.expand(text).contains(MARK);
        for artifact in &payload.artifacts {
            let keywords = [
                ("artifacts:name", is_made(&artifact.name)),
                ("artifacts:paths", artifact.paths.iter().any(is_made)),
                ("artifacts:exclude", artifact.exclude.iter().any(is_made)),
            ];
            made.artifacts = made.artifacts.or_else(|| first(&keywords));
        }
        for (place, cache) in payload.cache.iter().enumerate() {
            let keywords = [
                ("cache:key", is_made(&cache.key)),
                ("cache:paths", cache.paths.iter().any(is_made)),
                ("cache:policy", is_made(&cache.policy)),
            ];
            made.caches
                .extend(first(&keywords).map(|keyword| (place, keyword)));
        }
        made
    }
}

fn first(keywords: &[(&'static str, bool)]) -> Option<&'static str> {
    let found = keywords.iter().find(|(_, is_made)| *is_made);
    found.map(|(keyword, _)| *keyword)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::job::tests::job;

    #[test]
    fn what_is_saved_under_names_made_of_secrets_is_found() {
        let made = |change: Value| {
            let mut all = json!({"secrets": {"PLACE": {"vault": {}}},
                "variables": [{"key": "DIR", "value": "out/${PLACE}"}]});
            all.as_object_mut()
                .expect("an object")
                .extend(change.as_object().expect("an object").clone());
            let made = job(all).made_of_secrets();
            (made.artifacts, made.caches)
        };
        let of_cache = |place, keyword| (None, vec![(place, keyword)]);
        for (change, wanted) in [
            (
                json!({"artifacts": [{"paths": ["out/", "$OTHER"], "name": "a"}]}),
                (None, vec![]),
            ),
            (
                json!({"artifacts": [{"paths": ["$PLACE/x"]}]}),
                (Some("artifacts:paths"), vec![]),
            ),
            (
                json!({"artifacts": [{"paths": ["$DIR"]}]}),
                (Some("artifacts:paths"), vec![]),
            ),
            (
                json!({"artifacts": [{"paths": ["x"], "name": "n-$PLACE"}]}),
                (Some("artifacts:name"), vec![]),
            ),
            (
                json!({"artifacts": [{"paths": ["x"], "exclude": ["$PLACE"]}]}),
                (Some("artifacts:exclude"), vec![]),
            ),
            (
                json!({"cache": [{"key": "k", "paths": ["x"]}, {"key": "$PLACE", "paths": ["x"]}]}),
                of_cache(1, "cache:key"),
            ),
            (
                json!({"cache": [{"key": "k", "paths": ["$DIR"]}]}),
                of_cache(0, "cache:paths"),
            ),
            (
                json!({"artifacts": [{"paths": ["x"]}], "cache": [
                    {"key": "k", "paths": ["x"], "policy": "pull$PLACE"},
                    {"key": "k", "paths": ["x"], "policy": "push"},
                ]}),
                of_cache(0, "cache:policy"),
            ),
            (
                json!({"artifacts": [{"paths": ["$PLACE"]}], "secrets": null}),
                (None, vec![]),
            ),
        ] {
            let text = change.to_string();
            assert_eq!(made(change), wanted, "{text}");
        }
    }
}
