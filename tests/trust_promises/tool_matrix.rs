//! Real tools in one job, each asking a server of the private CA and one of the system's store, with trust for the
//! job's tools and without. The outcomes are the table in `docs/trust.md`.
//!
//! The job and its runner have a mount namespace of their own, in which the system's store is one root.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply, Request};
use courser_testkit::servers;

use crate::world::{PATIENCE, Running, run};

use super::site::Site;

/// As `tools.sh` names them, and as people do.
const TOOLS: [(&str, &str); 12] = [
    ("curl", "curl"),
    ("git", "Git"),
    ("git-lfs", "Git LFS"),
    ("requests", "Python requests"),
    ("pip", "pip"),
    ("node", "Node"),
    ("npm", "npm"),
    ("cargo", "cargo"),
    ("go", "Go"),
    ("java", "Java"),
    ("wget", "wget"),
    ("openssl", "OpenSSL"),
];

const BEGIN: &str = "<!-- begin: tools -->\n";
const END: &str = "<!-- end: tools -->\n";

/// `(tool, server)` to `works`, `refuses` or `breaks`.
type Outcomes = BTreeMap<(String, String), String>;

#[test]
fn each_tool_reaches_the_private_ca_and_the_systems_in_one_job() {
    let public = Authority::root("Public-like Root").issue();
    let certificates = super::site::Certificates::new();
    let private_server = serve(&certificates.root);
    let public_server = serve(&public);
    let script = job_script(&private_server, &public_server);
    let site = Site::start_with(PIPELINE, certificates);
    site.world.write("tools.sh", &script);
    let store = system_store(&site, &public);

    let ca = site.ca_file("tls/root.pem");
    let script = site.world.path("tools.sh");
    let with_script = format!("{ca}\n  environment = [\"TOOLS={}\"]", script.display());
    let on = outcomes(&site, &store, &with_script);
    let off = outcomes(
        &site,
        &store,
        &format!("{with_script}\n  [runners.trust]\n    job_tools = false"),
    );

    for (tool, _) in TOOLS {
        for server in ["private", "system"] {
            let key = (tool.to_owned(), server.to_owned());
            assert_eq!(
                on.get(&key).map(String::as_str),
                Some("works"),
                "{key:?}\n{on:#?}"
            );
        }
        let key = (tool.to_owned(), "private".to_owned());
        assert_eq!(
            off.get(&key).map(String::as_str),
            Some("refuses"),
            "{key:?}\n{off:#?}"
        );
    }
    compare_with_docs(&table(&on, &off));
}

const PIPELINE: &str = r#"
job:
  variables:
    GIT_STRATEGY: none
  script:
    - bash "$TOOLS"
"#;

/// Answers each tool with the least that it takes for an answer.
fn serve(root: &Issued) -> FakeServer {
    let leaf = root.server(&["localhost", "127.0.0.1"]).issue();
    FakeServer::https(&leaf, answer)
}

fn answer(request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    match path {
        "/x" => Reply::text(200, "x"),
        "/repository.git/info/refs" => Reply::with(
            "application/x-git-upload-pack-advertisement",
            200,
            advertisement(),
        ),
        "/lfs/locks" => Reply::with(
            "application/vnd.git-lfs+json",
            200,
            r#"{"locks":[],"next_cursor":""}"#,
        ),
        "/simple/tiny/" => Reply::with(
            "text/html",
            200,
            "<!DOCTYPE html><html><body><a href=\"tiny-1.0.0-py3-none-any.whl\">tiny-1.0.0-py3-none-any.whl</a></body></html>",
        ),
        "/npm/tiny" => Reply::with(
            "application/json",
            200,
            r#"{"name":"tiny","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny","version":"1.0.0","dist":{"tarball":"https://localhost/t.tgz","shasum":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}}}}"#,
        ),
        "/cargo/config.json" => {
            Reply::with("application/json", 200, r#"{"dl":"https://localhost/dl"}"#)
        }
        "/cargo/ti/ny/tiny" => Reply::text(
            200,
            &format!(
                r#"{{"name":"tiny","vers":"1.0.0","deps":[],"cksum":"{}","features":{{}},"yanked":false}}"#,
                "0".repeat(64)
            ),
        ),
        "/go/example.com/tiny/@v/list" => Reply::text(200, "v1.0.0\n"),
        "/go/example.com/tiny/@v/v1.0.0.info" => Reply::with(
            "application/json",
            200,
            r#"{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}"#,
        ),
        "/go/example.com/tiny/@v/v1.0.0.mod" => Reply::text(200, "module example.com/tiny\n"),
        _ => Reply::status(404),
    }
}

/// One branch, in the first version of the protocol.
fn advertisement() -> String {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let first = format!("{} refs/heads/main\0agent=fake\n", "1".repeat(40));
    format!(
        "{}0000{}0000",
        line("# service=git-upload-pack\n"),
        line(&first)
    )
}

fn job_script(private: &FakeServer, system: &FakeServer) -> String {
    let directories = [
        servers::program("python").parent().map(Path::to_path_buf),
        Path::new(env!("CARGO")).parent().map(Path::to_path_buf),
        Some(program_on_path("go")),
    ];
    let path: Vec<_> = directories
        .into_iter()
        .flatten()
        .map(|directory| directory.display().to_string())
        .collect();
    let mut script = include_str!("tools.sh").to_owned();
    // A login shell has its own idea of PATH.
    let calls = format!(
        "PATH={}:$PATH\nask private {}\nask system {}\n",
        path.join(":"),
        private.url_by_name("localhost", ""),
        system.url_by_name("localhost", "")
    );
    script.push_str(&calls);
    script
}

/// The directory of a toolchain that lies elsewhere on each machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the test machine's PATH says where its Go is; nothing else of its environment counts"
)]
fn program_on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|directory| directory.join(name).is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; CONTRIBUTING.md says how"))
}

