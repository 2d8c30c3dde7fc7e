//! Files followed through their changes: when new content counts, and when the last good one stays.
//!
//! Good content counts at once. Content that cannot be used, that breaks off, or that is not there may be
//! one that is just being written, so it is judged once the file has been left alone for [`QUIET`]. Then:
//!
//! - a file that is gone is no longer trusted: to delete it is how trust is taken away;
//! - content that is there and cannot be used leaves the last good one, and is said, until it is mended.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use courser_trust::{Fingerprint, Kept, Reading, Reload, SkipReason, Source, SourceContent, Store};

/// How long a change that would take something away is left alone before it is judged.
pub(crate) const QUIET: Duration = Duration::from_millis(250);
/// Some file systems date changes to two seconds: a file that was changed is read again for a little
/// longer, since a second change may look like the first.
const COARSE_DATES: Duration = Duration::from_millis(2500);

/// What was read, as far as one has to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Bytes(Fingerprint),
    Absent,
    Unreadable(String),
}

/// Contents that were looked at, and since when they are as they are.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    of: Vec<Content>,
    since: Option<Instant>,
    judged: bool,
}

/// What to do with contents that were looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// They have been judged as they are.
    Known,
    /// They are new, or still to be judged. `patient`: what may be half done is left alone this time.
    New { patient: bool },
}

impl Contents {
    /// Looks at what was read now.
    pub(crate) fn look<'a>(
        &mut self,
        readings: impl Iterator<Item = &'a Reading>,
        now: Instant,
    ) -> Look {
        let of: Vec<_> = readings.map(Content::of).collect();
        let first = self.since.is_none();
        if first || of != self.of {
            self.of = of;
            self.since = Some(now);
            self.judged = false;
        }
        if self.judged {
            return Look::Known;
        }
        let age = self.since.map_or(Duration::ZERO, |since| now - since);
        Look::New {
            patient: !first && age < QUIET,
        }
    }

    /// They have been dealt with; `waiting`: something was left alone.
    pub(crate) fn judged(&mut self, waiting: bool) {
        self.judged = !waiting;
    }

    /// Tells these contents from others.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(format!("{:?}", self.of).as_bytes())
    }

    /// Whether something was left alone, to be looked at again soon.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.judged
    }

    /// Whether files with the same dates as before have to be read nevertheless.
    pub(crate) fn must_be_read_again(&self, now: Instant) -> bool {
        !self.judged
            || self
                .since
                .is_none_or(|since| now.saturating_duration_since(since) < COARSE_DATES)
    }
}

impl Content {
    fn of(reading: &Reading) -> Self {
        match reading {
            Reading::Bytes(bytes) => Self::Bytes(Fingerprint::of(bytes)),
            Reading::Absent => Self::Absent,
            Reading::Unreadable(error) => Self::Unreadable(error.clone()),
        }
    }
}

/// Trusted files in the order in which they count.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    sources: Vec<Source>,
    contents: Contents,
    reload: Reload,
}

/// A file whose certificates are not trusted any more, because it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) source: Source,
    pub(crate) certificates: usize,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is gone; its {} certificates are no longer trusted",
            self.source, self.certificates
        )
    }
}

/// What a look at trusted files led to.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Files whose new content was refused; the last good one stays.
    pub(crate) kept: Vec<Kept>,
    /// Files that are gone, and their certificates with them.
    pub(crate) gone: Vec<Gone>,
    /// Something was left alone and is judged later.
    pub(crate) waiting: bool,
}

impl Anchors {
    /// Takes what reading the files gave. `None`: all has been judged as it is.
    pub(crate) fn take(
        &mut self,
        readings: Vec<(Source, Reading)>,
        now: Instant,
    ) -> Option<Change> {
        let sources: Vec<_> = readings.iter().map(|(source, _)| source.clone()).collect();
        if sources != self.sources {
            self.sources = sources;
            self.contents.of.clear();
        }
        let look = self
            .contents
            .look(readings.iter().map(|(_, reading)| reading), now);
        let Look::New { patient } = look else {
            return None;
        };
        let mut change = Change::default();
        let trusted_before: Vec<_> = self
            .store()
            .consulted()
            .iter()
            .filter(|consulted| consulted.certificates > 0)
            .map(|consulted| (Source::clone(&consulted.source), consulted.certificates))
            .collect();
        let before = |source: &Source| {
            let mut all = trusted_before.iter();
            all.find_map(|(known, certificates)| (known == source).then_some(*certificates))
        };
        let mut counted = Vec::with_capacity(readings.len());
        for (source, reading) in readings {
            match before(&source) {
                Some(_) if patient && is_doubtful(&source, &reading) => {
                    change.waiting = true;
                    // The reason is not told to anybody: it may be none in a moment.
                    counted.push((source, Reading::Absent));
                }
                Some(certificates) if reading == Reading::Absent => {
                    self.reload.forget(&source);
                    change.gone.push(Gone {
                        source: source.clone(),
                        certificates,
                    });
                    counted.push((source, reading));
                }
                _ => counted.push((source, reading)),
            }
        }
        if patient {
            for (source, _) in &trusted_before {
                if !counted.iter().any(|(counted, _)| counted == source) {
                    change.waiting = true;
                    counted.push((source.clone(), Reading::Absent));
                }
            }
        }
        let update = self.reload.update(counted);
        if !change.waiting {
            change.kept = update.kept;
        }
        self.contents.judged(change.waiting);
        Some(change)
    }

