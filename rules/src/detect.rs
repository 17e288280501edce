//! `detect:`, what LogQL cannot say or says at length: it stands in a rule in place of `expr`. docs/detect.md shows each kind.
//!
//! A detector becomes an expression, and the rule is judged, tested, replayed and explained as any other. Four kinds are that
//! expression and nothing more. In front of the windows of the others, [`NewPattern`] and [`Pairing`], stands a [`Gate`]: the window
//! counts what the gate finds, and the expression says about what.
//!
//! ```
//! let text = "
//! groups:
//!   - name: g
//!     rules:
//!       - alert: Silent
//!         detect: {flatline: {where: '{service_name=~\".+\"}', window: 10m, forget_after: 1d}}
//! ";
//! let file = watchbell_rules::rule_file::parse("rules.yaml", text).unwrap();
//! assert_eq!(
//!     &*file.groups[0].rules[0].expr_text,
//!     "sum by (service_name) (count_over_time({service_name=~\".+\"} [1d])) unless \
//!      sum by (service_name) (count_over_time({service_name=~\".+\"} [10m]))"
//! );
//! ```

mod exception;
mod expression;
mod mask;
pub(crate) mod miner;
pub(crate) mod pattern;
mod read;
pub(crate) mod sequence;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::yaml;

pub use mask::PATTERN_BYTES_MAX;
pub use miner::{PATTERNS_MAX, PATTERNS_PER_GROUP_MAX};
pub(crate) use read::Read;
pub use sequence::{SEQUENCE_TIMES_MAX, Wanted};

/// What stands under `detect:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Detect {
    /// `spike`, say.
    pub kind: &'static str,
    /// What the expression does not say; `None` where it says all.
    pub gate: Option<Gate>,
    /// Parts of the expression that the file has, and where it has them.
    pub(crate) places: Vec<(Range<usize>, Range<usize>)>,
    /// Whether it tells of what came before: it is silent until its windows are known whole.
    pub(crate) waits_warm: bool,
    /// How long the condition can hold, and by which fields; `None` where there is no end to it.
    pub(crate) longest: Option<(Duration, &'static str)>,
    /// Labels that a record must have to be looked at.
    pub(crate) keys: Vec<String>,
    /// What a spike holds against what, to be shown.
    pub(crate) comparison: Option<Comparison>,
}

impl Detect {
    /// Where a part of the expression stands in the file, whose text is `file_text`: what the file does not have is the detector's.
    pub(crate) fn place(
        &self,
        file_text: &str,
        expr_text: &str,
        kind: &Range<usize>,
        part: Range<usize>,
    ) -> Range<usize> {
        let is_around = |(own, _): &&(Range<usize>, Range<usize>)| own.start <= part.start && part.end <= own.end;
        let Some((own, span)) = self.places.iter().find(is_around) else { return kind.clone() };
        yaml::place(file_text, span, &expr_text[own.clone()], part.start - own.start..part.end - own.start)
    }
}

/// What a spike holds against what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    /// An expression: the records in the window.
    pub(crate) now: String,
    /// And the mean of the baseline's windows.
    pub(crate) baseline: String,
    pub(crate) factor: f64,
    pub(crate) at_least: f64,
    pub(crate) direction: Direction,
}

/// What stands in front of a window and finds what it counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Gate {
    /// Records whose pattern is new.
    NewPattern(NewPattern),
    /// Records of two kinds that follow one another, or do not.
    Sequence(Pairing),
}

impl Gate {
    /// Names what it finds, for the keys of rules.
    pub(crate) fn meaning(&self) -> String {
        match self {
            Self::NewPattern(config) => config.meaning(),
            Self::Sequence(pairing) => format!("{pairing:?}"),
        }
    }
}

impl NewPattern {
    /// What is new to it; how many are told each is changed in a flood, and takes nothing from what is known.
    pub(crate) fn meaning(&self) -> String {
        let Self { by, learn, reappear_after, window, max_new: _ } = self;
        format!("new_pattern {by:?} {learn:?} {reappear_after:?} {window:?}")
    }
}

/// Which patterns are new.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPattern {
    /// The labels that tell groups apart: a pattern is new for each.
    pub by: Vec<String>,
    /// From a group's first record on: what it says in that time is learned.
    pub learn: Duration,
    /// A pattern that was not seen for so long is new again.
    pub reappear_after: Duration,
    /// For how long a pattern is new.
    pub window: Duration,
    /// Patterns of a group that are told each in a `window`; further ones are told together.
    pub max_new: usize,
}

/// How records of two kinds belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// The labels that they share.
    pub by: Vec<String>,
    /// Whether a second one is to come, or to fail to.
    pub wanted: Wanted,
    /// How long after the first.
    pub within: Duration,
    /// For how long it is told of what was found.
    pub window: Duration,
}

/// Name of the label that a `new_pattern` tells the pattern by.
pub(crate) const PATTERN_LABEL: &str = "log_pattern";

/// What stands in place of the pattern where several are told together.
pub(crate) const MORE: &str = "__more__";

/// The errors of all services, as far as they can be told.
const ERRORS: &str = r#"{service_name=~".+"} | detected_level=~"error|critical|fatal""#;

/// The records of all services.
const ALL: &str = r#"{service_name=~".+"}"#;

/// A selector with stages, as the file or a default has it.
#[derive(Clone, Debug)]
struct Where {
    text: Arc<str>,
    /// In the file.
    span: Range<usize>,
    /// What is to be asked of the records besides.
    filter: String,
}

/// More or fewer records than in a baseline of earlier windows.
#[derive(Clone, Debug)]
struct Spike {
    records: Where,
    by: Vec<String>,
    window: Duration,
    baseline: Duration,
    season: Duration,
    factor: f64,
    at_least: f64,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Direction {
    Up,
    Down,
    Both,
}

/// A group that had records has none any more.
#[derive(Clone, Debug)]
struct Flatline {
    records: Where,
    by: Vec<String>,
    window: Duration,
    forget_after: Duration,
}

/// The error budget of an objective is used up too fast.
#[derive(Clone, Debug)]
struct BurnRate {
    bad: Where,
    total: Where,
    by: Vec<String>,
    objective: f64,
    min_bad: f64,
    windows: Vec<BurnWindow>,
}

/// A long window, and a short one by which the alert ends soon when the burning does.
#[derive(Clone, Copy, Debug)]
struct BurnWindow {
    long: Duration,
    short: Duration,
    /// By how much the budget may be used faster than it lasts.
    factor: f64,
}

/// A label has many different values.
#[derive(Clone, Debug)]
struct Distinct {
    records: Where,
    by: Vec<String>,
    label: String,
    window: Duration,
    more_than: f64,
}

/// The first, and what is wanted of the second.
#[derive(Clone, Debug)]
struct Sequence {
    first: Where,
    second: Where,
    pairing: Pairing,
}
