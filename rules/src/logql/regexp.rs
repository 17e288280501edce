//! Go's regular expressions, in which LogQL's are written, by the `regex` crate.
//!
//! Both are RE2's, yet some texts mean something else to the two: in Go `{` is a character where no repetition can be read,
//! `[` is one inside a class and `--` no difference, `\Q...\E` quotes, `\101` is `A`, `\<` is `<`, and `\d \s \w \b` know ASCII
//! alone, while flags, escapes and classes that only the `regex` crate has are mistakes. An expression is rewritten so that it means here what it means in Loki, Prometheus and Alertmanager.

mod refused;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use regex::{CaptureNames, Captures, Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ClassSet, ClassSetItem};
use regex_syntax::hir;

/// Bytes of an expression's program; one that may need more is refused. [`estimate`] tells, before anything is compiled.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 10 << 20;

/// The same of all regular expressions of one LogQL expression together.
pub const REGEX_PROGRAMS_BYTES_MAX: usize = 32 << 20;

/// How often `{...}` repeats, also where it stands in another; what repeats oftener is refused, as by Go.
pub const REGEX_REPEAT_MAX: u32 = 1000;

/// Steps that an expression takes over one text at most, which are its positions (what of it may be under way at once) times the text's
/// bytes: about a second. A longer text matches nothing; an expression for which that would be so at [`TEXT_BYTES_MIN`] is refused. An
/// expression with fewer than 256 positions looks through a mebibyte.
pub const REGEX_STEPS_MAX: usize = 1 << 28;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no expression.
    Syntax {
        /// Why, in a word or two.
        reason: String,
        /// Where in the expression, as far as that is known.
        place: Option<Range<usize>>,
    },
    /// More than [`REGEX_REPEAT_MAX`].
    Repeat,
    /// More than [`REGEX_PROGRAM_BYTES_MAX`], or than it was to have.
    TooLarge(usize),
    /// More than [`REGEX_STEPS_MAX`], over a short text already.
    TooSlow,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { reason, .. } => f.write_str(reason),
            Self::Repeat => write!(f, "invalid repeat count: more than {REGEX_REPEAT_MAX} (`REGEX_REPEAT_MAX`)"),
            Self::TooLarge(max) if *max == REGEX_PROGRAM_BYTES_MAX => {
                write!(f, "its program may need more than {max} bytes (`REGEX_PROGRAM_BYTES_MAX`)")
            }
            Self::TooLarge(max) => write!(f, "its program may need more than {max} bytes"),
            Self::TooSlow => write!(
                f,
                "it may take more than {REGEX_STEPS_MAX} steps over a text of {TEXT_BYTES_MIN} bytes (`REGEX_STEPS_MAX`): repeat less often"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<regex::Error> for Error {
    fn from(error: regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(max) => Self::TooLarge(max),
            other => Self::syntax(&other),
        }
    }
}

impl Error {
    /// The last line of what the regex crate has to say, which is the reason.
    fn syntax(error: &impl fmt::Display) -> Self {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        Self::Syntax { reason: last.strip_prefix("error: ").unwrap_or(last).to_owned(), place: None }
    }
}

static TEXTS_TOO_LONG: AtomicU64 = AtomicU64::new(0);

/// In how many texts nothing was looked for, since they were too long for an expression ([`REGEX_STEPS_MAX`]); of the whole process.
pub fn texts_too_long() -> u64 {
    TEXTS_TOO_LONG.load(Ordering::Relaxed)
}

/// A compiled expression. Of a text that is too long for it ([`REGEX_STEPS_MAX`]) it matches nothing.
#[derive(Clone, Debug)]
pub struct Regexp {
    regex: Regex,
    text_bytes_max: usize,
}

impl Regexp {
    /// Whether it is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.takes(text) && self.regex.is_match(text)
    }

    fn takes(&self, text: &str) -> bool {
        let is_short = text.len() <= self.text_bytes_max;
        if !is_short {
            TEXTS_TOO_LONG.fetch_add(1, Ordering::Relaxed);
        }
        is_short
    }

    /// What its groups find in the text.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        if self.takes(text) { self.regex.captures(text) } else { None }
    }

    /// The names of its groups, the nameless one around all among them.
    pub fn capture_names(&self) -> CaptureNames<'_> {
        self.regex.capture_names()
    }

    /// The expression in the syntax of the `regex` crate.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

