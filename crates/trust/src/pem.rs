//! PEM bundles: which certificates Go finds in one, and why it finds no more.
//!
//! Bundles are messy and every reader skips what it doesn't like without a word. [`read`] takes exactly the blocks that
//! Go's `AppendCertsFromPEM` takes (`dependencies.md` 3.3) and reports every other one with its line and its repair.

use base64::Engine as _;
use memchr::memmem::{find, rfind};

use crate::certificate::Certificate;
use crate::pkcs7::certificates_of_pkcs7;
use crate::pkcs12;
use crate::skip_reason::SkipReason;

/// The blocks of a file, whatever is in them.
pub(crate) struct Sections {
    /// Bodies of `CERTIFICATE` blocks with the line of their `BEGIN`, counted from 1.
    pub(crate) bodies: Vec<(usize, Vec<u8>)>,
    pub(crate) skipped: Vec<(usize, SkipReason)>,
}

/// What a bundle holds.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// Certificates with the line of their `BEGIN`, counted from 1.
    pub(crate) certificates: Vec<(usize, Certificate)>,
    pub(crate) skipped: Vec<(usize, SkipReason)>,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

/// Finds the certificates of a bundle and says why other parts are none.
pub(crate) fn read(bytes: &[u8]) -> Bundle {
    let sections = sections(bytes);
    let mut bundle = Bundle {
        certificates: Vec::with_capacity(sections.bodies.len()),
        skipped: sections.skipped,
    };
    let blocks = bundle.skipped.len();
    for (line, body) in sections.bodies {
        match Certificate::parse(&body) {
            Ok(certificate) => bundle.certificates.push((line, certificate)),
            Err(error) => bundle.skipped.push((line, SkipReason::Unparsable(error))),
        }
    }
    if bundle.skipped.len() > blocks {
        bundle.skipped.sort_by_key(|(line, _)| *line);
    }
    bundle
}

/// Whether the text begins as PEM does.
pub(crate) fn looks_like_pem(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN)
}

/// Labels and contents of the blocks that Go's decoder finds.
pub(crate) fn blocks(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let blocks = Blocks { bytes, position: 0 };
    blocks.map(|block| (block.label, block.body))
}

/// Finds the `CERTIFICATE` blocks of a file and says why other parts are none.
pub(crate) fn sections(bytes: &[u8]) -> Sections {
    let mut sections = Sections {
        bodies: Vec::new(),
        skipped: Vec::new(),
    };
    if let Some(reason) = unreadable_as_a_whole(bytes) {
        sections.skipped.push((1, reason));
        return sections;
    }
    let lines = Lines::of(bytes);
    let mut unread_from = 0;
    for block in (Blocks { bytes, position: 0 }) {
        let stretch = unread_from..block.begin;
        explain_skipped(bytes, stretch, &lines, &mut sections.skipped);
        unread_from = block.end;
        let line = lines.number(block.begin);
        match label_reason(&block.label) {
            Some(reason) => sections.skipped.push((line, reason)),
            None if block.has_headers => sections.skipped.push((line, SkipReason::Headers)),
            None => sections.bodies.push((line, block.body)),
        }
    }
    let stretch = unread_from..bytes.len();
    explain_skipped(bytes, stretch, &lines, &mut sections.skipped);
    if sections.bodies.is_empty() && sections.skipped.is_empty() {
        sections.skipped.push((1, SkipReason::NoPem));
    }
    sections
}

