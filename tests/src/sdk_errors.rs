//! Errors of a service with our SDK, a process of its own, as the collector tells them apart: by their fingerprints, or by their frames.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::until;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;

const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: NewError
        detect: {new_pattern: {learn: 0s, window: 5m}}
        annotations: {summary: '{{ $labels.log_pattern }}: {{ $value }}'}
";

/// Errors of one type at one place are one error whatever they say, at another place another one; over restarts of the service, too.
#[test]
fn errors_are_grouped_by_what_they_are_and_not_by_what_they_say() {
    for backtrace in ["0", "1"] {
        let webhook = Webhook::start();
        let watchbell = Watchbell::start(&webhook.alerting(), RULES);
        for _ in 0..2 {
            let mut service = Command::new(std::env::current_exe().expect("a path"));
            service.args(["sdk_errors::the_service_that_fails", "--exact", "--ignored"]);
            service.env("COLLECTOR", watchbell.http.to_string()).env("RUST_BACKTRACE", backtrace);
            assert!(service.status().expect("this program").success());
        }
        let counts = until("both errors of both processes", || {
            let counts = counts(&watchbell)?;
            (counts.values().sum::<u64>() == 2 * (3 + 1)).then_some(counts)
        });
        let counted: Vec<u64> = counts.values().copied().collect();
        assert_eq!(counted.len(), 2, "backtrace {backtrace}: {counts:?}");
        assert_eq!(counted.iter().max(), Some(&6), "three errors of each of two processes: {counts:?}");
        let has = |part: &str| counts.keys().any(|pattern| pattern.contains(part));
        assert!(counts.keys().all(|pattern| pattern.contains("CardError")), "{counts:?}");
        assert!(!has("4711"), "what they say is no matter: {counts:?}");
        assert_eq!(has(" charge"), backtrace == "1", "frames where there are any: {counts:?}");
    }
}

/// How many records each pattern has, as its alert says.
fn counts(watchbell: &Watchbell) -> Option<BTreeMap<String, u64>> {
    let alerts = crate::support::http::get(&watchbell.api_url("/api/v1/alerts"))?.json();
    let count = |alert: &Value| {
        let pattern = alert["labels"]["log_pattern"].as_str()?.to_owned();
        let summary = alert["annotations"]["summary"].as_str()?;
        Some((pattern, summary.rsplit(": ").next()?.parse().ok()?))
    };
    alerts["data"]["alerts"].as_array()?.iter().map(count).collect()
}

#[test]
#[ignore = "the other runs it"]
fn the_service_that_fails() {
    let Ok(port) = std::env::var("COLLECTOR") else { return };
    let endpoint = format!("http://127.0.0.1:{port}");
    let builder = watchbell::builder().service_name("checkout").endpoint(endpoint).console(false);
    let guard = builder.init().expect("the only one of this process");
    (0..3).for_each(charge);
    refund();
    let account = guard.shutdown(Duration::from_secs(60)).logs;
    assert_eq!(account.delivered, 4, "{account}");
}

#[inline(never)]
fn charge(i: u32) {
    let error = CardError::new(format!("card 4711{i} has expired"));
    tracing::error!(err = watchbell::err!(error), "cannot charge {i}");
}

#[inline(never)]
fn refund() {
    let error = CardError::new("no such card".to_owned());
    tracing::error!(err = watchbell::err!(error), order_id = 17, "cannot refund");
}

/// Its derived `Debug` shows the backtrace, if there is one.
#[derive(Debug)]
struct CardError {
    text: String,
    #[expect(dead_code)] // but for that
    backtrace: Backtrace,
}

impl CardError {
    fn new(text: String) -> Self {
        Self { text, backtrace: Backtrace::capture() }
    }
}

impl std::fmt::Display for CardError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CardError {}
