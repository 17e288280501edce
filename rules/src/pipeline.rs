//! The stages behind a selector: which records stay, and what they extract.
//!
//! Stages do what Loki's do, its oddities included. A stage that cannot do its work drops nothing: it sets the label `__error__`. In
//! Loki a metric query over such a record fails as a whole; here the record is not counted and the rule's error counter goes up, so
//! that one odd line silences no alert. Where the error of a parser is itself asked for, by a filter or a grouping, the record counts.
//!
//! What a parser extracts depends on who reads it. In `sum by (a) (count_over_time(... | json [5m]))` it is the label `a` and what the
//! stages read: the parser stops where it has it all, and what is malformed behind that is no error. In `sum(...)` a parser whose labels
//! no stage reads does not run.

pub mod convert;
pub mod decolorize;
pub mod drop_keep;
pub mod extracted;
pub mod format;
pub mod ip;
pub mod json;
pub mod json_paths;
pub mod label_filter;
pub mod line_filter;
pub mod logfmt;
pub mod pattern;
pub mod regex_label;
pub mod regexp;
pub mod text_matcher;
pub mod unpack;
pub mod unwrap;

use std::sync::Arc;

use crate::entry::LogEntry;
use crate::logql::ast::{self, Span, StageKind};
use drop_keep::DropKeep;
use extracted::Sink;
use format::{LabelFormat, LineFormat};
use json_paths::JsonPaths;
use label_filter::LabelFilter;
use line_filter::LineFilter;
use logfmt::LogfmtStage;
use pattern::PatternStage;
use regexp::RegexpStage;
use unwrap::Unwrap;

pub use extracted::{Extracted, Record};

/// Compiled stages.
#[derive(Debug)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Where each of them stands in the expression.
    places: Vec<Span>,
    /// Bit `n` tells whether a record of severity number `n` can pass.
    severity_mask: u32,
    /// The labels that parsers extract; all where it is `None`.
    required: Option<Vec<String>>,
    /// Whether records are grouped by labels, which keeps parsers from asking filters.
    is_grouped: bool,
    /// Filters that a parser asks as soon as it has set the label; `None` lets all pass.
    early: Vec<(String, Option<Arc<LabelFilter>>)>,
    /// Whether a record on which a parser fails counts.
    keeps_parser_errors: bool,
}

#[derive(Debug)]
enum Stage {
    Line(LineFilter),
    Label(Arc<LabelFilter>),
    /// A filter on the severity alone, which [`Pipeline::admits_severity`] answers too.
    Severity(Arc<LabelFilter>),
    Json,
    JsonPaths(JsonPaths),
    Logfmt(LogfmtStage),
    Regexp(RegexpStage),
    Pattern(PatternStage),
    Unpack,
    Decolorize,
    LineFormat(LineFormat),
    LabelFormat(LabelFormat),
    Drop(DropKeep),
    Keep(DropKeep),
    Unwrap(Unwrap),
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A stage dropped it.
    Dropped,
    /// It stays.
    Kept,
    /// It stays, with an `__error__` that nobody asks for: it is not to be counted.
    Failed,
}

/// A stage that is not evaluated, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where.
    pub span: Span,
    /// What is wrong with it, in the user's words.
    pub message: String,
}

impl Unsupported {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

impl Pipeline {
    /// Compiles stages; parsers extract what the stages read and `wanted`, or all labels where `wanted` is `None`.
    pub fn compile(stages: &[ast::Stage], wanted: Option<&[String]>) -> Result<Self, Unsupported> {
        Self::compile_ordered(&in_order(stages), wanted)
    }

    /// The same for who does not look at the line in the end, as a range aggregation that counts no bytes: as in Loki, a `line_format`
    /// whose line no stage reads does not run.
    pub fn compile_without_line(stages: &[ast::Stage], wanted: Option<&[String]>) -> Result<Self, Unsupported> {
        Self::compile_ordered(&in_order(&Self::without_idle(stages)), wanted)
    }

