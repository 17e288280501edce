//! A message as text, evidence included: what stdout prints and mail carries.

use std::fmt::Write as _;
use std::time::Duration;

use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::record::EvidenceRecord;
use watchbell_rules::time::{Timestamp, format_duration};
use watchbell_rules::transition::Alert;

use super::Links;

/// Escape sequences before and after what stands out.
pub(super) struct Style {
    firing: &'static str,
    resolved: &'static str,
    bold: &'static str,
    dim: &'static str,
    reset: &'static str,
}

impl Style {
    pub(super) const PLAIN: Self = Self { firing: "", resolved: "", bold: "", dim: "", reset: "" };
    pub(super) const ANSI: Self =
        Self { firing: "\x1b[1;31m", resolved: "\x1b[1;32m", bold: "\x1b[1m", dim: "\x1b[2m", reset: "\x1b[0m" };
}

/// The text of a message. It cannot fail: it is written into a `String`.
pub(super) fn text(notification: &Notification, style: &Style, links: &Links, now: Timestamp) -> String {
    part(notification, usize::MAX, usize::MAX, style, links, now)
}

/// As much of the plain text as fits: records are left out first, the oldest of each alert, then alerts.
pub(super) fn text_that_fits(
    notification: &Notification,
    links: &Links,
    now: Timestamp,
    fits: impl Fn(&str) -> bool,
) -> String {
    let halves = |most: usize| std::iter::successors(Some(most), |count| (*count > 0).then_some(count / 2));
    let records = notification.alerts.iter().map(|alert| alert.samples.len()).max().unwrap_or_default();
    let all_alerts = halves(records).map(|records| (usize::MAX, records));
    let some_alerts = halves(notification.alerts.len() / 2).map(|alerts| (alerts, 0));
    let mut parts = all_alerts.chain(some_alerts);
    let part = |(alerts, records)| part(notification, alerts, records, &Style::PLAIN, links, now);
    parts.find_map(|counts| Some(part(counts)).filter(|text| fits(text))).unwrap_or_default()
}

/// The first alerts with their last records.
fn part(
    notification: &Notification,
    alerts: usize,
    records: usize,
    style: &Style,
    links: &Links,
    now: Timestamp,
) -> String {
    let mut page = String::new();
    for alert in notification.alerts.iter().take(alerts) {
        let is_told_before = notification.is_told_before(alert);
        let _ = write_alert(&mut page, alert, is_told_before, records, style, links, now);
    }
    let left_out = notification.alerts.len().saturating_sub(alerts);
    if left_out > 0 {
        let _ = writeln!(page, "\n… and {left_out} more alerts");
    }
    page
}

/// The records behind an alert, two or three lines each.
pub(super) fn evidence(alert: &Alert, links: &Links, now: Timestamp) -> String {
    let mut evidence = String::new();
    for record in &alert.samples {
        let _ = write_record(&mut evidence, record, &Style::PLAIN, links, now);
    }
    evidence
}

fn write_alert(
    page: &mut String,
    alert: &Alert,
    is_told_before: bool,
    records_max: usize,
    style: &Style,
    links: &Links,
    now: Timestamp,
) -> std::fmt::Result {
    let Style { firing, resolved, bold, dim, reset } = style;
    let (color, state) = if alert.resolved_at.is_some() { (resolved, "RESOLVED") } else { (firing, "FIRING") };
    let name = alert.labels.get("alertname").unwrap_or_default();
    writeln!(page, "\n{color}━━━━ {state} ━━━━ {name}{reset}")?;
    for (name, text) in alert.annotations.iter() {
        writeln!(page, "  {dim}{name:<9}{reset} {}", shown(text))?;
    }
    let labels: Vec<String> = alert
        .labels
        .iter()
        .filter(|(name, _)| *name != "alertname")
        .map(|(name, value)| format!("{name}={}", quoted(value)))
        .collect();
    writeln!(page, "  {dim}labels   {reset} {}", labels.join(" "))?;
    write_value(page, alert, style)?;
    write_times(page, alert, is_told_before, style, now)?;
    if alert.resolved_at.is_some() {
        return Ok(());
    }
    let detector = alert.detector.as_deref().map(|kind| format!(", detector {kind}")).unwrap_or_default();
    writeln!(page, "  {dim}rule     {reset} {name} in group {}{detector}: {}", alert.group, one_line(&alert.expr))?;
    let records = &alert.samples[alert.samples.len().saturating_sub(records_max)..];
    match (alert.samples.len(), records.len()) {
        (all @ 1.., 0) => {
            writeln!(page, "  {bold}{all} records are behind it, which are too long for this message{reset}")?
        }
        (_, shown) => writeln!(page, "  {bold}{}{reset}", evidence_title(shown))?,
    }
    records.iter().try_for_each(|record| write_record(page, record, style, links, now))
}