/// The expression, found anywhere in a text.
pub fn compile(expression: &str) -> Result<Regexp, Error> {
    let translated = translate(expression)?;
    build(&translated, &translated, REGEX_PROGRAM_BYTES_MAX)
}

/// The same for who bounds texts himself, where its program is no larger than that.
pub fn compile_within(expression: &str, program_bytes_max: usize) -> Result<Regex, Error> {
    let translated = translate(expression)?;
    Ok(build(&translated, &translated, program_bytes_max)?.regex)
}

/// The expression, matching a whole text; `.` matches line ends too, as in Prometheus's and Loki's label matchers.
pub fn compile_anchored(expression: &str) -> Result<Regexp, Error> {
    let translated = translate(expression)?;
    build(&translated, &format!("^(?s:{translated})$"), REGEX_PROGRAM_BYTES_MAX)
}

/// The expression, matching a whole text; `.` matches no line end, as in Loki's label filters and `label_replace`.
pub fn compile_whole(expression: &str) -> Result<Regexp, Error> {
    let translated = translate(expression)?;
    build(&translated, &format!("^(?:{translated})$"), REGEX_PROGRAM_BYTES_MAX)
}

/// `wrapped` is `translated` with what goes around it.
fn build(translated: &str, wrapped: &str, program_bytes_max: usize) -> Result<Regexp, Error> {
    let (ast, bytes) = parse(translated)?;
    if bytes > REGEX_PROGRAM_BYTES_MAX {
        return Err(Error::TooLarge(REGEX_PROGRAM_BYTES_MAX));
    }
    let regex = RegexBuilder::new(wrapped).size_limit(program_bytes_max).build()?;
    Ok(Regexp { regex, text_bytes_max: text_bytes_max(&ast) })
}

/// Up to how long a text is looked through.
fn text_bytes_max(ast: &Ast) -> usize {
    if is_text(ast) { usize::MAX } else { REGEX_STEPS_MAX / positions(ast).max(1) }
}

/// Places in the expression at which matches can be under way at the same time. Of alternatives that repeat nothing only few are: they are
/// told apart as they are read.
fn positions(ast: &Ast) -> usize {
    let inside = parts(ast).iter().map(positions);
    match ast {
        Ast::Repetition(repetition) => {
            let times = if let ast::RepetitionKind::Range(range) = &repetition.op.kind { most(range) } else { 1 };
            inside.sum::<usize>().saturating_mul(times.max(1) as usize)
        }
        Ast::Alternation(alternation) => {
            let (repeating, plain): (Vec<_>, Vec<_>) = alternation.asts.iter().partition(|part| repeats(part));
            let longest = plain.into_iter().map(positions).max().unwrap_or(0);
            repeating.into_iter().map(positions).fold(longest, usize::saturating_add)
        }
        Ast::Concat(_) | Ast::Group(_) => inside.fold(0, usize::saturating_add),
        _ => 1,
    }
}

fn repeats(ast: &Ast) -> bool {
    matches!(ast, Ast::Repetition(_)) || parts(ast).iter().any(repeats)
}

/// Whether it is plain text, which is searched for as such.
fn is_text(ast: &Ast) -> bool {
    match ast {
        Ast::Empty(_) | Ast::Literal(_) => true,
        Ast::Concat(_) => parts(ast).iter().all(is_text),
        _ => false,
    }
}

/// Bytes that the expression's program has at most; what is none, or too large, is refused. Costs little, whatever the expression.
pub fn estimate(expression: &str) -> Result<usize, Error> {
    match parse(&translate(expression)?)?.1 {
        bytes if bytes > REGEX_PROGRAM_BYTES_MAX => Err(Error::TooLarge(REGEX_PROGRAM_BYTES_MAX)),
        bytes => Ok(bytes),
    }
}

/// The names of its groups; `None` where it is no expression.
pub(crate) fn capture_names(expression: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    collect_names(&parse(&translate(expression).ok()?).ok()?.0, &mut names);
    Some(names)
}

fn collect_names(ast: &Ast, names: &mut Vec<String>) {
    if let Ast::Group(group) = ast
        && let ast::GroupKind::CaptureName { name, .. } = &group.kind
    {
        names.push(name.name.clone());
    }
    parts(ast).iter().for_each(|part| collect_names(part, names));
}

