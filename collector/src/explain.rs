//! `watchbell explain`: why an alert did or did not fire.

#![allow(clippy::print_stderr)] // it answers a person

use std::process::ExitCode;
use std::time::Duration;

use watchbell_rules::backtest::Backtest;
use watchbell_rules::diagnostic::closest;
use watchbell_rules::explain::Explainer;
use watchbell_rules::query::parameters;
use watchbell_rules::rule_file::Rule;
use watchbell_rules::time::{Timestamp, format_duration};

use crate::cli::ExplainArguments;
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
    let rules = files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules);
    let alerts: Vec<&Rule> = rules.filter(|rule| rule.is_alert()).collect();
    let named: Vec<&Rule> = alerts.iter().copied().filter(|rule| rule.name() == arguments.alert).collect();
    if named.is_empty() {
        return Err(unknown(&arguments.alert, &alerts));
    }
    let history = History::open(&arguments.history, clock)?;
    let config = setting.engine_config(&history);
    let end = end_of(&history)?;
    let at = arguments.at.as_deref().map(parameters::time).transpose().map_err(|error| error.message)?;
    if let Some(at) = at.filter(|at| *at > end + LONGEST_AFTER_END) {
        let max = format_duration(LONGEST_AFTER_END);
        return Err(format!("`--at` is {at}, more than {max} behind the last record, which is of {end}"));
    }
    let mut told = Vec::new();
    for rule in named {
        let plan = texts.compile(&files, &config)?;
        let backtest = Backtest::new(plan, setting.policy.clone(), history.start()?);
        let explainer = Explainer::new(rule, config.labels.clone(), at.unwrap_or(end), backtest);
        let mut explainer = explainer.map_err(|unsupported| unsupported.message)?;
        history.for_each(&mut |batch| explainer.handle_batch(batch.bytes, batch.received))?;
        explainer.finish(end);
        told.push(explainer.render());
    }
    Ok(told.join("\n"))
}

/// What comes of the records may be asked for so long after the last of them.
const LONGEST_AFTER_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn end_of(history: &History) -> Result<Timestamp, String> {
    let mut end = history.start()?;
    history.for_each(&mut |batch| end = batch.received)?;
    Ok(end)
}

fn unknown(name: &str, alerts: &[&Rule]) -> String {
    let names = alerts.iter().map(|rule| rule.name());
    match closest(name, names.clone()) {
        Some(near) => format!("no alert is named `{name}`: did you mean `{near}`?"),
        None => format!("no alert is named `{name}`: there are {}", names.collect::<Vec<_>>().join(", ")),
    }
}
