//! Names that are near to one that does not exist.

/// `did you mean "build"?`, if there is a name near to this one.
pub(crate) fn nearest<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    let limit = 1 + name.chars().count() / 4;
    let plain = name.to_lowercase();
    let near: Vec<_> = known
        .filter(|known| {
            let known = known.to_lowercase();
            known.starts_with(&plain) || distance(&known, &plain) <= limit
        })
        .take(5)
        .map(|known| format!("{known:?}"))
        .collect();
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// Edits of one character (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
