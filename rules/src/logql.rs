//! LogQL, the language of expressions: text to tree, tree to text, and what is wrong with either.
//!
//! The grammar and its precedence are Loki's. What Loki's parser lets pass though it fails or means nothing afterwards is a
//! mistake here: an address, pattern, JSON path or regular expression that cannot be used, a label formatted twice, `bool` on
//! arithmetic, `on` beside a number, an aggregation of a number, a range of 0, and a number with a word on its heels (`5or`).
//! `variants`, which newer Lokis have no more, is read.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, codes};

pub mod ast;
pub mod check;
mod lexer;
mod parser;
pub(crate) mod printer;
pub mod regexp;

pub use parser::{EXPRESSION_BYTES_MAX, NESTING_DEPTH_MAX};

/// Reads and checks an expression; spans of the tree and of the mistakes are bytes of `text`.
pub fn parse(text: &str) -> Result<ast::Expr, Vec<Diagnostic>> {
    let expr = parser::parse(text).map_err(|mistake| vec![mistake])?;
    let mistakes = check::check(&expr);
    if mistakes.is_empty() { Ok(expr) } else { Err(mistakes) }
}

/// Reads the labels of a stream, `{name="value", ...}`.
pub(crate) fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, Diagnostic> {
    let refused = |span: std::ops::Range<usize>, message: &str| Diagnostic::error(codes::SYNTAX, span, message);
    let log = match parser::parse(text)? {
        ast::Expr::Log(log) if log.stages.is_empty() => log,
        _ => return Err(refused(0..text.len(), "these are no labels: write `{name=\"value\", ...}`")),
    };
    let mut labels = BTreeMap::new();
    for matcher in log.selector.matchers {
        if matcher.op != ast::MatchOp::Equal {
            return Err(refused(matcher.span.range(), "a stream's label has one value: write `name=\"value\"`"));
        }
        if labels.insert(matcher.name, matcher.value).is_some() {
            return Err(refused(matcher.span.range(), "the label is there twice"));
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadriven;
    use crate::diagnostic::render_all;

    /// An expression becomes itself with all parentheses, or its mistakes.
    #[test]
    fn expressions_and_their_mistakes() {
        datadriven::run("logql", |text| match parse(text) {
            Ok(expr) => format!("{expr:#}"),
            Err(mistakes) => render_all(&mistakes, text),
        });
    }

    #[test]
    fn deep_and_long_expressions_are_refused() {
        let too_deep = [
            format!("{}1{}", "(".repeat(60_000), ")".repeat(60_000)),
            format!("1{}", " + 1".repeat(30_000)),
            format!("1{}", " ^ 1".repeat(30_000)),
            format!("{{a=\"b\"}} | {}a=1{}", "(".repeat(1_000), ")".repeat(1_000)),
            format!("{{a=\"b\"}} | a=1{}", ", a=1".repeat(1_000)),
            format!("rate({}", "(".repeat(1_000)),
            "sum(".repeat(1_000),
        ];
        for text in too_deep {
            let mistakes = parse(&text).unwrap_err();
            assert_eq!(mistakes[0].code, crate::diagnostic::codes::TOO_DEEP, "{}", &text[..20]);
        }
        let too_long = format!("{{a=\"{}\"}}", "b".repeat(EXPRESSION_BYTES_MAX));
        assert_eq!(parse(&too_long).unwrap_err()[0].code, crate::diagnostic::codes::TOO_LONG);
    }
}