    /// The stages without the `line_format`s behind which no stage reads the line.
    pub(crate) fn without_idle(stages: &[ast::Stage]) -> Vec<ast::Stage> {
        let reads_line = |stage: &ast::Stage| is_parser(&stage.kind) || matches!(stage.kind, StageKind::Line(_));
        let last_reader = stages.iter().rposition(reads_line).unwrap_or(0);
        let is_idle = |at: usize| at >= last_reader && matches!(stages[at].kind, StageKind::LineFormat(_));
        stages.iter().enumerate().filter(|(at, _)| !is_idle(*at)).map(|(_, stage)| stage.clone()).collect()
    }

    /// The first stages of a pipeline, that run as they do in it.
    pub(crate) fn compile_part(stages: &[ast::Stage], whole: &Self) -> Result<Self, Unsupported> {
        let mut part = Self::compile(stages, whole.required.as_deref())?;
        part.early = if whole.is_grouped { Vec::new() } else { part.early_filters() };
        Ok(part)
    }

    fn compile_ordered(ordered: &[&ast::Stage], wanted: Option<&[String]>) -> Result<Self, Unsupported> {
        let mut pipeline = Self {
            stages: Vec::new(),
            places: Vec::new(),
            severity_mask: u32::MAX,
            required: None,
            is_grouped: false,
            early: Vec::new(),
            keeps_parser_errors: false,
        };
        for (at, stage) in ordered.iter().enumerate() {
            pipeline.places.push(stage.span);
            let stage = pipeline.stage(stage, &ordered[..at])?;
            pipeline.stages.push(stage);
        }
        if let Some(wanted) = wanted {
            let mut required = pipeline.names_read();
            required.extend(wanted.iter().cloned());
            pipeline.required = Some(with_originals(required));
        }
        pipeline.is_grouped = wanted.is_some_and(|wanted| !wanted.is_empty());
        if !pipeline.is_grouped && ordered.iter().any(|stage| is_parser(&stage.kind)) {
            pipeline.early = pipeline.early_filters();
        }
        pipeline.keeps_parser_errors = pipeline.required.iter().flatten().any(|name| name == ERROR_LABEL);
        Ok(pipeline)
    }

    fn stage(&mut self, stage: &ast::Stage, before: &[&ast::Stage]) -> Result<Stage, Unsupported> {
        Ok(match &stage.kind {
            StageKind::Line(filter) => Stage::Line(LineFilter::compile(filter)?),
            StageKind::Label(filter) => self.label_filter(filter, before)?,
            StageKind::Json(labels) if labels.is_empty() => Stage::Json,
            StageKind::Json(labels) => Stage::JsonPaths(JsonPaths::compile(labels)?),
            StageKind::Logfmt { strict, keep_empty, labels } => {
                Stage::Logfmt(LogfmtStage::new(*strict, *keep_empty, labels))
            }
            StageKind::Regexp(expression) => Stage::Regexp(RegexpStage::compile(expression)?),
            StageKind::Pattern(pattern) => Stage::Pattern(PatternStage::compile(pattern)?),
            StageKind::Unpack => Stage::Unpack,
            StageKind::Decolorize => Stage::Decolorize,
            StageKind::LineFormat(template) => Stage::LineFormat(LineFormat::compile(template)?),
            StageKind::LabelFormat(formats) => Stage::LabelFormat(LabelFormat::compile(formats)?),
            StageKind::Drop(items) => Stage::Drop(DropKeep::compile(items)?),
            StageKind::Keep(items) => Stage::Keep(DropKeep::compile(items)?),
            StageKind::Unwrap(unwrap) => Stage::Unwrap(Unwrap::compile(unwrap)?),
        })
    }

