//! From syntax trees to leaves and nodes.

mod gated;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::doubt::{doubts, endings};
use super::whole::{Windows, all, must_be_whole};
use super::{
    Apart, BATCH_CELLS, Dispatch, EngineConfig, Eval, FallibleStage, Feed, Filter, Gate, Keeps, Leaf, Measure, Node,
    Plan, Reading, Rule, RuleKind, STEP, Selector, Texts, edge,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::literal_index::LiteralIndex;
use crate::logql::ast::{
    CompareOp, Grouping, LogExpr, LogRange, MetricExpr, MetricKind, RangeAggregation, RangeOp, Stage, StageKind,
    Unwrap, VectorAggregation, VectorOp,
};
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{ERROR_LABEL, Pipeline, Unsupported};
use crate::query::over_time::OverTime;
use crate::rule_file::{self, EvalMode, RuleFile, RuleGroup};
use crate::template::Template;
use crate::vector::node::Lower;
use crate::vector::{LabelSet, absent_labels};
use crate::window::{WINDOW_CELLS_MAX, WINDOW_CELLS_MAX_DETECT, WINDOW_FINENESS_MAX};

/// Makes the leaves of a rule.
struct Lowering<'l, 'a, 'k> {
    compiler: &'l mut Compiler<'k>,
    context: &'l mut Context<'a>,
}

impl Lower for Lowering<'_, '_, '_> {
    type Leaf = Reading;

    /// A sum over a range aggregation is counted by the sum's labels from the start: there is nothing left to add up.
    fn range(&mut self, aggregation: &RangeAggregation, sum: Option<&VectorAggregation>) -> Result<Node, Unsupported> {
        self.compiler.range(aggregation, sum, self.context)
    }

    fn simplified(&self, aggregation: &VectorAggregation) -> Option<VectorAggregation> {
        sum_of_sums(aggregation)
    }
}

/// Grows a plan rule by rule.
pub(super) struct Compiler<'k> {
    plan: Plan,
    /// Which rules are wanted, by their keys.
    keeps: &'k dyn Fn(&str) -> bool,
    filters: Vec<FilterSource>,
    known: Known,
    mistakes: Vec<Diagnostic>,
}

/// What is in the plan already, and where.
#[derive(Default)]
struct Known {
    /// By their texts.
    selectors: BTreeMap<String, usize>,
    filters: BTreeMap<(String, Usage), usize>,
    feeds: BTreeMap<(usize, LabelSet, Measure, Apart), usize>,
    leaves: BTreeMap<(usize, Keeps, Duration, Duration), usize>,
    /// By their keys.
    gated: BTreeMap<String, usize>,
    /// How often a rule of that meaning is there.
    rules: BTreeMap<String, usize>,
}

/// A filter before all who read from it are known.
struct FilterSource {
    text: String,
    usage: Usage,
    selector: usize,
    log: LogExpr,
    /// The first rule that reads it.
    rule: rule_file::Rule,
    file: Arc<str>,
    file_text: Arc<str>,
    feeds: Vec<usize>,
}

impl FilterSource {
    fn fallible(&self) -> Vec<FallibleStage> {
        let fallible = |stage: &Stage| FallibleStage {
            text: self.rule.expr_text[stage.span.range()].trim().to_owned(),
            start: self.rule.place(&self.file_text, stage.span).start,
            place: stage.span.start,
        };
        self.log.stages.iter().filter(|stage| may_fail(&stage.kind)).map(fallible).collect()
    }
}

fn may_fail(stage: &StageKind) -> bool {
    matches!(
        stage,
        StageKind::Json(_)
            | StageKind::Unpack
            | StageKind::Logfmt { .. }
            | StageKind::Unwrap(_)
            | StageKind::LineFormat(_)
            | StageKind::LabelFormat(_)
            | StageKind::Label(_)
    )
}

/// What is wanted of a filter's records. What the stages do depends on it: filters are shared only where it is the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Usage {
    /// The labels that parsers extract, where they need not extract all. Without a parser all are as good as these.
    labels: Option<Vec<String>>,
    line: bool,
}

