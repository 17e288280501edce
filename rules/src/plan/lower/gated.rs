//! Leaves with a gate in front of their windows.

use std::time::Duration;

use super::{Compiler, Context};
use crate::detect::{self, NewPattern, PATTERN_LABEL, Pairing, Wanted};
use crate::logql::ast::{BinaryOp, CompareOp, LogExpr, MetricExpr, MetricKind};
use crate::pipeline::Unsupported;
use crate::plan::{Apart, BATCH_CELLS, Gate, Keeps, Leaf, Measure, Node, Reading, SequenceGate};
use crate::vector::{Join, LabelSet};

impl Compiler<'_> {
    /// What a gate finds, as a count of more than 0.
    pub(super) fn gated(&mut self, gate: &detect::Gate, context: &mut Context<'_>) -> Result<Node, Unsupported> {
        let leaf = match gate {
            detect::Gate::NewPattern(config) => self.new_pattern(config, context)?,
            detect::Gate::Sequence(pairing) => self.sequence(pairing, context)?,
        };
        let count = Reading::Count { leaf, divisor: 1.0, offset: Duration::ZERO };
        Ok(Node::Binary {
            op: BinaryOp::Compare(CompareOp::Greater),
            return_bool: false,
            join: Join::from(None),
            lhs: Box::new(Node::Leaf(count)),
            rhs: Box::new(Node::Number(0.0)),
        })
    }

    fn new_pattern(&mut self, config: &NewPattern, context: &mut Context<'_>) -> Result<usize, Unsupported> {
        let names = config.by.iter().cloned().chain([PATTERN_LABEL.to_owned()]).collect();
        let feed =
            self.feed(first_log(context)?, LabelSet::Only(names), Measure::Patterns, Apart::default(), context)?;
        let mut key = format!("{} {}", self.filter_text(feed), config.meaning());
        // Two rules that differ in it alone have each their own; a rule that changes it keeps what it knows.
        if self.known.gated.get(&key).is_some_and(|leaf| !self.has_max_new(*leaf, config.max_new)) {
            key = format!("{key} max_new {}", config.max_new);
        }
        let gate = Gate::NewPattern(config.clone());
        Ok(self.gated_leaf(key, feed, (config.window, Duration::ZERO), gate, context))
    }

    fn sequence(&mut self, pairing: &Pairing, context: &mut Context<'_>) -> Result<usize, Unsupported> {
        let (counted, other) = (first_log(context)?, last_log(context)?);
        let (first, second) = if pairing.wanted == Wanted::Then { (other, counted) } else { (counted, other) };
        let mut feed =
            |log| self.feed(log, LabelSet::Only(pairing.by.clone()), Measure::Records, Apart::default(), context);
        let (first, second) = (feed(first)?, feed(second)?);
        let Context { lateness, watermark, lookback, .. } = *context;
        let key = format!("{} {} {pairing:?} {lookback:?}", self.filter_text(first), self.filter_text(second));
        let gate = SequenceGate { pairing: pairing.clone(), second, lateness, watermark, lookback };
        Ok(self.gated_leaf(key, first, (pairing.window, pairing.within), Gate::Sequence(gate), context))
    }

    /// The leaf of that key, made if it is new. `back` is by how much longer than its range its evidence is of interest.
    fn gated_leaf(
        &mut self,
        key: String,
        feed: usize,
        (range, back): (Duration, Duration),
        gate: Gate,
        context: &mut Context<'_>,
    ) -> usize {
        let (leaves, known) = (&mut self.plan.leaves, &mut self.known.gated);
        let at = *known.entry(key.clone()).or_insert(leaves.len());
        if at == leaves.len() {
            let retention = range + back + context.lookback;
            let (keeps, cells_max, samples) = (Keeps::Counts, context.cells, 0);
            let (edges, gate) = (Vec::new(), Some(gate));
            leaves.push(Leaf { key, feed, keeps, range, retention, cells_max, samples, edges, gate });
            let is_of_patterns = matches!(leaves[at].gate, Some(Gate::NewPattern(_)));
            let fed: Vec<usize> = leaves[at].feeds().collect();
            for feed in fed {
                let feed = &mut self.plan.feeds[feed];
                if is_of_patterns {
                    feed.leaves.push(at);
                }
                feed.cells_max = *BATCH_CELLS.end();
                feed.grain = feed.grain.min(range / *BATCH_CELLS.end() as u32);
            }
        }
        leaves[at].retention = leaves[at].retention.max(range + back + context.lookback);
        leaves[at].samples = leaves[at].samples.max(context.samples);
        for feed in leaves[at].feeds() {
            self.plan.feeds[feed].samples = self.plan.feeds[feed].samples.max(context.samples);
        }
        context.leaves.insert(at, back);
        at
    }

    fn has_max_new(&self, leaf: usize, max_new: usize) -> bool {
        matches!(&self.plan.leaves[leaf].gate, Some(Gate::NewPattern(config)) if config.max_new == max_new)
    }

    fn filter_text(&self, feed: usize) -> &str {
        &self.filters[self.plan.feeds[feed].filter].text
    }
}

/// The records that the expression names first: those that are counted.
fn first_log<'a>(context: &Context<'a>) -> Result<&'a LogExpr, Unsupported> {
    logs(&context.rule.expr).first().copied().ok_or_else(|| without_records(context))
}

fn last_log<'a>(context: &Context<'a>) -> Result<&'a LogExpr, Unsupported> {
    logs(&context.rule.expr).last().copied().ok_or_else(|| without_records(context))
}

fn without_records(context: &Context<'_>) -> Unsupported {
    Unsupported::new(context.rule.expr.span, "the detector names no records")
}

/// The records that the ranges of an expression are made of.
fn logs(expr: &MetricExpr) -> Vec<&LogExpr> {
    match &expr.kind {
        MetricKind::Range(range) => vec![&range.range.log],
        MetricKind::Vector(vector) => logs(&vector.expr),
        MetricKind::Binary(binary) => [logs(&binary.lhs), logs(&binary.rhs)].concat(),
        _ => Vec::new(),
    }
}