    /// A filter on the severity is told beforehand as far as no stage before it changes labels. A parser cannot change a severity that
    /// the record has, but it can give one to a record without.
    fn label_filter(&mut self, filter: &ast::LabelFilter, before: &[&ast::Stage]) -> Result<Stage, Unsupported> {
        let compiled = Arc::new(LabelFilter::compile(filter)?);
        let Some(mask) = label_filter::severity_mask(filter) else { return Ok(Stage::Label(compiled)) };
        if before.iter().any(|stage| changes_labels(&stage.kind)) {
            return Ok(Stage::Label(compiled));
        }
        if before.iter().any(|stage| is_parser(&stage.kind)) {
            self.severity_mask &= mask | 1;
            return Ok(Stage::Label(compiled));
        }
        self.severity_mask &= mask;
        Ok(Stage::Severity(compiled))
    }

    /// The labels that stages read, as Loki lists them: those that `drop` and `keep` look at are not among them.
    fn names_read(&self) -> Vec<String> {
        let mut names = Vec::new();
        for stage in &self.stages {
            match stage {
                Stage::Label(filter) | Stage::Severity(filter) => {
                    filter.for_each_name(&mut |name| names.push(name.into()))
                }
                Stage::LineFormat(format) => names.extend(format.names().map(String::from)),
                Stage::LabelFormat(format) => names.extend(format.names().map(String::from)),
                Stage::Unwrap(unwrap) => unwrap.for_each_name(&mut |name| names.push(name.into())),
                _ => {}
            }
        }
        names
    }

    /// In Loki a parser asks the filters behind it already when it sets a label, also those that come after a stage that changes
    /// it. A filter that lets all pass has no name, which shifts the filters behind it against their names.
    fn early_filters(&self) -> Vec<(String, Option<Arc<LabelFilter>>)> {
        let simple = self.stages.iter().filter_map(|stage| match stage {
            Stage::Label(filter) | Stage::Severity(filter) => Some(filter),
            Stage::Unwrap(unwrap) => unwrap.only_filter(),
            _ => None,
        });
        let simple: Vec<&Arc<LabelFilter>> = simple.filter(|filter| !filter.is_compound()).collect();
        let mut names = Vec::new();
        simple.iter().for_each(|filter| filter.for_each_name(&mut |name| names.push(name.to_owned())));
        let passing = |filter: &Arc<LabelFilter>| if filter.passes_all() { None } else { Some(filter.clone()) };
        names.into_iter().zip(simple.into_iter().map(passing)).collect()
    }

    /// Whether a record of that severity number can pass.
    #[inline]
    pub fn admits_severity(&self, severity_number: i32) -> bool {
        u32::try_from(severity_number).is_ok_and(|number| self.severity_mask >> number.min(31) & 1 == 1)
    }

    /// Texts of which a record's line must hold at least one; empty where it need hold none.
    pub fn required_literals(&self) -> Vec<String> {
        let lines = self.stages.iter().take_while(|stage| !stage.changes_line()).filter_map(|stage| match stage {
            Stage::Line(filter) => Some(filter),
            _ => None,
        });
        let shortest = |texts: &Vec<String>| texts.iter().map(String::len).min().unwrap_or(0);
        lines
            .map(LineFilter::required_literals)
            .max_by_key(shortest)
            .filter(|texts| shortest(texts) > 0)
            .unwrap_or_default()
    }

    /// Whether a stage looks at labels.
    pub fn reads_labels(&self) -> bool {
        !self.stages.iter().all(|stage| matches!(stage, Stage::Line(_) | Stage::Severity(_) | Stage::Decolorize))
    }

    /// Whether a label that a record came with is what it was behind the stages.
    pub fn keeps_own_labels(&self) -> bool {
        !self.stages.iter().any(|stage| matches!(stage, Stage::LabelFormat(_) | Stage::Drop(_) | Stage::Keep(_)))
    }

    /// Whether what is left of a line depends on whether somebody looks at it in the end.
    pub fn formats_line(stages: &[ast::Stage]) -> bool {
        stages.iter().any(|stage| matches!(stage.kind, StageKind::LineFormat(_)))
    }

    /// Whether what stages extract depends on which labels are wanted.
    pub fn has_parser(stages: &[ast::Stage]) -> bool {
        stages.iter().any(|stage| is_parser(&stage.kind))
    }