impl Usage {
    fn of(log: &LogExpr, groups: &LabelSet, measure: Measure) -> Self {
        let labels = match groups {
            LabelSet::Only(names) if Pipeline::has_parser(&log.stages) => {
                let unwrapped = unwrapped(log).map(|unwrap| unwrap.label.clone());
                Some(names.iter().cloned().chain(unwrapped).collect())
            }
            _ => None,
        };
        let reads_line = matches!(measure, Measure::Bytes | Measure::Patterns);
        Self { labels, line: reads_line && Pipeline::formats_line(&log.stages) }
    }
}

/// The rule that is being lowered.
struct Context<'a> {
    group: &'a RuleGroup,
    rule: &'a rule_file::Rule,
    lateness: Duration,
    /// Index into the plan's `idle_timeouts`.
    watermark: usize,
    /// How far back from the clock it may be judged.
    lookback: Duration,
    samples: usize,
    /// Cells of a window whose range is all that it remembers.
    cells: usize,
    leaves: BTreeMap<usize, Duration>,
}

impl<'k> Compiler<'k> {
    pub(super) fn new(config: &EngineConfig, keeps: &'k dyn Fn(&str) -> bool) -> Self {
        let plan = Plan { config: config.clone(), ..Plan::default() };
        Self { plan, keeps, filters: Vec::new(), known: Known::default(), mistakes: Vec::new() }
    }

    pub(super) fn compile(mut self, files: &[RuleFile]) -> Result<Plan, Vec<Diagnostic>> {
        for group in files.iter().flat_map(|file| &file.groups) {
            for rule in &group.rules {
                let told = self.mistakes.len();
                if let Err(unsupported) = self.rule(group, rule) {
                    self.mistakes.push(mistake(rule.place(&group.file_text, unsupported.span), unsupported));
                }
                self.mistakes[told..].iter_mut().for_each(|mistake| mistake.file = group.file.clone());
            }
        }
        self.compile_filters();
        self.list_readers();
        self.list_steps();
        let leaves: Vec<&str> = self.plan.leaves.iter().map(|leaf| leaf.key.as_str()).collect();
        let read_by = format!("{:?}", self.plan.config);
        self.plan.id = xxhash_rust::xxh3::xxh3_64(format!("{read_by}\n{}", leaves.join("\n")).as_bytes());
        if self.mistakes.is_empty() { Ok(self.plan) } else { Err(self.mistakes) }
    }

    fn rule(&mut self, group: &RuleGroup, rule: &rule_file::Rule) -> Result<(), Unsupported> {
        let key = self.key(group, rule);
        if !(self.keeps)(&key) {
            return Ok(());
        }
        let config = &self.plan.config;
        let interval = group.interval.unwrap_or(config.interval);
        let lateness = rule.options.lateness.unwrap_or(config.lateness) + group.query_offset.unwrap_or_default();
        let samples = match rule.kind {
            rule_file::RuleKind::Alert { .. } => rule.options.samples.unwrap_or(config.samples),
            rule_file::RuleKind::Record { .. } => 0,
        };
        let idle_timeout = rule.options.idle_timeout.unwrap_or(config.idle_timeout);
        let lookback = lateness + idle_timeout + STEP;
        let cells = if rule.detect.is_some() { WINDOW_CELLS_MAX_DETECT } else { WINDOW_CELLS_MAX };
        let watermark = self.watermark(idle_timeout);
        let leaves = BTreeMap::new();
        let mut context = Context { group, rule, lateness, watermark, lookback, samples, cells, leaves };
        let gate = rule.detect.as_ref().and_then(|detect| detect.gate.as_ref());
        let (node, bound) = match gate {
            Some(gate) => (self.gated(gate, &mut context)?, Some((CompareOp::Greater, 0.0))),
            None => {
                let node = Node::lower(&rule.expr, &mut Lowering { compiler: self, context: &mut context })?;
                (node, edge::bound(&rule.expr))
            }
        };
        let mut made_labels = BTreeSet::new();
        node.for_each_made_label(&mut |name| _ = made_labels.insert(name.to_owned()));
        let eval = self.eval(rule, node, bound, interval, group.query_offset.unwrap_or_default());
        let (doubts, endings) = match rule.kind {
            rule_file::RuleKind::Alert { .. } => {
                let doubts = doubts(&eval, rule.detect.as_ref().is_some_and(|detect| detect.waits_warm));
                let endings = endings(&eval, &doubts);
                (doubts, endings)
            }
            rule_file::RuleKind::Record { .. } => (Vec::new(), Vec::new()),
        };
        let (labels, kind) = (self.texts(rule, &rule.labels), self.kind(rule));
        self.plan.rules.push(Rule {
            key,
            file: group.file.clone(),
            group: group.name.clone(),
            name: rule.name().into(),
            expr: rule.expr_text.clone(),
            detector: rule.detect.as_ref().map(|detect| detect.kind.into()),
            interval,
            limit: group.limit,
            lateness,
            watermark,
            samples,
            labels,
            kind,
            eval,
            doubts,
            endings,
            leaves: context.leaves,
            made_labels,
            bound: bound.map(|(op, value)| (op.name().to_owned(), value)),
        });
        Ok(())
    }

