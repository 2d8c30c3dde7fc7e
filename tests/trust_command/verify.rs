//! `courser trust verify`, one question and many.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use courser_testkit::pki::{Authority, Issued};
use serde_json::{Value, json};

use crate::world::{Finished, World, run};

/// A root, an intermediate and a server's certificate, as files of a world.
struct Site {
    world: World,
    root: Issued,
    server: Issued,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let root = Authority::root("Site root").issue();
        let intermediate = root.intermediate("Site intermediate").issue();
        let server = intermediate
            .server(&["gitlab.test", "192.0.2.7", "2001:db8::7"])
            .issue();
        world.write("work/ca.crt", root.certificate_pem());
        world.write("work/chain.crt", server.chain_pem());
        Self {
            world,
            root,
            server,
        }
    }

    /// `trust verify` without the system's roots.
    fn verify(&self, arguments: &[&str]) -> Finished {
        let all = ["trust", "verify"].iter().chain(arguments);
        run(&mut self.world.courser(all))
    }

    fn ask(&self, more: &[&str]) -> Finished {
        let all = ["--ca", "ca.crt", "--no-system", "--chain", "chain.crt"];
        self.verify(&[&all, more].concat())
    }

    fn batch(&self, input: &str) -> (i32, Vec<Value>) {
        let mut command = self.world.courser(["trust", "verify", "--batch", "-"]);
        command.stdin(Stdio::from(self.file(input)));
        let finished = run(&mut command);
        assert_eq!(finished.stderr, "");
        let lines = finished.stdout.lines();
        let answers = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        (finished.code(), answers.collect())
    }

    fn file(&self, text: &str) -> std::fs::File {
        std::fs::File::open(self.world.write("input", text)).expect("just written")
    }
}

#[test]
fn a_good_chain_is_accepted_and_shown() {
    let site = Site::new();
    let finished = site.ask(&["--host", "gitlab.test"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    let text = &finished.stdout;
    assert!(text.starts_with("accepted: gitlab.test at 2"), "{text}");
    assert!(text.contains("2. CN=Site root"), "{text}");
    assert!(text.contains("configured file ca.crt, line 1"), "{text}");
    for host in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]", "GitLab.Test."] {
        assert_eq!(site.ask(&["--host", host]).code(), 0, "{host}");
    }
}

#[test]
fn a_refusal_begins_with_go_s_sentence_and_ends_with_a_remedy() {
    let site = Site::new();
    let finished = site.ask(&["--host", "other.test"]);
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let text = &finished.stdout;
    let sentence = "x509: certificate is valid for gitlab.test, not other.test\n";
    assert!(text.starts_with(sentence), "{text}");
    assert!(text.contains("\nremedy: "), "{text}");
    // Both ways to give a value that looks like an option.
    for host in [&["--host", "-x"][..], &["--host=-x"]] {
        let finished = site.ask(host);
        assert_eq!(finished.code(), 1, "{}", finished.all());
        assert!(finished.stdout.contains(", not -x\n"), "{}", finished.all());
    }
}

#[test]
fn the_time_is_any_time_of_rfc_3339() {
    let site = Site::new();
    let cases = [
        ("2030-06-01T00:00:00Z", 0),
        ("2030-06-01t00:00:00.25z", 0),
        ("2024-01-01T01:00:00+02:00", 1),
        ("2024-01-01T00:00:00+00:00", 0),
        ("2023-12-31T23:59:59-12:00", 0),
        ("1955-11-05T06:00:00Z", 1),
        ("2045-01-01T00:00:00Z", 1),
        ("2030-06-01", 2),
        ("-x", 2),
    ];
    for (at, code) in cases {
        let finished = site.ask(&["--host", "gitlab.test", "--at", at]);
        assert_eq!(finished.code(), code, "{at}: {}", finished.all());
        if code == 1 {
            let sentence = "x509: certificate has expired or is not yet valid: current time ";
            assert!(finished.stdout.starts_with(sentence), "{}", finished.all());
        }
    }
}

#[test]
fn a_client_has_no_name() {
    let site = Site::new();
    let client = site.root.client("runner").issue();
    site.world.write("work/client.crt", client.chain_pem());
    let ask = |more: &[&str]| {
        let all = ["--ca=ca.crt", "--no-system", "--chain=client.crt"];
        site.verify(&[&all, more].concat())
    };
    assert_eq!(ask(&["--purpose", "client"]).code(), 0);
    let named = ask(&["--purpose", "client", "--host", "runner"]);
    assert_eq!(named.code(), 2, "{}", named.all());
    let as_server = ask(&["--host", "runner"]);
    assert_eq!(as_server.code(), 1, "{}", as_server.all());
    let as_client = site.ask(&["--purpose", "client"]);
    assert_eq!(as_client.code(), 1, "{}", as_client.all());
    let sentence = "x509: certificate specifies an incompatible key usage\n";
    assert!(
        as_client.stdout.starts_with(sentence),
        "{}",
        as_client.all()
    );
}

