//! Rule files, compiled: what is looked for in every batch, what is counted, and which rules read the counts.
//!
//! Rules share what they have in common. Equal selectors with equal stages are one *filter*; a filter counted by the same labels is
//! one *feed*, whose partial sums a batch is reduced to; a feed over a range is one *leaf*, which has a window per group. An expression
//! is a tree over leaves.

mod dispatch;
mod doubt;
mod edge;
mod lower;
mod whole;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detect::{NewPattern, Pairing, Wanted};
use crate::diagnostic::Diagnostic;
use crate::labels::Labels;
use crate::literal_index::LiteralIndex;
use crate::logql::ast::{BinaryOp, CompareOp, RangeOp};
use crate::otlp_labels::{LabelConfig, ResourceLabels};
use crate::pipeline::Pipeline;
use crate::pipeline::label_filter::compare;
use crate::pipeline::text_matcher::TextMatcher;
use crate::query::over_time::OverTime;
use crate::rule_file::RuleFile;
use crate::template::{Links, Template};
use crate::time::{Timestamp, deserialize_duration, serialize_duration};
use crate::vector::{self, LabelSet};
use crate::window::bucket;
pub(crate) use dispatch::Dispatch;
pub(crate) use doubt::{Doubt, Need};
pub(crate) use lower::sum_of_sums;
use whole::Windows;

/// How the engine judges; every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Which attributes are index labels.
    pub labels: LabelConfig,
    /// `$externalURL` in templates.
    #[schemars(skip)]
    pub external_url: String,
    /// `$externalLabels` in templates.
    #[schemars(skip)]
    pub external_labels: BTreeMap<String, String>,
    /// Links that a record of the evidence gets, in templates.
    #[schemars(skip)]
    pub links: Links,
    /// The groups' `interval` where a file does not say: how long a condition must have been false before its alert resolves, and how
    /// often recording rules and `ALERTS` are sampled.
    #[serde(deserialize_with = "deserialize_duration", serialize_with = "serialize_duration")]
    pub interval: Duration,
    /// How late a record may come and still be judged as if it had been in time.
    #[serde(deserialize_with = "deserialize_duration", serialize_with = "serialize_duration")]
    pub lateness: Duration,
    /// A source whose records are behind the clock by this much is not waited for.
    #[serde(deserialize_with = "deserialize_duration", serialize_with = "serialize_duration")]
    pub idle_timeout: Duration,
    /// A record older than this when it is received is judged at its observed time, else at its receive time.
    #[serde(deserialize_with = "deserialize_duration", serialize_with = "serialize_duration")]
    pub max_age: Duration,
    /// Records stamped later than they were received by more than this are counted, and their service named.
    #[serde(deserialize_with = "deserialize_duration", serialize_with = "serialize_duration")]
    pub max_skew: Duration,
    /// Records that an alert keeps as evidence.
    pub samples: usize,
    /// Groups that one range aggregation keeps at a time. Further ones are counted together as `__overflow__` (without grouping: not
    /// at all) until old ones have emptied.
    pub groups_per_rule_max: usize,
    /// Groups of all range aggregations together. At the limit those that have more than their share (the limit by the number of range
    /// aggregations) get no further ones, as at `groups_per_rule_max`.
    pub groups_max: usize,
    /// Cells of 16 bytes (some five in a window of up to 32) that all windows have together. At the limit each window that a record falls into keeps fewer, and one is
    /// counted for up to `retention / 64` too long instead of `retention / 512`; a quantile is
    /// an estimate then where a series has more than 4,096 samples.
    pub window_cells_max: usize,
    /// Bytes of a record's body that evidence keeps; a longer one is cut and ends in `…`.
    pub evidence_body_bytes_max: usize,
    /// Bytes of evidence that all groups keep together. At the limit groups without an alert keep none: an alert then shows the
    /// records of the batch that raised it.
    pub evidence_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            labels: LabelConfig::default(),
            external_url: String::new(),
            external_labels: BTreeMap::new(),
            links: Links::default(),
            interval: Duration::from_secs(60),
            lateness: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(24 * 60 * 60),
            max_skew: Duration::from_secs(10),
            samples: 10,
            groups_per_rule_max: 10_000,
            groups_max: 100_000,
            window_cells_max: 512 * 1024,
            evidence_body_bytes_max: 4096,
            evidence_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// Compiled rules: immutable, and shared by the threads that match.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) config: EngineConfig,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) dispatch: Dispatch,
    pub(crate) filters: Vec<Filter>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) rules: Vec<Rule>,
    /// The rules that are evaluated at steps.
    pub(crate) steps: Vec<usize>,
    /// The leaves that two feeds fill together: they stand in neither's `leaves`.
    pub(crate) sequences: Vec<usize>,
    /// The leaves whose gate waits for records that may fail to come.
    pub(crate) waiting: Vec<usize>,
    /// Each `idle_timeout` that a rule asks for: a watermark for each is kept.
    pub(crate) idle_timeouts: Vec<Duration>,
    pub(crate) literals: LiteralIndex,
    /// Tells this plan from others: a hash of what its feeds are and how records are read.
    pub(crate) id: u64,
}

