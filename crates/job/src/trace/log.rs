//! The job's log: valid UTF-8, cut at its limit, with checksum (`runner-protocol.md` 5.6).

use crc32fast::Hasher;

use courser_protocol::TraceSummary;

use crate::messages;

/// Checksum and size of the bytes of a log that were kept. Whoever stores them counts them: what could not
/// be stored is not sent either.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    checksum: Hasher,
    size: u64,
}

impl Digest {
    /// Goes on where [`Self::checksum`] and [`Self::size`] were these.
    pub fn resume(checksum: u32, size: u64) -> Self {
        Self {
            checksum: Hasher::new_with_initial_len(checksum, size),
            size,
        }
    }

    /// Counts the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// CRC-32 so far.
    pub fn checksum(&self) -> u32 {
        self.checksum.clone().finalize()
    }

    /// As updates tell it.
    pub fn summary(&self) -> TraceSummary {
        TraceSummary {
            checksum: format!("crc32:{:08x}", self.checksum()),
            bytesize: Some(self.size),
        }
    }
}

/// Where all streams of a job end. Bytes are final once they are here.
#[derive(Debug)]
pub struct Log {
    limit: u64,
    size: u64,
    is_full: bool,
    /// Beginning of a character whose rest has not come yet.
    incomplete: Vec<u8>,
    ready: Vec<u8>,
}

/// Room that is kept from one write to the next.
const READY: usize = 256 * 1024;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl Log {
    /// `limit` in bytes (`output_limit` KiB; upstream's default is 4 MiB).
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            size: 0,
            is_full: false,
            incomplete: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// A log that has `size` bytes, and ends if they are more than `limit`: behind them stands that it was exceeded.
    pub fn resume(limit: u64, size: u64) -> Self {
        Self {
            size,
            is_full: size > limit,
            ..Self::new(limit)
        }
    }

    /// Appends; invalid bytes are replaced, bytes beyond the limit are dropped.
    pub fn write(&mut self, data: &[u8]) {
        if self.is_full {
            return;
        }
        if self.incomplete.is_empty() {
            self.repair(data);
        } else {
            let mut joined = std::mem::take(&mut self.incomplete);
            joined.extend_from_slice(data);
            self.repair(&joined);
        }
    }

    /// Ends the log: an incomplete character is replaced.
    pub fn finish(&mut self) {
        let incomplete = std::mem::take(&mut self.incomplete);
        for _ in incomplete {
            self.append(REPLACEMENT);
        }
    }

    /// The bytes that became final since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// Hands those bytes to `keep`, and forgets them. Cheaper than [`Self::take`] where much is printed.
    pub fn drain<T>(&mut self, keep: impl FnOnce(&[u8]) -> T) -> T {
        let kept = keep(&self.ready);
        if self.ready.capacity() > READY {
            self.ready = Vec::new();
        }
        self.ready.clear();
        kept
    }

    fn repair(&mut self, mut data: &[u8]) {
        loop {
            let Err(error) = std::str::from_utf8(data) else {
                self.append(data);
                return;
            };
            let (valid, rest) = data.split_at(error.valid_up_to());
            self.append(valid);
            let Some(bad) = error.error_len() else {
                self.incomplete.extend_from_slice(rest);
                return;
            };
            for _ in 0..bad {
                self.append(REPLACEMENT);
            }
            data = &rest[bad..];
        }
    }

    /// Takes whole characters only.
    fn append(&mut self, text: &[u8]) {
        if self.is_full || text.is_empty() {
            return;
        }
        let room = self.limit - self.size;
        if (text.len() as u64) < room {
            self.store(text);
            return;
        }
        // `room` is at most the text's length here.
        let mut end = usize::try_from(room).unwrap_or(text.len());
        while end > 0 && end < text.len() && text[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.store(&text[..end]);
        self.store(messages::log_limit_exceeded(self.limit).as_bytes());
        self.is_full = true;
        self.incomplete.clear();
    }

    fn store(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.ready.extend_from_slice(bytes);
    }
}
