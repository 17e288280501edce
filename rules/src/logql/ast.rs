//! The tree of a LogQL expression. Every node knows the bytes it was read from.

use std::sync::Arc;
use std::time::Duration;

/// Bytes `start..end` of the expression's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A whole expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Yields records.
    Log(LogExpr),
    /// Yields a vector or a scalar.
    Metric(MetricExpr),
}

/// A selector with the stages behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// `{...}`
    pub selector: Selector,
    /// Stages in the order they run.
    pub stages: Vec<Stage>,
    /// Of the whole.
    pub span: Span,
}

/// `{name="value", ...}`
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// All must hold.
    pub matchers: Vec<LabelMatcher>,
    /// With the braces.
    pub span: Span,
}

/// `name="value"` in a selector, or as a label filter.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMatcher {
    /// The label.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// A string, or a regular expression that must match the whole value.
    pub value: String,
    /// Of the whole.
    pub span: Span,
    /// Of the value with its quotes.
    pub value_span: Span,
}

/// `=`, `!=`, `=~`, `!~`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// With its `|`.
    pub span: Span,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq)]
pub enum StageKind {
    /// `|= "a" or "b"`: the record stays if one of the operands says so (for `!=` and `!~`: if none does).
    Line(LineFilter),
    /// `| json` or `| json a="b.c"`
    Json(Vec<LabelExtraction>),
    /// `| logfmt`, `--strict`, `--keep-empty`
    Logfmt {
        /// Malformed lines are errors.
        strict: bool,
        /// Keys without a value are kept, with an empty one.
        keep_empty: bool,
        /// Keys asked for; all where empty.
        labels: Vec<LabelExtraction>,
    },
    /// `| regexp "..."`
    Regexp(StringArg),
    /// `| pattern "..."`
    Pattern(StringArg),
    /// `| unpack`
    Unpack,
    /// `| decolorize`
    Decolorize,
    /// `| line_format "..."`
    LineFormat(StringArg),
    /// `| label_format a=b, c="..."`
    LabelFormat(Vec<LabelFormat>),
    /// `| level="error" and duration > 10s`
    Label(LabelFilter),
    /// `| drop a, b="c"`
    Drop(Vec<DropKeep>),
    /// `| keep a, b="c"`
    Keep(Vec<DropKeep>),
    /// `| unwrap duration(x)`, only inside a range aggregation.
    Unwrap(Unwrap),
}

/// A string argument and where it stands, quotes included.
#[derive(Clone, Debug, PartialEq)]
pub struct StringArg {
    /// Unquoted.
    pub text: String,
    /// With the quotes.
    pub span: Span,
}

/// `|= "a" or "b"`
#[derive(Clone, Debug, PartialEq)]
pub struct LineFilter {
    /// The operator before the first operand.
    pub op: LineOp,
    /// At least one.
    pub operands: Vec<LineOperand>,
}

/// `|=`, `!=`, `|~`, `!~`, `|>`, `!>`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

/// `"text"` or `ip("10.0.0.0/8")`
#[derive(Clone, Debug, PartialEq)]
pub struct LineOperand {
    /// Unquoted.
    pub text: String,
    /// Whether it stands in `ip(...)`.
    pub ip: bool,
    /// Of the whole.
    pub span: Span,
}

/// `name="expression"`, or `name` alone, which asks for the key `name`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelExtraction {
    /// Label to set.
    pub name: String,
    /// JSON path or logfmt key.
    pub expression: String,
    /// Of the whole.
    pub span: Span,
}

/// `dst=src` or `dst="template"`
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFormat {
    /// Label to set.
    pub name: String,
    /// What to set it to.
    pub value: LabelFormatValue,
    /// Of the whole.
    pub span: Span,
}

/// Right-hand side of a `label_format`.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFormatValue {
    /// The label of that name is renamed.
    Rename(String),
    /// A template.
    Template(StringArg),
}

/// `a` or `a="b"` in `drop` and `keep`.
#[derive(Clone, Debug, PartialEq)]
pub struct DropKeep {
    /// The label.
    pub name: String,
    /// Only where this holds.
    pub matcher: Option<LabelMatcher>,
    /// Of the whole.
    pub span: Span,
}

/// A label filter's condition.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    /// `name="text"`, `name=~"regex"`
    String(LabelMatcher),
    /// `name > 10`
    Number(NumberFilter<f64>),
    /// `name > 10s`, in nanoseconds
    Duration(NumberFilter<i64>),
    /// `name > 10MB`
    Bytes(NumberFilter<u64>),
    /// `name = ip("10.0.0.0/8")`
    Ip {
        /// The label.
        name: String,
        /// `=` or `!=`.
        op: MatchOp,
        /// An address, a range `a-b` or a CIDR block.
        pattern: String,
        /// Of the whole.
        span: Span,
    },
    /// `a and b and c`, `a, b, c` or `a b c`: two or more, none of which is such itself.
    And(Vec<LabelFilter>),
    /// `a or b or c`, likewise.
    Or(Vec<LabelFilter>),
}

