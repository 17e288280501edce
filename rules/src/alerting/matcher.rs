//! Matchers on labels, in both of Alertmanager's spellings.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::labels::Labels;
use crate::logql::ast::MatchOp;
use crate::logql::regexp::{self, Regexp};

/// `name="value"`, `!=`, `=~` or `!~`; a regular expression must match the whole value (`.` no line break, as in Alertmanager), an absent
/// label is the empty string.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regexp>,
}

impl Matcher {
    /// A matcher; `Err` says what is wrong with its regular expression.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, String> {
        let value = value.into();
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(regexp::compile(&format!("^(?:{value})$")).map_err(|_| {
                let why = regexp::compile(&value).err().map_or(String::new(), |error| format!(": {error}"));
                format!("`{value}` is not a regular expression{why}")
            })?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    /// Whether the labels fulfil it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        let holds = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => value == self.value,
        };
        holds == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// What Alertmanager sorts a route's matchers by.
    pub(super) fn sort_key(&self) -> (&str, &str, u8) {
        (&self.name, &self.value, self.op as u8)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.sort_key() == other.sort_key()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        let value = self.value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
        write!(f, "{}{op}\"{value}\"", self.name)
    }
}

/// Several matchers, all of which must hold; in a config one text: `{a="b", c=~"d|e"}`, the braces and quotes may be left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matchers(pub Vec<Matcher>);

impl Matchers {
    /// Reads `{a="b", c=~"d|e"}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let inside = match (trimmed.strip_prefix('{'), trimmed.strip_suffix('}')) {
            (Some(_), Some(_)) if trimmed.len() >= 2 => &trimmed[1..trimmed.len() - 1],
            (None, None) => trimmed,
            _ => return Err(format!("`{text}` has a brace without its other half")),
        };
        let mut matchers = Vec::new();
        let mut rest = inside.trim();
        while !rest.is_empty() {
            let (matcher, behind) = parse_one(rest)?;
            matchers.push(matcher);
            rest = match behind.trim_start().strip_prefix(',') {
                Some(behind) => behind.trim_start(),
                None if behind.trim().is_empty() => "",
                None => return Err(format!("`{}` follows a matcher: a comma must separate them", behind.trim())),
            };
        }
        match matchers.is_empty() {
            true => Err("a matcher is missing: write one like `severity=\"page\"`".into()),
            false => Ok(Self(matchers)),
        }
    }
}

impl Serialize for Matchers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = self.0.iter().map(Matcher::to_string).collect();
        serializer.serialize_str(&texts.join(","))
    }
}

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse_one(text: &str) -> Result<(Matcher, &str), String> {
    let (name, rest) = match text.starts_with('"') {
        true => quoted(text)?,
        false => {
            let end = text.find(|c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c)).unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    let rest = rest.trim_start();
    let operators =
        [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];
    let Some((op, rest)) = operators.iter().find_map(|(sign, op)| rest.strip_prefix(sign).map(|rest| (*op, rest)))
    else {
        return Err(format!("`{text}` has no operator behind `{name}`: write one of `=`, `!=`, `=~`, `!~`"));
    };
    if name.is_empty() {
        return Err(format!("`{text}` names no label"));
    }
    let rest = rest.trim_start();
    let (value, rest) = match rest.starts_with('"') {
        true => quoted(rest)?,
        false => {
            let end = rest.find(',').unwrap_or(rest.len());
            (unescaped(rest[..end].trim_end())?, &rest[end..])
        }
    };
    Ok((Matcher::new(name, op, value)?, rest))
}

/// A quoted text and what stands behind it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !is_escaped {
            return Ok((unescaped(&text[1..at])?, &text[at + 1..]));
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    Err(format!("`{text}` has an unclosed quote"))
}

/// `\n`, `\"` and `\\` are escapes, as in Alertmanager; any other backslash is itself, as in the regular expression `\d`.
fn unescaped(text: &str) -> Result<String, String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('n' | '"' | '\\'))) => {
                value.push(if escaped == 'n' { '\n' } else { escaped });
                chars.next();
            }
            ('"', _) => return Err(format!("`{text}` has a quote inside: write `\\\"`")),
            _ => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings() {
        for (text, written) in [
            (r#"severity="page""#, r#"severity="page""#),
            ("severity=page", r#"severity="page""#),
            (r#"{a="b", c=~"d|e",}"#, r#"a="b",c=~"d|e""#),
            (r#"a != b , c !~ d.*"#, r#"a!="b",c!~"d.*""#),
            (r#""service name"="x, y""#, r#"service name="x, y""#),
            ("a='x'", r#"a="'x'""#),
            (r#"a=~\\d\w, b=\"c"#, r#"a=~"\\d\\w",b="\"c""#),
            (r#"a="\t\\""#, r#"a="\\t\\""#),
            (r#"a="q\"\\\n""#, r#"a="q\"\\\n""#),
            (r#"a=~"\d+""#, r#"a=~"\\d+""#),
            ("a=", r#"a="""#),
        ] {
            let matchers = Matchers::parse(text).unwrap();
            let texts: Vec<String> = matchers.0.iter().map(Matcher::to_string).collect();
            assert_eq!(texts.join(","), written, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, message) in [
            ("", "a matcher is missing: write one like `severity=\"page\"`"),
            ("severity", "`severity` has no operator behind `severity`: write one of `=`, `!=`, `=~`, `!~`"),
            ("=x", "`=x` names no label"),
            ("{a=b", "`{a=b` has a brace without its other half"),
            (r#"a="b" c="d""#, "`c=\"d\"` follows a matcher: a comma must separate them"),
            (r#"a="b"#, "`\"b` has an unclosed quote"),
            (r#"a=b"c"#, r#"`b"c` has a quote inside: write `\"`"#),
            ("'a'=b", "`'a'=b` has no operator behind ``: write one of `=`, `!=`, `=~`, `!~`"),
        ] {
            assert_eq!(Matchers::parse(text).unwrap_err(), message);
        }
        assert!(Matchers::parse("a=~(").unwrap_err().starts_with("`(` is not a regular expression"));
    }

    #[test]
    fn an_absent_label_is_empty_and_a_regex_matches_the_whole() {
        let labels = Labels::new([("a", "foo\nbar")]);
        let matches = |text| Matchers::parse(text).unwrap().0[0].matches(&labels);
        assert!(matches("b=") && matches("b!=x") && matches("b=~.*") && !matches("b=~.+"));
        assert!(matches("a=~foo\\sbar") && !matches("a=~foo.bar") && !matches("a=~foo") && matches("a!~foo"));
    }
}