/// Whether the file as a whole is something else than text with PEM blocks.
fn unreadable_as_a_whole(bytes: &[u8]) -> Option<SkipReason> {
    if bytes.is_empty() {
        return Some(SkipReason::EmptyFile);
    }
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let wide = |bytes: &[u8]| bytes.starts_with(b"-\0-\0") || bytes.starts_with(b"\0-\0-");
    if (marked || wide(bytes)) && find(bytes, BEGIN).is_none() {
        return Some(SkipReason::Utf16);
    }
    if bytes[0] == crate::der::SEQUENCE && find(bytes, BEGIN).is_none() {
        return Some(match Certificate::parse(bytes) {
            Ok(_) => SkipReason::Der,
            Err(_) if certificates_of_pkcs7(bytes).is_ok() => SkipReason::Pkcs7File,
            Err(_) if pkcs12::is_pkcs12(bytes) => SkipReason::Pkcs12File,
            Err(_) => SkipReason::NoPem,
        });
    }
    if find(bytes, BEGIN).is_some() && !bytes.contains(&b'\n') {
        if bytes.contains(&b'\r') {
            return Some(SkipReason::BareCarriageReturns);
        }
        if find(bytes, b"\\n").is_some() {
            return Some(SkipReason::LiteralNewlines);
        }
    }
    None
}

fn label_reason(label: &str) -> Option<SkipReason> {
    match label {
        "CERTIFICATE" => None,
        "TRUSTED CERTIFICATE" => Some(SkipReason::TrustedCertificate),
        "X509 CERTIFICATE" => Some(SkipReason::OtherCertificateLabel(label.to_owned())),
        "PKCS7" | "CMS" => Some(SkipReason::Pkcs7),
        key if key.ends_with("PRIVATE KEY") => Some(SkipReason::PrivateKey),
        other => Some(SkipReason::OtherBlock(other.to_owned())),
    }
}

/// Reports every `BEGIN` in a stretch where no block was found.
fn explain_skipped(
    bytes: &[u8],
    stretch: std::ops::Range<usize>,
    lines: &Lines,
    skipped: &mut Vec<(usize, SkipReason)>,
) {
    let mut position = stretch.start;
    let mut line_before = 0;
    while let Some(found) = find(&bytes[position..stretch.end], BEGIN) {
        let begin = position + found;
        let after = begin + BEGIN.len();
        let next = find(&bytes[after..stretch.end], BEGIN).map(|next| after + next);
        let line = lines.number(begin);
        // What stands before it on its line is looked at once a line: a line can have any number of them.
        let reason = if line == line_before {
            SkipReason::Joined
        } else {
            skip_reason(bytes, lines.start(line), begin, next.unwrap_or(stretch.end))
        };
        skipped.push((line, reason));
        line_before = line;
        position = after;
    }
}

/// Why there is no block at this `BEGIN`, the first of its line; `until` is where the next one starts.
fn skip_reason(bytes: &[u8], line_start: usize, begin: usize, until: usize) -> SkipReason {
    let before = &bytes[line_start..begin];
    if before == b"\xef\xbb\xbf" {
        return SkipReason::ByteOrderMark;
    }
    if !before.is_empty() {
        let white = before.iter().all(u8::is_ascii_whitespace);
        return if white {
            SkipReason::Indented
        } else {
            SkipReason::Joined
        };
    }
    let block = &bytes[begin..until];
    let (first_line, _, _) = split_line(block);
    let label = first_line.strip_prefix(BEGIN);
    let Some(label) = label.and_then(|label| label.strip_suffix(DASHES)) else {
        return if find(block, b"\\n").is_some() {
            SkipReason::LiteralNewlines
        } else {
            SkipReason::MalformedBegin
        };
    };
    let Some(end) = find(block, END) else {
        return if find(block, b"-----END ").is_some() {
            SkipReason::MalformedEnd
        } else {
            SkipReason::Unterminated
        };
    };
    let (last_line, _, _) = split_line(&bytes[begin + end + 1..]);
    if find(last_line, BEGIN).is_some() {
        return SkipReason::Joined;
    }
    if last_line != [b"-----END ", label, DASHES].concat() {
        return SkipReason::MalformedEnd;
    }
    SkipReason::Base64
}

/// One well-formed block.
struct Block {
    begin: usize,
    end: usize,
    label: String,
    has_headers: bool,
    body: Vec<u8>,
}