/// `name > value`
#[derive(Clone, Debug, PartialEq)]
pub struct NumberFilter<T> {
    /// The label.
    pub name: String,
    /// How it is compared.
    pub op: CompareOp,
    /// With what.
    pub value: T,
    /// Of the whole.
    pub span: Span,
}

/// `==`, `!=`, `>`, `>=`, `<`, `<=`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` (in label filters also `=`)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

/// `| unwrap x`, `| unwrap duration(x)` and the label filters behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// The label whose value is the sample.
    pub label: String,
    /// `bytes`, `duration` or `duration_seconds`.
    pub conversion: Option<UnwrapConversion>,
    /// Filters behind it (`| __error__=""`).
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped text becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnwrapConversion {
    /// `bytes(x)`
    Bytes,
    /// `duration(x)`
    Duration,
    /// `duration_seconds(x)`
    DurationSeconds,
}

/// An expression that yields a vector or a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricExpr {
    /// What it is.
    pub kind: MetricKind,
    /// Of the whole.
    pub span: Span,
}

/// What a metric expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// `count_over_time({...} [5m] offset 1m) by (a)`
    Range(RangeAggregation),
    /// `sum by (a) (...)`
    Vector(VectorAggregation),
    /// `a + b`; shared by its copies, of which that of a long chain would need a deep stack.
    Binary(Arc<BinaryExpr>),
    /// `1.5`, also with a sign
    Number(f64),
    /// `vector(1)`
    VectorFn(f64),
    /// `label_replace(e, dst, replacement, src, regex)`
    LabelReplace {
        /// First argument.
        expr: Box<MetricExpr>,
        /// Label to set.
        dst: StringArg,
        /// With `$1` and so on.
        replacement: StringArg,
        /// Label to read.
        src: StringArg,
        /// Must match the whole of it.
        regex: StringArg,
    },
    /// `variants(a, b) of ({...} [5m])`
    Variants {
        /// The aggregations.
        variants: Vec<MetricExpr>,
        /// The log range they share.
        of: Box<LogRange>,
    },
}

/// `{...} | ... [5m] offset 1m`
#[derive(Clone, Debug, PartialEq)]
pub struct LogRange {
    /// Which records.
    pub log: LogExpr,
    /// The window's length.
    pub range: Duration,
    /// Of `[5m]`.
    pub range_span: Span,
    /// How far back the window ends, in nanoseconds; negative is into the future.
    pub offset: i64,
}

/// A function over a window of records.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAggregation {
    /// The function.
    pub op: RangeOp,
    /// First argument of `quantile_over_time`.
    pub parameter: Option<f64>,
    /// Over what.
    pub range: LogRange,
    /// `by (...)` or `without (...)`.
    pub grouping: Option<Grouping>,
    /// Of the function's name.
    pub op_span: Span,
}

/// Functions over a window of records.
#[allow(missing_docs)] // each is the LogQL function of its name in snake case
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeOp {
    CountOverTime,
    Rate,
    RateCounter,
    BytesOverTime,
    BytesRate,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
    AbsentOverTime,
}

/// A function over the elements of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorAggregation {
    /// The function.
    pub op: VectorOp,
    /// `k` of `topk`, `bottomk`, `approx_topk`.
    pub parameter: Option<f64>,
    /// Over what.
    pub expr: Box<MetricExpr>,
    /// `by (...)` or `without (...)`.
    pub grouping: Option<Grouping>,
    /// Of the function's name.
    pub op_span: Span,
}

/// Functions over the elements of a vector.
#[allow(missing_docs)] // each is the LogQL function of its name in snake case
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Sort,
    SortDesc,
    ApproxTopk,
}

/// `by (a, b)` or `without (a, b)`
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// Whether it is `without`.
    pub without: bool,
    /// The labels, as written.
    pub labels: Vec<String>,
    /// Of the whole.
    pub span: Span,
}

/// `lhs op rhs`
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// Left operand.
    pub lhs: MetricExpr,
    /// The operator.
    pub op: BinaryOp,
    /// Right operand.
    pub rhs: MetricExpr,
    /// `bool`: comparisons yield 0 or 1 instead of dropping elements.
    pub return_bool: bool,
    /// `on`, `ignoring`, `group_left`, `group_right`.
    pub matching: Option<VectorMatching>,
    /// Of the operator.
    pub op_span: Span,
}

/// Operators between metric expressions.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Compare(CompareOp),
    And,
    Or,
    Unless,
}

/// Which elements of two vectors belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// Whether it is `on` (else `ignoring`).
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// `group_left` or `group_right`.
    pub card: MatchCardinality,
    /// Labels that `group_left(...)` brings from the "one" side.
    pub include: Vec<String>,
    /// Of the whole.
    pub span: Span,
}

