//! The alerts of a rule: from a condition that holds to transitions and samples.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::groups::Group;
use super::{Due, Engine, LeafState, Output, edge};
use crate::alert::{self, Patience, Phase};
use crate::detect::{MORE, NewPattern, PATTERN_LABEL, PATTERNS_MAX, PATTERNS_PER_GROUP_MAX};
use crate::labels::Labels;
use crate::matcher::Failure;
use crate::plan::{Edge, Eval, Gate, REST_LABEL, Rule, RuleKind, Texts};
use crate::record::EvidenceRecord;
use crate::template::{RuleData, Template, expand_annotation};
use crate::time::{Timestamp, format_duration};
use crate::transition::{Alert, AlertState, Sample, Transition};
use crate::vector::{Element, LabelSet, Vector};
use crate::window::Terms;

/// What a rule remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleState {
    /// By the labels of the expression's element.
    pub(crate) alerts: BTreeMap<Labels, Entry>,
    /// The series that a recording rule last wrote.
    pub(crate) series: BTreeSet<Labels>,
    /// The next step of event time at which it is evaluated: at the latest the one after the clock.
    pub(crate) next_step: Timestamp,
    pub(crate) last_evaluation: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    /// Whether the last evaluation was one of empty windows.
    pub(crate) seen_empty: bool,
    /// When a series of its alerts last ended: one that begins is stamped later.
    last_end: Timestamp,
    /// Until when a record is in its windows that a stage failed on, when that happened, and why.
    failure: Option<(Timestamp, Timestamp, String)>,
}

/// One alert that is pending or firing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) phase: Phase,
    pub(crate) alert: Arc<Alert>,
    /// The group whose window is judged, where it is one.
    group: Option<Box<[u8]>>,
    last_sample: Timestamp,
    /// The value when it was last judged.
    latest: f64,
}

impl RuleState {
    pub(crate) fn new(rule: &Rule, now: Timestamp) -> Self {
        Self {
            alerts: BTreeMap::new(),
            series: BTreeSet::new(),
            next_step: rule.next_step(now),
            last_evaluation: None,
            last_error: None,
            seen_empty: false,
            last_end: Timestamp::MIN,
            failure: None,
        }
    }

    /// Remembers that records are not counted because a stage failed on them; its windows reach back by `range`.
    pub(super) fn note_failure(&mut self, failure: &Failure, range: Duration) {
        let until = failure.at + range;
        if self.failure.as_ref().is_none_or(|(known, ..)| *known <= until) {
            self.failure = Some((until, failure.at, failure.error.clone()));
        }
    }

    /// Remembers what the same rule elsewhere has seen fail.
    pub(super) fn adopt_failure(&mut self, other: &Self) {
        self.failure = other.failure.clone().max(self.failure.take());
    }

    /// That a stage failed on records of its windows.
    fn failure(&self, now: Timestamp) -> Option<String> {
        let (_, at, error) = self.failure.as_ref().filter(|(until, ..)| *until > now)?;
        Some(format!(
            "a stage failed on records, which are not counted, the last at {at}: {error}; filter by `__error__=\"\"` to leave them out on purpose"
        ))
    }
}

/// The first multiple of `step` after `now`.
pub(super) fn next_multiple(now: Timestamp, step: Duration) -> Timestamp {
    let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
    Timestamp(now.0.div_euclid(step).saturating_add(1).saturating_mul(step))
}

impl Rule {
    /// The first step after `now` at which it is judged.
    pub(super) fn next_step(&self, now: Timestamp) -> Timestamp {
        match self.eval {
            Eval::Steps { step, ahead, .. } => next_multiple(now + ahead, step) - ahead,
            Eval::Edge(_) => next_multiple(now, Duration::ZERO),
        }
    }

