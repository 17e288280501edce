//! What Go refuses of a regular expression and the `regex` crate takes, and what to write instead.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Error;

/// The first such part of the expression.
pub(super) fn check(expression: &str) -> Result<(), Error> {
    let properties = BTreeSet::new();
    let mut reader = Reader { expression, at: 0, repetition: None, is_class_name_ahead: true, properties };
    while let Some(first) = reader.rest().chars().next() {
        let repetition = reader.repetition.take();
        match first {
            '\\' if reader.rest().starts_with("\\Q") => reader.quoted(),
            '\\' => reader.escape(ESCAPES)?,
            '[' => reader.class()?,
            '(' if reader.rest().starts_with("(?") => reader.group()?,
            '*' | '+' | '?' | '{' => reader.repetition(repetition)?,
            other => reader.at += other.len_utf8(),
        }
    }
    Ok(())
}

struct Reader<'a> {
    expression: &'a str,
    at: usize,
    /// Where a repetition begins that ends right here.
    repetition: Option<usize>,
    /// Whether a `:]` may stand somewhere ahead: where it was once looked for in vain, it is not looked for again.
    is_class_name_ahead: bool,
    /// Those that Go has: to look for one takes long beside the rest.
    properties: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.expression[self.at..]
    }

    fn refuse(&self, place: Range<usize>, what: &str, help: &str) -> Result<(), Error> {
        let reason = format!("`{}` {what}: {help}", &self.expression[place.clone()]);
        Err(Error::Syntax { reason, place: Some(place) })
    }

    /// `\Q...\E`
    fn quoted(&mut self) {
        self.at += self.rest().find("\\E").map_or(self.rest().len(), |len| len + 2);
    }

    /// At a backslash, behind which one of these letters may stand.
    fn escape(&mut self, letters: &str) -> Result<(), Error> {
        let start = self.at;
        let Some(escaped) = self.rest()[1..].chars().next() else {
            self.at += 1;
            return Ok(());
        };
        self.at += 1 + escaped.len_utf8();
        match escaped {
            'p' | 'P' => self.property(start),
            'u' | 'U' => {
                let help = hex_digits(self.rest())
                    .map_or("write `\\x{e9}`, say".to_owned(), |digits| format!("write `\\x{{{digits}}}`"));
                self.refuse(start..self.at, "is no escape of Go's", &help)
            }
            _ if escaped.is_ascii_alphabetic() && !letters.contains(escaped) => {
                self.refuse(start..self.at, "is no escape of Go's", "write `\\\\` for a backslash")
            }
            _ => Ok(()),
        }
    }

    /// Behind `\p`: a category or a script.
    fn property(&mut self, start: usize) -> Result<(), Error> {
        let len = match self.rest().strip_prefix('{') {
            Some(inside) => inside.find('}').map_or(self.rest().len(), |len| len + 2),
            None => self.rest().chars().next().map_or(0, char::len_utf8),
        };
        let name = self.rest()[..len].trim_start_matches(['{', '^']).trim_end_matches('}');
        self.at += len;
        if self.properties.contains(name) || is_category_or_script(name) {
            self.properties.insert(name);
            return Ok(());
        }
        let value = name.rsplit(['=', ':']).next().unwrap_or(name);
        let help = match is_category_or_script(value) {
            true => format!("write `\\p{{{value}}}`"),
            false => "write a category or a script, `\\p{Lu}` or `\\p{Greek}`, say".to_owned(),
        };
        self.refuse(start..self.at, "is no class of Go's", &help)
    }

    /// At the `[` of a class; goes behind its `]`.
    fn class(&mut self) -> Result<(), Error> {
        self.at += if self.rest().starts_with("[^") { 2 } else { 1 };
        let mut is_first = true;
        while let Some(first) = self.rest().chars().next() {
            match first {
                ']' if !is_first => {
                    self.at += 1;
                    return Ok(());
                }
                '\\' => self.escape(CLASS_ESCAPES)?,
                '[' => self.class_name()?,
                other => self.at += other.len_utf8(),
            }
            is_first = false;
        }
        Ok(())
    }

    /// At a `[` inside a class: `[:alpha:]`, or the character.
    fn class_name(&mut self) -> Result<(), Error> {
        let start = self.at;
        let behind = self.rest().strip_prefix("[:").filter(|_| self.is_class_name_ahead);
        let name = behind.and_then(|behind| Some(&behind[..behind.find(":]")?]));
        self.is_class_name_ahead &= behind.is_none() || name.is_some();
        self.at += name.map_or(1, |name| name.len() + 4);
        match name {
            Some(name) if !CLASS_NAMES.contains(&name.trim_start_matches('^')) => {
                self.refuse(start..self.at, "is no class of Go's", "write `[:alpha:]` or `[:digit:]`, say")
            }
            _ => Ok(()),
        }
    }

    /// At `(?`, behind which a name or flags stand.
    fn group(&mut self) -> Result<(), Error> {
        let start = self.at;
        let named = self.rest().strip_prefix("(?P<").or(self.rest().strip_prefix("(?<"));
        if let Some(named) = named {
            let name = &named[..named.find('>').unwrap_or(named.len())];
            self.at = self.expression.len() - named.len() + name.len();
            let is_name = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
            let help = "write letters, digits and `_`";
            return if is_name { Ok(()) } else { self.refuse(start..self.at, "is no name of a group in Go", help) };
        }
        self.at += 2;
        let flags = self.rest().find(|c: char| c != '-' && !c.is_ascii_alphabetic()).unwrap_or(self.rest().len());
        let known = self.rest()[..flags].find(|c| !"imsU-".contains(c)).unwrap_or(flags);
        self.at += known;
        if known == flags {
            return Ok(());
        }
        self.at += 1;
        self.refuse(start..self.at, "is no group of Go's", "its flags are `i`, `m`, `s` and `U`")
    }

    /// At what may repeat. `before` is where a repetition began that ended here: two on one another mean something else elsewhere.
    fn repetition(&mut self, before: Option<usize>) -> Result<(), Error> {
        let start = self.at;
        let is_range = self.rest().starts_with('{');
        if is_range && !super::is_repetition(self.rest()) {
            self.at += 1;
            return Ok(());
        }
        self.at += if is_range { self.rest().find('}').map_or(1, |len| len + 1) } else { 1 };
        self.at += usize::from(self.rest().starts_with('?'));
        self.repetition = Some(start);
        match before {
            Some(before) => self.refuse(before..self.at, "repeats a repetition", "write one of them, or `(?:a*)*`"),
            None => Ok(()),
        }
    }
}

