//! The rotation drill: leaf, intermediate and root are changed under a running runner with a job in flight.
//! No job fails, nothing is restarted, and what the old root vouches for is refused once that is taken away.

use std::time::{Duration, Instant};

use courser_testkit::pki::{Authority, Issued};

use crate::world::{Running, eventually};

use super::site::{Certificates, Site, UNKNOWN_AUTHORITY};

/// A change of trust counts within a second, which is printed; the bound is for a machine that is busy with other tests.
const PROMISED: Duration = Duration::from_secs(10);

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// The first job waits in the middle of its script, then uses every leg: Git, the API, artifacts.
const PIPELINE: &str = r#"
stages: [first, second]

make:
  stage: first
  script:
    - touch "$DRILL/started"
    - for i in $(seq 6000); do if [ ! -d "$DRILL" ] || [ -e "$DRILL/go" ]; then break; fi; sleep 0.02; done
    - git fetch --quiet origin
    - curl --silent --show-error --output /dev/null --cacert "$CI_SERVER_TLS_CA_FILE" "$CI_API_V4_URL/version"
    - echo made > made.txt
  artifacts:
    paths: [made.txt]

take:
  stage: second
  script:
    - test "$(cat made.txt)" = made
"#;

struct Drill {
    site: Site,
    runner: Running,
}

impl Drill {
    /// A server with this leaf, and a runner that trusts this root.
    fn start(root: &Issued, leaf: &Issued) -> Self {
        let site = Site::start_with(
            PIPELINE,
            Certificates {
                root: root.clone(),
                leaf: leaf.clone(),
            },
        );
        site.world.write("drill/README", "the jobs' marks");
        site.world
            .write("tls/ca.pem", site.certificates.root.certificate_pem());
        let drill = site.world.path("drill");
        site.config(
            &site.url,
            &format!(
                "{}\n  environment = [\"DRILL={}\"]",
                site.ca_file("tls/ca.pem"),
                drill.display()
            ),
        );
        let runner = Running::start(&mut site.run_command());
        Self { site, runner }
    }

    /// Makes a change while a job is in the middle of its script; the whole pipeline must do well.
    fn with_a_job_in_flight(&mut self, what: &str, change: impl FnOnce(&mut Self)) {
        self.forget_the_last_job();
        let pipeline = self.site.create_pipeline();
        self.wait_until_started(what);
        change(self);
        self.site.world.write("drill/go", "");
        let outcome = self.site.outcome(pipeline);
        assert_eq!(outcome, "success", "{what}: {}", self.site.logs());
    }

    fn forget_the_last_job(&self) {
        for name in ["started", "go"] {
            std::fs::remove_file(self.site.world.path(&format!("drill/{name}"))).ok();
        }
    }

    fn wait_until_started(&self, what: &str) {
        let started = self.site.world.path("drill/started");
        eventually(&format!("{what}: a job has started"), || started.exists());
    }

    /// The server's files, certificate first: for a moment they do not fit.
    fn serve(&self, leaf: &Issued) {
        self.site.world.write("tls/server.pem", leaf.chain_pem());
        self.site.world.write("tls/server.key", leaf.key_pem());
    }

    /// The runner's file. Returns how long it took until the runner uses it.
    fn trust(&mut self, roots: &[&Issued]) -> Duration {
        let text: String = roots.iter().map(|root| root.certificate_pem()).collect();
        let beside = self.site.world.write("tls/ca.pem.new", text);
        let start = Instant::now();
        std::fs::rename(beside, self.site.world.path("tls/ca.pem")).expect("replace the file");
        self.runner.wait_for("trusted certificates");
        start.elapsed()
    }
}

#[test]
fn leaf_intermediate_and_root_are_rotated_under_a_running_runner_and_no_job_fails() {
    let old = Authority::root("Old Root").issue();
    let new = Authority::root("New Root").issue();
    let intermediate = old.intermediate("Intermediate").issue();
    let of_old = intermediate.server(NAMES).issue();
    let of_new = new.intermediate("New Intermediate").issue();
    let of_new = of_new.server(NAMES).issue();
    // The test's own curl knows both all the time.
    let both = old.certificate_pem() + &new.certificate_pem();
    let mut drill = Drill::start(&old, &of_old);
    drill.site.world.write("tls/root.pem", both);

    drill.with_a_job_in_flight("a new leaf", |drill| {
        drill.serve(&intermediate.server(NAMES).issue());
    });
    drill.with_a_job_in_flight("a new intermediate", |drill| {
        let intermediate = old.intermediate("Second Intermediate").issue();
        drill.serve(&intermediate.server(NAMES).issue());
    });
    drill.with_a_job_in_flight("both roots trusted", |drill| {
        drill.trust(&[&old, &new]);
    });
    drill.with_a_job_in_flight("a chain of the new root", |drill| drill.serve(&of_new));
    drill.with_a_job_in_flight("the old root taken away", |drill| {
        let took = drill.trust(&[&new]);
        println!("the runner uses the new trust after {took:?}");
        assert!(took < PROMISED, "it took {took:?}");
    });
    drill.with_a_job_in_flight("nothing changes any more", |_| {});
}

#[test]
fn a_root_that_is_exchanged_all_at_once_reaches_the_job_in_flight() {
    let old = Authority::root("Old Root").issue();
    let new = Authority::root("New Root").issue();
    let mut drill = Drill::start(&old, &old.server(NAMES).issue());
    let both = old.certificate_pem() + &new.certificate_pem();
    drill.site.world.write("tls/root.pem", both);
    // Git, curl and the upload of the artifact come after the exchange, in and behind the script that runs.
    drill.with_a_job_in_flight("another root", |drill| {
        drill.serve(&new.server(NAMES).issue());
        drill.trust(&[&new]);
        drill
            .runner
            .wait_for("the job's certificates were exchanged");
    });
}

#[test]
fn an_old_root_that_is_taken_away_is_refused_within_a_second_and_works_again_when_it_is_back() {
    let (old, other) = (
        Authority::root("Old Root").issue(),
        Authority::root("Other Root").issue(),
    );
    let mut drill = Drill::start(&old, &old.server(NAMES).issue());
    drill.with_a_job_in_flight("all is well", |_| {});

    // The runner waits on a kept connection for what comes next.
    let took = drill.trust(&[&other]);
    assert!(took < PROMISED, "it took {took:?}");
    drill.site.create_pipeline();
    // Whoever brings the job, the first call after it needs a new connection.
    let line = drill.runner.wait_for("couldn't execute");
    assert!(line.contains(UNKNOWN_AUTHORITY), "{line}");

    drill.forget_the_last_job();
    drill.site.create_pipeline();
    let start = Instant::now();
    drill.trust(&[&old]);
    drill.wait_until_started("trusted again");
    let took = start.elapsed();
    println!("from the change of trust to the next job: {took:?}");
    assert!(took < PROMISED, "trust change to next job took {took:?}");
}
