//! Connections from inside a container to one address outside, over the agent's stream: for engines whose containers cannot
//! reach the runner's machine.
//!
//! In the container the agent listens on a port of its own loopback; what connects there is connected, by the runner's
//! side, to the one address that it was made with. Bytes are carried as they are, TLS stays end to end. Either side may have
//! sent [`WINDOW`] bytes of a connection that the other has not handed on: so neither fills the other's memory, and a slow
//! connection holds up nothing else on the stream. Who sends more has lost that connection.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::frame::{Frame, Kind, LONGEST};

/// Bytes of one connection, one way, that may be on their way.
const WINDOW: usize = 256 * 1024;

/// Connections at once.
pub(super) const MOST: usize = 64;

/// Bytes both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

/// A connection that is being made.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = io::Result<Pin<Box<dyn Connection>>>> + Send + 'a>>;

/// Connects to the one address that programs in a container may reach.
pub type Connector = Arc<dyn Fn() -> Connecting<'static> + Send + Sync>;

/// Hands a frame to whoever writes the stream.
pub(super) type Say = Arc<dyn Fn(Frame) + Send + Sync>;

/// The connections of one side of a stream. Dropping it ends them.
#[derive(Clone)]
pub(super) struct Connections {
    open: Arc<Mutex<Open>>,
    say: Say,
}

#[derive(Default)]
struct Open {
    ends: HashMap<u32, End>,
    tasks: JoinSet<()>,
}

/// This side's end of a connection.
struct End {
    bytes: mpsc::UnboundedSender<Piece>,
    /// How much more the other side takes.
    credit: Arc<Semaphore>,
    /// How much of the other side's bytes is here.
    held: Arc<AtomicUsize>,
    task: AbortHandle,
}

enum Piece {
    Bytes(Vec<u8>),
    End,
}

impl Connections {
    pub(super) fn new(say: impl Fn(Frame) + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::default(),
            say: Arc::new(say),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let mut open = self.open();
        open.ends.retain(|_, end| !end.bytes.is_closed());
        open.ends.len()
    }

    /// Carries one until it ends at both sides. `connecting` makes this side's end. More than there may be, or a number
    /// that is taken, is refused.
    pub(super) fn add(&self, number: u32, connecting: Connecting<'static>) {
        let mut open = self.open();
        open.ends.retain(|_, end| !end.bytes.is_closed());
        while open.tasks.try_join_next().is_some() {}
        if open.ends.len() >= MOST || open.ends.contains_key(&number) {
            return (self.say)(Frame::new(number, Kind::Closed, []));
        }
        let (bytes, pieces) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(WINDOW));
        let held = Arc::new(AtomicUsize::new(0));
        let carrying = Carrying {
            number,
            say: Arc::clone(&self.say),
            credit: Arc::clone(&credit),
            held: Arc::clone(&held),
        };
        let task = open.tasks.spawn(carrying.carry(connecting, pieces));
        open.ends.insert(
            number,
            End {
                bytes,
                credit,
                held,
                task,
            },
        );
    }

    /// Takes what the other side says of one. What is said of one that has ended says nothing.
    pub(super) fn take(&self, frame: Frame) {
        let number = frame.run;
        let mut open = self.open();
        let Some(end) = open.ends.get(&number) else {
            return;
        };
        let is_well = match frame.kind {
            Kind::Bytes => {
                let length = frame.content.len();
                let before = end.held.fetch_add(length, Ordering::AcqRel);
                // One that takes no more has ended.
                end.bytes.send(Piece::Bytes(frame.content)).ok();
                before + length <= WINDOW
            }
            Kind::BytesEnd => {
                end.bytes.send(Piece::End).ok();
                true
            }
            Kind::Taken => {
                let taken = frame.text().parse().unwrap_or(usize::MAX);
                let fits = end
                    .credit
                    .available_permits()
                    .checked_add(taken)
                    .is_some_and(|credit| credit <= WINDOW);
                if fits {
                    end.credit.add_permits(taken);
                }
                fits
            }
            Kind::Closed => {
                end.task.abort();
                open.ends.remove(&number);
                return;
            }
            _ => true,
        };
        if !is_well {
            end.task.abort();
            open.ends.remove(&number);
            drop(open);
            (self.say)(Frame::new(number, Kind::Closed, []));
        }
    }
}

struct Carrying {
    number: u32,
    say: Say,
    credit: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

impl Carrying {
    async fn carry(
        self,
        connecting: Connecting<'static>,
        mut pieces: mpsc::UnboundedReceiver<Piece>,
    ) {
        if self.both_ways(connecting, &mut pieces).await.is_err() {
            (self.say)(Frame::new(self.number, Kind::Closed, []));
        }
    }

    async fn both_ways(
        &self,
        connecting: Connecting<'static>,
        pieces: &mut mpsc::UnboundedReceiver<Piece>,
    ) -> io::Result<()> {
        let (read, write) = tokio::io::split(connecting.await?);
        let mut out = pin!(self.out_of(read));
        let mut into = pin!(self.into(write, pieces));
        let (mut is_out, mut is_in) = (false, false);
        while !(is_out && is_in) {
            tokio::select! {
                done = &mut out, if !is_out => { done?; is_out = true; }
                done = &mut into, if !is_in => { done?; is_in = true; }
            }
        }
        Ok(())
    }

