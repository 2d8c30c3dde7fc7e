//! Clients that a listener refused, as its administrator is told of them: a flood of them does not flood the log.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser_trust::VerifyError;

use crate::client::failure;

/// Within this time at most [`TOLD`] refusals are told of one by one.
const WINDOW: Duration = Duration::from_mins(1);
const TOLD: u32 = 20;

/// What a listener has said of refused clients.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    since: Option<Instant>,
    seen: u32,
}

/// What to do with one refusal.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Tell of it; so many before it were not told of.
    Tell {
        untold: u32,
    },
    /// Say that no more will be told of for a while.
    Last,
    Count,
}

impl Refused {
    /// A client that lacks a good certificate is for the administrator; what else goes wrong is everyday noise.
    pub(crate) fn say(&self, peer: SocketAddr, error: &std::io::Error, why: Option<&VerifyError>) {
        let shows_nothing = failure::layers(error)
            .filter_map(|layer| layer.downcast_ref::<rustls::Error>())
            .any(|error| *error == rustls::Error::NoCertificatesPresented);
        if why.is_none() && !shows_nothing {
            tracing::debug!("TLS handshake with {peer} failed: {error}");
            return;
        }
        let turn = {
            let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            count.turn(Instant::now())
        };
        match turn {
            Turn::Count => return,
            Turn::Last => {
                tracing::warn!(
                    "refused {TOLD} clients within {} s; more of them in this time are counted only",
                    WINDOW.as_secs()
                );
                return;
            }
            Turn::Tell { untold: 0 } => {}
            Turn::Tell { untold } => tracing::warn!("refused {untold} clients more"),
        }
        let Some(why) = why else {
            tracing::warn!("refused the client {peer}, which shows no certificate");
            return;
        };
        let who = why.received().first().map(|leaf| {
            let (subject, issuer) = (leaf.subject(), leaf.issuer());
            format!(
                "{subject}, issued by {issuer}, SHA-256 {}",
                leaf.fingerprint()
            )
        });
        let who = who.as_deref().unwrap_or("an unreadable certificate");
        tracing::warn!("refused the client {peer} with {who}: {why}");
    }
}

impl Count {
    fn turn(&mut self, now: Instant) -> Turn {
        let within = self.since.is_some_and(|since| now - since < WINDOW);
        if !within {
            let untold = self.seen.saturating_sub(TOLD);
            *self = Self {
                since: Some(now),
                seen: 1,
            };
            return Turn::Tell { untold };
        }
        self.seen = self.seen.saturating_add(1);
        match self.seen - 1 {
            ..TOLD => Turn::Tell { untold: 0 },
            TOLD => Turn::Last,
            _ => Turn::Count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_its_number_is_told_with_the_next_one() {
        let mut count = Count::default();
        let start = Instant::now();
        let turns: Vec<_> = (0..100).map(|_| count.turn(start)).collect();
        let told = |turn: &&Turn| **turn == Turn::Tell { untold: 0 };
        assert_eq!(turns.iter().filter(told).count(), 20);
        assert_eq!(turns[20], Turn::Last);
        assert!(turns[21..].iter().all(|turn| *turn == Turn::Count));
        assert_eq!(count.turn(start + WINDOW), Turn::Tell { untold: 80 });
        assert_eq!(count.turn(start + WINDOW), Turn::Tell { untold: 0 });
    }
}