/// Walks over the blocks that Go's decoder finds: an `END` line, the last `BEGIN` before it at the start of a line, a
/// body of base64 between them.
struct Blocks<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        // Where a BEGIN counts as being at the start of a line: after a newline, or here.
        let mut from = self.position;
        loop {
            let end = from + find(&self.bytes[from..], END)?;
            let begin = rfind(&self.bytes[from..end], BEGIN).map(|begin| from + begin);
            let found = begin
                .filter(|&begin| begin == from || self.bytes[begin - 1] == b'\n')
                .and_then(|begin| self.block(begin, end));
            if let Some(block) = found {
                self.position = block.end;
                return Some(block);
            }
            from = end + END.len();
        }
    }
}

impl Blocks<'_> {
    /// The block between a `BEGIN` and the newline before an `END`, when it is one.
    fn block(&self, begin: usize, end: usize) -> Option<Block> {
        let (line, mut rest, used) = split_line(&self.bytes[begin..]);
        let label = line.strip_prefix(BEGIN)?.strip_suffix(DASHES)?;
        let mut body_start = begin + used;
        let mut has_headers = false;
        loop {
            let (line, next, used) = split_line(rest);
            // A line without a colon ends the headers; so does the END line of an empty block.
            if body_start > end || !line.contains(&b':') {
                break;
            }
            has_headers = true;
            body_start += used;
            rest = next;
        }
        if has_headers && body_start > end {
            return None;
        }
        let trailer = &self.bytes[end + END.len()..];
        let after = trailer.strip_prefix(label)?.strip_prefix(DASHES)?;
        let (rest_of_line, _, used) = split_line(after);
        if !rest_of_line.is_empty() {
            return None;
        }
        let body = without_blanks(self.bytes.get(body_start..end).unwrap_or_default());
        Some(Block {
            begin,
            end: self.bytes.len() - after.len() + used,
            label: String::from_utf8_lossy(label).into_owned(),
            has_headers,
            body: BASE64.decode(body).ok()?,
        })
    }
}

fn without_blanks(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    let mut from = 0;
    for at in memchr::memchr3_iter(b'\n', b'\r', b' ', body) {
        text.extend_from_slice(&body[from..at]);
        from = at + 1;
    }
    text.extend_from_slice(&body[from..]);
    text.retain(|&byte| byte != b'\t');
    text
}

/// Standard base64 with padding; superfluous bits in the last letter are passed over, as Go does.
const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A line without its end and trailing blanks, what follows it, and how many bytes it took.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8], usize) {
    let (line, used) = match memchr::memchr(b'\n', bytes) {
        Some(newline) => {
            let line = &bytes[..newline];
            (line.strip_suffix(b"\r").unwrap_or(line), newline + 1)
        }
        None => (bytes, bytes.len()),
    };
    let trimmed = line
        .iter()
        .rposition(|byte| !b" \t".contains(byte))
        .map_or(0, |last| last + 1);
    (&line[..trimmed], &bytes[used..], used)
}

/// Byte offsets at which lines start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(bytes: &[u8]) -> Self {
        let newlines = memchr::memchr_iter(b'\n', bytes);
        Self(
            std::iter::once(0)
                .chain(newlines.map(|newline| newline + 1))
                .collect(),
        )
    }

    /// Counted from 1.
    fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|&start| start <= offset)
    }

    /// Offset at which a line starts.
    fn start(&self, line: usize) -> usize {
        self.0[line - 1]
    }
}

/// A certificate as a PEM block with its final newline.
pub(crate) fn encode(der: &[u8]) -> String {
    encode_as("CERTIFICATE", der)
}

/// Bytes as a PEM block of this label.
pub(crate) fn encode_as(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 80);
    for part in ["-----BEGIN ", label, "-----\n"] {
        pem.push_str(part);
    }
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    for part in ["-----END ", label, "-----\n"] {
        pem.push_str(part);
    }
    pem
}
/// A comment of a bundle. Printable ASCII: some readers stumble over anything else, and a name must not begin a block of
/// its own.
pub(crate) fn one_line(name: &str) -> String {
    let plain = |character: char| match character {
        ' '..='~' => character,
        _ => '?',
    };
    name.chars()
        .map(plain)
        .collect::<String>()
        .replace("-----", "-?-")
}
