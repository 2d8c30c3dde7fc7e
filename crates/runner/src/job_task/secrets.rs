//! The secrets of one job: resolved before its executor is prepared, given back when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courser_executor::StopSignal;
use courser_job::{Job, messages};
use courser_protocol::{FailureReason, JobVariable};
use courser_secrets::{Leases, Request, Surroundings, resolve};

use crate::log::JobLog;

/// What resolving needs beside the job.
#[derive(Clone)]
pub(crate) struct JobSecrets {
    surroundings: Surroundings,
    leases: Arc<Leases>,
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
    pub(crate) fn new(surroundings: Surroundings, job: i64, log: &JobLog) -> Self {
        let journal = log
            .lease_journal(job, surroundings.ca_file.clone())
            .filter(|_| surroundings.settings.revoke);
        let written = Arc::new(AtomicBool::new(false));
        let leases = match journal {
            Some(journal) => {
                let written = Arc::clone(&written);
                Leases::journaled(move |obtained| {
                    written.store(journal.write(obtained), Ordering::Relaxed);
                })
            }
            None => Leases::default(),
        };
        Self {
            surroundings,
            leases: Arc::new(leases),
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

    /// Gives back what was obtained, and says so in the job's log. What cannot be given back now stays written down.
    pub(super) async fn revoke(&self, log: &JobLog) {
        if self.leases.is_empty() || !self.surroundings.settings.revoke {
            return;
        }
        let done = self.leases.revoke(&self.surroundings).await;
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
    }
}
