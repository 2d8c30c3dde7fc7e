//! Other hosts than GitLab's: Git, LFS and object stores, each with an authority that only the runner
//! is told of. GitLab is the strict fake of `wire`; Git, LFS client and stores are those of others.

use std::net::Ipv4Addr;
use std::time::Duration;

use courser_testkit::lfs::{LfsServer, pointer};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::Reply;
use courser_testkit::servers::{GitServer, ObjectStore};
use serde_json::{Value, json};

use super::site::UNKNOWN_AUTHORITY;
use crate::wire::gitlab::{GitLab, Record, add, payload, variable};
use crate::world::{World, run};

/// `gitlab-ci-token:job-token-1`, the credentials of job 1.
const JOB_CREDENTIALS: &str = "Basic Z2l0bGFiLWNpLXRva2VuOmpvYi10b2tlbi0x";

/// Neither GitLab's host (`localhost`) nor Git's (127.0.0.1).
const STORE_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const HOUR: Duration = Duration::from_secs(3600);

/// A GitLab, and an authority for it.
struct Hosts {
    world: World,
    gitlab: GitLab,
    root: Issued,
}

impl Hosts {
    fn start() -> Self {
        let root = Authority::root("GitLab Root").issue();
        Self {
            world: World::new(),
            gitlab: GitLab::https(&server(&root)),
            root,
        }
    }

    /// Runs job 1 with a runner that is told of these authorities, beside GitLab's own.
    fn run(&self, authorities: &[&Issued], more: &str, job: &Value) -> Record {
        let mut bundle = self.root.certificate_pem();
        bundle.extend(authorities.iter().map(|one| one.certificate_pem()));
        let file = self.world.write("home/ca.pem", bundle);
        let keys = format!("  tls-ca-file = \"{}\"\n{more}", file.display());
        self.gitlab.run(&self.world, &keys, job)
    }

    /// A repository `g/p.git` with these files, and its commit.
    fn repository(&self, files: &[(&str, &str)]) -> String {
        self.world.repository("origin/g/p.git", files);
        let sha = self.world.git("origin/g/p.git", &["rev-parse", "HEAD"]);
        sha.trim().to_owned()
    }

    /// Job 1, with this repository on the Git server.
    fn job(&self, git: &GitServer, sha: &str, script: &[&str]) -> Value {
        let mut job = payload(1, script);
        job["variables"] = json!([]);
        let url = git.url_by_name("gitlab-ci-token:job-token-1@127.0.0.1", "/g/p.git");
        job["git_info"]["repo_url"] = json!(url);
        job["git_info"]["sha"] = json!(sha);
        job
    }
}

/// A server certificate for all of loopback.
fn server(root: &Issued) -> Issued {
    root.server(&["localhost", "127.0.0.1", "127.0.0.2"])
        .issue()
}

#[test]
fn t19_git_ssl_no_verify_is_for_git_alone() {
    let hosts = Hosts::start();
    let sha = hosts.repository(&[("file.txt", "content\n")]);
    let stranger = Authority::root("Unknown To All").issue();
    let git = GitServer::of(&hosts.world.path("origin"))
        .user("gitlab-ci-token", "job-token-1")
        .start(&server(&stranger));
    let job = hosts.job(&git, &sha, &["cat file.txt"]);
    let refused = hosts.run(&[], "", &job);
    assert_eq!(refused.outcome().0, "failed", "{}", refused.text());
    let text = refused.text();
    for explained in [
        "TLS with 127.0.0.1:",
        UNKNOWN_AUTHORITY,
        "the certificate of CN=Unknown To All",
        "remedy: ",
    ] {
        assert!(text.contains(explained), "{explained}: {text}");
    }
    let warning = "WARNING: GIT_SSL_NO_VERIFY is set";
    assert!(!refused.text().contains(warning), "{}", refused.text());
    let done = hosts.run(&[], "", &variable(job, "GIT_SSL_NO_VERIFY", "true"));
    assert_eq!(done.outcome().0, "success", "{}", done.text());
    assert!(done.text().contains("01O content"), "{}", done.text());
    assert!(done.text().contains(warning), "{}", done.text());
    // The same variable where artifacts are sent.
    let mut upload = hosts
        .world
        .courser(["artifacts-uploader", "--id", "1", "--token", "t"]);
    upload
        .args(["--url", &hosts.gitlab.url(), "--path", "work"])
        .current_dir(hosts.world.path(""))
        .env("GIT_SSL_NO_VERIFY", "true");
    let upload = run(&mut upload);
    assert_eq!(upload.code(), 1, "{}", upload.all());
    assert!(
        upload.stderr.contains(UNKNOWN_AUTHORITY),
        "{}",
        upload.all()
    );
}

#[test]
fn t21_git_on_another_host_and_port_has_the_authority_too() {
    let hosts = Hosts::start();
    let sha = hosts.repository(&[("file.txt", "content\n")]);
    let git = GitServer::of(&hosts.world.path("origin"))
        .user("gitlab-ci-token", "job-token-1")
        .start(&server(&hosts.root));
    // `clone_url` leads there; the payload names GitLab's own address, which serves no Git.
    let mut job = hosts.job(&git, &sha, &["cat file.txt"]);
    let elsewhere = format!("{}/g/p.git", hosts.gitlab.url());
    job["git_info"]["repo_url"] = json!(elsewhere);
    let job = variable(job, "CI_PROJECT_PATH", "g/p");
    let job = add(job, "artifacts", json!({"paths": ["file.txt"]}));
    let clone_url = git.url_by_name("127.0.0.1", "");
    let done = hosts.run(&[], &format!("  clone_url = \"{clone_url}\"\n"), &job);
    assert_eq!(done.outcome().0, "success", "{}", done.text());
    assert_eq!(done.uploads.len(), 1);
}

