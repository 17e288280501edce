//! One automaton over the texts that rules need to find in a line: most lines hold none of them, and are done with in one pass.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// Literals, and who needs them.
#[derive(Debug, Default)]
pub struct LiteralIndex {
    automaton: Option<AhoCorasick>,
    /// By pattern: the filters that need it.
    filters: Vec<Vec<u32>>,
}

impl LiteralIndex {
    /// An index of `(literal, filter)` pairs.
    pub fn new(literals: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut patterns: Vec<String> = Vec::new();
        let mut filters: Vec<Vec<u32>> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for (literal, filter) in literals {
            let at = *known.entry(literal.clone()).or_insert(patterns.len());
            if at == patterns.len() {
                patterns.push(literal);
                filters.push(Vec::new());
            }
            filters[at].push(filter);
        }
        Self { automaton: automaton(&patterns), filters }
    }

    /// How many literals there are.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The filters that need a literal.
    pub fn filters(&self, literal: usize) -> &[u32] {
        &self.filters[literal]
    }

    /// Visits the literals that are in `line`, some of them more than once, as long as `visit` says so.
    #[inline]
    pub fn for_each_found(&self, line: &str, mut visit: impl FnMut(usize) -> bool) {
        match &self.automaton {
            Some(automaton) => _ = automaton.find_overlapping_iter(line).all(|found| visit(found.pattern().as_usize())),
            None => _ = (0..self.len()).all(visit),
        }
    }
}

/// A table per state is fastest, while it stays small; the compact form is half as fast and needs a tenth of the memory.
fn automaton(patterns: &[String]) -> Option<AhoCorasick> {
    let bytes: usize = patterns.iter().map(String::len).sum();
    let kind = if bytes <= DFA_BYTES_MAX { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
    let built = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(Some(kind)).build(patterns);
    built.ok() // it fails on billions of states alone; then every filter looks for itself
}

/// Greatest number of bytes of all literals for which the automaton is a table (some 200 bytes of it for each).
const DFA_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_those_whose_literal_is_in_the_line() {
        let index = LiteralIndex::new([
            ("error".to_owned(), 0),
            ("err".to_owned(), 1),
            ("error".to_owned(), 2),
            ("x".to_owned(), 3),
        ]);
        let candidates = |line: &str| {
            let mut found: Vec<u32> = Vec::new();
            index.for_each_found(line, |literal| {
                found.extend(index.filters(literal));
                true
            });
            found.sort();
            found
        };
        assert_eq!(candidates("an error"), [0, 1, 2]);
        assert_eq!(candidates("a berry"), [1]);
        assert!(candidates("fine").is_empty());
        let mut visits = 0;
        index.for_each_found("errors and xx", |_| {
            visits += 1;
            visits < 2
        });
        assert_eq!(visits, 2, "it stops when told so");
    }
}