    /// What is trusted now.
    pub(crate) fn store(&self) -> &Arc<Store> {
        self.reload.store()
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// Whether content may be that of a file that is being written.
fn is_doubtful(source: &Source, reading: &Reading) -> bool {
    let Reading::Bytes(bytes) = reading else {
        return true;
    };
    let content = SourceContent::read(source.clone(), bytes);
    let breaks_off = |reason: &SkipReason| {
        matches!(
            reason,
            SkipReason::Unterminated | SkipReason::MalformedBegin | SkipReason::MalformedEnd
        )
    };
    let last_line = bytes
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    content.count() == 0
        || (!last_line.is_empty() && b"-----BEGIN ".starts_with(last_line))
        || content
            .skipped()
            .iter()
            .any(|block| breaks_off(&block.reason))
}

#[cfg(test)]
mod tests {
    use courser_testkit::pki::Authority;

    use super::*;

    struct File {
        anchors: Anchors,
        now: Instant,
    }

    impl File {
        fn new() -> Self {
            Self {
                anchors: Anchors::default(),
                now: Instant::now(),
            }
        }

        /// The number of certificates trusted after a look at this content, and what was said.
        fn holds(&mut self, content: impl Into<Text>) -> (usize, Option<Change>) {
            let source = Source::Configured("ca.pem".into());
            let change = self
                .anchors
                .take(vec![(source, content.into().0)], self.now);
            (self.anchors.store().certificates().len(), change)
        }

        fn later(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
        }
    }

    /// A reading from whatever a test has at hand.
    struct Text(Reading);

    impl From<&str> for Text {
        fn from(text: &str) -> Self {
            Self(Reading::Bytes(text.into()))
        }
    }

    impl From<Reading> for Text {
        fn from(reading: Reading) -> Self {
            Self(reading)
        }
    }

    fn roots(count: usize) -> String {
        (0..count)
            .map(|index| {
                Authority::root(&format!("Root {index}"))
                    .issue()
                    .certificate_pem()
            })
            .collect()
    }

    #[test]
    fn good_content_counts_at_once_also_when_it_takes_away() {
        let mut file = File::new();
        assert_eq!(file.holds(&*roots(2)).0, 2);
        assert_eq!(file.holds(&*roots(1)).0, 1);
        assert!(!file.anchors.contents().is_waiting());
    }

    #[test]
    fn a_file_that_is_gone_for_good_is_not_trusted_and_one_that_comes_back_never_was() {
        let mut file = File::new();
        let text = roots(1);
        file.holds(&*text);
        assert_eq!(file.holds(Reading::Absent).0, 1);
        assert!(file.anchors.contents().is_waiting());
        assert_eq!(file.holds(&*text).0, 1, "back in time");

        assert_eq!(file.holds(Reading::Absent).0, 1);
        file.later(250);
        let (trusted, change) = file.holds(Reading::Absent);
        let gone = change.unwrap().gone;
        assert_eq!((trusted, gone.len(), gone[0].certificates), (0, 1, 1));
        let store = file.anchors.store();
        assert!(
            matches!(store.consulted(), [consulted] if consulted.certificates == 0),
            "an error still names the file as one that was looked for"
        );
        assert!(file.holds(Reading::Absent).1.is_none(), "said once");
        assert_eq!(file.holds(&*text).0, 1, "and back again");
    }

    #[test]
    fn a_file_that_is_being_written_takes_nothing_away() {
        let mut file = File::new();
        let text = roots(2);
        file.holds(&*text);
        let part = &text[..text.len() * 2 / 3];
        for half in ["", &text[..100], part] {
            let (trusted, change) = file.holds(half);
            assert_eq!(trusted, 2);
            assert!(change.is_none_or(|change| change.kept.is_empty()));
            file.later(200);
        }
        assert_eq!(file.holds(&*roots(3)).0, 3, "completed");

        file.holds(part);
        file.later(250);
        assert_eq!(file.holds(part).0, 1, "left like that, it is what it is");
    }

    #[test]
    fn a_broken_file_keeps_the_last_good_content_and_is_said_once() {
        let mut file = File::new();
        let text = roots(1);
        file.holds(&*text);
        for broken in [
            Reading::Bytes(b"no certificate".to_vec()),
            Reading::Unreadable("permission denied".to_owned()),
        ] {
            assert_eq!(file.holds(broken.clone()).0, 1);
            file.later(250);
            let (trusted, change) = file.holds(broken.clone());
            assert_eq!((trusted, change.unwrap().kept.len()), (1, 1));
            assert!(file.holds(broken).1.is_none());
        }
        let (trusted, change) = file.holds(&*roots(2));
        assert_eq!(trusted, 2, "it recovers by itself");
        assert!(change.unwrap().kept.is_empty());
    }

    #[test]
    fn the_first_look_waits_for_nothing() {
        let mut file = File::new();
        assert_eq!(file.holds(Reading::Absent).0, 0);
        assert!(!file.anchors.contents().is_waiting());
        let mut file = File::new();
        let text = roots(1) + "-----BEGIN CERTIFICATE-----\n";
        assert_eq!(file.holds(&*text).0, 1);
    }

    #[test]
    fn files_with_unchanged_dates_are_read_again_for_a_while() {
        let mut file = File::new();
        file.holds(&*roots(1));
        assert!(file.anchors.contents().must_be_read_again(file.now));
        file.later(2500);
        assert!(!file.anchors.contents().must_be_read_again(file.now));
    }
}
