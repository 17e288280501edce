//! Which streams a log has, and how much of each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::QueryError;
use super::batches::{Batch, record_time};
use super::range::Source;
use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::{self, ast};
use crate::otlp_labels::{LabelConfig, OtlpEntry, ResourceLabels, ScopeLabels};
use crate::time::Timestamp;

/// A search for streams.
#[derive(Debug)]
pub struct SeriesQuery {
    /// One of them must hold; all streams where there is none.
    selectors: Vec<Source>,
    least: Timestamp,
    greatest: Timestamp,
    counting: Counting,
    streams_max: usize,
    found: BTreeMap<(u64, Labels), Amount>,
}

/// Whether it is asked how much each stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Only whether it is there.
    No,
    /// How much it has.
    Yes,
    /// How much it has in each such time, the first from the least time on.
    ByStep(Duration),
}

/// How much a stream has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Batches that have some of its records.
    pub batches: u64,
    /// Records.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

impl SeriesQuery {
    /// A search for the streams with a record from the one to the other time that one of the selectors holds of.
    pub fn new(
        selectors: &[String],
        (least, greatest): (Timestamp, Timestamp),
        counting: Counting,
        streams_max: usize,
    ) -> Result<Self, QueryError> {
        let selectors = selectors.iter().map(|text| selector(text)).collect::<Result<_, _>>()?;
        Ok(Self { selectors, least, greatest, counting, streams_max, found: BTreeMap::new() })
    }

    /// The least and the greatest time of the records that are looked for.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (self.least, self.greatest)
    }

    /// Looks into a batch.
    pub fn add_batch(&mut self, batch: &Batch<'_>, labels: &LabelConfig) -> Result<(), QueryError> {
        for resource_logs in batch.request.resource_logs() {
            let resource = ResourceLabels::of(&resource_logs, labels);
            if !self.selectors.is_empty() && !self.selectors.iter().any(|selector| selector.selects(&resource)) {
                continue;
            }
            let labels = resource.index_labels();
            let records = resource_logs.scope_logs().flat_map(|scope_logs| scope_logs.log_records());
            let mut last_step = None;
            for record in records {
                let time = record_time(&record, batch.received);
                if time < self.least || time > self.greatest {
                    continue;
                }
                let step = self.step(time);
                let is_first = last_step.replace(step) != Some(step);
                let bytes = OtlpEntry { resource: &resource, scope: &ScopeLabels::default(), record, attributes: &[] };
                let bytes = bytes.line().len() as u64;
                self.add(step, &labels, Amount { batches: u64::from(is_first), entries: 1, bytes })?;
                if self.counting == Counting::No {
                    break;
                }
            }
        }
        Ok(())
    }

    fn step(&self, time: Timestamp) -> u64 {
        match self.counting {
            Counting::ByStep(step) => {
                time.since(self.least).as_nanos().checked_div(step.as_nanos()).unwrap_or(0) as u64
            }
            Counting::Yes | Counting::No => 0,
        }
    }

    fn add(&mut self, step: u64, labels: &Labels, amount: Amount) -> Result<(), QueryError> {
        let max = self.streams_max;
        let is_full = self.found.len() >= max;
        let key = (step, labels.clone());
        if is_full && !self.found.contains_key(&key) {
            return Err(QueryError::execution(format!(
                "there are more than {max} streams, the maximum (`streams_max`): select fewer, or shorten the range of time"
            )));
        }
        let known = self.found.entry(key).or_default();
        known.batches += amount.batches;
        known.entries += amount.entries;
        known.bytes += amount.bytes;
        Ok(())
    }

    /// The streams that were found.
    pub fn answer(self) -> BTreeMap<Labels, Amount> {
        self.found.into_iter().map(|((_, labels), amount)| (labels, amount)).collect()
    }

    /// What was found, by step and stream.
    pub fn answer_by_step(self) -> BTreeMap<(u64, Labels), Amount> {
        self.found
    }
}

/// The labels that a selector names.
///
/// # Errors
/// The text is no selector alone.
pub fn selector_names(text: &str) -> Result<Vec<String>, QueryError> {
    let expr = logql::parse(text).map_err(|mistakes| QueryError::mistakes(&mistakes, text))?;
    match expr {
        ast::Expr::Log(log) if log.stages.is_empty() => {
            Ok(log.selector.matchers.into_iter().map(|matcher| matcher.name).collect())
        }
        _ => Err(more_than_selector(text)),
    }
}

/// A selector alone, which may be one of all streams.
fn selector(text: &str) -> Result<Source, QueryError> {
    let expr = logql::parse_of_any_stream(text).map_err(|mistakes| QueryError::mistakes(&mistakes, text))?;
    match &expr {
        ast::Expr::Log(log) if log.stages.is_empty() => {
            Source::new(log, None).map_err(|unsupported| QueryError::unsupported(unsupported, text))
        }
        _ => Err(more_than_selector(text)),
    }
}

fn more_than_selector(text: &str) -> QueryError {
    QueryError::bad_data(format!("`{text}` is more than a selector: write `{{name=\"value\"}}`"))
}
