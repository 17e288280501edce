//! The alerts of a backtest: when each fired and how long, which rules are the loudest, and what differs between two runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Event;
use crate::labels::Labels;
use crate::time::Timestamp;
use crate::transition::{AlertState, Transition};

/// One time that an alert fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Episode {
    /// Name of the rule group.
    pub group: Arc<str>,
    /// Name of the rule.
    pub alert: String,
    /// The alert's labels.
    #[serde(serialize_with = "as_map")]
    pub labels: Labels,
    /// When its condition began to hold.
    #[serde(serialize_with = "as_text")]
    pub active_at: Timestamp,
    /// When it began to fire.
    #[serde(serialize_with = "as_text")]
    pub fired_at: Timestamp,
    /// When it was resolved; the end of the history where it still fires there.
    #[serde(serialize_with = "as_text")]
    pub ended_at: Timestamp,
    /// Whether it was resolved.
    pub is_resolved: bool,
}

impl Episode {
    /// How long it fired.
    pub fn duration(&self) -> Duration {
        self.ended_at.since(self.fired_at)
    }
}

/// Collects the episodes of a run.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    firing: BTreeMap<(Arc<str>, Labels), Episode>,
    ended: Vec<Episode>,
    messages: usize,
}

impl Episodes {
    /// Takes note of what happened.
    pub fn handle(&mut self, event: &Event) {
        match event {
            Event::Transition(transition) => self.handle_transition(transition),
            Event::Notification(_) => self.messages += 1,
            Event::Sample(_) => {}
        }
    }

    fn handle_transition(&mut self, transition: &Transition) {
        let Transition { from, to, alert, at, .. } = transition;
        let key = || (alert.group.clone(), alert.labels.clone());
        match (from, to) {
            (AlertState::Firing, AlertState::Firing) => {}
            (_, AlertState::Firing) => {
                let episode = Episode {
                    group: alert.group.clone(),
                    alert: alert.labels.get("alertname").unwrap_or_default().to_owned(),
                    labels: alert.labels.clone(),
                    active_at: alert.active_at,
                    fired_at: *at,
                    ended_at: *at,
                    is_resolved: false,
                };
                self.firing.insert(key(), episode);
            }
            (AlertState::Firing, AlertState::Inactive) => {
                let ended = self.firing.remove(&key());
                self.ended.extend(ended.map(|episode| Episode { ended_at: *at, is_resolved: true, ..episode }));
            }
            _ => {}
        }
    }

    /// What there was when the history ends, by the time at which they began to fire.
    pub fn finish(mut self, end: Timestamp) -> Run {
        let firing =
            self.firing.into_values().map(|episode| Episode { ended_at: end.max(episode.fired_at), ..episode });
        self.ended.extend(firing);
        self.ended.sort_by(|a, b| (a.fired_at, &a.group, &a.labels).cmp(&(b.fired_at, &b.group, &b.labels)));
        Run { episodes: self.ended, messages: self.messages }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// In the order in which they began to fire.
    pub episodes: Vec<Episode>,
    /// Messages that the alerting policy sent.
    pub messages: usize,
}

/// How loud a rule was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// Name of the rule group.
    pub group: Arc<str>,
    /// Name of the rule.
    pub alert: String,
    /// How often an alert of it began to fire.
    pub pages: usize,
    /// How many different label sets did.
    pub alerts: usize,
    /// How many pages were over within [`SHORT`].
    pub short: usize,
    /// Half of the pages lasted no longer.
    #[serde(serialize_with = "in_seconds")]
    pub median: Duration,
    /// The longest.
    #[serde(serialize_with = "in_seconds")]
    pub longest: Duration,
    /// All together.
    #[serde(serialize_with = "in_seconds")]
    pub total: Duration,
    /// Pages by day, in UTC.
    pub days: BTreeMap<String, usize>,
}

/// A page that was over so soon would hardly have been looked at in time.
pub const SHORT: Duration = Duration::from_secs(5 * 60);

impl Run {
    /// Every rule that fired, the loudest first: by pages, then by the short ones among them.
    pub fn noise(&self) -> Vec<Noise> {
        let mut by_rule: BTreeMap<(&str, &str), Vec<&Episode>> = BTreeMap::new();
        for episode in &self.episodes {
            by_rule.entry((&episode.group, &episode.alert)).or_default().push(episode);
        }
        let mut noise: Vec<Noise> = by_rule.into_values().map(|episodes| noise_of(&episodes)).collect();
        noise.sort_by_key(|noise| std::cmp::Reverse((noise.pages, noise.short)));
        noise
    }
}