/// What was translated, as a tree, and the bytes of its program.
pub(crate) fn parse(translated: &str) -> Result<(Ast, usize), Error> {
    let ast = ast::parse::Parser::new().parse(translated).map_err(|error| Error::syntax(&error))?;
    check_repeats(&ast, REGEX_REPEAT_MAX)?;
    let char_bytes = if folds_case(&ast) { FOLDED_CHAR_BYTES } else { STATE_BYTES };
    let bytes = program_bytes(&ast, char_bytes).saturating_add(PROGRAM_BYTES_MIN);
    if bytes <= REGEX_PROGRAM_BYTES_MAX {
        // Finds what only has the form of an expression, as `\p{Nothing}`.
        let meaning = hir::translate::Translator::new().translate(translated, &ast);
        meaning.map_err(|error| Error::syntax(&error))?;
        if text_bytes_max(&ast) < TEXT_BYTES_MIN {
            return Err(Error::TooSlow);
        }
    }
    Ok((ast, bytes))
}

/// As Go's parser: a repetition may leave `times` for those in it.
fn check_repeats(ast: &Ast, times: u32) -> Result<(), Error> {
    let times = match ast {
        Ast::Repetition(repetition) => match &repetition.op.kind {
            ast::RepetitionKind::Range(range) if most(range) > times => return Err(Error::Repeat),
            ast::RepetitionKind::Range(range) => times / most(range).max(1),
            _ => times,
        },
        _ => times,
    };
    parts(ast).iter().try_for_each(|part| check_repeats(part, times))
}

/// The larger of its numbers.
const fn most(range: &ast::RepetitionRange) -> u32 {
    match range {
        ast::RepetitionRange::Exactly(times) | ast::RepetitionRange::AtLeast(times) => *times,
        ast::RepetitionRange::Bounded(_, max) => *max,
    }
}

/// An upper bound, near enough: tests hold it against what the `regex` crate builds. `char_bytes` is what a byte of a character takes.
fn program_bytes(ast: &Ast, char_bytes: usize) -> usize {
    let inside = parts(ast).iter().fold(0usize, |sum, part| sum.saturating_add(program_bytes(part, char_bytes)));
    let own = match ast {
        Ast::ClassUnicode(_) | Ast::ClassPerl(_) => UNICODE_CLASS_BYTES,
        Ast::ClassBracketed(class) => class_bytes(class, char_bytes),
        Ast::Dot(_) => DOT_BYTES,
        Ast::Literal(literal) => literal.c.len_utf8() * char_bytes,
        Ast::Concat(_) => 0,
        Ast::Alternation(alternation) => STATE_BYTES * (1 + alternation.asts.len()),
        Ast::Repetition(repetition) => {
            let times = match &repetition.op.kind {
                ast::RepetitionKind::Range(range) => most(range).max(1) as usize,
                _ => 1,
            };
            return inside.saturating_add(2 * STATE_BYTES).saturating_mul(times).saturating_add(3 * STATE_BYTES);
        }
        _ => 2 * STATE_BYTES,
    };
    inside.saturating_add(own)
}

fn class_bytes(class: &ast::ClassBracketed, char_bytes: usize) -> usize {
    set_bytes(&class.kind, char_bytes).saturating_add(if class.negated { DOT_BYTES } else { STATE_BYTES })
}

fn set_bytes(set: &ClassSet, char_bytes: usize) -> usize {
    match set {
        ClassSet::BinaryOp(op) => set_bytes(&op.lhs, char_bytes).saturating_add(set_bytes(&op.rhs, char_bytes)),
        ClassSet::Item(item) => item_bytes(item, char_bytes),
    }
}

fn item_bytes(item: &ClassSetItem, char_bytes: usize) -> usize {
    match item {
        ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => UNICODE_CLASS_BYTES,
        ClassSetItem::Bracketed(class) => class_bytes(class, char_bytes),
        ClassSetItem::Union(union) => {
            union.items.iter().fold(0, |sum: usize, item| sum.saturating_add(item_bytes(item, char_bytes)))
        }
        ClassSetItem::Range(range) if !range.end.c.is_ascii() => WIDE_RANGE_BYTES,
        ClassSetItem::Literal(literal) => literal.c.len_utf8() * char_bytes,
        ClassSetItem::Range(_) => 2 * char_bytes,
        ClassSetItem::Ascii(_) | ClassSetItem::Empty(_) => 4 * char_bytes,
    }
}

