//! Time and stream in front of each line (`runner-protocol.md` 5.3).

use jiff::Timestamp;

use super::{Log, Origin, Pipe};

/// Longest unterminated line that waits for its end, header included.
const LINE_LIMIT: usize = 8192;

/// Finished lines that are written together.
const BATCH: usize = 64 * 1024;

const HEADER_LENGTH: usize = 32;

/// State of one stream.
#[derive(Debug)]
pub(super) struct Stamper {
    /// `00O` and its like.
    identity: [u8; 3],
    /// An unterminated line with its header; empty = none. While a write is taken in, also the finished
    /// lines before it: the log is faster with few large writes.
    line: Vec<u8>,
    /// The next entry continues the last one.
    continues: bool,
    /// Whole second of `second_text`.
    second: i64,
    /// `YYYY-MM-DDTHH:MM:SS.`
    second_text: String,
    /// The last header and its time: all lines of a write have the same.
    last: Option<(Timestamp, [u8; HEADER_LENGTH])>,
}

impl Stamper {
    pub(super) fn new(origin: Origin, pipe: Pipe) -> Self {
        let [high, low] = match origin {
            Origin::Runner => *b"00",
            Origin::Script => *b"01",
            Origin::Service => *b"0f",
        };
        let pipe = match pipe {
            Pipe::Stdout => b'O',
            Pipe::Stderr => b'E',
        };
        Self {
            identity: [high, low, pipe],
            line: Vec::new(),
            continues: false,
            second: i64::MIN,
            second_text: String::new(),
            last: None,
        }
    }

    /// Takes one write: whole lines go out, the rest waits, a progress line (`\r`) goes out at once.
    pub(super) fn write(&mut self, data: &[u8], now: Timestamp, log: &mut Log) {
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            if self.line.last().is_none_or(|byte| *byte == b'\n') {
                let header = self.header(now);
                self.line.extend_from_slice(&header);
            }
            self.line.extend_from_slice(line);
            self.continues = false;
            rest = after;
            if rest.is_empty() || self.line.len() > BATCH {
                log.write(&self.line);
                self.line.clear();
            }
        }
        if rest.is_empty() {
            return;
        }
        if self.line.last() == Some(&b'\n') {
            log.write(&self.line);
            self.line.clear();
        }
        if self.line.is_empty() {
            let header = self.header(now);
            self.line.extend_from_slice(&header);
        }
        let is_progress = rest.len() == data.len() && data.contains(&b'\r');
        self.line.extend_from_slice(rest);
        if is_progress || self.line.len() > LINE_LIMIT {
            self.cut(log);
            self.continues = true;
        }
    }

    /// Ends an open line.
    pub(super) fn finish(&mut self, log: &mut Log) {
        if !self.line.is_empty() {
            self.cut(log);
        }
    }

    fn cut(&mut self, log: &mut Log) {
        self.line.push(b'\n');
        log.write(&self.line);
        self.line.clear();
    }

    fn header(&mut self, now: Timestamp) -> [u8; HEADER_LENGTH] {
        let mut header = match self.last {
            Some((time, header)) if time == now => header,
            _ => {
                let header = self.new_header(now);
                self.last = Some((now, header));
                header
            }
        };
        if self.continues {
            header[31] = b'+';
        }
        header
    }

    fn new_header(&mut self, now: Timestamp) -> [u8; HEADER_LENGTH] {
        let micros = now.as_microsecond();
        let second = micros.div_euclid(1_000_000);
        if second != self.second {
            self.second = second;
            self.second_text = now.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        let mut header = [b' '; HEADER_LENGTH];
        // 20 bytes for the years 0 to 9999, which is all that a clock gives.
        let length = self.second_text.len().min(20);
        header[..length].copy_from_slice(&self.second_text.as_bytes()[..length]);
        let mut fraction = micros.rem_euclid(1_000_000);
        for place in header[20..26].iter_mut().rev() {
            *place = b'0' + u8::try_from(fraction % 10).unwrap_or(0);
            fraction /= 10;
        }
        header[26] = b'Z';
        header[28..31].copy_from_slice(&self.identity);
        header
    }
}
