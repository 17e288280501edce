//! Lays what was expected beside what came.

use std::sync::Arc;

use super::timeline::relative;
use super::{ExpectedAlert, ExpectedMessage, ExpectedText, ExpectedValue, Rendered, TextPart};
use crate::alerting::notification::Notification;
use crate::labels::Labels;
use crate::query::answer::value_text;
use crate::time::Timestamp;
use crate::transition::Alert;

/// Something that can be expected.
pub(super) trait Expect {
    type Got;

    /// What is otherwise than expected, as lines of a diff: what was expected behind `-`, what came behind `+`.
    fn differences(&self, got: &Self::Got, start: Timestamp) -> Vec<String>;

    fn show(&self, start: Timestamp) -> String;

    fn show_got(got: &Self::Got, start: Timestamp) -> String;
}

/// The differences between two sets, in which every element is to have its counterpart; none where all have.
pub(super) fn diff<E: Expect>(expected: &[E], got: &[E::Got], start: Timestamp) -> Vec<String> {
    let taken = meet(expected, got, start);
    let is_met = |at: &usize| taken.contains(&Some(*at));
    let mut unmet: Vec<&E> = (0..expected.len()).filter(|at| !is_met(at)).map(|at| &expected[at]).collect();
    let mut left: Vec<&E::Got> = got.iter().zip(&taken).filter(|(_, by)| by.is_none()).map(|(got, _)| got).collect();
    let mut lines = Vec::new();
    while let Some((at, nearest)) = nearest(&unmet, &left, start) {
        let (expected, got) = (unmet.remove(at), left.remove(nearest));
        lines.push(format!("  {}", E::show_got(got, start)));
        lines.extend(expected.differences(got, start));
    }
    lines.extend(unmet.into_iter().map(|expected| format!("- {}", expected.show(start))));
    lines.extend(left.into_iter().map(|got| format!("+ {}", E::show_got(got, start))));
    lines
}

/// For each that came, which of the expected it meets, so that as many are met as can be (augmenting paths in a bipartite graph; Kuhn 1955).
fn meet<E: Expect>(expected: &[E], got: &[E::Got], start: Timestamp) -> Vec<Option<usize>> {
    let meets = |expected: &E| (0..got.len()).filter(|at| expected.differences(&got[*at], start).is_empty()).collect();
    let met_by: Vec<Vec<usize>> = expected.iter().map(meets).collect();
    let mut taken = vec![None; got.len()];
    for at in 0..expected.len() {
        find_place(at, &met_by, &mut taken, &mut vec![false; got.len()]);
    }
    taken
}

/// Gives `at` a place, where need be by giving another to who has it.
fn find_place(at: usize, met_by: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    met_by[at].iter().any(|place| {
        let is_new = !std::mem::replace(&mut tried[*place], true);
        let is_free = is_new && taken[*place].is_none_or(|other| find_place(other, met_by, taken, tried));
        if is_free {
            taken[*place] = Some(at);
        }
        is_free
    })
}

/// The two that differ least, as indices.
fn nearest<E: Expect>(expected: &[&E], got: &[&E::Got], start: Timestamp) -> Option<(usize, usize)> {
    let pairs = (0..expected.len()).flat_map(|a| (0..got.len()).map(move |b| (a, b)));
    pairs.min_by_key(|(a, b)| expected[*a].differences(got[*b], start).len())
}

impl Expect for ExpectedAlert {
    type Got = Arc<Alert>;

    fn differences(&self, got: &Arc<Alert>, _start: Timestamp) -> Vec<String> {
        let mut lines = pairs("label", &self.labels, &got.labels, self.is_exact);
        lines.extend(pairs("annotation", &self.annotations, &got.annotations, self.is_exact));
        if let Some(value) = self.value.filter(|value| !is_same(*value, got.value)) {
            lines.push(format!("-   value {}", value_text(value)));
            lines.push(format!("+   value {}", value_text(got.value)));
        }
        let missing: Vec<&String> =
            self.samples.iter().filter(|text| !got.samples.iter().any(|sample| sample.body.contains(*text))).collect();
        if !missing.is_empty() {
            lines.extend(missing.iter().map(|text| format!("-   a sample with {text:?}")));
            lines.extend(got.samples.iter().map(|sample| format!("+   sample {:?}", sample.body)));
            if got.samples.is_empty() {
                lines.push("+   no sample".to_owned());
            }
        }
        lines
    }

    fn show(&self, _start: Timestamp) -> String {
        let value = self.value.map(|value| format!(" value {}", value_text(value))).unwrap_or_default();
        format!("{}{value}", shown(&self.labels))
    }

    fn show_got(got: &Arc<Alert>, _start: Timestamp) -> String {
        format!("{} value {}", got.labels, value_text(got.value))
    }
}

impl Expect for ExpectedValue {
    type Got = (Labels, f64);

    fn differences(&self, (labels, value): &(Labels, f64), _start: Timestamp) -> Vec<String> {
        let mut lines = pairs("label", &self.labels, labels, false);
        if !is_same(self.value, *value) {
            lines.push(format!("-   value {}", value_text(self.value)));
            lines.push(format!("+   value {}", value_text(*value)));
        }
        lines
    }

    fn show(&self, _start: Timestamp) -> String {
        format!("{} value {}", shown(&self.labels), value_text(self.value))
    }

    fn show_got((labels, value): &(Labels, f64), _start: Timestamp) -> String {
        format!("{labels} value {}", value_text(*value))
    }
}

/// A message, and what its integration makes of it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) notification: Notification,
    pub(super) rendered: Result<Rendered, String>,
}

impl Expect for ExpectedMessage {
    type Got = Message;

