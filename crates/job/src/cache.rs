//! Cache keys, policies and the requests made of them (`runner-build-lifecycle.md` 5.1 to 5.4).

use courser_protocol::{Cache, When};

use crate::directories::clean;
use crate::helper_request::{CacheEntry, CacheRequest};
use crate::{Job, Rejection, messages};

/// Which way a cache may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    pull: bool,
    push: bool,
}

impl Policy {
    fn parse(text: &str) -> Option<Self> {
        let (pull, push) = match text {
            "" | "pull-push" => (true, true),
            "pull" => (true, false),
            "push" => (false, true),
            _ => return None,
        };
        Some(Self { pull, push })
    }
}

/// A piece of a cache stage, in the order in which it runs.
#[derive(Debug, PartialEq)]
pub(crate) enum CacheWork {
    /// A line to print.
    Say(String),
    /// Caches to handle in one helper run.
    Request(CacheRequest),
}

/// Policies that cannot work, found before the job starts.
pub(crate) fn check(job: &Job) -> Result<(), Rejection> {
    for cache in job
        .payload()
        .cache
        .iter()
        .filter(|cache| has_content(cache))
    {
        let policy = job.variables().expand(&cache.policy);
        if Policy::parse(&policy).is_none() {
            let key = raw_key(job, cache);
            return Err(Rejection::configuration(format!(
                "unknown cache policy {policy} for {key}"
            )));
        }
    }
    Ok(())
}

/// Work of `restore_cache`; empty = no such stage.
pub(crate) fn restore(job: &Job) -> Vec<CacheWork> {
    let mut work = Work::new(job);
    for cache in job
        .payload()
        .cache
        .iter()
        .filter(|cache| has_content(cache))
    {
        let Some(key) = work.main_key(cache) else {
            work.say(messages::skipping_cache_extraction());
            continue;
        };
        if !policy(job, cache).pull {
            work.say(messages::not_downloading_cache(&key));
            continue;
        }
        let mut fallback_keys: Vec<String> = Vec::new();
        for fallback in &cache.fallback_keys {
            let raw = job.variables().expand(fallback);
            if !raw.is_empty() {
                fallback_keys.extend(work.usable_key(&raw));
            }
        }
        let global = job.variables().text("CACHE_FALLBACK_KEY");
        if !global.is_empty()
            && let Some(key) = work.usable_key(&global)
        {
            if key.trim_end_matches(['.', ' ']).ends_with("-protected") {
                work.say(messages::protected_fallback_key(&global));
            } else {
                fallback_keys.push(key);
            }
        }
        work.push(key, fallback_keys, cache);
    }
    work.done
}

/// Work of `archive_cache` (`after_failure` false) and `archive_cache_on_failure`.
pub(crate) fn archive(job: &Job, after_failure: bool) -> Vec<CacheWork> {
    let mut work = Work::new(job);
    for cache in job
        .payload()
        .cache
        .iter()
        .filter(|cache| has_content(cache))
    {
        if !applies(&cache.when, after_failure) {
            continue;
        }
        let Some(key) = work.main_key(cache) else {
            work.say(messages::skipping_cache_archiving());
            continue;
        };
        if !policy(job, cache).push {
            work.say(messages::not_uploading_cache(&key));
            continue;
        }
        work.push(key, Vec::new(), cache);
    }
    work.done
}

/// Whether something kept `when` is kept now.
pub(crate) fn applies(when: &When, after_failure: bool) -> bool {
    match when {
        When::OnSuccess | When::Unknown(_) => !after_failure,
        When::OnFailure => after_failure,
        When::Always => true,
    }
}

fn has_content(cache: &Cache) -> bool {
    cache.untracked || !cache.paths.is_empty()
}

fn policy(job: &Job, cache: &Cache) -> Policy {
    // `check` refused the job otherwise.
    Policy::parse(&job.variables().expand(&cache.policy)).unwrap_or(Policy {
        pull: false,
        push: false,
    })
}

