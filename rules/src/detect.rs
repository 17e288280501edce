//! `detect:`, what LogQL cannot say or says at length: it stands in a rule in place of `expr`. docs/detect.md shows each kind.
//!
//! A detector becomes an expression, and the rule is judged, tested, replayed and explained as any other.
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

mod expression;
mod read;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::yaml;

pub(crate) use read::Read;

/// What stands under `detect:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Detect {
    /// `spike`, say.
    pub kind: &'static str,
    /// Parts of the expression that the file has, and where it has them.
    pub(crate) places: Vec<(Range<usize>, Range<usize>)>,
    /// Whether it tells of what came before: it is silent until its windows are known whole.
    pub(crate) waits_warm: bool,
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
enum Direction {
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
