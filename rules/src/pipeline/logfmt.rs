//! `| logfmt`: the line as `key=value key="quoted value" key`.

use std::borrow::Cow;

use super::json::Malformed;
use super::{Extracted, Record, push_label_name};
use crate::entry::LogEntry;
use crate::logql::ast::LabelExtraction;

/// The compiled stage.
#[derive(Debug)]
pub struct LogfmtStage {
    strict: bool,
    keep_empty: bool,
    expressions: Vec<(String, String)>,
    asked: Option<Vec<String>>,
}

impl LogfmtStage {
    /// The stage; `asked` are the labels that anybody reads, all where it is `None`.
    pub fn new(strict: bool, keep_empty: bool, labels: &[LabelExtraction], asked: Option<&[String]>) -> Self {
        let expressions = labels.iter().map(|label| (label.name.clone(), label.expression.clone())).collect();
        Self { strict, keep_empty, expressions, asked: asked.map(<[String]>::to_vec) }
    }

    pub(super) fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        if self.asked.as_ref().is_some_and(Vec::is_empty) {
            return true;
        }
        let mut name = String::new();
        for pair in Pairs::new(record.line()) {
            match pair {
                Ok((key, value)) => {
                    name.clear();
                    push_label_name(&mut name, key);
                    self.set(record, extracted, &name, &value);
                }
                Err(Malformed) if self.strict => {
                    extracted.fail("LogfmtParserErr");
                    break;
                }
                Err(Malformed) => {}
            }
        }
        for (label, _) in &self.expressions {
            extracted.set(record, self.asked.as_deref(), label, "");
        }
        true
    }

    fn set<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted, key: &str, value: &str) {
        let mut labels = self.expressions.iter().filter(|(_, expression)| expression == key).map(|(label, _)| label);
        if self.expressions.is_empty() && (self.keep_empty || !value.is_empty()) {
            extracted.set(record, self.asked.as_deref(), key, value);
        } else if let Some(label) = labels.next() {
            extracted.set(record, self.asked.as_deref(), label, value);
        }
    }
}

/// The pairs of a line, front to back. After a malformed one reading goes on behind the next space.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
}

impl<'a> Pairs<'a> {
    /// The pairs of `line`.
    pub fn new(line: &'a str) -> Self {
        Self { rest: line }
    }

    fn pair(&mut self) -> Result<(&'a str, Cow<'a, str>), Malformed> {
        let key = self.take_until(|byte| byte == b'=' || byte == b'"' || byte <= b' ');
        match self.rest.as_bytes().first() {
            Some(b'=') if !key.is_empty() => {
                self.rest = &self.rest[1..];
                Ok((key, self.value()?))
            }
            Some(b'=' | b'"') => Err(Malformed),
            _ => Ok((key, Cow::Borrowed(""))),
        }
    }

    fn value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let value = self.take_until(|byte| byte == b'=' || byte == b'"' || byte <= b' ');
        match self.rest.as_bytes().first() {
            Some(b'=' | b'"') => Err(Malformed),
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let Some(end) = end else {
            self.rest = "";
            return Err(Malformed);
        };
        let (quoted, rest) = self.rest.split_at(end + 2);
        self.rest = rest;
        if quoted.contains('\\') {
            serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Malformed)
        } else {
            Ok(Cow::Borrowed(&quoted[1..=end]))
        }
    }

    fn take_until(&mut self, stop: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(stop).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Cow<'a, str>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take_until(|byte| byte > b' ');
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.take_until(|byte| byte <= b' ');
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(line: &str) -> String {
        let show = |pair: Result<(&str, Cow<'_, str>), Malformed>| {
            pair.map_or("!".to_owned(), |(key, value)| format!("{key}:{value}"))
        };
        Pairs::new(line).map(show).collect::<Vec<_>>().join("|")
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in r#"[a= "\\é\x01]{0,40}"#) {
            let _ = pairs(&line);
        }
    }

    #[test]
    fn pairs_are_read_as_go_logfmt_reads_them() {
        assert_eq!(pairs(r#"level=error msg="no \"stock\"" flag n=1"#), r#"level:error|msg:no "stock"|flag:|n:1"#);
        assert_eq!(pairs("a= b=2"), "a:|b:2");
        assert_eq!(pairs(r#"a=1=2 b=3"#), "!|b:3");
        assert_eq!(pairs(r#"=1 b=3"#), "!|b:3");
        assert_eq!(pairs(r#"a="open"#), "!");
        assert_eq!(pairs(r#"a"b c=1"#), "!|c:1");
        assert_eq!(pairs("  "), "");
        assert_eq!(pairs("grüße=ö"), "grüße:ö");
    }
}
