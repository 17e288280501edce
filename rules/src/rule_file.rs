//! Rule files: Prometheus's and Loki's format, with `watchbell:` beside it.
//!
//! ```
//! let text = "
//! groups:
//!   - name: checkout
//!     rules:
//!       - alert: Errors
//!         expr: sum by (service_name) (count_over_time({service_name=~\".+\"} |= \"error\" [1m])) > 20
//!         for: 5m
//! ";
//! let file = watchbell_rules::rule_file::parse("rules.yaml", text).unwrap();
//! assert_eq!(file.groups[0].rules[0].name(), "Errors");
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::detect::{self, Detect};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::{self, ast};
use crate::rule_test;
use crate::template::Template;
use crate::time::format_duration;
use crate::yaml::reader::{Fields, Reader, missing};
use crate::yaml::{self, Node, NodeKind};

/// A file of rules.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    /// In the order of the file; no two with the same name.
    pub groups: Vec<RuleGroup>,
    /// Bytes of the file from the key `tests` to what follows it; the rule tests read them.
    pub tests: Option<Range<usize>>,
}

/// Rules that are evaluated together.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroup {
    /// Name of the file that it is in.
    pub file: Arc<str>,
    /// The file's text, to show places in it.
    pub file_text: Arc<str>,
    /// Unique in its file.
    pub name: Arc<str>,
    /// Under `eval: tick` how often the rules are evaluated; in the stream how long a condition must have been false before
    /// its alert resolves, and how often recording rules are sampled. `None` where the file does not say.
    pub interval: Option<Duration>,
    /// Alerts or series that one rule may have; 0 is no limit.
    pub limit: usize,
    /// How far back the rules look.
    pub query_offset: Option<Duration>,
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// Bytes of the group in the file.
    pub span: Range<usize>,
}

/// An alerting or a recording rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which of the two.
    pub kind: RuleKind,
    /// The group's and the rule's own, sorted by name; values of alerting rules are templates.
    pub labels: Vec<(String, String)>,
    /// What is evaluated; its spans are bytes of [`expr_text`](Self::expr_text).
    pub expr: ast::MetricExpr,
    /// The expression as the file has it, or as it follows from `detect`.
    pub expr_text: Arc<str>,
    /// What stands in the file in place of the expression.
    pub detect: Option<Detect>,
    /// Ours, the rule's over the group's.
    pub options: EvalOptions,
    /// Bytes of the rule in the file.
    pub span: Range<usize>,
    /// Bytes of the expression in the file, quotes included; of the detector's kind.
    pub expr_span: Range<usize>,
}

/// What becomes of a rule's result.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    /// Each element is an alert.
    Alert {
        /// Becomes the label `alertname`.
        name: Arc<str>,
        /// `for`: how long the condition must hold before the alert fires.
        hold: Duration,
        /// How long the alert goes on firing when the condition holds no more.
        keep_firing_for: Duration,
        /// Sorted by name; values are templates.
        annotations: Vec<(String, String)>,
    },
    /// Each element is a sample of a series.
    Record {
        /// Becomes the label `__name__`.
        name: Arc<str>,
    },
}

/// What stands under `watchbell:` on a group or a rule; `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvalOptions {
    /// When rules are evaluated.
    pub eval: Option<EvalMode>,
    /// How late a record may come and still count.
    pub lateness: Option<Duration>,
    /// After what time without records a source no longer holds back the watermark.
    pub idle_timeout: Option<Duration>,
    /// How many records an alert keeps as evidence.
    pub samples: Option<usize>,
}

/// When rules are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvalMode {
    /// At each record.
    #[default]
    Stream,
    /// At each multiple of the interval, as a polling ruler does.
    Tick,
}

impl Rule {
    /// The alert's or the series' name.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Alert { name, .. } | RuleKind::Record { name } => name,
        }
    }

    /// Whether its elements are alerts.
    pub fn is_alert(&self) -> bool {
        matches!(self.kind, RuleKind::Alert { .. })
    }

    /// Where a part of the expression stands in the file, whose text is `file_text`.
    pub fn place(&self, file_text: &str, part: ast::Span) -> Range<usize> {
        match &self.detect {
            Some(detect) => detect.place(file_text, &self.expr_text, &self.expr_span, part.range()),
            None => yaml::place(file_text, &self.expr_span, &self.expr_text, part.range()),
        }
    }
}

