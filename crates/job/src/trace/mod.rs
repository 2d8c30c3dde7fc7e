//! Bytes of the log: mask, stamp, repair, cut, checksum ([`Digest`]) (`runner-protocol.md` 5).
//!
//! Each source of output (the runner's messages, standard output and standard error of the scripts) has a
//! [`Stream`] of its own; all write into the job's one [`Log`], which gives the final bytes. Memory is
//! constant per stream, whatever a job prints.
//!
//! ```
//! use courser_job::trace::{Log, Masking, Origin, Pipe, Stream};
//! use courser_protocol::Secret;
//!
//! let masking = Masking::new(&[Secret::new("s3cret")], &[])?;
//! let mut log = Log::new(4 << 20);
//! let mut stream = Stream::new(&masking, Origin::Script, Pipe::Stdout, true);
//! let now = "2026-08-22T10:00:00.000001Z".parse().expect("a time");
//! stream.write(b"token s3c", now, &mut log);
//! stream.write(b"ret!\n", now, &mut log);
//! stream.close(now, &mut log);
//! log.finish();
//! assert_eq!(log.take(), b"2026-08-22T10:00:00.000001Z 01O token [MASKED]!\n");
//! # Ok::<(), courser_job::trace::MaskingError>(())
//! ```

mod log;
mod phrases;
mod stamp;
mod tokens;
mod url_parameters;

use jiff::Timestamp;

pub use log::{Digest, Log};
use phrases::PhraseFilter;
pub use phrases::{Masking, MaskingError};
use stamp::Stamper;
use tokens::TokenFilter;
use url_parameters::UrlParameterFilter;

/// What stands in place of a secret.
const MASK: &[u8] = b"[MASKED]";

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Runner and executor.
    Runner,
    /// Scripts of the job.
    Script,
    /// Service containers.
    Service,
}

/// Which pipe it came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One source of output. Masking works across writes of one stream, not across streams.
#[derive(Debug)]
pub struct Stream {
    phrases: Option<PhraseFilter>,
    url_parameters: UrlParameterFilter,
    tokens: TokenFilter,
    stamper: Option<Stamper>,
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Stream {
    /// A stream; `timestamps` is `FF_TIMESTAMPS`.
    pub fn new(masking: &Masking, origin: Origin, pipe: Pipe, timestamps: bool) -> Self {
        Self {
            phrases: masking.phrase_filter(),
            url_parameters: UrlParameterFilter::default(),
            tokens: masking.token_filter(),
            stamper: timestamps.then(|| Stamper::new(origin, pipe)),
            first: Vec::new(),
            second: Vec::new(),
        }
    }

    /// Takes one write, as it arrived at `now`. What may be the beginning of a secret is held back.
    pub fn write(&mut self, data: &[u8], now: Timestamp, log: &mut Log) {
        // Pieces bound the buffers. A piece counts as one write for the stamper, as upstream's copies do.
        for piece in data.chunks(PIECE) {
            self.first.clear();
            match &mut self.phrases {
                Some(filter) => filter.write(piece, &mut self.first),
                None => self.first.extend_from_slice(piece),
            }
            self.pass_on(now, log);
        }
    }

    /// Ends the stream: what was held back is written, an open line is ended.
    pub fn close(&mut self, now: Timestamp, log: &mut Log) {
        self.first.clear();
        if let Some(filter) = &mut self.phrases {
            filter.finish(&mut self.first);
        }
        self.pass_on(now, log);
        if let Some(stamper) = &mut self.stamper {
            stamper.finish(log);
        }
    }

    /// Sends `first` through the rest of the chain.
    fn pass_on(&mut self, now: Timestamp, log: &mut Log) {
        if self.first.is_empty() {
            return;
        }
        self.second.clear();
        self.url_parameters.write(&self.first, &mut self.second);
        self.first.clear();
        self.tokens.write(&self.second, &mut self.first);
        if self.first.is_empty() {
            return;
        }
        match &mut self.stamper {
            Some(stamper) => stamper.write(&self.first, now, log),
            None => log.write(&self.first),
        }
    }
}

const PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests;
