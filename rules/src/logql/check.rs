//! What the grammar allows and LogQL does not.

use std::fmt::Display;

use super::ast::*;
use super::regexp::{self, REGEX_PROGRAMS_BYTES_MAX};
use crate::diagnostic::{Code, Diagnostic, codes};
use crate::pipeline::ip::IpRange;
use crate::pipeline::pattern::{Part, parts};
use crate::pipeline::{json_paths, logfmt};
use crate::template::log::LogTemplate;

/// All that is wrong with a tree. `takes_any_stream` where a selector need not leave one out.
pub(crate) fn check(expr: &Expr, takes_any_stream: bool) -> Vec<Diagnostic> {
    let mut checker = Checker { takes_any_stream, ..Checker::default() };
    match expr {
        Expr::Log(log) => checker.log(log),
        Expr::Metric(metric) => checker.metric(metric),
    }
    checker.mistakes
}

#[derive(Default)]
struct Checker {
    mistakes: Vec<Diagnostic>,
    takes_any_stream: bool,
    /// Of all regular expressions so far.
    program_bytes: usize,
}

impl Checker {
    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.mistakes.push(Diagnostic::error(code, span, message));
    }

    fn error_with_help(&mut self, code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Diagnostic::error(code, span, message).help(help));
    }
}

// Metric expressions.
impl Checker {
    fn metric(&mut self, expr: &MetricExpr) {
        match &expr.kind {
            MetricKind::Range(range) => self.range(range),
            MetricKind::Vector(vector) => self.vector(vector),
            MetricKind::Binary(binary) => self.binary(binary),
            MetricKind::Number(_) | MetricKind::VectorFn(_) => {}
            MetricKind::LabelReplace { expr, regex, .. } => {
                self.regex(&regex.text, regex.span);
                self.element_wise(&"label_replace", expr);
            }
            MetricKind::Variants { variants, of } => {
                variants.iter().for_each(|variant| self.metric(variant));
                self.log(&of.log);
            }
        }
    }

    fn range(&mut self, range: &RangeAggregation) {
        let op = range.op;
        match (op, range.parameter) {
            (RangeOp::QuantileOverTime, None) => {
                let help = "write `quantile_over_time(0.99, {...} | unwrap x [5m])`";
                self.error_with_help(
                    codes::PARAMETER,
                    range.op_span,
                    format!("`{op}` needs a quantile before its range"),
                    help,
                );
            }
            (RangeOp::QuantileOverTime, _) | (_, None) => {}
            (_, Some(_)) => self.error(codes::PARAMETER, range.op_span, format!("`{op}` takes no parameter")),
        }
        if let Some(grouping) = range.grouping.as_ref().filter(|_| !takes_grouping(op)) {
            let help = format!("group in a vector aggregation: `sum by (...) ({op}(...))`");
            self.error_with_help(codes::GROUPING, grouping.span, format!("`{op}` cannot be grouped"), help);
        }
        self.unwrap(range);
        self.log(&range.range.log);
    }

    fn unwrap(&mut self, range: &RangeAggregation) {
        let op = range.op;
        let is_unwrap = |stage: &&Stage| matches!(stage.kind, StageKind::Unwrap(_));
        match range.range.log.stages.iter().find(is_unwrap) {
            Some(stage) if !takes_unwrapped(op) => {
                let message = format!("`{op}` counts lines or bytes and takes no `| unwrap`");
                self.error(codes::UNWRAP, stage.span, message);
            }
            None if !takes_lines(op) => {
                let help = format!("write `{op}({{...}} | unwrap label [5m])`");
                self.error_with_help(
                    codes::UNWRAP_MISSING,
                    range.op_span,
                    format!("`{op}` needs `| unwrap` in its range"),
                    help,
                );
            }
            _ => {}
        }
    }

