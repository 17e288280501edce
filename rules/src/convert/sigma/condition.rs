//! Sigma's conditions: `selection and not 1 of filter_*`, with the older `| count(user) by host > 5` behind it.

use super::super::predicate::Predicate;

/// Parentheses in one another; deeper ones are refused.
const DEPTH_MAX: usize = 32;

/// What a condition says.
pub(super) struct Condition {
    pub(super) records: Predicate,
    pub(super) aggregation: Option<Aggregation>,
}

/// `count(field) by a, b > 5`; without a field it counts the records.
pub(super) struct Aggregation {
    pub(super) field: Option<String>,
    pub(super) by: Vec<String>,
    pub(super) op: &'static str,
    pub(super) number: f64,
}

/// Reads a condition over searches, each with its name. The error says what is not understood.
pub(super) fn parse(text: &str, searches: &[(String, Predicate)]) -> Result<Condition, String> {
    let (condition, aggregation) = match text.split_once('|') {
        Some((condition, aggregation)) => (condition, Some(read_aggregation(aggregation)?)),
        None => (text, None),
    };
    let spaced = condition.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, searches, depth: 0 };
    let records = parser.any()?;
    match parser.words.first() {
        None => Ok(Condition { records, aggregation }),
        Some(word) => Err(format!("`{word}` is not understood in the condition")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    searches: &'a [(String, Predicate)],
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Predicate, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("the condition is nested deeper than {DEPTH_MAX}"));
        }
        let mut parts = vec![self.all()?];
        while self.word("or") {
            parts.push(self.all()?);
        }
        self.depth -= 1;
        Ok(Predicate::Any(parts))
    }

    fn all(&mut self) -> Result<Predicate, String> {
        let mut parts = vec![self.one()?];
        while self.word("and") {
            parts.push(self.one()?);
        }
        Ok(Predicate::All(parts))
    }

    fn one(&mut self) -> Result<Predicate, String> {
        let mut is_negated = false;
        while self.word("not") {
            is_negated = !is_negated;
        }
        let one = self.operand()?;
        Ok(if is_negated { one.not() } else { one })
    }

    fn operand(&mut self) -> Result<Predicate, String> {
        if self.word("(") {
            let inner = self.any()?;
            return if self.word(")") {
                Ok(inner)
            } else {
                Err("a parenthesis of the condition is not closed".to_owned())
            };
        }
        match self.words {
            [quantity, of, names, rest @ ..] if of.eq_ignore_ascii_case("of") => {
                self.words = rest;
                self.of(quantity, names)
            }
            [name, rest @ ..] => {
                self.words = rest;
                let found = self.searches.iter().find(|(known, _)| known == name);
                found.map(|(_, search)| search.clone()).ok_or_else(|| format!("there is no search `{name}`"))
            }
            [] => Err("the condition ends too early".to_owned()),
        }
    }

    /// `1 of them`, `all of selection_*`.
    fn of(&self, quantity: &str, names: &str) -> Result<Predicate, String> {
        let is_meant = |name: &str| match names {
            "them" => !name.starts_with('_'),
            names => is_like(name, names),
        };
        let meant: Vec<Predicate> =
            self.searches.iter().filter(|(name, _)| is_meant(name)).map(|(_, search)| search.clone()).collect();
        if meant.is_empty() {
            return Err(format!("there is no search `{names}`"));
        }
        match quantity.to_ascii_lowercase().as_str() {
            "1" | "any" => Ok(Predicate::Any(meant)),
            "all" => Ok(Predicate::All(meant)),
            other => Err(format!("`{other} of` has no counterpart: only `1 of` and `all of`")),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        match self.words {
            [first, rest @ ..] if first.eq_ignore_ascii_case(word) => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

/// Whether a name is like a pattern with `*`.
fn is_like(name: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return name == pattern };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(inner) = name.strip_prefix(start).and_then(|name| name.strip_suffix(end)) else { return false };
    // The first place is as good as any later one.
    let mut parts = middle.split('*');
    parts.try_fold(inner, |rest, part| rest.split_once(part).map(|(_, rest)| rest)).is_some()
}

fn read_aggregation(text: &str) -> Result<Aggregation, String> {
    let not_understood = || format!("`|{text}` has no counterpart: only `count() by ... > N`");
    let rest = text.trim().strip_prefix("count(").ok_or_else(not_understood)?;
    let (field, rest) = rest.split_once(')').ok_or_else(not_understood)?;
    let at = rest.find(['<', '>', '=']).ok_or_else(not_understood)?;
    let (by, bound) = rest.split_at(at);
    let by = by.trim().strip_prefix("by").unwrap_or(by.trim());
    let ops = [(">=", ">="), ("<=", "<="), ("==", "=="), (">", ">"), ("<", "<"), ("=", "==")];
    let found = ops.iter().find_map(|(sign, op)| Some((*op, bound.strip_prefix(sign)?)));
    let (op, number) = found.ok_or_else(not_understood)?;
    Ok(Aggregation {
        field: Some(field.trim().to_owned()).filter(|field| !field.is_empty()),
        by: by.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        op,
        number: number.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(not_understood)?,
    })
}
