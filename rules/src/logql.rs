//! LogQL, the language of expressions: text to tree, tree to text, and what is wrong with either.
//!
//! The grammar and its precedence are Loki's.

use crate::diagnostic::Diagnostic;

pub mod ast;
pub mod check;
mod lexer;
mod parser;
pub mod regexp;

pub use parser::{EXPRESSION_BYTES_MAX, NESTING_DEPTH_MAX};

/// Reads and checks an expression; spans of the tree and of the mistakes are bytes of `text`.
pub fn parse(text: &str) -> Result<ast::Expr, Vec<Diagnostic>> {
    let expr = parser::parse(text).map_err(|mistake| vec![mistake])?;
    let mistakes = check::check(&expr);
    if mistakes.is_empty() { Ok(expr) } else { Err(mistakes) }
}
