//! `id_tokens` and `secrets` (`secrets.md` 1): forms, GitLab's errors, and what lint says beyond them.

use courser_pipeline::{Event, evaluate};
use serde_json::{Value, json};

use crate::world::{check_error, push_to_main, tree};

/// The first job of the file, as `list --json` shows it.
fn job(root: &str) -> Value {
    let pipeline = evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main());
    let pipeline = pipeline.unwrap_or_else(|found| panic!("{root}: {:?}", found.errors));
    serde_json::to_value(&pipeline.jobs[0]).unwrap_or_default()
}

/// Warnings for an event, as `line:column: text`.
fn warnings_for(event: &Event, root: &str) -> Vec<String> {
    let pipeline = evaluate(".gitlab-ci.yml", &tree(root, &[]), event);
    let pipeline = pipeline.unwrap_or_else(|found| panic!("{root}: {:?}", found.errors));
    let warnings = pipeline.warnings.iter();
    warnings
        .map(|found| format!("{}:{}: {}", found.line, found.column, found.message))
        .collect()
}

/// Warnings where every provider's variables are set.
fn warnings(root: &str) -> Vec<String> {
    let mut event = push_to_main();
    let set = |name: &&str| ((*name).to_owned(), "set".to_owned());
    event.pipeline_variables = ["VAULT_SERVER_URL", "AWS_REGION", "GCP_PROJECT_NUMBER"]
        .iter()
        .map(set)
        .collect();
    warnings_for(&event, root)
}

fn secret(text: &str) -> Value {
    let root =
        format!("j:\n  id_tokens: {{T: {{aud: a}}}}\n  secrets:\n    S: {text}\n  script: x\n");
    job(&root)["secrets"]["S"].clone()
}

#[test]
fn audiences_keep_their_form_and_defaults_are_replaced_as_a_whole() {
    let root = "default: {id_tokens: {A: {aud: a}, B: {aud: b}}}\nj: {script: x, id_tokens: {Z: {aud: [z, $Y]}, C: {aud: [c]}}}";
    assert_eq!(
        job(root)["id_tokens"],
        json!({"Z": {"aud": ["z", "$Y"]}, "C": {"aud": ["c"]}})
    );
    let inherited = "default: {id_tokens: {A: {aud: a}}}\nj: {script: x}";
    assert_eq!(job(inherited)["id_tokens"], json!({"A": {"aud": "a"}}));
    for none in [
        "default: {id_tokens: {A: {aud: a}}}\nj: {script: x, inherit: {default: false}}",
        "default: {id_tokens: {A: {aud: a}}}\nj: {script: x, inherit: {default: [image]}}",
        "default: {id_tokens: {A: {aud: a}}}\nj: {script: x, id_tokens: {}}",
    ] {
        assert_eq!(job(none)["id_tokens"], Value::Null, "{none}");
    }
    let merged =
        ".x: {id_tokens: {A: {aud: a}}}\nj: {extends: .x, script: x, id_tokens: {B: {aud: b}}}";
    assert_eq!(
        job(merged)["id_tokens"],
        json!({"A": {"aud": "a"}, "B": {"aud": "b"}})
    );
}

#[test]
fn tokens_and_secrets_stand_in_the_order_of_the_file() {
    let root = "j: {script: x, id_tokens: {Z: {aud: a}, A: {aud: a}}, secrets: {Z: {vault: a/b, token: $Z}, B: {vault: a/b, token: $Z}, A: {vault: a/b, token: $A}}}";
    let pipeline = evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main()).unwrap();
    let job = &pipeline.jobs[0];
    let tokens: Vec<&str> = job
        .id_tokens
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let secrets: Vec<&str> = job.secrets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((tokens, secrets), (vec!["Z", "A"], vec!["Z", "B", "A"]));
}

#[test]
fn short_forms_of_vault_split_at_the_last_at_and_the_last_slash() {
    for (text, mount, path, field) in [
        (
            "production/db/password@ops",
            "ops",
            "production/db",
            "password",
        ),
        (
            "production/db/password",
            "kv-v2",
            "production/db",
            "password",
        ),
        ("db/password@team/kv", "team/kv", "db", "password"),
        ("a@b/c/pw@ops", "ops", "a@b/c", "pw"),
        ("password@ops", "ops", "", "password"),
    ] {
        assert_eq!(
            secret(&format!("{{vault: {text}, file: false}}")),
            json!({"vault": {"engine": {"name": "kv-v2", "path": mount}, "path": path, "field": field}, "file": false}),
            "{text}"
        );
    }
}