fn write_value(page: &mut String, alert: &Alert, style: &Style) -> std::fmt::Result {
    let Style { bold, dim, reset, .. } = style;
    write!(page, "  {dim}value    {reset} {bold}{}{reset}", alert.value)?;
    match &alert.bound {
        Some((operator, bound)) => writeln!(page, ", fires {operator} {bound}"),
        None => writeln!(page),
    }
}

fn write_times(
    page: &mut String,
    alert: &Alert,
    is_told_before: bool,
    style: &Style,
    now: Timestamp,
) -> std::fmt::Result {
    let Style { bold, dim, reset, .. } = style;
    write!(page, "  {dim}since    {reset} {}", alert.active_at)?;
    match (alert.resolved_at, alert.fired_at) {
        (Some(resolved_at), _) => {
            writeln!(page, ", resolved {resolved_at}, {:.1} s later", resolved_at.since(alert.active_at).as_secs_f64())
        }
        (None, Some(fired_at)) if is_told_before => {
            writeln!(page, ", told before, firing for {bold}{}{reset}", shown_time(now.since(fired_at)))
        }
        (None, Some(fired_at)) => {
            let after = match alert.crossed_at {
                Some(_) => "the crossing record came in",
                None if alert.hold.is_zero() => "that was known",
                None => "`for` had passed",
            };
            writeln!(page, ", this page left {bold}{}{reset} after {after}", shown_time(now.since(fired_at)))
        }
        (None, None) => writeln!(page),
    }
}

/// Milliseconds where these say something.
fn shown_time(time: Duration) -> String {
    match time.as_secs() {
        ..10 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        10..3600 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format_duration(Duration::from_secs(seconds)),
    }
}

fn evidence_title(records: usize) -> String {
    match records {
        0 => "no record is behind it: its condition is that none came".to_owned(),
        1 => "the record behind it".to_owned(),
        n => format!("the last {n} records behind it"),
    }
}

fn write_record(
    page: &mut String,
    record: &EvidenceRecord,
    style: &Style,
    links: &Links,
    now: Timestamp,
) -> std::fmt::Result {
    let Style { dim, reset, bold, .. } = style;
    writeln!(page, "  {dim}{}{reset} {bold}{:<5}{reset} {}", record.time, record.severity, shown(&record.body))?;
    let attributes: Vec<String> =
        record.attributes.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    if !attributes.is_empty() {
        writeln!(page, "      {dim}{}{reset}", attributes.join(" "))?;
    }
    if !record.trace_id.is_empty() {
        let links = links.expand(record, now);
        let shown: Vec<&str> = links.values().map(String::as_str).collect();
        writeln!(page, "      trace {} {}", record.trace_id, shown.join(" "))?;
    }
    Ok(())
}

/// A label's or attribute's value: bare where it is one word, quoted where it is more.
fn quoted(value: &str) -> String {
    let is_word = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"');
    if is_word { value.to_owned() } else { format!("{value:?}") }
}

