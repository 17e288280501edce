//! Cases of the engine as text.
//!
//! A file is a list of commands, each with its input, a line `----`, and what comes out up to the next empty line:
//!
//! - `rules [samples] [groups=N] [groups_of_all=N] [cells=N] [evidence=BYTES] [cluster=NAME]`: a rule file; the engine begins anew at 0s. With `samples` the
//!   samples of series are shown too; `cluster` is an external label, the others are limits.
//! - `records`: a record a line, each in a batch of its own, received at its time.
//! - `batch TIME`: the same, all in one batch that is received at TIME.
//! - `clock TIME`: nothing comes until then; timers run when they are due.
//! - `jump TIME`: the same, but the clock is moved on once.
//! - `ahead TIME`: the wall clock is set back by so much: records that come then were received so much later than their stamps say.
//! - `away TIME`: nobody listens until then.
//! - `clamped`: how many records of which service were judged by another time than their own.
//! - `evidence`: the records behind the alerts that there are.
//! - `evaluations`: how often rules were evaluated at steps since the rules came.
//! - `groups`: how many groups have a window.
//! - `restart`: the engine is made again from its snapshot.
//! - `reload [since=TIME]`: as `rules`, but the engine goes on, and the new rules are filled from the records since TIME (else from all).
//! - `aside TIME`: as `reload`, but the new rules were filled by an engine of their own, which began at TIME.
//! - `errors`: what is wrong with rules, or that they judge by estimates.
//! - `warming`: until when the rules are, those that are; `telling` are those that are not, though their windows are not whole.
//! - `withheld`: how many new patterns were told together with others.
//!
//! A record is `TIME [xCOUNT/GAP] SERVICE SEVERITY | BODY | key=value ...`; `TIME@RECEIVED` where it comes late.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use watchbell_rules::engine::{Engine, Output};
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::{Received, Timestamp, format_duration, parse_duration};
use watchbell_rules::transition::AlertState;

use crate::records::{START, TestRecord, after, batch};

/// Runs a file and compares; with `UPDATE=1` writes it.
pub(crate) fn check(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut runner = Runner::default();
    let result: Vec<String> = text.split("\n\n").map(|block| runner.block(block.trim_end())).collect();
    let result = result.join("\n\n") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &result).unwrap();
        return Ok(());
    }
    for (line, (expected, got)) in text.lines().zip(result.lines()).enumerate() {
        if expected != got {
            return Err(format!("{}:{}:\n  expected: {expected}\n  got:      {got}", file.display(), line + 1));
        }
    }
    if text == result { Ok(()) } else { Err(format!("{}: lines are missing or too many", file.display())) }
}

#[derive(Default)]
pub(crate) struct Runner {
    engine: Option<Engine>,
    config: EngineConfig,
    show_samples: bool,
    /// The log: batches and when they were received.
    log: Vec<(Vec<u8>, Timestamp)>,
    /// By how much the engine's clock is ahead of the wall clock.
    ahead: Duration,
    clamped: String,
}

impl Runner {
    /// A block with the output that it gives; comments stay as they are.
    pub(crate) fn block(&mut self, block: &str) -> String {
        let Some((input, _)) = block.split_once("\n----") else { return block.to_owned() };
        let commands = input.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let (command, body) = commands.split_once('\n').unwrap_or((&commands, ""));
        let out = self.command(command, body);
        format!("{input}\n----{}{}", if out.is_empty() { "" } else { "\n" }, out.trim_end())
    }

