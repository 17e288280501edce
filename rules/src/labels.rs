//! Sets of labels.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::template::format;

/// A set of labels, sorted by name, each name once. No value is empty, for to have an empty label is to have none; only where a stage has
/// extracted an empty value is that told apart until an operator or an alert forgets it, as in Loki.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The set of these pairs; of a name given twice the last value counts.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut sorted = sorted(pairs);
        sorted.retain(|(_, value)| !value.is_empty());
        Self(sorted.into())
    }

    /// Like [`new`](Self::new), with the labels that are empty.
    pub fn with_empty<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(sorted(pairs).into())
    }

    /// The set without the labels that are empty.
    pub fn without_empty(&self) -> Self {
        match self.iter().any(|(_, value)| value.is_empty()) {
            true => Self::new(self.iter()),
            false => self.clone(),
        }
    }

    /// The value of `name`, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many labels the set has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set has no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory that the set takes, about.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + PAIR_BYTES).sum()
    }

    /// A hash that stays the same between versions and machines: XXH64 over `name 0xFF value 0xFF`, as Prometheus does it.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        for (name, value) in self.iter() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0xFF);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0xFF);
        }
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    }
}

/// Two pointers with their lengths, two counts each.
const PAIR_BYTES: usize = 64;

fn sorted<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut sorted: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for (name, value) in pairs {
        let (name, value) = (name.into(), value.into());
        match sorted.binary_search_by(|(other, _)| other.cmp(&name)) {
            Ok(at) => sorted[at].1 = value,
            Err(at) => sorted.insert(at, (name, value)),
        }
    }
    sorted
}

/// `{name="value", ...}`, as Prometheus writes a set of labels.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={}", if i == 0 { "" } else { ", " }, format::quote(value, false))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_in_go() {
        let labels = Labels::new([("a", "\u{7f}\u{200b}\t\"é'")]);
        assert_eq!(labels.to_string(), r#"{a="\x7f\u200b\t\"é'"}"#);
    }
}