/// A directory in place of `/etc/ssl/certs`, whose only authority is `root`, made by the machine's own tools.
fn system_store(site: &Site, root: &Issued) -> PathBuf {
    let store = site.world.path("store");
    let pem = root.certificate_pem();
    site.world.write("store/ca-certificates.crt", &pem);
    site.world.write("store/public.pem", &pem);
    std::fs::create_dir_all(store.join("java")).expect("a directory");
    let mut rehash = site.world.program("openssl");
    let rehashed = run(rehash.arg("rehash").arg(&store));
    assert!(rehashed.status.success(), "{}", rehashed.all());
    let mut keytool = site.world.program(servers::program("keytool"));
    keytool
        // The format of Java's own store, which is read without a password.
        .args([
            "-importcert",
            "-noprompt",
            "-storetype",
            "JKS",
            "-alias",
            "public",
            "-storepass",
            "changeit",
            "-keystore",
        ])
        .arg(store.join("java/cacerts"))
        .arg("-file")
        .arg(store.join("public.pem"));
    let imported = run(&mut keytool);
    assert!(imported.status.success(), "{}", imported.all());
    store
}

/// Runs the pipeline with this configuration on a machine with that store.
fn outcomes(site: &Site, store: &Path, config_keys: &str) -> Outcomes {
    site.config(&site.url, config_keys);
    let mut command = site.world.program("unshare");
    command.env_remove("GIT_CONFIG_NOSYSTEM");
    if run(Command::new("id").arg("-u")).stdout != "0\n" {
        command.arg("--map-root-user");
    }
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$1\" /etc/ssl/certs && exec \"$2\" run --config \"$3\"",
            "sh",
        ])
        .arg(store)
        .arg(env!("CARGO_BIN_EXE_courser"))
        .arg(site.world.path("config/config.toml"));
    let _runner = Running::start(&mut command);
    let before = site.logs();
    let pipeline = site.create_pipeline();
    // Two dozen programs, some of them slow to start.
    let outcome = site.outcome_within(4 * PATIENCE, pipeline);
    let logs = site.logs();
    assert_eq!(outcome, "success", "{logs}");
    assert!(!logs.contains(": breaks"), "{logs}");
    logs.lines()
        .filter(|line| !before.contains(*line))
        .filter_map(|line| line.split_once("outcome: "))
        .filter_map(|(_, said)| {
            let (asked, how) = said.trim().split_once(": ")?;
            let (tool, server) = asked.split_once(", ")?;
            Some(((tool.to_owned(), server.to_owned()), how.to_owned()))
        })
        .collect()
}

fn table(on: &Outcomes, off: &Outcomes) -> String {
    let mut table = String::from(
        "| tool | private CA | system's CA | private CA, `job_tools = false` | system's CA, `job_tools = false` |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (tool, shown) in TOOLS {
        let how = |outcomes: &Outcomes, server: &str| {
            let key = (tool.to_owned(), server.to_owned());
            outcomes.get(&key).cloned().unwrap_or_default()
        };
        writeln!(
            table,
            "| {shown} | {} | {} | {} | {} |",
            how(on, "private"),
            how(on, "system"),
            how(off, "private"),
            how(off, "system"),
        )
        .expect("strings take everything");
    }
    table
}

/// The page says what was seen. With `COURSER_UPDATE_TABLES` in the environment it is made to.
#[expect(
    clippy::disallowed_methods,
    reason = "the only way to tell a test something; it decides nothing about the program"
)]
fn compare_with_docs(table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trust.md");
    let text = std::fs::read_to_string(&page).expect("docs/trust.md");
    let (before, rest) = text.split_once(BEGIN).expect("the table has a beginning");
    let (written, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("COURSER_UPDATE_TABLES").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("docs/trust.md");
    } else {
        assert_eq!(
            written, table,
            "docs/trust.md differs from what was seen; COURSER_UPDATE_TABLES=1 cargo test --test binary tool_matrix"
        );
    }
}