/// Reads a rule file; `file` is its name, for the diagnostics. All mistakes are returned at once, in the order of the file.
pub fn parse(file: &str, text: &str) -> Result<RuleFile, Vec<Diagnostic>> {
    let mut reader = Reader::new(file, text);
    let rule_file = match yaml::parse(text) {
        Ok(root) => reader.file(&root),
        Err(mistake) => {
            reader.mistakes.push(mistake);
            None
        }
    };
    reader.finish(rule_file)
}

const FILE_FIELDS: &[&str] = &["groups", "namespace", "tests"];
const GROUP_FIELDS: &[&str] = &["name", "interval", "limit", "query_offset", "labels", "rules", "watchbell"];
const RULE_FIELDS: &[&str] =
    &["alert", "record", "expr", "detect", "for", "keep_firing_for", "labels", "annotations", "watchbell"];
/// What others call `expr`.
const EXPR_ALIASES: &[(&str, &str)] =
    &[("expression", "did you mean `expr`?"), ("query", "did you mean `expr`?"), ("condition", "did you mean `expr`?")];
const OPTION_FIELDS: &[&str] = &["eval", "lateness", "idle_timeout", "samples"];

// The file from the outside in.
impl Reader {
    fn file(&mut self, root: &Node) -> Option<RuleFile> {
        if rule_test::is_test_file(root) {
            return Some(RuleFile { groups: Vec::new(), tests: Some(root.span.clone()) });
        }
        let fields = self.fields(root, "a rule file", FILE_FIELDS)?;
        if let Some(namespace) = fields.get("namespace") {
            self.string(namespace, "`namespace`");
        }
        if fields.key("groups").is_none() {
            self.mistakes.push(missing("groups", "a rule file", &fields));
        }
        let groups = fields.get("groups").map(|node| self.groups(node)).unwrap_or_default();
        Some(RuleFile { groups, tests: self.section(&fields, "tests") })
    }

    /// A field with its value, up to the next field or the end of the file.
    fn section(&self, fields: &Fields<'_>, name: &str) -> Option<Range<usize>> {
        let start = fields.key(name)?.span.start;
        let later = fields.fields.iter().map(|(key, _)| key.span.start).filter(|other| *other > start);
        Some(start..later.min().unwrap_or(self.text.len()))
    }

    fn groups(&mut self, node: &Node) -> Vec<RuleGroup> {
        let mut groups: Vec<RuleGroup> = Vec::new();
        for item in self.sequence(node, "`groups`") {
            let Some(group) = self.group(item) else { continue };
            if groups.iter().any(|other| other.name == group.name) {
                let place = name_place(item);
                let message = format!("the group `{}` is there already", group.name);
                let mistake = Diagnostic::error(codes::DUPLICATE, place, message);
                self.mistakes.push(mistake.help("groups of one file need different names"));
            }
            groups.push(group);
        }
        groups
    }

    fn group(&mut self, node: &Node) -> Option<RuleGroup> {
        let fields = self.fields(node, "a group", GROUP_FIELDS)?;
        let name = self.required_string(&fields, "name", "a group");
        let interval = self.duration(&fields, "interval").filter(|interval| !interval.is_zero());
        let limit = self.count(&fields, "limit").unwrap_or(0);
        let query_offset = self.duration(&fields, "query_offset");
        let labels = self.labels(&fields, "labels");
        let options = self.options(&fields);
        let items = fields.get("rules").map(|rules| self.sequence(rules, "`rules`")).unwrap_or_default();
        let rules: Vec<Rule> = items.iter().filter_map(|item| self.rule(item, &labels, options)).collect();
        if rules.iter().any(|rule| matches!(rule.kind, RuleKind::Alert { .. })) {
            self.templates(&fields, "labels");
        }
        Some(RuleGroup {
            file: self.file.clone(),
            file_text: self.text.clone(),
            name: name?,
            interval,
            limit,
            query_offset,
            rules,
            span: node.span.clone(),
        })
    }

