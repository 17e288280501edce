//! Grafana's math expressions: `$A / $B * 100 > 5 && $C < 3`, written as LogQL.
//!
//! There a comparison yields 1 or 0, and what is not 0 fires; in LogQL one that fails yields nothing. So comparisons at the top filter, and
//! only those within arithmetic have `bool`.

/// Parentheses in one another; deeper ones are refused.
const DEPTH_MAX: usize = 32;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Math {
    Number(f64),
    /// What another query yields.
    Ref(String),
    Negated(Box<Math>),
    Binary(&'static str, Box<Math>, Box<Math>),
}

/// Operators, those that bind least first, and what they are in LogQL. All are read from the left, `**` too, and a `-` before an operand
/// binds tighter than any.
const LEVELS: &[&[(&str, &str)]] = &[
    &[("||", "or")],
    &[("&&", "and")],
    &[("==", "=="), ("!=", "!="), (">=", ">="), ("<=", "<="), (">", ">"), ("<", "<")],
    &[("+", "+"), ("-", "-")],
    &[("*", "*"), ("/", "/"), ("%", "%")],
    &[("**", "^")],
];

/// Reads an expression. The error says what has no counterpart.
pub(super) fn parse(text: &str) -> Result<Math, String> {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let math = parser.level(0)?;
    match parser.rest {
        "" => Ok(math),
        rest => Err(format!("`{rest}` is not understood")),
    }
}

impl Math {
    /// As a condition: it yields what is told of. `value` gives what a query yields.
    pub(super) fn condition<E>(&self, value: &mut impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
        match self {
            Self::Binary(op @ ("and" | "or"), lhs, rhs) => {
                Ok(format!("({}) {op} ({})", lhs.condition(value)?, rhs.condition(value)?))
            }
            Self::Binary(op, lhs, rhs) if is_comparison(op) => {
                Ok(format!("{} {op} {}", lhs.value(value)?, rhs.value(value)?))
            }
            other => Ok(format!("{} != 0", other.value(value)?)),
        }
    }

    /// As a number, in parentheses where need be.
    pub(super) fn value<E>(&self, value: &mut impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
        Ok(match self {
            Self::Number(number) => number.to_string(),
            Self::Ref(name) => format!("({})", value(name)?),
            Self::Negated(inner) => format!("(-1 * {})", inner.value(value)?),
            Self::Binary(op @ ("and" | "or"), lhs, rhs) => {
                let join = if *op == "and" { "*" } else { "+" };
                let holds = |part: String| format!("({part} != bool 0)");
                format!("({} {join} {} > bool 0)", holds(lhs.value(value)?), holds(rhs.value(value)?))
            }
            Self::Binary(op, lhs, rhs) => {
                let bool = if is_comparison(op) { " bool" } else { "" };
                format!("({} {op}{bool} {})", lhs.value(value)?, rhs.value(value)?)
            }
        })
    }

    /// The query whose value an alert of this condition has.
    pub(super) fn shown(&self) -> Option<&str> {
        match self {
            Self::Ref(name) => Some(name),
            Self::Binary(op, lhs, _) if is_comparison(op) || matches!(*op, "and" | "or") => lhs.shown(),
            _ => None,
        }
    }
}

fn is_comparison(op: &str) -> bool {
    matches!(op, "==" | "!=" | ">" | ">=" | "<" | "<=")
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn level(&mut self, level: usize) -> Result<Math, String> {
        let Some(operators) = LEVELS.get(level) else { return self.operand() };
        let mut lhs = self.level(level + 1)?;
        while let Some((sign, op)) = operators.iter().find(|(sign, _)| self.rest.starts_with(sign)) {
            self.skip(sign.len());
            lhs = Math::Binary(op, Box::new(lhs), Box::new(self.level(level + 1)?));
        }
        Ok(lhs)
    }

    fn operand(&mut self) -> Result<Math, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let operand = self.inner_operand();
        self.depth -= 1;
        operand
    }

    fn inner_operand(&mut self) -> Result<Math, String> {
        let first = self.rest.chars().next().ok_or("it ends too early")?;
        match first {
            '(' => {
                self.skip(1);
                let inner = self.level(0)?;
                if !self.rest.starts_with(')') {
                    return Err("a parenthesis is not closed".to_owned());
                }
                self.skip(1);
                Ok(inner)
            }
            '-' => {
                self.skip(1);
                Ok(Math::Negated(Box::new(self.operand()?)))
            }
            '$' => self.reference(),
            c if c.is_ascii_digit() || c == '.' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                let number = self.rest[..end].parse().map_err(|_| format!("`{}` is no number", &self.rest[..end]))?;
                self.skip(end);
                Ok(Math::Number(number))
            }
            '!' => Err("`!` has no counterpart: turn the comparison around".to_owned()),
            _ => {
                let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
                Err(format!("`{}` has no counterpart in LogQL", &self.rest[..end.max(first.len_utf8())]))
            }
        }
    }

    /// `$A` or `${A B}`.
    fn reference(&mut self) -> Result<Math, String> {
        self.rest = &self.rest[1..];
        if let Some(braced) = self.rest.strip_prefix('{') {
            let end = braced.find('}').ok_or("`${` is not closed")?;
            let name = braced[..end].to_owned();
            self.skip(end + 2);
            return Ok(Math::Ref(name));
        }
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        self.skip(end);
        if name.is_empty() { Err("a name is missing behind `$`".to_owned()) } else { Ok(Math::Ref(name)) }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }
}
