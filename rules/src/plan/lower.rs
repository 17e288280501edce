//! From syntax trees to leaves and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{
    BATCH_CELLS, Edge, EngineConfig, Eval, Feed, Filter, Formula, Keeps, Leaf, Measure, Node, Plan, Reading, Reads,
    Rule, RuleKind, STEP, Selector, Term, Texts,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::literal_index::LiteralIndex;
use crate::logql::ast::{
    BinaryOp, CompareOp, Grouping, LogExpr, LogRange, MatchCardinality, MetricExpr, MetricKind, RangeAggregation,
    RangeOp, StageKind, Unwrap, VectorAggregation, VectorOp,
};
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{Pipeline, Unsupported};
use crate::query::over_time::OverTime;
use crate::rule_file::{self, EvalMode, RuleFile, RuleGroup};
use crate::template::Template;
use crate::vector::node::Lower;
use crate::vector::{Join, LabelSet, absent_labels};

/// Makes the leaves of a rule.
struct Lowering<'l, 'a> {
    compiler: &'l mut Compiler,
    context: &'l mut Context<'a>,
}

impl Lower for Lowering<'_, '_> {
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
pub(super) struct Compiler {
    plan: Plan,
    selectors: Vec<String>,
    filters: Vec<FilterSource>,
    mistakes: Vec<Diagnostic>,
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

/// What is wanted of a filter's records. What the stages do depends on it: filters are shared only where it is the same.
#[derive(Clone, PartialEq, Eq)]
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
        Self { labels, line: measure == Measure::Bytes && Pipeline::formats_line(&log.stages) }
    }
}

/// The rule that is being lowered.
struct Context<'a> {
    group: &'a RuleGroup,
    rule: &'a rule_file::Rule,
    /// How far back from the clock it may be judged.
    lookback: Duration,
    samples: usize,
    leaves: BTreeMap<usize, Duration>,
}

impl Compiler {
    pub(super) fn new(config: &EngineConfig) -> Self {
        let plan = Plan { config: config.clone(), ..Plan::default() };
        Self { plan, selectors: Vec::new(), filters: Vec::new(), mistakes: Vec::new() }
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
        let leaves: Vec<&str> = self.plan.leaves.iter().map(|leaf| leaf.key.as_str()).collect();
        let read_by = format!("{:?}", self.plan.config);
        self.plan.id = xxhash_rust::xxh3::xxh3_64(format!("{read_by}\n{}", leaves.join("\n")).as_bytes());
        if self.mistakes.is_empty() { Ok(self.plan) } else { Err(self.mistakes) }
    }

