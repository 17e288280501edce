//! Stages that failed on every record that came to them, and selectors that found none: such a rule counts nothing, and says nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::diagnostic::line_column;
use crate::matcher::{Matched, Tally};
use crate::plan::Plan;

/// A stage, such as `| json`, that failed on every record that came to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingStage {
    /// The rules that read what is behind it, as `group/rule`.
    pub rules: Vec<String>,
    /// The stage as the first of them has it.
    pub stage: String,
    /// The value of `__error__`.
    pub error: &'static str,
    /// How many records there were.
    pub records: u64,
    /// The file in which the stage stands.
    pub file: Arc<str>,
    /// Its line there, from 1.
    pub line: usize,
    /// Its column there in characters, from 1.
    pub column: usize,
}

impl fmt::Display for FailingStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, stage, error, records, file, line, column } = self;
        let all = match records {
            1 => "the only record has".to_owned(),
            records => format!("every one of {records} records has"),
        };
        let rules = rules.join(", ");
        write!(f, "{rules}: {all} `__error__=\"{error}\"` behind `{stage}` ({file}:{line}:{column})")
    }
}

/// Rules of which a selector found no record, though there were some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unselecting {
    /// As `group/rule`.
    pub rules: BTreeSet<String>,
    /// The names of the index labels that the records have.
    pub index_labels: BTreeSet<String>,
}

impl fmt::Display for Unselecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let labels = if self.index_labels.is_empty() { "none".to_owned() } else { listed(&self.index_labels) };
        write!(f, "{}: a selector found none of the records, whose index labels are: {labels}", listed(&self.rules))
    }
}

/// Counts what becomes of records at the selectors and stages of a plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies {
    stages: BTreeMap<(u32, u32), Tally>,
    selected: BTreeSet<u32>,
    index_labels: BTreeSet<String>,
    records: u64,
}

impl Tallies {
    pub(crate) fn add(&mut self, matched: &Matched) {
        for (stage, tally) in &matched.tallies {
            self.stages.entry(*stage).or_default().add(tally);
        }
        self.selected.extend(&matched.selected);
        self.index_labels.extend(matched.index_labels.iter().cloned());
        self.records += matched.records;
    }

    pub(crate) fn unselecting(&self, plan: &Plan) -> Option<Unselecting> {
        let filters = plan.filters.iter().enumerate().filter(|(at, _)| !self.selected.contains(&(*at as u32)));
        let readers = filters.flat_map(|(_, filter)| filter.readers.keys());
        let rules: BTreeSet<_> = readers.map(|rule| plan.rules[*rule].full_name()).collect();
        let is_told = self.records > 0 && !rules.is_empty();
        is_told.then(|| Unselecting { rules, index_labels: self.index_labels.clone() })
    }

    pub(crate) fn failing(&self, plan: &Plan) -> Vec<FailingStage> {
        let failing = self.stages.iter().filter_map(|((filter, place), tally)| {
            let error = tally.error.filter(|_| tally.failed == tally.reached)?;
            let filter = &plan.filters[*filter as usize];
            let stage = filter.fallible.iter().find(|stage| stage.place == *place)?;
            let name = |rule: &usize| plan.rules[*rule].full_name();
            let (line, column) = line_column(&filter.file_text, stage.start);
            Some(FailingStage {
                rules: filter.readers.keys().map(name).collect(),
                stage: stage.text.clone(),
                error,
                records: tally.failed,
                file: filter.file.clone(),
                line,
                column,
            })
        });
        failing.collect()
    }
}
