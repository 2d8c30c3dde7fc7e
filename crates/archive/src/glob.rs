//! Globs as artifacts, caches and excludes use them: the dialect of doublestar v4
//! (`runner-build-lifecycle.md` 4.3).
//!
//! A pattern is split into alternatives (braces), those into components, and matched component by
//! component. Both levels use the two-pointer algorithm in which only the last star is remembered, so
//! no pattern takes more than the product of the two lengths. `globset` was the plan; its classes,
//! braces and `**` differ from this dialect in enough places that translating took more code than
//! matching.

/// `{a,b}` may multiply; a pattern with more alternatives than this is refused.
const MAX_ALTERNATIVES: usize = 4096;

/// A compiled pattern over slash-separated relative paths.
///
/// ```
/// let glob = courser_archive::Glob::new("target/**/*.{rlib,so}")?;
/// assert!(glob.is_match(b"target/debug/deps/libx.so"));
/// assert!(!glob.is_match(b"target/debug/deps/libx.d"));
/// # Ok::<(), courser_archive::GlobError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Glob {
    alternatives: Vec<Alternative>,
}

/// A pattern that doublestar calls malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct GlobError;

#[derive(Debug, Clone)]
struct Alternative {
    components: Vec<Component>,
    /// The pattern ended in `/`.
    directories_only: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Component {
    /// `**`: any number of components.
    AnyDepth,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(char),
    Any,
    Star,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles a pattern.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let mut expanded = Vec::new();
        expand(pattern, &mut expanded)?;
        let alternatives = expanded
            .iter()
            .map(|text| Alternative::new(text))
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Whether a path matches; a pattern that ends in `/` matches none.
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.matches(path, false)
    }

    /// Whether an entry met on a walk matches.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.alternatives.iter().any(|alternative| {
            (is_directory || !alternative.directories_only)
                && match_components(&alternative.components, &names)
        })
    }

    /// Whether the pattern is `**`, which matches the directory it starts from as well.
    pub(crate) fn matches_its_base(&self) -> bool {
        self.alternatives
            .iter()
            .any(|alternative| alternative.components == [Component::AnyDepth])
    }

    /// The deepest path that can match, in components; `None` when there is no bound.
    pub fn max_depth(&self) -> Option<usize> {
        let mut deepest = 0;
        for alternative in &self.alternatives {
            if alternative.components.contains(&Component::AnyDepth) {
                return None;
            }
            deepest = deepest.max(alternative.components.len());
        }
        Some(deepest)
    }
}

