//! Go's regular expressions, in which LogQL's are written, by the `regex` crate.
//!
//! Both are RE2's, yet some texts mean something else to the two: in Go `{` is a character where no repetition can be read,
//! `[` is one inside a class, `\Q...\E` quotes, `\<` is `<`, and `\d \s \w \b` know ASCII alone. An expression is rewritten
//! so that it means here what it means in Loki.

use regex::Regex;

/// The expression, found anywhere in a text.
pub fn compile(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translate(expression))
}

/// The expression, matching a whole text; `.` matches line ends too, as in Prometheus's and Loki's label matchers.
pub fn compile_anchored(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?s:{})$", translate(expression)))
}

/// The expression in the syntax of the `regex` crate.
pub(crate) fn translate(expression: &str) -> String {
    let mut translator = Translator { rest: expression, out: String::with_capacity(expression.len() + 8) };
    while let Some(c) = translator.rest.chars().next() {
        match c {
            '\\' => translator.escape(false),
            '[' => translator.class(),
            '{' if !is_repetition(translator.rest) => translator.replace(1, "\\{"),
            c => translator.copy(c.len_utf8()),
        }
    }
    translator.out
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
}

impl Translator<'_> {
    fn copy(&mut self, len: usize) {
        let (taken, rest) = self.rest.split_at(len);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn replace(&mut self, len: usize, by: &str) {
        self.out.push_str(by);
        self.rest = &self.rest[len..];
    }

    /// At a backslash, inside a class or outside of one.
    fn escape(&mut self, in_class: bool) {
        let Some(escaped) = self.rest[1..].chars().next() else { return self.copy(1) };
        let ascii_class = ASCII_CLASSES.iter().find(|(name, _)| *name == escaped);
        match (escaped, ascii_class) {
            ('Q', _) => self.quoted(),
            ('E', _) => self.replace(2, ""),
            ('<' | '>', _) => self.replace(2, &escaped.to_string()),
            ('b', _) if !in_class => self.replace(2, r"(?-u:\b)"),
            (_, Some((_, members))) if in_class => self.replace(2, members),
            (_, Some((_, members))) => self.replace(2, &format!("[{members}]")),
            ('D' | 'S' | 'W', _) => {
                let positive = escaped.to_ascii_lowercase();
                let members =
                    ASCII_CLASSES.iter().find(|(name, _)| *name == positive).map_or("", |(_, members)| members);
                self.replace(2, &format!("[^{members}]"));
            }
            _ => self.copy(1 + escaped.len_utf8()),
        }
    }

    /// `\Q...\E`
    fn quoted(&mut self) {
        let quoted = &self.rest[2..];
        let len = quoted.find("\\E").unwrap_or(quoted.len());
        self.replace(2 + len, &regex::escape(&quoted[..len]));
    }

    /// At the `[` of a class; goes behind its `]`.
    fn class(&mut self) {
        let start_len = if self.rest.starts_with("[^") { 2 } else { 1 };
        self.copy(start_len);
        if self.rest.starts_with(']') {
            self.replace(1, "\\]");
        }
        while let Some(c) = self.rest.chars().next() {
            let named_len = if self.rest.starts_with("[:") { self.rest.find(":]").map(|at| at + 2) } else { None };
            match c {
                ']' => return self.copy(1),
                '\\' => self.escape(true),
                '[' => match named_len {
                    Some(len) => self.copy(len),
                    None => self.replace(1, "\\["),
                },
                '&' => self.replace(1, "\\&"),
                '~' => self.replace(1, "\\~"),
                c => self.copy(c.len_utf8()),
            }
        }
    }
}

/// Whether `{2}`, `{2,}` or `{2,3}` stands there.
fn is_repetition(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else { return false };
    let (min, max) = inner.split_once(',').unwrap_or((inner, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !min.is_empty() && are_digits(min) && are_digits(max)
}

const ASCII_CLASSES: &[(char, &str)] = &[('d', "0-9"), ('s', r"\t\n\f\r "), ('w', "0-9A-Za-z_")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (expression, matching, other) in [
            (r#"{"status": 5\d\d"#, r#"{"status": 503"#, r#"{"status": 403"#),
            (r"a{2}b{,3}c{x}", "aab{,3}c{x}", "aabc{x}"),
            (r"[[(]x[]]", "[x]", "x"),
            (r"\Qa.b\E+", "a.bb", "axb"),
            (r"\<\w+\>", "<tag>", "<tög>"),
            (r"^[\w-]+$", "a-b_1", "ä"),
            (r"^[^\s\d]+$", "ab", "a b"),
            (r"^\D+\S\W$", "ab.", "1b."),
            (r"^[[:alpha:]&&~~]+$", "a&~", "1"),
            (r"(?i)ERROR|\x41$", "an error", "b"),
            (r"\bab\b", "x ab y", "xab"),
        ] {
            let regex = compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert!(regex.is_match(matching), "{expression} {matching}");
            assert!(!regex.is_match(other), "{expression} {other}");
        }
    }

    #[test]
    fn anchored_expressions_match_the_whole() {
        let regex = compile_anchored("a|b.*").unwrap();
        assert!(regex.is_match("b\nc") && !regex.is_match("ac"));
    }
}