    /// The element's labels, where it is judged as a ruler does: those that [`Engine::identified`] has put beside them are none.
    pub(super) fn element<'l>(&self, labels: &'l Labels) -> Cow<'l, Labels> {
        let is_own = |name: &str| !name.starts_with(GIVEN);
        if !self.is_tick() || labels.iter().all(|(name, _)| is_own(name)) {
            return Cow::Borrowed(labels);
        }
        Cow::Owned(Labels::new(labels.iter().filter(|(name, _)| is_own(name))))
    }

    /// Whether its own labels stand in the place of some of these: two elements can then be one alert.
    pub(super) fn hides(&self, labels: &Labels) -> bool {
        labels.iter().any(|(name, _)| name == "alertname" || self.labels.0.iter().any(|(own, ..)| own == name))
    }

    pub(super) fn patience(&self) -> Patience {
        let RuleKind::Alert { hold, keep_firing_for, .. } = &self.kind else { return Patience::default() };
        match &self.eval {
            Eval::Edge(_) => {
                let (quiet, settle) = (self.interval.max(*keep_firing_for), self.lateness);
                Patience { hold: *hold, quiet, settle, blind_until: Timestamp::MIN }
            }
            Eval::Steps { quiet, .. } => Patience { hold: *hold, quiet: *quiet, ..Patience::default() },
        }
    }
}

/// What was seen of an element's condition.
pub(super) struct Observation<'a> {
    /// From when and until when it holds, as far as is known; `Timestamp::MAX` where no end is.
    pub(super) held: Range<Timestamp>,
    /// The time it was judged at.
    pub(super) judged: Timestamp,
    /// The value at the start.
    pub(super) value: f64,
    /// The group whose window was judged, where it is one.
    pub(super) group: Option<&'a [u8]>,
    /// Receive time of the batch that brought it.
    pub(super) cause: Option<Timestamp>,
}

impl Engine {
    /// What is wrong with a rule, for a person: that it could not be evaluated, or only in part.
    pub(super) fn rule_error(&self, rule: usize) -> Option<String> {
        let state = &self.state.rules[rule];
        let refused = || self.groups_refused(rule).or_else(|| self.patterns_refused(rule));
        state.last_error.clone().or_else(refused).or_else(|| state.failure(self.state.clock))
    }

    /// That there was no room for a pattern in the groups' memory.
    fn patterns_refused(&self, rule: usize) -> Option<String> {
        let leaf = *self.plan.rules[rule].leaves.keys().next()?;
        let until = self.state.leaves[leaf].patterns.refused_at + self.plan.leaves[leaf].retention;
        (until > self.state.clock).then(|| {
            format!(
                "no room for more patterns (`PATTERNS_PER_GROUP_MAX` is {PATTERNS_PER_GROUP_MAX}, `PATTERNS_MAX` of a rule {PATTERNS_MAX}, \
                 `groups_per_rule_max` {}): further ones are told together, as `__overflow__`, and none of further groups",
                self.plan.config.groups_per_rule_max
            )
        })
    }

    fn groups_refused(&self, rule: usize) -> Option<String> {
        let leaves = self.plan.rules[rule].leaves.keys();
        let full = leaves.filter(|leaf| {
            self.state.leaves[**leaf].refused_at + self.plan.leaves[**leaf].retention > self.state.clock
        });
        let leaf = full.min()?;
        let (groups, config) = (self.state.leaves[*leaf].len(), &self.plan.config);
        let what = match self.plan.feeds[self.plan.leaves[*leaf].feed].groups {
            LabelSet::Only(_) if matches!(self.plan.leaves[*leaf].gate, Some(Gate::Sequence(_))) => {
                "records of further ones are not followed"
            }
            LabelSet::Only(_) => "records of further ones are counted together, as `__overflow__`",
            LabelSet::AllBut(_) => "records of further ones are not counted",
        };
        Some(format!(
            "{groups} groups and no room for more (`groups_per_rule_max` is {}, `groups_max` of all rules {}): {what}",
            config.groups_per_rule_max, config.groups_max
        ))
    }

