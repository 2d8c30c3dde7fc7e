//! From one generation of a store to the next: a bad new file never takes working trust away.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::store::{Generation, Source, SourceContent, Store};

/// What reading a source gave this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// There is no such file.
    Absent,
    /// It could not be read; the error's text.
    Unreadable(String),
}

/// Why the last good content of a source stays in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptBecause {
    /// The file is gone.
    Absent,
    /// The file cannot be read any more.
    Unreadable(String),
    /// The new content has no usable certificate.
    NothingUsable,
}

/// A source whose new content was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The source.
    pub source: Source,
    /// Why.
    pub because: KeptBecause,
    /// How many certificates of its last good content stay trusted.
    pub certificates: usize,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.source)?;
        match &self.because {
            KeptBecause::Absent => f.write_str("is gone")?,
            KeptBecause::Unreadable(error) => write!(f, "cannot be read ({error})")?,
            KeptBecause::NothingUsable => f.write_str("has no usable certificate any more")?,
        }
        write!(
            f,
            "; its last good content stays trusted ({} certificates)",
            self.certificates
        )
    }
}

/// What an update did.
#[derive(Debug, Clone)]
pub struct Update {
    /// The store to use from now on: the very one of before when nothing about it is different, skipped blocks included,
    /// since errors explain themselves with those.
    pub store: Arc<Store>,
    /// Whether it trusts other certificates than before. When not, clients that use the store of before can stay.
    pub changed: bool,
    /// Sources that kept their last good content; empty when all is well.
    pub kept: Vec<Kept>,
}

/// Builds generation after generation from the same list of sources, and remembers the last good content of each.
///
/// A source that was never good adds nothing: a broken CA file never stops a runner (`runner-tls.md` 15, 3). A source
/// that was good once keeps its certificates until good content replaces them or it leaves the list.
#[derive(Debug, Default)]
pub struct Reload {
    good: HashMap<Source, SourceContent>,
    current: Arc<Store>,
}

impl Reload {
    /// Nothing trusted yet; [`update`](Self::update) makes generation 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current generation.
    pub fn store(&self) -> &Arc<Store> {
        &self.current
    }

    /// Lets go of a source's last good content: the next [`update`](Self::update) judges it as if it had never been good.
    pub fn forget(&mut self, source: &Source) {
        self.good.remove(source);
    }

    /// Takes what reading all sources gave now, in the order in which they count.
    pub fn update(&mut self, readings: Vec<(Source, Reading)>) -> Update {
        let mut good = HashMap::with_capacity(readings.len());
        let mut builder = Store::builder();
        let mut kept = Vec::new();
        for (source, reading) in readings {
            let before = self.good.get(&source).filter(|last| last.count() > 0);
            let (new, because) = match reading {
                Reading::Bytes(bytes) => {
                    let new = SourceContent::read(source.clone(), &bytes);
                    let because = (new.count() == 0).then_some(KeptBecause::NothingUsable);
                    (Some(new), because)
                }
                Reading::Absent => (None, Some(KeptBecause::Absent)),
                Reading::Unreadable(error) => (None, Some(KeptBecause::Unreadable(error))),
            };
            let content = match (because, before) {
                (Some(because), Some(before)) => {
                    kept.push(Kept {
                        source: source.clone(),
                        because,
                        certificates: before.count(),
                    });
                    // The blocks that were skipped now are the news; the certificates are the old ones.
                    Some(before.with_skipped_of(new.as_ref()))
                }
                _ => new,
            };
            match content {
                Some(content) => {
                    builder = builder.add_content(&content);
                    good.insert(source, content);
                }
                None => builder = builder.add_absent(source),
            }
        }
        self.good = good;
        let next = builder.build(Generation(self.current.generation().0 + 1));
        let first = self.current.generation() == Generation::default();
        let changed = first || !next.trusts_the_same(&self.current);
        let tells_the_same = next.consulted() == self.current.consulted()
            && next.skipped() == self.current.skipped();
        if changed || !tells_the_same {
            self.current = Arc::new(next);
        }
        Update {
            store: Arc::clone(&self.current),
            changed,
            kept,
        }
    }
}
