//! The stages behind a selector: which records stay, and what they extract.
//!
//! A stage that cannot do its work drops nothing: it sets the label `__error__`, as in Loki. There a metric query over such a record
//! fails as a whole; here the record is not counted and the rule's error counter goes up, so that one odd line silences no alert. A
//! pipeline that asks for `__error__` itself decides itself.

pub mod json;
pub mod label_filter;
pub mod line_filter;
pub mod logfmt;
pub mod text_matcher;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast::{self, Span, StageKind};
use crate::time::Timestamp;
use json::JsonStage;
use label_filter::LabelFilter;
use line_filter::LineFilter;
use logfmt::LogfmtStage;

/// Compiled stages.
#[derive(Debug)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Bit `n` tells whether a record of severity number `n` can pass; what it says, no stage asks again.
    severity_mask: u32,
    handles_errors: bool,
}

#[derive(Debug)]
enum Stage {
    Line(LineFilter),
    Label(LabelFilter),
    Json(JsonStage),
    Logfmt(LogfmtStage),
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A stage dropped it.
    Dropped,
    /// It stays.
    Kept,
    /// It stays, with an `__error__` that the pipeline does not ask for: it is not to be counted.
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
    /// Compiles stages; parsers extract what the stages ask for and `wanted`, or all labels where `wanted` is `None`.
    pub fn compile(stages: &[ast::Stage], wanted: Option<&[String]>) -> Result<Self, Unsupported> {
        let filters = || {
            stages
                .iter()
                .filter_map(|stage| if let StageKind::Label(filter) = &stage.kind { Some(filter) } else { None })
        };
        let mut asked: Vec<String> = wanted.unwrap_or_default().to_vec();
        filters().for_each(|filter| label_filter::for_each_name(filter, &mut |name| asked.push(name.to_owned())));
        let asked = wanted.map(|_| asked.as_slice());
        let mut pipeline = Self { stages: Vec::new(), severity_mask: u32::MAX, handles_errors: false };
        for stage in stages {
            pipeline.push(stage, asked)?;
        }
        filters().for_each(|filter| {
            label_filter::for_each_name(filter, &mut |name| pipeline.handles_errors |= name == ERROR_LABEL)
        });
        Ok(pipeline)
    }

    fn push(&mut self, stage: &ast::Stage, asked: Option<&[String]>) -> Result<(), Unsupported> {
        let stage = match &stage.kind {
            StageKind::Line(filter) => Stage::Line(LineFilter::compile(filter)?),
            StageKind::Label(filter) => match label_filter::severity_mask(filter) {
                Some(mask) => {
                    self.severity_mask &= mask;
                    return Ok(());
                }
                None => Stage::Label(LabelFilter::compile(filter)?),
            },
            StageKind::Json(expressions) => Stage::Json(JsonStage::compile(expressions, asked)?),
            StageKind::Logfmt { strict, keep_empty, labels } => {
                Stage::Logfmt(LogfmtStage::new(*strict, *keep_empty, labels, asked))
            }
            other => return Err(Unsupported::new(stage.span, format!("`{}` is not evaluated yet", stage_name(other)))),
        };
        self.stages.push(stage);
        Ok(())
    }

    /// Whether a record of that severity number can pass.
    #[inline]
    pub fn admits_severity(&self, severity_number: i32) -> bool {
        u32::try_from(severity_number).is_ok_and(|number| self.severity_mask >> number.min(31) & 1 == 1)
    }

    /// Texts of which a record's line must hold at least one; empty where it need hold none.
    pub fn required_literals(&self) -> Vec<String> {
        let lines =
            self.stages.iter().filter_map(|stage| if let Stage::Line(filter) = stage { Some(filter) } else { None });
        let shortest = |texts: &Vec<String>| texts.iter().map(String::len).min().unwrap_or(0);
        lines
            .map(LineFilter::required_literals)
            .max_by_key(shortest)
            .filter(|texts| shortest(texts) > 0)
            .unwrap_or_default()
    }

    /// Whether a stage looks at labels.
    pub fn reads_labels(&self) -> bool {
        self.stages.iter().any(|stage| !matches!(stage, Stage::Line(_)))
    }

    /// Runs the stages; `extracted` then holds what the parsers found.
    pub fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Verdict {
        extracted.clear();
        for stage in &self.stages {
            let kept = match stage {
                Stage::Line(filter) => filter.matches(record.line()),
                Stage::Label(filter) => filter.matches(record, extracted),
                Stage::Json(stage) => stage.run(record, extracted),
                Stage::Logfmt(stage) => stage.run(record, extracted),
            };
            if !kept {
                return Verdict::Dropped;
            }
        }
        if extracted.error.is_some() && !self.handles_errors { Verdict::Failed } else { Verdict::Kept }
    }
}

