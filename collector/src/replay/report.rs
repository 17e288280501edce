//! What came of a replay: for a person, and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use watchbell_rules::backtest::episodes::{Changes, Episode, Noise, Run};
use watchbell_rules::backtest::failing::{FailingStage, Unselecting};
use watchbell_rules::time::format_duration;

use super::Outcome;

pub(super) fn text(outcome: &Outcome) -> String {
    let span = shown(outcome.end.since(outcome.start));
    let mut out =
        format!("{} from {} to {} ({span})\n\n", counted(outcome.records, "record"), outcome.start, outcome.end);
    match (&outcome.against, outcome.changes()) {
        (Some(against), Some(changes)) => put_changes(&outcome.run, against, &changes, &mut out),
        _ => put_run(&outcome.run, &mut out),
    }
    if !outcome.failing_stages.is_empty() {
        out.push_str("\nstages that failed\n");
        outcome.failing_stages.iter().for_each(|stage| _ = writeln!(out, "  {stage}"));
    }
    if let Some(unselecting) = &outcome.unselecting {
        let _ =
            writeln!(out, "\nselectors that found nothing\n  {unselecting} (`--label NAME=VALUE` gives lines others)");
    }
    let seconds = outcome.took.as_secs_f64();
    eprint_rate(outcome.records, seconds);
    out
}

/// How fast it went; on stderr, so that the report is the same every time.
#[allow(clippy::print_stderr)]
fn eprint_rate(records: u64, seconds: f64) {
    if records >= RATE_RECORDS_MIN {
        eprintln!("{records} records in {seconds:.2} s: {:.2} M records/s", records as f64 / seconds / 1e6);
    }
}

fn put_run(run: &Run, out: &mut String) {
    if run.episodes.is_empty() {
        out.push_str("no alert would have fired\n");
        return;
    }
    let noise = run.noise();
    let pages = run.episodes.len();
    let _ = writeln!(out, "{}, in {}\n", counted(pages as u64, "page"), counted(run.messages as u64, "message"));
    put_noise(&noise, out);
    out.push_str("\npages by day\n");
    put_days(&noise, out);
    out.push_str("\nthe longest\n");
    let mut longest: Vec<&Episode> = run.episodes.iter().collect();
    longest.sort_by_key(|episode| std::cmp::Reverse(episode.duration()));
    put_episodes(&longest[..longest.len().min(EPISODES_SHOWN_MAX)], out);
}

/// The loudest rules first.
fn put_noise(noise: &[Noise], out: &mut String) {
    let mut rows = vec![["rule", "pages", "alerts", "under 5m", "median", "longest", "firing"].map(str::to_owned)];
    rows.extend(noise.iter().map(|noise| {
        [
            name(noise),
            noise.pages.to_string(),
            noise.alerts.to_string(),
            noise.short.to_string(),
            shown(noise.median),
            shown(noise.longest),
            shown(noise.total),
        ]
    }));
    put_table(&rows, out);
}

fn put_days(noise: &[Noise], out: &mut String) {
    let days: BTreeSet<&String> = noise.iter().flat_map(|noise| noise.days.keys()).collect();
    for day in days {
        let of_day = noise.iter().filter_map(|noise| Some(format!("{} {}", name(noise), noise.days.get(day)?)));
        let _ = writeln!(out, "  {day}  {}", of_day.collect::<Vec<_>>().join(", "));
    }
}

fn put_changes(run: &Run, against: &Run, changes: &Changes<'_>, out: &mut String) {
    let mut by_rule: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut count = |episodes: &mut dyn Iterator<Item = &Episode>, column: usize| {
        episodes.for_each(|episode| by_rule.entry(rule_of(episode)).or_default()[column] += 1);
    };
    count(&mut run.episodes.iter(), 0);
    count(&mut against.episodes.iter(), 1);
    count(&mut changes.gone.iter().copied(), 2);
    count(&mut changes.new.iter().copied(), 3);
    let _ = writeln!(
        out,
        "{} with --rules, {} with --against: {} gone, {} new\n",
        counted(run.episodes.len() as u64, "page"),
        counted(against.episodes.len() as u64, "page"),
        changes.gone.len(),
        changes.new.len()
    );
    if by_rule.is_empty() {
        return;
    }
    let mut rows = vec![["rule", "--rules", "--against", "gone", "new"].map(str::to_owned)];
    rows.extend(by_rule.into_iter().map(|(rule, [before, after, gone, new])| {
        [rule, before.to_string(), after.to_string(), gone.to_string(), new.to_string()]
    }));
    put_table(&rows, out);
    for (title, episodes) in [("gone", &changes.gone), ("new", &changes.new)] {
        if !episodes.is_empty() {
            let _ = writeln!(out, "\n{title}");
            put_episodes(&episodes[..episodes.len().min(EPISODES_SHOWN_MAX)], out);
            let more = episodes.len().saturating_sub(EPISODES_SHOWN_MAX);
            if more > 0 {
                let _ = writeln!(out, "  and {more} more: --format json has all");
            }
        }
    }
}

fn put_episodes(episodes: &[&Episode], out: &mut String) {
    for episode in episodes {
        let end = if episode.is_resolved { "for" } else { "still firing after" };
        let _ = writeln!(out, "  {}  {end} {}  {}", episode.fired_at, shown(episode.duration()), episode.labels);
    }
}

/// Columns as wide as they must be; the first is text, the others numbers.
fn put_table<const N: usize>(rows: &[[String; N]], out: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let _ = write!(out, "  {:width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
}

fn name(noise: &Noise) -> String {
    format!("{}/{}", noise.group, noise.alert)
}

fn rule_of(episode: &Episode) -> String {
    format!("{}/{}", episode.group, episode.alert)
}

/// To the second, to the minute from an hour on.
fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let rounded = if seconds >= 3600 { seconds - seconds % 60 } else { seconds };
    format_duration(Duration::from_secs(rounded))
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Report<'a> {
    records: u64,
    start: String,
    end: String,
    rules: RunReport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<RunReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<Vec<&'a Episode>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Vec<&'a Episode>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    failing_stages: &'a [FailingStage],
    #[serde(skip_serializing_if = "Option::is_none")]
    unselecting: Option<&'a Unselecting>,
}

#[derive(Serialize)]
struct RunReport<'a> {
    messages: usize,
    noise: Vec<Noise>,
    pages: &'a [Episode],
}

impl<'a> RunReport<'a> {
    fn new(run: &'a Run) -> Self {
        Self { messages: run.messages, noise: run.noise(), pages: &run.episodes }
    }
}

pub(super) fn json(outcome: &Outcome) -> String {
    let changes = outcome.changes();
    let (gone, new) = changes.map(|changes| (changes.gone, changes.new)).unzip();
    let report = Report {
        records: outcome.records,
        start: outcome.start.to_string(),
        end: outcome.end.to_string(),
        rules: RunReport::new(&outcome.run),
        against: outcome.against.as_ref().map(RunReport::new),
        gone,
        new,
        failing_stages: &outcome.failing_stages,
        unselecting: outcome.unselecting.as_ref(),
    };
    serde_json::to_string_pretty(&report).expect("a report has string keys alone")
}

/// Pages that are shown one by one.
const EPISODES_SHOWN_MAX: usize = 20;

/// A shorter replay tells nothing of its speed.
const RATE_RECORDS_MIN: u64 = 100_000;
