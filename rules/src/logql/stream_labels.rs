//! The labels of a stream, `{name="value", ...}`, as Loki's push API reads them: in Prometheus's syntax, which has no keywords there,
//! takes strings in any quotes and names in quotes.

use std::collections::BTreeMap;

use super::lexer::{closing_quote, unescape};

/// Reads the labels; `Err` says what is wrong with them. A name before the braces is the label `__name__`.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut labels = BTreeMap::new();
    if let Some(name) = reader.word(|c| c == ':') {
        labels.insert("__name__".to_owned(), name.to_owned());
    }
    reader.expect('{')?;
    while !reader.take('}') {
        let (name, value) = reader.label()?;
        if labels.contains_key(&name) {
            return Err(format!("the label `{name}` is there twice"));
        }
        labels.insert(name, value);
        if !reader.take(',') {
            reader.expect('}')?;
            break;
        }
    }
    match reader.rest() {
        "" => Ok(labels),
        rest => Err(format!("`{rest}` stands behind the labels")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// What is left, without the white space and comments before it.
    fn rest(&mut self) -> &'a str {
        loop {
            let rest = self.text[self.at..].trim_start();
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return rest;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn take(&mut self, symbol: char) -> bool {
        let found = self.rest().starts_with(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), String> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn unexpected(&mut self, wanted: &str) -> String {
        match self.rest().chars().next() {
            Some(found) => format!("expected {wanted}, found `{found}`"),
            None => format!("expected {wanted}, found the end"),
        }
    }

    fn label(&mut self) -> Result<(String, String), String> {
        let name = match self.word(|_| false) {
            Some(name) => name.to_owned(),
            None => self.string("a label")?,
        };
        self.expect('=')?;
        Ok((name, self.string("a string in quotes")?))
    }

    fn word(&mut self, is_extra: impl Fn(char) -> bool) -> Option<&'a str> {
        let rest = self.rest();
        let len = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric() && !is_extra(c)).unwrap_or(rest.len());
        if len == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += len;
        Some(&rest[..len])
    }

    fn string(&mut self, what: &str) -> Result<String, String> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
            return Err(self.unexpected(what));
        };
        let len = closing_quote(&rest[1..], quote).ok_or("a string has no closing quote")?;
        let inner = &rest[1..=len];
        self.at += len + 2;
        if quote == '`' { Ok(inner.to_owned()) } else { unescape(inner, 0, quote).map_err(|mistake| mistake.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let labels = parse(text)?;
        Ok(labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn labels_are_read_as_prometheus_reads_them() {
        for (text, labels) in [
            (r#"{app="shop", pattern="a",}"#, "app=shop pattern=a"),
            (
                r#"{json="1",on="2",or="3",and="4",by="5",offset="6",keep="7",bool="8",rate="9"}"#,
                "and=4 bool=8 by=5 json=1 keep=7 offset=6 on=2 or=3 rate=9",
            ),
            (r#"{ app = 'it\'s "x"' , b=`\n` }"#, r#"app=it's "x" b=\n"#),
            (r#"{"service.name"="a\tb", 'b'="}"}"#, "b=} service.name=a\tb"),
            ("{a=\"1\" # why\n}", "a=1"),
            (r#"up:x{a="1"}"#, "__name__=up:x a=1"),
            ("{}", ""),
        ] {
            assert_eq!(read(text).as_deref(), Ok(labels), "{text}");
        }
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        for (text, why) in [
            ("{a=1}", "expected a string in quotes, found `1`"),
            (r#"{a=~"1"}"#, "expected a string in quotes, found `~`"),
            (r#"{a="1" b="2"}"#, "expected `}`, found `b`"),
            (r#"{a="1""#, "expected `}`, found the end"),
            (r#"{a="1}"#, "a string has no closing quote"),
            (r#"{1="1"}"#, "expected a label, found `1`"),
            (r#"{a="1"} |= "x""#, "`|= \"x\"` stands behind the labels"),
            (r#"{a="1", a="2"}"#, "the label `a` is there twice"),
            (r#"{a="\z"}"#, "`\\z` is no escape"),
            ("", "expected `{`, found the end"),
        ] {
            assert_eq!(read(text), Err(why.to_owned()), "{text}");
        }
    }
}