impl Plan {
    /// Compiles rule files; what cannot be evaluated is told, all of it at once.
    pub fn compile(files: &[RuleFile], config: &EngineConfig) -> Result<Self, Vec<Diagnostic>> {
        Self::compile_some(files, config, &|_| true)
    }

    /// The same of the rules alone whose [keys](Self::rules) are kept.
    pub fn compile_some(
        files: &[RuleFile],
        config: &EngineConfig,
        keeps: &dyn Fn(&str) -> bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        lower::Compiler::new(config, keeps).compile(files)
    }

    /// The rules, in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = RuleName<'_>> {
        self.rules.iter().map(|rule| RuleName {
            key: &rule.key,
            file: &rule.file,
            group: &rule.group,
            name: &rule.name,
        })
    }

    /// How far back the windows look of which nothing is known where the rules of `known` are in force, or not so far back.
    pub fn looks_back(&self, known: &Plan) -> BTreeSet<Duration> {
        self.unknown_leaves(known).into_iter().map(|leaf| self.leaves[leaf].wants()).collect()
    }

    /// The keys of the rules that `known` does not have, and how far each looks back in windows that it does not know either.
    pub fn new_rules(&self, known: &Plan) -> BTreeMap<&str, Duration> {
        let unknown = self.unknown_leaves(known);
        let rules: BTreeSet<&str> = known.rules.iter().map(|rule| rule.key.as_str()).collect();
        let looks_back = |rule: &Rule| {
            let leaves = rule.leaves.keys().filter(|leaf| unknown.contains(leaf));
            leaves.map(|leaf| self.leaves[*leaf].wants()).max()
        };
        let new = self.rules.iter().filter(|rule| !rules.contains(rule.key.as_str()));
        new.filter_map(|rule| Some((rule.key.as_str(), looks_back(rule)?))).collect()
    }

    /// The leaves that `known` does not have, or that remember less there.
    pub(crate) fn unknown_leaves(&self, known: &Plan) -> BTreeSet<usize> {
        let known: BTreeMap<&str, Duration> =
            known.leaves.iter().map(|leaf| (leaf.key.as_str(), leaf.retention)).collect();
        let is_unknown = |leaf: &Leaf| known.get(leaf.key.as_str()).is_none_or(|retention| *retention < leaf.retention);
        self.leaves.iter().enumerate().filter(|(_, leaf)| is_unknown(leaf)).map(|(at, _)| at).collect()
    }

    /// What a leaf is fed by; of a sequence, its first records.
    pub(crate) fn feed_of(&self, leaf: usize) -> &Feed {
        &self.feeds[self.leaves[leaf].feed]
    }

    /// The labels of a leaf's group.
    pub(crate) fn labels(&self, leaf: usize, key: &[u8]) -> Labels {
        self.feed_of(leaf).labels(key)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// What a rule is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleName<'a> {
    /// Names it over reloads and restarts; says all that it means, but for its annotations.
    pub key: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Its group.
    pub group: &'a str,
    /// Its alert, or its series.
    pub name: &'a str,
}

/// The matchers between braces.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<(String, TextMatcher)>,
    /// The filters that begin with it.
    pub(crate) filters: Vec<u32>,
}

impl Selector {
    pub(crate) fn matches(&self, labels: &ResourceLabels) -> bool {
        self.matchers.iter().all(|(name, matcher)| matcher.matches(labels.index(name).unwrap_or_default()))
    }
}