    fn vector(&mut self, vector: &VectorAggregation) {
        let op = vector.op;
        let takes_parameter = matches!(op, VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk);
        match vector.parameter {
            None if takes_parameter => {
                let help = format!("write `{op}(10, ...)`");
                self.error_with_help(
                    codes::PARAMETER,
                    vector.op_span,
                    format!("`{op}` needs to be told how many"),
                    help,
                );
            }
            Some(k) if takes_parameter && (k < 1.0 || k.fract() != 0.0) => {
                self.error(codes::PARAMETER, vector.op_span, format!("`{op}` takes a whole number above 0, not `{k}`"));
            }
            Some(_) if !takes_parameter => {
                self.error(codes::PARAMETER, vector.op_span, format!("`{op}` takes no parameter"));
            }
            _ => {}
        }
        if let Some(grouping) = &vector.grouping {
            let is_sort = matches!(op, VectorOp::Sort | VectorOp::SortDesc) && !grouping.labels.is_empty();
            if op == VectorOp::ApproxTopk || is_sort {
                self.error(codes::GROUPING, grouping.span, format!("`{op}` cannot be grouped"));
            }
        }
        self.element_wise(&op, &vector.expr);
    }

    /// What works on a vector, and what it works on.
    fn element_wise(&mut self, op: &dyn Display, expr: &MetricExpr) {
        if expr.is_scalar() {
            let message = format!("`{op}` works on a vector, this is a number");
            let help = "write `vector(1)` for a vector of one element";
            self.error_with_help(codes::OPERAND, expr.span, message, help);
        }
        self.metric(expr);
    }

    fn binary(&mut self, binary: &BinaryExpr) {
        let op = binary.op;
        for operand in [&binary.lhs, &binary.rhs] {
            if op.is_set() && operand.is_scalar() {
                let message = format!("`{op}` works on vectors, this is a number");
                let help = "write `vector(1)` for a vector of one element";
                self.error_with_help(codes::SCALAR_SET, operand.span, message, help);
            }
        }
        self.metric(&binary.lhs);
        self.metric(&binary.rhs);
    }
}

// Log expressions.
impl Checker {
    fn log(&mut self, log: &LogExpr) {
        let count_before = self.mistakes.len();
        log.selector.matchers.iter().for_each(|matcher| self.matcher(matcher));
        let is_selective = self.takes_any_stream || log.selector.matchers.iter().any(|matcher| !matches_empty(matcher));
        if self.mistakes.len() == count_before && !is_selective {
            let message = "the selector needs a matcher that the empty value does not match";
            let help = "write `{service_name=~\".+\"}` to select every service";
            self.error_with_help(codes::MATCHER, log.selector.span, message, help);
        }
        log.stages.iter().for_each(|stage| self.stage(stage));
    }

    fn stage(&mut self, stage: &Stage) {
        match &stage.kind {
            StageKind::Line(filter) => filter.operands.iter().for_each(|operand| self.line_operand(filter.op, operand)),
            StageKind::Json(labels) => labels.iter().for_each(|label| self.json_path(label)),
            StageKind::Regexp(expression) => self.regexp_stage(expression),
            StageKind::Pattern(pattern) => self.pattern_stage(pattern),
            StageKind::LabelFormat(formats) => self.label_formats(formats),
            StageKind::Label(filter) => self.label_filter(filter),
            StageKind::Drop(items) | StageKind::Keep(items) => {
                items.iter().filter_map(|item| item.matcher.as_ref()).for_each(|matcher| self.matcher(matcher));
            }
            StageKind::Unwrap(unwrap) => unwrap.filters.iter().for_each(|filter| self.label_filter(filter)),
            StageKind::Logfmt { labels, .. } => labels.iter().for_each(|label| self.logfmt_key(label)),
            StageKind::LineFormat(template) => self.template(template),
            StageKind::Unpack | StageKind::Decolorize => {}
        }
    }