#[test]
fn every_provider_has_its_long_form() {
    let engine = "{vault: {engine: {name: generic, path: artifactory}, path: production/jfrog, field: access_token}, token: $T}";
    for (text, expected) in [
        (
            engine,
            json!({"vault": {"engine": {"name": "generic", "path": "artifactory"}, "path": "production/jfrog", "field": "access_token"}, "token": "$T"}),
        ),
        (
            "{gcp_secret_manager: {name: key}, token: $T}",
            json!({"gcp_secret_manager": {"name": "key", "version": "latest"}, "token": "$T"}),
        ),
        (
            "{gcp_secret_manager: {name: key, version: 3}, token: $T, file: true}",
            json!({"gcp_secret_manager": {"name": "key", "version": "3"}, "token": "$T", "file": true}),
        ),
        (
            "{azure_key_vault: {name: cert}}",
            json!({"azure_key_vault": {"name": "cert", "version": null}}),
        ),
        (
            "{aws_secrets_manager: 'app/db#password'}",
            json!({"aws_secrets_manager": {"secret_id": "app/db", "field": "password"}}),
        ),
        (
            "{aws_secrets_manager: 'arn:aws:secretsmanager:eu-west-1:1:secret:a'}",
            json!({"aws_secrets_manager": {"secret_id": "arn:aws:secretsmanager:eu-west-1:1:secret:a"}}),
        ),
        (
            "{aws_secrets_manager: {secret_id: a, region: r, version_id: v, version_stage: s, role_arn: n, role_session_name: m, field: f}}",
            json!({"aws_secrets_manager": {"secret_id": "a", "region": "r", "version_id": "v", "version_stage": "s", "role_arn": "n", "role_session_name": "m", "field": "f"}}),
        ),
        (
            "{gitlab_secrets_manager: {name: KEY, source: group/a/b}}",
            json!({"gitlab_secrets_manager": {"name": "KEY", "source": "group/a/b"}}),
        ),
        // An empty provider counts as absent.
        (
            "{vault: a/b, azure_key_vault: , aws_secrets_manager: ''}",
            json!({"vault": {"engine": {"name": "kv-v2", "path": "kv-v2"}, "path": "a", "field": "b"}}),
        ),
    ] {
        assert_eq!(secret(text), expected, "{text}");
    }
}

