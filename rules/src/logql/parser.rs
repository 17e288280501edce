//! Tokens to tree: recursive descent, operators by precedence.
//!
//! From loose to tight: `or`; `and unless`; comparisons; `+ -`; `* / %`; `^`. All are left-associative but `^`, and a sign
//! belongs to its number (`-2 ^ 2` is 4), as in Loki. Parentheses leave no node behind.

use std::sync::Arc;
use std::time::Duration;

use super::ast::*;
use super::lexer::{self, Token, TokenKind};
use crate::diagnostic::{Code, Diagnostic, codes};
use crate::pipeline::convert;

/// An expression longer than this is an error; Loki's limit too.
pub const EXPRESSION_BYTES_MAX: usize = 128 * 1024;

/// An expression with more parentheses in one another is an error.
pub const NESTING_DEPTH_MAX: usize = 128;

/// An expression with more operators between numbers in one chain, `1 + 2 + ...`, is an error: what walks its tree goes down as deep.
/// Chains of label filters are one node however long they are.
pub const OPERATORS_MAX: usize = 1024;

/// Words that start a stage behind `|`.
const STAGES: &[&str] = &[
    "json",
    "logfmt",
    "regexp",
    "pattern",
    "unpack",
    "line_format",
    "label_format",
    "decolorize",
    "drop",
    "keep",
    "unwrap",
];

/// The tree of `text`; nothing is checked but the grammar.
pub(crate) fn parse(text: &str) -> Result<Expr, Diagnostic> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes, more than {EXPRESSION_BYTES_MAX}", text.len());
        return Err(Diagnostic::error(codes::TOO_LONG, 0..text.len(), message));
    }
    let mut parser = Parser { text, tokens: lexer::tokens(text)?, at: 0, depth: 0, height: 0 };
    let expr = parser.expr(0).map_err(|diagnostic| *diagnostic)?;
    match parser.peek() {
        TokenKind::End => Ok(expr),
        _ => Err(*parser.trailing(&expr)),
    }
}

/// Boxed, because it is large beside what succeeds.
type Parsed<T> = Result<T, Box<Diagnostic>>;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Operators that stand below one another in the expression that was read last.
    height: usize,
}

/// What stands in the parentheses of a range aggregation, as far as it was read.
struct RangeParts {
    log: LogExpr,
    range: Option<(Duration, Span)>,
    offset: i64,
}

/// The operator to the left of a label filter that is being read.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum FilterLink {
    /// None, a comma or nothing at all: what follows binds tighter, as in Loki's grammar.
    Loose,
    Or,
    And,
}

// Tokens.
impl Parser<'_> {
    fn peek(&self) -> &TokenKind {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &TokenKind {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    fn span(&self) -> Span {
        self.tokens[self.at].span
    }

    /// Span of the token before.
    fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].span
    }

    /// From the start of `first` to the token before.
    fn since(&self, first: Span) -> Span {
        first.to(self.last_span())
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(other) if *other == symbol)
    }

    fn at_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), TokenKind::Keyword(other) if *other == keyword)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn word(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            TokenKind::Word => Ok(self.text[self.advance().span.range()].to_owned()),
            TokenKind::Keyword(_) => Err(self.keyword_as_name(what)),
            _ => Err(self.unexpected(what)),
        }
    }

    fn string(&mut self) -> Parsed<StringArg> {
        match self.peek().clone() {
            TokenKind::String(text) => Ok(StringArg { text, span: self.advance().span }),
            _ => Err(self.unexpected("a string").help("strings stand in `\"...\"` or in backticks").into()),
        }
    }

    fn number(&mut self) -> Option<f64> {
        let TokenKind::Number(number) = *self.peek() else { return None };
        self.advance();
        Some(number)
    }

    /// A number that may have a sign.
    fn signed_number(&mut self) -> Option<f64> {
        let sign = match self.peek() {
            TokenKind::Symbol("-") => -1.0,
            TokenKind::Symbol("+") => 1.0,
            _ => return self.number(),
        };
        let TokenKind::Number(number) = *self.peek_at(1) else { return None };
        self.advance();
        self.advance();
        Some(sign * number)
    }

    /// Items with commas between them.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn nest(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth <= NESTING_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("the expression is nested deeper than {NESTING_DEPTH_MAX}");
        Err(self.error(codes::TOO_DEEP, &message).into())
    }
}