    fn command(&mut self, command: &str, body: &str) -> String {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        match name {
            "rules" => {
                self.show_samples = argument.contains("samples");
                self.config = config(argument);
                self.log.clear();
                self.ahead = Duration::ZERO;
                match plan(body, &self.config) {
                    Ok(plan) => self.engine = Some(Engine::new(plan, START)),
                    Err(mistakes) => return mistakes,
                }
            }
            "records" => {
                let mut records: Vec<_> = records(body).collect();
                records.sort_by_key(|(_, received)| *received);
                records.into_iter().for_each(|(record, received)| self.handle(&[record], received));
            }
            "batch" => {
                let records: Vec<_> = records(body).map(|(record, _)| record).collect();
                self.handle(&records, time(argument));
            }
            "clock" => self.clock(time(argument)),
            "jump" => self.engine.as_mut().unwrap().handle_timeout(time(argument)),
            "ahead" => self.ahead = parse_duration(argument).unwrap(),
            "away" => {
                let engine = self.engine.as_mut().unwrap();
                engine.handle_gap(engine.clock(), time(argument));
            }
            "restarts" => self.restart_often(argument),
            "restart" => {
                let engine = self.engine.as_mut().unwrap();
                *engine = Engine::restore(engine.plan().clone(), &engine.snapshot()).unwrap();
            }
            "reload" => match plan(body, &self.config) {
                Ok(plan) => self.reload(plan, argument.strip_prefix("since=").map_or(START, time)),
                Err(mistakes) => return mistakes,
            },
            "aside" => match plan(body, &self.config) {
                Ok(plan) => self.reload_aside(plan, time(argument)),
                Err(mistakes) => return mistakes,
            },
            "clamped" => return std::mem::take(&mut self.clamped),
            "evidence" => return self.evidence(),
            "warming" => {
                let rules = self.engine.as_ref().unwrap().rules();
                let told = rules.iter().filter_map(|rule| match (rule.warming_until, rule.partial_until) {
                    (Some(until), _) => Some(format!("{} {}\n", rule.name, show(until))),
                    (None, Some(until)) => Some(format!("{} {}, telling\n", rule.name, show(until))),
                    (None, None) => None,
                });
                return told.collect();
            }
            "withheld" => return self.engine.as_ref().unwrap().stats().patterns_withheld.to_string(),
            "errors" => {
                let rules = self.engine.as_ref().unwrap().rules();
                return rules
                    .iter()
                    .filter_map(|rule| {
                        Some(format!("{}: {}\n", rule.name, rule.last_error.as_ref().or(rule.estimate.as_ref())?))
                    })
                    .collect();
            }
            "evaluations" => return self.engine.as_ref().unwrap().stats().evaluations.to_string(),
            "groups" => return self.engine.as_ref().unwrap().stats().groups.to_string(),
            other => panic!("no such command: {other}"),
        }
        self.outputs()
    }

    fn handle(&mut self, records: &[TestRecord], received: Timestamp) {
        self.clock(received);
        let bytes = batch(records);
        let engine = self.engine.as_mut().unwrap();
        let receipt = Received { at: received, ahead: self.ahead };
        let matched = engine.plan().match_batch(&bytes, receipt);
        for (why, services) in [("skewed", &matched.skewed), ("ancient", &matched.ancient)] {
            services.iter().for_each(|(service, records)| self.clamped += &format!("{why} {service} {records}\n"));
        }
        engine.handle_batch(matched, &bytes, receipt);
        self.log.push((bytes, received));
    }

    /// `x10/30m away 10s`.
    fn restart_often(&mut self, argument: &str) {
        let (often, away) = argument.split_once(" away ").unwrap();
        let (count, every) = often.strip_prefix('x').unwrap().split_once('/').unwrap();
        let (every, away) = (parse_duration(every).unwrap(), parse_duration(away).unwrap());
        for _ in 0..count.parse().unwrap() {
            let from = self.engine.as_ref().unwrap().clock() + (every - away);
            self.clock(from);
            self.engine.as_mut().unwrap().handle_gap(from, from + away);
        }
    }

    fn reload(&mut self, plan: Arc<Plan>, reaches: Timestamp) {
        let engine = self.engine.as_mut().unwrap();
        engine.replace(plan.clone(), engine.clock());
        let since = engine.fills_since().unwrap_or(engine.clock()).max(reaches);
        for (bytes, received) in self.log.iter().filter(|(_, received)| *received >= since) {
            engine.handle_past_batch(&plan.match_batch(bytes, *received), bytes, *received);
        }
        engine.handle_filled(since);
    }

    fn reload_aside(&mut self, plan: Arc<Plan>, begun: Timestamp) {
        let engine = self.engine.as_mut().unwrap();
        let mut filled = Engine::to_fill(plan.clone(), engine.plan(), Duration::MAX, begun);
        for (bytes, received) in &self.log {
            if *received >= begun {
                filled.handle_past_known(START);
                filled.handle_past_time(*received);
            }
            filled.handle_past_batch(&plan.match_batch(bytes, *received), bytes, *received);
        }
        filled.handle_past_known(START);
        engine.replace(plan, engine.clock());
        engine.adopt(filled);
        engine.handle_filled(engine.clock());
    }

    fn clock(&mut self, time: Timestamp) {
        let engine = self.engine.as_mut().unwrap();
        while let Some(due) = engine.poll_timeout().filter(|due| *due < time) {
            engine.handle_timeout(due.max(engine.clock()));
        }
        engine.handle_timeout(time);
    }