    fn watermark(&mut self, idle_timeout: Duration) -> usize {
        let known = &mut self.plan.idle_timeouts;
        known.iter().position(|other| *other == idle_timeout).unwrap_or_else(|| {
            known.push(idle_timeout);
            known.len() - 1
        })
    }

    fn kind(&mut self, rule: &rule_file::Rule) -> RuleKind {
        match &rule.kind {
            rule_file::RuleKind::Alert { hold, keep_firing_for, annotations, .. } => RuleKind::Alert {
                hold: *hold,
                keep_firing_for: *keep_firing_for,
                annotations: self.texts(rule, annotations),
            },
            rule_file::RuleKind::Record { .. } => RuleKind::Record,
        }
    }

    fn texts(&mut self, rule: &rule_file::Rule, texts: &[(String, String)]) -> Texts {
        let mut parsed = Vec::new();
        let is_template = matches!(rule.kind, rule_file::RuleKind::Alert { .. });
        for (name, text) in texts {
            match is_template.then(|| Template::parse(text)).transpose() {
                Ok(template) => parsed.push((name.clone(), text.clone(), template)),
                Err(error) => {
                    self.mistakes.push(Diagnostic::error(codes::TEMPLATE, rule.span.clone(), error.to_string()))
                }
            }
        }
        Texts(parsed)
    }

    /// How often the same rule was there before, and what it means, annotations left out.
    fn key(&mut self, group: &RuleGroup, rule: &rule_file::Rule) -> String {
        let timing = match &rule.kind {
            rule_file::RuleKind::Alert { hold, keep_firing_for, .. } => format!("alert {hold:?} {keep_firing_for:?}"),
            rule_file::RuleKind::Record { .. } => "record".to_owned(),
        };
        let (group, name, text) = (&group.name, rule.name(), &rule.expr_text);
        let gate = rule.detect.as_ref().and_then(|detect| detect.gate.as_ref());
        let gate = gate.map(|gate| format!(" {}", gate.meaning())).unwrap_or_default();
        let meaning = format!("{group:?} {name:?} {timing} {:?} {:?} {text}{gate}", rule.labels, rule.options);
        let count = self.known.rules.entry(meaning.clone()).or_default();
        let before = std::mem::replace(count, *count + 1);
        format!("{before} {meaning}")
    }