    /// Whether a record may count in spite of its error, as one of a parser does where a stage asks for errors: unless a filter behind all that
    /// fails lets none pass. Where nobody asks for errors none counts, whatever this says.
    pub fn may_count_errors(stages: &[ast::Stage]) -> bool {
        let (mut may_count, mut drops_errors) = (false, false);
        for stage in stages {
            match &stage.kind {
                kind if is_parser(kind) => may_count = true,
                StageKind::Drop(items) => drops_errors |= items.iter().any(|item| item.name == ERROR_LABEL),
                // Once a parser's error was dropped the record counts whatever fails behind that.
                StageKind::Label(filter) => may_count &= drops_errors || !refuses_errors(filter),
                StageKind::Unwrap(unwrap) if drops_errors => {
                    may_count &= !unwrap.filters.last().is_some_and(refuses_errors);
                }
                StageKind::Unwrap(unwrap) => may_count &= !unwrap.filters.iter().any(refuses_errors),
                _ => {}
            }
        }
        may_count
    }

    /// Whether stages may set labels to empty values.
    pub fn may_set_empty(stages: &[ast::Stage]) -> bool {
        stages.iter().any(|stage| match &stage.kind {
            StageKind::Logfmt { keep_empty, labels, .. } => *keep_empty || !labels.is_empty(),
            StageKind::LabelFormat(_) => true,
            kind => is_parser(kind),
        })
    }

    /// Runs the stages; `extracted` then holds what they made of the record.
    pub fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Verdict {
        self.run_stages(record, extracted, |_| true)
    }

    /// The same of a record whose severity [is admitted](Self::admits_severity).
    pub fn run_admitted<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Verdict {
        self.run_stages(record, extracted, |stage| !matches!(stage, Stage::Severity(_)))
    }