    fn rule(&mut self, group: &RuleGroup, rule: &rule_file::Rule) -> Result<(), Unsupported> {
        let config = &self.plan.config;
        let interval = group.interval.unwrap_or(config.interval);
        let lateness = rule.options.lateness.unwrap_or(config.lateness) + group.query_offset.unwrap_or_default();
        let samples = match rule.kind {
            rule_file::RuleKind::Alert { .. } => rule.options.samples.unwrap_or(config.samples),
            rule_file::RuleKind::Record { .. } => 0,
        };
        let idle_timeout = rule.options.idle_timeout.unwrap_or(config.idle_timeout);
        let lookback = lateness + idle_timeout + STEP;
        let mut context = Context { group, rule, lookback, samples, leaves: BTreeMap::new() };
        let node = Node::lower(&rule.expr, &mut Lowering { compiler: self, context: &mut context })?;
        let mut made_labels = BTreeSet::new();
        node.for_each_made_label(&mut |name| _ = made_labels.insert(name.to_owned()));
        let eval = self.eval(rule, node, interval);
        let (labels, kind, watermark) = (self.texts(rule, &rule.labels), self.kind(rule), self.watermark(idle_timeout));
        self.plan.rules.push(Rule {
            key: self.key(group, rule),
            file: group.file.clone(),
            group: group.name.clone(),
            name: rule.name().into(),
            expr: rule.expr_text.clone(),
            interval,
            limit: group.limit,
            lateness,
            watermark,
            samples,
            labels,
            kind,
            eval,
            leaves: context.leaves,
            made_labels,
            bound: bound(&rule.expr).map(|(op, value)| (op.name().to_owned(), value)),
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
    fn key(&self, group: &RuleGroup, rule: &rule_file::Rule) -> String {
        let timing = match &rule.kind {
            rule_file::RuleKind::Alert { hold, keep_firing_for, .. } => format!("alert {hold:?} {keep_firing_for:?}"),
            rule_file::RuleKind::Record { .. } => "record".to_owned(),
        };
        let (group, name, text) = (&group.name, rule.name(), &rule.expr_text);
        let meaning = format!("{group:?} {name:?} {timing} {:?} {:?} {text}", rule.labels, rule.options);
        let is_same = |other: &&Rule| other.key.split_once(' ').is_some_and(|(_, other)| other == meaning);
        let before = self.plan.rules.iter().filter(is_same).count();
        format!("{before} {meaning}")
    }

    fn eval(&mut self, rule: &rule_file::Rule, node: Node, interval: Duration) -> Eval {
        let rule_file::RuleKind::Alert { keep_firing_for, .. } = rule.kind else {
            return Eval::Steps { node, step: interval, quiet: Duration::ZERO, waits_warm: false, is_tick: false };
        };
        if rule.options.eval == Some(EvalMode::Tick) {
            return Eval::Steps { node, step: interval, quiet: keep_firing_for, waits_warm: false, is_tick: true };
        }
        match self.edge(&rule.expr, &node) {
            Some(edge) => {
                let rule = self.plan.rules.len();
                for term in &edge.terms {
                    let edges = &mut self.plan.leaves[term.leaf].edges;
                    if edges.last() != Some(&rule) {
                        edges.push(rule);
                    }
                }
                self.keep_apart(&edge);
                Eval::Edge(edge)
            }
            None => {
                let waits_warm = tells_of_too_little(&node);
                Eval::Steps { node, step: STEP, quiet: interval.max(keep_firing_for), waits_warm, is_tick: false }
            }
        }
    }

    /// The expression as one that a record can only make true.
    fn edge(&self, expr: &MetricExpr, node: &Node) -> Option<Edge> {
        let bound = bound(expr);
        let (value, furthest) = match (node, bound) {
            (Node::Binary { lhs, rhs, .. }, Some((op, _))) => {
                let furthest = match op {
                    CompareOp::Greater | CompareOp::GreaterEqual => VectorOp::Max,
                    CompareOp::Less | CompareOp::LessEqual => VectorOp::Min,
                    CompareOp::Equal | CompareOp::NotEqual => return None,
                };
                (if matches!(**lhs, Node::Number(_)) { &**rhs } else { &**lhs }, furthest)
            }
            _ => (node, VectorOp::Max),
        };
        let (value, furthest_of) = match value {
            Node::Aggregate { op, groups, expr, .. } if *op == furthest => (&**expr, Some(groups.clone())),
            value => (value, None),
        };
        let mut terms = Vec::new();
        let formula = self.formula(value, furthest, &mut terms)?;
        (!terms.is_empty()).then_some(Edge { terms, formula, bound, furthest_of })
    }

    /// A node as a formula that records can only make larger (or smaller, where `furthest` is the minimum).
    fn formula(&self, node: &Node, furthest: VectorOp, terms: &mut Vec<Term>) -> Option<Formula> {
        match node {
            Node::Number(number) => Some(Formula::Number(*number)),
            Node::Leaf(reading) => {
                terms.push(term(reading, furthest)?);
                Some(Formula::Term(terms.len() - 1))
            }
            Node::Binary { op, join, lhs, rhs, .. } => {
                let before = terms.len();
                let left = self.formula(lhs, furthest, terms)?;
                let between = terms.len();
                let right = self.formula(rhs, furthest, terms)?;
                let of_left = (between > before).then(|| terms[before]);
                let of_right = (terms.len() > between).then(|| terms[between]);
                let keeps_order = match (op, &left, &right) {
                    (BinaryOp::Add, ..) => of_left.zip(of_right).is_none_or(|(a, b)| self.belong_together(a, b, join)),
                    (BinaryOp::Sub, _, Formula::Number(_)) => true,
                    (BinaryOp::Mul, Formula::Number(number), _) => *number > 0.0,
                    (BinaryOp::Mul | BinaryOp::Div, _, Formula::Number(number)) => *number > 0.0,
                    _ => false,
                };
                keeps_order.then(|| Formula::Binary(*op, Box::new(left), Box::new(right)))
            }
            _ => None,
        }
    }

    /// Whether elements are joined where all their labels are the same.
    fn belong_together(&self, a: Term, b: Term, join: &Join) -> bool {
        let groups = |term: Term| &self.plan.feeds[self.plan.leaves[term.leaf].feed].groups;
        let by_all_labels = join.labels == LabelSet::AllBut(Vec::new()) || join.labels == *groups(b);
        groups(a) == groups(b) && by_all_labels && join.card == MatchCardinality::OneToOne
    }

    /// Sees to it that a batch keeps as many stamps of a group apart as the bound needs.
    fn keep_apart(&mut self, edge: &Edge) {
        for (index, term) in edge.terms.iter().enumerate() {
            let Reads::Count { divisor } = term.reads else { continue };
            let of_this = |count| move |other| Some(if other == index { count / divisor } else { 0.0 });
            let (Some(none), Some(one)) = (edge.formula.value(&of_this(0.0)), edge.formula.value(&of_this(1.0))) else {
                continue;
            };
            let feed = &mut self.plan.feeds[self.plan.leaves[term.leaf].feed];
            let wanted = edge.bound.map_or(1.0, |(_, bound)| (bound - none) / (one - none) + 1.0);
            if feed.measure == Measure::Records && wanted <= *BATCH_CELLS.end() as f64 {
                feed.cells_max = feed.cells_max.max(wanted.max(0.0) as usize);
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
        // Of what is to come nothing is known: a window that reaches into it ends where it begins.
        let ahead = Duration::from_nanos(offset.min(&0).unsigned_abs());
        let offset = Duration::from_nanos(offset.max(&0).unsigned_abs());
        let past = range.saturating_sub(ahead);
        let parameter = aggregation.parameter.unwrap_or_default();
        let function = OverTime { op: aggregation.op, parameter, range: *range };
        let mut leaf = |groups, measure, keeps| {
            let feed = self.feed(log, groups, measure, context)?;
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
        let is_same = |leaf: &Leaf| leaf.feed == feed && leaf.keeps == keeps && leaf.range == range;
        let known = self.plan.leaves.iter().position(is_same);
        let at = known.unwrap_or_else(|| self.new_leaf(feed, keeps, range));
        let leaf = &mut self.plan.leaves[at];
        leaf.retention = leaf.retention.max(range + offset + context.lookback);
        leaf.samples = leaf.samples.max(context.samples);
        let feed = &mut self.plan.feeds[feed];
        feed.samples = feed.samples.max(context.samples);
        feed.grain = feed.grain.min(range / *BATCH_CELLS.end() as u32);
        let largest = context.leaves.entry(at).or_default();
        *largest = offset.max(*largest);
        at
    }

    fn new_leaf(&mut self, feed: usize, keeps: Keeps, range: Duration) -> usize {
        let at = self.plan.leaves.len();
        let Feed { filter, groups, measure, leaves, .. } = &mut self.plan.feeds[feed];
        let key = format!("{} {groups:?} {measure:?} {keeps:?} {range:?}", self.filters[*filter].text);
        leaves.push(at);
        self.plan.leaves.push(Leaf { key, feed, keeps, range, retention: range, samples: 0, edges: Vec::new() });
        at
    }

    fn feed(
        &mut self,
        log: &LogExpr,
        groups: LabelSet,
        measure: Measure,
        context: &Context<'_>,
    ) -> Result<usize, Unsupported> {
        let filter = self.filter(log, Usage::of(log, &groups, measure), context)?;
        let is_same = |feed: &Feed| feed.filter == filter && feed.groups == groups && feed.measure == measure;
        if let Some(at) = self.plan.feeds.iter().position(is_same) {
            return Ok(at);
        }
        let at = self.plan.feeds.len();
        let cells_max = *BATCH_CELLS.start();
        let leaves = Vec::new();
        self.plan.feeds.push(Feed { filter, groups, measure, cells_max, grain: Duration::MAX, samples: 0, leaves });
        self.filters[filter].feeds.push(at);
        Ok(at)
    }

    fn filter(&mut self, log: &LogExpr, usage: Usage, context: &Context<'_>) -> Result<usize, Unsupported> {
        let text = &context.rule.expr_text[log.span.range()];
        if let Some(at) = self.filters.iter().position(|filter| filter.text == text && filter.usage == usage) {
            return Ok(at);
        }
        let selector = self.selector(log, &context.rule.expr_text)?;
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
        if let Some(at) = self.selectors.iter().position(|selector| selector == text) {
            return Ok(at);
        }
        let mut matchers = Vec::new();
        for matcher in &log.selector.matchers {
            matchers.push((matcher.name.clone(), TextMatcher::compile(matcher)?));
        }
        self.selectors.push(text.to_owned());
        self.plan.selectors.push(Selector { matchers });
        Ok(self.selectors.len() - 1)
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
                    });
                }
                Err(unsupported) => {
                    let place = source.rule.place(&source.file_text, unsupported.span);
                    self.mistakes.push(Diagnostic { file: source.file.clone(), ..mistake(place, unsupported) });
                }
            }
        }
        self.plan.literals = LiteralIndex::new(literals);
    }

    fn list_readers(&mut self) {
        for (at, rule) in self.plan.rules.iter().enumerate() {
            let lookback = rule.lateness + self.plan.idle_timeouts[rule.watermark] + STEP;
            for (leaf, offset) in &rule.leaves {
                let leaf = &self.plan.leaves[*leaf];
                let Some(filter) = self.plan.filters.get_mut(self.plan.feeds[leaf.feed].filter) else { continue };
                let furthest = filter.readers.entry(at).or_default();
                *furthest = (leaf.range + *offset + lookback).max(*furthest);
            }
        }
    }
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

/// The comparison with a literal that the expression is, turned so that the literal stands right.
fn bound(expr: &MetricExpr) -> Option<(CompareOp, f64)> {
    let MetricKind::Binary(binary) = &expr.kind else { return None };
    let BinaryOp::Compare(op) = binary.op else { return None };
    match (&binary.lhs.kind, &binary.rhs.kind) {
        _ if binary.return_bool => None,
        (_, MetricKind::Number(bound)) => Some((op, *bound)),
        (MetricKind::Number(bound), _) => Some((turned(op), *bound)),
        _ => None,
    }
}

fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        CompareOp::Equal | CompareOp::NotEqual => op,
    }
}