#[test]
fn what_cannot_be_asked_ends_with_2() {
    let site = Site::new();
    let pem = site.root.certificate_pem();
    let marked = format!("\u{feff}{pem}");
    let wide: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let key = site.server.key_pem();
    let cut = &pem[..pem.len() - 30];
    let bad_files: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "is empty"),
        ("text", b"hello\n", "no PEM block"),
        ("der", site.root.der(), "courser trust import"),
        ("utf16", &wide, "iconv"),
        ("marked", marked.as_bytes(), "byte-order mark"),
        ("cut", cut.as_bytes(), "no END line"),
        ("key", key.as_bytes(), "private key"),
    ];
    for (name, bytes, expected) in bad_files {
        site.world.write(&format!("work/{name}"), bytes);
        let finished = site.verify(&["--ca", name, "--chain", "chain.crt", "--host", "h"]);
        assert_eq!(finished.code(), 2, "{name}: {}", finished.all());
        assert!(
            finished.stderr.contains(expected),
            "{name}: {}",
            finished.all()
        );
        assert!(finished.stderr.contains(name), "{name}: {}", finished.all());
    }
    let files = [
        "--ca",
        "der",
        "--chain",
        "chain.crt",
        "--host",
        "h",
        "--json",
    ];
    let finished = site.verify(&files);
    assert_eq!(finished.code(), 2, "{}", finished.all());
    let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(answer["accepted"], json!(false));
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|text| text.starts_with("unusable input: der: "))
    );
    for name in ["empty", "text", "der", "utf16", "cut", "key"] {
        let finished = site.verify(&["--ca", "ca.crt", "--chain", name, "--host", "h"]);
        assert_eq!(finished.code(), 2, "{name}: {}", finished.all());
    }
    let misuses: [&[&str]; 8] = [
        &["trust", "verify"],
        &[
            "trust",
            "verify",
            "--ca",
            "absent",
            "--chain",
            "chain.crt",
            "--host",
            "h",
        ],
        &[
            "trust", "verify", "--ca", "ca.crt", "--chain", "absent", "--host", "h",
        ],
        &["trust", "verify", "--ca", "ca.crt", "--chain", "chain.crt"],
        &[
            "trust",
            "verify",
            "--chain",
            "chain.crt",
            "--host",
            "h",
            "--no-system",
        ],
        &[
            "trust",
            "verify",
            "--chain",
            "chain.crt",
            "--host",
            "h",
            "--purpose",
            "both",
        ],
        &["trust", "verify", "--batch", "-", "--host", "h"],
        &["trust", "no-such-command"],
    ];
    for misuse in misuses {
        let finished = run(&mut site.world.courser(misuse));
        assert_eq!(finished.code(), 2, "{misuse:?}: {}", finished.all());
        assert_eq!(finished.stdout, "", "{misuse:?}");
    }
}

#[test]
fn files_in_the_forms_people_have_are_read() {
    let site = Site::new();
    let (chain, pem) = (site.server.chain_pem(), site.root.certificate_pem());
    let forms = [
        chain.replace('\n', "\r\n"),
        format!("\u{feff}{chain}"),
        format!("a comment\n{}{chain}", site.server.key_pem()),
        site.server.full_chain_pem(),
    ];
    for (number, form) in forms.iter().enumerate() {
        site.world.write("work/chain.crt", form);
        let finished = site.ask(&["--host", "gitlab.test"]);
        assert_eq!(finished.code(), 0, "{number}: {}", finished.all());
    }
    // A damaged block beside a good one is said, and does not count.
    let damaged = format!("{pem}  {pem}");
    site.world.write("work/ca.crt", damaged);
    let finished = site.ask(&["--host", "gitlab.test"]);
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(finished.stderr.contains("indented"), "{}", finished.all());
    // Standard input, as a pipe is.
    let mut command = site.world.courser([
        "trust",
        "verify",
        "--ca",
        "ca.crt",
        "--no-system",
        "--chain",
        "-",
        "--host",
        "gitlab.test",
    ]);
    let finished = run(command.stdin(Stdio::from(site.file(&chain))));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    // Several files add up.
    let other = Authority::root("Other").issue();
    site.world.write("work/other.crt", other.certificate_pem());
    let files = [
        "--ca",
        "other.crt",
        "--ca",
        "ca.crt",
        "--chain",
        "chain.crt",
    ];
    let finished = site.verify(&[&files[..], &["--host", "gitlab.test"]].concat());
    assert_eq!(finished.code(), 0, "{}", finished.all());
}

