//! Ruby's `File.fnmatch` with PATHNAME, DOTMATCH and EXTGLOB, which `changes` and `exists` use
//! (`gitlab-ci-yaml.md` 11.1).

/// Alternatives that `{a,b}` may expand to; more is refused by matching nothing further.
const MAXIMUM_ALTERNATIVES: usize = 1000;
/// Bytes that making alternatives may take; what comes after them matches nothing.
const MAXIMUM_EXPANSION: usize = 8 << 20;

/// A pattern, braces expanded.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    alternatives: Vec<Vec<Vec<char>>>,
}

/// Whether a pattern has nothing that stands for something else.
pub(crate) fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', '{', '\\'])
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self {
            alternatives: expand_braces(pattern)
                .iter()
                .map(|one| one.split('/').map(|part| part.chars().collect()).collect())
                .collect(),
        }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let segments: Vec<&str> = path.split('/').collect();
        self.alternatives
            .iter()
            .any(|pattern| matches_path(pattern, &segments))
    }
}

/// `**/` crosses directories; the last one met is where a failed match goes on.
fn matches_path(pattern: &[Vec<char>], path: &[&str]) -> bool {
    let is_globstar = |at: usize| at + 1 < pattern.len() && pattern[at] == ['*', '*'];
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if is_globstar(p) {
            while is_globstar(p) {
                p += 1;
            }
            retry = Some((p, s));
        }
        if p < pattern.len() && s < path.len() && matches_segment(&pattern[p], path[s]) {
            if p + 1 == pattern.len() && s + 1 == path.len() {
                return true;
            }
            if p + 1 < pattern.len() && s + 1 < path.len() {
                p += 1;
                s += 1;
                continue;
            }
        }
        match &mut retry {
            Some((restart, from)) if *from + 1 < path.len() => {
                *from += 1;
                p = *restart;
                s = *from;
            }
            _ => return false,
        }
    }
}

fn matches_segment(pattern: &[char], text: &str) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let character = |at: usize| text[at..].chars().next();
    while t < text.len() || p < pattern.len() {
        if p < pattern.len() && pattern[p] == '*' {
            while p < pattern.len() && pattern[p] == '*' {
                p += 1;
            }
            star = Some((p, t));
            continue;
        }
        if let Some(c) = character(t)
            && let Some(next) = matches_one(pattern, p, c)
        {
            p = next;
            t += c.len_utf8();
            continue;
        }
        match &mut star {
            Some((after, from)) if *from < text.len() => {
                *from += character(*from).map_or(1, char::len_utf8);
                p = *after;
                t = *from;
            }
            _ => return false,
        }
    }
    true
}

/// The place behind the pattern element at `p` when that element matches `c`.
fn matches_one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => matches_bracket(pattern, p + 1, c),
        '\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        literal => (literal == c).then_some(p + 1),
    }
}

fn matches_bracket(pattern: &[char], start: usize, c: char) -> Option<usize> {
    let mut at = start;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    if negated {
        at += 1;
    }
    let mut found = false;
    let one = |at: &mut usize| -> Option<char> {
        if pattern.get(*at) == Some(&'\\') {
            *at += 1;
        }
        let c = *pattern.get(*at)?;
        *at += 1;
        Some(c)
    };
    while pattern.get(at) != Some(&']') {
        let low = one(&mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') && pattern.get(at + 1).is_some_and(|c| *c != ']') {
            at += 1;
            high = one(&mut at)?;
        }
        found |= (low..=high).contains(&c);
    }
    (found != negated).then_some(at + 1)
}

/// `{a,b}` into one pattern each. A list of its own and not recursion, because a pattern may hold as many
/// braces as a file has room for.
fn expand_braces(pattern: &str) -> Vec<String> {
    let mut expanded = Vec::new();
    let mut budget = MAXIMUM_EXPANSION;
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        if expanded.len() >= MAXIMUM_ALTERNATIVES {
            break;
        }
        let Some((start, end)) = outer_braces(&pattern) else {
            expanded.push(pattern);
            continue;
        };
        let (head, tail) = (&pattern[..start], &pattern[end + 1..]);
        for piece in pieces(&pattern[start + 1..end]).into_iter().rev() {
            let one = format!("{head}{piece}{tail}");
            match budget.checked_sub(one.len() + size_of::<String>()) {
                Some(left) => budget = left,
                None => return expanded,
            }
            open.push(one);
        }
    }
    expanded
}

/// What the commas of one pair of braces separate.
fn pieces(inside: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0, 0);
    let mut pieces = Vec::new();
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                pieces.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&inside[start..]);
    pieces
}

/// The first balanced pair of braces.
fn outer_braces(pattern: &str) -> Option<(usize, usize)> {
    let mut open = None;
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '{' => {
                depth += 1;
                open.get_or_insert(at);
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return open.map(|open| (open, at));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_as_ruby_matches_them() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", ".a", true),
            ("*", "a/b", false),
            ("dir/*", "dir/a", true),
            ("dir/*", "dir/a/b", false),
            ("dir/**/*", "dir/a", true),
            ("dir/**/*", "dir/a/b/c", true),
            ("dir/**/*", "other/a", false),
            ("**/*.rs", "a.rs", true),
            ("**/*.rs", ".hidden/x/a.rs", true),
            ("**", "a", true),
            ("**", "a/b", false),
            ("dir/**", "dir/a", true),
            ("dir/**", "dir/a/b", false),
            ("a/**/b/**/c", "a/b/x/b/c", true),
            ("a/**/b/**/c", "a/x/y/c", false),
            ("*.{md,txt}", "a.txt", true),
            ("{a,b/{c,d}}/x", "b/d/x", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]x", "bx", true),
            ("?.c", "a.c", true),
            ("?", "/", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("A", "a", false),
            ("[a", "a", false),
            ("*a*b*c", "xaybzc", true),
            ("src/", "src/", true),
            ("src", "src/a", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn a_pattern_of_braces_takes_neither_the_stack_nor_the_memory() {
        let braces = "{a}".repeat(100_000);
        let nested = format!("{}x{}", "{".repeat(50_000), "}".repeat(50_000));
        let commas = format!("{{{}}}", ",".repeat(1_000_000));
        for pattern in [&braces, &nested, &commas] {
            assert!(!Glob::new(pattern).matches("b"));
        }
    }

    #[test]
    fn brace_bombs_are_bounded() {
        let glob = Glob::new(&"{a,b}".repeat(40));
        assert!(glob.alternatives.len() <= MAXIMUM_ALTERNATIVES);
    }

    proptest! {
        #[test]
        fn a_literal_path_matches_itself(path in "[a-z.]{1,5}(/[a-z.]{1,5}){0,4}") {
            prop_assert!(Glob::new(&path).matches(&path));
            let anywhere = Glob::new("**/*").matches(&path);
            prop_assert!(anywhere);
        }

        #[test]
        fn any_pattern_ends(pattern in "[a*?/\\[\\]{},!\\\\-]{0,30}", path in "[a/]{0,30}") {
            Glob::new(&pattern).matches(&path);
        }
    }
}
