//! What was meant by a word that is misspelt.

/// The known word that is nearest, if it is so many slips away at most.
pub(crate) fn meant<'k>(word: &str, known: impl IntoIterator<Item = &'k str>, slips_max: usize) -> Option<&'k str> {
    let nearest = known.into_iter().map(|known| (slips(word, known), known)).min_by_key(|(slips, _)| *slips);
    nearest.filter(|(slips, _)| *slips <= slips_max).map(|(_, known)| known)
}

/// How many characters are missing, too many, wrong, or have changed places with the next.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && (a[i - 1], a[i - 2]) == (b[j - 2], b[j - 1]) {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn what_is_near() {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        for (word, slips_max, expected) in [
            ("inof", 1, Some("info")),
            ("debg", 1, Some("debug")),
            ("infos", 1, Some("info")),
            ("eror", 1, Some("error")),
            ("err", 1, None),
            ("err", 2, Some("error")),
            ("hyper", 2, None),
            ("", 2, None),
        ] {
            assert_eq!(meant(word, levels, slips_max), expected, "{word}");
        }
    }
}
