//! What a record must be like: what the query languages of others have in common, written as a pipeline of LogQL.

use super::reader::label_name;
use crate::logql::ast::CompareOp;
use crate::logql::printer::quoted;

/// A condition on a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Predicate {
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
    /// On a field, which over OTLP is an attribute and so a label.
    Field(String, Test),
    /// On the line, a part of which must be like that.
    Line(Pattern),
}

/// A condition on a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Is(Pattern),
    Compares(CompareOp, f64),
    /// It is an address in this range.
    InRange(String),
    Exists,
    /// To what another field holds.
    Relates {
        relation: Relation,
        other: String,
        ignores_case: bool,
    },
}

/// How a text stands to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

/// What a text is like.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pattern {
    /// The same text, letter by letter.
    Exact(String),
    /// A regular expression, for the whole field or a part of the line.
    Regex(String),
}

/// What an expression begins with for which letters are the same in either case, and a wildcard goes beyond the end of a line.
const IGNORES_CASE: &str = "(?is)";

/// The same for one to which case matters.
const ANY_LINE: &str = "(?s)";

impl Pattern {
    /// A text with `*` and `?`; `\` takes their meaning from them.
    pub(super) fn wildcard(text: &str, ignores_case: bool) -> Self {
        Self::affixed("", text, "", ignores_case)
    }

    /// The same between two expressions.
    pub(super) fn affixed(before: &str, text: &str, after: &str, ignores_case: bool) -> Self {
        let letters = letters(text);
        let regex: String = letters.iter().map(|letter| letter.regex(".")).collect();
        let exact = letters.iter().map(|letter| letter.exact()).collect::<Option<String>>();
        let has_case = text.chars().any(|c| c.is_lowercase() != c.is_uppercase());
        match exact.filter(|_| before.is_empty() && after.is_empty() && !(ignores_case && has_case)) {
            Some(exact) => Self::Exact(exact),
            None if ignores_case => Self::Regex(format!("{IGNORES_CASE}{before}{regex}{after}")),
            None => Self::Regex(format!("{ANY_LINE}{before}{regex}{after}")),
        }
    }

    /// What is like one of the two; `None` where one cares about case and the other does not.
    fn or(&self, other: &Self) -> Option<Self> {
        let (a, b) = (self.regex(), other.regex());
        match (flags(&a), flags(&b)) {
            ((IGNORES_CASE, a), (IGNORES_CASE, b)) => Some(Self::Regex(format!("{IGNORES_CASE}{a}|{b}"))),
            ((IGNORES_CASE, _), _) | (_, (IGNORES_CASE, _)) => None,
            (("", a), ("", b)) => Some(Self::Regex(format!("{a}|{b}"))),
            ((_, a), (_, b)) => Some(Self::Regex(format!("{ANY_LINE}{a}|{b}"))),
        }
    }

    fn regex(&self) -> String {
        match self {
            Self::Exact(text) => regex::escape(text),
            Self::Regex(regex) => regex.clone(),
        }
    }
}

