//! LogQL, the language of expressions: text to tree, tree to text, and what is wrong with either.
//!
//! The grammar and its precedence are Loki's. What Loki's parser lets pass though it fails or means nothing afterwards is a
//! mistake here: an address, pattern, JSON path or regular expression that cannot be used, a label formatted twice, `bool` on
//! arithmetic, `on` beside a number, an aggregation of a number, a range of 0, and a number with a word on its heels (`5or`).
//! `variants`, which newer Lokis have no more, is read.

use crate::diagnostic::Diagnostic;

pub mod ast;
pub mod check;
pub(crate) mod lexer;
mod parser;
pub(crate) mod printer;
pub mod regexp;
pub(crate) mod stream_labels;

pub use parser::{EXPRESSION_BYTES_MAX, NESTING_DEPTH_MAX, OPERATORS_MAX};

/// Reads and checks an expression; spans of the tree and of the mistakes are bytes of `text`.
pub fn parse(text: &str) -> Result<ast::Expr, Vec<Diagnostic>> {
    let expr = parser::parse(text).map_err(|mistake| vec![mistake])?;
    let mistakes = check::check(&expr, false);
    if mistakes.is_empty() { Ok(expr) } else { Err(mistakes) }
}

/// The same of a log expression that may select every stream: `{}`, `{app=~".*"}`. Loki's search for series takes such.
pub fn parse_of_any_stream(text: &str) -> Result<ast::Expr, Vec<Diagnostic>> {
    let expr = parser::parse(text).map_err(|mistake| vec![mistake])?;
    let mistakes = check::check(&expr, true);
    if mistakes.is_empty() { Ok(expr) } else { Err(mistakes) }
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
            format!("{{a=\"b\"}} | a=1{}", " or b=1, a=1".repeat(1_000)),
            format!("rate({}", "(".repeat(1_000)),
            "sum(".repeat(1_000),
        ];
        for text in too_deep {
            let mistakes = parse(&text).unwrap_err();
            assert_eq!(mistakes[0].code, crate::diagnostic::codes::TOO_DEEP, "{}", &text[..20]);
        }
        let as_deep_as_may_be = [
            format!("1{}", " + 1".repeat(OPERATORS_MAX)),
            format!("1{}", " + (1 + 1)".repeat(OPERATORS_MAX - 1)),
            format!("{{a=\"b\"}} | a=1{}", ", a=1".repeat(5_000)),
            format!("{{a=\"b\"}} | a=1{}", " a=1".repeat(5_000)),
            format!("{{a=\"b\"}} | a=1{}", " or b=1 and a=1".repeat(5_000)),
        ];
        for text in as_deep_as_may_be {
            let written = parse(&text).unwrap().to_string();
            assert_eq!(parse(&written).unwrap().to_string(), written);
        }
        let chain = " + 1".repeat(OPERATORS_MAX);
        for too_many in [format!("1{chain} + 1"), format!("(1{chain}) + 1"), format!("sum(vector(1){chain}){chain}")] {
            assert_eq!(parse(&too_many).unwrap_err()[0].code, crate::diagnostic::codes::TOO_DEEP);
        }
        let too_long = format!("{{a=\"{}\"}}", "b".repeat(EXPRESSION_BYTES_MAX));
        assert_eq!(parse(&too_long).unwrap_err()[0].code, crate::diagnostic::codes::TOO_LONG);
    }

    #[test]
    fn a_string_in_backticks_is_taken_as_it_is() {
        let Ok(ast::Expr::Log(log)) = parse("{a=`b\r\n\\`}") else { panic!() };
        assert_eq!(log.selector.matchers[0].value, "b\r\n\\");
    }

    #[test]
    fn regular_expressions_share_a_limit() {
        let hostile = |regex: &str, times: usize| format!("{{a=\"b\"}}{}", format!(" |~ {regex:?}").repeat(times));
        assert_eq!(parse(&hostile("(ab+c|[^,]{10})", 500)).err(), None);
        for (regex, times) in [("[a-z]{1000}", 4_000), ("a", 8_000), ("(a{10}){100}", 4_000)] {
            let mistakes = parse(&hostile(regex, times)).unwrap_err();
            let text = &mistakes[0].message;
            assert!(mistakes.len() == 1 && text.contains("`REGEX_PROGRAMS_BYTES_MAX`"), "{regex}: {text}");
        }
        let mistakes = parse(&hostile("([a-z]{1000}){99}", 3_000)).unwrap_err();
        assert!(mistakes[0].message.contains("`REGEX_REPEAT_MAX`"), "{}", mistakes[0].message);
    }
}