    fn outputs(&mut self) -> String {
        let mut out = String::new();
        let Some(engine) = &mut self.engine else { return out };
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Transition(transition) => {
                    let alert = &transition.alert;
                    let state = match (transition.from, transition.to) {
                        (AlertState::Firing, AlertState::Inactive) => "resolved",
                        (AlertState::Firing, AlertState::Firing) => "still firing",
                        (_, AlertState::Inactive) => "forgotten",
                        (_, AlertState::Pending) => "pending",
                        (_, AlertState::Firing) => "firing",
                    };
                    let _ = write!(out, "{} {state} {} value {}", show(transition.at), alert.labels, alert.value);
                    let _ = writeln!(out, " active at {}", show(alert.active_at));
                    for (name, text) in alert.annotations.iter() {
                        let _ = writeln!(out, "  {name}: {text}");
                    }
                }
                Output::Sample(sample) if self.show_samples => {
                    let value = if sample.value.is_nan() { "stale".to_owned() } else { sample.value.to_string() };
                    let _ = writeln!(out, "{} {} {value}", show(sample.time), sample.labels);
                }
                Output::Sample(_) => {}
            }
        }
        out
    }

    fn evidence(&self) -> String {
        let mut out = String::new();
        for rule in self.engine.as_ref().unwrap().rules() {
            for (_, alert) in rule.alerting.iter().flat_map(|alerting| &alerting.alerts) {
                for record in &alert.samples {
                    let _ = write!(out, "{} {} {:?}", show(record.time), record.severity, record.body);
                    for (name, value) in &record.attributes {
                        let _ = write!(out, " {name}={value}");
                    }
                    let _ = writeln!(out, " {}", record.trace_id);
                }
            }
        }
        out
    }
}

fn config(argument: &str) -> EngineConfig {
    let mut config = EngineConfig::default();
    for (name, value) in argument.split(' ').filter_map(|word| word.split_once('=')) {
        match name {
            "groups" => config.groups_per_rule_max = value.parse().unwrap(),
            "groups_of_all" => config.groups_max = value.parse().unwrap(),
            "cells" => config.window_cells_max = value.parse().unwrap(),
            "evidence" => config.evidence_bytes_max = value.parse().unwrap(),
            "cluster" => _ = config.external_labels.insert(name.to_owned(), value.to_owned()),
            other => panic!("no such limit: {other}"),
        }
    }
    config
}

fn plan(text: &str, config: &EngineConfig) -> Result<Arc<Plan>, String> {
    let mistakes = |mistakes: Vec<watchbell_rules::diagnostic::Diagnostic>| {
        mistakes.iter().map(|mistake| mistake.render(text)).collect::<Vec<_>>().join("\n")
    };
    let file = rule_file::parse("rules.yaml", text).map_err(mistakes)?;
    Plan::compile(&[file], config).map(Arc::new).map_err(mistakes)
}

fn records(text: &str) -> impl Iterator<Item = (TestRecord, Timestamp)> {
    text.lines().flat_map(|line| {
        let mut parts = line.split('|').map(str::trim);
        let mut words: Vec<&str> = parts.next().unwrap().split(' ').collect();
        let repeat = words.iter().position(|word| word.starts_with('x')).map(|at| words.remove(at));
        let (count, gap) = repeat.map_or((1, Duration::ZERO), |repeat| {
            let (count, gap) = repeat[1..].split_once('/').unwrap();
            (count.parse().unwrap(), parse_duration(gap).unwrap())
        });
        let [at, service, severity] = words[..] else { panic!("not a record: {line}") };
        let (at, received) = at.split_once('@').unwrap_or((at, at));
        let (at, received) = (time(at), time(received));
        let severity = match severity {
            "ERROR" => 17,
            "WARN" => 13,
            "INFO" => 9,
            number => number.parse().unwrap(),
        };
        let (body, attributes) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let attributes: Vec<_> = attributes.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect();
        let record = TestRecord {
            time: at,
            service: service.trim_matches('-').to_owned(),
            severity,
            body: body.to_owned(),
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        (0..count).map(move |n| (TestRecord { time: record.time + gap * n, ..record.clone() }, received + gap * n))
    })
}

fn time(text: &str) -> Timestamp {
    after(parse_duration(text).unwrap_or_else(|_| panic!("not a time: `{text}`")))
}

fn show(time: Timestamp) -> String {
    format_duration(time.since(START))
}
