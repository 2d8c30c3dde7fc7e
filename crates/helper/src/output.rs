//! Where a job's log goes.

use std::io::{self, Write};

/// What becomes of the output of the programs that are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// They write to the standard output and error of this process themselves.
    Inherit,
    /// It is read and written to [`Output`].
    Capture,
}

/// The two streams of a job's log.
pub struct Output<'a> {
    /// Standard output: what a shell would have echoed.
    pub out: &'a mut (dyn Write + Send),
    /// Standard error: log lines of transfers.
    pub err: &'a mut (dyn Write + Send),
    /// Output of programs.
    pub programs: Programs,
}

impl Output<'_> {
    /// A line on standard output.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// A line of helper work, which brings its end, on standard error.
    pub(crate) fn log(&mut self, line: &str) -> io::Result<()> {
        self.err.write_all(line.as_bytes())?;
        self.err.flush()
    }
}
