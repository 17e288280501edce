//! A range aggregation: the samples of each series, and the windows over them.

use hashbrown::{HashMap, HashSet};

use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::ast::{Grouping, LogExpr, LogRange, RangeAggregation, RangeOp, StageKind, Unwrap};
use crate::otlp_labels::ResourceLabels;
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{Extracted, Pipeline, Record, Unsupported, Verdict};
use crate::time::Timestamp;
use crate::vector::{Element, LabelSet, Vector};

use super::over_time::{OverTime, Sample, Summary};
use super::{QueryError, When};

#[derive(Debug)]
pub(super) struct Range {
    function: OverTime,
    /// How far back the window ends, in nanoseconds.
    offset: i64,
    source: Source,
    measure: Measure,
    groups: LabelSet,
    /// When records count at all: behind the first, up to the second.
    window: (i64, i64),
    now: Timestamp,
    by_key: HashMap<String, usize>,
    series: Vec<Series>,
    /// Times and identities of the records that have one.
    seen: HashSet<(i64, u64)>,
    bytes: u64,
    /// How many records on which a stage failed were left out; `None` where such a record fails the query.
    left_out: Option<u64>,
    extracted: Extracted,
    key: String,
}

/// What a record weighs.
#[derive(Debug)]
enum Measure {
    Lines,
    Bytes,
    /// The number in a label.
    Unwrapped,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    /// Why its records failed.
    error: Option<String>,
    /// Sorted by time.
    samples: Vec<Sample>,
    /// The window at the time that was asked for last.
    from: usize,
    to: usize,
}

impl Range {
    /// `of_sum` is the grouping of a sum around it, by which its series are told apart at once.
    pub(super) fn new(
        aggregation: &RangeAggregation,
        of_sum: Option<&Grouping>,
        when: When,
    ) -> Result<Self, Unsupported> {
        let LogRange { log, range, offset, .. } = &aggregation.range;
        let unwrapped = log.stages.iter().find_map(|stage| match &stage.kind {
            StageKind::Unwrap(unwrap) => Some(unwrap),
            _ => None,
        });
        let grouping = of_sum.or(aggregation.grouping.as_ref());
        let no_labels = aggregation.op == RangeOp::AbsentOverTime || grouping.is_some_and(is_singleton);
        let groups = groups(grouping, no_labels, unwrapped);
        let mut log = log.clone();
        if !matches!(aggregation.op, RangeOp::BytesOverTime | RangeOp::BytesRate) {
            log.stages = Pipeline::without_idle(&log.stages);
        }
        let source = Source::new(&log, wanted(&groups, unwrapped).as_deref())?;
        let reach = i64::try_from(range.as_nanos()).unwrap_or(i64::MAX);
        let shifted = |time: Timestamp| time.0.saturating_sub(*offset);
        Ok(Self {
            function: OverTime {
                op: aggregation.op,
                parameter: aggregation.parameter.unwrap_or_default(),
                range: *range,
            },
            offset: *offset,
            source,
            measure: match aggregation.op {
                _ if unwrapped.is_some() => Measure::Unwrapped,
                RangeOp::BytesOverTime | RangeOp::BytesRate => Measure::Bytes,
                _ => Measure::Lines,
            },
            groups,
            window: (shifted(when.start()).saturating_sub(reach), shifted(when.end())),
            now: when.end(),
            by_key: HashMap::new(),
            series: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
            left_out: None,
            extracted: Extracted::default(),
            key: String::new(),
        })
    }

    pub(super) fn leave_out_failed(&mut self) {
        self.left_out.get_or_insert_default();
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out.unwrap_or_default()
    }

    /// Takes a record; tells whether it became a sample.
    pub(super) fn add<E: LogEntry>(&mut self, time: Timestamp, identity: Option<u64>, entry: &E) -> bool {
        if time.0 <= self.window.0 || time.0 > self.window.1 {
            return false;
        }
        let record = Record::new(entry, time, self.now);
        let verdict = self.source.run(&record, &mut self.extracted);
        if verdict == Verdict::Dropped {
            return false;
        }
        if let (Verdict::Failed, Some(left_out)) = (verdict, &mut self.left_out) {
            *left_out += 1;
            return false;
        }
        let value = match self.measure {
            Measure::Lines => 1.0,
            Measure::Bytes => self.extracted.line(&record).len() as f64,
            Measure::Unwrapped => match self.extracted.sample() {
                Some(value) => value,
                None => return false,
            },
        };
        if let Some(identity) = identity {
            if !self.seen.insert((time.0, identity)) {
                return false;
            }
            self.bytes += SEEN_BYTES;
        }
        let series = self.series_of(&record, verdict == Verdict::Failed);
        self.series[series].samples.push(Sample { at: time.0, value });
        self.bytes += size_of::<Sample>() as u64;
        true
    }

    fn series_of<E: LogEntry>(&mut self, record: &Record<'_, E>, has_failed: bool) -> usize {
        let labels = series_labels(record, &self.extracted, &self.groups, has_failed);
        self.key.clear();
        for part in labels.iter().flat_map(|(name, value)| [name, value]) {
            self.key.push_str(part);
            self.key.push('\0');
        }
        if let Some(known) = self.by_key.get(self.key.as_str()) {
            return *known;
        }
        let error = self.extracted.failure().filter(|_| has_failed).map(str::to_owned);
        let series = Series { labels: Labels::with_empty(labels), error, samples: Vec::new(), from: 0, to: 0 };
        self.bytes += (size_of::<Series>() + series.labels.bytes() + 2 * self.key.len()) as u64;
        self.series.push(series);
        self.by_key.insert(self.key.clone(), self.series.len() - 1);
        self.series.len() - 1
    }

