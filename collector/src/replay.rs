//! `watchbell replay`: rules over the records of the past, at full speed, by the records' own clock.

#![allow(clippy::print_stderr)] // it answers a person

pub mod history;
mod loki;
mod ordered;
mod pieces;
mod progress;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use watchbell_rules::alerting::config::PolicyConfig;
use watchbell_rules::backtest::Backtest;
use watchbell_rules::backtest::episodes::{Changes, Episodes, Run};
use watchbell_rules::backtest::failing::{FailingStage, Unselecting};
use watchbell_rules::diagnostic::Diagnostic;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file::{self, RuleFile};
use watchbell_rules::time::Timestamp;

use crate::check::rule_files_at;
use crate::cli::{ReplayArguments, ReplayFormat};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Config, read_rule_file};
use crate::evaluator::rule_set::RuleFileText;
use crate::print;
use history::{Batch, History};
use progress::Progress;

/// Replays and prints; the exit status is as the command's help says.
pub fn replay(arguments: &ReplayArguments) -> ExitCode {
    let outcome = run(arguments, &SystemClock::shared());
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let text = match arguments.format {
        ReplayFormat::Text => report::text(&outcome),
        ReplayFormat::Json => report::json(&outcome) + "\n",
    };
    let fails = arguments.fail_on_new && outcome.has_new();
    print::answer(&text, ExitCode::from(u8::from(fails)))
}

/// What came of a replay.
struct Outcome {
    records: u64,
    start: Timestamp,
    end: Timestamp,
    took: Duration,
    run: Run,
    against: Option<Run>,
    /// Of both versions of the rules, each once.
    failing_stages: Vec<FailingStage>,
    /// Of the rules, not of those that they are compared with.
    unselecting: Option<Unselecting>,
}

impl Outcome {
    fn changes(&self) -> Option<Changes<'_>> {
        self.against.as_ref().map(|against| Changes::new(&self.run, against))
    }

    /// Whether the version that is compared has pages that the rules do not have.
    fn has_new(&self) -> bool {
        self.changes().is_some_and(|changes| !changes.new.is_empty())
    }
}

fn run(arguments: &ReplayArguments, clock: &SharedClock) -> Result<Outcome, String> {
    let setting = Setting::load(arguments.history.config.as_deref())?;
    let history = History::open(&arguments.history, clock)?;
    let config = setting.engine_config(&history);
    let start = history.start()?;
    let lane = |paths: &[PathBuf]| {
        let texts = RuleTexts::read(paths)?;
        let files = texts.parse()?;
        if files.iter().flat_map(|file| &file.groups).all(|group| group.rules.is_empty()) {
            let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(format!("there are no rules in `{}`", names.join("`, `")));
        }
        let plan = texts.compile(&files, &config)?;
        Ok::<_, String>(Lane::new(plan, setting.policy.clone(), start))
    };
    let mut lanes = vec![lane(&arguments.rules)?];
    if !arguments.against.is_empty() {
        lanes.push(lane(&arguments.against)?);
    }
    let (mut records, mut end) = (0, start);
    let began = clock.monotonic();
    let mut progress = Progress::new("judging", clock);
    history.for_each(&mut |batch| {
        lanes.iter_mut().for_each(|lane| lane.handle(&batch));
        records += batch.records;
        end = batch.received;
        progress.show(batch.progress, records);
    })?;
    progress.finish();
    let took = clock.monotonic().saturating_sub(began);
    let unselecting = lanes.first().and_then(|lane| lane.backtest.unselecting());
    let mut failing_stages: Vec<FailingStage> = Vec::new();
    let mut runs = lanes.into_iter().map(|lane| {
        let (run, failing) = lane.finish(end);
        failing.into_iter().for_each(|stage| {
            if !failing_stages.contains(&stage) {
                failing_stages.push(stage);
            }
        });
        run
    });
    let (run, against) = (runs.next().unwrap_or_default(), runs.next());
    let start = Timestamp(start.0 + 1); // of the first record
    Ok(Outcome { records, start, end, took, run, against, failing_stages, unselecting })
}

/// What rules are judged and paged by.
pub(crate) struct Setting {
    engine: EngineConfig,
    pub(crate) policy: PolicyConfig,
}

impl Setting {
    /// From a config; without one everything has its default.
    pub(crate) fn load(config: Option<&Path>) -> Result<Self, String> {
        let config = Config::load(config).map_err(|error| error.to_string())?;
        let policy = match &config.alerting {
            Some(alerting) => alerting.policy().map_err(|error| format!("alerting: {error}"))?,
            None => PolicyConfig::default(),
        };
        Ok(Self { engine: config.engine(), policy })
    }

    pub(crate) fn engine_config(&self, history: &History) -> EngineConfig {
        EngineConfig { labels: history.label_config(&self.engine.labels), ..self.engine.clone() }
    }
}

/// Rule files as text, for the places of mistakes.
pub(crate) struct RuleTexts(Vec<RuleFileText>);

impl RuleTexts {
    /// Reads the rule files that these paths name.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut texts = Vec::new();
        for path in paths {
            for path in rule_files_at(path).map_err(|error| error.to_string())? {
                texts.push(read_rule_file(&path).map_err(|error| error.to_string())?);
            }
        }
        Ok(Self(texts))
    }

    pub(crate) fn parse(&self) -> Result<Vec<RuleFile>, String> {
        let parse =
            |file: &RuleFileText| rule_file::parse(&file.path, &file.text).map_err(|found| self.rendered(&found));
        self.0.iter().map(parse).collect()
    }

    pub(crate) fn compile(&self, files: &[RuleFile], config: &EngineConfig) -> Result<Arc<Plan>, String> {
        Plan::compile(files, config).map(Arc::new).map_err(|found| self.rendered(&found))
    }

    fn rendered(&self, mistakes: &[Diagnostic]) -> String {
        let text = |name: &str| self.0.iter().find(|file| file.path == name).map_or("", |file| &file.text);
        mistakes.iter().map(|mistake| mistake.render(text(&mistake.file))).collect::<Vec<_>>().join("\n\n")
    }
}

/// One version of the rules.
struct Lane {
    backtest: Backtest,
    episodes: Episodes,
}

impl Lane {
    fn new(plan: Arc<Plan>, policy: PolicyConfig, start: Timestamp) -> Self {
        Self { backtest: Backtest::new(plan, policy, start), episodes: Episodes::default() }
    }

    fn handle(&mut self, batch: &Batch<'_>) {
        if batch.is_start {
            self.backtest.handle_gap(batch.received);
        } else {
            self.backtest.handle_batch(batch.bytes, batch.receipt());
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.backtest.poll_event() {
            self.episodes.handle(&event);
        }
    }

    fn finish(mut self, end: Timestamp) -> (Run, Vec<FailingStage>) {
        self.backtest.handle_timeout(end);
        self.collect();
        (self.episodes.finish(end), self.backtest.failing_stages())
    }
}

#[cfg(test)]
mod tests;
