//! Masking of whole values, across any border between writes (`runner-protocol.md` 5.2).
//!
//! Every byte of every occurrence is covered. Occurrences that overlap become one `[MASKED]`, so a longer
//! phrase hides a shorter one inside it; ones that only touch stay apart. Held back are only bytes that
//! may still become an occurrence, so a quiet stream shows everything else at once.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::packed::{self, Searcher};
use aho_corasick::{Anchored, MatchKind};

use courser_protocol::Secret;

use super::MASK;
use super::tokens::TokenFilter;

/// What to mask in one job; cheap to clone.
#[derive(Debug, Clone)]
pub struct Masking {
    phrases: Option<Arc<Matcher>>,
    tokens: Arc<Matcher>,
}

/// The secrets are too many or too long for a search; nothing may be printed then.
#[derive(Debug, thiserror::Error)]
pub enum MaskingError {
    /// In number.
    #[error("cannot prepare masking of {phrases} values")]
    TooMany {
        /// How many.
        phrases: usize,
        /// Cause.
        #[source]
        source: aho_corasick::BuildError,
    },
    /// In length: the search takes about a hundred times as much memory.
    #[error(
        "cannot mask {bytes} bytes of masked variables and secrets, at most {LONGEST} are possible: fetch large files in \
         the job's script"
    )]
    TooLong {
        /// How long all are together.
        bytes: usize,
    },
}

/// Bytes of all phrases of a job.
const LONGEST: usize = 8 * 1024 * 1024;

impl Masking {
    /// `phrases` are values to hide; `token_prefixes` are kinds of tokens beside [`Self::built_in_prefixes`]
    /// whose tail is hidden. Upstream uses only the shortest 15 prefixes; here all count.
    pub fn new(phrases: &[Secret], token_prefixes: &[String]) -> Result<Self, MaskingError> {
        let phrases: Vec<&str> = phrases
            .iter()
            .map(Secret::expose)
            .filter(|phrase| !phrase.is_empty())
            .collect();
        let bytes = phrases.iter().map(|phrase| phrase.len()).sum();
        if bytes > LONGEST {
            return Err(MaskingError::TooLong { bytes });
        }
        let prefixes: Vec<&str> = token_prefixes
            .iter()
            .map(|prefix| prefix.trim())
            .filter(|prefix| !prefix.is_empty())
            .collect();
        Ok(Self {
            phrases: if phrases.is_empty() {
                None
            } else {
                Some(Arc::new(Matcher::new(&phrases)?))
            },
            tokens: Arc::new(Matcher::new(&prefixes)?),
        })
    }

    /// Masking for a job: its masked variables, the built-in token prefixes and the server's.
    pub fn for_job(job: &crate::Job) -> Result<Self, MaskingError> {
        let mut prefixes: Vec<String> =
            Self::built_in_prefixes(job.features().mask_all_default_tokens)
                .map(str::to_owned)
                .collect();
        prefixes.extend(job.payload().features.token_mask_prefixes.iter().cloned());
        Self::new(&job.masked_phrases(), &prefixes)
    }

    /// Prefixes of GitLab's own tokens; `all` is `FF_MASK_ALL_DEFAULT_TOKENS`.
    pub fn built_in_prefixes(all: bool) -> impl Iterator<Item = &'static str> {
        let count = if all { TOKEN_PREFIXES.len() } else { 1 };
        TOKEN_PREFIXES.iter().copied().take(count)
    }

    pub(super) fn phrase_filter(&self) -> Option<PhraseFilter> {
        self.phrases.clone().map(PhraseFilter::new)
    }

    pub(super) fn token_filter(&self) -> TokenFilter {
        TokenFilter::new(Arc::clone(&self.tokens))
    }
}

const TOKEN_PREFIXES: [&str; 14] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// An automaton that also knows, for each state, how much of a phrase has been read.
pub(super) struct Matcher {
    automaton: NFA,
    start: StateID,
    /// By state: length of the longest phrase beginning that ends here, and of the longest whole phrase.
    lengths: Vec<(u32, u32)>,
    /// Bytes with which a phrase begins.
    first_bytes: [bool; 256],
    /// Finds the first [`BEGINNING`] bytes of phrases, many at a time. `None`: too many, or not this processor.
    beginnings: Option<Searcher>,
}

/// Long enough that most text does not hold one, short enough to be looked up in one step.
const BEGINNING: usize = 4;

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Matcher([redacted])")
    }
}

impl Matcher {
    fn new(phrases: &[&str]) -> Result<Self, MaskingError> {
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(phrases)
            .map_err(|source| MaskingError::TooMany {
                phrases: phrases.len(),
                source,
            })?;
        let start = automaton
            .start_state(Anchored::No)
            .expect("a contiguous NFA supports unanchored searches");
        let mut lengths = Vec::new();
        let mut first_bytes = [false; 256];
        // Reading a phrase from the start visits each state of the trie, at its depth.
        for phrase in phrases {
            first_bytes[usize::from(phrase.as_bytes()[0])] = true;
            let mut state = start;
            for (depth, byte) in (1_u32..).zip(phrase.bytes()) {
                state = automaton.next_state(Anchored::No, state, byte);
                let whole = if automaton.is_match(state) {
                    (0..automaton.match_len(state))
                        .map(|index| automaton.pattern_len(automaton.match_pattern(state, index)))
                        .max()
                        .unwrap_or(0)
                } else {
                    0
                };
                if lengths.len() <= state.as_usize() {
                    lengths.resize(state.as_usize() + 1, (0, 0));
                }
                lengths[state.as_usize()] = (depth, u32::try_from(whole).unwrap_or(depth));
            }
        }
        Ok(Self {
            automaton,
            start,
            lengths,
            first_bytes,
            beginnings: search_of_beginnings(phrases),
        })
    }

