//! `|= "text"`, `!= "text"`, `|~ "regex"`, `!~ "regex"`, each with `or` chains.

use memchr::memmem::Finder;
use regex::Regex;

use super::Unsupported;
use crate::logql::ast::{self, LineOp, LineOperand};
use crate::logql::regexp;

/// A compiled line filter.
#[derive(Debug)]
pub struct LineFilter {
    operands: Vec<Operand>,
    /// The record stays if none of the operands is found.
    negative: bool,
}

#[derive(Debug)]
enum Operand {
    Text(Box<Finder<'static>>),
    Regex(Regex),
}

impl LineFilter {
    /// Compiles a filter; patterns and addresses are refused.
    pub fn compile(filter: &ast::LineFilter) -> Result<Self, Unsupported> {
        let operands =
            filter.operands.iter().map(|operand| Operand::compile(filter.op, operand)).collect::<Result<_, _>>()?;
        Ok(Self { operands, negative: matches!(filter.op, LineOp::NotContains | LineOp::NotRegex) })
    }

    /// Whether a record with this line stays.
    pub fn matches(&self, line: &str) -> bool {
        self.operands.iter().any(|operand| operand.is_in(line)) != self.negative
    }

    /// Texts of which a line that stays holds at least one; empty where that cannot be said.
    pub fn required_literals(&self) -> Vec<String> {
        if self.negative {
            return Vec::new();
        }
        let texts: Option<Vec<String>> = self.operands.iter().map(Operand::literal).collect();
        texts.unwrap_or_default()
    }
}

impl Operand {
    fn compile(op: LineOp, operand: &LineOperand) -> Result<Self, Unsupported> {
        if operand.ip {
            return Err(Unsupported::new(operand.span, "`ip(...)` is not evaluated yet"));
        }
        match op {
            LineOp::Contains | LineOp::NotContains => Ok(Self::Text(Box::new(Finder::new(&operand.text).into_owned()))),
            LineOp::Regex | LineOp::NotRegex => {
                let regex = regexp::compile(&operand.text);
                regex.map(Self::Regex).map_err(|error| Unsupported::new(operand.span, error.to_string()))
            }
            LineOp::Pattern | LineOp::NotPattern => {
                Err(Unsupported::new(operand.span, "pattern filters are not evaluated yet"))
            }
        }
    }

    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Text(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(line),
        }
    }

    fn literal(&self) -> Option<String> {
        match self {
            Self::Text(finder) => String::from_utf8(finder.needle().to_vec()).ok(),
            Self::Regex(regex) => (regex::escape(regex.as_str()) == regex.as_str()).then(|| regex.as_str().to_owned()),
        }
    }
}