    /// From this side's end to the stream.
    async fn out_of(&self, mut read: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut room = vec![0; LONGEST];
        loop {
            let one = self.credit.acquire().await.map_err(io::Error::other)?;
            one.forget();
            let more = self.credit.available_permits().min(LONGEST - 1);
            let more = match self.credit.try_acquire_many(more as u32) {
                Ok(permits) => {
                    permits.forget();
                    more
                }
                Err(_) => 0,
            };
            let allowed = 1 + more;
            let count = read.read(&mut room[..allowed]).await?;
            self.credit.add_permits(allowed - count);
            if count == 0 {
                (self.say)(Frame::new(self.number, Kind::BytesEnd, []));
                return Ok(());
            }
            (self.say)(Frame::new(self.number, Kind::Bytes, &room[..count]));
        }
    }

    /// From the stream to this side's end.
    async fn into(
        &self,
        mut write: impl AsyncWrite + Unpin,
        pieces: &mut mpsc::UnboundedReceiver<Piece>,
    ) -> io::Result<()> {
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Bytes(bytes) => {
                    write.write_all(&bytes).await?;
                    write.flush().await?;
                    self.held.fetch_sub(bytes.len(), Ordering::AcqRel);
                    let taken = bytes.len().to_string();
                    (self.say)(Frame::new(self.number, Kind::Taken, taken));
                }
                Piece::End => return write.shutdown().await,
            }
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::DuplexStream;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn ready(end: DuplexStream) -> Connecting<'static> {
        Box::pin(std::future::ready(Ok(
            Box::pin(end) as Pin<Box<dyn Connection>>
        )))
    }

    /// Two sides whose frames reach each other, and what is at the ends of connection 1.
    fn pair() -> (Connections, Connections, DuplexStream, DuplexStream) {
        let (there, mut to_there) = mpsc::unbounded_channel();
        let (here, mut to_here) = mpsc::unbounded_channel();
        let ours = Connections::new(move |frame| drop(there.send(frame)));
        let theirs = Connections::new(move |frame| drop(here.send(frame)));
        let (one, other) = (ours.clone(), theirs.clone());
        let mut pumps = JoinSet::new();
        pumps.spawn(async move {
            loop {
                tokio::select! {
                    Some(frame) = to_there.recv() => other.take(frame),
                    Some(frame) = to_here.recv() => one.take(frame),
                    else => return,
                }
            }
        });
        pumps.detach_all();
        let (our_end, ours_inside) = tokio::io::duplex(1000);
        let (their_end, theirs_inside) = tokio::io::duplex(1000);
        ours.add(1, ready(ours_inside));
        theirs.add(1, ready(theirs_inside));
        (ours, theirs, our_end, their_end)
    }

    #[tokio::test]
    async fn more_than_a_window_goes_both_ways_and_each_way_ends_by_itself() {
        let (_ours, _theirs, near, far) = pair();
        let sent: Vec<u8> = (0..3 * WINDOW).map(|number| (number % 251) as u8).collect();
        let (mut near_read, mut near_write) = tokio::io::split(near);
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let writing = async {
            near_write.write_all(&sent).await.expect("written");
            near_write.shutdown().await.expect("ended");
        };
        let answering = async {
            let mut got = Vec::new();
            far_read.read_to_end(&mut got).await.expect("read");
            far_write.write_all(b"answer").await.expect("written");
            far_write.shutdown().await.expect("ended");
            got
        };
        let reading = async {
            let mut answer = Vec::new();
            near_read.read_to_end(&mut answer).await.expect("read");
            answer
        };
        let all = async { tokio::join!(writing, answering, reading) };
        let ((), got, answer) = timeout(PATIENCE, all).await.expect("in time");
        assert!(got == sent);
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn who_sends_more_than_the_window_has_lost_the_connection() {
        let (said, mut frames) = mpsc::unbounded_channel();
        let ours = Connections::new(move |frame| drop(said.send(frame)));
        let (_end, inside) = tokio::io::duplex(10);
        ours.add(7, ready(inside));
        for _ in 0..=WINDOW / LONGEST {
            ours.take(Frame::new(7, Kind::Bytes, vec![0; LONGEST]));
        }
        let closed = async {
            while let Some(frame) = frames.recv().await {
                if frame.kind == Kind::Closed {
                    return frame.run;
                }
            }
            0
        };
        assert_eq!(timeout(PATIENCE, closed).await, Ok(7));
        assert_eq!(ours.count(), 0);
        // Credit that was never used up is not given either.
        let (_end, inside) = tokio::io::duplex(10);
        ours.add(8, ready(inside));
        ours.take(Frame::new(8, Kind::Taken, "99999999999999999999"));
        assert_eq!(ours.count(), 0);
    }

    #[tokio::test]
    async fn no_number_is_taken_twice_and_there_are_not_too_many() {
        let (said, mut frames) = mpsc::unbounded_channel();
        let ours = Connections::new(move |frame| drop(said.send(frame)));
        let mut ends = Vec::new();
        for number in [1, 1].into_iter().chain(2..=MOST as u32 + 1) {
            let (end, inside) = tokio::io::duplex(10);
            ends.push(end);
            ours.add(number, ready(inside));
        }
        assert_eq!(ours.count(), MOST);
        let refused = [frames.try_recv(), frames.try_recv()];
        let refused = refused.map(|frame| frame.map(|frame| (frame.run, frame.kind)));
        let last = MOST as u32 + 1;
        assert_eq!(refused, [Ok((1, Kind::Closed)), Ok((last, Kind::Closed))]);
    }
}