/// A letter of a text with wildcards.
enum Letter {
    Exact(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// The letters; `\` takes their meaning from wildcards.
fn letters(text: &str) -> Vec<Letter> {
    let (mut letters, mut chars) = (Vec::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        letters.push(match c {
            '*' => Letter::Any,
            '?' => Letter::One,
            '\\' if matches!(chars.peek(), Some('*' | '?' | '\\')) => Letter::Exact(chars.next().unwrap_or(c)),
            c => Letter::Exact(c),
        });
    }
    letters
}

/// An expression for words that stand in a text as words of their own, with whatever between them; `*` and `?` stay within a word.
fn words(text: &str) -> String {
    let letters = letters(text);
    let bare = |word: &[Letter]| {
        let is_sign = |letter: &&Letter| letter.exact().is_some_and(|c| c.is_ascii_punctuation() && c != '_');
        let start = word.iter().take_while(is_sign).count();
        start..word.len() - word[start..].iter().rev().take_while(is_sign).count()
    };
    let words = letters.split(Letter::is_blank).map(|word| &word[bare(word)]).filter(|word| !word.is_empty());
    let words: Vec<&[Letter]> = words.collect();
    let [first, ..] = words[..] else { return letters.iter().map(|letter| letter.regex(r"\S")).collect() }; // signs alone
    let edge = |letter: Option<&Letter>| match letter {
        Some(Letter::Exact(c)) if c.is_ascii_alphanumeric() || *c == '_' => r"\b", // elsewhere `\b` means something else
        _ => "",
    };
    let each = words.iter().map(|word| word.iter().map(|letter| letter.regex(r"\S")).collect::<String>());
    let inner = each.collect::<Vec<_>>().join(r"\W+");
    [edge(first.first()), &inner, edge(words.last().and_then(|word| word.last()))].concat()
}

impl Letter {
    /// `one` is what `?` stands for.
    fn regex(&self, one: &str) -> String {
        match self {
            Self::Exact(c) => regex::escape(&c.to_string()),
            Self::One => one.to_owned(),
            Self::Any => format!("{one}*"),
        }
    }

    fn exact(&self) -> Option<char> {
        match self {
            Self::Exact(c) => Some(*c),
            Self::One | Self::Any => None,
        }
    }

    fn is_blank(&self) -> bool {
        self.exact().is_some_and(char::is_whitespace)
    }
}

impl Predicate {
    pub(super) fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// On the field that holds the record's text in most shippers the predicate is one on the line.
    pub(super) fn field(name: &str, test: Test) -> Self {
        match test {
            Test::Is(pattern) if LINE_FIELDS.contains(&name) => Self::Line(pattern),
            test => Self::Field(label_name(name), test),
        }
    }

    /// On a text with `*` and `?` as Elasticsearch has it: the line, which is meant where there is no field, is searched for it word by word,
    /// whatever the case; any other field is that text as a whole.
    pub(super) fn text(name: Option<&str>, text: &str) -> Self {
        match name.filter(|name| !LINE_FIELDS.contains(name)) {
            Some(name) => Self::Field(label_name(name), Test::Is(Pattern::wildcard(text, false))),
            None => Self::Line(Pattern::Regex(format!("{IGNORES_CASE}{}", words(text)))),
        }
    }

    /// The same where any field is searched word by word.
    pub(super) fn words(name: &str, text: &str) -> Self {
        match LINE_FIELDS.contains(&name) {
            true => Self::text(None, text),
            false => {
                let pattern = Pattern::Regex(format!("{IGNORES_CASE}.*{}.*", words(text)));
                Self::Field(label_name(name), Test::Is(pattern))
            }
        }
    }

    /// The stages behind a selector, each with a space before it. The parser is left out where no label is asked for.
    pub(super) fn pipeline(self, parser: Option<&str>, mut needs_parser: bool) -> String {
        let mut lines = String::new();
        let mut labels = String::new();
        let (mut needs_text, mut can_fail) = (false, false);
        let mut relations = Vec::new();
        for part in self.normal(false).conjuncts() {
            if let Some(stage) = part.line_stage() {
                lines += &stage;
                continue;
            }
            needs_parser = true;
            needs_text |= part.has(|leaf| matches!(leaf, Normal::Line { .. }));
            can_fail |= part.has(|leaf| matches!(leaf, Normal::Field { test: Test::Compares(..), .. }));
            part.for_each_relation(&mut |stage| {
                if !relations.contains(&stage) {
                    relations.push(stage);
                }
            });
            labels += &format!(" | {}", part.label_filter(false));
        }
        let parser = parser.filter(|_| needs_parser).map(|parser| format!(" | {parser}")).unwrap_or_default();
        let text =
            if needs_text { format!(" | label_format {LINE_LABEL}=`{{{{ __line__ }}}}`") } else { String::new() };
        let relations = relations.concat();
        let failed = if can_fail { " | __error__=\"\"" } else { "" }; // a comparison with what is no number
        lines + &parser + &text + &relations + &labels + failed
    }

    /// With negations at the leaves alone.
    fn normal(self, is_negated: bool) -> Normal {
        let each = |parts: Vec<Self>| parts.into_iter().map(|part| part.normal(is_negated)).collect();
        match self {
            Self::All(parts) if is_negated => Normal::any(each(parts)),
            Self::Any(parts) if is_negated => Normal::all(each(parts)),
            Self::All(parts) => Normal::all(each(parts)),
            Self::Any(parts) => Normal::any(each(parts)),
            Self::Not(part) => part.normal(!is_negated),
            Self::Field(name, test) => Normal::Field { name, test, is_negated },
            Self::Line(pattern) => Normal::Line { pattern, is_negated },
        }
    }
}

/// Fields that stand for the line.
const LINE_FIELDS: &[&str] = &["message", "body", "log", "event.original", "_raw"];

/// Where a line is looked at together with labels, it is a label too.
const LINE_LABEL: &str = "line_text";

enum Normal {
    All(Vec<Normal>),
    Any(Vec<Normal>),
    Field { name: String, test: Test, is_negated: bool },
    Line { pattern: Pattern, is_negated: bool },
}

impl Normal {
    fn all(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::All(parts) => parts,
            part => vec![part],
        });
        single(merged(flat, true)).unwrap_or_else(Self::All)
    }

