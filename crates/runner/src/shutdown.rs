//! How a running runner is told to end (`runner-protocol.md` 6.7). Signals are `cli`'s business: several
//! runners and a coordinator may share the process.

use tokio::sync::watch;

/// What the process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Asking for jobs.
    Running,
    /// No new jobs; those that run may take as long as they need.
    Graceful,
    /// Jobs are aborted, because of this signal (`terminated`, `interrupt`).
    Forceful(String),
}

/// The handle that ends a runner. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A handle whose runner is running.
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
        }
    }

    /// No new jobs; the runner ends with its last one. Changes nothing when it is ending already.
    pub fn gracefully(&self) {
        self.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Graceful;
            }
            running
        });
    }

    /// Aborts all jobs, which end with `aborted: <signal>`. Only the first call counts.
    pub fn forcefully(&self, signal: &str) {
        self.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Forceful(_));
            if first {
                *phase = Phase::Forceful(signal.to_owned());
            }
            first
        });
    }

    /// What the process is doing.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forceful_end_overtakes_a_graceful_one_but_not_the_other_way_round() {
        let shutdown = Shutdown::new();
        shutdown.gracefully();
        assert_eq!(shutdown.phase(), Phase::Graceful);
        shutdown.forcefully("terminated");
        shutdown.gracefully();
        shutdown.forcefully("interrupt");
        assert_eq!(shutdown.phase(), Phase::Forceful("terminated".to_owned()));
    }
}
