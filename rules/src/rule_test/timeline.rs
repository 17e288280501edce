//! What happened in a test, in order, for a person to read.

use std::fmt::Write as _;

use crate::alerting::notification::Notification;
use crate::query::answer::value_text;
use crate::query::records::OwnedEntry;
use crate::time::{Timestamp, format_duration};
use crate::transition::{AlertState, Transition};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// Records of one stream, the last of them received at `until`.
    Records { stream: String, line: String, others: bool, count: usize, until: Timestamp },
    /// An alert's new state.
    Alert { state: &'static str, text: String },
    /// Somebody was told.
    Message(String),
    /// An expectation that failed.
    Failure(String),
}

impl Moment {
    pub(super) fn of_record(entry: &OwnedEntry, received: Timestamp) -> Self {
        let what = What::Records {
            stream: entry.stream.to_string(),
            line: entry.line.clone(),
            others: false,
            count: 1,
            until: received,
        };
        Self { at: received, what }
    }

    /// `None` where an alert goes on with another value.
    pub(super) fn of_transition(transition: &Transition) -> Option<Self> {
        let state = match (transition.from, transition.to) {
            (AlertState::Firing, AlertState::Firing) => return None,
            (_, AlertState::Pending) => "pending",
            (_, AlertState::Firing) => "firing",
            (AlertState::Firing, AlertState::Inactive) => "resolved",
            (_, AlertState::Inactive) => "forgotten",
        };
        let alert = &transition.alert;
        let text = format!("{} value {}", alert.labels, value_text(alert.value));
        Some(Self { at: transition.at, what: What::Alert { state, text } })
    }

    pub(super) fn of_notification(notification: &Notification) -> Self {
        let firing = notification.alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
        let resolved = notification.alerts.len() - firing;
        let mut text = format!("{} ", notification.contact_point);
        match (firing, resolved) {
            (firing, 0) => _ = write!(text, "{firing} firing"),
            (0, resolved) => _ = write!(text, "{resolved} resolved"),
            (firing, resolved) => _ = write!(text, "{firing} firing, {resolved} resolved"),
        }
        let _ = write!(text, " {}", notification.common_labels);
        Self { at: notification.due, what: What::Message(text) }
    }

    /// Takes in the next one, if it is more of the same.
    pub(super) fn absorb(&mut self, next: &Self) -> bool {
        let What::Records { stream, line, others, count, until } = &mut self.what else { return false };
        let What::Records { stream: next_stream, line: next_line, .. } = &next.what else { return false };
        if stream != next_stream {
            return false;
        }
        *others |= line != next_line;
        *count += 1;
        *until = next.at;
        true
    }

    fn kind(&self) -> &'static str {
        match &self.what {
            What::Records { .. } => "record",
            What::Alert { state, .. } => state,
            What::Message(_) => "message",
            What::Failure(_) => "expected",
        }
    }

    fn text(&self, start: Timestamp) -> String {
        match &self.what {
            What::Records { stream, line, others, count, until } => {
                let more = match (count, others) {
                    (1, _) => String::new(),
                    (count, false) => format!("  ×{count}, to {}", relative(*until, start)),
                    (count, true) => format!("  and {} more, to {}", count - 1, relative(*until, start)),
                };
                format!("{stream} {}{more}", shortened(line))
            }
            What::Alert { text, .. } | What::Message(text) | What::Failure(text) => text.clone(),
        }
    }
}

/// The moments, each on a line; those that failed are marked.
pub(super) fn render(moments: &[Moment], start: Timestamp) -> String {
    let times: Vec<String> = moments.iter().map(|moment| relative(moment.at, start)).collect();
    let width = times.iter().map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    for (moment, time) in moments.iter().zip(&times) {
        let mark = if matches!(moment.what, What::Failure(_)) { '>' } else { ' ' };
        let _ = writeln!(out, "{mark} {time:>width$}  {:9} {}", moment.kind(), moment.text(start));
    }
    out
}

/// So long after the test's start, or before it.
pub(super) fn relative(at: Timestamp, start: Timestamp) -> String {
    if at < start { format!("-{}", format_duration(start.since(at))) } else { format_duration(at.since(start)) }
}

fn shortened(line: &str) -> String {
    let one_line = line.replace(['\n', '\r', '\t'], " ");
    match one_line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

/// Characters of a record's line that a timeline shows.
const LINE_CHARS_MAX: usize = 80;
