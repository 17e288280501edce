//! What a detector knows and its expression does not say: the patterns of a `new_pattern`, who waits for whom in a `sequence`, and what
//! a `spike` is held against.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::render::{VALUES_SHOWN_MAX, put_more, shortened};
use super::{Explainer, RangeWatch};
use crate::detect::miner::News;
use crate::detect::{Comparison, Direction, Gate, Wanted};
use crate::engine::Engine;
use crate::labels::Labels;
use crate::matcher::Run;
use crate::plan::Plan;
use crate::query::answer::value_text;
use crate::query::records::OwnedEntry;
use crate::rule_file::Rule;
use crate::time::{Received, Timestamp, format_duration};

/// What is behind a rule's gate.
#[derive(Debug, Default)]
pub(super) struct Gated {
    /// The records of each pattern, by the key of its group.
    seen: BTreeMap<Box<[u8]>, Seen>,
    /// How these stood at the time that is asked about.
    patterns: Vec<Pattern>,
    sequences: Vec<Following>,
}

#[derive(Clone, Debug)]
struct Seen {
    records: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
struct Pattern {
    labels: Labels,
    seen: Seen,
    news: Option<News>,
}

/// One key of a sequence.
#[derive(Debug)]
struct Following {
    labels: Labels,
    /// The first records that wait.
    firsts: Vec<Timestamp>,
    /// When it was last found.
    found: Option<Timestamp>,
}

impl Gated {
    /// Takes note of the patterns in a batch.
    pub(super) fn watch(&mut self, rule: &Rule, plan: &Plan, batch: &[u8], received: Received) {
        let (Some(Gate::NewPattern(_)), Some(leaf)) = (gate(rule), leaf(plan)) else { return };
        let matched = plan.match_batch(batch, received);
        let runs = matched.feeds.iter().filter(|(feed, _)| *feed == plan.leaves[leaf].feed).flat_map(|(_, runs)| runs);
        runs.for_each(|run| self.watch_run(run));
    }

    fn watch_run(&mut self, run: &Run) {
        let (first, last) = (run.earliest(), run.times().last().unwrap_or(run.earliest()));
        let seen = self.seen.entry(run.key.clone()).or_insert(Seen { records: 0, first, last });
        seen.records += run.weight;
        (seen.first, seen.last) = (seen.first.min(first), seen.last.max(last));
    }

    /// Looks at how it stands now.
    pub(super) fn stand(&mut self, engine: &Engine) {
        let plan = engine.plan();
        let Some(leaf) = leaf(plan) else { return };
        let feed = &plan.feeds[plan.leaves[leaf].feed];
        let patterns = self.seen.iter().map(|(key, seen)| {
            let news = engine.news(leaf, key);
            Pattern { labels: feed.labels(key), seen: seen.clone(), news }
        });
        self.patterns = patterns.collect();
        self.patterns.sort_by_key(|pattern| (rank(pattern.news), pattern.seen.first));
        let following = engine.sequences(leaf).map(|(labels, sequence)| Following {
            labels,
            firsts: sequence.firsts().collect(),
            found: sequence.found.last(),
        });
        self.sequences = following.filter(|one| !one.firsts.is_empty() || one.found.is_some()).collect();
    }
}

fn gate(rule: &Rule) -> Option<&Gate> {
    rule.detect.as_ref()?.gate.as_ref()
}

/// The plan is that of one rule: it has one leaf with a gate at most.
fn leaf(plan: &Plan) -> Option<usize> {
    plan.leaves.iter().position(|leaf| leaf.gate.is_some())
}

fn rank(news: Option<News>) -> u8 {
    match news {
        Some(News::Told(_)) => 0,
        Some(News::Withheld(_)) => 1,
        None => 2,
        Some(News::Learned) => 3,
    }
}

fn name(news: Option<News>) -> &'static str {
    match news {
        Some(News::Told(_)) => "new",
        Some(News::Withheld(_)) => "new, one of more",
        None => "like others",
        Some(News::Learned) => "learned",
    }
}