// Mistakes.
impl Parser<'_> {
    /// At the current token.
    fn error(&self, code: Code, message: &str) -> Diagnostic {
        Diagnostic::error(code, self.span(), message)
    }

    fn unexpected(&self, wanted: &str) -> Box<Diagnostic> {
        let found = match self.peek() {
            TokenKind::End => "the end of the expression".to_owned(),
            _ => format!("`{}`", &self.text[self.span().range()]),
        };
        self.error(codes::SYNTAX, &format!("expected {wanted}, found {found}"))
            .label(format!("expected {wanted}"))
            .into()
    }

    fn keyword_as_name(&self, what: &str) -> Box<Diagnostic> {
        let word = &self.text[self.span().range()];
        let message = format!("expected {what}, found the keyword `{word}`");
        self.error(codes::SYNTAX, &message).label("no label can be named by it in LogQL").into()
    }

    /// Something stands behind a whole expression.
    fn trailing(&self, expr: &Expr) -> Box<Diagnostic> {
        let diagnostic = self.unexpected(match expr {
            Expr::Log(_) => "a stage or the end of the expression",
            Expr::Metric(_) => "an operator or the end of the expression",
        });
        match self.peek() {
            TokenKind::Symbol(")") => diagnostic.label("no `(` before it is open").into(),
            TokenKind::Symbol("=") => diagnostic.help("numbers are compared by `==`").into(),
            TokenKind::Range(_) => diagnostic.help("a range stands inside a function, like `rate({...} [5m])`").into(),
            TokenKind::Keyword("by" | "without") => {
                diagnostic.help("`by` and `without` stand beside an aggregation").into()
            }
            _ => diagnostic,
        }
    }

    /// A word stands where an expression should.
    fn unknown_function(&self) -> Box<Diagnostic> {
        let word = &self.text[self.span().range()];
        if !matches!(self.peek_at(1), TokenKind::Symbol("(") | TokenKind::Keyword("by" | "without")) {
            return self
                .unexpected("an expression")
                .help("an expression starts with `{`, a function or a number")
                .into();
        }
        let diagnostic = self.error(codes::UNKNOWN_FUNCTION, &format!("unknown function `{word}`"));
        let diagnostic = diagnostic.label("not a function of LogQL");
        if let Some((_, help)) = OF_PROMQL.iter().find(|(name, _)| *name == word) {
            return diagnostic.help(*help).into();
        }
        diagnostic.suggest(word, lexer::function_names()).into()
    }

    /// A word stands behind `|` that is no label filter.
    fn unknown_stage(&self, word: &str, place: Span) -> Box<Diagnostic> {
        let diagnostic = Diagnostic::error(codes::UNKNOWN_STAGE, place, format!("unknown stage `{word}`"));
        let diagnostic = diagnostic.label("neither a stage nor a label that is compared with something");
        match self.peek() {
            TokenKind::String(_) => diagnostic.help(format!("write `{word}=...`")).into(),
            _ => diagnostic.suggest(word, STAGES.iter().copied()).into(),
        }
    }

    fn log_operand(&self, op: BinaryOp, log: &LogExpr) -> Box<Diagnostic> {
        let message = format!("`{op}` works on numbers, this yields log lines");
        let help = "count the lines: `sum(count_over_time({...} [5m]))`";
        Box::new(Diagnostic::error(codes::OPERAND, log.span, message).label("log lines").help(help))
    }
}

/// Functions of PromQL that LogQL does not have, and what to write instead.
const OF_PROMQL: &[(&str, &str)] = &[
    (
        "increase",
        "count the records, `count_over_time({...} [5m])`, or add up what they hold, `sum_over_time({...} | unwrap bytes [5m])`",
    ),
    ("irate", "write `rate({...} [5m])`"),
    ("delta", "subtract what was before, `... - ... offset 5m`"),
    ("absent", "write `absent_over_time({...} [5m])`"),
    ("present_over_time", "write `count_over_time({...} [5m]) > 0`"),
    (
        "histogram_quantile",
        "records are no histograms: write `quantile_over_time(0.99, {...} | logfmt | unwrap duration(took) [5m]) by (service_name)`",
    ),
];