/// Records that pass a selector and its stages.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) selector: usize,
    pub(crate) pipeline: Pipeline,
    /// Whether the literal index has to have found it.
    pub(crate) indexed: bool,
    /// Whether its stages or its feeds read labels.
    pub(crate) reads_labels: bool,
    pub(crate) feeds: Vec<usize>,
    /// Rules that read it, and how far each looks back.
    pub(crate) readers: BTreeMap<usize, Duration>,
    /// The file of the first of these rules, and its text.
    pub(crate) file: Arc<str>,
    pub(crate) file_text: Arc<str>,
    /// Stages that may fail on a record.
    pub(crate) fallible: Vec<FallibleStage>,
}

/// A stage that may fail on a record.
#[derive(Debug)]
pub(crate) struct FallibleStage {
    pub(crate) text: String,
    /// Where it begins in its file.
    pub(crate) start: usize,
    /// Where it begins in its expression.
    pub(crate) place: u32,
}

/// A filter's records, counted by labels.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) filter: usize,
    pub(crate) groups: LabelSet,
    /// The names of those labels, which the labels of all groups share.
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) measure: Measure,
    pub(crate) apart: Apart,
    /// Stamps of one group that a batch keeps apart; further ones are summed over grains of time.
    pub(crate) cells_max: usize,
    pub(crate) grain: Duration,
    /// Records of one group in one batch that are kept as evidence.
    pub(crate) samples: usize,
    pub(crate) leaves: Vec<usize>,
}

/// What is told apart as in a query, where that is more than the values of the labels. What a sum adds up is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Apart {
    /// Records that count in spite of an error, by all their labels.
    pub(crate) errors: bool,
    /// An empty label from a missing one. Not where each group is judged: neither an alert nor a series has empty labels.
    pub(crate) empty: bool,
}

impl Feed {
    /// The labels that a group's key stands for.
    pub(crate) fn labels(&self, key: &[u8]) -> Labels {
        let text = |bytes: &[u8]| Arc::<str>::from(String::from_utf8_lossy(bytes));
        let Some(named) = self.named(key) else {
            let parts = key.split(|byte| *byte == KEY_SEPARATOR);
            let own = self.names.iter().cloned().zip(parts);
            let own = own.filter(|(_, part)| !part.is_empty());
            let own = own.map(|(name, part)| (name, if part == [EMPTY_PART] { "".into() } else { text(part) }));
            return Labels::with_empty(own.chain(self.is_rest(key).then(|| (REST_LABEL.into(), "true".into()))));
        };
        let mut parts = named.split(|byte| *byte == KEY_SEPARATOR);
        let pairs = std::iter::from_fn(|| Some((text(parts.next()?), text(parts.next()?))));
        if self.apart.empty { Labels::with_empty(pairs) } else { Labels::new(pairs) }
    }

    /// The names and values of a key that has both.
    fn named<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        match &self.groups {
            LabelSet::Only(_) => key.strip_prefix(&[ERROR_KEY]),
            LabelSet::AllBut(_) => Some(key),
        }
    }

    /// Whether a group has all of `labels`.
    pub(crate) fn has_all(&self, key: &[u8], labels: &Labels) -> bool {
        labels.iter().all(|(name, value)| self.pairs(key).any(|pair| pair.0 == name && pair.1 == value))
    }

    /// Whether a group has no labels but those of `labels`.
    pub(crate) fn is_within(&self, key: &[u8], labels: &Labels) -> bool {
        self.pairs(key).all(|(name, value)| labels.get(&name) == Some(&value))
    }

    /// What [`labels`](Self::labels) are made of, in no order, to be looked through for many groups.
    fn pairs<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        let named = self.named(key);
        let text = |part: &'a [u8]| if part == [EMPTY_PART] { "".into() } else { String::from_utf8_lossy(part) };
        let mut parts = named.unwrap_or(key).split(|byte| *byte == KEY_SEPARATOR).map(text);
        let mut names = self.names.iter();
        let own = std::iter::from_fn(move || {
            let name = if named.is_some() { parts.next()? } else { Cow::Borrowed(&**names.next()?) };
            Some((name, parts.next()?))
        });
        let rest = self.is_rest(key).then(|| (REST_LABEL.into(), "true".into()));
        own.filter(|(_, value)| !value.is_empty()).chain(rest)
    }

    /// Whether the group takes what found no place among the others.
    fn is_rest(&self, key: &[u8]) -> bool {
        let LabelSet::Only(names) = &self.groups else { return false };
        !key.starts_with(&[ERROR_KEY]) && key.iter().filter(|byte| **byte == KEY_SEPARATOR).count() > names.len()
    }

    /// Whether two records are near enough in time to be summed.
    pub(crate) fn merges(&self, a: Timestamp, b: Timestamp) -> bool {
        let grain = i64::try_from(self.grain.as_nanos()).unwrap_or(i64::MAX).max(1);
        bucket(a, grain) == bucket(b, grain)
    }

    /// The key of the one group that can have all of `labels`; `None` where several can.
    pub(crate) fn only_key(&self, labels: &Labels) -> Option<Box<[u8]>> {
        let LabelSet::Only(names) = &self.groups else { return None };
        if self.apart.errors {
            return None;
        }
        let mut key = Vec::new();
        for name in names {
            key.extend_from_slice(labels.get(name)?.as_bytes());
            key.push(KEY_SEPARATOR);
        }
        if labels.get(REST_LABEL).is_some() {
            key.push(KEY_SEPARATOR);
        }
        Some(key.into())
    }
}