impl Explainer<'_> {
    /// Why a rule with a gate is inactive, where its records tell.
    pub(super) fn why_gated_inactive(&self) -> Option<String> {
        let Some(Gate::Sequence(pairing)) = gate(self.rule) else { return None };
        let (within, waits) = (format_duration(pairing.within), self.gated.sequences.iter());
        let waiting: Vec<Timestamp> = waits.flat_map(|one| &one.firsts).map(|at| *at + pairing.within).collect();
        let still: Vec<&Timestamp> = waiting.iter().filter(|until| **until > self.at).collect();
        Some(match (pairing.wanted, still.iter().min()) {
            (Wanted::Then, Some(until)) => {
                format!("no second record yet; first ones wait ({}), the earliest until {until}", still.len())
            }
            (Wanted::Then, None) => format!("no record followed a first one of the same key within {within}"),
            (Wanted::Without, Some(until)) => {
                format!("first records still have time for a second one ({}), the earliest until {until}", still.len())
            }
            (Wanted::Without, None) => {
                let records = self.ranges.first().map_or(0, RangeWatch::left);
                format!(
                    "each of the {records} first records up to then had a second one within {within}, or it was told before"
                )
            }
        })
    }

    pub(super) fn put_detector(&self, out: &mut String) {
        let Some(detect) = &self.rule.detect else { return };
        match &detect.gate {
            Some(Gate::NewPattern(_)) => self.put_patterns(out),
            Some(Gate::Sequence(pairing)) => self.put_sequences(pairing.wanted, pairing.within, out),
            None => detect.comparison.iter().for_each(|comparison| self.put_comparison(comparison, out)),
        }
    }

    fn put_patterns(&self, out: &mut String) {
        let patterns = &self.gated.patterns;
        let _ = writeln!(out, "\npatterns of the records up to then: {}", patterns.len());
        for Pattern { labels, seen: Seen { records, first, last }, news } in patterns.iter().take(PATTERNS_SHOWN_MAX) {
            let records = if *records == 1 { "1 record".to_owned() } else { format!("{records} records") };
            let _ = writeln!(out, "  {:16} {labels}: {records}, {first} to {last}", name(*news));
        }
        put_more(patterns.len(), PATTERNS_SHOWN_MAX, out);
    }

    fn put_sequences(&self, wanted: Wanted, within: Duration, out: &mut String) {
        let sequences = &self.gated.sequences;
        let _ = writeln!(out, "\nsequences by their keys: {}", sequences.len());
        for Following { labels, firsts, found } in sequences.iter().take(VALUES_SHOWN_MAX) {
            let _ = write!(out, "  {labels}");
            if let Some(found) = found {
                let what = if wanted == Wanted::Then { "followed" } else { "over in vain" };
                let _ = write!(out, "  {what} at {found}");
            }
            if let Some(first) = firsts.first() {
                let until = *first + within;
                let what = match wanted {
                    _ if until > self.at => "waits",
                    Wanted::Then => "waited in vain",
                    Wanted::Without => "waited in vain, told when no record can be late,",
                };
                let _ = write!(out, "  first at {first}, {what} until {until}");
            }
            out.push('\n');
        }
        put_more(sequences.len(), VALUES_SHOWN_MAX, out);
    }

    fn put_comparison(&self, comparison: &Comparison, out: &mut String) {
        let Comparison { now, baseline, factor, at_least, direction } = comparison;
        let values = |text: &str| self.value(text).map(|values| values.into_iter().collect::<BTreeMap<_, _>>());
        let (now, baseline) = match (values(now), values(baseline)) {
            (Ok(now), Ok(baseline)) => (now, baseline),
            (Err(error), _) | (_, Err(error)) => {
                let _ = writeln!(out, "\nbaseline\n  fails: {error}");
                return;
            }
        };
        out.push_str("\nbaseline\n");
        let mut groups: Vec<&Labels> = now.keys().chain(baseline.keys()).collect();
        groups.sort();
        groups.dedup();
        for labels in groups.iter().take(VALUES_SHOWN_MAX) {
            let of = |values: &BTreeMap<Labels, f64>| values.get(*labels).copied().unwrap_or_default();
            let (now, mean) = (of(&now), of(&baseline));
            let _ = write!(out, "  {labels} {} in the window, {} in a mean one before", value_text(now), rounded(mean));
            if *direction != Direction::Down {
                let _ = write!(out, "; a spike is more than {}, and {at_least} or more", rounded(mean * factor));
            }
            if *direction != Direction::Up {
                let _ = write!(
                    out,
                    "; a drop is fewer than {}, where {at_least} or more were before",
                    rounded(mean / factor)
                );
            }
            out.push('\n');
        }
        put_more(groups.len(), VALUES_SHOWN_MAX, out);
    }
}

fn rounded(value: f64) -> String {
    value_text((value * 100.0).round() / 100.0)
}

/// That no record has a label that the rule's detector asks for, though records came so far.
pub(crate) fn without_keys(rule: &Rule, entries: &[OwnedEntry]) -> Option<String> {
    let at = entries.iter().map(|entry| entry.time).max()?;
    for read in super::reads_of(&rule.expr) {
        let mut range = RangeWatch::new(rule, &read, at).ok()?;
        entries.iter().for_each(|entry| range.watch(entry));
        if let Some(said) = range.without_keys(rule) {
            return Some(said);
        }
    }
    None
}

impl RangeWatch {
    /// The same of one range. What asks for the labels stands behind the stages that the file has.
    pub(super) fn without_keys(&self, rule: &Rule) -> Option<String> {
        let keys = &rule.detect.as_ref()?.keys;
        let first = self.steps.len().checked_sub(keys.len()).filter(|first| *first > 0)?;
        let at = (first..self.steps.len()).find(|at| self.steps[*at].left.all == 0)?;
        let (records, key) = (self.steps[first - 1].left.all, &keys[at - first]);
        let of = shortened(&self.text_of_file(first));
        (records > 0).then(|| {
            format!("none of the {records} records of `{of}` has the label `{key}`: no parser made it, and no attribute is called so")
        })
    }

    /// The selector with the stages that the file has.
    fn text_of_file(&self, steps: usize) -> String {
        self.steps[..steps].iter().map(|step| step.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// How many records were left behind all stages.
    fn left(&self) -> usize {
        self.steps.last().map_or(0, |step| step.left.all)
    }
}

/// Patterns that are shown.
const PATTERNS_SHOWN_MAX: usize = 100;