// Expressions.
impl Parser<'_> {
    fn expr(&mut self, tightness_min: u8) -> Parsed<Expr> {
        let mut lhs = self.operand()?;
        let mut height = self.height;
        while let Some(op) = self.binary_op().filter(|op| tightness(*op) >= tightness_min) {
            self.check_height(height)?;
            lhs = Expr::Metric(self.binary(lhs, op)?);
            height = height.max(self.height) + 1;
        }
        self.height = height;
        Ok(lhs)
    }

    /// Whether another operator may stand above an expression of so many.
    fn check_height(&self, height: usize) -> Parsed<()> {
        if height < OPERATORS_MAX {
            return Ok(());
        }
        let message = format!("the expression has a chain of more than {OPERATORS_MAX} operators");
        Err(self.error(codes::TOO_DEEP, &message).into())
    }

    fn metric_expr(&mut self) -> Parsed<MetricExpr> {
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(log) => {
                let message = "expected an expression that yields numbers, found one that yields log lines";
                let help = "count them: `count_over_time({...} [5m])`";
                Err(Diagnostic::error(codes::OPERAND, log.span, message).label("log lines").help(help).into())
            }
        }
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            TokenKind::Keyword("or") => BinaryOp::Or,
            TokenKind::Keyword("and") => BinaryOp::And,
            TokenKind::Keyword("unless") => BinaryOp::Unless,
            TokenKind::Symbol("+") => BinaryOp::Add,
            TokenKind::Symbol("-") => BinaryOp::Sub,
            TokenKind::Symbol("*") => BinaryOp::Mul,
            TokenKind::Symbol("/") => BinaryOp::Div,
            TokenKind::Symbol("%") => BinaryOp::Mod,
            TokenKind::Symbol("^") => BinaryOp::Pow,
            TokenKind::Symbol(symbol) => BinaryOp::Compare(CompareOp::from_name(symbol)?),
            _ => return None,
        })
    }

    /// What stands behind the left operand.
    fn binary(&mut self, lhs: Expr, op: BinaryOp) -> Parsed<MetricExpr> {
        let op_span = self.advance().span;
        let return_bool = self.take_keyword("bool");
        let matching = self.vector_matching()?;
        let rhs_tightness = if op == BinaryOp::Pow { tightness(op) } else { tightness(op) + 1 };
        let rhs = self.nested(|parser| parser.expr(rhs_tightness))?;
        let (lhs, rhs) = match (lhs, rhs) {
            (Expr::Metric(lhs), Expr::Metric(rhs)) => (lhs, rhs),
            (Expr::Log(log), _) | (_, Expr::Log(log)) => return Err(self.log_operand(op, &log)),
        };
        let span = lhs.span.to(rhs.span);
        let binary = BinaryExpr { lhs, op, rhs, return_bool, matching, op_span };
        Ok(MetricExpr { kind: MetricKind::Binary(Arc::new(binary)), span })
    }

    fn vector_matching(&mut self) -> Parsed<Option<VectorMatching>> {
        let start = self.span();
        let on = match self.peek() {
            TokenKind::Keyword("on") => true,
            TokenKind::Keyword("ignoring") => false,
            TokenKind::Keyword("group_left" | "group_right") => {
                return Err(self.unexpected("`on (...)` or `ignoring (...)` before it"));
            }
            _ => return Ok(None),
        };
        self.advance();
        let labels = self.label_list()?;
        let (mut card, mut include) = (MatchCardinality::OneToOne, Vec::new());
        if self.take_keyword("group_left") {
            card = MatchCardinality::ManyToOne;
        } else if self.take_keyword("group_right") {
            card = MatchCardinality::OneToMany;
        }
        if card != MatchCardinality::OneToOne && self.at_symbol("(") {
            include = self.label_list()?;
        }
        Ok(Some(VectorMatching { on, labels, card, include, span: self.since(start) }))
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.nest()?;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn operand(&mut self) -> Parsed<Expr> {
        let start = self.span();
        self.height = 0;
        if let Some(number) = self.signed_number() {
            return Ok(Expr::Metric(MetricExpr { kind: MetricKind::Number(number), span: self.since(start) }));
        }
        match self.peek().clone() {
            TokenKind::Symbol("(") => self.parenthesized(),
            TokenKind::Symbol("{") => Ok(Expr::Log(self.log_expr()?)),
            TokenKind::Function(name) => {
                let kind = self.nested(|parser| parser.function(name))?;
                Ok(Expr::Metric(MetricExpr { kind, span: self.since(start) }))
            }
            TokenKind::Word => Err(self.unknown_function()),
            TokenKind::Duration(_) | TokenKind::Bytes(_) => {
                Err(self.unexpected("a number").help("durations and sizes stand in label filters only").into())
            }
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn parenthesized(&mut self) -> Parsed<Expr> {
        let open = self.advance().span;
        let expr = self.nested(|parser| parser.expr(0))?;
        self.close(open)?;
        Ok(expr)
    }

    /// The `)` that belongs to `open`.
    fn close(&mut self, open: Span) -> Parsed<()> {
        if self.take_symbol(")") {
            return Ok(());
        }
        if *self.peek() == TokenKind::End {
            return Err(Box::new(Diagnostic::error(codes::SYNTAX, open, "`(` is never closed")));
        }
        Err(self.unexpected("`)`"))
    }

    fn function(&mut self, name: &'static str) -> Parsed<MetricKind> {
        if let Some(op) = RangeOp::from_name(name) {
            return Ok(MetricKind::Range(self.range_aggregation(op)?));
        }
        if let Some(op) = VectorOp::from_name(name) {
            return Ok(MetricKind::Vector(self.vector_aggregation(op)?));
        }
        match name {
            "vector" => self.vector_fn(),
            "label_replace" => self.label_replace(),
            "variants" => self.variants(),
            "ip" => Err(self.unexpected("an expression").help("`ip(...)` stands in filters only").into()),
            _ => Err(self
                .unexpected("an expression")
                .help(format!("`{name}(...)` stands behind `| unwrap` only"))
                .into()),
        }
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Parsed<RangeAggregation> {
        let op_span = self.advance().span;
        if self.at_keyword("by") || self.at_keyword("without") {
            let help =
                format!("write `{op}(...) by (...)`, or group in a vector aggregation: `sum by (...) ({op}(...))`");
            let message = format!("the grouping of `{op}` stands behind its parentheses");
            return Err(self.error(codes::GROUPING, &message).help(help).into());
        }
        let open = self.span();
        self.expect_symbol("(")?;
        let parameter = self.parameter()?;
        let range = self.log_range(op.name())?;
        self.close(open)?;
        Ok(RangeAggregation { op, parameter, range, grouping: self.grouping()?, op_span })
    }

    /// A number with a comma behind it, before the other argument.
    fn parameter(&mut self) -> Parsed<Option<f64>> {
        let (TokenKind::Number(_), TokenKind::Symbol(",")) = (self.peek(), self.peek_at(1)) else { return Ok(None) };
        let number = self.number();
        self.expect_symbol(",")?;
        Ok(number)
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Parsed<VectorAggregation> {
        let op_span = self.advance().span;
        let before = self.grouping()?;
        let open = self.span();
        self.expect_symbol("(")?;
        let parameter = self.parameter()?;
        let expr = Box::new(self.metric_expr()?);
        self.close(open)?;
        let grouping = match before {
            Some(_) => before,
            None => self.grouping()?,
        };
        Ok(VectorAggregation { op, parameter, expr, grouping, op_span })
    }

    fn vector_fn(&mut self) -> Parsed<MetricKind> {
        self.advance();
        self.expect_symbol("(")?;
        let number = self.number().ok_or_else(|| self.unexpected("a number without a sign"))?;
        self.expect_symbol(")")?;
        Ok(MetricKind::VectorFn(number))
    }

    fn label_replace(&mut self) -> Parsed<MetricKind> {
        self.advance();
        let open = self.span();
        self.expect_symbol("(")?;
        let expr = Box::new(self.metric_expr()?);
        let mut argument = || {
            self.expect_symbol(",")?;
            self.string()
        };
        let (dst, replacement, src, regex) = (argument()?, argument()?, argument()?, argument()?);
        self.close(open)?;
        Ok(MetricKind::LabelReplace { expr, dst, replacement, src, regex })
    }

    fn variants(&mut self) -> Parsed<MetricKind> {
        self.advance();
        let open = self.span();
        self.expect_symbol("(")?;
        let variants = self.list(Self::metric_expr)?;
        self.close(open)?;
        if !matches!(self.peek(), TokenKind::Word) || !self.text[self.span().range()].eq_ignore_ascii_case("of") {
            return Err(self.unexpected("`of ({...} [5m])`"));
        }
        self.advance();
        let open = self.span();
        self.expect_symbol("(")?;
        let of = Box::new(self.log_range("variants")?);
        self.close(open)?;
        Ok(MetricKind::Variants { variants, of })
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let start = self.span();
        let without = match self.peek() {
            TokenKind::Keyword("by") => false,
            TokenKind::Keyword("without") => true,
            _ => return Ok(None),
        };
        self.advance();
        let labels = self.label_list()?;
        Ok(Some(Grouping { without, labels, span: self.since(start) }))
    }

    /// `(a, b)`
    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect_symbol("(")?;
        if self.take_symbol(")") {
            return Ok(Vec::new());
        }
        let labels = self.list(|parser| parser.word("a label"))?;
        if !self.take_symbol(")") {
            let diagnostic = self.unexpected("`,` or `)`");
            return Err(match self.peek() {
                TokenKind::Symbol(".") => diagnostic.help("labels have `_` in the place of `.`").into(),
                _ => diagnostic,
            });
        }
        Ok(labels)
    }
}

/// How tightly an operator binds.
pub(crate) const fn tightness(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Compare(_) => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow => 6,
    }
}

// Selectors and ranges.
impl Parser<'_> {
    fn log_range(&mut self, function: &str) -> Parsed<LogRange> {
        let parts = self.range_parts()?;
        match parts.range {
            Some((range, range_span)) => Ok(LogRange { log: parts.log, range, range_span, offset: parts.offset }),
            None => {
                let help = format!("write `{function}({{...}} [5m])`");
                let found = self.unexpected("a range like `[5m]`");
                Err(Diagnostic { code: codes::RANGE, ..*found.clone() }.help(help).into())
            }
        }
    }

    /// The range may stand behind the selector or behind the stages, inside or outside of parentheses.
    fn range_parts(&mut self) -> Parsed<RangeParts> {
        let mut parts = if self.at_symbol("(") {
            let open = self.advance().span;
            let parts = self.nested(Self::range_parts)?;
            self.close(open)?;
            parts
        } else {
            if !self.at_symbol("{") {
                return Err(self.unexpected("a selector like `{name=\"value\"}`"));
            }
            RangeParts { log: self.log_expr_with_unwrap()?, range: None, offset: 0 }
        };
        if let (None, TokenKind::Range(range)) = (parts.range, self.peek().clone()) {
            parts.range = Some((range, self.advance().span));
            parts.offset = self.offset()?;
            if parts.log.stages.is_empty() {
                parts.log.stages = self.stages(true)?;
                parts.log.span = self.since(parts.log.span);
            }
        }
        Ok(parts)
    }

    fn offset(&mut self) -> Parsed<i64> {
        if !self.take_keyword("offset") {
            return Ok(0);
        }
        let negative = self.take_symbol("-");
        let TokenKind::Duration(offset) = *self.peek() else {
            return Err(self.unexpected("a duration like `5m`"));
        };
        self.advance();
        let nanos = i64::try_from(offset.as_nanos()).unwrap_or(i64::MAX);
        Ok(if negative { -nanos } else { nanos })
    }

    fn log_expr_with_unwrap(&mut self) -> Parsed<LogExpr> {
        self.log_expr_with(true)
    }

    fn log_expr(&mut self) -> Parsed<LogExpr> {
        self.log_expr_with(false)
    }

    fn log_expr_with(&mut self, unwrap_allowed: bool) -> Parsed<LogExpr> {
        let selector = self.selector()?;
        let stages = self.stages(unwrap_allowed)?;
        let span = self.since(selector.span);
        Ok(LogExpr { selector, stages, span })
    }

    fn selector(&mut self) -> Parsed<Selector> {
        let open = self.span();
        self.expect_symbol("{")?;
        if self.take_symbol("}") {
            return Ok(Selector { matchers: Vec::new(), span: self.since(open) });
        }
        let matchers = self.list(Self::matcher)?;
        if self.take_symbol("}") {
            return Ok(Selector { matchers, span: self.since(open) });
        }
        if *self.peek() == TokenKind::End {
            return Err(Box::new(Diagnostic::error(codes::SYNTAX, open, "`{` is never closed")));
        }
        Err(self.unexpected("`,` or `}`"))
    }

    fn matcher(&mut self) -> Parsed<LabelMatcher> {
        let start = self.span();
        let name = self.word("a label")?;
        let Some(op) = self.match_op() else {
            let diagnostic = self.unexpected("`=`, `!=`, `=~` or `!~`");
            return Err(match self.peek() {
                TokenKind::Symbol(".") => diagnostic.help("labels have `_` in the place of `.`").into(),
                TokenKind::Symbol("==") => diagnostic.help("labels are compared by `=`").into(),
                _ => diagnostic,
            });
        };
        self.advance();
        let value = self.string()?;
        Ok(LabelMatcher { name, op, span: self.since(start), value: value.text, value_span: value.span })
    }

    fn match_op(&self) -> Option<MatchOp> {
        let TokenKind::Symbol(symbol) = self.peek() else { return None };
        MatchOp::from_name(symbol)
    }
}

// Stages.
impl Parser<'_> {
    fn stages(&mut self, unwrap_allowed: bool) -> Parsed<Vec<Stage>> {
        let mut stages: Vec<Stage> = Vec::new();
        loop {
            let start = self.span();
            let TokenKind::Symbol(symbol) = *self.peek() else { return Ok(stages) };
            let kind = match LineOp::from_name(symbol) {
                Some(op) => self.line_filter(op)?,
                None if symbol == "|" => self.pipe_stage(unwrap_allowed)?,
                None => return Ok(stages),
            };
            if let Some(Stage { kind: StageKind::Unwrap(unwrap), span }) = stages.last_mut() {
                let StageKind::Label(filter) = kind else {
                    let message = "only label filters may stand behind `| unwrap`";
                    return Err(Diagnostic::error(codes::UNWRAP, self.since(start), message).into());
                };
                unwrap.filters.push(filter);
                *span = self.since(*span);
                continue;
            }
            stages.push(Stage { kind, span: self.since(start) });
        }
    }

    fn line_filter(&mut self, op: LineOp) -> Parsed<StageKind> {
        self.advance();
        let mut operands = vec![self.line_operand()?];
        while self.at_keyword("or") && matches!(self.peek_at(1), TokenKind::String(_) | TokenKind::Function("ip")) {
            self.advance();
            operands.push(self.line_operand()?);
        }
        Ok(StageKind::Line(LineFilter { op, operands }))
    }

    fn line_operand(&mut self) -> Parsed<LineOperand> {
        let start = self.span();
        if *self.peek() == TokenKind::Function("ip") {
            let text = self.ip()?;
            return Ok(LineOperand { text, ip: true, span: self.since(start) });
        }
        let StringArg { text, span } = self.string()?;
        Ok(LineOperand { text, ip: false, span })
    }

    /// `ip("...")`
    fn ip(&mut self) -> Parsed<String> {
        self.advance();
        self.expect_symbol("(")?;
        let pattern = self.string()?;
        self.expect_symbol(")")?;
        Ok(pattern.text)
    }

    fn pipe_stage(&mut self, unwrap_allowed: bool) -> Parsed<StageKind> {
        self.advance();
        let keyword = match *self.peek() {
            TokenKind::Keyword(keyword) if STAGES.contains(&keyword) => keyword,
            TokenKind::Word | TokenKind::Symbol("(") => {
                return Ok(StageKind::Label(self.label_filter(FilterLink::Loose)?));
            }
            _ => return Err(self.unexpected("a stage or a label filter")),
        };
        let place = self.advance().span;
        Ok(match keyword {
            "json" => StageKind::Json(self.extractions()?),
            "logfmt" => self.logfmt()?,
            "regexp" => StageKind::Regexp(self.string()?),
            "pattern" => StageKind::Pattern(self.string()?),
            "unpack" => StageKind::Unpack,
            "decolorize" => StageKind::Decolorize,
            "line_format" => StageKind::LineFormat(self.string()?),
            "label_format" => StageKind::LabelFormat(self.list(Self::label_format)?),
            "drop" => StageKind::Drop(self.list(Self::drop_keep)?),
            "keep" => StageKind::Keep(self.list(Self::drop_keep)?),
            _ if !unwrap_allowed => {
                let diagnostic =
                    Diagnostic::error(codes::UNWRAP, place, "`| unwrap` works inside a range aggregation only");
                return Err(diagnostic.help("write `sum_over_time({...} | unwrap x [5m])`, say").into());
            }
            _ => StageKind::Unwrap(self.unwrap()?),
        })
    }

    fn logfmt(&mut self) -> Parsed<StageKind> {
        let (mut strict, mut keep_empty) = (false, false);
        while let TokenKind::Flag(flag) = *self.peek() {
            self.advance();
            match flag {
                "--strict" => strict = true,
                _ => keep_empty = true,
            }
        }
        Ok(StageKind::Logfmt { strict, keep_empty, labels: self.extractions()? })
    }

    fn extractions(&mut self) -> Parsed<Vec<LabelExtraction>> {
        match self.peek() {
            TokenKind::Word => self.list(Self::extraction),
            _ => Ok(Vec::new()),
        }
    }

    fn extraction(&mut self) -> Parsed<LabelExtraction> {
        let start = self.span();
        let name = self.word("a label")?;
        let expression = if self.take_symbol("=") { self.string()?.text } else { name.clone() };
        Ok(LabelExtraction { name, expression, span: self.since(start) })
    }

    fn label_format(&mut self) -> Parsed<LabelFormat> {
        let start = self.span();
        let name = self.word("a label")?;
        self.expect_symbol("=")?;
        let value = match self.peek() {
            TokenKind::String(_) => LabelFormatValue::Template(self.string()?),
            _ => LabelFormatValue::Rename(self.word("a label or a template in quotes")?),
        };
        Ok(LabelFormat { name, value, span: self.since(start) })
    }

    fn drop_keep(&mut self) -> Parsed<DropKeep> {
        let start = self.span();
        let name = self.word("a label")?;
        if self.match_op().is_none() {
            return Ok(DropKeep { name, matcher: None, span: start });
        }
        self.at -= 1;
        let matcher = self.matcher()?;
        Ok(DropKeep { name, matcher: Some(matcher), span: self.since(start) })
    }

    fn unwrap(&mut self) -> Parsed<Unwrap> {
        let conversion = match *self.peek() {
            TokenKind::Function(name) => UnwrapConversion::from_name(name),
            _ => None,
        };
        if conversion.is_none() {
            let label = self.word("a label, or `bytes(...)`, `duration(...)` or `duration_seconds(...)`")?;
            return Ok(Unwrap { label, conversion, filters: Vec::new() });
        }
        self.advance();
        self.expect_symbol("(")?;
        let label = self.word("a label")?;
        self.expect_symbol(")")?;
        Ok(Unwrap { label, conversion, filters: Vec::new() })
    }
}