/// A job whose large file lies in an object store, and the runner's end of it.
fn lfs_job(told: bool) -> Record {
    let hosts = Hosts::start();
    let store_root = Authority::root("Store Root").issue();
    let store = ObjectStore::start(STORE_HOST, &server(&store_root));
    let content = "large\n".repeat(1000);
    let (oid, text) = pointer(content.as_bytes());
    store.put(&format!("lfs/{oid}"), content.as_bytes());
    let href = store.presigned("GET", &format!("lfs/{oid}"), jiff::Timestamp::now(), HOUR);
    let lfs = LfsServer::start(
        Some(JOB_CREDENTIALS),
        |_| true,
        Box::new(move |_, _| (href.clone(), Vec::new())),
    );
    let git = GitServer::of(&hosts.world.path("origin"))
        .user("gitlab-ci-token", "job-token-1")
        .lfs(lfs.address())
        .start(&server(&hosts.root));
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    let sha = hosts.repository(&[(".gitattributes", attributes), ("large.bin", &text)]);
    // What Debian's package does for the system, which a test's world has not.
    let installed = run(hosts
        .world
        .program("git")
        .args(["lfs", "install", "--skip-repo"]));
    assert!(installed.status.success(), "{}", installed.all());
    let mut job = hosts.job(&git, &sha, &["wc -l large.bin"]);
    // The client tries eight times, for a minute.
    for (key, value) in [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "lfs.transfer.maxretries"),
        ("GIT_CONFIG_VALUE_0", "1"),
    ] {
        job = variable(job, key, value);
    }
    let told: &[&Issued] = if told { &[&store_root] } else { &[] };
    let done = hosts.run(told, "", &job);
    assert!(!lfs.requests().is_empty(), "{}", done.text());
    done
}

#[test]
fn t38_lfs_reaches_an_object_store_whose_authority_only_the_runner_was_told() {
    let done = lfs_job(true);
    assert_eq!(done.outcome().0, "success", "{}", done.text());
    assert!(
        done.text().contains("01O 1000 large.bin"),
        "{}",
        done.text()
    );
}

#[test]
fn t38_lfs_names_the_object_store_whose_authority_nobody_knows() {
    let refused = lfs_job(false);
    assert_eq!(refused.outcome().0, "failed", "{}", refused.text());
    let text = refused.text();
    let line = text.lines().find(|line| line.contains(UNKNOWN_AUTHORITY));
    assert!(
        line.is_some_and(|line| line.contains("https://127.0.0.2:")),
        "{text}"
    );
    for explained in ["TLS with 127.0.0.2:", "the certificate of CN=Store Root"] {
        assert!(text.contains(explained), "{explained}: {text}");
    }
}

/// A job that takes artifacts which GitLab has in an object store, and the paths of GitLab's that it asked.
fn direct_download_job(told: bool) -> (Record, Vec<String>) {
    let hosts = Hosts::start();
    let store_root = Authority::root("Store Root").issue();
    let store = ObjectStore::start(STORE_HOST, &server(&store_root));
    // An upload gives an archive to put there.
    let job = add(
        payload(1, &["echo made > made.txt"]),
        "artifacts",
        json!({"paths": ["made.txt"]}),
    );
    let made = hosts.run(&[], "", &job);
    store.put("artifacts/1.zip", &made.uploads[0].content);
    let location = store.presigned("GET", "artifacts/1.zip", jiff::Timestamp::now(), HOUR);
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = std::sync::Arc::clone(&asked);
    hosts.gitlab.on_job(move |request, _| {
        (request.method == "GET").then(|| {
            let direct = request.query.as_deref() == Some("direct_download=true");
            record
                .lock()
                .expect("no panic")
                .push(request.target.clone());
            if direct {
                Reply::redirect(302, &location)
            } else {
                Reply::status(500)
            }
        })
    });
    let mut job = payload(2, &["cat made.txt"]);
    job["dependencies"] = json!([
        {"id": 1, "token": "job-token-1", "name": "build", "artifacts_file": {"filename": "1.zip", "size": 1}},
    ]);
    let job = variable(job, "FF_USE_DIRECT_DOWNLOAD", "true");
    let told: &[&Issued] = if told { &[&store_root] } else { &[] };
    let done = hosts.run(told, "", &job);
    let asked = asked.lock().expect("no panic").clone();
    (done, asked)
}

#[test]
fn t39_a_redirect_to_an_object_store_is_followed_with_the_trust_of_the_runner() {
    let (done, asked) = direct_download_job(true);
    assert_eq!(done.outcome().0, "success", "{}", done.text());
    assert!(done.text().contains("01O made\n"), "{}", done.text());
    assert!(
        asked
            .iter()
            .all(|target| target.ends_with("?direct_download=true")),
        "{asked:?}"
    );
}

#[test]
fn t39_an_object_store_that_is_not_trusted_is_named_and_gitlab_is_asked_next() {
    let (refused, asked) = direct_download_job(false);
    assert_eq!(refused.outcome().0, "failed", "{}", refused.text());
    let text = refused.text();
    let line = text.lines().find(|line| line.contains(UNKNOWN_AUTHORITY));
    assert!(
        line.is_some_and(|line| line.contains("127.0.0.2:")),
        "{text}"
    );
    assert!(
        asked.iter().any(|target| !target.contains('?')),
        "{asked:?}"
    );
}
