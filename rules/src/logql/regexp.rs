//! Go's regular expressions, in which LogQL's are written, by the `regex` crate.
//!
//! Both are RE2's, yet some texts mean something else to the two: in Go `{` is a character where no repetition can be read,
//! `[` is one inside a class and `--` no difference, `\Q...\E` quotes, `\101` is `A`, `\<` is `<`, and `\d \s \w \b` know ASCII
//! alone. An expression is rewritten so that it means here what it means in Loki, Prometheus and Alertmanager.

use regex::{Regex, RegexBuilder};

/// The expression, found anywhere in a text.
pub fn compile(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translate(expression))
}

/// The same, where its program is no larger than that.
pub fn compile_within(expression: &str, program_bytes_max: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&translate(expression)).size_limit(program_bytes_max).build()
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
            '\\' if translator.rest.starts_with("\\Q") => translator.quoted(),
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
        let ascii_class =
            |name: char| ASCII_CLASSES.iter().find(|(other, _)| *other == name).map(|(_, members)| members);
        match escaped {
            'E' => self.replace(2, ""),
            '<' | '>' => self.replace(2, &escaped.to_string()),
            'b' if !in_class => self.replace(2, r"(?-u:\b)"),
            'p' | 'P' | 'x' if self.rest[2..].starts_with('{') => self.braced(),
            '0'..='7' => self.octal(),
            'D' | 'S' | 'W' => {
                let members = ascii_class(escaped.to_ascii_lowercase()).map_or("", |members| members);
                self.replace(2, &format!("[^{members}]"));
            }
            _ => match ascii_class(escaped) {
                Some(members) if in_class => self.replace(2, members),
                Some(members) => self.replace(2, &format!("[{members}]")),
                None => self.copy(1 + escaped.len_utf8()),
            },
        }
    }

    /// `\p{Lu}`, `\p{^Lu}`, `\x{1F600}`
    fn braced(&mut self) {
        let len = self.rest.find('}').map_or(self.rest.len(), |at| at + 1);
        match (&self.rest[..2], self.rest[3..].starts_with('^')) {
            (r"\p", true) => self.replace(4, r"\P{"),
            (r"\P", true) => self.replace(4, r"\p{"),
            _ => return self.copy(len),
        }
        self.copy(len - 4);
    }

    /// `\0`, `\12`, `\377`; a single digit that is not 0 would refer back, and is refused.
    fn octal(&mut self) {
        let digits = self.rest[1..].bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        match u32::from_str_radix(&self.rest[1..1 + digits], 8) {
            Ok(code) if digits > 1 || code == 0 => self.replace(1 + digits, &format!("\\x{{{code:x}}}")),
            _ => self.copy(2),
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
        let mut is_first = true;
        while !self.rest.is_empty() {
            if self.rest.starts_with(']') && !is_first {
                return self.copy(1);
            }
            is_first = false;
            match self.rest.strip_prefix("[:").and_then(|name| name.find(":]")) {
                Some(len) => self.copy(len + 4),
                None => self.class_member(),
            }
        }
    }

    /// A set as `\d`, a character, or a range: `-` between two characters makes one, everywhere else it is itself.
    fn class_member(&mut self) {
        if self.is_at_set() {
            return self.escape(true);
        }
        self.class_char();
        let is_range = self.rest.strip_prefix('-').is_some_and(|to| !to.is_empty() && !to.starts_with(']'));
        if is_range {
            self.copy(1);
            self.class_char();
        }
    }

    fn class_char(&mut self) {
        match self.rest.chars().next() {
            Some('\\') if self.is_at_set() => self.copy(2), // the end of a range that is none: refused
            Some('\\') => self.escape(true),
            Some(c) => self.replace(c.len_utf8(), &regex::escape(&self.rest[..c.len_utf8()])),
            None => {}
        }
    }

    fn is_at_set(&self) -> bool {
        self.rest
            .strip_prefix('\\')
            .is_some_and(|escaped| escaped.starts_with(['d', 's', 'w', 'D', 'S', 'W', 'p', 'P']))
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
            (r"^\p{Lu}\P{^Lu}\pN$", "ÄB1", "äB1"),
            (r"^\x{1F600}[\x{1F600}-\x{1F601}]$", "😀😁", "😀b"),
            (r"^[\000-\037]\101\0$", "\nA\0", "nA\0"),
            (r"^[+--]$", ",", "*"),
            (r"^[--/]$", ".", "+"),
            (r"^[a-b-c]+$", "ab-c", "a.c"),
            (r"^[\d-z]+$", "1-z", "1y"),
            (r"^[-a^.&&#]+$", "-^.&#a", "b"),
            (r"^[]-a]+$", "]^a", "b"),
            (r"^[^]a]$", "b", "]"),
            (r"^/user/{id}$", "/user/{id}", "/user/id"),
        ] {
            let regex = compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert!(regex.is_match(matching), "{expression} {matching}");
            assert!(!regex.is_match(other), "{expression} {other}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for expression in
            [r"\1", r"\8", r"[a-\d]", r"[!-\d]", r"[b-a]", "[a", r"[\Qa\E]", r"\", r"\p{Nothing}", r"\x{}", "{2}"]
        {
            assert!(compile(expression).is_err(), "{expression}");
        }
        assert!(compile_within("[a-z]{1000}", 1000).is_err());
    }

    #[test]
    fn anchored_expressions_match_the_whole() {
        let regex = compile_anchored("a|b.*").unwrap();
        assert!(regex.is_match("b\nc") && !regex.is_match("ac"));
    }
}