// Label filters.
impl Parser<'_> {
    /// Loki's grammar gives a comma and mere juxtaposition no precedence, so what stands behind them, and behind any operator
    /// when one of them follows, is taken together first: `a, b or c` is `a, (b or c)`, and `a or b, c` is `a or (b, c)`.
    fn label_filter(&mut self, left: FilterLink) -> Parsed<LabelFilter> {
        let first = self.label_filter_operand()?;
        self.label_filter_from(first, left)
    }

    /// What stands behind `filter`, a chain of one kind of link without nesting.
    fn label_filter_from(&mut self, mut filter: LabelFilter, left: FilterLink) -> Parsed<LabelFilter> {
        while let Some((link, is_written)) = self.filter_link() {
            if left != FilterLink::Loose && link != FilterLink::Loose && link <= left {
                break;
            }
            if is_written {
                self.advance();
            }
            let next = self.label_filter_operand()?;
            let is_chain = link == FilterLink::Loose && self.filter_link().is_none_or(|(after, _)| after == link);
            let rhs = if is_chain { next } else { self.nested(|parser| parser.label_filter_from(next, link))? };
            filter = if link == FilterLink::Or { filter.or(rhs) } else { filter.and(rhs) };
        }
        Ok(filter)
    }

    /// What links the filter before with the one behind, and whether it is a token.
    fn filter_link(&self) -> Option<(FilterLink, bool)> {
        Some(match self.peek() {
            TokenKind::Keyword("or") => (FilterLink::Or, true),
            TokenKind::Keyword("and") => (FilterLink::And, true),
            TokenKind::Symbol(",") => (FilterLink::Loose, true),
            TokenKind::Symbol("(") | TokenKind::Word => (FilterLink::Loose, false),
            _ => return None,
        })
    }

    fn label_filter_operand(&mut self) -> Parsed<LabelFilter> {
        let start = self.span();
        if self.take_symbol("(") {
            let filter = self.nested(|parser| parser.label_filter(FilterLink::Loose))?;
            self.close(start)?;
            return Ok(filter);
        }
        let name = self.word("a label")?;
        let TokenKind::Symbol(symbol) = *self.peek() else { return Err(self.unknown_stage(&name, start)) };
        let (match_op, compare_op) = (MatchOp::from_name(symbol), CompareOp::from_name(symbol));
        if match_op.is_none() && compare_op.is_none() {
            return Err(self.unknown_stage(&name, start));
        }
        self.advance();
        if let Some(op) = match_op {
            match self.peek() {
                TokenKind::String(_) => return self.string_filter(start, name, op),
                TokenKind::Function("ip") if matches!(op, MatchOp::Equal | MatchOp::NotEqual) => {
                    let pattern = self.ip()?;
                    return Ok(LabelFilter::Ip { name, op, pattern, span: self.since(start) });
                }
                _ => {}
            }
        }
        match compare_op.or((match_op == Some(MatchOp::Equal)).then_some(CompareOp::Equal)) {
            Some(op) => self.number_filter(start, name, op, match_op.is_some()),
            None => Err(self.string().map_or_else(|diagnostic| diagnostic, |_| self.unexpected("a string"))),
        }
    }

    /// As in Loki, which reads it by Go's rules: no blank behind the sign, and no units above hours.
    fn negative_duration(&mut self) -> Parsed<i64> {
        let span = self.advance().span.to(self.advance().span);
        convert::duration(&self.text[span.range()]).map_err(|_| {
            let message = format!("`{}` is no negative duration", &self.text[span.range()]);
            let help = "write it without a blank, in units up to hours: `-1h30m`";
            Diagnostic::error(codes::TOKEN, span, message).help(help).into()
        })
    }

    fn string_filter(&mut self, start: Span, name: String, op: MatchOp) -> Parsed<LabelFilter> {
        let value = self.string()?;
        let matcher = LabelMatcher { name, op, span: self.since(start), value: value.text, value_span: value.span };
        Ok(LabelFilter::String(matcher))
    }

    fn number_filter(&mut self, start: Span, name: String, op: CompareOp, takes_string: bool) -> Parsed<LabelFilter> {
        if let Some(value) = self.signed_number() {
            return Ok(LabelFilter::Number(NumberFilter { name, op, value, span: self.since(start) }));
        }
        match *self.peek() {
            TokenKind::Duration(value) => {
                self.advance();
                let value = i64::try_from(value.as_nanos()).unwrap_or(i64::MAX);
                Ok(LabelFilter::Duration(NumberFilter { name, op, value, span: self.since(start) }))
            }
            TokenKind::Symbol("-") if matches!(self.peek_at(1), TokenKind::Duration(_)) => {
                let value = self.negative_duration()?;
                Ok(LabelFilter::Duration(NumberFilter { name, op, value, span: self.since(start) }))
            }
            TokenKind::Bytes(value) => {
                self.advance();
                Ok(LabelFilter::Bytes(NumberFilter { name, op, value, span: self.since(start) }))
            }
            _ if takes_string => Err(self.unexpected("a string, number, duration or size")),
            TokenKind::String(_) if op == CompareOp::Equal => {
                Err(self.unexpected("a number, duration or size").help("strings are compared by `=`").into())
            }
            TokenKind::String(_) => {
                Err(self.unexpected("a number, duration or size").help("write it without quotes").into())
            }
            _ => Err(self.unexpected("a number, duration or size")),
        }
    }
}
