//! Warnings before a certificate ends: 30, 7 and 1 days before, and when it has, each once.

use std::collections::HashMap;

use courser_trust::{Fingerprint, Moment};

use crate::inventory::{Dated, Role};

const DAY: i64 = 24 * 60 * 60;
/// Days left at which it is said, the last first. Before 0 it has ended.
const THRESHOLDS: [i64; 4] = [0, 1, 7, 30];

/// What has been said.
#[derive(Default)]
pub(crate) struct Warned {
    /// The lowest threshold said of a certificate.
    at: HashMap<Fingerprint, i64>,
}

impl Warned {
    /// What is to be said now of these certificates.
    pub(crate) fn due(&mut self, certificates: &[Dated], now: Moment) -> Vec<String> {
        let mut lines = Vec::new();
        for dated in certificates {
            let left = dated.not_after.unix_seconds() - now.unix_seconds();
            let passed = |threshold: &i64| left < threshold * DAY;
            let Some(threshold) = THRESHOLDS.into_iter().find(passed) else {
                continue;
            };
            let said = self.at.get(&dated.fingerprint);
            if said.is_some_and(|said| *said <= threshold) {
                continue;
            }
            self.at.insert(dated.fingerprint, threshold);
            lines.push(line(dated, left));
        }
        // A certificate that is not there any more need not be remembered.
        self.at
            .retain(|known, _| certificates.iter().any(|dated| dated.fingerprint == *known));
        lines
    }
}

fn line(dated: &Dated, left: i64) -> String {
    let Dated {
        subject,
        source,
        not_after,
        ..
    } = dated;
    let what = match dated.role {
        Role::Anchor => format!("trusted certificate {subject} of {source}"),
        Role::Client => format!("client certificate {subject} of {source}"),
        Role::Listener => format!("certificate {subject} of {source}, which clients are shown,"),
        Role::Leaf => format!("certificate {subject} of the server {source}"),
        Role::Intermediate => format!("intermediate certificate {subject} of the server {source}"),
        Role::ChainAnchor => {
            format!("certificate {subject}, at which the chain of {source} ends,")
        }
    };
    let remedy = match dated.role {
        Role::Anchor => "add its successor to the file",
        Role::Client => "have it renewed and replace both files",
        Role::Listener => "renew it",
        Role::Leaf | Role::Intermediate => "have the server's administrator renew it",
        Role::ChainAnchor => "ask the CA for its successor and trust both",
    };
    let fingerprint = dated.fingerprint;
    if left < 0 {
        return format!("the {what} has expired on {not_after} (SHA-256 {fingerprint}); {remedy}");
    }
    let days = match left / DAY {
        0 => "in less than a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    };
    format!("the {what} expires {days}, on {not_after} (SHA-256 {fingerprint}); {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_said_once() {
        let certificate = Dated {
            role: Role::Anchor,
            source: "/etc/ca.pem".to_owned(),
            subject: "CN=Root".to_owned(),
            fingerprint: Fingerprint::of(b"root"),
            not_after: Moment::from_unix_seconds(100 * DAY),
        };
        let certificates = [certificate];
        let mut warned = Warned::default();
        let mut said = Vec::new();
        for hour in 60 * 24..=102 * 24 {
            let now = Moment::from_unix_seconds(hour * 60 * 60);
            said.extend(warned.due(&certificates, now));
        }
        let starts: Vec<_> = said
            .iter()
            .map(|line| line.split(", on ").next().unwrap().to_owned())
            .collect();
        let name = "the trusted certificate CN=Root of /etc/ca.pem";
        assert_eq!(
            starts[..3],
            [
                format!("{name} expires in 29 days"),
                format!("{name} expires in 6 days"),
                format!("{name} expires in less than a day"),
            ]
        );
        assert!(starts[3].starts_with(&format!("{name} has expired on 1970-04-11T00:00:00Z")));
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn a_certificate_that_is_old_when_it_comes_is_said_once_and_a_new_one_not_at_all() {
        let of = |end: i64| Dated {
            role: Role::Leaf,
            source: "h.test".to_owned(),
            subject: String::new(),
            fingerprint: Fingerprint::of(&end.to_be_bytes()),
            not_after: Moment::from_unix_seconds(end),
        };
        let mut warned = Warned::default();
        let now = Moment::from_unix_seconds(0);
        let certificates = [of(-1), of(31 * DAY)];
        assert_eq!(warned.due(&certificates, now).len(), 1);
        assert!(warned.due(&certificates, now).is_empty());
        assert!(warned.due(&[], now).is_empty());
        assert_eq!(warned.due(&certificates, now).len(), 1, "it came back");
    }
}