    fn eval(
        &mut self,
        rule: &rule_file::Rule,
        node: Node,
        bound: Option<(CompareOp, f64)>,
        interval: Duration,
        query_offset: Duration,
    ) -> Eval {
        let absent = absent_leaves(&node);
        let rule_file::RuleKind::Alert { keep_firing_for, .. } = rule.kind else {
            let (step, quiet, whole) = (interval, Duration::ZERO, Windows::new());
            return Eval::Steps { node, step, ahead: Duration::ZERO, quiet, whole, absent, is_tick: false };
        };
        let is_of_before = rule.detect.as_ref().is_some_and(|detect| detect.waits_warm);
        if rule.options.eval == Some(EvalMode::Tick) {
            let whole = if is_of_before { all(&node) } else { Windows::new() };
            // A ruler looks at multiples of the interval, at what was there so long before.
            let ahead = query_offset.as_nanos() % interval.as_nanos().max(1);
            let ahead = Duration::from_nanos(u64::try_from(ahead).unwrap_or_default());
            return Eval::Steps { node, step: interval, ahead, quiet: keep_firing_for, whole, absent, is_tick: true };
        }
        match edge::edge(&self.plan, bound, &node) {
            Some(edge) => {
                let rule = self.plan.rules.len();
                for term in &edge.terms {
                    let edges = &mut self.plan.leaves[term.leaf].edges;
                    if edges.last() != Some(&rule) {
                        edges.push(rule);
                    }
                }
                edge::keep_apart(&mut self.plan, &edge);
                Eval::Edge(edge)
            }
            None => {
                let whole = if is_of_before { all(&node) } else { must_be_whole(&self.plan, &node) };
                let quiet = interval.max(keep_firing_for);
                Eval::Steps { node, step: STEP, ahead: Duration::ZERO, quiet, whole, absent, is_tick: false }
            }
        }
    }

    fn range(
        &mut self,
        aggregation: &RangeAggregation,
        sum: Option<&VectorAggregation>,
        context: &mut Context<'_>,
    ) -> Result<Node, Unsupported> {
        let LogRange { log, range, offset, .. } = &aggregation.range;
        let grouping = sum.map_or(aggregation.grouping.as_ref(), |sum| sum.grouping.as_ref());
        let groups = match (grouping, sum) {
            _ if aggregation.op == RangeOp::AbsentOverTime => LabelSet::Only(Vec::new()),
            (None, None) => LabelSet::AllBut(Vec::new()),
            (grouping, _) => LabelSet::from(grouping),
        };
        let apart = match aggregation.op == RangeOp::AbsentOverTime || sum.is_some() {
            true => Apart::default(),
            false => Apart {
                errors: may_count_errors(log, &groups, &context.rule.expr_text),
                empty: Pipeline::may_set_empty(&log.stages) && !is_judged(log, &context.rule.expr),
            },
        };
        // Of what is to come nothing is known: a window that reaches into it ends where it begins.
        let ahead = Duration::from_nanos(offset.min(&0).unsigned_abs());
        let offset = Duration::from_nanos(offset.max(&0).unsigned_abs());
        let past = range.saturating_sub(ahead);
        let parameter = aggregation.parameter.unwrap_or_default();
        let function = OverTime { op: aggregation.op, parameter, range: *range };
        let mut leaf = |groups, measure, keeps| {
            let feed = self.feed(log, groups, measure, apart, context)?;
            Ok(self.leaf(feed, keeps, past, offset, context))
        };
        let reading = match (aggregation.op, unwrapped(log)) {
            (RangeOp::AbsentOverTime, _) => {
                let leaf = leaf(groups, Measure::Records, Keeps::Counts)?;
                Reading::Absent { leaf, labels: absent_labels(log), offset }
            }
            (op, Some(unwrap)) => {
                let keeps = if op == RangeOp::QuantileOverTime { Keeps::Samples } else { Keeps::Summaries };
                let leaf = leaf(without_unwrapped(groups, &unwrap.label), Measure::Unwrapped, keeps)?;
                Reading::Over { leaf, function, offset, ahead }
            }
            (op, None) => {
                let is_bytes = matches!(op, RangeOp::BytesOverTime | RangeOp::BytesRate);
                let is_rate = matches!(op, RangeOp::Rate | RangeOp::BytesRate);
                let measure = if is_bytes { Measure::Bytes } else { Measure::Records };
                let divisor = if is_rate { range.as_secs_f64() } else { 1.0 };
                Reading::Count { leaf: leaf(groups, measure, Keeps::Counts)?, divisor, offset }
            }
        };
        Ok(Node::Leaf(reading))
    }