    fn any(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Any(parts) => parts,
            part => vec![part],
        });
        single(merged(flat, false)).unwrap_or_else(Self::Any)
    }

    fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::All(parts) => parts,
            part => vec![part],
        }
    }

    /// As line filters, if it is about the line alone and can be said so.
    fn line_stage(&self) -> Option<String> {
        match self {
            Self::Line { pattern: Pattern::Exact(text), is_negated: false } => Some(format!(" |= {}", quoted(text))),
            Self::Line { pattern: Pattern::Exact(text), is_negated: true } => Some(format!(" != {}", quoted(text))),
            Self::Line { pattern, is_negated: false } => Some(format!(" |~ {}", quoted(&pattern.regex()))),
            Self::Line { pattern, is_negated: true } => Some(format!(" !~ {}", quoted(&pattern.regex()))),
            Self::Any(parts) => {
                let patterns: Option<Vec<&Pattern>> = parts.iter().map(Self::positive_line).collect();
                let patterns = patterns?;
                let exact = |pattern: &&Pattern| match pattern {
                    Pattern::Exact(text) => Some(quoted(text)),
                    Pattern::Regex(_) => None,
                };
                Some(match patterns.iter().map(exact).collect::<Option<Vec<_>>>() {
                    Some(texts) => format!(" |= {}", texts.join(" or ")),
                    None => {
                        let regexes: Vec<_> = patterns.iter().map(|pattern| quoted(&pattern.regex())).collect();
                        format!(" |~ {}", regexes.join(" or "))
                    }
                })
            }
            Self::All(_) | Self::Field { .. } => None,
        }
    }

    fn positive_line(&self) -> Option<&Pattern> {
        match self {
            Self::Line { pattern, is_negated: false } => Some(pattern),
            _ => None,
        }
    }

    /// Whether it is about the texts of that field, too; then it holds for the pattern as well.
    fn takes_in(&mut self, field: &str, pattern: &Pattern, are_negated: bool) -> bool {
        match self {
            Self::Field { name, test: Test::Is(known), is_negated } if name == field && *is_negated == are_negated => {
                known.or(pattern).map(|both| *known = both).is_some()
            }
            _ => false,
        }
    }

    fn has(&self, is_wanted: fn(&Self) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has(is_wanted)),
            leaf => is_wanted(leaf),
        }
    }

    /// Shows the stages that make labels of how fields stand to one another.
    fn for_each_relation(&self, visit: &mut dyn FnMut(String)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.for_each_relation(visit)),
            Self::Field { name, test: Test::Relates { relation, other, ignores_case }, .. } => {
                let label = relation.label(name, other, *ignores_case);
                visit(format!(" | label_format {label}=`{}`", relation.template(name, other, *ignores_case)));
            }
            _ => {}
        }
    }

    fn label_filter(&self, is_inner: bool) -> String {
        let joined = |parts: &[Self], word: &str| {
            let text = parts.iter().map(|part| part.label_filter(true)).collect::<Vec<_>>().join(word);
            if is_inner { format!("({text})") } else { text }
        };
        match self {
            Self::All(parts) => joined(parts, " and "),
            Self::Any(parts) => joined(parts, " or "),
            Self::Line { pattern, is_negated } => {
                let op = if *is_negated { "!~" } else { "=~" };
                format!("{LINE_LABEL}{op}{}", quoted(&format!("(?s:.*)(?:{})(?s:.*)", pattern.regex())))
            }
            Self::Field { name, test, is_negated } => field_filter(name, test, *is_negated),
        }
    }
}

/// Texts of one field become one expression: alternatives where one must be so, or negated ones where none may.
fn merged(parts: impl Iterator<Item = Normal>, are_negated: bool) -> Vec<Normal> {
    let mut out: Vec<Normal> = Vec::new();
    for part in parts {
        if let Normal::Field { name, test: Test::Is(pattern), is_negated } = &part
            && *is_negated == are_negated
            && out.iter_mut().any(|known| known.takes_in(name, pattern, are_negated))
        {
            continue;
        }
        out.push(part);
    }
    out
}

/// The only part, or all of them.
fn single(mut parts: Vec<Normal>) -> Result<Normal, Vec<Normal>> {
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Err(parts) }
}