/// Whether it asks somewhere for letters in either case.
fn folds_case(ast: &Ast) -> bool {
    let flags = match ast {
        Ast::Flags(set) => Some(&set.flags),
        Ast::Group(group) => group.flags(),
        _ => None,
    };
    flags.is_some_and(|flags| flags.flag_state(ast::Flag::CaseInsensitive) == Some(true))
        || parts(ast).iter().any(folds_case)
}

fn parts(ast: &Ast) -> &[Ast] {
    match ast {
        Ast::Repetition(repetition) => std::slice::from_ref(&repetition.ast),
        Ast::Group(group) => std::slice::from_ref(&group.ast),
        Ast::Alternation(alternation) => &alternation.asts,
        Ast::Concat(concat) => &concat.asts,
        _ => &[],
    }
}

/// What any expression takes beside its program, as for the caches with which it runs.
const PROGRAM_BYTES_MIN: usize = 32 << 10;

/// A text that any expression looks through.
const TEXT_BYTES_MIN: usize = 4 << 10;

/// A byte that matches.
const STATE_BYTES: usize = 40;

/// A byte of a letter in either case: `k` is a Kelvin sign, too.
const FOLDED_CHAR_BYTES: usize = 160;

/// `.`, which is all of UTF-8, and what is all but that.
const DOT_BYTES: usize = 1 << 10;

/// `[à-ɏ]`, with what differs from it in case.
const WIDE_RANGE_BYTES: usize = 8 << 10;

/// `\pL` and the like.
const UNICODE_CLASS_BYTES: usize = 48 << 10;

/// The expression in the syntax of the `regex` crate.
pub(crate) fn translate(expression: &str) -> Result<String, Error> {
    refused::check(expression)?;
    let out = String::with_capacity(expression.len() + 8);
    let mut translator = Translator { rest: expression, out, is_class_name_ahead: true };
    while let Some(c) = translator.rest.chars().next() {
        match c {
            '\\' if translator.rest.starts_with("\\Q") => translator.quoted(),
            '\\' => translator.escape(false),
            '[' => translator.class(),
            '{' if !is_repetition(translator.rest) => translator.replace(1, "\\{"),
            c => translator.copy(c.len_utf8()),
        }
    }
    Ok(translator.out)
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// Whether a `:]` may stand somewhere ahead: where it was once looked for in vain, it is not looked for again.
    is_class_name_ahead: bool,
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
            'B' if !in_class => self.replace(2, r"(?-u:\B)"),
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
            match self.class_name_len() {
                Some(len) => self.copy(len),
                None => self.class_member(),
            }
        }
    }

    /// Of `[:alpha:]`, if it stands there.
    fn class_name_len(&mut self) -> Option<usize> {
        let name = self.rest.strip_prefix("[:").filter(|_| self.is_class_name_ahead)?;
        let len = name.find(":]");
        self.is_class_name_ahead = len.is_some();
        Some(len? + 4)
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
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let min = digits(&text[1..]);
    let rest = &text[1 + min..];
    let behind = rest.strip_prefix(',').map_or(rest, |max| &max[digits(max)..]);
    min > 0 && behind.starts_with('}')
}

