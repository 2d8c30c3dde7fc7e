//! A job's output on its way into the log: however it is cut into writes, the log is the same, and no masked value is
//! whole in it.
//!
//! The first bytes say which values are masked, how long the log may be and where the output is cut; the rest is printed.

use courser_job::trace::{Log, Masking, Origin, Pipe, Stream};
use courser_protocol::Secret;

const MASK: &str = "[MASKED]";

/// What a run of the pipeline is asked for.
struct Case {
    phrases: Vec<String>,
    limit: u64,
    /// Length of each write, again and again.
    cuts: Vec<usize>,
    output: Vec<u8>,
}

/// Runs one input.
pub(crate) fn check(bytes: &[u8]) {
    let Some(case) = Case::read(bytes) else {
        return;
    };
    let secrets: Vec<Secret> = case
        .phrases
        .iter()
        .map(|phrase| phrase.as_str().into())
        .collect();
    let prefixes: Vec<String> = Masking::built_in_prefixes(true)
        .map(str::to_owned)
        .collect();
    let masking = Masking::new(&secrets, &prefixes).expect("few phrases");

    let whole = log_of(&masking, &[&case.output], case.limit, false);
    let pieces = log_of(&masking, &case.pieces(), case.limit, false);
    assert_eq!(
        String::from_utf8_lossy(&whole),
        String::from_utf8_lossy(&pieces),
        "{:?} cut at {:?}",
        case.phrases,
        case.cuts
    );
    let text = String::from_utf8(whole).expect("a log is UTF-8");
    if (text.len() as u64) < case.limit {
        case.assert_masked(&text);
    }

    let stamped = log_of(&masking, &case.pieces(), u64::MAX >> 1, true);
    let stamped = String::from_utf8(stamped).expect("a log is UTF-8");
    assert!(stamped.is_empty() || stamped.ends_with('\n'), "{stamped:?}");
    for line in stamped.split_terminator('\n') {
        assert!(line.len() >= 32 && line.is_char_boundary(32), "{line:?}");
        assert!(
            line.starts_with("2026-08-22T10:00:00.000001Z 01O"),
            "{line:?}"
        );
    }
    // Stamps may cut a long line, never a value: it has become a mask before.
    let mut lines = String::new();
    for line in stamped.split_terminator('\n') {
        if line.as_bytes()[31] != b'+' {
            lines.push('\n');
        }
        lines.push_str(&line[32..]);
    }
    case.assert_masked(&lines);
}

impl Case {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[count, limit, cuts], mut rest) = bytes.split_first_chunk()?;
        let mut phrases = Vec::new();
        for _ in 0..count % 5 {
            let (&length, more) = rest.split_first()?;
            let (phrase, more) = more.split_at_checked(usize::from(length % 9))?;
            phrases.push(String::from_utf8_lossy(phrase).trim().to_owned());
            rest = more;
        }
        let (cuts, output) = rest.split_at_checked(usize::from(cuts % 4))?;
        let output: Vec<u8> = output.to_vec();
        // Every fourth log is cut, somewhere in the output.
        let limit = match limit % 4 {
            0 => u64::from(limit),
            _ => u64::MAX >> 1,
        };
        Some(Self {
            phrases,
            limit,
            cuts: cuts.iter().map(|cut| usize::from(*cut) + 1).collect(),
            output,
        })
    }

    fn pieces(&self) -> Vec<&[u8]> {
        let mut lengths = self.cuts.iter().copied().cycle();
        let mut rest = self.output.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = lengths.next().unwrap_or(1).min(rest.len());
            let (piece, more) = rest.split_at(length);
            pieces.push(piece);
            rest = more;
        }
        pieces
    }

    /// No masked value is between two masks. What repairs broken characters makes text that was not printed.
    fn assert_masked(&self, text: &str) {
        for phrase in &self.phrases {
            let repaired = phrase.contains('\u{fffd}') || phrase.contains('\n');
            if phrase.is_empty() || repaired {
                continue;
            }
            let found = text
                .split(MASK)
                .any(|between| between.contains(phrase.as_str()));
            assert!(!found, "{phrase:?} is in {text:?}");
        }
    }
}

fn log_of(masking: &Masking, writes: &[&[u8]], limit: u64, stamps: bool) -> Vec<u8> {
    let now = "2026-08-22T10:00:00.000001Z".parse().expect("a time");
    let mut log = Log::new(limit);
    let mut stream = Stream::new(masking, Origin::Script, Pipe::Stdout, stamps);
    for write in writes {
        stream.write(write, now, &mut log);
    }
    stream.close(now, &mut log);
    log.finish();
    log.take()
}