    /// The same, and shows each stage that the record came to: where it stands, and the error that it made.
    pub(crate) fn run_shown<E: LogEntry>(
        &self,
        record: &Record<'_, E>,
        extracted: &mut Extracted,
        visit: &mut dyn FnMut(Span, Option<&'static str>),
    ) -> Verdict {
        extracted.begin(record);
        let due = self.stages.iter().zip(&self.places).filter(|(stage, _)| !matches!(stage, Stage::Severity(_)));
        for (stage, place) in due {
            let had_error = extracted.error().is_some();
            let stays = self.run_stage(stage, record, extracted);
            visit(*place, extracted.stage_error().filter(|_| !had_error));
            if !stays {
                return Verdict::Dropped;
            }
        }
        self.verdict(extracted)
    }

    fn run_stages<E: LogEntry>(
        &self,
        record: &Record<'_, E>,
        extracted: &mut Extracted,
        is_due: impl Fn(&Stage) -> bool,
    ) -> Verdict {
        extracted.begin(record);
        for stage in self.stages.iter().filter(|stage| is_due(stage)) {
            if !self.run_stage(stage, record, extracted) {
                return Verdict::Dropped;
            }
        }
        self.verdict(extracted)
    }

    /// Of a record that has stayed. As in Loki, a label `__error__` of the line itself fails a series that is told apart by it.
    fn verdict(&self, extracted: &Extracted) -> Verdict {
        let is_named = extracted.names_error() && self.required.is_none();
        if extracted.is_failed() || is_named { Verdict::Failed } else { Verdict::Kept }
    }

    /// Whether the record stays.
    fn run_stage<E: LogEntry>(&self, stage: &Stage, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        let mut sink = Sink { record, pipeline: self, extracted };
        match stage {
            Stage::Line(filter) => filter.matches(extracted.line(record)),
            Stage::Label(filter) | Stage::Severity(filter) => filter.matches(record, extracted),
            Stage::Json => json::run(&mut sink),
            Stage::JsonPaths(paths) => paths.run(&mut sink),
            Stage::Logfmt(stage) => stage.run(&mut sink),
            Stage::Regexp(stage) => stage.run(&mut sink),
            Stage::Pattern(stage) => stage.run(&mut sink),
            Stage::Unpack => unpack::run(&mut sink),
            Stage::Decolorize => decolorize::run(record, extracted),
            Stage::LineFormat(format) => format.run(record, extracted),
            Stage::LabelFormat(format) => format.run(&mut sink),
            Stage::Drop(items) => items.drop_labels(record, extracted),
            Stage::Keep(items) => items.keep_labels(record, extracted),
            Stage::Unwrap(unwrap) => unwrap.run(record, extracted),
        }
    }

    /// Whether nobody reads a label.
    fn reads_no_labels(&self) -> bool {
        self.required.as_ref().is_some_and(Vec::is_empty)
    }

    fn requires(&self, name: &str) -> bool {
        self.required.iter().flatten().any(|other| other == name)
    }

    fn asks_for(&self, name: &str) -> bool {
        self.required.as_ref().is_none_or(|required| required.iter().any(|other| other == name))
    }

    /// Whether somebody reads a label that begins so.
    fn asks_for_prefix(&self, prefix: &str) -> bool {
        self.required.as_ref().is_none_or(|required| required.iter().any(|other| other.starts_with(prefix)))
    }

    fn drops_early<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted, name: &str) -> bool {
        let filter = self.early.iter().find(|(other, _)| other == name).and_then(|(_, filter)| filter.as_ref());
        filter.is_some_and(|filter| !filter.matches(record, extracted))
    }
}

impl Stage {
    const fn changes_line(&self) -> bool {
        matches!(self, Self::LineFormat(_) | Self::Unpack | Self::Decolorize)
    }
}

/// The stages in the order in which Loki runs them: a line filter goes before the stages that it stands behind, up to a label
/// filter, a `line_format` or an `unpack`. It goes before a `decolorize` too, and sees the colours.
fn in_order(stages: &[ast::Stage]) -> Vec<&ast::Stage> {
    let (mut ordered, mut lines, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for stage in stages {
        match &stage.kind {
            StageKind::Line(_) => lines.push(stage),
            StageKind::Label(_) => {
                ordered.append(&mut lines);
                ordered.append(&mut others);
                ordered.push(stage);
            }
            kind => {
                others.push(stage);
                if matches!(kind, StageKind::LineFormat(_) | StageKind::Unpack) {
                    ordered.append(&mut lines);
                    ordered.append(&mut others);
                }
            }
        }
    }
    ordered.append(&mut lines);
    ordered.append(&mut others);
    ordered
}

/// Whether it is `__error__=""`, or ends so.
fn refuses_errors(filter: &ast::LabelFilter) -> bool {
    match filter {
        ast::LabelFilter::String(matcher) => {
            (&*matcher.name, matcher.op, &*matcher.value) == (ERROR_LABEL, ast::MatchOp::Equal, "")
        }
        ast::LabelFilter::And(all) => all.last().is_some_and(refuses_errors),
        _ => false,
    }
}

const fn is_parser(kind: &StageKind) -> bool {
    use StageKind::*;
    matches!(kind, Json(_) | Logfmt { .. } | Regexp(_) | Pattern(_) | Unpack)
}

const fn changes_labels(kind: &StageKind) -> bool {
    matches!(kind, StageKind::LabelFormat(_) | StageKind::Drop(_) | StageKind::Keep(_))
}

/// The names, each once. With one that a clash may have made of another, that other.
fn with_originals(names: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let original = name.strip_suffix(extracted::DUPLICATE_SUFFIX).map(String::from);
        for name in std::iter::once(name).chain(original) {
            if !name.is_empty() && !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all
}

/// The label by which a stage says that it failed.
pub const ERROR_LABEL: &str = "__error__";

/// The label by which it says why.
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";

/// The label by which Loki marks what failed and counts all the same.
pub(crate) const PRESERVE_ERROR_LABEL: &str = "__preserve_error__";

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fmt::Write as _;

    use super::*;
    use crate::datadriven;
    use crate::entry::LabelValue;
    use crate::logql::{self, ast::Expr, ast::MetricKind};
    use crate::time::Timestamp;

    /// `testdata/pipeline/*.test`. A case is `stream name=value ...`, `metadata name=value ...`, records as `line text` or
    /// `quoted "text as in JSON"`, and stages. Before stages stands how they are used: nothing in a log query, `each` in a range
    /// aggregation, `sum` in a sum of it, `by (names)` in a sum by these. What comes out is what Loki was seen to answer.
    #[test]
    fn stages_do_what_lokis_do() {
        datadriven::run("pipeline", |text| {
            let mut case = Case::default();
            let mut out = String::new();
            for line in text.lines() {
                match line.split_once(' ') {
                    Some(("stream", labels)) => case.stream = pairs(labels),
                    Some(("metadata", labels)) => case.metadata = pairs(labels),
                    Some(("line", line)) => case.lines.push(line.to_owned()),
                    Some(("quoted", line)) => case.lines.push(serde_json::from_str(line).unwrap()),
                    _ => case.ask(line, &mut out),
                }
            }
            out
        });
    }

    /// A hostile line has 100,000 keys, and some of them again and again.
    #[test]
    fn what_a_label_costs_does_not_grow_with_their_number() {
        let case = Case { metadata: vec![("a".to_owned(), "1".to_owned())], ..Case::default() };
        let keys: String = (0..20_000).map(|n| format!(r#""k{n}":{n},"a":2,"#)).collect();
        let line = format!("{{{}}}", keys.trim_end_matches(','));
        let entry = Entry { case: &case, line: &line };
        let record = Record::new(&entry, Timestamp(1), Timestamp(1));
        let (pipeline, _) = compiled("| json | keep k7, k19999, a_extracted").unwrap();
        let mut extracted = Extracted::default();
        let before = extracted::COMPARED.get();
        assert_eq!(pipeline.run(&record, &mut extracted), Verdict::Kept);
        let shown = shown(&record, &extracted, None);
        let labels = r#"{a_extracted="2", k19999="19999", k7="7"}"#;
        assert!(shown.ends_with(labels), "{}", &shown[shown.len() - 100..]);
        let compared = extracted::COMPARED.get() - before;
        assert!((20_000..400_000).contains(&compared), "{compared} names were looked at for 20,000 labels");
        extracted.clear();
        assert_eq!(extracted.label(&record, "k7"), None);
    }

    /// Each leaf of a nested object has the whole path to it for its name.
    #[test]
    fn names_of_nested_fields_are_limited_together() {
        let case = Case::default();
        let distinct: String = (0..2_000).map(|n| format!(r#","k{n}":1"#)).collect();
        for (leaves, kind) in [(distinct, "distinct"), (r#","a":1"#.repeat(2_000), "the same")] {
            let line = format!(r#"{{"b":{{"c":1}},"{}":{{{}}}}}"#, "n".repeat(10_000), &leaves[1..]);
            let entry = Entry { case: &case, line: &line };
            let record = Record::new(&entry, Timestamp(1), Timestamp(1));
            let mut extracted = Extracted::default();
            for _ in 0..6 {
                let (pipeline, _) = compiled("each | json").unwrap();
                assert_eq!(pipeline.run(&record, &mut extracted), Verdict::Failed, "{kind}");
                assert_eq!(extracted.error(), Some("LabelsTooLargeErr"));
                assert!(extracted.error_details().unwrap().contains("LABELS_BYTES_MAX"));
                let (pipeline, _) = compiled(r#"by (b_c) | json | b_c="1""#).unwrap();
                assert_eq!(pipeline.run(&record, &mut extracted), Verdict::Kept, "{kind}");
            }
        }
    }

    #[derive(Default)]
    struct Case {
        stream: Vec<(String, String)>,
        metadata: Vec<(String, String)>,
        lines: Vec<String>,
    }

    struct Entry<'c> {
        case: &'c Case,
        line: &'c str,
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        text.split_whitespace().filter_map(pair).collect()
    }

    fn find<'a>(labels: &'a [(String, String)], name: &str) -> Option<&'a str> {
        labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    impl LogEntry for Entry<'_> {
        fn line(&self) -> Cow<'_, str> {
            Cow::Borrowed(self.line)
        }

        fn index_label(&self, name: &str) -> Option<&str> {
            find(&self.case.stream, name)
        }

        fn metadata(&self, name: &str) -> Option<LabelValue<'_>> {
            find(&self.case.metadata, name).map(|value| LabelValue::Text(Cow::Borrowed(value)))
        }

        fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
            self.case.stream.iter().for_each(|(name, value)| visit(name, value));
            for (name, value) in &self.case.metadata {
                let clashes = self.index_label(name).is_some();
                visit(&if clashes { format!("{name}_extracted") } else { name.clone() }, value);
            }
        }
    }

    /// The stages of a query, and the labels that are asked for.
    fn compiled(query: &str) -> Result<(Pipeline, Option<Vec<String>>), String> {
        let (usage, stages) = query.split_at(query.find(['|', '!']).unwrap_or(0));
        let function = if stages.contains("| unwrap") { "sum_over_time" } else { "count_over_time" };
        let expr = format!("{function}({{s=\"t\"}} {stages} [1m])");
        let parsed = logql::parse(&expr).map_err(|mistakes| mistakes[0].message.clone())?;
        let Expr::Metric(metric) = parsed else { return Err("no range".into()) };
        let MetricKind::Range(range) = metric.kind else { return Err("no range".into()) };
        let names = usage.trim().strip_prefix("by (").and_then(|names| names.strip_suffix(')'));
        let wanted = match (usage.trim(), names) {
            (_, Some(names)) => Some(names.split(',').map(|name| name.trim().to_owned()).collect()),
            ("sum", _) => Some(Vec::new()),
            _ => None,
        };
        let stages = &range.range.log.stages;
        let pipeline = match usage.trim() {
            "" => Pipeline::compile(stages, None),
            _ => Pipeline::compile_without_line(stages, wanted.as_deref()),
        };
        Ok((pipeline.map_err(|unsupported| unsupported.message)?, wanted))
    }

    impl Case {
        fn ask(&self, query: &str, out: &mut String) {
            writeln!(out, "{query}").unwrap();
            let (pipeline, wanted) = match compiled(query) {
                Ok(compiled) => compiled,
                Err(mistake) => return writeln!(out, "  mistake: {mistake}").unwrap(),
            };
            let mut extracted = Extracted::default();
            for line in &self.lines {
                let entry = Entry { case: self, line };
                let at = Timestamp(1_700_000_000_000_000_000);
                let record = Record::new(&entry, at, at);
                let mut run = || {
                    let verdict = pipeline.run(&record, &mut extracted);
                    let is_dropped = verdict == Verdict::Dropped;
                    let shown = || shown(&record, &extracted, wanted.as_deref());
                    (verdict, if is_dropped { "dropped".to_owned() } else { shown() })
                };
                let (verdict, shown) = run();
                for _ in 0..4 {
                    assert_eq!(run(), (verdict, shown.clone()), "{query}: pipelines share what is read of {line:?}");
                }
                let is_metric = !query.starts_with(['|', '!']);
                let failed = if verdict == Verdict::Failed && is_metric { "failed " } else { "" };
                writeln!(out, "  {failed}{shown}").unwrap();
            }
        }
    }

    fn shown(record: &Record<'_, Entry<'_>>, extracted: &Extracted, wanted: Option<&[String]>) -> String {
        let mut labels: Vec<String> = Vec::new();
        match wanted {
            None => extracted.for_each_label(record, &mut |name, value| labels.push(format!("{name}={value:?}"))),
            Some(names) => names.iter().for_each(|name| {
                let value = extracted.group_label(record, name);
                labels.extend(value.map(|value| format!("{name}={:?}", value.into_text())));
            }),
        }
        labels.sort();
        let sample = extracted.sample().map(|sample| format!(" {sample}")).unwrap_or_default();
        format!("{:?} {{{}}}{sample}", extracted.line(record), labels.join(", "))
    }
}