    fn leaf(
        &mut self,
        feed: usize,
        keeps: Keeps,
        range: Duration,
        offset: Duration,
        context: &mut Context<'_>,
    ) -> usize {
        let known = self.known.leaves.get(&(feed, keeps, range, offset)).copied();
        let at = known.unwrap_or_else(|| self.new_leaf(feed, keeps, range, offset));
        let leaf = &mut self.plan.leaves[at];
        leaf.retention = leaf.retention.max(range + offset + context.lookback);
        // A window that looks back far is as fine as one that does not, as far as that goes.
        let fineness = leaf.retention.as_nanos().div_ceil((range + context.lookback).as_nanos().max(1)) as usize;
        leaf.cells_max = leaf.cells_max.max(context.cells * fineness.min(WINDOW_FINENESS_MAX));
        leaf.samples = leaf.samples.max(context.samples);
        let feed = &mut self.plan.feeds[feed];
        feed.samples = feed.samples.max(context.samples);
        feed.grain = feed.grain.min(range / *BATCH_CELLS.end() as u32);
        let largest = context.leaves.entry(at).or_default();
        *largest = offset.max(*largest);
        at
    }

    /// One with an `offset` is a leaf of its own: what it must remember for long would make the others coarse.
    fn new_leaf(&mut self, feed: usize, keeps: Keeps, range: Duration, offset: Duration) -> usize {
        let at = self.plan.leaves.len();
        let Feed { filter, groups, measure, apart, leaves, .. } = &mut self.plan.feeds[feed];
        let back = if offset.is_zero() { String::new() } else { format!(" offset {offset:?}") };
        let apart = if *apart == Apart::default() { String::new() } else { format!(" {apart:?}") };
        let key = format!("{} {groups:?} {measure:?} {keeps:?} {range:?}{back}{apart}", self.filters[*filter].text);
        leaves.push(at);
        self.known.leaves.insert((feed, keeps, range, offset), at);
        let (retention, cells_max, samples, edges, gate) = (range, 0, 0, Vec::new(), None);
        self.plan.leaves.push(Leaf { key, feed, keeps, range, retention, cells_max, samples, edges, gate });
        at
    }

    fn feed(
        &mut self,
        log: &LogExpr,
        groups: LabelSet,
        measure: Measure,
        apart: Apart,
        context: &Context<'_>,
    ) -> Result<usize, Unsupported> {
        let filter = self.filter(log, Usage::of(log, &groups, measure), context)?;
        let known = (filter, groups.clone(), measure, apart);
        if let Some(at) = self.known.feeds.get(&known) {
            return Ok(*at);
        }
        let at = self.plan.feeds.len();
        self.known.feeds.insert(known, at);
        let cells_max = *BATCH_CELLS.start();
        let leaves = Vec::new();
        let names = match &groups {
            LabelSet::Only(names) => names.iter().map(|name| name.as_str().into()).collect(),
            LabelSet::AllBut(_) => Vec::new(),
        };
        self.plan.feeds.push(Feed {
            filter,
            groups,
            names,
            measure,
            apart,
            cells_max,
            grain: Duration::MAX,
            samples: 0,
            leaves,
        });
        self.filters[filter].feeds.push(at);
        Ok(at)
    }

    fn filter(&mut self, log: &LogExpr, usage: Usage, context: &Context<'_>) -> Result<usize, Unsupported> {
        let text = &context.rule.expr_text[log.span.range()];
        let known = (text.to_owned(), usage.clone());
        if let Some(at) = self.known.filters.get(&known) {
            return Ok(*at);
        }
        let selector = self.selector(log, &context.rule.expr_text)?;
        self.known.filters.insert(known, self.filters.len());
        self.filters.push(FilterSource {
            text: text.to_owned(),
            usage,
            selector,
            log: log.clone(),
            rule: context.rule.clone(),
            file: context.group.file.clone(),
            file_text: context.group.file_text.clone(),
            feeds: Vec::new(),
        });
        Ok(self.filters.len() - 1)
    }