    /// The condition of a rule holds for an element.
    pub(super) fn raise(&mut self, rule: usize, labels: &Labels, seen: &Observation<'_>) {
        let (limit, blind_until) = (self.plan.rules[rule].limit, self.holds_until(rule));
        let state = &mut self.state.rules[rule];
        if let Some(entry) = state.alerts.get_mut(labels) {
            let is_known = seen.held.start >= blind_until;
            if entry.phase.state == AlertState::Pending && seen.held.start > entry.phase.until && is_known {
                entry.phase.active_at = seen.held.start; // there was a gap: `for` begins anew
            }
            entry.phase.until = entry.phase.until.max(seen.held.end);
            entry.latest = seen.value;
        } else if limit > 0 && state.alerts.len() >= limit {
            state.last_error = Some(format!("more than `limit: {limit}` alerts: {labels} is left out"));
            return;
        } else if let Err(error) = self.insert(rule, labels, seen) {
            self.state.rules[rule].last_error = Some(error);
            return;
        }
        self.proceed(rule, labels, seen.judged, Some(seen.value), seen.cause);
    }

    fn insert(&mut self, rule: usize, labels: &Labels, seen: &Observation<'_>) -> Result<(), String> {
        let phase = Phase { state: AlertState::Inactive, active_at: seen.held.start, until: seen.held.end };
        let alert = Arc::new(self.new_alert(rule, labels, seen));
        if self.plan.rules[rule].hides(labels) && self.has_alert(rule, &alert.labels) {
            return Err(format!("the rule's labels make two alerts {}: that of {labels} is left out", alert.labels));
        }
        let entry = Entry {
            phase,
            alert,
            group: seen.group.map(Into::into),
            last_sample: self.state.rules[rule].last_end,
            latest: seen.value,
        };
        if let Some(group) = self.group_of(rule, &entry) {
            group.edit_extras(|extras| extras.alerts += 1);
        }
        let alerts = &mut self.state.rules[rule].alerts;
        if alerts.is_empty() {
            let next = next_multiple(self.state.clock, self.plan.rules[rule].interval);
            self.timers.insert((next, Due::Sample(rule)));
        }
        alerts.insert(labels.clone(), entry);
        self.state.rules[rule].last_error = None;
        Ok(())
    }

    fn has_alert(&self, rule: usize, labels: &Labels) -> bool {
        self.state.rules[rule].alerts.values().any(|entry| entry.alert.labels == *labels)
    }

    /// Judges an alert, tells of its changes, and sees to it that it is judged again in time.
    pub(super) fn proceed(
        &mut self,
        rule: usize,
        labels: &Labels,
        judged: Timestamp,
        value: Option<f64>,
        cause: Option<Timestamp>,
    ) {
        let patience = self.patience(rule, labels);
        while let Some(entry) = self.state.rules[rule].alerts.get(labels) {
            let to = alert::next(entry.phase, patience, judged);
            if to == entry.phase.state {
                break;
            }
            self.change(rule, labels, to, judged, value, cause);
        }
        self.arm(rule, labels, judged);
    }

    fn change(
        &mut self,
        rule: usize,
        labels: &Labels,
        to: AlertState,
        judged: Timestamp,
        value: Option<f64>,
        cause: Option<Timestamp>,
    ) {
        let at = self.state.clock;
        let Some(mut entry) = self.state.rules[rule].alerts.remove(labels) else { return };
        let from = std::mem::replace(&mut entry.phase.state, to);
        let seen_at = match (from, to) {
            (_, AlertState::Inactive) => entry.phase.until.min(judged) - Duration::from_nanos(1),
            (AlertState::Inactive, _) => entry.phase.active_at,
            _ => judged,
        };
        let (samples, skew) = self.samples(rule, labels, &entry, seen_at);
        let is_end = (from, to) == (AlertState::Firing, AlertState::Inactive);
        let forgotten = is_end.then(|| self.forgotten(rule, labels, judged)).flatten();
        let alert = Arc::make_mut(&mut entry.alert);
        alert.active_at = entry.phase.active_at;
        alert.value = value.unwrap_or(match (&self.plan.rules[rule].eval, to) {
            (Eval::Steps { .. }, AlertState::Inactive) => entry.latest,
            _ => alert.value,
        });
        if !samples.is_empty() {
            alert.samples = samples;
        }
        match to {
            AlertState::Firing => (alert.fired_at, alert.crossed_at) = (Some(at), cause),
            AlertState::Inactive if from == AlertState::Firing => alert.resolved_at = Some(at),
            _ => {}
        }
        alert.annotations = self.annotations(rule, labels, alert, [(CLOCK_SKEW, skew), (FORGOTTEN, forgotten)]);
        self.outputs.push_back(Output::Transition(Transition { from, to, alert: entry.alert.clone(), at, cause }));
        self.sample_change(rule, &mut entry, from);
        if to == AlertState::Inactive {
            if let Some(group) = self.group_of(rule, &entry) {
                debug_assert!(group.alerts() > 0, "an alert's group does not know of it");
                group.edit_extras(|extras| extras.alerts = extras.alerts.saturating_sub(1));
            }
            self.state.rules[rule].last_error = None; // there is room for another, or for its labels
        } else {
            self.state.rules[rule].alerts.insert(labels.clone(), entry);
        }
    }

