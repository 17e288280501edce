//! Rules of ElastAlert 2: <https://elastalert2.readthedocs.io/en/latest/ruletypes.html>.

use std::time::Duration;

use super::predicate::{Pattern, Predicate, Test};
use super::reader::{
    Notes, Refused, duration, field, first_key, group_name, grouped, items, label_name, place, refuse, required,
    required_number, required_text, text, text_field, texts,
};
use super::{Conversion, Group, Options, Rule, query_dsl};
use crate::time::format_duration;
use crate::yaml::Node;

pub(super) fn convert(file: &str, documents: &[Node], options: &Options) -> Conversion {
    let mut notes = Notes::default();
    let mut group = Group { name: group_name(file), ..Group::default() };
    for node in documents {
        let rule = Source { node, options }.rule(&group.name, &mut notes);
        notes.finish(rule, &place(node, "name"), &mut group);
    }
    Conversion { groups: vec![group], notes: notes.notes }
}

struct Source<'a> {
    node: &'a Node,
    options: &'a Options,
}

impl Source<'_> {
    fn rule(&self, default_name: &str, notes: &mut Notes) -> Result<Rule, Refused> {
        let expr = self.expr(notes)?;
        notes.lose_fields(self.node, KNOWN, LOST);
        if self.options.selector == Options::default().selector && field(self.node, "index").is_some() {
            notes.lose(
                &place(self.node, "index"),
                "records of all services are looked at: OTLP has no indexes",
                "say which are meant: `--selector '{service_name=\"checkout\"}'`",
            );
        }
        Ok(Rule {
            name: text_field(self.node, "name").unwrap_or(default_name).to_owned(),
            expr,
            labels: self.labels(),
            annotations: self.annotations(notes),
            ..Rule::default()
        })
    }

    fn expr(&self, notes: &mut Notes) -> Result<String, Refused> {
        let kind = required_text(self.node, "type")?;
        let count = |op: &str, number: f64| self.frequency(op, number);
        match kind {
            "any" => Ok(format!("{} > 0", self.counted(self.filters()?, ANY_RANGE))),
            "frequency" => count(">=", required_number(self.node, "num_events")?),
            "flatline" => self.flatline(notes),
            "spike" => self.spike(notes),
            "cardinality" => self.cardinality(),
            "blacklist" | "whitelist" => self.list(kind),
            "change" => self.change(notes),
            "new_term" => self.new_term(notes),
            "metric_aggregation" => self.metric(),
            "percentage_match" => self.percentage(),
            other => {
                let message = format!("rules of type `{other}` have no counterpart");
                Err(Box::new(refuse(&required(self.node, "type")?.span, message)))
            }
        }
    }

    fn frequency(&self, op: &str, number: f64) -> Result<String, Refused> {
        Ok(format!("{} {op} {number}", self.counted(self.filters()?, self.timeframe()?)))
    }

    /// Too little: where there is nothing at all there is no series to compare, unless one is made of nothing.
    fn flatline(&self, notes: &mut Notes) -> Result<String, Refused> {
        let threshold = required_number(self.node, "threshold")?;
        let (filters, timeframe) = (self.filters()?, self.timeframe()?);
        if self.keys().is_empty() {
            return Ok(format!("({} or vector(0)) < {threshold}", self.counted(filters, timeframe)));
        }
        notes.lose(
            &place(self.node, "query_key"),
            "a value that was not seen for a day is forgotten, and one that was never seen is not missed",
            "",
        );
        let of = |range: Duration| self.counted(filters.clone(), range);
        let (now, known) = (of(timeframe), of(FORGET_AFTER.max(timeframe * 2)));
        Ok(format!("{now} < {threshold} or ({known} unless {now})"))
    }

    fn spike(&self, notes: &mut Notes) -> Result<String, Refused> {
        let height = required_number(self.node, "spike_height")?;
        let kind = required_text(self.node, "spike_type")?;
        let timeframe = self.timeframe()?;
        let now = self.counted(self.filters()?, timeframe);
        let before = self.counted(self.filters()?, Window { range: timeframe, offset: timeframe });
        let number = |name: &str| field(self.node, name).map(|_| required_number(self.node, name)).transpose();
        let least = |name: &str, count: &str| {
            Ok::<_, Refused>(number(name)?.map(|least| format!(" and {count} >= {least}")).unwrap_or_default())
        };
        let enough = least("threshold_cur", &now)? + &least("threshold_ref", &before)?;
        let up = format!("{now} >= {height} * {before}{enough}");
        let down = format!("{now} * {height} <= {before}{enough}");
        notes.lose(
            &place(self.node, "timeframe"),
            "where one of the two windows holds nothing at all, there is no ratio and no alert",
            "`detect: spike` compares with several earlier windows: docs/detect.md",
        );
        match kind {
            "up" => Ok(up),
            "down" => Ok(down),
            "both" => Ok(format!("({up}) or ({down})")),
            other => Err(Box::new(refuse(&place(self.node, "spike_type"), format!("`{other}` is no type of spike")))),
        }
    }

    fn cardinality(&self) -> Result<String, Refused> {
        let counted = self.distinct(required_text(self.node, "cardinality_field")?, self.timeframe()?)?;
        self.outside(&counted, "min_cardinality", "max_cardinality")
    }

    fn distinct(&self, field: &str, range: Duration) -> Result<String, Refused> {
        let (by, field) = (self.keys(), label_name(field));
        let records = Predicate::All(vec![self.filters()?, Predicate::Field(field.clone(), Test::Exists)]);
        let inner: Vec<String> = by.iter().cloned().chain([field]).collect();
        let counted = grouped("sum", &inner, &self.count_over_time(records, range));
        Ok(grouped("count", &by, &counted))
    }

    fn list(&self, kind: &str) -> Result<String, Refused> {
        let name = required_text(self.node, "compare_key")?;
        let values = texts(required(self.node, kind)?);
        if let Some(file) = values.iter().find(|value| value.starts_with("!file")) {
            return Err(Box::new(refuse(&place(self.node, kind), format!("`{file}`: write its values into the rule"))));
        }
        let is = values.into_iter().map(|value| Predicate::field(name, Test::Is(Pattern::Exact(value))));
        let is_listed = Predicate::Any(is.collect());
        let exists = Predicate::Field(label_name(name), Test::Exists);
        let is_wanted = match (kind, text_field(self.node, "ignore_null")) {
            ("blacklist", _) => is_listed,
            (_, Some("true")) => Predicate::All(vec![exists, is_listed.not()]),
            _ => is_listed.not(),
        };
        let all = Predicate::All(vec![self.filters()?, is_wanted]);
        Ok(format!("{} > 0", self.counted(all, ANY_RANGE)))
    }

    fn change(&self, notes: &mut Notes) -> Result<String, Refused> {
        let keys = texts(required(self.node, "compare_key")?);
        let [key] = &keys[..] else {
            return Err(Box::new(refuse(&place(self.node, "compare_key"), "only one `compare_key` has a counterpart")));
        };
        let range = field(self.node, "timeframe").and_then(duration).unwrap_or(Duration::from_secs(3600));
        notes.lose(
            &place(self.node, "compare_key"),
            format!("it fires while two values were seen within {}, in whatever order", format_duration(range)),
            "",
        );
        Ok(format!("{} > 1", self.distinct(key, range)?))
    }

    fn new_term(&self, notes: &mut Notes) -> Result<String, Refused> {
        let fields = field(self.node, "fields").or(field(self.node, "query_key")).map(items).unwrap_or_default();
        let fields: Vec<Vec<String>> = fields.iter().map(texts).filter(|terms| !terms.is_empty()).collect();
        if fields.is_empty() {
            return Err(Box::new(refuse(&first_key(self.node), "`fields` is missing")));
        }
        let window =
            field(self.node, "terms_window_size").and_then(duration).unwrap_or(Duration::from_secs(30 * 86_400));
        if window > TERMS_WINDOW_MAX {
            notes.lose(
                &place(self.node, "terms_window_size"),
                "terms of the last day are known, not of a longer time",
                "a longer range costs memory for each term: write it into the expression if there are few",
            );
        }
        let each = fields.iter().map(|terms| self.new_terms(terms, window.min(TERMS_WINDOW_MAX)));
        Ok(each.collect::<Result<Vec<_>, _>>()?.join(" or "))
    }

    /// What these fields have together now, and had not in the window before.
    fn new_terms(&self, fields: &[String], window: Duration) -> Result<String, Refused> {
        let by: Vec<String> = fields.iter().map(|field| label_name(field)).collect();
        let exist = by.iter().map(|name| Predicate::Field(name.clone(), Test::Exists)).collect();
        let records = Predicate::All(vec![self.filters()?, Predicate::All(exist)]);
        let now = self.count_over_time(records.clone(), ANY_RANGE);
        let before = self.count_over_time(records, Window { range: window, offset: ANY_RANGE });
        Ok(format!("({} unless {})", grouped("sum", &by, &now), grouped("sum", &by, &before)))
    }

    fn metric(&self) -> Result<String, Refused> {
        let (key, kind) = (required_text(self.node, "metric_agg_key")?, required_text(self.node, "metric_agg_type")?);
        let range = field(self.node, "buffer_time").and_then(duration).unwrap_or(Duration::from_secs(900));
        let value = match kind {
            "cardinality" => self.distinct(key, range)?,
            "value_count" => {
                let exists = Predicate::Field(label_name(key), Test::Exists);
                grouped(
                    "sum",
                    &self.keys(),
                    &self.count_over_time(Predicate::All(vec![self.filters()?, exists]), range),
                )
            }
            "min" | "max" | "avg" => self.unwrapped(&format!("{kind}_over_time("), key, range, true)?,
            "sum" => grouped("sum", &self.keys(), &self.unwrapped("sum_over_time(", key, range, false)?),
            "percentiles" => {
                let percent = required_number(self.node, "percentile_range")?;
                self.unwrapped(&format!("quantile_over_time({}, ", percent / 100.0), key, range, true)?
            }
            other => {
                return Err(Box::new(refuse(
                    &place(self.node, "metric_agg_type"),
                    format!("`{other}` has no counterpart"),
                )));
            }
        };
        self.outside(&value, "min_threshold", "max_threshold")
    }

    fn unwrapped(&self, function: &str, key: &str, range: Duration, is_grouped: bool) -> Result<String, Refused> {
        let (records, key) = (self.records(self.filters()?, true), label_name(key));
        let by = if is_grouped { format!(" by ({})", self.keys().join(", ")) } else { String::new() };
        // A record whose field is no number fails the query in Loki.
        let numbers = format!("{records} | unwrap {key} | __error__=\"\"");
        Ok(format!("{function}{numbers} [{}]){by}", format_duration(range)))
    }

    fn percentage(&self) -> Result<String, Refused> {
        let bucket = required(self.node, "match_bucket_filter")?;
        let range = field(self.node, "buffer_time").and_then(duration).unwrap_or(Duration::from_secs(900));
        let all = self.filters()?;
        let matching = Predicate::All(vec![all.clone(), query_dsl::filters(bucket)?]);
        let of = |records| grouped("sum", &self.keys(), &self.count_over_time(records, range));
        let (matching, all) = (of(matching), of(all));
        // Where none matches there is no element: 0 % of all is below a bound, too.
        let matching = match field(self.node, "min_percentage") {
            Some(_) => format!("({matching} or {all} * 0)"),
            None => matching,
        };
        self.outside(&format!("100 * {matching} / {all}"), "min_percentage", "max_percentage")
    }

    /// Below the one bound or above the other.
    fn outside(&self, value: &str, min: &str, max: &str) -> Result<String, Refused> {
        let bound = |name: &str, op: &str| {
            field(self.node, name)
                .map(|_| Ok::<_, Refused>(format!("{value} {op} {}", required_number(self.node, name)?)))
        };
        let bounds = [bound(max, ">"), bound(min, "<")].into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
        match bounds.is_empty() {
            true => Err(Box::new(refuse(&first_key(self.node), format!("`{min}` or `{max}` is missing")))),
            false => Ok(bounds.join(" or ")),
        }
    }

    fn timeframe(&self) -> Result<Duration, Refused> {
        let node = required(self.node, "timeframe")?;
        duration(node).ok_or_else(|| Box::new(refuse(&node.span, "this is no time: write `minutes: 5`")))
    }

    fn filters(&self) -> Result<Predicate, Refused> {
        match field(self.node, "filter") {
            Some(node) => query_dsl::filters(node),
            None => Ok(Predicate::All(Vec::new())),
        }
    }

    /// The labels of `query_key`.
    fn keys(&self) -> Vec<String> {
        let keys = field(self.node, "query_key").into_iter().flat_map(items).filter_map(text);
        keys.flat_map(|keys| keys.split(',')).map(|key| label_name(key.trim())).collect()
    }

    /// How many there are for each of the keys.
    fn counted(&self, records: Predicate, window: impl Into<Window>) -> String {
        grouped("sum", &self.keys(), &self.count_over_time(records, window))
    }

    fn count_over_time(&self, records: Predicate, window: impl Into<Window>) -> String {
        let Window { range, offset } = window.into();
        let offset = if offset.is_zero() { String::new() } else { format!(" offset {}", format_duration(offset)) };
        let records = self.records(records, !self.keys().is_empty());
        format!("count_over_time({records} [{}]{offset})", format_duration(range))
    }

    fn records(&self, records: Predicate, needs_labels: bool) -> String {
        self.options.selector.clone() + &records.pipeline(self.options.parser.as_deref(), needs_labels)
    }

    fn labels(&self) -> Vec<(String, String)> {
        let priority = text_field(self.node, "priority").or(text_field(self.node, "alertmanager_severity"));
        priority.map(|priority| ("severity".to_owned(), priority.to_owned())).into_iter().collect()
    }

    /// The texts of the alert, `{0}` and the like being the labels that `alert_text_args` names.
    fn annotations(&self, notes: &mut Notes) -> Vec<(String, String)> {
        let mut annotations = Vec::new();
        for (name, source, arguments) in
            [("summary", "alert_subject", "alert_subject_args"), ("description", "alert_text", "alert_text_args")]
        {
            let Some(text) = text_field(self.node, source) else { continue };
            let arguments = field(self.node, arguments).map(texts).unwrap_or_default();
            annotations.push((name.to_owned(), self.filled(text, source, &arguments, notes)));
        }
        if !annotations.iter().any(|(name, _)| name == "description") {
            let description = text_field(self.node, "description").map(str::to_owned);
            annotations.extend(description.map(|text| ("description".to_owned(), text)));
        }
        annotations
    }

    fn filled(&self, text: &str, source: &str, arguments: &[String], notes: &mut Notes) -> String {
        let mut out = text.to_owned();
        for (at, argument) in arguments.iter().enumerate() {
            let shown = match argument.as_str() {
                "num_matches" | "num_hits" => "{{ $value }}".to_owned(),
                name => format!("{{{{ $labels.{} }}}}", label_name(name)),
            };
            let is_known = shown.contains("$value") || self.keys().contains(&label_name(argument));
            if !is_known {
                notes.lose(
                    &place(self.node, source),
                    format!("`{argument}` in its text is no label of the alert"),
                    "add it to `by (...)`, or show the records: `{{ range $samples }}{{ .line }}{{ end }}`",
                );
            }
            out = out.replacen("{}", &shown, 1).replace(&format!("{{{at}}}"), &shown);
        }
        out
    }
}

