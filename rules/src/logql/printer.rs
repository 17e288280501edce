//! Tree to text.
//!
//! `{}` writes an expression as a person would, with the parentheses it needs; `{:#}` writes all of them. What is written
//! parses to the same tree.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::ast::*;
use super::parser::tightness;
use crate::time::format_duration;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MetricKind::Range(range) => range.fmt(f),
            MetricKind::Vector(vector) => vector.fmt(f),
            MetricKind::Binary(binary) => binary.fmt(f),
            MetricKind::Number(number) => write_number(f, *number),
            MetricKind::VectorFn(number) => {
                f.write_str("vector(")?;
                write_number(f, *number)?;
                f.write_str(")")
            }
            MetricKind::LabelReplace { expr, dst, replacement, src, regex } => {
                f.write_str("label_replace(")?;
                expr.fmt(f)?;
                write!(f, ", {dst}, {replacement}, {src}, {regex})")
            }
            MetricKind::Variants { variants, of } => {
                f.write_str("variants(")?;
                write_list(f, variants)?;
                f.write_str(") of (")?;
                of.fmt(f)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op)?;
        write_parameter(f, self.parameter)?;
        self.range.fmt(f)?;
        f.write_str(")")?;
        self.grouping.as_ref().map_or(Ok(()), |grouping| write!(f, " {grouping}"))
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        write!(f, " [{}]", format_duration(self.range))?;
        let offset = format_duration(Duration::from_nanos(self.offset.unsigned_abs()));
        match self.offset {
            0 => Ok(()),
            ..0 => write!(f, " offset -{offset}"),
            _ => write!(f, " offset {offset}"),
        }
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)?;
        if let Some(grouping) = &self.grouping {
            write!(f, " {grouping} ")?;
        }
        f.write_str("(")?;
        write_parameter(f, self.parameter)?;
        self.expr.fmt(f)?;
        f.write_str(")")
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.without { "without" } else { "by" }, self.labels.join(", "))
    }
}

impl Display for BinaryExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (own, is_pow) = (tightness(self.op), self.op == BinaryOp::Pow);
        write_operand(f, &self.lhs, if is_pow { own + 1 } else { own })?;
        write!(f, " {} ", self.op)?;
        if self.return_bool {
            f.write_str("bool ")?;
        }
        if let Some(matching) = &self.matching {
            write!(f, "{matching} ")?;
        }
        write_operand(f, &self.rhs, if is_pow { own } else { own + 1 })
    }
}

/// An operand, in parentheses where its operator binds less tightly than `tightness_min`.
fn write_operand(f: &mut Formatter<'_>, operand: &MetricExpr, tightness_min: u8) -> fmt::Result {
    match &operand.kind {
        MetricKind::Binary(binary) if f.alternate() || tightness(binary.op) < tightness_min => {
            f.write_str("(")?;
            binary.fmt(f)?;
            f.write_str(")")
        }
        _ => operand.fmt(f),
    }
}

/// `group_left` always has its parentheses: those of the operand behind would be taken for them.
impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.on { "on" } else { "ignoring" }, self.labels.join(", "))?;
        match self.card {
            MatchCardinality::OneToOne => Ok(()),
            MatchCardinality::ManyToOne => write!(f, " group_left ({})", self.include.join(", ")),
            MatchCardinality::OneToMany => write!(f, " group_right ({})", self.include.join(", ")),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.selector.fmt(f)?;
        self.stages.iter().try_for_each(|stage| {
            f.write_str(" ")?;
            stage.kind.fmt(f)
        })
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        write_list(f, &self.matchers)?;
        f.write_str("}")
    }
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.op)?;
        write_string(f, &self.value)
    }
}