const ASCII_CLASSES: &[(char, &str)] = &[('d', "0-9"), ('s', r"\t\n\f\r "), ('w', "0-9A-Za-z_")];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

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
            (r"^é\Bé$", "éé", "aé"),
            (r"a\Bb", "ab", "a b"),
            (r"[[:^alpha:]]\p{greek}[\p{Lowercase_Letter}]", "1αa", "aαa"),
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

    /// Each line is an expression and what Go says of it.
    #[test]
    fn what_go_refuses_is_refused() {
        for line in include_str!("../../testdata/regexp/go.txt").lines() {
            let (expression, gos) = line.split_once('\t').unwrap();
            let compiled = compile(expression);
            assert_eq!(compiled.is_ok(), gos == "ok", "{line}: {:?}", compiled.err());
            assert_eq!(estimate(expression).is_ok(), gos == "ok", "{line}");
        }
        assert!(compile_within("[a-z]{1000}", 1000).is_err());
    }

    #[test]
    fn what_only_others_take_is_told_with_its_place() {
        for (expression, at, told) in [
            ("a(?ix:b)", "(?ix", "`(?ix` is no group of Go's: its flags are `i`, `m`, `s` and `U`"),
            ("(?=a)", "(?", ""),
            (r"caf\u00e9s", r"\u", r"`\u` is no escape of Go's: write `\x{e9}`"),
            (r"\U0001F600", r"\U", r"`\U` is no escape of Go's: write `\x{1f600}`"),
            (r"a\Z", r"\Z", r"`\Z` is no escape of Go's: write `\\` for a backslash"),
            (r"[\b]", r"\b", r"`\b` is no escape of Go's: write `\\` for a backslash"),
            (r"x\p{Script=Greek}", r"\p{Script=Greek}", r"`\p{Script=Greek}` is no class of Go's: write `\p{Greek}`"),
            (
                r"\P{Alphabetic}",
                r"\P{Alphabetic}",
                r"`\P{Alphabetic}` is no class of Go's: write a category or a script, `\p{Lu}` or `\p{Greek}`, say",
            ),
            ("[[:foo:]]", "[:foo:]", "`[:foo:]` is no class of Go's: write `[:alpha:]` or `[:digit:]`, say"),
            ("xa*+?", "*+?", "`*+?` repeats a repetition: write one of them, or `(?:a*)*`"),
            ("(?P<a.b>x)", "(?P<a.b", "`(?P<a.b` is no name of a group in Go: write letters, digits and `_`"),
        ] {
            let Err(Error::Syntax { reason, place }) = compile(expression) else { panic!("{expression}") };
            if let Some(place) = place {
                assert_eq!((&expression[place], &*reason), (at, told), "{expression}");
            } else {
                assert_eq!(told, "", "{expression}: {reason}");
            }
        }
    }

    #[test]
    fn anchored_expressions_match_the_whole() {
        let regex = compile_anchored("a|b.*").unwrap();
        assert!(regex.is_match("b\nc") && !regex.is_match("ac"));
        let regex = compile_whole("a|b.*").unwrap();
        assert!(regex.is_match("bc") && !regex.is_match("b\nc") && !regex.is_match("ac"));
    }

    #[test]
    fn repetitions_are_limited_as_in_go() {
        for expression in ["a{1000}", "(a{10}){100}", "(a{2}|b{500}){2}", "(a{1,}){1000}", "(a{1000})*", "a{0}"] {
            assert_eq!(compile(expression).err(), None, "{expression}");
        }
        for expression in ["a{1001}", "a{2,1001}", "a{1001,}", "(a{10}){101}", "((a{10}b){10}c){11}", "(?:a{1001})?"] {
            assert_eq!(compile(expression).err(), Some(Error::Repeat), "{expression}");
        }
    }

    #[test]
    fn programs_are_limited() {
        let error = compile(r"(\pL{300})(\pN{300})").unwrap_err();
        assert_eq!(error, Error::TooLarge(REGEX_PROGRAM_BYTES_MAX));
        assert!(error.to_string().contains("REGEX_PROGRAM_BYTES_MAX"));
        assert!(compile(&r"[a-z]{1000}\pL{1000}".repeat(100)).is_err());
        assert_eq!(compile(".{1000}[^,]{1000}").err(), None, "what is used in earnest");
    }

    #[test]
    fn none_takes_long_over_a_long_text() {
        let hostile = "x{0,1000}".repeat(80);
        assert_eq!(compile(&hostile).err(), Some(Error::TooSlow));
        assert_eq!(estimate(&hostile), Err(Error::TooSlow));
        let text = "x".repeat(1 << 20);
        for (expression, is_found) in [
            (format!("{}y", "x{0,1000}".repeat(3)), false),
            ("x".repeat(1_000), true),
            (format!("{}|x.", "ab.c|".repeat(400)), true),
            (format!("{}x+y?", "evil-host.example|".repeat(3_000)), true),
            (format!("{}x", "(x+y?)*".repeat(20)), true),
        ] {
            assert_eq!(compile(&expression).unwrap().is_match(&text), is_found, "{expression:.30}");
        }
        let wide = compile("^(x{0,1000}){1}x{0,24}$").unwrap();
        let before = texts_too_long();
        assert!(wide.is_match(&text[..1024]) && !wide.is_match(&text));
        assert!(texts_too_long() > before);
    }

    #[test]
    fn expressions_that_loki_takes_fit() {
        let names: Vec<String> = (0..8_000).map(|n| format!("evil{n}.com")).collect();
        for expression in [
            &names[..4_000].join("|"),
            &names.join("").replace('.', ""),
            r"\p{L}{1,200}",
            &format!("(?i){}", names[..2_000].join("|")),
        ] {
            assert_eq!(compile(expression).err(), None, "{:.30}", expression);
            assert!(estimate(expression).is_ok());
        }
    }

    #[test]
    fn a_smaller_limit_is_held_against_what_is_built() {
        for expression in ["^(.{700}).*", "[a-z ]{0,1000}", "[A-Za-z0-9_.-]{1,500}"] {
            assert_eq!(compile_within(expression, 1 << 20).err(), None, "{expression}");
        }
        assert_eq!(compile_within(r"\pL{100}", 1 << 20).err(), Some(Error::TooLarge(1 << 20)));
    }

    #[test]
    fn estimates_are_near_the_truth() {
        let text = "the quick brown fox jumps over the lazy dog ".repeat(200);
        for (expression, times) in [
            (text.clone(), 2),
            ("größe ".repeat(1_000), 2),
            ("😀".repeat(1_000), 2),
            (text.replace(' ', "|"), 3),
            (format!("(?i){text}"), 5),
            (format!("(?i){}", "größe σς ".repeat(1_000)), 5),
            ("[a-z]{1000}".to_owned(), 5),
            ("[a-zA-Z0-9_.-]{500}".to_owned(), 5),
            (r"\d{500}".to_owned(), 5),
            (".{500}".to_owned(), 5),
            ("[^,]{500}".to_owned(), 5),
            ("(a)".repeat(1_000), 5),
            ("(?:ab?)*".repeat(1_000), 5),
            (r"\pL{100}".to_owned(), 5),
            (r"\PN{100}".to_owned(), 5),
            ("[à-ɏ]{500}".to_owned(), 50),
            (r"\p{Greek}{100}".to_owned(), 50),
        ] {
            let translated = translate(&expression).unwrap();
            let estimate = parse(&translated).unwrap().1 - PROGRAM_BYTES_MIN;
            let fits = |limit| RegexBuilder::new(&translated).size_limit(limit).build().is_ok();
            let first: String = expression.chars().take(20).collect();
            assert!(fits(estimate + AROUND_BYTES), "{first} needs more than {estimate}");
            let less = estimate / times;
            assert!(!fits(less), "{first} needs no more than {less}, of {estimate}");
        }
    }

    /// What any program has: it finds an expression anywhere in a text, and there are anchors around it.
    const AROUND_BYTES: usize = 1 << 10;

    fn expressions() -> impl Strategy<Value = String> {
        let letters = ["a", "K", "é", "ſ", "😀", ".", "^", "$", r"\b", r"\d", r"\W", r"\pL", r"\PN", r"\p{Greek}", ""];
        let classes = ["[a-z]", "[^a]", "[ab_-]", "[^é]", "[à-ɏ]", "[^α-ωß]", "[[:alpha:]1]", r"[\pL\d]", r"[^\pL]"];
        let leaf = select([letters.as_slice(), classes.as_slice()].concat()).prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner.clone(), 0..9, 0..9).prop_map(|(part, min, more)| format!("(?:{part}){{{min},{}}}", min + more)),
                (inner.clone(), 0..9).prop_map(|(part, min)| format!("(?:{part}){{{min},}}")),
                (inner.clone(), select(vec!["*", "+?", "?"])).prop_map(|(part, op)| format!("({part}){op}")),
                (inner, select(vec!["i", "s", "m"])).prop_map(|(part, flag)| format!("(?{flag}:{part})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_program_is_larger_than_was_estimated(expression in expressions()) {
            let translated = translate(&expression).unwrap();
            if let Ok((_, bytes)) = parse(&translated) {
                let wrapped = format!("^(?s:{translated})$");
                let limit = (bytes - PROGRAM_BYTES_MIN + AROUND_BYTES).min(1 << 30);
                let built = RegexBuilder::new(&wrapped).size_limit(limit).build();
                prop_assert!(built.is_ok() || bytes > REGEX_PROGRAM_BYTES_MAX, "{expression}: {bytes} {built:?}");
            }
        }
    }
}