/// A range, and how far back it ends.
struct Window {
    range: Duration,
    offset: Duration,
}

impl From<Duration> for Window {
    fn from(range: Duration) -> Self {
        Self { range, offset: Duration::ZERO }
    }
}

/// How long one record is told of where the source tells of each.
const ANY_RANGE: Duration = Duration::from_secs(60);

/// How long a value is missed.
const FORGET_AFTER: Duration = Duration::from_secs(86_400);

/// The longest time for which terms are known.
const TERMS_WINDOW_MAX: Duration = Duration::from_secs(86_400);

const KNOWN: &[&str] = &[
    "name",
    "type",
    "index",
    "filter",
    "query_key",
    "num_events",
    "timeframe",
    "threshold",
    "spike_height",
    "spike_type",
    "threshold_cur",
    "threshold_ref",
    "cardinality_field",
    "max_cardinality",
    "min_cardinality",
    "compare_key",
    "blacklist",
    "whitelist",
    "ignore_null",
    "fields",
    "terms_window_size",
    "metric_agg_key",
    "metric_agg_type",
    "percentile_range",
    "max_threshold",
    "min_threshold",
    "match_bucket_filter",
    "max_percentage",
    "min_percentage",
    "buffer_time",
    "priority",
    "alertmanager_severity",
    "alert_subject",
    "alert_subject_args",
    "alert_text",
    "alert_text_args",
    "description",
];

/// What to write instead; nothing where nothing is needed.
const LOST: &[(&str, &str)] = &[
    ("es_host", ""),
    ("es_port", ""),
    ("es_hosts", ""),
    ("use_ssl", ""),
    ("verify_certs", ""),
    ("es_username", ""),
    ("es_password", ""),
    ("timestamp_field", ""),
    ("timestamp_type", ""),
    ("run_every", ""),
    ("query_delay", ""),
    ("use_count_query", ""),
    ("use_terms_query", ""),
    ("doc_type", ""),
    ("doc_count", ""),
    ("terms_size", ""),
    ("attach_related", ""),
    ("include", ""),
    ("alert_text_type", ""),
    ("alert", "who is told stands under `alerting:` in the config: receivers, and routes that choose them by labels"),
    ("realert", "say how often a page is repeated by `repeat_interval` of a route"),
    ("exponential_realert", "say how often a page is repeated by `repeat_interval` of a route"),
    ("aggregation", "`group_wait` and `group_interval` of a route gather alerts"),
    ("is_enabled", "leave the rule out if it is not to run"),
    ("email", "an address stands in a receiver of the config"),
    ("limit_execution", "`active_time_intervals` of a route say when somebody is told"),
];