/// Stands behind every part of a group's key; no UTF-8 text holds it. One more of them stands behind the key of a group that takes what found
/// no place among the others.
pub(crate) const KEY_SEPARATOR: u8 = 0xFF;

/// Stands before the key of a group whose records have an error: names and values of all labels they have. No UTF-8 text holds it.
pub(crate) const ERROR_KEY: u8 = 0xFE;

/// Stands in a key for a label that is there and empty, where that is told apart. No UTF-8 text holds it.
pub(crate) const EMPTY_PART: u8 = 0xFD;

/// Tells such a group from one whose labels happen to have its values.
pub(crate) const REST_LABEL: &str = "watchbell_overflow";

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// 1 a record.
    Records,
    /// The bytes of its line.
    Bytes,
    /// 1 a record, each pattern in a group of its own.
    Patterns,
    /// The number in the label that is unwrapped.
    Unwrapped,
}

/// What the windows of a leaf are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keeps {
    /// Counts of records, or their bytes.
    Counts,
    /// What functions over samples need to know, quantiles excepted.
    Summaries,
    /// The samples themselves.
    Samples,
}

/// A feed over a range of time.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Names it over reloads and restarts.
    pub(crate) key: String,
    pub(crate) feed: usize,
    pub(crate) keeps: Keeps,
    pub(crate) range: Duration,
    /// How long its windows remember: the range, and how far back a rule may still look.
    pub(crate) retention: Duration,
    /// Cells that a window has at most: more where it looks back further, fewer where it stands for a detector.
    pub(crate) cells_max: usize,
    pub(crate) samples: usize,
    /// Rules that are judged at the record.
    pub(crate) edges: Vec<usize>,
    /// What finds what its windows count; `None` where they count records.
    pub(crate) gate: Option<Gate>,
}

impl Leaf {
    /// How far back a new one wants to know the past: a gate may have to learn, and which records are behind what was found hangs on whether
    /// those before them were.
    pub(crate) fn wants(&self) -> Duration {
        match &self.gate {
            Some(Gate::NewPattern(config)) => self.retention + config.learn,
            Some(Gate::Sequence(gate)) => self.retention + gate.pairing.within,
            None => self.retention,
        }
    }

    /// What it is fed by.
    pub(crate) fn feeds(&self) -> impl Iterator<Item = usize> {
        let second = match &self.gate {
            Some(Gate::Sequence(gate)) => Some(gate.second),
            _ => None,
        };
        [self.feed].into_iter().chain(second)
    }

    /// Whether its gate waits for records that may fail to come.
    pub(crate) fn waits(&self) -> bool {
        matches!(&self.gate, Some(Gate::Sequence(gate)) if gate.pairing.wanted == Wanted::Without)
    }
}

/// What stands in front of a leaf's windows.
#[derive(Debug)]
pub(crate) enum Gate {
    NewPattern(NewPattern),
    Sequence(SequenceGate),
}