fn field_filter(name: &str, test: &Test, is_negated: bool) -> String {
    let op = |positive: &'static str, negative: &'static str| if is_negated { negative } else { positive };
    match test {
        Test::Is(Pattern::Exact(text)) => format!("{name}{}{}", op("=", "!="), quoted(text)),
        Test::Is(Pattern::Regex(regex)) => format!("{name}{}{}", op("=~", "!~"), quoted(&anchored(regex))),
        Test::Exists => format!("{name}{}\"\"", op("!=", "=")),
        Test::Relates { relation, other, ignores_case } => {
            format!("{}{}\"true\"", relation.label(name, other, *ignores_case), op("=", "!="))
        }
        Test::InRange(range) if is_negated => format!("({name} != ip({}) or {name}=\"\")", quoted(range)),
        Test::InRange(range) => format!("{name} = ip({})", quoted(range)),
        Test::Compares(compare, number) if is_negated => {
            // What has no such field passes, as it would fail the comparison.
            format!("({name} {} {number} or {name}=\"\")", opposite(*compare))
        }
        Test::Compares(compare, number) => format!("{name} {compare} {number}"),
    }
}

impl Relation {
    /// The label that says whether it is so.
    fn label(self, name: &str, other: &str, ignores_case: bool) -> String {
        let relation = match self {
            Self::Equals => "equals",
            Self::Contains => "contains",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
        };
        format!("{name}_{relation}{}_{other}", if ignores_case { "" } else { "_cased" })
    }

    /// `true` where both fields are there and it is so.
    fn template(self, name: &str, other: &str, ignores_case: bool) -> String {
        let field = |name: &str| if ignores_case { format!("(lower .{name})") } else { format!(".{name}") };
        let function = match self {
            Self::Equals => "eq",
            Self::Contains => "contains",
            Self::StartsWith => "hasPrefix",
            Self::EndsWith => "hasSuffix",
        };
        format!("{{{{ if and .{name} .{other} }}}}{{{{ {function} {} {} }}}}{{{{ end }}}}", field(other), field(name))
    }
}

/// The expression for a whole label. Loki takes `5.*` for every text with a 5 in it: where it can be replaced by a plain search its anchors
/// are lost, unless they are written.
fn anchored(regex: &str) -> String {
    let (flags, body) = flags(regex);
    match body.contains('|') {
        true => format!("{flags}^(?:{body})$"),
        false if body.contains(['*', '+']) => format!("{flags}^{body}$"),
        false => regex.to_owned(),
    }
}

/// The flags that an expression of ours begins with, and the rest.
fn flags(regex: &str) -> (&'static str, &str) {
    let found = [IGNORES_CASE, ANY_LINE].into_iter().find_map(|flags| Some((flags, regex.strip_prefix(flags)?)));
    found.unwrap_or(("", regex))
}