/// Whether it is `... < number` of what only grows with the records, or `... > number` of what only shrinks: true of windows that are not
/// known whole, too.
fn tells_of_too_little(node: &Node) -> bool {
    let Node::Binary { op: BinaryOp::Compare(op), lhs, rhs, .. } = node else { return false };
    let (value, op) = match (&**lhs, &**rhs) {
        (value, Node::Number(_)) => (value, *op),
        (Node::Number(_), value) => (value, turned(*op)),
        _ => return false,
    };
    match op {
        CompareOp::Less | CompareOp::LessEqual => grows(value),
        CompareOp::Greater | CompareOp::GreaterEqual => shrinks(value),
        CompareOp::Equal | CompareOp::NotEqual => false,
    }
}

/// Whether a record can only lower the values of an expression, or add one.
fn shrinks(node: &Node) -> bool {
    match node {
        Node::Leaf(Reading::Over { function, .. }) => function.op == RangeOp::MinOverTime,
        Node::Aggregate { op: VectorOp::Min, expr, .. } => shrinks(expr),
        _ => false,
    }
}

/// Whether a record can only raise the values of an expression, or add one.
fn grows(node: &Node) -> bool {
    match node {
        Node::Leaf(Reading::Count { .. }) => true,
        Node::Leaf(Reading::Over { function, .. }) => function.op == RangeOp::MaxOverTime,
        Node::Aggregate { op: VectorOp::Sum, expr, .. } => grows(expr) && is_never_negative(expr),
        Node::Aggregate { op: VectorOp::Max | VectorOp::Count, expr, .. } => grows(expr),
        Node::Binary { op: BinaryOp::Or, lhs, rhs, .. } => {
            grows(lhs) && matches!(**rhs, Node::Vector(value) if value <= 0.0)
        }
        Node::Binary { op: BinaryOp::Add, lhs, rhs, .. } => match (&**lhs, &**rhs) {
            (value, Node::Number(_)) | (Node::Number(_), value) => grows(value),
            (lhs, rhs) => grows(lhs) && grows(rhs),
        },
        Node::Binary { op: BinaryOp::Mul, lhs, rhs, .. } => match (&**lhs, &**rhs) {
            (value, Node::Number(number)) | (Node::Number(number), value) => *number > 0.0 && grows(value),
            _ => false,
        },
        Node::Binary { op: BinaryOp::Div, lhs, rhs, .. } => {
            grows(lhs) && matches!(**rhs, Node::Number(number) if number > 0.0)
        }
        _ => false,
    }
}