/// The leaf's own feed has the first records.
#[derive(Debug)]
pub(crate) struct SequenceGate {
    pub(crate) pairing: Pairing,
    /// The feed of the second ones.
    pub(crate) second: usize,
    /// How late a record may come.
    pub(crate) lateness: Duration,
    /// Index into the plan's `idle_timeouts`.
    pub(crate) watermark: usize,
    /// How far behind the clock a record may be that is judged.
    pub(crate) lookback: Duration,
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Names it over reloads and restarts.
    pub(crate) key: String,
    pub(crate) file: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) expr: Arc<str>,
    /// The kind of its detector.
    pub(crate) detector: Option<Arc<str>>,
    pub(crate) interval: Duration,
    pub(crate) limit: usize,
    pub(crate) lateness: Duration,
    /// Index into the plan's `idle_timeouts`.
    pub(crate) watermark: usize,
    pub(crate) samples: usize,
    pub(crate) labels: Texts,
    pub(crate) kind: RuleKind,
    pub(crate) eval: Eval,
    /// Windows by which it begins no alert while records may be missing from them; none of a recording rule, which writes what there is.
    pub(crate) doubts: Vec<Doubt>,
    /// Windows by which it ends no alert while records may be missing from them.
    pub(crate) endings: Vec<Doubt>,
    /// Leaves that it reads, and the largest `offset` by which it reads each.
    pub(crate) leaves: BTreeMap<usize, Duration>,
    /// Labels that the expression's operators make: no record need have them.
    pub(crate) made_labels: BTreeSet<String>,
    pub(crate) bound: Option<(String, f64)>,
}

impl Rule {
    /// `group/rule`
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }
}

impl Rule {
    /// Whether it is an alert that is judged as a polling ruler does.
    pub(crate) fn is_tick(&self) -> bool {
        matches!(self.eval, Eval::Steps { is_tick: true, .. })
    }
}

#[derive(Debug)]
pub(crate) enum RuleKind {
    Alert { hold: Duration, keep_firing_for: Duration, annotations: Texts },
    Record,
}

/// Labels or annotations: as the file has them, and as templates. The labels of a recording rule are no templates.
#[derive(Debug)]
pub(crate) struct Texts(pub(crate) Vec<(String, String, Option<Template>)>);

impl Texts {
    /// As the file has them.
    pub(crate) fn raw(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, text, _)| (name.clone(), text.clone())).collect()
    }
}

/// When a rule is judged.
#[derive(Debug)]
pub(crate) enum Eval {
    /// At each record of a leaf: its value can only rise by that.
    Edge(Edge),
    /// At steps of event time, once the watermark has passed them.
    Steps {
        node: Node,
        step: Duration,
        /// By how much the steps are before the multiples of it.
        ahead: Duration,
        quiet: Duration,
        /// Leaves that have to be known whole, and by which `offset`, before it tells anything.
        whole: Windows,
        /// Leaves whose absence it tells of, and by which `offset`: not before that window is known whole.
        absent: Vec<(usize, Duration)>,
        /// Whether it is `eval: tick`.
        is_tick: bool,
    },
}

/// `count_over_time(...) > 5` and the like: what a record can only make true.
#[derive(Debug)]
pub(crate) struct Edge {
    /// They have the same groups, and so the same keys.
    pub(crate) terms: Vec<Term>,
    /// What is made of them.
    pub(crate) formula: Formula,
    /// Without one, a single record is enough.
    pub(crate) bound: Option<(CompareOp, f64)>,
    /// `max by (...)` around it, or `min by (...)` where it is to be below the bound: the labels of the alerts.
    pub(crate) furthest_of: Option<LabelSet>,
}

/// A leaf as a term of a formula.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) leaf: usize,
    pub(crate) reads: Reads,
}

/// What a term takes from a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reads {
    /// What it counts, by this.
    Count { divisor: f64 },
    /// What a function makes of its samples: the largest, or the smallest.
    Over(OverTime),
}

/// What an edge makes of its terms: their sum, or one times a number, say.
#[derive(Debug)]
pub(crate) enum Formula {
    Term(usize),
    Number(f64),
    Binary(BinaryOp, Box<Formula>, Box<Formula>),
}

impl Formula {
    /// The value; `None` where a term has none.
    pub(crate) fn value(&self, term: &impl Fn(usize) -> Option<f64>) -> Option<f64> {
        match self {
            Self::Term(index) => term(*index),
            Self::Number(number) => Some(*number),
            Self::Binary(op, lhs, rhs) => vector::calculate(*op, lhs.value(term)?, rhs.value(term)?, false),
        }
    }
}

