//! `="text"`, `!="text"`, `=~"regex"`, `!~"regex"`, for selectors and label filters.

use super::Unsupported;
use crate::logql::ast::{LabelMatcher, MatchOp};
use crate::logql::regexp::{self, Regexp};

/// A compiled matcher of one label's value; a missing label has the empty value.
#[derive(Debug)]
pub struct TextMatcher {
    kind: Kind,
    negative: bool,
}

#[derive(Debug)]
enum Kind {
    Text(String),
    Any,
    NotEmpty,
    Regex(Regexp),
}

impl TextMatcher {
    /// Compiles the matcher; an expression must match the whole value, its dot also a line's end.
    pub fn compile(matcher: &LabelMatcher) -> Result<Self, Unsupported> {
        let negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
        let kind = match (matcher.op, matcher.value.as_str()) {
            (MatchOp::Equal | MatchOp::NotEqual, text) => Kind::Text(text.to_owned()),
            (_, ".*") => Kind::Any,
            (_, ".+") => Kind::NotEmpty,
            (_, expression) => {
                let regex = regexp::compile_anchored(expression);
                Kind::Regex(regex.map_err(|error| Unsupported::new(matcher.value_span, error.to_string()))?)
            }
        };
        Ok(Self { kind, negative })
    }

    /// The one value that is as asked, where there is but one.
    pub fn only_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) if !self.negative => Some(text),
            _ => None,
        }
    }

    /// Whether the value is as asked.
    pub fn matches(&self, value: &str) -> bool {
        let found = match &self.kind {
            Kind::Text(text) => text == value,
            Kind::Any => true,
            Kind::NotEmpty => !value.is_empty(),
            Kind::Regex(regex) => regex.is_match(value),
        };
        found != self.negative
    }
}
