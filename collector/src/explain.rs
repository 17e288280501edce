//! `watchbell explain`: why an alert did or did not fire.

#![allow(clippy::print_stderr)] // it answers a person

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use watchbell_rules::backtest::Backtest;
use watchbell_rules::diagnostic::closest;
use watchbell_rules::explain::Explainer;
use watchbell_rules::query::parameters;
use watchbell_rules::rule_file::{RuleFile, RuleGroup};
use watchbell_rules::time::{Timestamp, format_duration};

use crate::cli::{ExplainArguments, ExplainFormat};
use crate::clock::{SharedClock, SystemClock};
use crate::print;
use crate::replay::history::History;
use crate::replay::{RuleTexts, Setting};

/// Explains and prints; the exit status is as the command's help says.
pub fn explain(arguments: &ExplainArguments) -> ExitCode {
    match explanation(arguments, &SystemClock::shared()) {
        Ok(text) => print::answer(&text, ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

pub(crate) fn explanation(arguments: &ExplainArguments, clock: &SharedClock) -> Result<String, String> {
    let setting = Setting::load(arguments.history.config.as_deref())?;
    let texts = RuleTexts::read(&arguments.rules)?;
    let files = texts.parse()?;
    let named = named(&files, &arguments.alert)?;
    let history = History::open(&arguments.history, clock)?;
    let config = setting.engine_config(&history);
    let end = end_of(&history)?;
    let at = arguments.at.as_deref().map(parameters::time).transpose().map_err(|error| error.message)?;
    if let Some(at) = at.filter(|at| *at > end + LONGEST_AFTER_END) {
        let max = format_duration(LONGEST_AFTER_END);
        return Err(format!("`--at` is {at}, more than {max} behind the last record, which is of {end}"));
    }
    let (mut told, mut reports) = (Vec::new(), Vec::new());
    for file in &named {
        let rule = &file.groups[0].rules[0];
        let plan = texts.compile(std::slice::from_ref(file), &config)?;
        let backtest = Backtest::new(plan, setting.policy.clone(), history.start()?);
        let explainer = Explainer::new(rule, config.labels.clone(), at.unwrap_or(end), backtest);
        let mut explainer = explainer.map_err(|unsupported| unsupported.message)?;
        history.for_each(&mut |batch| match batch.is_start {
            true => explainer.handle_gap(batch.received),
            false => explainer.handle_batch(batch.bytes, batch.receipt()),
        })?;
        explainer.finish(end);
        match arguments.format {
            ExplainFormat::Text => told.push(explainer.render()),
            ExplainFormat::Json => {
                let report = serde_json::to_value(explainer.report());
                reports.push(report.expect("a report has string keys alone"));
            }
        }
    }
    Ok(match arguments.format {
        ExplainFormat::Text => told.join("\n"),
        ExplainFormat::Json => format!("{:#}\n", serde_json::Value::Array(reports)),
    })
}

/// What comes of the records may be asked for so long after the last of them.
const LONGEST_AFTER_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn end_of(history: &History) -> Result<Timestamp, String> {
    let mut end = history.start()?;
    history.for_each(&mut |batch| end = batch.received)?;
    Ok(end)
}

/// The alerts of that name, or of that group and name, each in a file of its own: what others make of the records is not asked.
fn named(files: &[RuleFile], name: &str) -> Result<Vec<RuleFile>, String> {
    let (mut named, mut known) = (Vec::new(), Vec::new());
    for group in files.iter().flat_map(|file| &file.groups) {
        for rule in group.rules.iter().filter(|rule| rule.is_alert()) {
            known.push(rule.name());
            if rule.name() == name
                || name.strip_prefix(&*group.name).and_then(|rest| rest.strip_prefix('/')) == Some(rule.name())
            {
                let group = RuleGroup { rules: vec![rule.clone()], ..group.clone() };
                named.push(RuleFile { groups: vec![group], tests: None });
            }
        }
    }
    if named.is_empty() { Err(unknown(name, &known)) } else { Ok(named) }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let names: BTreeSet<&str> = known.iter().copied().collect();
    match closest(name, names.iter().copied()) {
        Some(near) => format!("no alert is named `{name}`: did you mean `{near}`?"),
        None => format!("no alert is named `{name}`: there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use clap::Parser;
    use watchbell_rules::time::Timestamp;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::clock::ManualClock;
    use crate::pages;

    #[test]
    fn what_detectors_know_is_told() {
        check("detectors");
    }

    #[test]
    fn ranges_that_are_read_twice_and_records_that_are_dropped_are_told() {
        check("ranges");
    }

    /// Each line of `commands` is an alert and options: what is told of it stands in `expected.txt`; `UPDATE=1` writes that.
    fn check(folder: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/explain").join(folder);
        let (rules, history) = (folder.join("rules.yaml"), folder.join("history.json"));
        let given = ["--rules", rules.to_str().unwrap(), "--from", history.to_str().unwrap()];
        let mut told = String::new();
        for command in fs::read_to_string(folder.join("commands")).unwrap().lines() {
            let line = ["watchbell", "explain"].into_iter().chain(given).chain(command.split_whitespace());
            let Command::Explain(arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
            let clock: SharedClock = ManualClock::at(Timestamp(0));
            let _ = writeln!(told, "$ {command}\n{}", explanation(&arguments, &clock).unwrap());
        }
        pages::compare(&folder.join("expected.txt"), &told);
    }
}
