//! Detectors as they stand in a rule file.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::expression::Expression;
use super::{
    ALL, BurnRate, BurnWindow, Comparison, Detect, Direction, Distinct, ERRORS, Flatline, Gate, NewPattern,
    PATTERN_LABEL, Pairing, Sequence, Spike, Wanted, Where,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::{self, ast};
use crate::time::format_duration;
use crate::yaml::reader::{Fields, Reader, missing, quoted};
use crate::yaml::{Key, Node, NodeKind};

const KINDS: &[&str] = &["new_pattern", "spike", "flatline", "burn_rate", "distinct", "sequence"];
const NEW_PATTERN_FIELDS: &[&str] = &["where", "by", "learn", "reappear_after", "window", "max_new"];
const SPIKE_FIELDS: &[&str] = &["where", "by", "window", "baseline", "season", "factor", "at_least", "direction"];
const FLATLINE_FIELDS: &[&str] = &["where", "by", "window", "forget_after"];
const BURN_RATE_FIELDS: &[&str] = &["bad", "total", "by", "objective", "min_bad", "windows"];
const BURN_WINDOW_FIELDS: &[&str] = &["long", "short", "factor"];
const DISTINCT_FIELDS: &[&str] = &["where", "by", "label", "window", "more_than"];

const SEQUENCE_FIELDS: &[&str] = &["first", "then", "without", "by", "within", "window"];

/// Fields of a rule, which are looked for here where they stand one step too far in.
const BESIDE: &[(&str, &str)] = &[
    ("for", "`for` stands beside `detect`, not in it"),
    ("keep_firing_for", "`keep_firing_for` stands beside `detect`, not in it"),
    ("labels", "`labels` stand beside `detect`, not in it"),
    ("annotations", "`annotations` stand beside `detect`, not in it"),
    ("watchbell", "`watchbell` stands beside `detect`, not in it"),
];

/// New patterns of a group that are told each in a `window`: as many as a person reads.
const MAX_NEW: usize = 10;

/// So many bad records tell their rate to within a third; one tells nothing, however large a share it is.
const MIN_BAD: f64 = 10.0;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The pairs of the SRE workbook for what has to be seen to at once: 2 % of a month's budget in an hour, 5 % in six.
const PAGE_WINDOWS: [BurnWindow; 2] = [
    BurnWindow { long: HOUR, short: Duration::from_secs(5 * 60), factor: 14.4 },
    BurnWindow { long: Duration::from_secs(6 * 60 * 60), short: Duration::from_secs(30 * 60), factor: 6.0 },
];

/// What a detector becomes.
#[derive(Default)]
struct Detector {
    expression: Expression,
    gate: Option<Gate>,
    longest: Option<(Duration, &'static str)>,
    keys: Vec<String>,
    comparison: Option<Comparison>,
}

/// A detector with the expression that it stands for, and where the file names its kind.
pub(crate) struct Read {
    pub(crate) detect: Detect,
    pub(crate) expr: ast::MetricExpr,
    pub(crate) expr_text: Arc<str>,
    pub(crate) kind: Range<usize>,
}

// From the outside in.
impl Reader {
    pub(crate) fn detect(&mut self, node: &Node) -> Option<Read> {
        let fields = self.fields_known(node, "`detect`", KINDS, BESIDE)?;
        let is_kind = |(key, _): &&(&Key, &Node)| KINDS.contains(&&*key.name);
        let kinds: Vec<_> = fields.fields.iter().filter(is_kind).collect();
        let [(key, node)] = kinds[..] else {
            if kinds.is_empty() && !fields.fields.is_empty() {
                return None; // what stands there was told to be none
            }
            let message = format!("`detect` has one kind, this one {}", kinds.len());
            let place = kinds.get(1).map_or(node.span.clone(), |(key, _)| key.span.clone());
            let mistake = Diagnostic::error(codes::VALUE, place, message);
            self.mistakes.push(mistake.help(format!("kinds are {}", quoted(KINDS))));
            return None;
        };
        let kind = *KINDS.iter().find(|kind| **kind == key.name)?;
        let before = self.mistakes.len();
        let detector = self.detector(kind, key, node)?;
        if self.mistakes.len() > before {
            return None;
        }
        self.detected(kind, key, detector)
    }

    fn detector(&mut self, kind: &str, key: &Key, node: &Node) -> Option<Detector> {
        let of_expression = |expression| Detector { expression, ..Detector::default() };
        Some(match kind {
            "new_pattern" => {
                let (records, gate) = self.new_pattern(key, node)?;
                // It is new for a `window`, and a record of that counts for as long.
                let longest = Some((2 * gate.window, "`window`, which a pattern is new for and a record counts for"));
                Detector {
                    longest,
                    gate: Some(Gate::NewPattern(gate.clone())),
                    ..of_expression(gate.expression(&records))
                }
            }
            "sequence" => {
                let sequence = self.sequence_of_two(key, node)?;
                let keys = sequence.pairing.by.clone();
                Detector {
                    keys,
                    gate: Some(Gate::Sequence(sequence.pairing.clone())),
                    ..of_expression(sequence.expression())
                }
            }
            "flatline" => {
                let flatline = self.flatline(key, node)?;
                let longest = flatline.forget_after.saturating_sub(flatline.window);
                let longest = Some((longest, "`forget_after` less `window`"));
                Detector { longest, ..of_expression(flatline.expression()) }
            }
            "spike" => {
                let spike = self.spike(key, node)?;
                Detector { comparison: Some(spike.comparison()), ..of_expression(spike.expression()) }
            }
            "burn_rate" => of_expression(self.burn_rate(key, node)?.expression()),
            _ => {
                let distinct = self.distinct(key, node)?;
                Detector { keys: vec![distinct.label.clone()], ..of_expression(distinct.expression()) }
            }
        })
    }

    /// Reads the expression as if the file had it; mistakes in it are those of the selectors.
    fn detected(&mut self, kind: &'static str, key: &Key, detector: Detector) -> Option<Read> {
        let Detector { expression: Expression { text, places }, gate, longest, keys, comparison } = detector;
        let detect = Detect { kind, gate, places, waits_warm: kind == "spike", longest, keys, comparison };
        match logql::parse(&text) {
            Ok(ast::Expr::Metric(expr)) => Some(Read { detect, expr, expr_text: text.into(), kind: key.span.clone() }),
            Ok(ast::Expr::Log(_)) => None,
            Err(mistakes) => {
                let placed = mistakes.into_iter().map(|mistake| {
                    let span = detect.place(&self.text, &text, &key.span, mistake.span.clone());
                    Diagnostic { span, ..mistake }
                });
                self.mistakes.extend(placed);
                None
            }
        }
    }

    fn new_pattern(&mut self, key: &Key, node: &Node) -> Option<(Where, NewPattern)> {
        let fields = self.detector_fields(key, node, NEW_PATTERN_FIELDS)?;
        let (records, by) = (self.records(&fields, "where", key, ERRORS), self.by(&fields));
        let learn = fields.get("learn").map_or(Some(HOUR), |_| self.duration(&fields, "learn"));
        let reappear_after = self.duration_or(&fields, "reappear_after", 7 * DAY);
        let window = self.duration_or(&fields, "window", 10 * MINUTE);
        let max_new = fields.get("max_new").map_or(Some(MAX_NEW), |_| self.count(&fields, "max_new"));
        if max_new == Some(0) {
            let help = "it is how many are told each; the further ones of a `window` are told together";
            self.refuse(&fields, "max_new", key, "`max_new` is to be 1 or more", help);
        }
        let both = reappear_after.zip(window);
        if both.is_some_and(|(reappear_after, window)| !reappear_after.is_zero() && reappear_after < window) {
            let field = if fields.get("reappear_after").is_some() { "reappear_after" } else { "window" };
            let message = "a pattern would be forgotten (`reappear_after`) while it is still new (`window`)";
            self.refuse(&fields, field, key, message, "make `reappear_after` longer than `window`: some days, `7d`");
        }
        let by = by?;
        if by.iter().any(|name| name == PATTERN_LABEL) {
            let message = format!("the alerts have a label `{PATTERN_LABEL}` already: the pattern");
            self.refuse(
                &fields,
                "by",
                key,
                &message,
                "leave it out of `by`, or give it another name by `label_format`",
            );
        }
        let (learn, reappear_after, window, max_new) = (learn?, reappear_after?, window?, max_new?);
        Some((records?, NewPattern { by, learn, reappear_after, window, max_new }))
    }

    fn sequence_of_two(&mut self, key: &Key, node: &Node) -> Option<Sequence> {
        let fields = self.detector_fields(key, node, SEQUENCE_FIELDS)?;
        let (wanted, second) = match (fields.key("then"), fields.key("without")) {
            (Some(_), None) => (Wanted::Then, "then"),
            (None, Some(_)) => (Wanted::Without, "without"),
            (then, without) => {
                let message = "`sequence` has either `then` or `without`";
                let place = then.and(without).map_or(key.span.clone(), |key| key.span.clone());
                let help = "`then` fires where a second record comes in time, `without` where none does";
                self.missing_records("first", key, &fields);
                self.mistakes.push(Diagnostic::error(codes::VALUE, place, message).help(help));
                return None;
            }
        };
        self.missing_records("first", key, &fields);
        self.missing_records(second, key, &fields);
        let (first, second) = (self.records(&fields, "first", key, ALL), self.records(&fields, second, key, ALL));
        let by = self.by(&fields);
        let within = self.duration_or(&fields, "within", 5 * MINUTE);
        let window = self.duration_or(&fields, "window", 5 * MINUTE);
        let (first, second) = (first?, second?);
        if first.text == second.text {
            let message = "both records of the sequence are the same";
            self.mistakes.push(Diagnostic::error(codes::VALUE, second.span.clone(), message));
        }
        let by = by?;
        if let Some(label) = by.iter().find(|label| never_shared(label, &first.text, &second.text)) {
            let message = format!("both records never have the same `{label}`: their selectors ask for different ones");
            self.refuse(
                &fields,
                "by",
                key,
                &message,
                "name in `by` what they share, `by: [order_id]`; `by: []` is no key",
            );
        }
        let pairing = Pairing { by, wanted, within: within?, window: window? };
        Some(Sequence { first, second, pairing })
    }

    fn missing_records(&mut self, field: &str, key: &Key, fields: &Fields<'_>) {
        if fields.get(field).is_none() {
            let what = missing(field, "`sequence`", fields).help("write a selector with its filters");
            let span = if fields.fields.is_empty() { key.span.clone() } else { what.span.clone() };
            self.mistakes.push(Diagnostic { span, ..what });
        }
    }

    fn spike(&mut self, key: &Key, node: &Node) -> Option<Spike> {
        let fields = self.detector_fields(key, node, SPIKE_FIELDS)?;
        let (records, by) = (self.records(&fields, "where", key, ERRORS), self.by(&fields));
        let (factor, at_least) = (self.number_or(&fields, "factor", 3.0), self.number_or(&fields, "at_least", 20.0));
        let direction = self.direction(&fields);
        let window = self.duration_or(&fields, "window", 5 * MINUTE)?;
        let baseline = self.duration_or(&fields, "baseline", HOUR.max(window))?;
        let season = self.season(&fields, key, baseline);
        if baseline < window {
            let message = "`baseline` is shorter than `window`: it is what the window is compared with";
            self.refuse(&fields, "baseline", key, message, "make it some windows long, an hour for `window: 5m`");
        }
        let factor = factor?;
        if factor <= 1.0 {
            let help = "`factor: 3` is three times as many, or with `direction: down` a third";
            self.refuse(&fields, "factor", key, "`factor` is to be more than 1", help);
        }
        let (records, by, season, at_least) = (records?, by?, season?, at_least?);
        Some(Spike { records, by, window, baseline, season, factor, at_least, direction: direction? })
    }

    fn season(&mut self, fields: &Fields<'_>, key: &Key, baseline: Duration) -> Option<Duration> {
        let season = match self.word(fields, "season", &["daily", "weekly"])? {
            Some("daily") => DAY,
            Some(_) => 7 * DAY,
            None => return Some(Duration::ZERO),
        };
        if baseline > season {
            let help = "shorten it (it is as long as `window` unless given), or leave out `season`";
            self.refuse(fields, "baseline", key, "`baseline` is longer than the season", help);
            return None;
        }
        Some(season)
    }

    fn direction(&mut self, fields: &Fields<'_>) -> Option<Direction> {
        Some(match self.word(fields, "direction", &["up", "down", "both"])? {
            Some("down") => Direction::Down,
            Some("both") => Direction::Both,
            _ => Direction::Up,
        })
    }

    fn flatline(&mut self, key: &Key, node: &Node) -> Option<Flatline> {
        let fields = self.detector_fields(key, node, FLATLINE_FIELDS)?;
        let (records, by) = (self.records(&fields, "where", key, ALL), self.by(&fields));
        let window = self.duration_or(&fields, "window", 10 * MINUTE)?;
        let forget_after = self.duration_or(&fields, "forget_after", DAY.max(2 * window))?;
        if forget_after <= window {
            let message = format!(
                "a group is forgotten after {}, before it has been silent for the `window` of {}: nothing is ever told",
                format_duration(forget_after),
                format_duration(window)
            );
            self.refuse(&fields, "forget_after", key, &message, "make `forget_after` longer, a day say");
        }
        Some(Flatline { records: records?, by: by?, window, forget_after })
    }

    fn burn_rate(&mut self, key: &Key, node: &Node) -> Option<BurnRate> {
        let fields = self.detector_fields(key, node, BURN_RATE_FIELDS)?;
        let bad = self.records(&fields, "bad", key, ERRORS);
        let (total, by) = (self.records(&fields, "total", key, ALL), self.by(&fields));
        let min_bad = self.number_or(&fields, "min_bad", MIN_BAD);
        let objective = self.number_or(&fields, "objective", 0.999)?;
        if objective <= 0.0 || objective >= 1.0 {
            let message = format!("`objective` lies between 0 and 1, `{objective}` does not");
            self.refuse(&fields, "objective", key, &message, "three nines are `objective: 0.999` or `99.9%`");
            return None;
        }
        let windows = self.burn_windows(&fields, key, objective);
        Some(BurnRate { bad: bad?, total: total?, by: by?, objective, min_bad: min_bad?, windows })
    }

    fn burn_windows(&mut self, fields: &Fields<'_>, key: &Key, objective: f64) -> Vec<BurnWindow> {
        let Some(node) = fields.get("windows") else {
            // A lax objective leaves the slower pair to tell of it.
            let factor = PAGE_WINDOWS.map(|window| window.factor).into_iter().fold(f64::INFINITY, f64::min);
            if let Some(message) = never_burns(factor, objective) {
                let help = "write `windows` of your own: `windows: [{long: 6h, short: 30m, factor: 2}]`";
                self.refuse(
                    fields,
                    "objective",
                    key,
                    &format!("{message}, the smallest of the default `windows`"),
                    help,
                );
            }
            return PAGE_WINDOWS.to_vec();
        };
        let items = self.sequence(node, "`windows`");
        if matches!(&node.kind, NodeKind::Sequence(items) if items.is_empty()) {
            let mistake = Diagnostic::error(codes::VALUE, node.span.clone(), "`windows` has no pair of windows");
            self.mistakes.push(mistake.help("leave it out for those of the SRE workbook"));
        }
        items.iter().filter_map(|item| self.burn_window(item, objective)).collect()
    }

    fn burn_window(&mut self, node: &Node, objective: f64) -> Option<BurnWindow> {
        let fields = self.fields(node, "a pair of windows", BURN_WINDOW_FIELDS)?;
        for field in BURN_WINDOW_FIELDS {
            if fields.get(field).is_none() {
                self.mistakes.push(missing(field, "a pair of windows", &fields));
            }
        }
        let (long, short) = (self.duration(&fields, "long")?, self.duration(&fields, "short")?);
        if short >= long || short.is_zero() {
            let message = "`short` is to be shorter than `long`: by it the alert ends soon when the burning does";
            let place = fields.get("short")?.span.clone();
            let help = "a twelfth is usual, `{long: 1h, short: 5m, factor: 14.4}`";
            self.mistakes.push(Diagnostic::error(codes::VALUE, place, message).help(help));
        }
        let node = fields.get("factor")?;
        let factor = self.number(node, "factor")?;
        let mut refuse = |message: &str, help: &str| {
            self.mistakes.push(Diagnostic::error(codes::VALUE, node.span.clone(), message).help(help));
        };
        if factor == 0.0 {
            refuse("`factor` is to be more than 0: any bad record would fire", "1 uses the budget up just in its time");
        } else if let Some(message) = never_burns(factor, objective) {
            refuse(&message, "make `factor` smaller, or the objective stricter");
        }
        Some(BurnWindow { long, short, factor })
    }

    fn distinct(&mut self, key: &Key, node: &Node) -> Option<Distinct> {
        let fields = self.detector_fields(key, node, DISTINCT_FIELDS)?;
        let (records, by) = (self.records(&fields, "where", key, ALL), self.by(&fields));
        let more_than = self.number_or(&fields, "more_than", 10.0);
        let window = self.duration_or(&fields, "window", 5 * MINUTE);
        let Some(label) = fields.get("label") else {
            let what = missing("label", "`distinct`", &fields).help("name the label whose values are counted");
            let span = if fields.fields.is_empty() { key.span.clone() } else { what.span.clone() };
            self.mistakes.push(Diagnostic { span, ..what });
            return None;
        };
        let (label, by) = (self.label_name(label, "`label`")?, by?);
        if by.contains(&label) {
            let message = format!("`by` has `{label}` too: in each of its groups that has one value");
            self.refuse(&fields, "by", key, &message, "leave it out of `by`");
        }
        Some(Distinct { records: records?, by, label, window: window?, more_than: more_than? })
    }
}

/// That no share of bad records burns an objective's budget so fast.
fn never_burns(factor: f64, objective: f64) -> Option<String> {
    let most = 1.0 / (1.0 - objective);
    let shown = (most * 100.0).round() / 100.0;
    (factor >= most).then(|| {
        format!("where all records are bad, an objective of {objective} burns at {shown}: never above a `factor` of {factor}")
    })
}

/// Whether two selectors ask for different values of a label.
fn never_shared(label: &str, a: &str, b: &str) -> bool {
    let value = |text| match logql::parse(text) {
        Ok(ast::Expr::Log(log)) => {
            let is_of_label = |matcher: &&ast::LabelMatcher| matcher.name == label && matcher.op == ast::MatchOp::Equal;
            log.selector.matchers.iter().find(is_of_label).map(|matcher| matcher.value.clone())
        }
        _ => None,
    };
    value(a).zip(value(b)).is_some_and(|(a, b)| a != b)
}

// The fields.
impl Reader {
    /// A detector's fields; one that says nothing has its defaults.
    fn detector_fields<'n>(&mut self, key: &Key, node: &'n Node, allowed: &[&str]) -> Option<Fields<'n>> {
        match node.kind {
            NodeKind::Null => Some(Fields { fields: Vec::new(), span: key.span.clone() }),
            _ => self.fields(node, &format!("`{}`", key.name), allowed),
        }
    }

    /// A selector with stages.
    fn records(&mut self, fields: &Fields<'_>, field: &str, key: &Key, default: &str) -> Option<Where> {
        let Some(node) = fields.get(field) else {
            return Some(Where { text: default.into(), span: key.span.clone(), filter: String::new() });
        };
        let text = self.string(node, &format!("`{field}`"))?;
        let mistakes = match logql::parse(text) {
            Ok(ast::Expr::Log(_)) => {
                return Some(Where { text: text.trim().into(), span: node.span.clone(), filter: String::new() });
            }
            Ok(ast::Expr::Metric(expr)) => {
                let message = format!("`{field}` says which records, this is a number");
                let help = "write the selector and its filters alone, `{service_name=\"checkout\"} |= \"refused\"`";
                vec![Diagnostic::error(codes::VALUE, expr.span, message).help(help)]
            }
            Err(mistakes) => mistakes,
        };
        let placed = mistakes.into_iter().map(|mistake| {
            let span = crate::yaml::place(&self.text, &node.span, text, mistake.span.clone());
            Diagnostic { span, ..mistake }
        });
        self.mistakes.extend(placed);
        None
    }

    /// The labels that alerts are told apart by.
    fn by(&mut self, fields: &Fields<'_>) -> Option<Vec<String>> {
        let Some(node) = fields.get("by") else { return Some(vec!["service_name".to_owned()]) };
        let mut names: Vec<String> = Vec::new();
        for item in self.sequence(node, "`by`") {
            let name = self.label_name(item, "a label in `by`")?;
            if names.contains(&name) {
                let message = format!("`{name}` stands twice in `by`");
                self.mistakes.push(Diagnostic::error(codes::DUPLICATE, item.span.clone(), message));
            }
            names.push(name);
        }
        Some(names)
    }

    fn label_name(&mut self, node: &Node, what: &str) -> Option<String> {
        let name = self.string(node, what)?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name {
            return Some(name.to_owned());
        }
        let mistake = Diagnostic::error(codes::LABEL_NAME, node.span.clone(), format!("`{name}` is no label's name"));
        let help = format!("an attribute's `.` is `_` in a label: `{}`", crate::otlp_labels::label_name(name));
        self.mistakes.push(if name.contains('.') { mistake.help(help) } else { mistake });
        None
    }

    /// A duration of more than nothing.
    fn duration_or(&mut self, fields: &Fields<'_>, field: &str, default: Duration) -> Option<Duration> {
        let Some(node) = fields.get(field) else { return Some(default) };
        let duration = self.duration(fields, field)?;
        if duration.is_zero() {
            let message = format!("`{field}` is to be longer than nothing");
            self.mistakes.push(Diagnostic::error(codes::DURATION, node.span.clone(), message));
        }
        Some(duration)
    }

    fn number_or(&mut self, fields: &Fields<'_>, field: &str, default: f64) -> Option<f64> {
        fields.get(field).map_or(Some(default), |node| self.number(node, field))
    }

    /// A number that is not below 0; a share may be one of a hundred.
    fn number(&mut self, node: &Node, field: &str) -> Option<f64> {
        let text = self.string(node, &format!("`{field}`"))?;
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().map(|percent: f64| percent / 100.0),
            None => text.parse().ok(),
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            let message = format!("`{field}` is a number, 0 or more, not `{text}`");
            self.mistakes.push(Diagnostic::error(codes::WRONG_TYPE, node.span.clone(), message));
        }
        number
    }

    /// One of these words, or none.
    fn word<'n>(&mut self, fields: &Fields<'n>, field: &str, words: &[&str]) -> Option<Option<&'n str>> {
        let Some(node) = fields.get(field) else { return Some(None) };
        let word = self.string(node, &format!("`{field}`"))?;
        if words.contains(&word) {
            return Some(Some(word));
        }
        let message = format!("`{field}` is one of {}, not `{word}`", quoted(words));
        let mistake = Diagnostic::error(codes::VALUE, node.span.clone(), message);
        self.mistakes.push(mistake.suggest(word, words.iter().copied()));
        None
    }

    /// A field's value cannot be; where the file does not have the field, it is another that does not fit the default.
    fn refuse(&mut self, fields: &Fields<'_>, field: &str, key: &Key, message: &str, help: &str) {
        let place = fields.get(field).map_or(key.span.clone(), |node| node.span.clone());
        self.mistakes.push(Diagnostic::error(codes::VALUE, place, message).help(help));
    }
}