impl Display for StageKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(filter) => filter.fmt(f),
            Self::Label(filter) => {
                f.write_str("| ")?;
                filter.fmt(f)
            }
            Self::Json(labels) => write_stage(f, "json", labels),
            Self::Logfmt { strict, keep_empty, labels } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                f.write_str(if labels.is_empty() { "" } else { " " })?;
                write_list(f, labels)
            }
            Self::Regexp(text) | Self::Pattern(text) | Self::LineFormat(text) => write!(f, "| {} {text}", self.name()),
            Self::Unpack | Self::Decolorize => write!(f, "| {}", self.name()),
            Self::LabelFormat(formats) => write_stage(f, "label_format", formats),
            Self::Drop(items) => write_stage(f, "drop", items),
            Self::Keep(items) => write_stage(f, "keep", items),
            Self::Unwrap(unwrap) => unwrap.fmt(f),
        }
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op)?;
        for (i, operand) in self.operands.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " or " })?;
            f.write_str(if operand.ip { "ip(" } else { "" })?;
            write_string(f, &operand.text)?;
            f.write_str(if operand.ip { ")" } else { "" })?;
        }
        Ok(())
    }
}

/// Below zero, in units up to hours: others Loki does not read behind a sign.
fn signed_duration(nanos: i64) -> String {
    const HOUR: u64 = 3_600_000_000_000;
    let size = nanos.unsigned_abs();
    let rest = format_duration(Duration::from_nanos(size % HOUR));
    match (nanos < 0, size / HOUR) {
        (false, _) => format_duration(Duration::from_nanos(size)),
        (true, 0) => format!("-{rest}"),
        (true, hours) if size.is_multiple_of(HOUR) => format!("-{hours}h"),
        (true, hours) => format!("-{hours}h{rest}"),
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(matcher) => matcher.fmt(f),
            Self::Number(filter) => {
                write!(f, "{} {} ", filter.name, filter.op)?;
                write_number(f, filter.value)
            }
            Self::Duration(filter) => write!(f, "{} {} {}", filter.name, filter.op, signed_duration(filter.value)),
            Self::Bytes(filter) => write!(f, "{} {} {}", filter.name, filter.op, format_bytes(filter.value)),
            Self::Ip { name, op, pattern, .. } => {
                write!(f, "{name} {op} ip(")?;
                write_string(f, pattern)?;
                f.write_str(")")
            }
            Self::And(parts) => write_filters(f, parts, " and "),
            Self::Or(parts) => write_filters(f, parts, " or "),
        }
    }
}

fn write_filters(f: &mut Formatter<'_>, parts: &[LabelFilter], word: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { word })?;
        let needs_parentheses = match part {
            LabelFilter::Or(_) => true,
            LabelFilter::And(_) => f.alternate(),
            _ => false,
        };
        f.write_str(if needs_parentheses { "(" } else { "" })?;
        part.fmt(f)?;
        f.write_str(if needs_parentheses { ")" } else { "" })?;
    }
    Ok(())
}

impl Display for LabelExtraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.expression == self.name {
            return Ok(());
        }
        f.write_str("=")?;
        write_string(f, &self.expression)
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            LabelFormatValue::Rename(from) => write!(f, "{}={from}", self.name),
            LabelFormatValue::Template(template) => write!(f, "{}={template}", self.name),
        }
    }
}

impl Display for DropKeep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.matcher {
            Some(matcher) => matcher.fmt(f),
            None => f.write_str(&self.name),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.conversion {
            Some(conversion) => write!(f, "| unwrap {conversion}({})", self.label)?,
            None => write!(f, "| unwrap {}", self.label)?,
        }
        self.filters.iter().try_for_each(|filter| {
            f.write_str(" | ")?;
            filter.fmt(f)
        })
    }
}

impl Display for StringArg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_string(f, &self.text)
    }
}

/// `| name a, b`
fn write_stage<T: Display>(f: &mut Formatter<'_>, name: &str, items: &[T]) -> fmt::Result {
    write!(f, "| {name}{}", if items.is_empty() { "" } else { " " })?;
    write_list(f, items)
}

fn write_list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(i, item)| {
        f.write_str(if i == 0 { "" } else { ", " })?;
        item.fmt(f)
    })
}

fn write_parameter(f: &mut Formatter<'_>, parameter: Option<f64>) -> fmt::Result {
    let Some(parameter) = parameter else { return Ok(()) };
    write_number(f, parameter)?;
    f.write_str(", ")
}

