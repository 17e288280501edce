//! `|= "text"`, `!= "text"`, `|~ "regex"`, `!~ "regex"`, `|> "pattern"`, `!> "pattern"` and `ip("...")`, each with `or` chains.

use memchr::memmem::Finder;

use super::Unsupported;
use super::ip::IpRange;
use super::pattern::LinePattern;
use super::regex_label::RegexLabel;
use crate::logql::ast::{self, LineOp, LineOperand};
use crate::logql::regexp::{self, Regexp};

/// A compiled line filter.
#[derive(Debug)]
pub struct LineFilter {
    operands: Vec<Operand>,
    /// The record stays if none of the operands is found.
    is_negative: bool,
}

#[derive(Debug)]
enum Operand {
    Text(Box<Finder<'static>>),
    Regex(Regexp),
    /// A regular expression that Loki takes for less than it is.
    Narrowed(RegexLabel),
    Pattern(LinePattern),
    Ip(IpRange),
}

impl LineFilter {
    /// Compiles a filter.
    pub fn compile(filter: &ast::LineFilter) -> Result<Self, Unsupported> {
        let compiled = filter.operands.iter().map(|operand| Operand::compile(filter.op, operand));
        let mut operands: Vec<Operand> = compiled.collect::<Result<_, _>>()?;
        let is_negative = matches!(filter.op, LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern);
        // As in Loki, what every line has is left out of a chain.
        if !is_negative && !operands.iter().all(Operand::passes_all) {
            operands.retain(|operand| !operand.passes_all());
        }
        Ok(Self { operands, is_negative })
    }

    /// Whether a record with this line stays.
    pub fn matches(&self, line: &str) -> bool {
        self.operands.iter().any(|operand| operand.is_in(line)) != self.is_negative
    }

    /// Texts of which a line that stays holds at least one; empty where that cannot be said.
    pub fn required_literals(&self) -> Vec<String> {
        if self.is_negative {
            return Vec::new();
        }
        let texts: Option<Vec<String>> = self.operands.iter().map(Operand::literal).collect();
        texts.unwrap_or_default()
    }
}

impl Operand {
    fn compile(op: LineOp, operand: &LineOperand) -> Result<Self, Unsupported> {
        if operand.ip {
            let range = IpRange::parse(&operand.text);
            let message = || format!("`{}` is no address, range of addresses or CIDR block", operand.text);
            return range.map(Self::Ip).ok_or_else(|| Unsupported::new(operand.span, message()));
        }
        match op {
            LineOp::Contains | LineOp::NotContains => Ok(Self::Text(Box::new(Finder::new(&operand.text).into_owned()))),
            LineOp::Regex | LineOp::NotRegex => {
                Self::regex(&operand.text).map_err(|error| Unsupported::new(operand.span, error.to_string()))
            }
            LineOp::Pattern | LineOp::NotPattern => Ok(Self::Pattern(LinePattern::new(&operand.text))),
        }
    }

    fn regex(expression: &str) -> Result<Self, regexp::Error> {
        let regex = regexp::compile(expression)?;
        if !regex.is_match("") {
            return Ok(Self::Regex(regex));
        }
        Ok(match RegexLabel::compile_for_lines(expression)? {
            Some(RegexLabel::Any) => Self::Text(Box::new(Finder::new("").into_owned())),
            Some(narrowed) => Self::Narrowed(narrowed),
            None => Self::Regex(regex),
        })
    }

    fn passes_all(&self) -> bool {
        matches!(self, Self::Text(finder) if finder.needle().is_empty())
    }

    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Text(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(line),
            Self::Narrowed(regex) => regex.matches(line),
            Self::Pattern(pattern) => pattern.matches(line),
            Self::Ip(range) => range.is_in(line),
        }
    }

    fn literal(&self) -> Option<String> {
        match self {
            Self::Text(finder) => String::from_utf8(finder.needle().to_vec()).ok(),
            Self::Regex(regex) => (regex::escape(regex.as_str()) == regex.as_str()).then(|| regex.as_str().to_owned()),
            Self::Pattern(pattern) => pattern.literal(),
            Self::Narrowed(_) | Self::Ip(_) => None,
        }
    }
}
