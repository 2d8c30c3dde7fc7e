//! The way to the queue's thread.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Queue;

type Turn = Box<dyn FnOnce(&mut Queue) + Send>;

/// Hands closures to the queue. The thread ends when the last handle is gone.
#[derive(Clone)]
pub(crate) struct QueueHandle {
    turns: mpsc::Sender<Turn>,
}

/// The queue's thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the coordinator has stopped")]
pub(crate) struct Stopped;

impl QueueHandle {
    /// Starts the thread.
    pub(crate) fn start(queue: Queue) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (turns, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("courser-queue".to_owned())
            .spawn(move || run(queue, &receiver))?;
        Ok((Self { turns }, thread))
    }

    /// Waits for the closure's turn and its result.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        turn: impl FnOnce(&mut Queue) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, result) = oneshot::channel();
        let turn = Box::new(move |queue: &mut Queue| {
            // The caller may have gone; what was done stays done.
            drop(answer.send(turn(queue)));
        });
        self.turns.send(turn).map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)
    }
}

fn run(mut queue: Queue, turns: &mpsc::Receiver<Turn>) {
    loop {
        let wait = queue.tick().unwrap_or_else(|error| {
            tracing::error!(%error, "queue cannot store its state");
            30
        });
        match turns.recv_timeout(Duration::from_secs(wait.max(1))) {
            Ok(turn) => turn(&mut queue),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // What has piled up is done before the clock is looked at again.
        while let Ok(turn) = turns.try_recv() {
            turn(&mut queue);
        }
    }
}
