//! On a terminal: a line for each running job with its time, finished ones above.

use std::collections::HashMap;
use std::time::Duration;

use courser_coordinator::{JobEnd, JobState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::log::strip_colours;
use super::{
    BOLD, DIM, JobName, Summary, View, columns, milliseconds, print_summary, seconds, shortened,
    sign, started_pipeline, verdict,
};
use crate::platform;

/// Columns of a log line beside a running job.
const GLIMPSE: usize = 60;
/// Columns of what else is in a running job's line: one that wraps could not be taken away again.
const BESIDE: usize = 20;
/// Columns of a running job's name, so that its line fits into a narrow terminal.
const NAME: usize = 30;

/// Live view.
pub(in super::super) struct Live {
    screen: MultiProgress,
    running: HashMap<i64, ProgressBar>,
    width: usize,
    /// `^C` on the screen would move the cursor, and the lines of running jobs could not be taken away again.
    _keys: Option<platform::Typing>,
}

impl Live {
    /// An empty screen.
    pub(in super::super) fn new() -> Self {
        Self {
            // On standard output, as the lines above it, so that the two never mix.
            screen: MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout()),
            running: HashMap::new(),
            width: 0,
            _keys: platform::Typing::without_control_keys(),
        }
    }

    fn above(&self, print: impl FnOnce()) {
        self.screen.suspend(print);
    }
}

impl View for Live {
    fn created(&mut self, jobs: &[JobName<'_>]) {
        self.width = columns(jobs.iter().map(|job| job.name)).min(NAME);
    }

    fn downstream(&mut self, bridge: JobName<'_>, jobs: &[JobName<'_>]) {
        let longest = columns(jobs.iter().map(|job| job.name)).min(NAME);
        self.width = self.width.max(longest);
        let (name, pipeline) = (bridge.name, started_pipeline(jobs));
        self.above(|| anstream::println!("{DIM}-{DIM:#} {name} {pipeline}"));
    }

    fn delayed(&mut self, job: JobName<'_>, left: Duration) {
        let (name, left) = (job.name, seconds(left));
        self.above(|| anstream::println!("{DIM}-{DIM:#} {name} is delayed and starts in {left}"));
    }

    fn started(&mut self, job: JobName<'_>) {
        // The template is constant and valid; the default one would do as well.
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>4}  {msg:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let width = self.width;
        let bar = self
            .screen
            .add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(format!("{:width$}", shortened(job.name, width)));
        bar.enable_steady_tick(Duration::from_millis(100));
        self.running.insert(job.id, bar);
    }

    fn line(&mut self, job: JobName<'_>, line: &str) {
        if let Some(bar) = self.running.get(&job.id) {
            let room = terminal_columns().saturating_sub(self.width + BESIDE);
            bar.set_message(glimpse(&strip_colours(line), room.min(GLIMPSE)));
        }
    }

    fn finished(&mut self, job: JobName<'_>, end: &JobEnd, tail: &[&str]) {
        if let Some(bar) = self.running.remove(&job.id) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
        let width = self.width;
        let (sign, colour) = sign(end);
        let (verdict, time) = (verdict(end), milliseconds(end));
        self.above(|| {
            anstream::println!(
                "{colour}{sign}{colour:#} {BOLD}{:width$}{BOLD:#}  {time:>11}  {verdict}",
                job.name
            );
            if matches!(end.state, JobState::Failed { .. }) {
                for line in tail {
                    anstream::println!("    {DIM}|{DIM:#} {line}");
                }
            }
        });
    }

    fn cancelling(&mut self) {
        self.above(|| {
            anstream::println!("cancelling: after_script still runs; Ctrl-C again kills");
        });
    }

    fn summary(&mut self, summary: &Summary) {
        // Whatever was cut off in the middle.
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
        print_summary(summary);
    }
}

fn terminal_columns() -> usize {
    platform::terminal_columns().unwrap_or(80)
}

/// As many of the first characters as fit; those of East Asian scripts take two columns.
fn glimpse(line: &str, columns: usize) -> String {
    let mut left = columns;
    line.chars()
        .take_while(|c| {
            let width = if *c < '\u{1100}' { 1 } else { 2 };
            let fits = width <= left;
            left = left.saturating_sub(width);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glimpse_fits_into_its_columns() {
        for (line, columns, expected) in [
            ("abc", 5, "abc"),
            ("abcdef", 5, "abcde"),
            ("日本語", 5, "日本"),
            ("abc", 0, ""),
        ] {
            assert_eq!(glimpse(line, columns), expected, "{line}");
        }
    }
}