    /// An alert's time has come: its window may have fallen, or the alert has waited long enough.
    pub(super) fn handle_due_alert(&mut self, rule: usize, labels: &Labels) {
        let plan = self.plan.clone();
        let edge = edge(&plan, rule);
        let now = self.state.clock;
        let Some(entry) = self.state.rules[rule].alerts.get(labels) else { return };
        let (phase, groups) = (entry.phase, self.groups_behind(edge, labels, entry));
        let falls_at = |terms: &Terms<'_>| terms.falls_at(now, |value| edge.holds(value));
        let until = groups.iter().filter(|_| phase.until == now).map(falls_at).max().unwrap_or(phase.until);
        // An alert that begins to fire after its `for` has the value of that time, any other the one that raised it.
        let is_pending = phase.state == AlertState::Pending;
        let value = if is_pending { furthest_value(edge, &groups, now) } else { None };
        if let Some(entry) = self.state.rules[rule].alerts.get_mut(labels) {
            entry.phase.until = until;
        }
        self.proceed(rule, labels, now, value, None);
    }

    /// The windows that an alert of an edge looks at, group by group: of `max by (...)` all groups that have its labels.
    fn groups_behind<'a>(&'a self, edge: &'a Edge, labels: &Labels, entry: &Entry) -> Vec<Terms<'a>> {
        if let Some(key) = &entry.group {
            return self.terms(edge, key).into_iter().collect();
        }
        let leaf = edge.terms[0].leaf;
        let feed = self.plan.feed_of(leaf);
        let keys = self.state.leaves[leaf].iter().map(|(key, _)| key);
        let behind = keys.filter(|key| feed.has_all(key, labels) && edge.labels(feed.labels(key)) == *labels);
        behind.filter_map(|key| self.terms(edge, key)).collect()
    }

    fn arm(&mut self, rule: usize, labels: &Labels, judged: Timestamp) {
        let patience = self.patience(rule, labels);
        let Some(entry) = self.state.rules[rule].alerts.get(labels) else { return };
        if let Some(due) = alert::due(entry.phase, patience, judged).filter(|_| self.is_edge(rule)) {
            self.timers.insert((due, Due::Alert(rule, labels.clone())));
        }
    }

    /// Sets the timers anew, which follow from the alerts. Where a rule has become less patient an alert may be due already.
    pub(super) fn arm_all(&mut self) {
        self.timers.clear();
        let now = self.state.clock;
        for rule in 0..self.plan.rules.len() {
            let alerts = self.state.rules[rule].alerts.iter();
            let alerts = alerts.map(|(labels, entry)| (labels.clone(), entry.phase));
            let alerts: Vec<_> = alerts.collect();
            for (labels, phase) in &alerts {
                self.arm(rule, labels, now);
                if self.is_edge(rule) && alert::next(*phase, self.patience(rule, labels), now) != phase.state {
                    self.timers.insert((now, Due::Alert(rule, labels.clone())));
                }
            }
            if !alerts.is_empty() {
                let next = next_multiple(self.state.clock, self.plan.rules[rule].interval);
                self.timers.insert((next, Due::Sample(rule)));
            }
        }
    }

    fn is_edge(&self, rule: usize) -> bool {
        matches!(self.plan.rules[rule].eval, Eval::Edge(_))
    }