/// Text from outside, in which no control character reaches the terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use watchbell_rules::alerting::notification::NotifyReason;
    use watchbell_rules::labels::Labels;

    use super::*;

    fn alert(resolved_at: Option<Timestamp>) -> Alert {
        Alert {
            group: "checkout".into(),
            expr: "sum by (upstream) (\n  count_over_time({service_name=\"checkout\"} [10s])\n) > 5".into(),
            labels: Labels::new([("alertname", "Burst"), ("upstream", "payment eu")]),
            annotations: Labels::new([("summary", "6 errors\x1b[2J")]),
            value: 6.0,
            bound: Some((">".to_owned(), 5.0)),
            active_at: Timestamp(1_700_000_000_000_000_000),
            fired_at: Some(Timestamp(1_700_000_000_001_000_000)),
            crossed_at: Some(Timestamp(1_700_000_000_001_000_000)),
            resolved_at,
            samples: vec![EvidenceRecord {
                time: Timestamp(1_700_000_000_000_000_000),
                severity_number: 17,
                severity: "ERROR".to_owned(),
                body: "payment upstream answered 503".to_owned(),
                attributes: vec![("order.id".to_owned(), "4711".to_owned())],
                trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
                span_id: "00f067aa0ba902b7".to_owned(),
            }],
            ..Alert::default()
        }
    }

    fn page_of(alert: Alert) -> String {
        page_at(alert, Timestamp(1_700_000_000_003_500_000), false)
    }

    fn page_at(alert: Alert, now: Timestamp, is_told_before: bool) -> String {
        let told_before = is_told_before.then(|| alert.labels.fingerprint()).into_iter().collect();
        let notification = Notification {
            key: "k".to_owned(),
            group_key: "g".to_owned(),
            contact_point: "stdout".into(),
            integration: "stdout[0]".into(),
            reason: NotifyReason::FirstNotification,
            due: Timestamp(0),
            group_labels: Labels::default(),
            common_labels: Labels::default(),
            common_annotations: Labels::default(),
            alerts: vec![Arc::new(alert)],
            told_before,
        };
        let links = Links::new([("trace", "https://traces.example.com/{{ .TraceID }}")]).unwrap();
        text(&notification, &Style::PLAIN, &links, now)
    }

    #[test]
    fn a_page_tells_what_it_follows_from() {
        let now = Timestamp(1_700_000_012_501_000_000);
        let by_time = Alert { crossed_at: None, detector: Some("flatline".into()), ..alert(None) };
        let held = Alert { hold: Duration::from_secs(60), ..by_time.clone() };
        for (alert, is_told_before, said) in [
            (alert(None), false, "this page left 12.5 s after the crossing record came in\n"),
            (by_time.clone(), false, "this page left 12.5 s after that was known\n"),
            (held, false, "this page left 12.5 s after `for` had passed\n"),
            (alert(None), true, "since     2023-11-14T22:13:20Z, told before, firing for 12.5 s\n"),
            (by_time, false, "  rule      Burst in group checkout, detector flatline: sum by"),
        ] {
            let page = page_at(alert, now, is_told_before);
            assert!(page.contains(said), "{said}\n{page}");
        }
    }

    #[test]
    fn a_page_shows_rule_value_labels_and_evidence() {
        let expected = r#"
━━━━ FIRING ━━━━ Burst
  summary   6 errors [2J
  labels    upstream="payment eu"
  value     6, fires > 5
  since     2023-11-14T22:13:20Z, this page left 2.5 ms after the crossing record came in
  rule      Burst in group checkout: sum by (upstream) ( count_over_time({service_name="checkout"} [10s]) ) > 5
  the record behind it
  2023-11-14T22:13:20Z ERROR payment upstream answered 503
      order.id=4711
      trace 4bf92f3577b34da6a3ce929d0e0e4736 https://traces.example.com/4bf92f3577b34da6a3ce929d0e0e4736
"#;
        assert_eq!(page_of(alert(None)), expected);
    }

    #[test]
    fn a_resolved_notice_is_short() {
        let page = page_of(alert(Some(Timestamp(1_700_000_012_500_000_000))));
        assert!(page.contains("RESOLVED ━━━━ Burst"), "{page}");
        assert!(page.contains("resolved 2023-11-14T22:13:32.5Z, 12.5 s later"), "{page}");
        assert!(!page.contains("4bf92f"), "{page}");
    }
}