    /// When records count: behind the first time, up to the second.
    pub(super) fn window(&self) -> (i64, i64) {
        self.window
    }

    /// Whether a stream with these index labels is asked for.
    pub(super) fn selects(&self, stream: &ResourceLabels) -> bool {
        self.source.selects(stream)
    }

    /// The memory that its samples and series take, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sorts the series by labels, and the samples of each by time; those of one time stay as they came.
    pub(super) fn sort(&mut self) {
        self.by_key.clear();
        self.seen = HashSet::new();
        self.series.iter_mut().for_each(|series| series.samples.sort_by_key(|sample| sample.at));
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }

    /// The value of each series that has a sample in the window that ends at `time`.
    pub(super) fn vector(&mut self, time: Timestamp, visited: &mut u64) -> Result<Vector, QueryError> {
        let end = time.0.saturating_sub(self.offset);
        let start = end.saturating_sub(i64::try_from(self.function.range.as_nanos()).unwrap_or(i64::MAX));
        let mut vector = Vector::new();
        for series in &mut self.series {
            let samples = series.window(start, end);
            if samples.is_empty() {
                continue;
            }
            *visited += samples.len() as u64;
            let value = self.function.value(samples.iter().map(Summary::from), end);
            if let Some(error) = &series.error {
                return Err(pipeline_error(error, &series.labels));
            }
            vector.push(Element { labels: series.labels.clone(), value });
        }
        Ok(vector)
    }
}

impl Series {
    /// The samples in `(start, end]`; neither goes back from call to call.
    fn window(&mut self, start: i64, end: i64) -> &[Sample] {
        self.from += self.samples[self.from..].iter().take_while(|sample| sample.at <= start).count();
        self.to = self.to.max(self.from);
        self.to += self.samples[self.to..].iter().take_while(|sample| sample.at <= end).count();
        &self.samples[self.from..self.to]
    }
}

/// A selector and the stages behind it.
#[derive(Debug)]
pub(super) struct Source {
    matchers: Vec<(String, TextMatcher)>,
    pipeline: Pipeline,
}

impl Source {
    pub(super) fn new(log: &LogExpr, wanted: Option<&[String]>) -> Result<Self, Unsupported> {
        let compiled =
            |matcher: &crate::logql::ast::LabelMatcher| Ok((matcher.name.clone(), TextMatcher::compile(matcher)?));
        Ok(Self {
            matchers: log.selector.matchers.iter().map(compiled).collect::<Result<_, _>>()?,
            pipeline: Pipeline::compile(&log.stages, wanted)?,
        })
    }

    /// Whether the selector holds of these index labels.
    pub(super) fn selects(&self, stream: &ResourceLabels) -> bool {
        self.matchers.iter().all(|(name, matcher)| matcher.matches(stream.index(name).unwrap_or_default()))
    }

    pub(super) fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Verdict {
        let label = |name: &str| record.entry().index_label(name).unwrap_or_default();
        match self.matchers.iter().all(|(name, matcher)| matcher.matches(label(name))) {
            true => self.pipeline.run(record, extracted),
            false => Verdict::Dropped,
        }
    }
}

/// `by ()`: all is one series.
fn is_singleton(grouping: &Grouping) -> bool {
    !grouping.without && grouping.labels.is_empty()
}

/// The labels by which series are told apart. The label that is unwrapped is not among them, unless it is asked for.
fn groups(grouping: Option<&Grouping>, no_labels: bool, unwrapped: Option<&Unwrap>) -> LabelSet {
    if no_labels {
        return LabelSet::Only(Vec::new());
    }
    let groups = match grouping {
        None => LabelSet::AllBut(Vec::new()),
        grouping => LabelSet::from(grouping),
    };
    match (groups, unwrapped) {
        (LabelSet::AllBut(mut names), Some(unwrap)) => {
            names.push(unwrap.label.clone());
            LabelSet::AllBut(names)
        }
        (groups, _) => groups,
    }
}

/// The labels that stages need not extract others than; `None` where all are needed.
fn wanted(groups: &LabelSet, unwrapped: Option<&Unwrap>) -> Option<Vec<String>> {
    match groups {
        LabelSet::AllBut(_) => None,
        LabelSet::Only(names) => {
            Some(names.iter().cloned().chain(unwrapped.map(|unwrap| unwrap.label.clone())).collect())
        }
    }
}

/// The labels of a record's series, sorted.
fn series_labels<E: LogEntry>(
    record: &Record<'_, E>,
    extracted: &Extracted,
    groups: &LabelSet,
    has_failed: bool,
) -> Vec<(String, String)> {
    if extracted.error().is_some() {
        return extracted.labels_with_error(record, !has_failed);
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    match groups {
        LabelSet::Only(names) => {
            let value =
                |name: &String| Some((name.clone(), extracted.group_label(record, name)?.into_text().into_owned()));
            labels.extend(names.iter().filter_map(value));
        }
        LabelSet::AllBut(names) => {
            extracted.for_each_label_but(record, names, &mut |name, value| labels.push((name.into(), value.into())));
        }
    }
    labels.sort_unstable();
    labels
}

/// In Loki's words, for those who look for them.
fn pipeline_error(error: &str, labels: &Labels) -> QueryError {
    QueryError::execution(format!(
        "pipeline error: '{error}' for series: '{labels}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}

/// What a record's identity takes in the set, which is at most seven eighths full.
const SEEN_BYTES: u64 = 24;