    /// Counts anew which groups are looked at: the alerts of a rule that is no more do not.
    pub(super) fn count_alerts(&mut self) {
        self.state.leaves.iter_mut().for_each(LeafState::forget_alerts);
        for (rule, state) in self.plan.rules.iter().zip(&self.state.rules) {
            let Some(leaf) = rule.leaves.keys().next() else { continue };
            for key in state.alerts.values().filter_map(|entry| entry.group.as_deref()) {
                if let Some(group) = self.state.leaves[*leaf].get_mut(key) {
                    group.edit_extras(|extras| extras.alerts += 1);
                }
            }
        }
    }

    fn group_of(&mut self, rule: usize, entry: &Entry) -> Option<&mut Group> {
        let leaf = *self.plan.rules[rule].leaves.keys().next()?;
        self.state.leaves[leaf].get_mut(entry.group.as_deref()?)
    }

    /// Ends the alerts of a rule that has more of them than its `limit`.
    pub(super) fn end_alerts(&mut self, rule: usize) {
        let (state, limit) = (&mut self.state.rules[rule], self.plan.rules[rule].limit);
        state.last_error = Some(format!("more than `limit: {limit}` alerts: there are none"));
        let alerts = std::mem::take(&mut state.alerts);
        let end = self.resolve(alerts, self.state.clock);
        self.state.rules[rule].last_end = end.max(self.state.rules[rule].last_end);
    }

    /// Ends the alerts and series of a rule that is no more.
    pub(crate) fn resolve_all(&mut self, rule: RuleState, now: Timestamp) {
        self.resolve(rule.alerts, now);
        for labels in rule.series {
            let time = rule.last_evaluation.map_or(now, |last| now.max(last + Duration::from_millis(1)));
            self.outputs.push_back(Output::Sample(Sample { labels, time, value: Sample::stale_marker() }));
        }
    }

    /// Yields the last of the series' stamps.
    fn resolve(&mut self, alerts: BTreeMap<Labels, Entry>, now: Timestamp) -> Timestamp {
        let mut end = Timestamp::MIN;
        for mut entry in alerts.into_values() {
            let from = std::mem::replace(&mut entry.phase.state, AlertState::Inactive);
            let alert = Arc::make_mut(&mut entry.alert);
            alert.resolved_at = (from == AlertState::Firing).then_some(now);
            let alert = entry.alert.clone();
            self.outputs.push_back(Output::Transition(Transition {
                from,
                to: AlertState::Inactive,
                alert,
                at: now,
                cause: None,
            }));
            self.stamp(&mut entry);
            self.sample(&entry, Some(from), Sample::stale_marker());
            self.sample(&entry, None, Sample::stale_marker());
            end = end.max(entry.last_sample);
        }
        end
    }

    /// The last records that the windows of `time` hold of the groups that the element was made of, and what they tell of the clocks that
    /// stamped them. Where the windows are empty, as where a count has fallen to nothing, the last ones before.
    fn samples(
        &self,
        rule: usize,
        labels: &Labels,
        entry: &Entry,
        time: Timestamp,
    ) -> (Vec<EvidenceRecord>, Option<String>) {
        let planned = &self.plan.rules[rule];
        let element = planned.element(labels);
        let labels = &Labels::new(element.iter().filter(|(name, _)| !planned.made_labels.contains(*name)));
        let groups = planned.leaves.iter().flat_map(|(leaf, offset)| {
            let since = time - (self.plan.leaves[*leaf].range + *offset);
            let (feed, state) = (self.plan.feed_of(*leaf), &self.state.leaves[*leaf]);
            let groups = match entry.group.clone().or_else(|| feed.only_key(labels)) {
                Some(key) => state.get(&key).filter(|_| feed.has_all(&key, labels)).into_iter().collect::<Vec<_>>(),
                None => state.iter().filter(|(key, _)| feed.has_all(key, labels)).map(|(_, group)| group).collect(),
            };
            groups.into_iter().map(move |group| (group, since))
        });
        let evidence = groups.filter_map(|(group, since)| Some((group.evidence()?, since)));
        let kept = evidence.flat_map(|(records, since)| records.iter().map(move |record| (record, record.at > since)));
        let kept: Vec<_> = kept.collect();
        let is_empty = !kept.iter().any(|(_, is_inside)| *is_inside);
        let shown = kept.into_iter().filter(|(_, is_inside)| *is_inside || is_empty);
        let mut records: Vec<_> = shown.map(|(record, _)| record).collect();
        // An expression that reads a record twice has it in two places.
        records.sort_by(|a, b| a.order().cmp(&b.order()));
        records.dedup();
        let last = &records[records.len().saturating_sub(planned.samples)..];
        let config = &self.plan.config;
        let skew = last.iter().filter_map(|record| record.skew(config)).max_by_key(|(_, ahead)| *ahead);
        let skew = skew.map(|(service, ahead)| {
            let ahead = format_duration(Duration::from_secs(ahead.as_secs()));
            format!("the clock of `{service}` is ahead by {ahead}: records are judged at the time they were received")
        });
        (last.iter().map(|record| record.show(config)).collect(), skew)
    }