    pub(super) fn start(&self) -> StateID {
        self.start
    }

    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// How much of a phrase has been read, and the longest whole phrase that ends here.
    pub(super) fn lengths(&self, state: StateID) -> (usize, usize) {
        let (depth, whole) = self
            .lengths
            .get(state.as_usize())
            .copied()
            .unwrap_or((0, 0));
        (depth as usize, whole as usize)
    }

    /// Index of the next byte that can begin a phrase.
    pub(super) fn next_candidate(&self, data: &[u8]) -> Option<usize> {
        let mut from = 0;
        if let Some(beginnings) = &self.beginnings {
            // What begins in the last bytes may go on with the next write.
            from = data.len().saturating_sub(BEGINNING - 1);
            if let Some(found) = beginnings.find(data)
                && found.start() <= from
            {
                return Some(found.start());
            }
        }
        let rest = &data[from..];
        let candidate = rest
            .iter()
            .position(|byte| self.first_bytes[usize::from(*byte)]);
        candidate.map(|index| from + index)
    }
}

fn search_of_beginnings(phrases: &[&str]) -> Option<Searcher> {
    let beginning = |phrase: &&'_ str| phrase.as_bytes()[..phrase.len().min(BEGINNING)].to_vec();
    let mut beginnings: Vec<Vec<u8>> = phrases.iter().map(beginning).collect();
    beginnings.sort_unstable();
    beginnings.dedup();
    packed::Config::new().builder().extend(beginnings).build()
}

/// State of one stream.
#[derive(Debug)]
pub(super) struct PhraseFilter {
    matcher: Arc<Matcher>,
    state: StateID,
    /// Bytes not yet passed on.
    pending: Vec<u8>,
    /// Finished occurrences in `pending`, merged, in order.
    covered: Vec<(usize, usize)>,
    /// End in `pending` of an occurrence whose `[MASKED]` was passed on already.
    swallow_until: usize,
}

impl PhraseFilter {
    fn new(matcher: Arc<Matcher>) -> Self {
        Self {
            state: matcher.start(),
            matcher,
            pending: Vec::new(),
            covered: Vec::new(),
            swallow_until: 0,
        }
    }

    pub(super) fn write(&mut self, data: &[u8], output: &mut Vec<u8>) {
        let mut position = self.pending.len();
        self.pending.extend_from_slice(data);
        let start = self.matcher.start();
        while position < self.pending.len() {
            if self.state == start {
                match self.matcher.next_candidate(&self.pending[position..]) {
                    Some(skipped) => position += skipped,
                    None => {
                        position = self.pending.len();
                        break;
                    }
                }
            }
            self.state = self.matcher.next(self.state, self.pending[position]);
            position += 1;
            let (_, whole) = self.matcher.lengths(self.state);
            if whole > 0 {
                self.cover(position - whole, position);
            }
        }
        let (held, _) = self.matcher.lengths(self.state);
        self.pass_on(position - held, output);
    }

    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.pass_on(self.pending.len(), output);
        self.state = self.matcher.start();
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pending.len()
    }

    /// Notes an occurrence. Its end is beyond all noted ones; its beginning may not be.
    fn cover(&mut self, mut begin: usize, end: usize) {
        while let Some((last_begin, last_end)) = self.covered.last().copied()
            && last_end > begin
        {
            begin = begin.min(last_begin);
            self.covered.pop();
        }
        if begin < self.swallow_until {
            self.swallow_until = end;
        } else {
            self.covered.push((begin, end));
        }
    }

    /// Passes on everything before `safe`: no later occurrence begins there.
    fn pass_on(&mut self, safe: usize, output: &mut Vec<u8>) {
        let mut done = 0;
        let mut kept = 0;
        for index in 0..self.covered.len() {
            let (begin, end) = self.covered[index];
            if begin >= safe {
                self.covered[kept] = (begin, end);
                kept += 1;
                continue;
            }
            let from = done.max(self.swallow_until);
            output.extend_from_slice(&self.pending[from..begin]);
            output.extend_from_slice(MASK);
            self.swallow_until = end;
            done = begin;
        }
        self.covered.truncate(kept);
        let from = done.max(self.swallow_until);
        if from < safe {
            output.extend_from_slice(&self.pending[from..safe]);
        }
        self.pending.drain(..safe);
        self.swallow_until = self.swallow_until.saturating_sub(safe);
        for (begin, end) in &mut self.covered {
            *begin -= safe;
            *end -= safe;
        }
    }
}
