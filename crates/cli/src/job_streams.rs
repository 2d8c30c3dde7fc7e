//! Standard output and standard error of a helper, kept in order.
//!
//! A job's log is read from two pipes, and what is written to both within microseconds arrives in any
//! order: `Uploading artifacts...` after the files that were found. So a stream is written to only once
//! the reader has emptied the other one.

use std::io::{self, Write};
use std::time::Duration;

use crate::platform::{self, Stream};

/// A reader that is this slow gets what comes in any order.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_micros(100);

/// One stream of the two.
pub(crate) struct Ordered<W, O> {
    to: W,
    /// `None` where it is no pipe: files and terminals keep the order themselves.
    other: Option<O>,
    patience: Duration,
}

impl<W: Write, O: Stream> Ordered<W, O> {
    /// Writes to `to` after what `other` was given.
    pub(crate) fn new(to: W, other: O) -> Self {
        Self {
            to,
            other: platform::is_pipe(&other).then_some(other),
            patience: PATIENCE,
        }
    }
}

impl<W: Write, O: Stream> Write for Ordered<W, O> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(other) = &self.other {
            wait_until_read(other, self.patience);
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn wait_until_read(pipe: &impl Stream, patience: Duration) {
    let mut waited = Duration::ZERO;
    while waited < patience && platform::has_unread(pipe) {
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_stream_waits_until_the_other_one_is_read() {
        let (mut reader, mut other) = io::pipe().expect("a pipe");
        let (mut second_reader, second) = io::pipe().expect("a pipe");
        other.write_all(b"first").expect("write");
        let writer = std::thread::spawn(move || {
            let mut ordered = Ordered::new(second, other);
            ordered.patience = Duration::MAX;
            ordered.write_all(b"second").expect("write");
        });
        assert!(!platform::has_unread(&second_reader));
        let mut text = [0; 5];
        reader.read_exact(&mut text).expect("read");
        let mut rest = String::new();
        second_reader.read_to_string(&mut rest).expect("read");
        assert_eq!((&text[..], rest.as_str()), (&b"first"[..], "second"));
        writer.join().expect("the writer ends");
    }

    #[test]
    fn a_reader_that_never_reads_is_not_waited_for() {
        let (reader, mut other) = io::pipe().expect("a pipe");
        other.write_all(b"first").expect("write");
        let mut text = Vec::new();
        Ordered::new(&mut text, other)
            .write_all(b"second")
            .expect("write");
        assert_eq!(text, b"second");
        drop(reader);
    }
}
