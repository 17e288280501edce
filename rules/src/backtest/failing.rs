//! Stages that failed on every record that came to them: such a rule counts nothing, and says nothing of it.

use std::collections::BTreeMap;
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

/// Counts what becomes of records at the stages of a plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies(BTreeMap<(u32, u32), Tally>);

impl Tallies {
    pub(crate) fn add(&mut self, matched: &Matched) {
        for (stage, tally) in &matched.tallies {
            self.0.entry(*stage).or_default().add(tally);
        }
    }

    pub(crate) fn failing(&self, plan: &Plan) -> Vec<FailingStage> {
        let failing = self.0.iter().filter_map(|((filter, place), tally)| {
            let error = tally.error.filter(|_| tally.failed == tally.reached)?;
            let filter = &plan.filters[*filter as usize];
            let stage = filter.fallible.iter().find(|stage| stage.place == *place)?;
            let name = |rule: &usize| format!("{}/{}", plan.rules[*rule].group, plan.rules[*rule].name);
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