#[test]
fn texts_are_gitlabs() {
    let one_of = "config must use exactly one of these keys: vault, azure_key_vault, gcp_secret_manager, akeyless, gitlab_secrets_manager, aws_secrets_manager";
    let manager = "S:gitlab_secrets_manager source must follow the format 'group/group_full_path' or 'project'";
    for (keyword, expected) in [
        (
            "id_tokens: x",
            "1:27: jobs:j:id_tokens config should be a hash",
        ),
        (
            "id_tokens: {T: x}",
            "1:31: jobs:j:id_tokens:T config should be a hash",
        ),
        (
            "id_tokens: {T: {aud: a, sub: b}}",
            "1:40: jobs:j:id_tokens:T config contains unknown keys: sub",
        ),
        (
            "id_tokens: {T: {}}",
            "1:28: jobs:j:id_tokens:T config missing required keys: aud",
        ),
        (
            "id_tokens: {T: {aud: 1}}",
            "1:37: jobs:j:id_tokens:T aud should be an array of strings or a string",
        ),
        ("secrets: x", "1:25: jobs:j:secrets config should be a hash"),
        (
            "secrets: {S: {file: true}}",
            &format!("1:26: jobs:j:secrets:S {one_of}"),
        ),
        (
            "secrets: {S: {vault: a/b, akeyless: {name: a}}}",
            &format!("1:26: jobs:j:secrets:S {one_of}"),
        ),
        (
            "secrets: {S: {vault: a/b, files: x}}",
            "1:42: jobs:j:secrets:S config contains unknown keys: files",
        ),
        (
            "secrets: {S: {vault: a/b, file: 1}}",
            "1:48: jobs:j:secrets:S:file config should be a boolean value",
        ),
        (
            "secrets: {S: {vault: a/b, token: [a]}}",
            "1:49: jobs:j:secrets:S token should be a string",
        ),
        (
            "secrets: {S: {vault: [a]}}",
            "1:37: jobs:j:secrets:S:vault config should be a hash or a string",
        ),
        (
            "secrets: {S: {vault: {path: a}}}",
            "1:37: jobs:j:secrets:S:vault config missing required keys: engine, field",
        ),
        (
            "secrets: {S: {vault: {engine: {name: a}, path: a, field: b}}}",
            "1:46: jobs:j:secrets:S:vault:engine config missing required keys: path",
        ),
        (
            "secrets: {S: {vault: {engine: x, path: a, field: b}}}",
            "1:46: jobs:j:secrets:S:vault:engine config should be a hash",
        ),
        (
            "secrets: {S: {vault: {engine: {name: a, path: b}, path: a, field: 1}}}",
            "1:82: jobs:j:secrets:S:vault field should be a string",
        ),
        (
            "secrets: {S: {gcp_secret_manager: {name: a}}}",
            "1:26: jobs:j:secrets:S token is required with gcp secrets manager",
        ),
        (
            "secrets: {S: {gcp_secret_manager: a, token: $T}}",
            "1:50: jobs:j:secrets:S:gcp_secret_manager config should be a hash",
        ),
        (
            "secrets: {S: {azure_key_vault: {version: a}}}",
            "1:47: jobs:j:secrets:S:azure_key_vault config missing required keys: name",
        ),
        (
            "secrets: {S: {aws_secrets_manager: 'a#b#c'}}",
            "1:51: jobs:j:secrets:S:aws_secrets_manager config must contain at most one '#'",
        ),
        (
            "secrets: {S: {aws_secrets_manager: {field: a}}}",
            "1:51: jobs:j:secrets:S:aws_secrets_manager config missing required keys: secret_id",
        ),
        (
            "secrets: {S: {gcp_secret_manager: {name: a, version: a-1}, token: $T}}",
            "1:69: jobs:j:secrets:S:gcp_secret_manager version must be an alphanumeric string",
        ),
        (
            "secrets: {S: {gitlab_secrets_manager: {name: a, source: b}}}",
            &format!("1:72: jobs:j:secrets:{manager}"),
        ),
    ] {
        check_error(&format!("j: {{script: x, {keyword}}}"), expected);
    }
    check_error(
        "j: {trigger: p, secrets: {S: {vault: a/b}}}",
        "1:17: jobs:j config contains unknown keys: secrets",
    );
    check_error(
        "default: {secrets: {S: {vault: a/b}}}\nj: {script: x}",
        "1:11: default config contains unknown keys: secrets",
    );
}

#[test]
fn tokens_below_secrets_are_told_where_they_belong() {
    let root = "j: {script: x, secrets: {id_tokens: {T: {aud: a}}}}";
    let found = evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main()).unwrap_err();
    let detail = found.errors.iter().find_map(|error| error.detail.clone());
    let detail = detail.unwrap_or_default();
    assert!(detail.contains("beside secrets, not below it"), "{detail}");
    // What no runner reads is called by its name.
    let evaluated =
        |root: &str| evaluate(".gitlab-ci.yml", &tree(root, &[]), &push_to_main()).unwrap_err();
    let found = evaluated("j: {script: x, secrets: {S: {aws_ssm: /a}}}");
    let mut details = found
        .errors
        .iter()
        .filter_map(|error| error.detail.as_deref());
    assert!(
        details.any(|detail| detail.contains("Parameter Store")),
        "{:?}",
        found.errors
    );
    let found = evaluated(
        "j: {script: x, secrets: {S: {gcp_secret_manager: {name: a, service_account: b}, token: $T}}}",
    );
    let mut told = found
        .warnings
        .iter()
        .map(|warning| warning.message.as_str());
    assert!(
        told.any(|text| text.contains("(impersonation)")),
        "{:?}",
        found.warnings
    );
}