    fn selector(&mut self, log: &LogExpr, expr_text: &str) -> Result<usize, Unsupported> {
        let text = &expr_text[log.selector.span.range()];
        if let Some(at) = self.known.selectors.get(text) {
            return Ok(*at);
        }
        let mut matchers = Vec::new();
        for matcher in &log.selector.matchers {
            matchers.push((matcher.name.clone(), TextMatcher::compile(matcher)?));
        }
        let at = self.plan.selectors.len();
        self.known.selectors.insert(text.to_owned(), at);
        self.plan.selectors.push(Selector { matchers, filters: Vec::new() });
        Ok(at)
    }

    /// Compiles the pipelines, now that it is known which labels are read from each.
    fn compile_filters(&mut self) {
        let mut literals = Vec::new();
        for (at, source) in self.filters.iter().enumerate() {
            let of_feeds = || wanted_labels(source.feeds.iter().map(|feed| &self.plan.feeds[*feed]));
            let wanted = source.usage.labels.clone().or_else(of_feeds);
            let compile = if source.usage.line { Pipeline::compile } else { Pipeline::compile_without_line };
            match compile(&source.log.stages, wanted.as_deref()) {
                Ok(pipeline) => {
                    let required = pipeline.required_literals();
                    let indexed = !required.is_empty();
                    literals.extend(required.into_iter().map(|literal| (literal, at as u32)));
                    let feeds = source.feeds.clone();
                    let reads_labels = pipeline.reads_labels() || wanted.is_none_or(|wanted| !wanted.is_empty());
                    self.plan.filters.push(Filter {
                        selector: source.selector,
                        pipeline,
                        indexed,
                        reads_labels,
                        feeds,
                        readers: BTreeMap::new(),
                        file: source.file.clone(),
                        file_text: source.file_text.clone(),
                        fallible: source.fallible(),
                    });
                }
                Err(unsupported) => {
                    let place = source.rule.place(&source.file_text, unsupported.span);
                    self.mistakes.push(Diagnostic { file: source.file.clone(), ..mistake(place, unsupported) });
                }
            }
        }
        self.plan.literals = LiteralIndex::new(literals);
        for (at, filter) in self.plan.filters.iter().enumerate() {
            self.plan.selectors[filter.selector].filters.push(at as u32);
        }
        self.plan.dispatch = Dispatch::new(&self.plan.selectors);
    }

    fn list_steps(&mut self) {
        let rules = self.plan.rules.iter().enumerate();
        let steps = rules.filter(|(_, rule)| matches!(rule.eval, Eval::Steps { .. }));
        self.plan.steps = steps.map(|(at, _)| at).collect();
        let leaves = self.plan.leaves.iter().enumerate();
        let sequences = leaves.clone().filter(|(_, leaf)| matches!(leaf.gate, Some(Gate::Sequence(_))));
        self.plan.sequences = sequences.map(|(at, _)| at).collect();
        self.plan.waiting = leaves.filter(|(_, leaf)| leaf.waits()).map(|(at, _)| at).collect();
    }

    fn list_readers(&mut self) {
        for (at, rule) in self.plan.rules.iter().enumerate() {
            let lookback = rule.lateness + self.plan.idle_timeouts[rule.watermark] + STEP;
            for (leaf, offset) in &rule.leaves {
                let leaf = &self.plan.leaves[*leaf];
                for feed in leaf.feeds() {
                    let Some(filter) = self.plan.filters.get_mut(self.plan.feeds[feed].filter) else { continue };
                    let furthest = filter.readers.entry(at).or_default();
                    *furthest = (leaf.range + *offset + lookback).max(*furthest);
                }
            }
        }
    }
}

