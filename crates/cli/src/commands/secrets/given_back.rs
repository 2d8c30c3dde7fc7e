//! What servers made for a look at secrets, given back when it is over.

use std::time::Duration;

use courser_secrets::{Leases, Revocation, Surroundings};

use super::Stop;
use crate::control_characters::written_out;

/// What became of it.
pub(super) struct GivenBack {
    /// Tokens and leases that ended with it.
    pub(super) revoked: usize,
    /// What is left or may be, and why, a line each.
    pub(super) left: Vec<String>,
}

/// A request has its 30 s, and what it brings is revoked after it.
const LATE: Duration = Duration::from_secs(35);

/// Gives everything back, and waits for what is still under way, unless somebody asks a second time to end.
pub(super) async fn give_back(
    leases: &Leases,
    surroundings: &Surroundings,
    stop: &Stop,
) -> GivenBack {
    let mut sum = leases.revoke_until(surroundings, &stop.at_once).await;
    if sum.under_way > 0 {
        anstream::eprintln!(
            "waiting for an answer, to give back what it brings (Ctrl-C: leave it)"
        );
        tokio::select! {
            _ = tokio::time::timeout(LATE, leases.settled()) => {}
            () = stop.at_once.cancelled() => {}
        }
        let late = leases.revoke_until(surroundings, &stop.at_once).await;
        sum = Revocation {
            tokens: sum.tokens + late.tokens,
            leases: sum.leases + late.leases,
            lost: [sum.lost, late.lost].concat(),
            // What failed was tried again.
            ..late
        };
    }
    let mut left = sum.failures;
    left.extend(sum.lost.iter().map(|server| {
        format!(
            "a login at {server} got no usable answer: had it made a token, this ends by itself"
        )
    }));
    if sum.under_way > 0 {
        left.push(format!(
            "{} not answered: what came of it ends by itself",
            match sum.under_way {
                1 => "1 request was".to_owned(),
                several => format!("{several} requests were"),
            }
        ));
    }
    GivenBack {
        revoked: sum.tokens + sum.leases,
        left,
    }
}

impl GivenBack {
    /// For whom no report is written.
    pub(super) fn warn(&self) {
        for left in &self.left {
            anstream::eprintln!("warning: not given back: {}", written_out(left));
        }
    }
}