    fn rule(&mut self, node: &Node, group_labels: &[(String, String)], group_options: EvalOptions) -> Option<Rule> {
        let fields = self.fields_known(node, "a rule", RULE_FIELDS, EXPR_ALIASES)?;
        let kind = self.rule_kind(&fields);
        let mut labels = self.labels(&fields, "labels");
        labels.extend(group_labels.iter().cloned());
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(later, _), (earlier, _)| later == earlier);
        if let Some(RuleKind::Alert { .. }) = kind {
            self.templates(&fields, "labels");
            self.templates(&fields, "annotations");
        }
        let options = self.options(&fields).over(group_options);
        let (detect, expr, expr_text, expr_span) = self.condition(&fields)?;
        if let (Some(RuleKind::Alert { hold, .. }), Some(detect)) = (&kind, &detect) {
            self.never_held(&fields, *hold, detect);
        }
        Some(Rule { kind: kind?, labels, expr, expr_text, detect, options, span: node.span.clone(), expr_span })
    }

    fn rule_kind(&mut self, fields: &Fields<'_>) -> Option<RuleKind> {
        match (fields.key("alert"), fields.key("record")) {
            (Some(_), None) => self.alert(fields),
            (None, Some(_)) => self.record(fields),
            (Some(alert), Some(record)) => {
                let place = alert.span.start.max(record.span.start);
                let later = if place == alert.span.start { alert } else { record };
                let message = "a rule has either `alert` or `record`, this one has both";
                self.mistakes.push(Diagnostic::error(codes::RULE_KIND, later.span.clone(), message));
                None
            }
            (None, None) => {
                let message = "the rule has neither `alert` nor `record`";
                let mistake = Diagnostic::error(codes::RULE_KIND, first_line(fields, &self.text), message);
                self.mistakes.push(mistake.help("name the alert (`alert: Name`) or the series (`record: name`)"));
                None
            }
        }
    }

    fn alert(&mut self, fields: &Fields<'_>) -> Option<RuleKind> {
        let name = self.required_string(fields, "alert", "an alerting rule");
        let hold = self.duration(fields, "for").unwrap_or_default();
        let keep_firing_for = self.duration(fields, "keep_firing_for").unwrap_or_default();
        let annotations = self.labels(fields, "annotations");
        Some(RuleKind::Alert { name: name?, hold, keep_firing_for, annotations })
    }

    fn record(&mut self, fields: &Fields<'_>) -> Option<RuleKind> {
        for field in ["detect", "for", "keep_firing_for", "annotations"] {
            if let Some(key) = fields.key(field) {
                let message = format!("a recording rule has no `{field}`");
                self.mistakes.push(Diagnostic::error(codes::FIELD_NOT_ALLOWED, key.span.clone(), message));
            }
        }
        let name = self.required_string(fields, "record", "a recording rule")?;
        if name.contains(['{', '}']) {
            let message = format!("`{name}` is no name of a series");
            let place = fields.get("record")?.span.clone();
            self.mistakes
                .push(Diagnostic::error(codes::METRIC_NAME, place, message).help("an expression stands in `expr`"));
        }
        Some(RuleKind::Record { name })
    }

    /// The expression, or what stands in its place.
    fn condition(&mut self, fields: &Fields<'_>) -> Option<Condition> {
        let Some(key) = fields.key("detect") else {
            let (expr, text, span) = self.expr(fields)?;
            return Some((None, expr, text, span));
        };
        if fields.key("expr").is_some() {
            let mistake =
                Diagnostic::error(codes::FIELD_NOT_ALLOWED, key.span.clone(), "`detect` stands in place of `expr`");
            self.mistakes.push(mistake.help("leave out one of them, or make two rules of it"));
            return None;
        }
        let Some(node) = fields.get("detect") else {
            let message = "`detect` says nothing";
            let mistake = Diagnostic::error(codes::MISSING_FIELD, key.span.clone(), message);
            self.mistakes.push(mistake.help("name a kind, `detect: {new_pattern: {}}`"));
            return None;
        };
        let detect::Read { detect, expr, expr_text, kind } = self.detect(node)?;
        Some((Some(detect), expr, expr_text, kind))
    }

    /// A `for` that the condition of a detector ends before.
    fn never_held(&mut self, fields: &Fields<'_>, hold: Duration, detect: &Detect) {
        let Some((longest, why)) = detect.longest.filter(|(longest, _)| hold >= *longest) else { return };
        let Some(node) = fields.get("for") else { return };
        let (hold, longest) = (format_duration(hold), format_duration(longest));
        let message = format!("`for: {hold}` is never reached: the condition holds for less than {longest}");
        let help = format!("make `for` shorter, or that time longer: it is {why}");
        self.mistakes.push(Diagnostic::error(codes::VALUE, node.span.clone(), message).help(help));
    }

    fn expr(&mut self, fields: &Fields<'_>) -> Option<(ast::MetricExpr, Arc<str>, Range<usize>)> {
        if fields.key("expr").is_none() && EXPR_ALIASES.iter().any(|(name, _)| fields.key(name).is_some()) {
            return None; // told already
        }
        let Some(node) = fields.get("expr") else {
            let missing = missing("expr", "a rule", fields);
            self.mistakes.push(match fields.key("alert") {
                Some(_) => missing.help("or `detect`, for what an expression cannot say"),
                None => missing,
            });
            return None;
        };
        let text = self.string(node, "`expr`")?;
        let mistakes = match logql::parse(text) {
            Ok(ast::Expr::Metric(expr)) => return Some((expr, text.into(), node.span.clone())),
            Ok(ast::Expr::Log(log)) => {
                let message = "the expression yields log lines, a rule needs numbers";
                let help = "count the lines: `sum(count_over_time({...} [5m])) > 0`";
                vec![Diagnostic::error(codes::NOT_A_METRIC, log.span, message).label("log lines").help(help)]
            }
            Err(mistakes) => mistakes,
        };
        let placed = mistakes.into_iter().map(|mistake| {
            let span = yaml::place(&self.text, &node.span, text, mistake.span.clone());
            Diagnostic { span, ..mistake }
        });
        self.mistakes.extend(placed);
        None
    }

    fn templates(&mut self, fields: &Fields<'_>, field: &str) {
        let Some(Node { kind: NodeKind::Mapping(entries), .. }) = fields.get(field) else { return };
        for (_, node) in entries {
            let NodeKind::Scalar(text) = &node.kind else { continue };
            if let Err(error) = Template::parse(text) {
                let span = yaml::place(&self.text, &node.span, text, error.span.range());
                self.mistakes.push(Diagnostic::error(codes::TEMPLATE, span, error.message));
            }
        }
    }

    fn options(&mut self, fields: &Fields<'_>) -> EvalOptions {
        let Some(node) = fields.get("watchbell") else { return EvalOptions::default() };
        let Some(fields) = self.fields(node, "`watchbell`", OPTION_FIELDS) else { return EvalOptions::default() };
        EvalOptions {
            eval: fields.get("eval").and_then(|node| self.eval_mode(node)),
            lateness: self.duration(&fields, "lateness"),
            idle_timeout: self.duration(&fields, "idle_timeout"),
            samples: self.count(&fields, "samples"),
        }
    }

    fn eval_mode(&mut self, node: &Node) -> Option<EvalMode> {
        match self.string(node, "`eval`")? {
            "stream" => Some(EvalMode::Stream),
            "tick" => Some(EvalMode::Tick),
            other => {
                let message = format!("`eval` is `stream` or `tick`, not `{other}`");
                let mistake = Diagnostic::error(codes::VALUE, node.span.clone(), message);
                self.mistakes.push(mistake.suggest(other, ["stream", "tick"]));
                None
            }
        }
    }
}

