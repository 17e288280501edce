//! `label_replace`.

use super::{Element, Vector};
use crate::labels::Labels;
use crate::logql::regexp::{self, Regexp};

/// `label_replace(vector, dst, replacement, src, regex)`, compiled.
#[derive(Debug)]
pub struct LabelReplace {
    dst: String,
    replacement: String,
    src: String,
    regex: Regexp,
}

impl LabelReplace {
    /// The arguments as in LogQL; the expression must match the whole of `src`, its dot no line's end.
    pub fn new(dst: &str, replacement: &str, src: &str, regex: &str) -> Result<Self, regexp::Error> {
        let regex = regexp::compile_whole(regex)?;
        Ok(Self { dst: dst.to_owned(), replacement: replacement.to_owned(), src: src.to_owned(), regex })
    }

    /// The label that is set.
    pub fn dst(&self) -> &str {
        &self.dst
    }

    /// Sets `dst` on every element whose `src` matches (a missing label is empty); an empty value takes the label away. Elements
    /// that become equal by it stay apart, as in Loki.
    pub fn apply(&self, vector: Vector) -> Vector {
        let replaced = |element: Element| match self.value(&element.labels) {
            Some(value) => Element {
                labels: Labels::new(element.labels.iter().chain([(self.dst.as_str(), value.as_str())])),
                ..element
            },
            None => element,
        };
        vector.into_iter().map(replaced).collect()
    }

    fn value(&self, labels: &Labels) -> Option<String> {
        let captures = self.regex.captures(labels.get(&self.src).unwrap_or_default())?;
        let mut value = String::new();
        captures.expand(&self.replacement, &mut value);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(dst: &str, replacement: &str, src: &str, regex: &str) -> String {
        let vector = vec![Element { labels: Labels::new([("a", "x-1")]), value: 1.0 }];
        LabelReplace::new(dst, replacement, src, regex).unwrap().apply(vector)[0].labels.to_string()
    }

    #[test]
    fn a_label_is_made_of_another() {
        assert_eq!(replaced("b", "$2.${1}", "a", "(.*)-(.*)"), r#"{a="x-1", b="1.x"}"#);
        assert_eq!(replaced("b", "$name!", "a", "(?P<name>.).*"), r#"{a="x-1", b="x!"}"#);
        assert_eq!(replaced("b", "all", "a", "x"), r#"{a="x-1"}"#, "the whole value must match");
        assert_eq!(replaced("b", "none", "missing", ""), r#"{a="x-1", b="none"}"#);
        assert_eq!(replaced("a", "$3", "a", ".*"), "{}", "an empty value takes the label away");
        assert_eq!(replaced("b", "$$1", "a", ".*"), r#"{a="x-1", b="$1"}"#);
    }
}