    fn differences(&self, message: &Message, start: Timestamp) -> Vec<String> {
        let got = &message.notification;
        let mut lines = pairs("label", &self.labels, &got.common_labels, false);
        lines.extend(pairs("annotation", &self.annotations, &got.common_annotations, false));
        let (firing, resolved) = counts(got);
        let time = |at: Timestamp| relative(at, start);
        let others = [
            ("integration", self.integration.clone().map(|(_, name)| name), got.integration.to_string()),
            ("firing", self.firing.map(|count| count.to_string()), firing.to_string()),
            ("resolved", self.resolved.map(|count| count.to_string()), resolved.to_string()),
            ("reason", self.reason.clone(), reason(got)),
            ("at", self.at.map(|at| time(at.time(start))), time(got.due)),
        ];
        for (name, expected, got) in others {
            let Some(expected) = expected.filter(|expected| *expected != got) else { continue };
            lines.push(format!("-   {name} {expected}"));
            lines.push(format!("+   {name} {got}"));
        }
        let group_labels = self.group_labels.iter();
        lines.extend(group_labels.flat_map(|labels| pairs("group label", labels, &got.group_labels, true)));
        let alerts = self.alerts.iter().flat_map(|alerts| diff(alerts, &got.alerts, start));
        lines.extend(alerts.map(|line| format!("{}   alert {}", &line[..1], line[1..].trim_start())));
        let texts = self.texts.iter();
        lines.extend(texts.flat_map(|(part, expected)| message.differences(*part, expected)));
        lines
    }

    fn show(&self, start: Timestamp) -> String {
        let at = self.at.map(|at| format!("at {} ", relative(at.time(start), start))).unwrap_or_default();
        format!("a message {at}{}", shown(&self.labels))
    }

    fn show_got(Message { notification: got, .. }: &Message, start: Timestamp) -> String {
        let (firing, resolved) = counts(got);
        let at = relative(got.due, start);
        format!("a message at {at} {}: {firing} firing, {resolved} resolved ({})", got.common_labels, reason(got))
    }
}

impl Message {
    fn differences(&self, part: TextPart, expected: &ExpectedText) -> Vec<String> {
        let name = part.name();
        let missing = |why: String| vec![format!("-   a {name}"), format!("+   no {name}: {why}")];
        let rendered = match &self.rendered {
            Ok(rendered) => rendered,
            Err(error) => return missing(error.clone()),
        };
        let got = match part {
            TextPart::Subject => &rendered.subject,
            TextPart::Text => &rendered.text,
            TextPart::Body => &rendered.body,
        };
        let Some(got) = got else { return missing(format!("`{}` sends none", self.notification.integration)) };
        match expected {
            ExpectedText::Whole(text) => line_differences(name, text.trim(), got.trim()),
            ExpectedText::Holding(texts) => {
                let absent: Vec<&String> = texts.iter().filter(|text| !got.contains(*text)).collect();
                if absent.is_empty() {
                    return Vec::new();
                }
                let mut lines: Vec<String> = absent.iter().map(|text| format!("-   a {name} with {text:?}")).collect();
                lines.push(format!("+   {name}"));
                lines.extend(got.trim().lines().map(|line| format!("+     {line}")));
                lines
            }
        }
    }
}

/// The lines in which two texts differ, with some around them.
fn line_differences(name: &str, expected: &str, got: &str) -> Vec<String> {
    if expected == got {
        return Vec::new();
    }
    let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let before = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let room = expected.len().min(got.len()) - before;
    let after = expected.iter().rev().zip(got.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
    let inside = |lines: &[&str], mark: char| -> Vec<String> {
        lines[before..lines.len() - after].iter().map(|line| format!("{mark}     {line}")).collect()
    };
    let around = |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| format!("      {line}")).collect() };
    let mut lines = vec![format!("    {name}")];
    lines.extend(around(&expected[before.saturating_sub(CONTEXT_LINES)..before]));
    lines.extend(inside(&expected, '-'));
    lines.extend(inside(&got, '+'));
    let end = expected.len() - after;
    lines.extend(around(&expected[end..expected.len().min(end + CONTEXT_LINES)]));
    lines
}

/// Lines shown before and behind those that differ.
const CONTEXT_LINES: usize = 2;

fn counts(message: &Notification) -> (usize, usize) {
    let firing = message.alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
    (firing, message.alerts.len() - firing)
}

fn reason(message: &Notification) -> String {
    message.reason.name().to_owned()
}

/// Differences in names and texts; a text that is expected to be empty is one that is not there.
fn pairs(what: &str, expected: &[(String, String)], got: &Labels, is_exact: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, text) in expected {
        let found = got.get(name).unwrap_or_default();
        if found != text {
            lines.push(match text.is_empty() {
                true => format!("-   no {what} {name}"),
                false => format!("-   {what} {name}={text:?}"),
            });
            lines.push(match found.is_empty() {
                true => format!("+   no {what} {name}"),
                false => format!("+   {what} {name}={found:?}"),
            });
        }
    }
    let unexpected = got.iter().filter(|(name, _)| is_exact && !expected.iter().any(|(other, _)| other == name));
    lines.extend(unexpected.map(|(name, text)| format!("+   {what} {name}={text:?}")));
    lines
}

fn shown(labels: &[(String, String)]) -> String {
    Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))).to_string()
}

/// Whether two values differ by less than a millionth, as what was written in decimal differs from what was computed.
fn is_same(expected: f64, got: f64) -> bool {
    let is_near = || (expected - got).abs() <= expected.abs().max(got.abs()) * 1e-6;
    expected == got || (expected.is_nan() && got.is_nan()) || (expected.is_finite() && got.is_finite() && is_near())
}
