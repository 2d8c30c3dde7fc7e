//! The secrets of one job: resolved before its executor is prepared, given back when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_executor::StopSignal;
use courser_job::{Job, messages};
use courser_protocol::{FailureReason, JobVariable};
use courser_secrets::{Leases, Request, Revocation, Surroundings, resolve};

use crate::log::JobLog;
use crate::spool::{LeaseJournal, Spool};

/// For answers that a job does not live to see: that of a request comes in 30 s, or not at all.
const LATE: Duration = Duration::from_secs(35);

/// What resolving needs beside the job.
#[derive(Clone)]
pub(crate) struct JobSecrets {
    surroundings: Surroundings,
    leases: Leases,
    journal: Option<Arc<LeaseJournal>>,
    spool: Spool,
    job: i64,
    /// What was obtained is on the disk: somebody will see to what stays.
    written: Arc<AtomicBool>,
}

/// Why a job gets no secrets.
pub(super) struct Unresolved {
    /// For the job's last line.
    pub(super) message: String,
    pub(super) reason: FailureReason,
}

impl JobSecrets {
    /// What is obtained is written down where the log is kept, if it is to be revoked.
    pub(crate) fn new(surroundings: Surroundings, job: i64, log: &JobLog, spool: Spool) -> Self {
        let journal = log
            .lease_journal(job, surroundings.ca_file.clone())
            .filter(|_| surroundings.settings.revoke)
            .map(Arc::new);
        let written = Arc::new(AtomicBool::new(false));
        let leases = match journal.clone() {
            Some(journal) => {
                let written = Arc::clone(&written);
                Leases::journaled(move |account| {
                    written.store(journal.write(account), Ordering::Relaxed);
                })
            }
            None => Leases::default(),
        };
        Self {
            surroundings,
            leases,
            journal,
            spool,
            job,
            written,
        }
    }

    /// Resolves what the job asks for.
    pub(super) async fn resolve(
        &self,
        job: &Job,
        log: &JobLog,
        stop: &StopSignal,
    ) -> Result<Vec<JobVariable>, Unresolved> {
        let Some(request) = Request::of(job) else {
            return Ok(Vec::new());
        };
        let say = |line: &str| log.say(line);
        let resolving = resolve(&request, &self.surroundings, &self.leases, stop, &say);
        resolving.await.map_err(|failure| {
            for line in &failure.advice {
                log.say(&messages::plain(line));
            }
            Unresolved {
                message: format!("resolving secrets: {failure}"),
                reason: failure.class.reason(),
            }
        })
    }

    /// Gives back what was obtained, and says so in the job's log. What cannot be given back now, or before `over` is
    /// cancelled, stays written down.
    pub(super) async fn revoke(&self, log: &JobLog, over: &StopSignal) {
        if self.leases.is_empty() || !self.surroundings.settings.revoke {
            return;
        }
        let done = self.leases.revoke_until(&self.surroundings, over).await;
        if done.tokens + done.leases + done.ended > 0 {
            log.say(&messages::secrets_revoked(
                done.tokens,
                done.leases,
                done.ended,
            ));
        }
        for failure in &done.failures {
            let again = self.written.load(Ordering::Relaxed);
            log.say(&messages::secrets_not_revoked(failure, again));
        }
        for server in &done.lost {
            log.say(&messages::login_not_answered(server));
        }
        warn_of_lost(self.job, &done.lost);
        if done.under_way > 0 {
            log.say(&messages::revoked_later(done.under_way));
            self.revoke_late();
        }
    }

    /// What is still under way is waited for without the job, and revoked when it comes.
    fn revoke_late(&self) {
        if let Some(journal) = &self.journal {
            journal.outlive_job();
            self.leases.write_again();
        }
        let this = self.clone();
        self.spool.spawn_late(async move {
            let Self {
                surroundings,
                leases,
                journal,
                job,
                ..
            } = this;
            // Whatever has not come by then never will.
            tokio::time::timeout(LATE, leases.settled()).await.ok();
            let done = leases.revoke(&surroundings).await;
            tell_revoked(
                job,
                &done,
                "revoked what came for a job's secrets after its end",
            );
            warn_of_lost(job, &done.lost);
            warn_of_lost(job, &leases.logins());
            for failure in &done.failures {
                tracing::warn!(job, "a token of a job was not revoked: {failure}");
            }
            if let Some(journal) = journal {
                journal.tell_no_logins();
                leases.write_again();
                // What could not be revoked.
                journal.release();
            }
        });
    }
}

/// The runner's log knows them too: whoever looks after the server does not read the jobs'.
/// In the runner's log: `what` was revoked, and how much of it.
pub(crate) fn tell_revoked(job: i64, done: &Revocation, what: &str) {
    tracing::info!(
        job,
        tokens = done.tokens,
        leases = done.leases,
        ended = done.ended,
        "{what}"
    );
}

fn warn_of_lost(job: i64, servers: &[String]) {
    for server in servers {
        tracing::warn!(
            job,
            "a login at {server} got no usable answer: had it made a token, this ends by itself"
        );
    }
}
