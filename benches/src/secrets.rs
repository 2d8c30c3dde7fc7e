//! Thirty secrets of one slow server: from a job's handing out to the last answer that it waits for, and how many requests.
//!
//! The server takes 50 ms for each answer, says yes to every login and has every secret.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply, Request};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::cost::Watched;
use crate::figure::{Figure, Goal, median, side_by_side};
use crate::gitlab::{GitLab, Offer, payload};
use crate::world::World;

const SECRETS: usize = 30;
const LATE: Duration = Duration::from_millis(50);
const JOBS: usize = 9;

/// What the server of secrets has seen of one job.
#[derive(Clone)]
struct Seen {
    handed_out: Instant,
    logins: usize,
    reads: usize,
    last: f64,
    revoked: usize,
}

#[derive(Default)]
struct Ledger(Mutex<Vec<Seen>>);

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (paths, goals) in [(SECRETS, [300.0, 31.0]), (1, [300.0, 2.0])] {
        let own = rows(&arguments.courser, paths)?;
        let peer = arguments.gitlab_runner.as_deref();
        let peer = peer.map(|peer| rows(peer, paths)).transpose()?;
        let goals = goals.map(|goal| Some(Goal::AtMost(goal)));
        figures.extend(side_by_side(own, peer, [goals[0], goals[1], None]));
    }
    Ok(figures)
}

fn rows(program: &Path, paths: usize) -> Result<Vec<Figure>> {
    let world = World::new()?;
    let root = Authority::root("Bench Vault").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let ledger = Arc::new(Ledger::default());
    let seen = Arc::clone(&ledger);
    let vault =
        FakeServer::https_unrecorded_at(Ipv4Addr::LOCALHOST.into(), &leaf, move |request| {
            std::thread::sleep(LATE);
            seen.answer(request)
        });
    let (url, given) = (vault.url(""), Arc::clone(&ledger));
    let gitlab = GitLab::offering(Offer {
        address: Ipv4Addr::LOCALHOST.into(),
        payload: Box::new(move |id, _| {
            let mut job = payload(id, "true", &[]);
            job["secrets"] = secrets(&url, paths);
            given.hand_out();
            job
        }),
        repositories: None,
    });
    let config = gitlab.configure(&world, 1)?;
    let ca = world.write("home/vault.pem", root.certificate_pem())?;
    let mut command = world.command(program);
    command
        .args(["run", "--config", &config])
        .env("VAULT_CACERT", ca);
    gitlab.offer(JOBS);
    let runner = Watched::start(&world, &command)?;
    gitlab.wait_until("the end of the jobs", |progress| progress.succeeded == JOBS)?;
    runner.signal(Signal::SIGQUIT)?;
    runner.finish()?;
    let seen = ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(seen.len() == JOBS, "{} of {JOBS} jobs", seen.len());
    let middle = |value: fn(&Seen) -> f64| median(seen.iter().map(value).collect());
    let what = match paths {
        1 => format!("{SECRETS} secrets of one path, each answer 50 ms late"),
        _ => format!("{SECRETS} secrets of {paths} paths, each answer 50 ms late"),
    };
    Ok(vec![
        Figure::milliseconds(
            format!("{what}: from the job to the last value"),
            middle(|seen| seen.last),
        ),
        Figure::new(
            format!("{what}: requests"),
            "",
            middle(|seen| (seen.logins + seen.reads) as f64),
        ),
        Figure::new(
            format!("{what}: tokens left"),
            "",
            middle(|seen| (seen.logins - seen.revoked) as f64),
        ),
    ])
}

impl Ledger {
    fn hand_out(&self) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push(Seen {
            handed_out: Instant::now(),
            logins: 0,
            reads: 0,
            last: 0.0,
            revoked: 0,
        });
    }

    /// One job at a time: it is the last one's.
    fn answer(&self, request: &Request) -> Reply {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = jobs.last_mut() else {
            return Reply::status(404);
        };
        if request.path.ends_with("/login") {
            job.logins += 1;
            return Reply::json(
                200,
                &json!({"auth": {"client_token": "s.t", "lease_duration": 600, "token_type": "service"}}),
            );
        }
        if request.path.ends_with("/revoke-self") {
            job.revoked += 1;
            return Reply::status(204);
        }
        job.reads += 1;
        job.last = job.handed_out.elapsed().as_secs_f64();
        let fields: Map<String, Value> = (0..SECRETS)
            .map(|number| (format!("field{number}"), json!(format!("value {number}"))))
            .collect();
        Reply::json(200, &json!({"data": {"data": fields}}))
    }
}

fn secrets(url: &str, paths: usize) -> Value {
    let secret = |number: usize| {
        let secret = json!({"vault": {
            "server": {"url": url, "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "a.b.c", "role": "r"}}},
            "engine": {"name": "kv-v2", "path": "ops"},
            "path": format!("path{}", number % paths), "field": format!("field{number}"),
        }, "file": false});
        (format!("SECRET_{number:02}"), secret)
    };
    Value::Object((0..SECRETS).map(secret).collect())
}