fn stage_name(stage: &StageKind) -> &'static str {
    match stage {
        StageKind::Line(_) => "line filter",
        StageKind::Label(_) => "label filter",
        StageKind::Json(_) => "json",
        StageKind::Logfmt { .. } => "logfmt",
        StageKind::Regexp(_) => "regexp",
        StageKind::Pattern(_) => "pattern",
        StageKind::Unpack => "unpack",
        StageKind::Decolorize => "decolorize",
        StageKind::LineFormat(_) => "line_format",
        StageKind::LabelFormat(_) => "label_format",
        StageKind::Drop(_) => "drop",
        StageKind::Keep(_) => "keep",
        StageKind::Unwrap(_) => "unwrap",
    }
}

/// A record on its way through pipelines; its line is made when the first of them asks.
#[derive(Debug)]
pub struct Record<'e, E> {
    entry: &'e E,
    at: Timestamp,
    now: Timestamp,
    line: OnceCell<Cow<'e, str>>,
}

impl<'e, E: LogEntry> Record<'e, E> {
    /// A record that no pipeline has seen: when it happened, and when it is evaluated.
    pub fn new(entry: &'e E, at: Timestamp, now: Timestamp) -> Self {
        Self { entry, at, now, line: OnceCell::new() }
    }

    /// When it happened: `__timestamp__` in templates.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// When it is evaluated: `now` in templates.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The record itself.
    pub fn entry(&self) -> &'e E {
        self.entry
    }

    /// Its line.
    #[inline]
    pub fn line(&self) -> &str {
        self.line.get_or_init(|| self.entry.line())
    }

    /// Whether it has a label of that name without any parser.
    fn has_label(&self, name: &str) -> bool {
        self.entry.label(name).is_some()
    }
}

/// Labels that parsers took from a line. Made once and used for many records: it keeps its buffers.
#[derive(Debug, Default)]
pub struct Extracted {
    text: String,
    labels: Vec<(Range<usize>, Range<usize>)>,
    error: Option<&'static str>,
}

impl Extracted {
    fn clear(&mut self) {
        self.text.clear();
        self.labels.clear();
        self.error = None;
    }

    /// The value of a label, be it extracted or the record's own.
    pub fn label<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>, name: &str) -> Option<LabelValue<'a>> {
        if name == ERROR_LABEL {
            return self.error.map(|error| LabelValue::Text(Cow::Borrowed(error)));
        }
        match self.get(name) {
            Some(value) => Some(LabelValue::Text(Cow::Borrowed(value))),
            None => record.entry.label(name),
        }
    }

    /// The line as the stages left it.
    pub fn line<'a, E: LogEntry>(&'a self, record: &'a Record<'_, E>) -> &'a str {
        record.line()
    }

    /// Why a stage failed: `__error__`.
    pub fn error(&self) -> Option<&str> {
        self.error
    }

    /// What that stage says of it: `__error_details__`.
    pub fn error_details(&self) -> Option<&str> {
        None
    }

    /// The number that `| unwrap` took from a label; `None` where there is no such stage, or no such label.
    pub fn sample(&self) -> Option<f64> {
        None
    }

    /// Every label, the record's own and the extracted ones.
    pub fn for_each_label<E: LogEntry>(&self, record: &Record<'_, E>, visit: &mut dyn FnMut(&str, &str)) {
        record.entry.for_each_label(visit);
        self.iter().for_each(|(name, value)| visit(name, value));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&self.text[name.clone()], &self.text[value.clone()]))
    }

    /// Sets the label, unless a parser has set it before. A name that the record has already becomes `name_extracted`.
    fn set<E: LogEntry>(&mut self, record: &Record<'_, E>, asked: Option<&[String]>, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        if record.has_label(name) {
            self.text.push_str("_extracted");
        }
        let name = start..self.text.len();
        let unwanted = asked.is_some_and(|asked| !asked.iter().any(|other| *other == self.text[name.clone()]));
        if unwanted || self.get(&self.text[name.clone()]).is_some() {
            self.text.truncate(start);
            return;
        }
        self.text.extend(value.chars().map(|c| if c == char::REPLACEMENT_CHARACTER { ' ' } else { c }));
        self.labels.push((name.clone(), name.end..self.text.len()));
    }

    /// Sets `__error__`; the first one stays.
    fn fail(&mut self, error: &'static str) {
        self.error.get_or_insert(error);
    }
}

/// Appends a key of the line as a label's name: what is no letter, digit or `_` becomes `_`, and one goes before a leading digit.
fn push_label_name(out: &mut String, key: &str) {
    let key = key.trim();
    if out.is_empty() && key.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
}

/// The label by which a stage says that it failed.
pub const ERROR_LABEL: &str = "__error__";