impl EvalOptions {
    /// These, and where they do not say, those of `outer`.
    fn over(self, outer: Self) -> Self {
        Self {
            eval: self.eval.or(outer.eval),
            lateness: self.lateness.or(outer.lateness),
            idle_timeout: self.idle_timeout.or(outer.idle_timeout),
            samples: self.samples.or(outer.samples),
        }
    }
}

/// A detector where it is one, the expression, its text and where it stands.
type Condition = (Option<Detect>, ast::MetricExpr, Arc<str>, Range<usize>);

/// The name of a group where it has one.
fn name_place(node: &Node) -> Range<usize> {
    let NodeKind::Mapping(fields) = &node.kind else { return node.span.clone() };
    let name = fields.iter().find(|(key, _)| key.name == "name");
    name.map_or(node.span.clone(), |(_, value)| value.span.clone())
}

/// The first field, to stand for the whole mapping.
fn first_line(fields: &Fields<'_>, text: &str) -> Range<usize> {
    let start = fields.fields.first().map_or(fields.span.start, |(key, _)| key.span.start);
    start..start + text[start..].lines().next().map_or(0, |line| line.trim_end().len())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::sample::select;

    use super::*;
    use crate::datadriven;
    use crate::diagnostic::render_all;
    use crate::lint::lint;

    #[test]
    fn files_and_their_mistakes() {
        datadriven::run("diagnostics", |text| match parse("rules.yaml", text) {
            Ok(rule_file) => describe(&rule_file),
            Err(mistakes) => render_all(&mistakes, text),
        });
    }

    proptest::proptest! {
        /// Whatever stands in a file, it is read or refused, with every mistake inside of it.
        #[test]
        fn any_file_is_read_or_refused(edits in vec((0..FILE.len(), 0..40_usize, select(FRAGMENTS)), 1..6)) {
            let text = datadriven::edited(FILE, &edits);
            match parse("rules.yaml", &text) {
                Ok(file) => { lint("rules.yaml", &text, &file, |_| false); }
                Err(mistakes) => {
                    let is_inside = |mistake: &Diagnostic| {
                        mistake.span.start <= mistake.span.end && mistake.span.end <= text.len()
                    };
                    assert!(!mistakes.is_empty() && mistakes.iter().all(is_inside), "{text}");
                    render_all(&mistakes, &text);
                }
            }
        }
    }

    const FILE: &str = r#"groups:
  - name: "ä\tb"
    interval: 1m
    rules:
      - &a
        alert: A
        expr: >-
          sum by (x) (rate({a="é"} |~ "b\\d"
            | json [5m])) > 5
        labels: {severity: '{{ $labels.x }}', "\u00e4\L": 1}
        annotations:
          summary: |2+
              {{ $value | humanize }}

      - <<: *a
        expr: 'count_over_time({a="it''s"}[1h])'
      - record: r
        expr: "vector(1) \
          + sum(rate({a=\"b\"}[5m]))"
tests: [{name: x}]
"#;

    const FRAGMENTS: &[&str] = &[
        "", " ", "\n", "\n  ", "\t", ":", ": ", "- ", "|", ">-\n", "\"", "'", "\\", "{", "}", "[", "]", "{{", "}}",
        "&a ", "*a", "<<: *a", "!!str ", "é", "\u{feff}", "\r\n", "~", "5x", "(", ")", "# ", "---\n", "? ", "%",
        "\u{0}",
    ];

    fn describe(file: &RuleFile) -> String {
        let mut out = String::new();
        for group in &file.groups {
            let RuleGroup { name, interval, limit, query_offset, .. } = group;
            out += &format!("{name}: interval {interval:?}, limit {limit}, query_offset {query_offset:?}\n");
            for rule in &group.rules {
                out += &format!("  {:?}\n    {}\n    {:?} {:?}\n", rule.kind, rule.expr, rule.labels, rule.options);
            }
        }
        if let Some(tests) = &file.tests {
            out += &format!("tests at {tests:?}\n");
        }
        out
    }

    #[test]
    fn the_file_that_is_edited_is_sound() {
        assert_eq!(parse("rules.yaml", FILE).map_err(|mistakes| render_all(&mistakes, FILE)).unwrap().groups.len(), 1);
    }

    #[test]
    fn every_part_of_an_expression_is_found_in_the_file() {
        let text =
            "groups: [{name: g, rules: [{alert: A, expr: \"sum(count_over_time({a=\\\"b\\\"}\n  [5m])) > 2\"}]}]";
        let file = parse("rules.yaml", text).unwrap();
        let rule = &file.groups[0].rules[0];
        let ast::MetricKind::Binary(binary) = &rule.expr.kind else { panic!("{:?}", rule.expr) };
        assert_eq!(&text[rule.place(text, binary.op_span)], ">");
        assert_eq!(&text[rule.place(text, binary.rhs.span)], "2");
    }
}