fn noise_of(episodes: &[&Episode]) -> Noise {
    let mut durations: Vec<Duration> = episodes.iter().map(|episode| episode.duration()).collect();
    durations.sort_unstable();
    let mut labels: Vec<&Labels> = episodes.iter().map(|episode| &episode.labels).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut days = BTreeMap::new();
    for episode in episodes {
        *days.entry(day(episode.fired_at)).or_default() += 1;
    }
    Noise {
        group: episodes[0].group.clone(),
        alert: episodes[0].alert.clone(),
        pages: episodes.len(),
        alerts: labels.len(),
        short: episodes.iter().filter(|episode| episode.is_resolved && episode.duration() < SHORT).count(),
        median: durations[(durations.len() - 1) / 2],
        longest: durations[durations.len() - 1],
        total: durations.iter().sum(),
        days,
    }
}

/// `2026-11-24`
pub fn day(at: Timestamp) -> String {
    let text = at.to_string();
    text.split('T').next().unwrap_or(&text).to_owned()
}

/// What differs between two runs over the same history: pages that only one of them has. Two pages are one if their labels are the same
/// and they fire at the same time, be it for a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<'a> {
    /// Only the first has them.
    pub gone: Vec<&'a Episode>,
    /// Only the second has them.
    pub new: Vec<&'a Episode>,
    /// Both do.
    pub kept: Vec<(&'a Episode, &'a Episode)>,
}

impl<'a> Changes<'a> {
    /// Lays the second beside the first.
    pub fn new(first: &'a Run, second: &'a Run) -> Self {
        let mut by_labels: BTreeMap<&Labels, Vec<&Episode>> = BTreeMap::new();
        for episode in second.episodes.iter().rev() {
            by_labels.entry(&episode.labels).or_default().push(episode);
        }
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for episode in &first.episodes {
            let candidates = by_labels.entry(&episode.labels).or_default();
            let overlaps = |other: &&Episode| other.fired_at <= episode.ended_at && other.ended_at >= episode.fired_at;
            match candidates.iter().rposition(overlaps) {
                Some(at) => kept.push((episode, candidates.remove(at))),
                None => gone.push(episode),
            }
        }
        let mut new: Vec<&Episode> = by_labels.into_values().flatten().collect();
        new.sort_by(|a, b| (a.fired_at, &a.labels).cmp(&(b.fired_at, &b.labels)));
        Self { gone, new, kept }
    }
}

fn as_text<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn as_map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

fn in_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(alert: &str, fired: i64, ended: i64) -> Episode {
        let at = |minutes: i64| Timestamp(minutes * 60_000_000_000);
        Episode {
            group: "g".into(),
            alert: alert.to_owned(),
            labels: Labels::new([("alertname", alert)]),
            active_at: at(fired),
            fired_at: at(fired),
            ended_at: at(ended),
            is_resolved: true,
        }
    }

    #[test]
    fn the_loudest_come_first() {
        let episodes =
            vec![episode("b", 0, 10), episode("a", 1, 2), episode("a", 2000, 2001), episode("a", 2002, 2012)];
        let noise = Run { episodes, messages: 0 }.noise();
        let told: Vec<_> = noise.iter().map(|n| (&*n.alert, n.pages, n.alerts, n.short, n.longest.as_secs())).collect();
        assert_eq!(told, [("a", 3, 1, 2, 600), ("b", 1, 1, 0, 600)]);
        assert_eq!(noise[0].days, BTreeMap::from([("1970-01-01".to_owned(), 1), ("1970-01-02".to_owned(), 2)]));
        assert_eq!((noise[0].median.as_secs(), noise[0].total.as_secs()), (60, 720));
    }

    #[test]
    fn pages_are_the_same_where_they_overlap() {
        let first = Run { episodes: vec![episode("a", 0, 10), episode("a", 20, 30), episode("b", 5, 6)], messages: 0 };
        let second = Run { episodes: vec![episode("a", 2, 9), episode("a", 31, 40), episode("c", 1, 2)], messages: 0 };
        let changes = Changes::new(&first, &second);
        let told = |episodes: &[&Episode]| -> Vec<String> {
            episodes.iter().map(|e| format!("{}{}", e.alert, e.fired_at.0 / 60_000_000_000)).collect()
        };
        assert_eq!(told(&changes.gone), ["a20", "b5"]);
        assert_eq!(told(&changes.new), ["c1", "a31"]);
        assert_eq!(changes.kept, [(&first.episodes[0], &second.episodes[0])]);
    }
}