fn opposite(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Equal => CompareOp::NotEqual,
        CompareOp::NotEqual => CompareOp::Equal,
        CompareOp::Greater => CompareOp::LessEqual,
        CompareOp::GreaterEqual => CompareOp::Less,
        CompareOp::Less => CompareOp::GreaterEqual,
        CompareOp::LessEqual => CompareOp::Greater,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::labels::Labels;
    use crate::query::answer::Answer;
    use crate::query::records::OwnedEntry;
    use crate::query::{Limits, Query, When};
    use crate::time::Timestamp;

    /// A record: its line, and the fields `a` and `b` where it has them.
    type Record = (String, Option<&'static str>, Option<&'static str>);

    proptest! {
        /// The pipeline passes the records that the predicate holds for, no others.
        #[test]
        fn the_pipeline_says_the_same(predicate in predicate(), records in vec(record(), 1..12)) {
            let expr = format!("sum by (n) (count_over_time({{s=\"x\"}}{} [1h]))", predicate.clone().pipeline(None, false));
            let passed: BTreeSet<usize> = (0..records.len()).filter(|at| holds(&predicate, &records[*at])).collect();
            prop_assert_eq!(evaluate(&expr, &records), passed, "{}", expr);
        }
    }

    fn evaluate(expr: &str, records: &[Record]) -> BTreeSet<usize> {
        let mut query = Query::new(expr, When::At(Timestamp(1_000_000_000)), Limits::default()).expect(expr);
        let stream = Labels::new([("s", "x")]);
        for (n, (line, a, b)) in records.iter().enumerate() {
            let fields = [("n", Some(n.to_string())), ("a", a.map(str::to_owned)), ("b", b.map(str::to_owned))];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let entry = OwnedEntry::new(Timestamp(n as i64 + 1), line.clone(), &stream, fields);
            query.add(entry.time, &entry).unwrap();
        }
        match query.answer().unwrap() {
            Answer::Vector(series) => {
                series.iter().map(|series| series.labels.get("n").unwrap().parse().unwrap()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn holds(predicate: &Predicate, record: &Record) -> bool {
        let is = |pattern: &Pattern, text: &str, is_whole: bool| match pattern {
            Pattern::Exact(exact) => {
                if is_whole {
                    text == exact
                } else {
                    text.contains(exact.as_str())
                }
            }
            Pattern::Regex(regex) if is_whole => regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(text),
            Pattern::Regex(regex) => regex::Regex::new(regex).unwrap().is_match(text),
        };
        match predicate {
            Predicate::All(parts) => parts.iter().all(|part| holds(part, record)),
            Predicate::Any(parts) => parts.iter().any(|part| holds(part, record)),
            Predicate::Not(part) => !holds(part, record),
            Predicate::Line(pattern) => is(pattern, &record.0, false),
            Predicate::Field(name, test) => {
                let value = if name == "a" { record.1 } else { record.2 };
                match test {
                    Test::Is(pattern) => is(pattern, value.unwrap_or_default(), true),
                    Test::Exists => value.is_some(),
                    Test::Compares(op, number) => {
                        value.is_some_and(|value| compare(*op, value.parse().unwrap(), *number))
                    }
                    Test::InRange(_) => value.is_some_and(|value| value.starts_with("10.")),
                    Test::Relates { relation, other, ignores_case } => {
                        let other = if other == "a" { record.1 } else { record.2 };
                        value.zip(other).is_some_and(|(value, other)| relates(*relation, value, other, *ignores_case))
                    }
                }
            }
        }
    }

    fn relates(relation: Relation, value: &str, other: &str, ignores_case: bool) -> bool {
        let cased = |text: &str| if ignores_case { text.to_lowercase() } else { text.to_owned() };
        let (value, other) = (cased(value), cased(other));
        match relation {
            Relation::Equals => value == other,
            Relation::Contains => value.contains(&other),
            Relation::StartsWith => value.starts_with(&other),
            Relation::EndsWith => value.ends_with(&other),
        }
    }

    fn compare(op: CompareOp, value: f64, number: f64) -> bool {
        crate::pipeline::label_filter::compare(op, value, number)
    }

    fn record() -> impl Strategy<Value = Record> {
        let numbers = select(vec![None, Some("5"), Some("7"), Some("50")]);
        let addresses =
            select(vec![None, Some("10.0.0.5"), Some("50.1.2.3"), Some("an error\nok\\"), Some("ERROR"), Some("5")]);
        (select(vec!["Error five", "error\nsix", "ok", "5"]).prop_map(str::to_owned), numbers, addresses)
    }

    const RELATIONS: &[Relation] = &[Relation::Equals, Relation::Contains, Relation::StartsWith, Relation::EndsWith];

    fn predicate() -> impl Strategy<Value = Predicate> {
        let pattern = || {
            (select(vec!["error", "5", "5*", "?5", "e*x", "*r*k*", "ok\\", "\\*", "*ok\\"]), any::<bool>())
                .prop_map(|(text, ignores_case)| Pattern::wildcard(text, ignores_case))
        };
        let ops = [CompareOp::Equal, CompareOp::NotEqual, CompareOp::Greater, CompareOp::LessEqual];
        let test = prop_oneof![
            pattern().prop_map(Test::Is),
            (select(ops.to_vec()), select(vec![5.0, 6.0])).prop_map(|(op, number)| Test::Compares(op, number)),
            Just(Test::Exists),
            Just(Test::InRange("10.0.0.0/8".to_owned())),
            (select(RELATIONS), select(vec!["a", "b"]), any::<bool>()).prop_map(|(relation, other, ignores_case)| {
                Test::Relates { relation, other: other.to_owned(), ignores_case }
            }),
        ];
        let words = || select(vec!["error", "ERROR: five", "*rr*", "e?ror", "error*", "an ok", "ok\\\\", "\\*"]);
        let leaf = prop_oneof![
            pattern().prop_map(Predicate::Line),
            words().prop_map(|text| Predicate::text(None, text)),
            words().prop_map(|text| Predicate::words("b", text)),
            (select(vec!["a", "b"]), test).prop_map(|(name, test)| {
                let name = match test {
                    Test::Compares(..) => "a", // numbers
                    Test::InRange(_) => "b",   // addresses
                    _ => name,
                };
                Predicate::Field(name.to_owned(), test)
            }),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(Predicate::All),
                vec(inner.clone(), 1..4).prop_map(Predicate::Any),
                inner.prop_map(Predicate::not),
            ]
        })
    }
}
