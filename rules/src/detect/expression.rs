//! Detectors as LogQL.

use std::ops::Range;
use std::time::Duration;

use super::{
    BurnRate, BurnWindow, Comparison, Direction, Distinct, Flatline, NewPattern, PATTERN_LABEL, Pairing, Sequence,
    Spike, Wanted, Where,
};
use crate::time::format_duration;

/// An expression's text, and which parts of it are the file's.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) places: Vec<(Range<usize>, Range<usize>)>,
}

/// What an expression is written of.
enum Part<'a> {
    Text(&'a str),
    Number(f64),
    /// The records of each group in a window that ended this long ago.
    Count(&'a Where, &'a [String], Duration, Duration),
}
use Part::{Count, Number, Text};

const NOW: Duration = Duration::ZERO;

impl Spike {
    /// The value is the number of records in the window. A group without a baseline has one of 0; so has the present window without
    /// records, where fewer are looked for.
    pub(super) fn expression(&self) -> Expression {
        let Self { records, by, window, baseline, factor, at_least, .. } = self;
        let now = || Count(records, by, *window, NOW);
        let windows = baseline.as_secs_f64() / window.as_secs_f64();
        let earlier = || [Count(records, by, *baseline, self.offset()), Text(" / "), Number(windows)];
        let mut expression = Expression::default();
        if self.direction != Direction::Down {
            expression.put([Text("("), now(), Text(" > "), Number(*factor), Text(" * (")]);
            expression.put(earlier());
            expression.put([Text(" or "), now(), Text(" * 0)) >= "), Number(*at_least)]);
        }
        if self.direction == Direction::Both {
            expression.put([Text(" or ")]);
        }
        if self.direction != Direction::Up {
            expression.put([Text("(("), now(), Text(" or ")]);
            expression.put(earlier());
            expression.put([Text(" * 0) < ")]);
            expression.put(earlier());
            expression.put([Text(" / "), Number(*factor), Text(") and ")]);
            expression.put(earlier());
            expression.put([Text(" >= "), Number(*at_least)]);
        }
        expression
    }

    /// What is compared, each an expression of its own.
    pub(super) fn comparison(&self) -> Comparison {
        let Self { records, by, window, baseline, factor, at_least, direction, .. } = self;
        let (mut now, mut earlier) = (Expression::default(), Expression::default());
        now.put([Count(records, by, *window, NOW)]);
        let windows = baseline.as_secs_f64() / window.as_secs_f64();
        earlier.put([Count(records, by, *baseline, self.offset()), Text(" / "), Number(windows)]);
        let (now, baseline) = (now.text, earlier.text);
        Comparison { now, baseline, factor: *factor, at_least: *at_least, direction: *direction }
    }

    /// How long ago the baseline ended. Of a day or week before it is the time around the window's, so that what comes some minutes
    /// earlier or later each day is no spike.
    fn offset(&self) -> Duration {
        if self.season.is_zero() {
            return self.window;
        }
        self.season + self.window / 2 - self.baseline / 2
    }
}

impl Flatline {
    /// The value is the number of records in the time that is remembered.
    pub(super) fn expression(&self) -> Expression {
        let Self { records, by, window, forget_after } = self;
        let mut expression = Expression::default();
        expression.put([Count(records, by, *forget_after, NOW), Text(" unless "), Count(records, by, *window, NOW)]);
        expression
    }
}

impl BurnRate {
    /// The value is by how much faster the budget is used than it lasts, in the long window.
    pub(super) fn expression(&self) -> Expression {
        let mut expression = Expression::default();
        for (at, window) in self.windows.iter().enumerate() {
            expression.put([Text(if at > 0 { " or " } else { "" })]);
            self.put_window(window, &mut expression);
        }
        expression
    }

    fn put_window(&self, window: &BurnWindow, expression: &mut Expression) {
        let (bad, total, by) = (&self.bad, &self.total, &self.by);
        for (at, range) in [window.long, window.short].into_iter().enumerate() {
            expression.put([Text(if at > 0 { " and " } else { "" })]);
            expression.put([Count(bad, by, range, NOW), Text(" / "), Count(total, by, range, NOW), Text(" / ")]);
            expression.put([Number(self.budget()), Text(" > "), Number(window.factor)]);
        }
        if self.min_bad > 0.0 {
            expression.put([Text(" and "), Count(bad, by, window.long, NOW), Text(" >= "), Number(self.min_bad)]);
        }
    }

    /// The share of records that may be bad, without what the subtraction leaves behind its last digit.
    fn budget(&self) -> f64 {
        ((1.0 - self.objective) * 1e12).round() / 1e12
    }
}

impl Distinct {
    /// The value is the number of values.
    pub(super) fn expression(&self) -> Expression {
        let Self { records, by, label, window, more_than } = self;
        let mut each = by.clone();
        each.push(label.clone());
        let records = &Where { filter: format!(" | {label}!=\"\""), ..records.clone() };
        let mut expression = Expression::default();
        expression.put([Text("count"), Text(&grouping(by)), Text("("), Count(records, &each, *window, NOW)]);
        expression.put([Text(") > "), Number(*more_than)]);
        expression
    }
}

impl NewPattern {
    /// The value is the number of the pattern's records.
    pub(super) fn expression(&self, records: &Where) -> Expression {
        let by: Vec<String> = self.by.iter().cloned().chain([PATTERN_LABEL.to_owned()]).collect();
        let mut expression = Expression::default();
        expression.put([Count(records, &by, self.window, NOW), Text(" > 0")]);
        expression
    }
}

impl Sequence {
    /// The value is how often it was found. What is counted stands first, and the expression says nothing of the order.
    pub(super) fn expression(&self) -> Expression {
        let Pairing { by, wanted, within, window } = &self.pairing;
        let asked = |records: &Where| {
            let filter = by.iter().map(|name| format!(" | {name}!=\"\"")).collect();
            Where { filter, ..records.clone() }
        };
        let (first, second) = (&asked(&self.first), &asked(&self.second));
        let mut expression = Expression::default();
        expression.put(match wanted {
            Wanted::Then => [Count(second, by, *window, NOW), Text(" and "), Count(first, by, *window + *within, NOW)],
            Wanted::Without => {
                [Count(first, by, *window, *within), Text(" unless "), Count(second, by, *window + *within, NOW)]
            }
        });
        expression
    }
}

impl Expression {
    fn put<'a>(&mut self, parts: impl IntoIterator<Item = Part<'a>>) {
        for part in parts {
            match part {
                Text(text) => self.text += text,
                Number(number) => self.text += &number.to_string(),
                Count(records, by, range, offset) => self.put_count(records, by, range, offset),
            }
        }
    }

    fn put_count(&mut self, records: &Where, by: &[String], range: Duration, offset: Duration) {
        self.text += &format!("sum{}(count_over_time(", grouping(by));
        let start = self.text.len();
        self.text += &records.text;
        self.places.push((start..self.text.len(), records.span.clone()));
        let may_end_in_comment = records.text.contains('#') || records.text.contains("//");
        let comment_ends = if may_end_in_comment { "\n" } else { "" };
        self.text += &format!("{comment_ends}{} [{}]", records.filter, format_duration(range));
        if !offset.is_zero() {
            self.text += &format!(" offset {}", format_duration(offset));
        }
        self.text += "))";
    }
}

fn grouping(by: &[String]) -> String {
    if by.is_empty() { String::new() } else { format!(" by ({}) ", by.join(", ")) }
}