fn write_number(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e15).contains(&size) { write!(f, "{number}") } else { write!(f, "{number:e}") }
}

/// The text as a string of LogQL.
pub(crate) fn quoted(text: &str) -> String {
    struct Quoted<'a>(&'a str);
    impl Display for Quoted<'_> {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            write_string(f, self.0)
        }
    }
    Quoted(text).to_string()
}

/// In double quotes; in backticks where that saves escapes.
fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let needs_escapes = text.contains(['\\', '"']);
    if needs_escapes && !text.contains(|c: char| c == '`' || c.is_control()) {
        return write!(f, "`{text}`");
    }
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// In the largest unit that leaves no fraction.
fn format_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 10] = [
        ("PiB", 1 << 50),
        ("PB", 1_000_000_000_000_000),
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
    ];
    match UNITS.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::parser::parse;
    use super::*;

    proptest! {
        /// Whatever is written is read again as the same tree, with few parentheses and with all.
        #[test]
        fn what_is_printed_parses_to_the_same_tree(expr in expr()) {
            for text in [expr.to_string(), format!("{expr:#}")] {
                let parsed = parse(&text).map_err(|mistake| TestCaseError::fail(mistake.render(&text)))?;
                prop_assert_eq!(without_spans(&parsed), without_spans(&expr), "{}", text);
            }
        }

        /// Nothing that is written down makes the parser panic, and its spans stay in the text.
        #[test]
        fn any_text_is_read_or_refused(words in vec(select(WORDS), 0..30)) {
            let text = words.join(" ");
            match parse(&text) {
                Ok(expr) => prop_assert!(expr.span().end as usize <= text.len()),
                Err(mistake) => prop_assert!(mistake.span.end <= text.len()),
            }
        }
    }

    const WORDS: &[&str] = &[
        "{a=\"b\"}",
        "{",
        "}",
        "(",
        ")",
        "[5m]",
        "[",
        "rate(",
        "sum",
        "by (x)",
        "|",
        "|=",
        "\"x\"",
        "json",
        "x",
        ">",
        "5",
        "1h",
        "5KB",
        "or",
        "and",
        "-",
        "^",
        ",",
        "unwrap",
        "offset",
        "topk(5,",
        "ip(\"1.1.1.1\")",
        "drop",
        "bool",
        "on(a)",
        "#",
        "`",
    ];

    fn without_spans(expr: &Expr) -> String {
        let span = regex::Regex::new(r"Span \{ start: \d+, end: \d+ \}").unwrap();
        span.replace_all(&format!("{expr:?}"), "_").into_owned()
    }

    fn expr() -> impl Strategy<Value = Expr> {
        prop_oneof![1 => log(false).prop_map(Expr::Log), 4 => metric().prop_map(Expr::Metric)]
    }

    fn metric() -> impl Strategy<Value = MetricExpr> {
        let leaf = prop_oneof![
            4 => range().prop_map(MetricKind::Range),
            1 => number().prop_map(MetricKind::Number),
            1 => (0.0..1e9).prop_map(MetricKind::VectorFn),
        ];
        leaf.prop_map(node).prop_recursive(5, 20, 3, |inner| {
            let vector = (select(VectorOp::ALL), option::of(0.0..100.0), inner.clone(), option::of(grouping()));
            let replace = (inner.clone(), string(), string(), string(), string());
            prop_oneof![
                vector.prop_map(|(op, parameter, expr, grouping)| {
                    let expr = Box::new(expr);
                    MetricKind::Vector(VectorAggregation { op, parameter, expr, grouping, op_span: Span::default() })
                }),
                binary(inner.clone()).prop_map(|binary| MetricKind::Binary(Arc::new(binary))),
                binary(inner.clone()).prop_map(|binary| MetricKind::Binary(Arc::new(binary))),
                replace.prop_map(|(expr, dst, replacement, src, regex)| {
                    MetricKind::LabelReplace { expr: Box::new(expr), dst, replacement, src, regex }
                }),
                (vec(inner, 1..3), log_range())
                    .prop_map(|(variants, of)| MetricKind::Variants { variants, of: Box::new(of) }),
            ]
            .prop_map(node)
        })
    }

    fn node(kind: MetricKind) -> MetricExpr {
        MetricExpr { kind, span: Span::default() }
    }

    fn binary(inner: impl Strategy<Value = MetricExpr> + Clone) -> impl Strategy<Value = BinaryExpr> {
        use BinaryOp::*;
        let comparisons = CompareOp::ALL.iter().map(|op| Compare(*op));
        let ops: Vec<BinaryOp> =
            [Add, Sub, Mul, Div, Mod, Pow, And, Or, Unless].into_iter().chain(comparisons).collect();
        let card = select(&[MatchCardinality::OneToOne, MatchCardinality::ManyToOne, MatchCardinality::OneToMany][..]);
        let matching =
            (any::<bool>(), vec(name(), 0..3), card, vec(name(), 0..3)).prop_map(|(on, labels, card, include)| {
                let include = if card == MatchCardinality::OneToOne { Vec::new() } else { include };
                VectorMatching { on, labels, card, include, span: Span::default() }
            });
        (inner.clone(), select(ops), inner, any::<bool>(), option::of(matching)).prop_map(
            |(lhs, op, rhs, return_bool, matching)| BinaryExpr {
                lhs,
                op,
                rhs,
                return_bool,
                matching,
                op_span: Span::default(),
            },
        )
    }

    fn range() -> impl Strategy<Value = RangeAggregation> {
        (select(RangeOp::ALL), option::of(0.0..1.0), log_range(), option::of(grouping())).prop_map(
            |(op, parameter, range, grouping)| RangeAggregation {
                op,
                parameter,
                range,
                grouping,
                op_span: Span::default(),
            },
        )
    }

    fn log_range() -> impl Strategy<Value = LogRange> {
        let offset = prop_oneof![Just(0), -1_000_000_000_000..1_000_000_000_000_i64];
        (log(true), duration(), offset).prop_map(|(log, range, offset)| LogRange {
            log,
            range: range.max(Duration::from_nanos(1)),
            range_span: Span::default(),
            offset,
        })
    }

    fn log(unwrap_allowed: bool) -> impl Strategy<Value = LogExpr> {
        let matchers = vec(matcher(), 0..3).prop_map(|matchers| Selector { matchers, span: Span::default() });
        let unwrap = (name(), option::of(select(UnwrapConversion::ALL)), vec(label_filter(), 0..2))
            .prop_map(|(label, conversion, filters)| StageKind::Unwrap(Unwrap { label, conversion, filters }));
        (matchers, vec(stage(), 0..4), option::of(unwrap)).prop_map(move |(selector, mut stages, unwrap)| {
            stages.dedup_by(|later, earlier| joins_in_text(earlier, later));
            stages.extend(unwrap.filter(|_| unwrap_allowed));
            let stages = stages.into_iter().map(|kind| Stage { kind, span: Span::default() }).collect();
            LogExpr { selector, stages, span: Span::default() }
        })
    }

    /// `| drop a` and `!= "b"` are read as `| drop a!="b"`, by Loki too.
    fn joins_in_text(earlier: &StageKind, later: &StageKind) -> bool {
        let (StageKind::Drop(items) | StageKind::Keep(items)) = earlier else { return false };
        let StageKind::Line(filter) = later else { return false };
        let is_also_match_op = matches!(filter.op, LineOp::NotContains | LineOp::NotRegex);
        is_also_match_op && items.last().is_some_and(|item| item.matcher.is_none())
    }

    fn stage() -> impl Strategy<Value = StageKind> {
        let operand = (text(), any::<bool>()).prop_map(|(text, ip)| LineOperand { text, ip, span: Span::default() });
        let line = (select(LineOp::ALL), vec(operand, 1..4));
        let format_value =
            prop_oneof![name().prop_map(LabelFormatValue::Rename), string().prop_map(LabelFormatValue::Template)];
        let format =
            (name(), format_value).prop_map(|(name, value)| LabelFormat { name, value, span: Span::default() });
        prop_oneof![
            line.prop_map(|(op, operands)| StageKind::Line(LineFilter { op, operands })),
            extractions().prop_map(StageKind::Json),
            (any::<bool>(), any::<bool>(), extractions()).prop_map(|(strict, keep_empty, labels)| StageKind::Logfmt {
                strict,
                keep_empty,
                labels
            }),
            string().prop_map(StageKind::Regexp),
            string().prop_map(StageKind::Pattern),
            string().prop_map(StageKind::LineFormat),
            Just(StageKind::Unpack),
            Just(StageKind::Decolorize),
            vec(format, 1..3).prop_map(StageKind::LabelFormat),
            label_filter().prop_map(StageKind::Label),
            vec(drop_keep(), 1..3).prop_map(StageKind::Drop),
            vec(drop_keep(), 1..3).prop_map(StageKind::Keep),
        ]
    }

    fn extractions() -> impl Strategy<Value = Vec<LabelExtraction>> {
        let extraction =
            (name(), text()).prop_map(|(name, expression)| LabelExtraction { name, expression, span: Span::default() });
        vec(extraction, 0..3)
    }

    fn drop_keep() -> impl Strategy<Value = DropKeep> {
        prop_oneof![
            name().prop_map(|name| DropKeep { name, matcher: None, span: Span::default() }),
            matcher().prop_map(|matcher| DropKeep {
                name: matcher.name.clone(),
                matcher: Some(matcher),
                span: Span::default()
            }),
        ]
    }

    fn label_filter() -> impl Strategy<Value = LabelFilter> {
        let ip_op = select(&[MatchOp::Equal, MatchOp::NotEqual][..]);
        let leaf = prop_oneof![
            matcher().prop_map(LabelFilter::String),
            filter_on(number()).prop_map(LabelFilter::Number),
            filter_on(any::<i64>()).prop_map(LabelFilter::Duration),
            filter_on(0..1_u64 << 52).prop_map(LabelFilter::Bytes),
            filter_on((1..1_000_u64).prop_map(|n| n << 20)).prop_map(LabelFilter::Bytes),
            (name(), ip_op, text()).prop_map(|(name, op, pattern)| LabelFilter::Ip {
                name,
                op,
                pattern,
                span: Span::default()
            }),
        ];
        leaf.prop_recursive(4, 10, 2, |inner| {
            (inner.clone(), inner, any::<bool>()).prop_map(|(a, b, and)| if and { a.and(b) } else { a.or(b) })
        })
    }

    fn filter_on<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = NumberFilter<T>> {
        (name(), select(CompareOp::ALL), value).prop_map(|(name, op, value)| NumberFilter {
            name,
            op,
            value,
            span: Span::default(),
        })
    }

    fn matcher() -> impl Strategy<Value = LabelMatcher> {
        (name(), select(MatchOp::ALL), text()).prop_map(|(name, op, value)| LabelMatcher {
            name,
            op,
            value,
            span: Span::default(),
            value_span: Span::default(),
        })
    }

    fn grouping() -> impl Strategy<Value = Grouping> {
        (any::<bool>(), vec(name(), 0..3)).prop_map(|(without, labels)| Grouping {
            without,
            labels,
            span: Span::default(),
        })
    }

    fn name() -> impl Strategy<Value = String> {
        select(&["a", "service_name", "rate", "ip", "sum", "of", "duration", "_x1", "Größe"][..])
            .prop_map(str::to_owned)
    }

    fn string() -> impl Strategy<Value = StringArg> {
        text().prop_map(|text| StringArg { text, span: Span::default() })
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z \\\\\"`\n\t\r\u{1}\u{85}ä€😀{}<>]{0,8}", Just("a\\d+\"x\"".to_owned())]
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![(-1000..1000).prop_map(f64::from), -1e300..1e300, -1.0..1.0, Just(1e-9)]
    }

    fn duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..1_000_000_u64).prop_map(Duration::from_secs),
            (0..i64::MAX as u64).prop_map(Duration::from_nanos)
        ]
    }
}
