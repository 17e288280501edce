//! From syntax trees to leaves and nodes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{
    BATCH_CELLS, Edge, EngineConfig, Eval, Feed, Filter, Leaf, Measure, Node, Plan, Rule, RuleKind, STEP, Scale,
    Selector, Term, Texts,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::literal_index::LiteralIndex;
use crate::logql::ast::{
    BinaryExpr, BinaryOp, CompareOp, LogExpr, MatchCardinality, MetricExpr, MetricKind, RangeAggregation, RangeOp,
    VectorAggregation, VectorOp,
};
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{Pipeline, Unsupported};
use crate::rule_file::{self, EvalMode, RuleFile, RuleGroup};
use crate::template::Template;
use crate::vector::{Join, LabelSet, absent_labels};

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
#[derive(Clone, Copy, PartialEq, Eq)]
struct Usage {
    labels: UsedLabels,
    line: bool,
}

/// Matters to parsers alone: without one all are as good as wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UsedLabels {
    All,
    Some,
    None,
}

impl Usage {
    fn of(log: &LogExpr, groups: &LabelSet, measure: Measure) -> Self {
        let labels = match groups {
            LabelSet::Only(names) if Pipeline::has_parser(&log.stages) => {
                if names.is_empty() {
                    UsedLabels::None
                } else {
                    UsedLabels::Some
                }
            }
            _ => UsedLabels::All,
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
        let node = self.node(&rule.expr, &mut context)?;
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
                    self.keep_apart(term, edge.bound);
                }
                Eval::Edge(edge)
            }
            None => {
                let waits_warm = tells_of_too_little(&node);
                Eval::Steps { node, step: STEP, quiet: interval.max(keep_firing_for), waits_warm, is_tick: false }
            }
        }
    }

    /// The expression as one that a record can only make true: a sum of leaves, or one above a bound.
    fn edge(&self, expr: &MetricExpr, node: &Node) -> Option<Edge> {
        let bound = bound(expr);
        let sum = match (node, bound) {
            (Node::Binary { lhs, rhs, .. }, Some((CompareOp::Greater | CompareOp::GreaterEqual, _))) => {
                if matches!(**lhs, Node::Number(_)) { rhs } else { lhs }
            }
            (node, None) => node,
            _ => return None,
        };
        Some(Edge { terms: self.terms(sum)?, bound })
    }

    /// The terms of a sum whose elements belong together where their labels are the same.
    fn terms(&self, node: &Node) -> Option<Vec<Term>> {
        let Node::Binary { op: BinaryOp::Add, join, lhs, rhs, .. } = node else {
            return scaled_leaf(node).map(|term| vec![term]);
        };
        let mut terms = self.terms(lhs)?;
        let term = scaled_leaf(rhs)?;
        let groups = |term: &Term| &self.plan.feeds[self.plan.leaves[term.leaf].feed].groups;
        let by_all_labels = join.labels == LabelSet::AllBut(Vec::new()) || join.labels == *groups(&term);
        if groups(&terms[0]) != groups(&term) || !by_all_labels || join.card != MatchCardinality::OneToOne {
            return None;
        }
        terms.push(term);
        Some(terms)
    }

    /// Sees to it that a batch keeps as many stamps of a group apart as the bound needs.
    fn keep_apart(&mut self, term: &Term, bound: Option<(CompareOp, f64)>) {
        let feed = &mut self.plan.feeds[self.plan.leaves[term.leaf].feed];
        let wanted = bound.map_or(1.0, |(_, bound)| bound / term.scale.value(1) + 1.0);
        if feed.measure == Measure::Records && wanted <= *BATCH_CELLS.end() as f64 {
            feed.cells_max = feed.cells_max.max(wanted.max(0.0) as usize);
        }
    }

    fn node(&mut self, expr: &MetricExpr, context: &mut Context<'_>) -> Result<Node, Unsupported> {
        match &expr.kind {
            MetricKind::Range(range) => self.range(range, None, context),
            MetricKind::Vector(aggregation) => self.aggregation(aggregation, context),
            MetricKind::Binary(binary) => self.binary(binary, context),
            MetricKind::Number(number) => Ok(Node::Number(*number)),
            MetricKind::VectorFn(number) => Ok(Node::Vector(*number)),
            MetricKind::LabelReplace { .. } => Err(Unsupported::new(expr.span, "`label_replace` is not evaluated yet")),
            MetricKind::Variants { .. } => Err(Unsupported::new(expr.span, "`variants` is not evaluated yet")),
        }
    }

    /// A sum over a range aggregation is counted by the sum's labels from the start.
    fn aggregation(&mut self, aggregation: &VectorAggregation, context: &mut Context<'_>) -> Result<Node, Unsupported> {
        let groups = LabelSet::from(aggregation.grouping.as_ref());
        match (&aggregation.op, &aggregation.expr.kind) {
            (VectorOp::Sum, MetricKind::Range(range))
                if range.grouping.is_none() && range.op != RangeOp::AbsentOverTime =>
            {
                self.range(range, Some(groups), context)
            }
            (VectorOp::Sum | VectorOp::Count | VectorOp::Min | VectorOp::Max | VectorOp::Avg, _) => {
                let expr = Box::new(self.node(&aggregation.expr, context)?);
                Ok(Node::Aggregate { op: aggregation.op, groups, expr })
            }
            (op, _) => Err(Unsupported::new(aggregation.op_span, format!("`{op}` is not evaluated yet"))),
        }
    }

    fn binary(&mut self, binary: &BinaryExpr, context: &mut Context<'_>) -> Result<Node, Unsupported> {
        let lhs = Box::new(self.node(&binary.lhs, context)?);
        let rhs = Box::new(self.node(&binary.rhs, context)?);
        Ok(Node::Binary {
            op: binary.op,
            return_bool: binary.return_bool,
            join: Join::from(binary.matching.as_ref()),
            lhs,
            rhs,
        })
    }

    fn range(
        &mut self,
        aggregation: &RangeAggregation,
        sum_groups: Option<LabelSet>,
        context: &mut Context<'_>,
    ) -> Result<Node, Unsupported> {
        let log = &aggregation.range;
        let seconds = log.range.as_secs_f64();
        let (measure, divisor) = match aggregation.op {
            RangeOp::CountOverTime | RangeOp::AbsentOverTime => (Measure::Records, 1.0),
            RangeOp::Rate => (Measure::Records, seconds),
            RangeOp::BytesOverTime => (Measure::Bytes, 1.0),
            RangeOp::BytesRate => (Measure::Bytes, seconds),
            op => return Err(Unsupported::new(aggregation.op_span, format!("`{op}` is not evaluated yet"))),
        };
        let Ok(offset) = u64::try_from(log.offset).map(Duration::from_nanos) else {
            return Err(Unsupported::new(log.range_span, "a negative `offset` asks for what has not happened yet"));
        };
        let own_groups = || match &aggregation.grouping {
            None => LabelSet::AllBut(Vec::new()),
            grouping => LabelSet::from(grouping.as_ref()),
        };
        if aggregation.op == RangeOp::AbsentOverTime {
            let leaf = self.leaf(&log.log, LabelSet::Only(Vec::new()), measure, log.range, offset, context)?;
            return Ok(Node::Absent { leaf, labels: absent_labels(&log.log), offset });
        }
        let leaf = self.leaf(&log.log, sum_groups.unwrap_or_else(own_groups), measure, log.range, offset, context)?;
        Ok(Node::Leaf { leaf, scale: Scale { divisor, then: None }, offset })
    }

    fn leaf(
        &mut self,
        log: &LogExpr,
        groups: LabelSet,
        measure: Measure,
        range: Duration,
        offset: Duration,
        context: &mut Context<'_>,
    ) -> Result<usize, Unsupported> {
        let feed = self.feed(log, groups, measure, context)?;
        let known = self.plan.leaves.iter().position(|leaf| leaf.feed == feed && leaf.range == range);
        let at = known.unwrap_or_else(|| self.new_leaf(feed, range));
        let leaf = &mut self.plan.leaves[at];
        leaf.retention = leaf.retention.max(range + offset + context.lookback);
        leaf.samples = leaf.samples.max(context.samples);
        let feed = &mut self.plan.feeds[feed];
        feed.samples = feed.samples.max(context.samples);
        feed.grain = feed.grain.min(range / *BATCH_CELLS.end() as u32);
        let largest = context.leaves.entry(at).or_default();
        *largest = offset.max(*largest);
        Ok(at)
    }

    fn new_leaf(&mut self, feed: usize, range: Duration) -> usize {
        let at = self.plan.leaves.len();
        let Feed { filter, groups, measure, leaves, .. } = &mut self.plan.feeds[feed];
        let key = format!("{} {groups:?} {measure:?} {range:?}", self.filters[*filter].text);
        leaves.push(at);
        self.plan.leaves.push(Leaf { key, feed, range, retention: range, samples: 0, edges: Vec::new() });
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
            let wanted = wanted_labels(source.feeds.iter().map(|feed| &self.plan.feeds[*feed]));
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

/// Whether it is `... < number` of what only grows with the records: true of windows that are not known whole, too.
fn tells_of_too_little(node: &Node) -> bool {
    let Node::Binary { op: BinaryOp::Compare(op), lhs, rhs, .. } = node else { return false };
    match (&**lhs, &**rhs, op) {
        (value, Node::Number(_), CompareOp::Less | CompareOp::LessEqual) => grows(value),
        (Node::Number(_), value, CompareOp::Greater | CompareOp::GreaterEqual) => grows(value),
        _ => false,
    }
}

/// Whether a record can only raise the values of an expression, or add one.
fn grows(node: &Node) -> bool {
    match node {
        Node::Leaf { .. } => true,
        Node::Aggregate { op: VectorOp::Sum | VectorOp::Max | VectorOp::Count, expr, .. } => grows(expr),
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

/// A leaf, or one times or by a positive number.
fn scaled_leaf(node: &Node) -> Option<Term> {
    let (leaf, then) = match node {
        Node::Leaf { .. } => (node, None),
        Node::Binary { op: op @ (BinaryOp::Mul | BinaryOp::Div), lhs, rhs, .. } => match (&**lhs, &**rhs) {
            (leaf, Node::Number(number)) if *number > 0.0 => (leaf, Some((*op, *number))),
            (Node::Number(number), leaf) if *number > 0.0 && *op == BinaryOp::Mul => (leaf, Some((*op, *number))),
            _ => return None,
        },
        _ => return None,
    };
    match leaf {
        Node::Leaf { leaf, scale, offset } if offset.is_zero() => {
            Some(Term { leaf: *leaf, scale: Scale { then, ..*scale } })
        }
        _ => None,
    }
}