impl Edge {
    pub(crate) fn holds(&self, value: f64) -> bool {
        self.bound.is_none_or(|(op, bound)| compare(op, value, bound))
    }

    /// Whether more records make for less: `min_over_time(...) < 5`.
    pub(crate) fn falls(&self) -> bool {
        matches!(self.bound, Some((CompareOp::Less | CompareOp::LessEqual, _)))
    }

    /// That of two values which is nearer to the bound, or farther beyond it.
    pub(crate) fn furthest(&self, a: f64, b: f64) -> f64 {
        if self.falls() { a.min(b) } else { a.max(b) }
    }

    /// The labels of a group's alert.
    pub(crate) fn labels(&self, group: Labels) -> Labels {
        match &self.furthest_of {
            Some(groups) => groups.select(&group),
            None => group,
        }
    }
}

/// An expression over leaves.
pub(crate) type Node = vector::node::Node<Reading>;

/// A leaf as an expression reads it.
#[derive(Debug)]
pub(crate) enum Reading {
    /// What each group counts, by the divisor: 1 for counts, the range's seconds for rates.
    Count { leaf: usize, divisor: f64, offset: Duration },
    /// A function over each group's samples. Its window is `ahead` of the leaf's, which ends where the future begins.
    Over { leaf: usize, function: OverTime, offset: Duration, ahead: Duration },
    /// 1 with these labels while the leaf has no record.
    Absent { leaf: usize, labels: Labels, offset: Duration },
}

impl Reading {
    /// The leaf, and the `offset` by which it is read.
    pub(crate) fn window(&self) -> (usize, Duration) {
        match self {
            Self::Count { leaf, offset, .. } | Self::Over { leaf, offset, .. } | Self::Absent { leaf, offset, .. } => {
                (*leaf, *offset)
            }
        }
    }

    /// Whether the value changes with the time though the records in the window do not.
    pub(crate) fn slides(&self) -> bool {
        matches!(self, Self::Over { function, .. } if function.op == RangeOp::RateCounter)
    }
}

/// Steps of event time at which alerts that can fall are judged.
pub(crate) const STEP: Duration = Duration::from_secs(1);

/// Stamps of one group that a batch keeps apart, at least and at most.
pub(crate) const BATCH_CELLS: std::ops::RangeInclusive<usize> = 32..=1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_file;

    #[test]
    fn rules_share_what_they_have_in_common() {
        let text = r#"
groups:
  - name: g
    rules:
      - {alert: A, expr: 'sum by (a) (count_over_time({x="1"} |= "e" [1m])) > 1'}
      - {alert: B, expr: 'sum by (a) (rate({x="1"} |= "e" [1m])) > 1'}
      - {alert: C, expr: 'sum by (a) (count_over_time({x="1"} |= "e" [5m])) > 1'}
      - {alert: D, expr: 'sum by (b) (count_over_time({x="1"} |= "e" [1m])) > 1'}
      - {alert: E, expr: 'sum by (a) (bytes_over_time({x="1"} [1m])) > 1'}
"#;
        let file = rule_file::parse("rules.yaml", text).unwrap();
        let plan = Plan::compile(&[file], &EngineConfig::default()).unwrap();
        let counts = (plan.selectors.len(), plan.filters.len(), plan.feeds.len(), plan.leaves.len(), plan.rules.len());
        assert_eq!(counts, (1, 2, 3, 4, 5));
    }
    #[test]
    fn no_two_rules_have_one_key() {
        let text = r#"
groups:
  - {name: a, rules: [{alert: E, expr: 'vector(1)#1'}, {alert: E, expr: vector(1)}, {alert: E, expr: vector(1)}]}
  - {name: a/b, rules: [{alert: c, expr: vector(1)}]}
"#;
        let file = rule_file::parse("rules.yaml", text).unwrap();
        let other =
            rule_file::parse("other.yaml", "groups: [{name: a, rules: [{alert: b/c, expr: vector(1)}]}]").unwrap();
        let plan = Plan::compile(&[file, other], &EngineConfig::default()).unwrap();
        let keys: std::collections::BTreeSet<_> = plan.rules.iter().map(|rule| &rule.key).collect();
        assert_eq!(keys.len(), 5);
        let numbered = plan.rules.iter().filter(|rule| rule.key.starts_with("1 ")).count();
        assert_eq!(numbered, 1, "only what is the same is numbered");
    }
}
