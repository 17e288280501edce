//! Lucene's query syntax, as Elasticsearch's `query_string` has it: `level:error AND NOT (path:\/health OR status:[200 TO 299])`.

use super::predicate::{Pattern, Predicate, Test};
use super::reader::label_name;
use crate::logql::ast::CompareOp;

/// Parentheses in one another; deeper ones are refused.
const DEPTH_MAX: usize = 32;

/// Reads a query. Where nothing stands between two clauses one of them must hold, or with `joins_all` both. The error says what cannot be
/// carried over.
pub(super) fn parse(text: &str, joins_all: bool) -> Result<Predicate, String> {
    let mut parser = Parser { rest: text, joins_all, depth: 0 };
    let predicate = parser.any(None)?;
    parser.skip_blanks();
    if parser.rest.is_empty() {
        Ok(predicate)
    } else {
        Err(format!("`{}` is not understood in the query", parser.rest))
    }
}

struct Parser<'a> {
    rest: &'a str,
    joins_all: bool,
    depth: usize,
}

/// What a clause is to the others beside it.
#[derive(Clone, Copy, PartialEq)]
enum Occurs {
    Should,
    /// `+a`
    Must,
    /// `-a`, `NOT a`
    MustNot,
}

impl<'a> Parser<'a> {
    /// Groups of clauses joined by `OR`. Values without a field of their own are of `field`.
    fn any(&mut self, field: Option<&str>) -> Result<Predicate, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("the query is nested deeper than {DEPTH_MAX}"));
        }
        let mut groups = vec![self.group(field)?];
        while self.word(&["OR", "||"]) {
            groups.push(self.group(field)?);
        }
        self.depth -= 1;
        Ok(Predicate::Any(groups))
    }

    /// Clauses with nothing between them: all that must hold, none that must not, and where nothing must, one of the others.
    fn group(&mut self, field: Option<&str>) -> Result<Predicate, String> {
        let (mut all, mut others) = (Vec::new(), Vec::new());
        let mut must = false;
        loop {
            let (occurs, clause) = self.chain(field)?;
            must |= occurs == Occurs::Must;
            match occurs {
                Occurs::Should => others.push(clause),
                Occurs::Must => all.push(clause),
                Occurs::MustNot => all.push(clause.not()),
            }
            if self.is_end() || self.peeks(&["OR", "||"]) {
                break;
            }
        }
        match others.is_empty() {
            true => {}
            false if self.joins_all => all.extend(others),
            false if must => {} // they only rank
            false => all.push(Predicate::Any(others)),
        }
        Ok(Predicate::All(all))
    }

    /// Clauses joined by `AND`; a single one may have a sign.
    fn chain(&mut self, field: Option<&str>) -> Result<(Occurs, Predicate), String> {
        let (occurs, first) = self.signed(field)?;
        if !self.peeks(&["AND", "&&"]) {
            return Ok((occurs, first));
        }
        let signed = |(occurs, clause): (Occurs, Predicate)| match occurs {
            Occurs::MustNot => clause.not(),
            _ => clause,
        };
        let mut parts = vec![signed((occurs, first))];
        while self.word(&["AND", "&&"]) {
            parts.push(signed(self.signed(field)?));
        }
        Ok((Occurs::Should, Predicate::All(parts)))
    }

    fn signed(&mut self, field: Option<&str>) -> Result<(Occurs, Predicate), String> {
        let mut occurs = Occurs::Should;
        loop {
            if self.word(&["NOT"]) || self.sign(&['!', '-']) {
                occurs = if occurs == Occurs::MustNot { Occurs::Should } else { Occurs::MustNot };
            } else if self.sign(&['+']) {
                occurs = Occurs::Must;
            } else {
                return Ok((occurs, self.clause(field)?));
            }
        }
    }

    fn clause(&mut self, field: Option<&str>) -> Result<Predicate, String> {
        self.skip_blanks();
        if self.symbol("(") {
            return self.closed(field);
        }
        if self.symbol("*:*") {
            return Ok(Predicate::All(Vec::new()));
        }
        if field.is_none()
            && let Some((name, rest)) = field_name(self.rest)
        {
            self.rest = rest;
            self.skip_blanks();
            if name == "_exists_" {
                let named = self.term()?;
                return Ok(Predicate::Field(label_name(&named), Test::Exists));
            }
            if self.symbol("(") {
                return self.closed(Some(&name));
            }
            return self.value(Some(&name));
        }
        self.value(field)
    }

    fn closed(&mut self, field: Option<&str>) -> Result<Predicate, String> {
        let inner = self.any(field)?;
        self.skip_blanks();
        if self.symbol(")") { Ok(inner) } else { Err("a parenthesis of the query is not closed".to_owned()) }
    }

    fn value(&mut self, field: Option<&str>) -> Result<Predicate, String> {
        if let Some(rest) = self.rest.strip_prefix('"') {
            let (text, rest) = until(rest, '"').ok_or("a quote of the query is not closed")?;
            self.rest = rest;
            return Ok(Predicate::text(field, &escaped_wildcards(&text)));
        }
        if let Some(rest) = self.rest.strip_prefix('/') {
            let (regex, rest) = until(rest, '/').ok_or("a regular expression of the query is not closed")?;
            self.rest = rest;
            let pattern = Pattern::Regex(regex);
            return Ok(match field {
                Some(name) => Predicate::field(name, Test::Is(pattern)),
                None => Predicate::Line(pattern),
            });
        }
        if self.rest.starts_with(['[', '{', '>', '<']) {
            let name = field.ok_or("a range without a field has no counterpart")?;
            return self.range(name);
        }
        let term = self.term()?;
        match field {
            Some(name) if term == "*" => Ok(Predicate::Field(label_name(name), Test::Exists)),
            None if term == "*" => Ok(Predicate::All(Vec::new())),
            _ => Ok(Predicate::text(field, &term)),
        }
    }

    fn range(&mut self, name: &str) -> Result<Predicate, String> {
        let compares = |op, bound: &str| match bound {
            "*" => Ok(None),
            bound => match bound.parse() {
                Ok(number) => Ok(Some(Predicate::field(name, Test::Compares(op, number)))),
                Err(_) => Err(format!("`{bound}` is no number: ranges of other things have no counterpart")),
            },
        };
        for (sign, op) in [
            (">=", CompareOp::GreaterEqual),
            ("<=", CompareOp::LessEqual),
            (">", CompareOp::Greater),
            ("<", CompareOp::Less),
        ] {
            if self.symbol(sign) {
                let bound = self.term()?;
                return compares(op, &bound)?.ok_or_else(|| "a range without bounds".to_owned());
            }
        }
        let from = if self.symbol("[") { CompareOp::GreaterEqual } else { CompareOp::Greater };
        self.symbol("{");
        let end = self.rest.find([']', '}']).ok_or("a range of the query is not closed")?;
        let to = if self.rest[end..].starts_with(']') { CompareOp::LessEqual } else { CompareOp::Less };
        let (bounds, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        let (low, high) = bounds.split_once(" TO ").ok_or("a range is written `[1 TO 5]`")?;
        let parts = [compares(from, low.trim())?, compares(to, high.trim())?];
        Ok(Predicate::All(parts.into_iter().flatten().collect()))
    }

    /// A word, its escapes still in it; `^2` behind it, which only ranks, is left out.
    fn term(&mut self) -> Result<String, String> {
        self.skip_blanks();
        let mut end = 0;
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if c.is_whitespace() || "()\"[]{}".contains(c) {
                end = at;
                break;
            }
            end = self.rest.len();
        }
        let (term, rest) = self.rest.split_at(end);
        self.rest = rest;
        let term = term.split_once('^').map_or(term, |(term, _)| term);
        match term {
            "" => Err("a word is missing in the query".to_owned()),
            fuzzy if fuzzy.contains('~') => Err(format!("`{fuzzy}`: words that are only alike have no counterpart")),
            term => Ok(unescaped(term)),
        }
    }

    fn word(&mut self, words: &[&str]) -> bool {
        let found = self.behind(words);
        found.map(|rest| self.rest = rest).is_some()
    }

    fn peeks(&mut self, words: &[&str]) -> bool {
        self.behind(words).is_some()
    }

    /// What follows one of these words.
    fn behind(&mut self, words: &[&str]) -> Option<&'a str> {
        self.skip_blanks();
        words.iter().find_map(|word| {
            let rest = self.rest.strip_prefix(word)?;
            let is_whole =
                rest.starts_with(|c: char| c.is_whitespace() || c == '(') || !word.starts_with(char::is_alphabetic);
            is_whole.then_some(rest)
        })
    }

    fn sign(&mut self, signs: &[char]) -> bool {
        self.skip_blanks();
        let rest = self.rest.strip_prefix(signs).filter(|rest| rest.starts_with(|c: char| !c.is_whitespace()));
        rest.map(|rest| self.rest = rest).is_some()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let rest = self.rest.strip_prefix(symbol);
        rest.map(|rest| self.rest = rest).is_some()
    }

    fn is_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty() || self.rest.starts_with(')')
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// A field's name and what follows its colon.
fn field_name(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || "_.@-\\".contains(c)))?;
    let rest = text[end..].strip_prefix(':')?;
    (end > 0).then(|| (text[..end].replace('\\', ""), rest))
}

/// The text up to a mark that no `\` stands before, and what follows it.
fn until(text: &str, mark: char) -> Option<(String, &str)> {
    let (mut out, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == mark => return Some((out, &text[at + c.len_utf8()..])),
            '\\' => match chars.next()? {
                (_, next) if next == mark => out.push(next),
                (_, next) => out.extend(['\\', next]),
            },
            c => out.push(c),
        }
    }
    None
}

/// Within quotes `*` and `?` are letters.
fn escaped_wildcards(text: &str) -> String {
    text.replace('*', "\\*").replace('?', "\\?")
}

/// Without the escapes of what is no wildcard.
fn unescaped(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some('*' | '?' | '\\')) => out.extend([c, chars.next().unwrap_or(c)]),
            ('\\', Some(next)) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}
