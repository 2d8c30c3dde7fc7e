//! One scenario: a world, a strict GitLab, a runner, and what has to hold after everything else was asserted.

use std::path::Path;
use std::process::{Command, ExitStatus};

use courser_testkit::pki::Authority;
use serde_json::{Value, json};

use super::canaries::{self, Canary, job_token};
use super::rendered::rendered;
use super::watched::{Watch, recorders};
use crate::wire::gitlab::{GitLab, Record, crc32, payload};
use crate::wire::sources::git_over_http;
use crate::world::{Finished, Running, World};

/// The next job is asked for when the one before is over, and gets its place.
const ONE_JOB: &str = "  limit = 1\n";

/// The job that is run last, in the place of the others.
const NEXT_JOB: i64 = 99;

/// Where a scenario takes place. When it is dropped, the next job is run and everything is searched for secrets.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) gitlab: GitLab,
    /// Lines of the runner's table.
    more: String,
    /// Further variables of runners.
    environment: Vec<(String, String)>,
    canaries: Vec<Canary>,
    /// Of the repository that is served, as logs show it.
    commit: String,
    runner: Option<(Running, Watch)>,
    /// What runners printed that have ended, and the arguments of their processes.
    printed: Vec<String>,
    arguments: Vec<u8>,
}

impl Scene {
    /// A plain server.
    pub(super) fn new() -> Self {
        Self::with(World::new(), GitLab::http().patient(), String::new())
    }

    /// A server with a certificate of a private CA that the runner is told of.
    pub(super) fn https() -> Self {
        let world = World::new();
        let root = Authority::root("Private Root").issue();
        let leaf = root.server(&["localhost"]).issue();
        let file = world.write("home/ca.pem", root.certificate_pem());
        let trust = format!("  tls-ca-file = \"{}\"\n", file.display());
        Self::with(world, GitLab::https(&leaf).patient(), trust)
    }

