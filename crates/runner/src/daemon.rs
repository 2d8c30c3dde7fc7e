//! The composition of a running runner: a dispatcher for each `[[runners]]` table, kept in step with
//! the configuration, until it is told to end.

use std::pin::pin;
use std::sync::Arc;

use courser_config::{Config, RunnerConfig};
use courser_protocol::Secret;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dispatch::{Dispatcher, Slots};
use crate::entry::{Connections, Entry, RunnerSettings};
use crate::resume::Resumption;
use crate::shutdown::{Phase, Shutdown};

/// A runner process, or the runner inside `courser exec`.
///
/// Dropping the future of [`Runner::run`] stops everything and kills what jobs started.
pub struct Runner {
    settings: RunnerSettings,
    config: watch::Receiver<Arc<Config>>,
    shutdown: Shutdown,
    slots: Slots,
    connections: Connections,
    served: Vec<Served>,
    dispatchers: JoinSet<()>,
}

/// How a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every job ended and was reported.
    Clean,
    /// Jobs were still there when the time for them was over; they were killed.
    JobsLeft,
}

struct Served {
    url: String,
    token: Secret,
    entry: watch::Sender<Arc<Entry>>,
}

impl Runner {
    /// A runner that follows `config` as it changes, until `shutdown`.
    pub fn new(
        settings: RunnerSettings,
        config: watch::Receiver<Arc<Config>>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            settings,
            config,
            shutdown,
            slots: Slots::new(0),
            connections: Connections::default(),
            served: Vec::new(),
            dispatchers: JoinSet::new(),
        }
    }

    /// Works until told to end.
    pub async fn run(self) -> Ended {
        self.settings.warn();
        let mut resumption = Resumption::new(self.settings.clone(), self.config.clone());
        resumption.look().await;
        let ended = tokio::select! {
            ended = self.serve_until_told() => ended,
            () = resumption.run() => Ended::JobsLeft,
        };
        let pending = resumption.pending();
        if pending > 0 {
            tracing::warn!(
                jobs = pending,
                "some jobs could not be reported; the next start with this configuration goes on"
            );
        }
        ended
    }

    async fn serve_until_told(mut self) -> Ended {
        let mut phase = self.shutdown.subscribe();
        self.apply();
        let mut config_is_followed = true;
        while *phase.borrow_and_update() == Phase::Running {
            tokio::select! {
                changed = self.config.changed(), if config_is_followed => match changed {
                    Ok(()) => self.apply(),
                    Err(_) => config_is_followed = false,
                },
                _ = phase.changed() => {}
                Some(_) = self.dispatchers.join_next(), if !self.dispatchers.is_empty() => {}
            }
        }
        self.end(phase).await
    }

    /// Brings the dispatchers in step with the configuration. A table is the same runner as before by
    /// URL and token; a removed one finishes its jobs.
    fn apply(&mut self) {
        let config = Arc::clone(&self.config.borrow_and_update());
        self.slots.resize(config.concurrent);
        let limits = config.runners.iter();
        let limits = limits.map(|runner| (self.settings.labels_of(runner), runner.limit));
        self.settings
            .metrics
            .configured(config.concurrent, limits.collect());
        let mut before = std::mem::take(&mut self.served);
        for runner in &config.runners {
            let entry = Entry::build(runner, &config, &self.settings, &mut self.connections);
            let known = before
                .iter()
                .position(|served| served.url == runner.url && served.token == runner.token);
            let served = match known {
                Some(position) => {
                    let served = before.remove(position);
                    served.entry.send_replace(Arc::new(entry));
                    served
                }
                None => self.serve(runner, entry),
            };
            self.served.push(served);
        }
        drop(before);
        self.connections.forget_unused();
    }

    fn serve(&mut self, runner: &RunnerConfig, entry: Entry) -> Served {
        let (sender, receiver) = watch::channel(Arc::new(entry));
        let dispatcher = Dispatcher::new(receiver, self.shutdown.subscribe(), self.slots.clone());
        self.dispatchers.spawn(dispatcher.run());
        Served {
            url: runner.url.clone(),
            token: runner.token.clone(),
            entry: sender,
        }
    }

    /// Waits for the jobs, and then for logins of jobs that are over: without limit after a graceful request,
    /// `shutdown_timeout` after a forceful one.
    async fn end(mut self, mut phase: watch::Receiver<Phase>) -> Ended {
        let timeout = self.config.borrow().shutdown_timeout;
        let mut forced = pin!(async {
            let forceful = |phase: &Phase| matches!(phase, Phase::Forceful(_));
            phase.wait_for(forceful).await.ok();
            tokio::time::sleep(timeout).await;
        });
        let spool = self.settings.spool.clone();
        let finished = async { while self.dispatchers.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            () = &mut forced => return Ended::JobsLeft,
        }
        // No job waits for them: the next process tells of those without an answer.
        tokio::select! {
            () = spool.late_answers() => {}
            () = forced => {}
        }
        Ended::Clean
    }
}