/// Whether no element is below zero.
fn is_never_negative(node: &Node) -> bool {
    match node {
        Node::Leaf(reading) => !matches!(reading, Reading::Over { .. }),
        Node::Number(number) | Node::Vector(number) => *number >= 0.0,
        Node::Aggregate { expr, .. } => is_never_negative(expr),
        Node::Binary { op: BinaryOp::Add | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Or, lhs, rhs, .. } => {
            is_never_negative(lhs) && is_never_negative(rhs)
        }
        _ => false,
    }
}

/// A leaf as a term of what can only get larger, or smaller.
fn term(reading: &Reading, furthest: VectorOp) -> Option<Term> {
    let is_edge =
        |op| matches!((op, furthest), (RangeOp::MaxOverTime, VectorOp::Max) | (RangeOp::MinOverTime, VectorOp::Min));
    match reading {
        Reading::Count { leaf, divisor, offset } if offset.is_zero() && furthest == VectorOp::Max => {
            Some(Term { leaf: *leaf, reads: Reads::Count { divisor: *divisor } })
        }
        Reading::Over { leaf, function, offset, .. } if offset.is_zero() && is_edge(function.op) => {
            Some(Term { leaf: *leaf, reads: Reads::Over(*function) })
        }
        _ => None,
    }
}

/// A sum over sums of counts as one sum, which records can only make larger. Of counts alone: they are whole numbers, so that it does not
/// matter in which order they are added up.
fn sum_of_sums(aggregation: &VectorAggregation) -> Option<VectorAggregation> {
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