fn absent_leaves(node: &Node) -> Vec<(usize, Duration)> {
    let mut absent = Vec::new();
    node.for_each_leaf(&mut |reading| match reading {
        Reading::Absent { leaf, offset, .. } => absent.push((*leaf, *offset)),
        Reading::Count { .. } | Reading::Over { .. } => {}
    });
    absent
}

fn mistake(place: Range<usize>, unsupported: Unsupported) -> Diagnostic {
    Diagnostic::error(codes::NOT_EVALUATED, place, unsupported.message)
}

/// Labels that the feeds group by; `None` where one of them needs all there are.
fn wanted_labels<'a>(feeds: impl Iterator<Item = &'a Feed>) -> Option<Vec<String>> {
    let mut wanted = Vec::new();
    for feed in feeds {
        match &feed.groups {
            LabelSet::Only(names) => wanted.extend(names.iter().cloned()),
            LabelSet::AllBut(_) => return None,
        }
    }
    Some(wanted)
}

/// A sum over sums of counts as one sum, which records can only make larger. Of counts alone: they are whole numbers, so that it does not
/// matter in which order they are added up.
pub(crate) fn sum_of_sums(aggregation: &VectorAggregation) -> Option<VectorAggregation> {
    let MetricKind::Vector(inner) = &aggregation.expr.kind else { return None };
    let inner = sum_of_sums(inner).unwrap_or_else(|| inner.clone());
    let counts = match &inner.expr.kind {
        MetricKind::Range(range) => matches!(range.op, RangeOp::CountOverTime | RangeOp::BytesOverTime),
        _ => false,
    };
    let is_sum = aggregation.op == VectorOp::Sum && inner.op == VectorOp::Sum && counts;
    let grouping = || grouping_of_both(aggregation.grouping.as_ref()?, inner.grouping.as_ref()?);
    is_sum.then(|| VectorAggregation { grouping: grouping(), ..inner.clone() })
}

/// The labels that both groupings leave; `None` where there is none, or one of them leaves none.
fn grouping_of_both(outer: &Grouping, inner: &Grouping) -> Option<Grouping> {
    let (a, b) = (&outer.labels, &inner.labels);
    let (without, labels): (bool, Vec<String>) = match (outer.without, inner.without) {
        (false, false) => (false, a.iter().filter(|name| b.contains(name)).cloned().collect()),
        (false, true) => (false, a.iter().filter(|name| !b.contains(name)).cloned().collect()),
        (true, false) => (false, b.iter().filter(|name| !a.contains(name)).cloned().collect()),
        (true, true) => (true, a.iter().chain(b).cloned().collect()),
    };
    Some(Grouping { without, labels, span: outer.span })
}

/// Whether each group of these records is what the rule judges, and not what an operator makes one of several of.
fn is_judged(log: &LogExpr, expr: &MetricExpr) -> bool {
    match &expr.kind {
        MetricKind::Range(range) => range.range.log.span == log.span,
        MetricKind::Binary(binary) => is_judged(log, &binary.lhs) || is_judged(log, &binary.rhs),
        _ => false,
    }
}

/// Whether records may count in spite of an error, grouped by these labels. `expr` is the text of the expression.
fn may_count_errors(log: &LogExpr, groups: &LabelSet, expr: &str) -> bool {
    let LabelSet::Only(names) = groups else { return false };
    let are_asked_for = names.iter().any(|name| name == ERROR_LABEL) || expr[log.span.range()].contains(ERROR_LABEL);
    are_asked_for && Pipeline::may_count_errors(&log.stages)
}

/// The `unwrap` among the stages.
fn unwrapped(log: &LogExpr) -> Option<&Unwrap> {
    log.stages.iter().find_map(|stage| match &stage.kind {
        StageKind::Unwrap(unwrap) => Some(unwrap),
        _ => None,
    })
}

/// The label that is unwrapped is none of the series', unless it is asked for.
fn without_unwrapped(groups: LabelSet, label: &str) -> LabelSet {
    match groups {
        LabelSet::AllBut(names) => LabelSet::AllBut(names.into_iter().chain([label.to_owned()]).collect()),
        only => only,
    }
}