/// The number that `\u00e9`, `\u{e9}` or `\U000000e9` gives, as it is written shortest.
fn hex_digits(behind: &str) -> Option<String> {
    let digits = behind.strip_prefix('{').unwrap_or(behind);
    let len = digits.bytes().take(8).take_while(u8::is_ascii_hexdigit).count();
    let len = if behind.starts_with('{') || len == 8 { len } else { len.min(4) };
    u32::from_str_radix(&digits[..len], 16).ok().map(|code| format!("{code:x}"))
}

/// Whether `\p{...}` has such a class in Go. Those of one value, as `Script=Greek`, and those of neither kind, as `Alphabetic`, it does
/// not know, nor scripts by their four letters.
fn is_category_or_script(name: &str) -> bool {
    let is_of = |kind: &str| regex_syntax::parse(&format!(r"\p{{{kind}={name}}}")).is_ok();
    let is_plain = name.chars().all(|c| matches!(c, '_' | '-' | ' ') || c.is_ascii_alphanumeric());
    let is_short = name.len() == 4 && !FOUR_LETTER_SCRIPTS.iter().any(|script| script.eq_ignore_ascii_case(name));
    is_plain && (is_of("gc") || is_of("sc") && !is_short)
}

const FOUR_LETTER_SCRIPTS: [&str; 9] = ["Ahom", "Cham", "Kawi", "Lisu", "Miao", "Modi", "Newa", "Thai", "Toto"];

/// Letters behind a backslash.
const ESCAPES: &str = "AbBzdDsSwWafnrtvx";

/// The same in a class.
const CLASS_ESCAPES: &str = "dDsSwWafnrtvx";

const CLASS_NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];