/// How many elements of each side belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchCardinality {
    /// One of the left, one of the right.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

impl Span {
    /// From the first of the two to the last.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The bytes as a range.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl From<Span> for std::ops::Range<usize> {
    fn from(span: Span) -> Self {
        span.range()
    }
}

macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),* $(,)?) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The one that is written so, in lower case.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|other| other.name() == name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names!(MatchOp: Equal = "=", NotEqual = "!=", Regex = "=~", NotRegex = "!~");
names!(LineOp: Contains = "|=", NotContains = "!=", Regex = "|~", NotRegex = "!~", Pattern = "|>", NotPattern = "!>");
names!(CompareOp: Equal = "==", NotEqual = "!=", Greater = ">", GreaterEqual = ">=", Less = "<", LessEqual = "<=");
names!(UnwrapConversion: Bytes = "bytes", Duration = "duration", DurationSeconds = "duration_seconds");
names!(RangeOp:
    CountOverTime = "count_over_time",
    Rate = "rate",
    RateCounter = "rate_counter",
    BytesOverTime = "bytes_over_time",
    BytesRate = "bytes_rate",
    SumOverTime = "sum_over_time",
    AvgOverTime = "avg_over_time",
    MinOverTime = "min_over_time",
    MaxOverTime = "max_over_time",
    StddevOverTime = "stddev_over_time",
    StdvarOverTime = "stdvar_over_time",
    QuantileOverTime = "quantile_over_time",
    FirstOverTime = "first_over_time",
    LastOverTime = "last_over_time",
    AbsentOverTime = "absent_over_time",
);
names!(VectorOp:
    Sum = "sum",
    Avg = "avg",
    Count = "count",
    Min = "min",
    Max = "max",
    Stddev = "stddev",
    Stdvar = "stdvar",
    Topk = "topk",
    Bottomk = "bottomk",
    Sort = "sort",
    SortDesc = "sort_desc",
    ApproxTopk = "approx_topk",
);

impl BinaryOp {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Compare(op) => op.name(),
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether it is `and`, `or` or `unless`.
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl std::fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl LabelFilter {
    /// From its first byte to its last, parentheses around it left out.
    pub fn span(&self) -> Span {
        match self {
            Self::String(matcher) => matcher.span,
            Self::Number(filter) => filter.span,
            Self::Duration(filter) => filter.span,
            Self::Bytes(filter) => filter.span,
            Self::Ip { span, .. } => *span,
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().map(Self::span).reduce(Span::to).expect("there are two at least")
            }
        }
    }

    /// Both of them, in one list with what they consist of.
    pub(crate) fn and(self, other: Self) -> Self {
        let parts = |filter| match filter {
            Self::And(parts) => parts,
            part => vec![part],
        };
        Self::And(appended(parts(self), parts(other)))
    }

    /// One of them, likewise.
    pub(crate) fn or(self, other: Self) -> Self {
        let parts = |filter| match filter {
            Self::Or(parts) => parts,
            part => vec![part],
        };
        Self::Or(appended(parts(self), parts(other)))
    }
}

fn appended<T>(mut parts: Vec<T>, mut more: Vec<T>) -> Vec<T> {
    parts.append(&mut more);
    parts
}

impl MetricExpr {
    /// Whether it yields one number rather than a vector.
    pub fn is_scalar(&self) -> bool {
        let mut expr = self;
        while let MetricKind::Binary(binary) = &expr.kind {
            if !binary.rhs.is_scalar() {
                return false;
            }
            expr = &binary.lhs;
        }
        matches!(expr.kind, MetricKind::Number(_))
    }

    /// The first operand of a chain like `a + b - c`, and its operators as they are read; of anything else that alone.
    pub(crate) fn chain(&self) -> (&Self, Vec<&BinaryExpr>) {
        let (mut first, mut operators) = (self, Vec::new());
        while let MetricKind::Binary(binary) = &first.kind {
            operators.push(&**binary);
            first = &binary.lhs;
        }
        operators.reverse();
        (first, operators)
    }
}

impl Expr {
    /// Of the whole.
    pub fn span(&self) -> Span {
        match self {
            Self::Log(log) => log.span,
            Self::Metric(metric) => metric.span,
        }
    }
}

impl StageKind {
    /// The word by which the stage is written; a filter's is what it is called.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Line(_) => "line filter",
            Self::Label(_) => "label filter",
            Self::Json(_) => "json",
            Self::Logfmt { .. } => "logfmt",
            Self::Regexp(_) => "regexp",
            Self::Pattern(_) => "pattern",
            Self::Unpack => "unpack",
            Self::Decolorize => "decolorize",
            Self::LineFormat(_) => "line_format",
            Self::LabelFormat(_) => "label_format",
            Self::Drop(_) => "drop",
            Self::Keep(_) => "keep",
            Self::Unwrap(_) => "unwrap",
        }
    }
}