/// Whether a path has to be treated as a pattern.
pub(crate) fn has_meta(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// Splits a pattern into its literal base and the rest: `a/b/*.c` is `a/b` and `*.c`.
pub(crate) fn split_base(pattern: &str) -> (&str, &str) {
    let meta = pattern.find(['*', '?', '[', '{', '\\']);
    match meta.and_then(|at| pattern[..at].rfind('/')) {
        Some(0) => ("/", &pattern[1..]),
        Some(slash) => (&pattern[..slash], &pattern[slash + 1..]),
        None => (".", pattern),
    }
}

impl Alternative {
    fn new(text: &str) -> Result<Self, GlobError> {
        let directories_only = text.len() > 1 && text.ends_with('/') && !text.ends_with("\\/");
        let text = if directories_only {
            &text[..text.len() - 1]
        } else {
            text
        };
        let mut components = Vec::new();
        for part in text.split('/') {
            let component = if part == "**" {
                Component::AnyDepth
            } else {
                Component::Name(tokens(part)?)
            };
            // Two in a row mean the same as one.
            if component != Component::AnyDepth || components.last() != Some(&Component::AnyDepth) {
                components.push(component);
            }
        }
        Ok(Self {
            components,
            directories_only,
        })
    }
}

/// Multiplies braces out, innermost included; classes and escapes are left as they are.
fn expand(pattern: &str, out: &mut Vec<String>) -> Result<(), GlobError> {
    let mut pending = vec![(String::new(), pattern.to_owned())];
    while let Some((done, rest)) = pending.pop() {
        let Some(brace) = first_brace(&rest)? else {
            out.push(done + &rest);
            if out.len() > MAX_ALTERNATIVES {
                return Err(GlobError);
            }
            continue;
        };
        let (options, end) = brace_options(&rest, brace)?;
        if pending.len() + options.len() > MAX_ALTERNATIVES {
            return Err(GlobError);
        }
        for option in options.into_iter().rev() {
            pending.push((
                format!("{done}{}", &rest[..brace]),
                format!("{option}{}", &rest[end..]),
            ));
        }
    }
    Ok(())
}

/// Position of the first opening brace outside of a class.
fn first_brace(text: &str) -> Result<Option<usize>, GlobError> {
    let mut scan = Scanner::new(text);
    while let Some((at, mark)) = scan.next()? {
        match mark {
            '{' => return Ok(Some(at)),
            '}' => return Err(GlobError),
            _ => {}
        }
    }
    Ok(None)
}

/// The alternatives of the brace at `open`, and the position after its closing one.
fn brace_options(text: &str, open: usize) -> Result<(Vec<&str>, usize), GlobError> {
    let body = &text[open + 1..];
    let mut scan = Scanner::new(body);
    let (mut depth, mut start, mut options) = (0usize, 0, Vec::new());
    while let Some((at, mark)) = scan.next()? {
        match mark {
            '{' => depth += 1,
            '}' if depth == 0 => {
                options.push(&body[start..at]);
                return Ok((options, open + 1 + at + 1));
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                options.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    Err(GlobError)
}

/// Yields characters with their position, stepping over escapes and classes.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn next(&mut self) -> Result<Option<(usize, char)>, GlobError> {
        loop {
            let at = self.at;
            let Some(mark) = self.text[at..].chars().next() else {
                return Ok(None);
            };
            self.at += mark.len_utf8();
            match mark {
                '\\' => {
                    let escaped = self.text[self.at..].chars().next().ok_or(GlobError)?;
                    self.at += escaped.len_utf8();
                }
                '[' => self.at += class(&self.text[self.at..])?.1,
                _ => return Ok(Some((at, mark))),
            }
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(mark) = text[at..].chars().next() {
        at += mark.len_utf8();
        tokens.push(match mark {
            '*' => {
                if tokens.last() == Some(&Token::Star) {
                    continue;
                }
                Token::Star
            }
            '?' => Token::Any,
            '[' => {
                let (token, length) = class(&text[at..])?;
                at += length;
                token
            }
            '\\' => {
                let escaped = text[at..].chars().next().ok_or(GlobError)?;
                at += escaped.len_utf8();
                Token::Literal(escaped)
            }
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

/// Parses a class after its `[`; returns it with the number of bytes used, `]` included.
fn class(text: &str) -> Result<(Token, usize), GlobError> {
    let mut at = 0;
    let negated = text.starts_with(['!', '^']);
    if negated {
        at = 1;
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    // A `-` makes a range only between two single characters.
    let mut may_open_range = false;
    loop {
        let mark = text[at..].chars().next().ok_or(GlobError)?;
        if mark == ']' {
            if ranges.is_empty() {
                return Err(GlobError);
            }
            return Ok((Token::Class { negated, ranges }, at + 1));
        }
        at += mark.len_utf8();
        if mark == '-' && may_open_range && !text[at..].starts_with(']') {
            let (end, length) = class_character(&text[at..])?;
            at += length;
            if let Some(last) = ranges.last_mut() {
                last.1 = end;
            }
            may_open_range = false;
        } else {
            let (character, length) = class_character(&text[at - mark.len_utf8()..])?;
            at += length - mark.len_utf8();
            ranges.push((character, character));
            may_open_range = true;
        }
    }
}

fn class_character(text: &str) -> Result<(char, usize), GlobError> {
    let mut characters = text.chars();
    match characters.next().ok_or(GlobError)? {
        '\\' => {
            let escaped = characters.next().ok_or(GlobError)?;
            Ok((escaped, 1 + escaped.len_utf8()))
        }
        plain => Ok((plain, plain.len_utf8())),
    }
}

fn match_components(pattern: &[Component], names: &[&[u8]]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(Component::AnyDepth) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(Component::Name(tokens)) if n < names.len() && match_name(tokens, names[n]) => {
                p += 1;
                n += 1;
                continue;
            }
            None if n == names.len() => return true,
            _ => {}
        }
        match star {
            Some((at, from)) if from < names.len() => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            _ => return false,
        }
    }
}

fn match_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if tokens.get(t) == Some(&Token::Star) {
            star = Some((t, n));
            t += 1;
            continue;
        }
        match (tokens.get(t), decode(&name[n..])) {
            (None, None) => return true,
            (Some(token), Some((character, length))) if token.accepts(character) => {
                t += 1;
                n += length;
                continue;
            }
            _ => {}
        }
        match star {
            Some((at, from)) if from < name.len() => {
                let step = decode(&name[from..]).map_or(1, |(_, length)| length);
                star = Some((at, from + step));
                t = at + 1;
                n = from + step;
            }
            _ => return false,
        }
    }
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::Any => true,
            Self::Star => false,
            Self::Class { negated, ranges } => {
                let inside = ranges
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&character));
                inside != *negated
            }
        }
    }
}

/// The next character; a byte that is no UTF-8 counts as one replacement character, as in Go.
fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    for length in 2..=4.min(bytes.len()) {
        if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
            return text.chars().next().map(|character| (character, length));
        }
    }
    Some((char::REPLACEMENT_CHARACTER, 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dialect_of_doublestar() {
        // pattern, path, expected
        let table = [
            ("*", "a", true),
            ("*", ".hidden", true),
            ("*", "a/b", false),
            ("?", "é", true),
            ("?", "/", false),
            ("a/**", "a", true),
            ("a/**", "a/b/c", true),
            ("a/**", "ab", false),
            ("**/b/**", "b", true),
            ("**/b/**", "x/b/y/z", true),
            ("**", "x/y/z", true),
            ("**/*.xml", "r.xml", true),
            ("**/*.xml", "a/b/r.xml", true),
            ("a**b", "axxb", true),
            ("a**b", "a/b", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/", "a/b", false),
            ("[abc]x", "bx", true),
            ("[^abc]x", "dx", true),
            ("[!abc]x", "ax", false),
            ("[^x]", "/", false),
            ("a[^x]b", "a/b", false),
            ("[a-c-e]", "-", true),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            (r"[\]]", "]", true),
            (r"[\^a]", "^", true),
            ("{a,b/c}", "b/c", true),
            ("{a,b/c}", "b", false),
            ("x{,y}", "x", true),
            ("{a,{b,c}d}e", "cde", true),
            ("{a/**,b}", "a", true),
            ("{a/**,b}", "a/q/r", true),
            ("[{]", "{", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"\{a\}", "{a}", true),
            ("a,b", "a,b", true),
            ("A", "a", false),
            ("", "", true),
            ("", "a", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxcxxbxxa", false),
        ];
        for (pattern, path, expected) in table {
            let glob = Glob::new(pattern).unwrap_or_else(|_| panic!("{pattern} is well formed"));
            assert_eq!(
                glob.is_match(path.as_bytes()),
                expected,
                "{pattern} on {path}"
            );
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "[]a]", "[a", "{a", "a}", "\\", "[a\\", "[^]"] {
            assert_eq!(Glob::new(pattern).err(), Some(GlobError), "{pattern}");
        }
    }

    #[test]
    fn a_trailing_slash_wants_a_directory() {
        let glob = Glob::new("a/*/").expect("well formed");
        assert!(glob.matches(b"a/b", true));
        assert!(!glob.matches(b"a/b", false));
    }

    #[test]
    fn braces_that_multiply_without_end_are_refused() {
        assert_eq!(Glob::new(&"{a,b,c,d}".repeat(16)).err(), Some(GlobError));
    }

    #[test]
    fn many_stars_end_quickly() {
        // A backtracking matcher would need longer than the universe has.
        let glob = Glob::new(&"a*".repeat(60)).expect("well formed");
        assert!(!glob.is_match("b".repeat(5000).as_bytes()));
        let glob = Glob::new(&format!("{}b", "*a".repeat(60))).expect("well formed");
        assert!(!glob.is_match("a".repeat(5000).as_bytes()));
        let glob = Glob::new(&format!("{}b", "**/a/".repeat(60))).expect("well formed");
        assert!(!glob.is_match("a/".repeat(2000).as_bytes()));
    }

    #[test]
    fn base_is_split_before_the_first_wild_component() {
        assert_eq!(split_base("a/b/*.c"), ("a/b", "*.c"));
        assert_eq!(split_base("*.c"), (".", "*.c"));
        assert_eq!(split_base("/x/y*/z"), ("/x", "y*/z"));
        assert_eq!(split_base("/*"), ("/", "*"));
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in ".{0,40}", path in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(glob) = Glob::new(&pattern) {
                glob.is_match(&path);
                glob.max_depth();
            }
        }

        #[test]
        fn an_escaped_text_matches_itself(text in "[^/]{1,20}") {
            let pattern: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(Glob::new(&pattern).expect("well formed").is_match(text.as_bytes()));
        }
    }
}