    fn line_operand(&mut self, op: LineOp, operand: &LineOperand) {
        match op {
            _ if operand.ip => {
                if !matches!(op, LineOp::Contains | LineOp::NotContains) {
                    let message = format!("`{op}` cannot be used with `ip(...)`");
                    self.error_with_help(codes::IP, operand.span, message, "write `|= ip(...)` or `!= ip(...)`");
                }
                self.ip(&operand.text, operand.span);
            }
            LineOp::Regex | LineOp::NotRegex => self.regex(&operand.text, operand.span),
            LineOp::Pattern | LineOp::NotPattern => self.line_pattern(operand),
            LineOp::Contains | LineOp::NotContains => {}
        }
    }

    fn label_filter(&mut self, filter: &LabelFilter) {
        match filter {
            LabelFilter::String(matcher) => self.matcher(matcher),
            LabelFilter::Ip { pattern, span, .. } => self.ip(pattern, *span),
            LabelFilter::And(parts) | LabelFilter::Or(parts) => parts.iter().for_each(|part| self.label_filter(part)),
            LabelFilter::Number(_) | LabelFilter::Duration(_) | LabelFilter::Bytes(_) => {}
        }
    }

    fn matcher(&mut self, matcher: &LabelMatcher) {
        if matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regex(&matcher.value, matcher.value_span);
        }
    }

    /// Compiles nothing: an expression is large before it is long. `span` is that of the string, quotes included. Behind what is too
    /// much nothing is looked at: of thousands it would take long.
    fn regex(&mut self, expression: &str, span: Span) {
        if self.program_bytes > REGEX_PROGRAMS_BYTES_MAX {
            return;
        }
        match regexp::estimate(expression) {
            Ok(bytes) => self.count_program(bytes, span),
            Err(error) => {
                let message = format!("the regular expression `{expression}` cannot be compiled: {error}");
                let place = match error {
                    regexp::Error::Syntax { place: Some(place), .. } => inside(span, expression, place),
                    _ => span,
                };
                self.error(codes::REGEX, place, message);
            }
        }
    }

    fn count_program(&mut self, bytes: usize, span: Span) {
        self.program_bytes += bytes;
        if self.program_bytes > REGEX_PROGRAMS_BYTES_MAX {
            let message = format!(
                "the programs of the regular expressions up to this one may need more than {REGEX_PROGRAMS_BYTES_MAX} \
                 bytes (`REGEX_PROGRAMS_BYTES_MAX`)"
            );
            self.error_with_help(codes::REGEX, span, message, "write plain text, or fewer regular expressions");
        }
    }

    fn regexp_stage(&mut self, expression: &StringArg) {
        self.regex(&expression.text, expression.span);
        if regexp::capture_names(&expression.text).is_some_and(|names| names.is_empty()) {
            let message = "`| regexp` needs a group with a name, which becomes a label";
            self.error_with_help(codes::REGEX, expression.span, message, "write `(?P<name>...)`");
        }
    }

    fn pattern_stage(&mut self, pattern: &StringArg) {
        let parts = parts(&pattern.text);
        let names: Vec<&str> = parts.iter().filter_map(Part::name).collect();
        let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
        if names.is_empty() {
            let message = "`| pattern` needs a capture with a name, which becomes a label";
            self.error_with_help(
                codes::PATTERN,
                pattern.span,
                message,
                "write `<name>`, and `<_>` for what is skipped",
            );
        } else if let Some((_, name)) = twice {
            self.error(codes::PATTERN, pattern.span, format!("the pattern captures `<{name}>` twice"));
        }
        self.consecutive_captures(&parts, pattern.span);
    }

    fn line_pattern(&mut self, operand: &LineOperand) {
        let parts = parts(&operand.text);
        if let Some(name) = parts.iter().find_map(Part::name) {
            let message = format!("a line filter's pattern has no named captures, this has `<{name}>`");
            self.error_with_help(codes::PATTERN, operand.span, message, "write `<_>`");
        }
        self.consecutive_captures(&parts, operand.span);
    }

    fn consecutive_captures(&mut self, parts: &[Part<'_>], span: Span) {
        let is_pair = |pair: &[Part<'_>]| matches!(pair, [Part::Capture(_), Part::Capture(_)]);
        if parts.windows(2).any(is_pair) {
            let message = "the pattern has two captures with nothing between them";
            self.error_with_help(codes::PATTERN, span, message, "write one of them, or the text that divides them");
        }
    }

    fn json_path(&mut self, label: &LabelExtraction) {
        if json_paths::parse_path(&label.expression).is_none() {
            let message = format!("`{}` is no path into JSON", label.expression);
            self.error_with_help(codes::PATTERN, label.span, message, "write `a.b[0][\"c d\"]`, say");
        }
    }

    fn logfmt_key(&mut self, label: &LabelExtraction) {
        if !logfmt::is_key(&label.expression) {
            let message = format!("`{}` is no key", label.expression);
            let help =
                "write the key with each character that is no letter, digit or `_` as `_`: `user_id` for `user.id`";
            self.error_with_help(codes::PATTERN, label.span, message, help);
        }
    }

    fn template(&mut self, template: &StringArg) {
        let Err(error) = LogTemplate::parse(&template.text) else { return };
        let (start, end) = (error.span.start as usize, error.span.end.max(error.span.start + 1) as usize);
        let span = inside(template.span, &template.text, start..end);
        self.error(codes::TEMPLATE, span, format!("the template cannot be read: {}", error.message));
    }

    fn label_formats(&mut self, formats: &[LabelFormat]) {
        for (i, format) in formats.iter().enumerate() {
            if format.name == "__error__" {
                self.error(codes::LABEL_NAME, format.span, "`__error__` cannot be formatted");
            }
            if let LabelFormatValue::Template(template) = &format.value {
                self.template(template);
            }
            if formats[..i].iter().any(|other| other.name == format.name) {
                let message = format!("`{}` is set twice in one `label_format`", format.name);
                self.error_with_help(codes::DUPLICATE, format.span, message, "write a second `| label_format`");
            }
        }
    }

    fn ip(&mut self, pattern: &str, span: Span) {
        if IpRange::parse(pattern).is_none() {
            let message = format!("`{pattern}` is no address, range of addresses or CIDR block");
            let help = "write `10.0.0.1`, `10.0.0.1-10.0.0.9` or `10.0.0.0/8`";
            self.error_with_help(codes::IP, span, message, help);
        }
    }
}

/// A place within a string, told where the string has no escapes, so that its bytes are those of the expression.
fn inside(string: Span, text: &str, place: std::ops::Range<usize>) -> Span {
    if text.len() + 2 != string.range().len() {
        return string;
    }
    let start = string.start + 1;
    Span { start: start + place.start as u32, end: start + place.end as u32 }
}

/// Whether a record without the label passes.
pub(crate) fn matches_empty(matcher: &LabelMatcher) -> bool {
    let regex_matches_empty = || regexp::compile_anchored(&matcher.value).is_ok_and(|regex| regex.is_match(""));
    match matcher.op {
        MatchOp::Equal => matcher.value.is_empty(),
        MatchOp::NotEqual => !matcher.value.is_empty(),
        MatchOp::Regex => regex_matches_empty(),
        MatchOp::NotRegex => !regex_matches_empty(),
    }
}

/// Functions over numbers that Loki groups by themselves.
pub(crate) const fn takes_grouping(op: RangeOp) -> bool {
    use RangeOp::*;
    matches!(
        op,
        AvgOverTime
            | MinOverTime
            | MaxOverTime
            | StddevOverTime
            | StdvarOverTime
            | QuantileOverTime
            | FirstOverTime
            | LastOverTime
    )
}

const fn takes_unwrapped(op: RangeOp) -> bool {
    !matches!(op, RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate)
}

const fn takes_lines(op: RangeOp) -> bool {
    use RangeOp::*;
    matches!(op, CountOverTime | Rate | BytesOverTime | BytesRate | AbsentOverTime)
}