    fn new_alert(&self, rule: usize, labels: &Labels, seen: &Observation<'_>) -> Alert {
        let planned = &self.plan.rules[rule];
        let RuleKind::Alert { hold, keep_firing_for, .. } = &planned.kind else {
            unreachable!("only alerts are raised")
        };
        Alert {
            group: planned.group.clone(),
            expr: planned.expr.clone(),
            detector: planned.detector.clone(),
            hold: *hold,
            keep_firing_for: *keep_firing_for,
            labels: self.alert_labels(rule, labels, seen.value),
            annotations: Labels::default(),
            value: seen.value,
            bound: planned.bound.clone(),
            active_at: seen.held.start,
            fired_at: None,
            crossed_at: None,
            resolved_at: None,
            samples: Vec::new(),
        }
    }

    /// The element's labels, over them the rule's, over them the alert's name.
    fn alert_labels(&self, rule: usize, labels: &Labels, value: f64) -> Labels {
        let planned = &self.plan.rules[rule];
        let labels = &planned.element(labels);
        let own = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = self.expand(&planned.labels, labels, value, &[]);
        let name = [("alertname".to_owned(), planned.name.to_string())];
        Labels::new(own.chain(given).chain(name))
    }

    /// The elements by what a ruler knows their alerts by, which are the labels that the rule has given them: what its templates made of the
    /// value stands beside the element's own. An alert that goes on though its element is another is that one's now. `Err` where two are alike.
    pub(super) fn identified(&mut self, rule: usize, vector: &Vector) -> Result<Vector, String> {
        let planned = &self.plan.rules[rule];
        let has_templates = planned.labels.0.iter().any(|(_, text, _)| text.contains("{{"));
        if !has_templates && !vector.iter().any(|element| planned.hides(&element.labels)) {
            return Ok(vector.clone());
        }
        let mut known = BTreeMap::new();
        let mut identified = Vector::new();
        for Element { labels, value } in vector {
            let given = self.expand(&planned.labels, labels, *value, &[]).filter(|_| has_templates);
            let given: Vec<_> = given.map(|(name, text)| (format!("{GIVEN}{name}"), text)).collect();
            let given = given.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            let key = Labels::new(labels.iter().chain(given));
            let alert = self.alert_labels(rule, labels, *value);
            identified.push(Element { labels: key.clone(), value: *value });
            if known.insert(alert.clone(), key).is_some() {
                return Err(format!("the rule's labels make two alerts {alert}: as with a ruler none changes"));
            }
        }
        let alerts = std::mem::take(&mut self.state.rules[rule].alerts).into_iter();
        let moved = alerts.map(|(key, entry)| (known.get(&entry.alert.labels).cloned().unwrap_or(key), entry));
        self.state.rules[rule].alerts = moved.collect();
        Ok(identified)
    }