#[test]
fn warnings_are_coloured_on_a_terminal_only() {
    let site = Site::new();
    let indented = site
        .root
        .certificate_pem()
        .replace("-----BEGIN", "  -----BEGIN");
    site.world
        .write("work/messy.crt", site.root.certificate_pem() + &indented);
    let finished = site.verify(&["--ca", "messy.crt", "--chain", "chain.crt", "--host", "x"]);
    assert!(
        finished.stderr.starts_with("WARNING: "),
        "{}",
        finished.all()
    );
    assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.all());
}

#[test]
fn json_has_the_verdict_the_chains_and_the_remedy() {
    let site = Site::new();
    let accepted = site.ask(&["--host", "gitlab.test", "--json"]);
    let value: Value = serde_json::from_str(&accepted.stdout).expect("JSON");
    assert_eq!(value["accepted"], json!(true));
    assert_eq!(value["error"], Value::Null);
    assert_eq!(value["chains"][0][2]["source"]["line"], json!(1));
    assert_eq!(value["received"].as_array().map(Vec::len), Some(2));
    let refused = site.ask(&[
        "--host",
        "gitlab.test",
        "--at",
        "2050-01-01T00:00:00Z",
        "--json",
    ]);
    assert_eq!(refused.code(), 1);
    let value: Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(value["accepted"], json!(false));
    assert_eq!(value["at"], json!("2050-01-01T00:00:00Z"));
    assert!(
        value["error"]
            .as_str()
            .is_some_and(|text| text.starts_with("x509: "))
    );
    assert!(value["remedy"]["advice"].is_string());
}

#[test]
fn the_system_store_is_trusted_unless_switched_off() {
    let site = Site::new();
    let ask = |more: &[&str]| {
        let files = [
            "trust",
            "verify",
            "--chain",
            "chain.crt",
            "--host",
            "gitlab.test",
        ];
        let mut command = site.world.courser([&files, more].concat());
        run(command.env("SSL_CERT_FILE", site.world.path("work/ca.crt")))
    };
    assert_eq!(ask(&[]).code(), 0);
    let other = Authority::root("Other").issue();
    site.world.write("work/other.crt", other.certificate_pem());
    assert_eq!(ask(&["--ca", "other.crt"]).code(), 0);
    assert_eq!(ask(&["--ca", "other.crt", "--no-system"]).code(), 1);
    let line = json!({"id": 1, "ca": other.certificate_pem(), "chain": site.server.chain_pem(), "host": "gitlab.test"});
    for (more, accepted) in [(&[][..], false), (&["--system"], true)] {
        let words = ["trust", "verify", "--batch", "-"];
        let mut command = site.world.courser([&words, more].concat());
        command
            .env("SSL_CERT_FILE", site.world.path("work/ca.crt"))
            .stdin(Stdio::from(site.file(&line.to_string())));
        let finished = run(&mut command);
        let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(answer["accepted"], json!(accepted), "{}", finished.all());
    }
}

#[test]
fn a_batch_answers_every_line_in_order() {
    let site = Site::new();
    let (ca, chain) = (site.root.certificate_pem(), site.server.chain_pem());
    let good = json!({"id": "good", "ca": ca, "chain": chain, "host": "gitlab.test", "more": [1]});
    let named =
        json!({"id": {"n": 2}, "ca": ca, "chain": chain, "host": "x", "at": null, "purpose": null});
    let (code, answers) = site.batch(&format!("{good}\n\n{named}"));
    assert_eq!(code, 0);
    assert_eq!(
        answers[0],
        json!({"id": "good", "accepted": true, "error": null})
    );
    assert_eq!(answers[1]["id"], json!({"n": 2}));
    let sentence = "x509: certificate is valid for gitlab.test, not x";
    assert_eq!(answers[1]["error"], json!(sentence));

    let unusable = [
        ("[]", Value::Null),
        ("{\"id\": 1", Value::Null),
        ("{\"id\": 2}", json!(2)),
        (
            "{\"id\": 3, \"ca\": 5, \"chain\": \"x\", \"host\": \"h\"}",
            json!(3),
        ),
    ];
    let mut input: String = unusable
        .iter()
        .map(|(line, _)| format!("{line}\n"))
        .collect();
    let mut ids: Vec<Value> = unusable.iter().map(|(_, id)| id.clone()).collect();
    for (id, key, value) in [
        (10, "at", json!("yesterday")),
        (11, "purpose", json!("both")),
        (12, "host", Value::Null),
        (13, "chain", json!("")),
        (14, "ca", json!("hello")),
        (15, "purpose", json!("client")),
    ] {
        let mut line = good.clone();
        line["id"] = json!(id);
        line[key] = value;
        input.push_str(&line.to_string());
        input.push('\n');
        ids.push(json!(id));
    }
    input.push_str(&good.to_string());
    let (code, answers) = site.batch(&input);
    assert_eq!(code, 2);
    assert_eq!(answers.len(), ids.len() + 1);
    for (answer, id) in answers.iter().zip(&ids) {
        assert_eq!(answer["id"], *id);
        assert_eq!(answer["accepted"], json!(false));
        let error = answer["error"].as_str().expect("a text");
        assert!(error.starts_with("unusable input: "), "{error}");
    }
    assert_eq!(answers[ids.len()]["accepted"], json!(true));
}