fn raw_key(job: &Job, cache: &Cache) -> String {
    let key = job.variables().expand(&cache.key);
    if key.is_empty() {
        let payload = job.payload();
        clean(&format!(
            "{}/{}",
            payload.job_info.name, payload.git_info.ref_name
        ))
    } else {
        key
    }
}

struct Work<'a> {
    job: &'a Job,
    done: Vec<CacheWork>,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job) -> Self {
        Self {
            job,
            done: Vec::new(),
        }
    }

    fn say(&mut self, line: String) {
        self.done.push(CacheWork::Say(line));
    }

    fn main_key(&mut self, cache: &Cache) -> Option<String> {
        let raw = raw_key(self.job, cache);
        self.usable_key(&raw)
    }

    /// The key as messages show it; with hashed keys it may be anything.
    fn usable_key(&mut self, raw: &str) -> Option<String> {
        if self.job.features().hash_cache_keys {
            return Some(raw.to_owned());
        }
        let key = sanitize(raw);
        if key.is_empty() {
            self.say(messages::cache_key_unusable(raw));
            return None;
        }
        if key != raw {
            self.say(messages::cache_key_sanitized(raw, &key));
        }
        Some(key)
    }

    /// Adds to the last request, when nothing has to be said in between.
    fn push(&mut self, key: String, fallback_keys: Vec<String>, cache: &Cache) {
        let entry = CacheEntry {
            key,
            fallback_keys,
            paths: cache.paths.clone(),
            untracked: cache.untracked,
        };
        if let Some(CacheWork::Request(request)) = self.done.last_mut() {
            request.entries.push(entry);
            return;
        }
        self.done.push(CacheWork::Request(CacheRequest {
            project_dir: self.job.directories().project.clone(),
            cache_root: self.job.directories().cache_root.clone(),
            hash_keys: self.job.features().hash_cache_keys,
            clean_up_failed: self.job.features().clean_up_failed_cache_extract,
            entries: vec![entry],
        }));
    }
}

/// Makes a key safe as a relative path; empty when nothing of it is left.
pub(crate) fn sanitize(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(first) = rest.chars().next() {
        let escape = rest.get(..3).map(str::to_ascii_lowercase);
        let (replacement, taken) = match (escape.as_deref(), first) {
            (Some("%2f"), _) => ('/', 3),
            (Some("%2e"), _) => ('.', 3),
            (_, '\\') => ('/', 1),
            (_, '\0') => ('_', 1),
            (_, other) => (other, other.len_utf8()),
        };
        text.push(replacement);
        rest = &rest[taken..];
    }
    let mut key = clean(&format!("/{text}"));
    loop {
        let end = key.trim_end().len();
        key.truncate(end);
        if !key.ends_with('/') {
            break;
        }
        key.truncate(key.trim_end_matches('/').len());
        if key.is_empty() {
            break;
        }
    }
    // Blanks that were trimmed may have hidden a dot part; cleaning again cannot climb out.
    let key = clean(&format!("/{key}"));
    key.trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_made_safe_as_documented() {
        for (raw, key) in [
            ("main", "main"),
            ("foo/blipp/../bar", "foo/bar"),
            ("fallback_key/ \\", "fallback_key"),
            ("a / \\o", "a / /o"),
            ("../../etc", "etc"),
            ("a%2Fb%2e%2E%2fc", "a/b../c"),
            ("a/%2e%2e/%2e%2e/b", "b"),
            (" lead", " lead"),
            ("in ner ", "in ner"),
            ("%5c", "%5c"),
            ("", ""),
            (".", ""),
            ("/ / /", ""),
            ("é%", "é%"),
            ("x/.. ", ""),
        ] {
            assert_eq!(sanitize(raw), key, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sanitized_key_never_leaves_its_root(raw in "([./\\\\ a%2eEfF]{0,24}|(?s).{0,24})") {
            let key = sanitize(&raw);
            prop_assert!(!key.starts_with('/') && !key.contains('\0'));
            prop_assert!(key.is_empty() || key.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        }
    }
}