    /// The rule's, `words` of ours, and how many patterns are told together; one of the same name that the rule has stands.
    fn annotations<const N: usize>(
        &self,
        rule: usize,
        labels: &Labels,
        alert: &Alert,
        words: [(&'static str, Option<String>); N],
    ) -> Labels {
        let RuleKind::Alert { annotations, .. } = &self.plan.rules[rule].kind else { return Labels::default() };
        let more = (NEW_PATTERNS, self.more_patterns(rule, labels, alert.value));
        let words = words.into_iter().chain([more]).filter_map(|(name, text)| Some((name.to_owned(), text?)));
        let element = self.plan.rules[rule].element(labels);
        let own = self.expand(annotations, &element, alert.value, &alert.samples);
        Labels::new(words.chain(own))
    }

    /// That a flatline has ended because its group is not missed any more: not because it is back.
    fn forgotten(&self, rule: usize, labels: &Labels, judged: Timestamp) -> Option<String> {
        let planned = &self.plan.rules[rule];
        planned.detector.as_deref().filter(|kind| *kind == "flatline")?;
        let range = |leaf: &usize| self.plan.leaves[*leaf].range;
        let window = *planned.leaves.keys().min_by_key(|leaf| range(leaf))?;
        let forget_after = planned.leaves.keys().map(range).max()?;
        let key = self.plan.feed_of(window).only_key(labels)?;
        let group = self.state.leaves[window].get(&key);
        let is_back = group.is_some_and(|group| group.window.last().is_some_and(|last| last > judged - range(&window)));
        (!is_back).then(|| {
            format!("it is not back: after {} of silence it is no longer missed", format_duration(forget_after))
        })
    }

    /// Of the alert that stands for several new patterns: how many.
    fn more_patterns(&self, rule: usize, labels: &Labels, value: f64) -> Option<String> {
        let NewPattern { window, max_new, .. } = self.told_together(rule, labels)?;
        let more = if value == 1.0 { "1 more new pattern".to_owned() } else { format!("{value} more new patterns") };
        Some(format!("{more} in {}; no more than {max_new} are told each (`max_new`)", format_duration(*window)))
    }

    /// The detector, where the alert stands for several new patterns.
    fn told_together(&self, rule: usize, labels: &Labels) -> Option<&NewPattern> {
        let leaf = *self.plan.rules[rule].leaves.keys().next()?;
        let Some(Gate::NewPattern(config)) = &self.plan.leaves[leaf].gate else { return None };
        let is_rest = labels.get(REST_LABEL).is_some();
        (is_rest && labels.get(PATTERN_LABEL) == Some(MORE)).then_some(config)
    }

    /// How long an alert waits. One that stands for several new patterns waits for the first of them to have company, so that it tells how
    /// many, and not for the rule's `for`: each of them counts once, and would be gone before.
    pub(super) fn patience(&self, rule: usize, labels: &Labels) -> Patience {
        let planned = &self.plan.rules[rule];
        let patience = Patience { blind_until: self.holds_until(rule), ..planned.patience() };
        let Some(config) = self.told_together(rule, labels) else { return patience };
        Patience { hold: planned.interval.min(config.window / 2), ..patience }
    }

    /// Until when no alert of a rule that is judged at the record ends; of others it is seen to where they are evaluated.
    fn holds_until(&self, rule: usize) -> Timestamp {
        if self.is_edge(rule) { self.sees_at(rule) } else { Timestamp::MIN }
    }

    fn expand(
        &self,
        texts: &Texts,
        labels: &Labels,
        value: f64,
        samples: &[EvidenceRecord],
    ) -> impl Iterator<Item = (String, String)> {
        let config = &self.plan.config;
        let external_labels = config.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let data = RuleData {
            labels,
            value,
            external_labels: &Labels::new(external_labels),
            external_url: &config.external_url,
            samples,
            links: &config.links,
            now: self.state.clock,
        };
        let expand = |text: &String, template: &Option<Template>| match template {
            Some(template) => expand_annotation(template, &data),
            None => text.clone(),
        };
        let expanded = texts.0.iter().map(|(name, text, template)| (name.clone(), expand(text, template)));
        expanded.collect::<Vec<_>>().into_iter()
    }

    /// Gives an alert that goes on the value of now, and annotations with that. What it shows of its cause, and the value where it holds no
    /// more, stay.
    fn refresh(&mut self, rule: usize, labels: &Labels, entry: &mut Entry) {
        let now = self.state.clock;
        let value = match &self.plan.rules[rule].eval {
            Eval::Edge(edge) => {
                furthest_value(edge, &self.groups_behind(edge, labels, entry), now).filter(|value| edge.holds(*value))
            }
            Eval::Steps { .. } => Some(entry.latest),
        };
        let Some(value) = value.filter(|value| value.to_bits() != entry.alert.value.to_bits()) else { return };
        let alert = Arc::make_mut(&mut entry.alert);
        alert.value = value;
        let skew = alert.annotations.get(CLOCK_SKEW).map(str::to_owned);
        alert.annotations = self.annotations(rule, labels, alert, [(CLOCK_SKEW, skew)]);
        if entry.phase.state == AlertState::Firing {
            let (from, to) = (AlertState::Firing, AlertState::Firing);
            let alert = entry.alert.clone();
            self.outputs.push_back(Output::Transition(Transition { from, to, alert, at: now, cause: None }));
        }
    }

    /// The same of all alerts of a rule that is judged as a ruler does, after each evaluation.
    pub(super) fn refresh_all(&mut self, rule: usize) {
        let mut alerts = std::mem::take(&mut self.state.rules[rule].alerts);
        alerts.iter_mut().for_each(|(labels, entry)| self.refresh(rule, labels, entry));
        self.state.rules[rule].alerts = alerts;
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of a rule's alerts, once an interval, and what they have come to.
    pub(super) fn sample_alerts(&mut self, rule: usize) {
        let mut alerts = std::mem::take(&mut self.state.rules[rule].alerts);
        for (labels, entry) in &mut alerts {
            self.refresh(rule, labels, entry);
            self.stamp(entry);
            self.sample(entry, Some(entry.phase.state), 1.0);
            self.sample(entry, None, entry.phase.active_at.seconds().floor());
        }
        if !alerts.is_empty() {
            let next = next_multiple(self.state.clock, self.plan.rules[rule].interval);
            self.timers.insert((next, Due::Sample(rule)));
        }
        self.state.rules[rule].alerts = alerts;
    }

    fn sample_change(&mut self, rule: usize, entry: &mut Entry, from: AlertState) {
        self.stamp(entry);
        if from != AlertState::Inactive {
            self.sample(entry, Some(from), Sample::stale_marker());
        }
        if entry.phase.state == AlertState::Inactive {
            self.sample(entry, None, Sample::stale_marker());
            self.state.rules[rule].last_end = entry.last_sample;
        } else {
            self.sample(entry, Some(entry.phase.state), 1.0);
            self.sample(entry, None, entry.phase.active_at.seconds().floor());
        }
    }

    /// The next sample's time: now, but later than the one before, by what remote write can tell apart.
    fn stamp(&self, entry: &mut Entry) {
        entry.last_sample = self.state.clock.max(entry.last_sample + Duration::from_millis(1));
    }

    fn sample(&mut self, entry: &Entry, state: Option<AlertState>, value: f64) {
        let labels = entry.alert.labels.iter();
        let labels = match state {
            Some(state) => Labels::new(labels.chain([("__name__", "ALERTS"), ("alertstate", state_name(state))])),
            None => Labels::new(labels.chain([("__name__", "ALERTS_FOR_STATE")])),
        };
        self.outputs.push_back(Output::Sample(Sample { labels, time: entry.last_sample, value }));
    }
}

/// The value of several groups.
fn furthest_value(edge: &Edge, groups: &[Terms<'_>], time: Timestamp) -> Option<f64> {
    groups.iter().filter_map(|terms| terms.value(time)).reduce(|a, b| edge.furthest(a, b))
}

/// Begins the names under which a key has the labels that a rule has given: no label's name begins so.
const GIVEN: char = '=';

/// Name of the annotation that tells of a service whose clock is ahead.
const CLOCK_SKEW: &str = "clock_skew";

/// Name of the annotation that tells of a group that did not come back.
const FORGOTTEN: &str = "forgotten";

/// Name of the annotation that tells how many new patterns an alert stands for.
const NEW_PATTERNS: &str = "new_patterns";

fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Inactive => "inactive",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}