#[test]
fn a_byte_order_mark_before_a_batch_hides_nothing() {
    let site = Site::new();
    let question = json!({
        "id": "marked",
        "ca": site.root.certificate_pem(),
        "chain": site.server.chain_pem(),
        "host": "gitlab.test",
    });
    let (code, answers) = site.batch(&format!("\u{feff}{question}\r\n\r\n"));
    assert_eq!(code, 0);
    assert_eq!(
        answers,
        [json!({"id": "marked", "accepted": true, "error": null})]
    );
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let site = Site::new();
    let mut input = "x".repeat(17 * 1024 * 1024);
    input.push_str("\n{}\n");
    let (code, answers) = site.batch(&input);
    assert_eq!(code, 2);
    assert_eq!(answers.len(), 2);
    assert!(
        answers[0]["error"]
            .as_str()
            .is_some_and(|text| text.contains("longer than"))
    );
}

#[test]
fn a_batch_answers_while_its_input_is_open() {
    let site = Site::new();
    let mut command = site.world.courser(["trust", "verify", "--batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    for id in 0..3 {
        let line = json!({"id": id, "ca": site.root.certificate_pem(), "chain": site.server.chain_pem(), "host": "gitlab.test"});
        writeln!(input, "{line}").expect("written");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("answered");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer, json!({"id": id, "accepted": true, "error": null}));
    }
    drop(input);
    assert!(child.wait().expect("ended").success());
}

/// The vectors lie beside the project and are not part of it; this test says so when they are absent.
#[test]
fn every_wanted_verdict_is_met_and_both_forms_agree() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trust");
    let mut sampled = 0;
    for name in ["limbo.jsonl.gz", "bettertls.jsonl.gz"] {
        let path = directory.join(name);
        let Ok(file) = std::fs::File::open(&path) else {
            eprintln!("NOT RUN: {} is absent", path.display());
            continue;
        };
        let reader = BufReader::new(flate2::read::GzDecoder::new(file));
        let lines: Vec<String> = reader.lines().map(|line| line.expect("a line")).collect();
        let site = Site::new();
        let (code, answers) = site.batch(&lines.join("\n"));
        assert_eq!((code, answers.len()), (0, lines.len()));
        for (number, (line, answer)) in lines.iter().zip(&answers).enumerate() {
            let case: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(case["id"], answer["id"]);
            let accepted = answer["accepted"] == json!(true);
            match case["want"].as_str() {
                Some("accept") => assert!(accepted, "{answer}"),
                Some("refuse") => assert!(!accepted, "{answer}"),
                _ => {}
            }
            if number % 40 != 0 {
                continue;
            }
            sampled += 1;
            let field = |key: &str| case[key].as_str().unwrap_or_default();
            site.world.write("work/ca.crt", field("ca"));
            site.world.write("work/chain.crt", field("chain"));
            let (at, purpose) = (field("at"), field("purpose"));
            let mut more = vec!["--json", "--at", at, "--purpose", purpose];
            if !field("host").is_empty() {
                more.extend(["--host", field("host")]);
            }
            let finished = site.ask(&more);
            assert_eq!(finished.code(), i32::from(!accepted), "{}", finished.all());
            let single: Value = serde_json::from_str(&finished.stdout).expect("JSON");
            assert_eq!(single["error"], answer["error"], "{}", case["id"]);
        }
    }
    eprintln!("{sampled} cases asked in both forms");
}
