//! Whether an Engine is still the process that it was. One that stops takes its containers with it, and their exit codes
//! look like those of scripts; another that has taken its place answers as if nothing had been.
//!
//! The line is a stream of events that never come. It ends with the Engine, also where systemd keeps the socket open and
//! connections wait for the next one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use courser_executor::{Exit, RunError, StopSignal};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError, ErrorClass};

/// A stream that ends sooner says nothing: this Engine does not keep it open.
const LASTING: Duration = Duration::from_secs(1);

/// An Engine that answers so soon after the stream's end is still the same: something on the way closes connections on
/// which nothing is said. One that has ended is not there, or begins anew behind a socket that systemd keeps open.
const SAME: Duration = Duration::from_secs(1);

/// Between two looks at one that may be ending.
const ENDING: Duration = Duration::from_millis(200);

/// A script that fails so soon after the end of a stream may have been ended by the Engine's.
const SUSPECT: Duration = Duration::from_secs(60);

/// How long it is looked at then, and where a signal ended a script: an Engine that ends goes after its last container.
const LOOK: Duration = Duration::from_secs(2);

/// Exit codes above are those of processes that a signal has ended.
const SIGNALS: i32 = 128;

/// How often an Engine is asked before it counts as gone.
const ASKED: u32 = 3;

/// How long an Engine is waited for that went away.
const RETURN: Duration = Duration::from_secs(15);

/// Between two looks for it.
const AGAIN: Duration = Duration::from_millis(500);

/// A line to an Engine.
pub(crate) struct LifeLine {
    engine: Engine,
    tied: Mutex<Tied>,
}

struct Tied {
    cut: CancellationToken,
    /// When a stream has ended though the Engine answered.
    suspected: watch::Receiver<Option<Instant>>,
    /// To another Engine than at first.
    anew: bool,
    _following: JoinSet<()>,
}

impl LifeLine {
    pub(crate) fn tie(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            tied: Mutex::new(Tied::to(engine, false)),
        }
    }

    /// Returns when the Engine goes; never where the Engine does not tell.
    pub(crate) async fn cut(&self) {
        self.state().0.cancelled().await;
    }

    fn state(&self) -> (CancellationToken, Option<Instant>) {
        let tied = self.tied.lock().unwrap_or_else(PoisonError::into_inner);
        (tied.cut.clone(), *tied.suspected.borrow())
    }

    /// Whether a container ended because its Engine does, or has.
    pub(crate) async fn has_ended(&self, exit: &Exit) -> bool {
        match exit {
            Exit::Failure { code, .. } => self.look(*code > SIGNALS).await,
            Exit::Success => false,
        }
    }

    /// Whether the Engine is gone, with or without a successor.
    pub(crate) async fn is_cut(&self) -> bool {
        self.look(false).await
    }

    async fn look(&self, closely: bool) -> bool {
        let (cut, suspected) = self.state();
        let looking = async {
            if closely || suspected.is_some_and(|since| since.elapsed() < SUSPECT) {
                sleep(LOOK).await;
            }
        };
        let asking = async {
            looking.await;
            for _ in 1..ASKED {
                if self.engine.api().ping().await.is_ok() {
                    return false;
                }
                sleep(AGAIN).await;
            }
            self.engine.api().ping().await.is_err()
        };
        tokio::select! {
            () = cut.cancelled() => true,
            gone = asking => gone || cut.is_cancelled(),
        }
    }

    /// Ties the line to the Engine's successor where it is cut; whether that has ever been so.
    pub(crate) fn renew(&self) -> bool {
        let mut tied = self.tied.lock().unwrap_or_else(PoisonError::into_inner);
        if tied.cut.is_cancelled() {
            *tied = Tied::to(&self.engine, true);
        }
        tied.anew
    }

    /// The end of a job whose Engine went away, after a moment in which it may come back: its things can be removed then.
    pub(crate) async fn lost(&self, stop: &StopSignal) -> RunError {
        let returning = async {
            while self.engine.api().ping().await.is_err() {
                sleep(AGAIN).await;
            }
        };
        let back = tokio::select! {
            back = timeout(RETURN, returning) => back.is_ok(),
            () = stop.cancelled() => false,
        };
        self.gone(back)
    }

    /// The same where it is known whether one is there again.
    pub(crate) fn gone(&self, back: bool) -> RunError {
        let host = self.engine.host().to_owned();
        EngineError::Gone { host, back }.into()
    }
}

impl Tied {
    fn to(engine: &Engine, anew: bool) -> Self {
        let cut = CancellationToken::new();
        let (suspecting, suspected) = watch::channel(None);
        let mut following = JoinSet::new();
        following.spawn(follow(engine.clone(), cut.clone(), suspecting));
        Self {
            cut,
            suspected,
            anew,
            _following: following,
        }
    }
}

async fn follow(engine: Engine, cut: CancellationToken, suspected: watch::Sender<Option<Instant>>) {
    let begun = Instant::now();
    if !ended(&engine).await || begun.elapsed() < LASTING {
        return;
    }
    loop {
        suspected.send_replace(Some(Instant::now()));
        match timeout(SAME, engine.api().ping()).await {
            Ok(Ok(_)) => tracing::debug!("the stream of the Engine's events is opened again"),
            Ok(Err(_)) | Err(_) => return cut.cancel(),
        }
        // An Engine that is ending answers until its last container has ended, and has no such stream any more.
        let begun = Instant::now();
        ended(&engine).await;
        if begun.elapsed() < LASTING {
            sleep(ENDING).await;
        }
    }
}

/// Waits for the end of a stream of events; `false`: this Engine has none.
async fn ended(engine: &Engine) -> bool {
    let filters = HashMap::from([("type", vec!["daemon"])]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = engine.api().events(Some(options));
    while let Some(event) = events.next().await {
        if let Err(error) = event.map_err(EngineError::from) {
            tracing::debug!("the stream of the Engine's events: {error}");
            return error.class() == ErrorClass::Unreachable;
        }
    }
    true
}
