//! A Git server over TLS with a private CA, repositories that have each other as submodules, and LFS.

use std::fs;

use courser_config::Environment;
use courser_helper::{HelperEnvironment, HelperError, HelperRequest};
use courser_job::helper_request::{GetSources, GitStrategy, Submodules};
use courser_protocol::Secret;
use courser_testkit::lfs::{LfsServer, LfsStore, pointer};
use courser_testkit::pki::Authority;
use courser_testkit::servers::GitServer;

use crate::world::{Log, World};

/// `gitlab-ci-token:s3cr3t`.
const AUTHORIZATION: &str = "Basic Z2l0bGFiLWNpLXRva2VuOnMzY3IzdA==";

pub(crate) struct Site {
    pub(crate) world: World,
    git: GitServer,
    _lfs: LfsServer,
    store: LfsStore,
    ca: String,
}

impl Site {
    /// `g/p`, with the submodule `libs/one` (`g/one`, by a relative URL), which has `two` (`g/two`).
    pub(crate) fn start() -> Self {
        let world = World::new();
        let root = Authority::root("Private Root").issue();
        let leaf = root.server(&["localhost", "127.0.0.1"]).issue();
        let store = LfsStore::start(&leaf);
        let lfs = store.batch_api("localhost", Some(AUTHORIZATION));
        let git = GitServer::of(&world.path("srv"))
            .user("gitlab-ci-token", "s3cr3t")
            .lfs(lfs.address())
            .start(&leaf);
        let ca = world.write("ca.pem", root.certificate_pem());
        let site = Self {
            world,
            git,
            _lfs: lfs,
            store,
            ca,
        };
        site.repository("two", &[("two.txt", "two")], &[]);
        site.repository(
            "one",
            &[("one.txt", "one")],
            &[("two", "../two.git", "two")],
        );
        site.repository("p", &[("p.txt", "p")], &[("libs/one", "../one.git", "one")]);
        site
    }

    /// A repository `g/NAME.git` with files, and submodules: path, URL, whose last commit.
    pub(crate) fn repository(
        &self,
        name: &str,
        files: &[(&str, &str)],
        submodules: &[(&str, &str, &str)],
    ) {
        let directory = format!("srv/g/{name}.git");
        fs::create_dir_all(self.world.path(&directory)).expect("directory");
        self.world.git(&directory, &["init", "-q", "-b", "main"]);
        self.world.git(
            &directory,
            &["config", "uploadpack.allowAnySHA1InWant", "true"],
        );
        self.change(name, files, submodules);
    }

    /// Another commit of it.
    pub(crate) fn change(
        &self,
        name: &str,
        files: &[(&str, &str)],
        submodules: &[(&str, &str, &str)],
    ) -> String {
        let directory = format!("srv/g/{name}.git");
        for (file, content) in files {
            self.world.write(&format!("{directory}/{file}"), content);
            self.world.git(&directory, &["add", "--", file]);
        }
        let mut modules = Vec::new();
        for (path, url, of) in submodules {
            modules.push(format!(
                "[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n\tbranch = main\n"
            ));
            let entry = format!("160000,{},{path}", self.head(of));
            self.world.git(
                &directory,
                &["update-index", "--add", "--cacheinfo", &entry],
            );
        }
        if !submodules.is_empty() {
            self.world
                .write(&format!("{directory}/.gitmodules"), modules.concat());
            self.world.git(&directory, &["add", ".gitmodules"]);
        }
        self.world
            .git(&directory, &["commit", "-q", "-m", "change"]);
        self.head(name)
    }

    /// The last commit of a repository.
    pub(crate) fn head(&self, name: &str) -> String {
        self.world
            .git(&format!("srv/g/{name}.git"), &["rev-parse", "HEAD"])
    }

    /// Puts a file into LFS, and its pointer into a repository.
    pub(crate) fn add_lfs(&self, name: &str, file: &str, content: &str) {
        let (oid, pointer) = pointer(content.as_bytes());
        self.store.put(&oid, content.as_bytes());
        let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
        self.change(
            name,
            &[(".gitattributes", attributes), (file, &pointer)],
            &[],
        );
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.git.url_by_name("localhost", path)
    }

    /// The sources of a job of `g/p`, with credentials as the runner writes them.
    pub(crate) fn sources(&self, strategy: GitStrategy) -> GetSources {
        let base = self.url("");
        let with_token = base.replacen("://", "://gitlab-ci-token:s3cr3t@", 1);
        GetSources {
            remote_url: format!("{base}/g/p.git"),
            instead_of: vec![(Secret::new(with_token), base.clone())],
            sha: self.head("p"),
            tls_base: Some(base.clone()),
            remote_base: Some(base),
            tls_ca_file: Some(self.ca.clone()),
            tls_ca_file_only: true,
            ..self.world.sources(strategy)
        }
    }

    /// The same with submodules.
    pub(crate) fn with_submodules(&self, strategy: GitStrategy, recursive: bool) -> GetSources {
        GetSources {
            submodules: Some(Submodules {
                recursive,
                paths: Vec::new(),
                depth: 0,
                update_flags: Vec::new(),
            }),
            ..self.sources(strategy)
        }
    }

    pub(crate) fn environment(&self) -> HelperEnvironment {
        let environment = self.world.environment(&[]);
        // Test machines set it; what counts for the job's Git is this.
        let with_ca = [("GIT_SSL_CAINFO", self.ca.as_str())];
        HelperEnvironment {
            variables: Environment::new(
                [("HOME", "/nonexistent"), ("PATH", "/usr/bin:/bin")]
                    .iter()
                    .chain(&with_ca)
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            ),
            ..environment
        }
    }

    pub(crate) fn run(&self, sources: GetSources) -> (Result<(), HelperError>, Log) {
        let request = HelperRequest::GetSources(Box::new(sources));
        self.world.run_in(&request, &self.environment())
    }

    /// Sources that have to come.
    pub(crate) fn done(&self, sources: GetSources) -> Log {
        let (result, log) = self.run(sources);
        if let Err(error) = result {
            panic!("{error}\n{}\n{}", log.out, log.err);
        }
        log
    }

    /// A file of the checkout.
    pub(crate) fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.world.path("builds/project").join(file)).ok()
    }
}