#[test]
fn what_gitlab_accepts_and_cannot_work_is_warned_of() {
    let vault = "vault: a/b";
    for (keywords, expected) in [
        (
            format!("id_tokens: {{T: {{aud: a}}}}, secrets: {{S: {{{vault}, token: T}}}}"),
            "1:75: jobs:j:secrets:S token has no $ and would be sent as it is: write $T",
        ),
        (
            format!("id_tokens: {{T: {{aud: a}}}}, secrets: {{S: {{{vault}, token: '${{U}}'}}}}"),
            "1:75: jobs:j:secrets:S token names $U, but id_tokens of the job are T",
        ),
        (
            format!("secrets: {{S: {{{vault}, token: $U}}}}"),
            "1:49: jobs:j:secrets:S token names $U, but the job has no id_tokens",
        ),
        (
            format!("secrets: {{S: {{{vault}}}}}"),
            "1:26: jobs:j:secrets:S has no token to authenticate with: the job has no id_tokens",
        ),
        (
            format!("id_tokens: {{T: {{aud: a}}, U: {{aud: a}}}}, secrets: {{S: {{{vault}}}}}"),
            "1:65: jobs:j:secrets:S has no token: the first one of T, U is taken",
        ),
        (
            "secrets: {S: {aws_secrets_manager: a}}".to_owned(),
            "1:26: jobs:j:secrets:S has no token, and the job has no ID token AWS_ID_TOKEN: the runner's own identity in AWS would be used",
        ),
        (
            "id_tokens: {MY-TOKEN: {aud: a}}".to_owned(),
            "1:28: jobs:j:id_tokens:MY-TOKEN is no name of a variable: the job's shell refuses it",
        ),
        (
            "id_tokens: {T: {aud: [a]}}".to_owned(),
            "1:37: jobs:j:id_tokens:T aud is a list of one and stays a list in the token; some providers compare it with a text, so write aud: TEXT",
        ),
        (
            "secrets: {S: {gitlab_secrets_manager: {name: a-b}}}".to_owned(),
            "1:61: jobs:j:secrets:S:gitlab_secrets_manager name can be no secret's there: letters, digits and _ only",
        ),
        (
            "secrets: {S: {akeyless: {name: a}}}".to_owned(),
            "1:40: jobs:j:secrets:S:akeyless no runner resolves it: the job fails",
        ),
        (
            "id_tokens: {AWS_ID_TOKEN: {aud: a}}, secrets: {S: {aws_secrets_manager: 'arn:aws:ssm:eu-west-1:1:parameter/x'}}".to_owned(),
            "1:88: jobs:j:secrets:S:aws_secrets_manager parameters of AWS Systems Manager (Parameter Store) are read by no runner: store it \
             in Secrets Manager and write aws_secrets_manager",
        ),
    ] {
        assert_eq!(
            warnings(&format!("j: {{script: x, {keywords}}}")),
            [expected]
        );
    }
    let fine = "j: {script: x, id_tokens: {T: {aud: a}, AWS_ID_TOKEN: {aud: a}}, secrets: {S: {vault: a/b, token: $T}, A: {aws_secrets_manager: a}}}";
    assert_eq!(warnings(fine), [""; 0]);
}

#[test]
fn an_id_token_below_a_variable_of_its_name_is_told_of_at_its_line() {
    let root = "variables: {ONE: x}\ndefault:\n  id_tokens:\n    ONE: {aud: a}\nj:\n  script: x\nk:\n  script: x\n  \
                variables: {TWO: y}\n  id_tokens:\n    THREE: {aud: a}\n    TWO: {aud: a}\n";
    let hidden = "is hidden by the variable of the same name: the job gets the variable's value and no token; give one of \
                  them another name";
    assert_eq!(
        warnings_for(&push_to_main(), root),
        [
            format!("4:5: jobs:j:id_tokens:ONE {hidden}"),
            format!("12:5: jobs:k:id_tokens:TWO {hidden}"),
        ]
    );
}

#[test]
fn variables_that_a_provider_needs_are_missed_once_a_provider() {
    let root = "j:\n  script: x\n  id_tokens: {T: {aud: a}}\n  variables: {AZURE_TENANT_ID: t, AZURE_CLIENT_ID: ''}\n  secrets:\n    S: {vault: a/b}\n    R: {vault: a/c}\n    A: {azure_key_vault: {name: a}}\n";
    assert_eq!(
        warnings_for(&push_to_main(), root),
        [
            "5:3: jobs:j:secrets:S vault needs the CI/CD variable VAULT_SERVER_URL: without it the job fails (secrets_provider_not_found)",
            "5:3: jobs:j:secrets:A azure_key_vault needs the CI/CD variables AZURE_KEY_VAULT_SERVER_URL, AZURE_CLIENT_ID: without them the job fails (secrets_provider_not_found)",
        ]
    );
}
