//! PEM blocks as people mean them: indented, joined, quoted, with escapes for line ends, with or without an end.

/// One block.
pub(super) struct Block {
    /// Line of its `BEGIN`, counted from 1.
    pub(super) line: usize,
    pub(super) label: String,
    /// Its headers say that the body is encrypted.
    pub(super) is_encrypted: bool,
    pub(super) body: Result<Vec<u8>, String>,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// All blocks of a text.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    // A value out of a variable or a JSON file.
    let unescaped = (!text.trim().contains(['\n', '\r']))
        .then(|| text.replace("\\r\\n", "\n").replace("\\n", "\n"));
    let text = unescaped.as_deref().unwrap_or(text);
    let mut blocks = Vec::new();
    let mut position = 0;
    let mut line = 1;
    while let Some(found) = text[position..].find(BEGIN) {
        let begin = position + found;
        line += line_ends(&text[position..begin]);
        let after = begin + BEGIN.len();
        let until = text[after..]
            .find(BEGIN)
            .map_or(text.len(), |next| after + next);
        if let Some(block) = block(&text[after..until], line) {
            blocks.push(block);
        }
        line += line_ends(&text[begin..until]);
        position = until;
    }
    blocks
}

/// The block whose label starts here.
fn block(text: &str, line: usize) -> Option<Block> {
    let first_line = text.split(['\n', '\r']).next().unwrap_or_default();
    let label_end = first_line.find("--")?;
    let label = first_line[..label_end].trim().to_owned();
    let body = text[label_end..].trim_start_matches('-');
    let body = body
        .find("-----END")
        .or_else(|| body.find(DASHES))
        .map_or(body, |end| &body[..end]);
    let headers = body.lines().filter(|line| line.contains(':'));
    let is_encrypted = headers.clone().any(|line| line.contains("ENCRYPTED"));
    let letters: String = body
        .split(['\n', '\r'])
        .filter(|line| !line.contains(':'))
        .collect();
    let body = decode(letters.as_bytes())
        .filter(|body| !body.is_empty())
        .ok_or_else(|| "its text is no base64".to_owned());
    Some(Block {
        line,
        label,
        is_encrypted,
        body,
    })
}

fn line_ends(text: &str) -> usize {
    let newlines = text.bytes().filter(|byte| *byte == b'\n').count();
    match newlines {
        0 => text.bytes().filter(|byte| *byte == b'\r').count(),
        _ => newlines,
    }
}

/// Base64 without what surrounds it in mails, YAML and JSON.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let around = |byte: &u8| byte.is_ascii_whitespace() || b"\"'>,|\\".contains(byte);
    let letters: Vec<u8> = text.iter().copied().filter(|byte| !around(byte)).collect();
    super::from_base64(&letters)
}
