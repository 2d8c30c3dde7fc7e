//! Secrets that are planted in every job, and the places where none of them may turn up.
//!
//! Searched are the logs of jobs, what the runner printed, argument lists of all processes, the environment of the job
//! that comes after, and every file that is left below the world: builds, caches, temporary files, home and state.

use std::path::Path;

use serde_json::{Value, json};

use super::scene::Scene;
use crate::wire::gitlab::{TOKEN, add};

/// A secret, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Canary {
    pub(super) what: String,
    pub(super) value: String,
}

/// Kinds of variables with a secret: key, whether it is a file, whether it is masked.
const VARIABLES: [(&str, bool, bool); 4] = [
    ("CI_JOB_TOKEN", false, true),
    ("MASKED_CANARY", false, true),
    ("FILE_CANARY", true, true),
    ("QUIET_CANARY", false, false),
];

/// The token of a job. Only its first letters are shown by the helper, as upstream does.
pub(super) fn job_token(id: i64) -> String {
    format!("glcbt-64_tok{id}canaryOfJob{id}x")
}

/// The secret of a variable of a job.
fn secret(id: i64, key: &str) -> String {
    if key == "CI_JOB_TOKEN" {
        job_token(id)
    } else {
        format!("{}-of-{id}-Kq7w", key.to_lowercase())
    }
}

/// Plants secrets of all kinds in a payload, and names them.
pub(super) fn plant(id: i64, mut payload: Value) -> (Value, Vec<Canary>) {
    let mut canaries = vec![canary("runner token", TOKEN)];
    for (key, file, masked) in VARIABLES {
        let value = secret(id, key);
        payload = add(
            payload,
            "variables",
            json!({"key": key, "value": value, "file": file, "masked": masked, "public": false}),
        );
        canaries.push(canary(&format!("{key} of job {id}"), &value));
    }
    let password = format!("registry-password-of-{id}-Kq7w");
    canaries.push(canary(&format!("registry password of job {id}"), &password));
    payload["credentials"] = json!([{
        "type": "registry", "url": "registry.example", "username": "u", "password": password,
    }]);
    (payload, canaries)
}

fn canary(what: &str, value: &str) -> Canary {
    Canary {
        what: what.to_owned(),
        value: value.to_owned(),
    }
}

/// A script that looks at its place as the next job does: what it can read, and what others could.
pub(super) fn next_job() -> [&'static str; 3] {
    [
        "env",
        "find \"$RUNNER_TEMP_PROJECT_DIR\" \"$TMPDIR\" -mindepth 1 ! -type l -perm /077 -printf 'open: %M %p\\n'",
        "for file in ~/.gitconfig ~/.config/git/* .git/config; do test ! -f \"$file\" || cat \"$file\"; done",
    ]
}

/// Fails when one of them is in the text.
pub(super) fn absent(place: &str, text: &[u8], canaries: &[Canary]) {
    for canary in canaries {
        let found = text
            .windows(canary.value.len())
            .any(|window| window == canary.value.as_bytes());
        assert!(
            !found,
            "{} ({}) is in {place}:\n{}",
            canary.what,
            canary.value,
            String::from_utf8_lossy(text)
        );
    }
}

/// Searches all files below a directory of the world, their names too.
pub(super) fn search_files(scene: &Scene, directory: &Path, canaries: &[Canary]) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => panic!("{}: {error}", directory.display()),
    };
    for entry in entries {
        let entry = entry.expect("an entry");
        let path = entry.path();
        let kind = entry.file_type().expect("its kind");
        absent(
            "a file's name",
            path.as_os_str().as_encoded_bytes(),
            canaries,
        );
        if kind.is_dir() {
            search_files(scene, &path, canaries);
        } else if kind.is_file() {
            let mut content = std::fs::read(&path).expect("a file of the world");
            if scene.is_configuration(&path) {
                // It has to hold the runner's token.
                let text = String::from_utf8_lossy(&content).replace(TOKEN, "");
                content = text.into_bytes();
            }
            absent(&path.display().to_string(), &content, canaries);
        }
    }
}