    fn with(world: World, gitlab: GitLab, more: String) -> Self {
        recorders(&world);
        std::fs::create_dir(world.path("tmp")).expect("a directory of the world");
        Self {
            world,
            gitlab,
            more: format!("{ONE_JOB}{more}"),
            environment: Vec::new(),
            canaries: Vec::new(),
            commit: "no commit".to_owned(),
            runner: None,
            printed: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Lets jobs run at the same time. Usually they follow each other in one place.
    pub(super) fn allow_many_jobs(&mut self) {
        self.more = self.more.replace(ONE_JOB, "");
    }

    /// More lines for the runner's table.
    pub(super) fn configure(&mut self, lines: &str) {
        self.more.push_str(lines);
    }

    /// A variable of the runner's process.
    pub(super) fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A job without sources, with secrets in it.
    pub(super) fn job(&mut self, id: i64, script: &[&str]) -> Value {
        let mut job = payload(id, script);
        let token = job_token(id);
        let url = format!("http://gitlab-ci-token:{token}@gitlab.example/g/p.git");
        job["token"] = json!(token);
        job["git_info"]["repo_url"] = json!(url);
        let (job, planted) = canaries::plant(id, job);
        self.canaries.extend(planted);
        job
    }

    /// Serves a repository `g/p.git` with these files to the jobs of the scene; gives its commit.
    pub(super) fn repository(&mut self, files: &[(&str, &str)]) -> String {
        self.world.repository("origin/g/p.git", files);
        let accepts = |token: &str| token.contains("canaryOfJob");
        self.gitlab
            .elsewhere(git_over_http(self.world.path("origin"), accepts));
        let head = self.world.git("origin/g/p.git", &["rev-parse", "HEAD"]);
        head[..8].clone_into(&mut self.commit);
        head.trim().to_owned()
    }

    /// A job of that repository.
    pub(super) fn job_with_sources(&mut self, id: i64, sha: &str, script: &[&str]) -> Value {
        let mut job = self.job(id, script);
        let login = format!("://gitlab-ci-token:{}@", job_token(id));
        let url = format!("{}/g/p.git", self.gitlab.url());
        job["git_info"]["repo_url"] = json!(url.replacen("://", &login, 1));
        job["git_info"]["sha"] = json!(sha);
        let variables = job["variables"].as_array_mut().expect("a list");
        variables.retain(|variable| variable["key"] != "GIT_STRATEGY");
        job
    }

    /// Makes job `id` one that has ended and left an archive with these files; gives the archive.
    pub(super) fn archive_of(&mut self, id: i64, files: &[(&str, &str)]) -> Vec<u8> {
        let job = self.job(id, &["true"]);
        let archive = zip(files);
        self.gitlab.ended(&job, archive.clone());
        archive
    }

    /// The `dependencies` of a job that needs those.
    pub(super) fn dependencies(ids: &[i64]) -> Value {
        let entry = |id: &i64| {
            json!({"id": id, "token": job_token(*id), "name": format!("build {id}"),
                   "artifacts_file": {"filename": "artifacts.zip", "size": 1}})
        };
        ids.iter().map(entry).collect()
    }

    /// One more secret that may be nowhere.
    pub(super) fn secret(&mut self, what: &str, value: &str) {
        self.canaries.push(Canary {
            what: what.to_owned(),
            value: value.to_owned(),
        });
    }

    /// Runs a job to its end, with the runner that is there or a new one.
    pub(super) fn run(&mut self, job: &Value) -> Record {
        self.gitlab.queue(job);
        self.runner();
        self.gitlab.finished(job["id"].as_i64().expect("an id"))
    }

    /// Job 1 succeeds, and its log is that of a job for which all goes well.
    pub(super) fn runs_a_job_as_ever(&mut self) -> Record {
        let job = self.job(1, &["echo ran"]);
        let job = self.run(&job);
        assert_eq!(job.outcome(), success());
        let expected = "\
            (started, no sources)\n\
            == step_script\n\
            O <green>$ echo ran</>\n\
            O ran\n\
            == cleanup_file_variables\n\
            . <green>Job succeeded</>\n";
        assert_eq!(self.log(&job), expected);
        job
    }

    /// The runner, started when there is none.
    pub(super) fn runner(&mut self) -> &mut Running {
        if self.runner.is_none() {
            let mut command = self.gitlab.runner_command(&self.world, &self.more);
            self.surround(&mut command);
            let running = Running::start(&mut command);
            let watch = Watch::start(running.id());
            self.runner = Some((running, watch));
        }
        &mut self.runner.as_mut().expect("it is there").0
    }

    /// Waits for the end of the runner; gives its exit code, -1 for a signal.
    pub(super) fn runner_ends(&mut self) -> i32 {
        self.runner_exits().code().unwrap_or(-1)
    }

    /// Waits for the end of the runner.
    pub(super) fn runner_exits(&mut self) -> ExitStatus {
        let (mut running, watch) = self.runner.take().expect("a runner");
        let status = running.end();
        self.gitlab.runner_is_gone();
        self.printed.push(running.rest());
        self.arguments.extend(watch.seen());
        status
    }

    /// Runs a job with `run-single`; gives what is known of both.
    pub(super) fn run_single(&mut self, job: &Value, more: &[&str]) -> (Record, Finished) {
        self.gitlab.queue(job);
        let finished = self.single(more);
        let job = self.gitlab.finished(job["id"].as_i64().expect("an id"));
        (job, finished)
    }

    /// `run-single` for one job at most.
    pub(super) fn single(&mut self, more: &[&str]) -> Finished {
        let mut command = self.world.courser(["run-single", "--executor", "shell"]);
        command
            .args(["--name", "wire", "--url", &self.gitlab.url()])
            .args(["--max-builds", "1"])
            .args(more)
            // As the documentation has it: the token is no argument.
            .env("CI_SERVER_TOKEN", crate::wire::gitlab::TOKEN);
        self.surround(&mut command);
        let finished = crate::world::run(&mut command);
        self.gitlab.runner_is_gone();
        self.printed.push(finished.all());
        finished
    }

    fn surround(&self, command: &mut Command) {
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.world.path("recorders").display()
        );
        command
            .env("PATH", path)
            .env("TMPDIR", self.world.path("tmp"))
            .envs(self.environment.iter().cloned());
    }

    /// The log of a job as scenarios write it down.
    pub(super) fn log(&self, job: &Record) -> String {
        rendered(self, job)
    }

    /// A text without what differs from world to world.
    pub(super) fn placeless(&self, text: &str) -> String {
        let mut text = text.replace(&self.gitlab.url(), "<gitlab>");
        let root = self.world.path("");
        let root = root.to_string_lossy().trim_end_matches('/').to_owned();
        text = text.replace(&root, "<world>");
        for shown in [&self.commit[..], &self.commit[..7]] {
            text = text.replace(shown, "<commit>");
        }
        if let Some(rest) = text.strip_prefix("Running on ") {
            assert!(rest.ends_with("..."), "{text}");
            return "Running on <host>...".to_owned();
        }
        for (before, placeholder) in [
            ("Running with gitlab-runner ", "<version>"),
            ("system ID: ", "<system id>"),
            ("pid</>=", "<pid>"),
            ("revision</>=", "<revision>"),
            ("version</>=", "<version>"),
            ("correlation_id</>=", "<id>"),
            ("Gitaly correlation ID: ", "<id>"),
            ("beside the system's ", "<number>"),
        ] {
            text = masked_word(&text, before, placeholder);
        }
        text
    }

    /// Whether it is the file that has to hold the runner's token.
    pub(super) fn is_configuration(&self, path: &Path) -> bool {
        path == self.world.path("home/config.toml")
    }

    /// Runs the next job in the same place, ends the runner, and searches.
    fn close(&mut self) {
        let job = self.job(NEXT_JOB, &canaries::next_job());
        self.gitlab.queue(&job);
        self.gitlab.serve_as_usual();
        self.runner();
        let next = self.gitlab.finished(NEXT_JOB);
        let log = String::from_utf8_lossy(&next.log);
        assert_eq!(next.outcome().0, "success", "{log}");
        if let Some((running, _)) = &self.runner {
            running.signal("QUIT");
            assert_eq!(self.runner_ends(), 0, "{}", self.printed.join("\n"));
        }
        self.search(&next);
    }

    fn search(&mut self, next: &Record) {
        let text = String::from_utf8_lossy(&next.log);
        assert!(!text.contains("O open: "), "{text}");
        // The next job sees its own secrets in its environment, and nobody else's.
        let foreign: Vec<Canary> = self
            .canaries
            .iter()
            .filter(|canary| !canary.what.ends_with(&format!("of job {NEXT_JOB}")))
            .cloned()
            .collect();
        canaries::absent("the next job", &next.log, &foreign);
        for printed in &self.printed {
            canaries::absent(
                "what the runner printed",
                printed.as_bytes(),
                &self.canaries,
            );
        }
        self.arguments
            .extend(std::fs::read(self.world.path("arguments")).expect("recorded arguments"));
        let shell = self.arguments.windows(5).any(|window| window == b"sh -l");
        assert!(shell, "the recorders saw nothing");
        canaries::absent("arguments", &self.arguments, &self.canaries);
        for job in self.gitlab.records() {
            if job.payload["id"] != NEXT_JOB {
                canaries::absent("a job's log", &job.log, &self.canaries);
            }
        }
        for directory in ["work", "tmp", "home", "state"] {
            canaries::search_files(self, &self.world.path(directory), &self.canaries);
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}

/// Replaces the word after `before`, or the rest of the line for what has several.
fn masked_word(text: &str, before: &str, placeholder: &str) -> String {
    let Some(at) = text.find(before) else {
        return text.to_owned();
    };
    let (head, tail) = text.split_at(at + before.len());
    let end = match before {
        "beside the system's " => tail.find(','),
        _ if before.ends_with('=') => tail.find(' '),
        _ => tail.find("</>"),
    };
    let end = end.unwrap_or(tail.len());
    format!("{head}{placeholder}{}", &tail[end..])
}

/// A zip archive with stored entries, written down by hand: not the code that is tested.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut entries, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = u32::try_from(entries.len()).expect("a small archive");
        let length = u32::try_from(content.len()).expect("a small file");
        let mut common = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x58].to_vec();
        common.extend(crc32(content.as_bytes()).to_le_bytes());
        common.extend([length.to_le_bytes(), length.to_le_bytes()].concat());
        common.extend([u8::try_from(name.len()).expect("a short name"), 0, 0, 0]);
        entries.extend(b"PK\x03\x04");
        entries.extend(&common);
        entries.extend([name.as_bytes(), content.as_bytes()].concat());
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        // No comment, first disk, no attributes, mode 0644.
        directory.extend([0; 6]);
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u8::try_from(files.len()).expect("few files");
    let size = u32::try_from(directory.len()).expect("a small archive");
    let offset = u32::try_from(entries.len()).expect("a small archive");
    let mut archive = [entries, directory].concat();
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([count, 0, count, 0]);
    archive.extend([size.to_le_bytes(), offset.to_le_bytes()].concat());
    archive.extend([0, 0]);
    archive
}

/// State, reason and exit code of a failed job.
pub(super) fn failed(reason: &str, code: i64) -> (String, String, i64) {
    ("failed".to_owned(), reason.to_owned(), code)
}

/// State, reason and exit code of a good job.
pub(super) fn success() -> (String, String, i64) {
    ("success".to_owned(), String::new(), 0)
}
