//! The main job: an error burst becomes a page that holds its evidence, whatever the contact points and exporters do.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::sink::Sink;
use crate::support::watchbell::{Watchbell, run};
use crate::support::webhook::Webhook;
use crate::support::{free_port, http, otlp, until};

const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: ErrorBurst
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [3s])) > 4
        labels: {severity: page}
        annotations: {summary: '{{ $labels.service_name }}: {{ $value }} errors'}
        watchbell: {samples: 3}
";

/// As [`RULES`], of a window so long that nothing resolves while the test runs.
fn lasting_rules() -> String {
    RULES.replace("[3s]", "[1h]")
}

fn burst(service: &str) -> Value {
    otlp::logs(service, (0..5).map(|n| otlp::error(&format!("payment refused {n}"))))
}

#[test]
fn a_page_holds_its_evidence_and_resolves() {
    let webhook = Webhook::start();
    let links = "links: {trace: 'https://traces.example.org/{{ .TraceID }}'}\n";
    let watchbell = Watchbell::start(&(links.to_owned() + &webhook.alerting()), RULES);
    watchbell.send(&otlp::logs("checkout", (0..100).map(|n| otlp::info(&format!("fine {n}")))));
    watchbell.send(&burst("checkout"));

    let page = webhook.wait_alert("ErrorBurst", "firing");
    assert_eq!(page.body["version"], "4", "{}", page.body);
    assert_eq!(page.body["receiver"], "hook", "{}", page.body);
    let alert = &page.body["alerts"][0];
    assert_eq!(alert["labels"]["service_name"], "checkout", "{alert}");
    assert_eq!(alert["labels"]["severity"], "page", "{alert}");
    assert_eq!(alert["annotations"]["summary"], "checkout: 5 errors", "{alert}");
    let samples = alert["samples"].as_array().unwrap();
    let bodies: BTreeSet<_> = samples.iter().map(|sample| sample["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, BTreeSet::from(["payment refused 2", "payment refused 3", "payment refused 4"]), "{alert}");
    for sample in samples {
        assert_eq!(sample["traceId"], otlp::TRACE_ID, "{sample}");
        assert!(sample.to_string().contains(&format!("https://traces.example.org/{}", otlp::TRACE_ID)), "{sample}");
        assert!(sample.to_string().contains("\"42\""), "the attributes are there: {sample}");
    }

    let resolved = webhook.wait_alert("ErrorBurst", "resolved");
    assert_eq!(resolved.body["status"], "resolved", "{}", resolved.body);
    let keys: BTreeSet<_> = webhook
        .deliveries()
        .iter()
        .map(|page| page.headers["idempotency-key"].clone())
        .map(|key| key.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), webhook.deliveries().len(), "each page has a key of its own");
    assert_eq!(watchbell.metric("watchbell_outbox_lost_total", &[]).unwrap_or(0.0), 0.0);
}

const NEW_ERRORS: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: NewError
        detect: {new_pattern: {learn: 0s, window: 1s}}
        annotations: {summary: 'new: {{ $labels.log_pattern }}'}
";

#[test]
fn an_error_that_was_never_told_of_pages_once_also_over_a_restart() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), NEW_ERRORS);
    watchbell.send(&otlp::logs("checkout", (0..3).map(|n| otlp::error(&format!("payment {n} refused after {n}5ms")))));
    let page = webhook.wait_alert("NewError", "firing");
    let alert = &page.body["alerts"][0];
    assert_eq!(alert["annotations"]["summary"], "new: payment <num> refused after <num>", "{alert}");
    assert!(alert["samples"][0]["body"].as_str().unwrap().starts_with("payment "), "{alert}");
    webhook.wait_alert("NewError", "resolved");

    let ports = watchbell.ports();
    let watchbell = Watchbell::start_in(watchbell.server.kill(), ports);
    watchbell.send(&otlp::logs("checkout", [otlp::error("payment 4711 refused after 1.5s")]));
    watchbell.send(&otlp::logs("checkout", [otlp::error("connection to 10.0.0.1:5432 lost")]));
    let told = || -> BTreeSet<(String, String)> {
        let pages = webhook.deliveries();
        let alerts = pages.iter().flat_map(|page| page.body["alerts"].as_array().cloned().unwrap_or_default());
        alerts.map(|alert| (alert["labels"]["log_pattern"].to_string(), alert["startsAt"].to_string())).collect()
    };
    let patterns = until("the page of the other error", || {
        let patterns: Vec<String> = told().into_iter().map(|(pattern, _)| pattern).collect();
        patterns.iter().any(|pattern| pattern.contains("connection")).then_some(patterns)
    });
    assert_eq!(patterns, [r#""connection to <addr> lost""#, r#""payment <num> refused after <num>""#]);
}

#[test]
fn without_contact_points_pages_go_to_stdout() {
    let watchbell = Watchbell::start("", RULES);
    watchbell.send(&burst("checkout"));
    for evidence in ["ErrorBurst", "checkout: 5 errors", "payment refused 4", otlp::TRACE_ID] {
        until(&format!("`{evidence}` on stdout"), || watchbell.server.log().contains(evidence).then_some(()));
    }
}

#[test]
fn a_batch_that_is_sent_twice_counts_once() {
    let sink = Sink::start();
    let watchbell = Watchbell::start(&sink.exporter(), &lasting_rules());
    let batch = otlp::logs("checkout", (0..3).map(|n| otlp::error(&format!("refused {n}"))));
    watchbell.send(&batch);
    watchbell.send(&batch);
    watchbell.send(&otlp::logs("checkout", [otlp::error("the last")]));
    sink.wait_records(4);
    watchbell.send(&otlp::logs("checkout", [otlp::error("the fifth")]));
    let alert = watchbell.wait_alert("ErrorBurst", "firing");
    assert_eq!(alert["annotations"]["summary"], "checkout: 5 errors", "{alert}");
    assert_eq!(sink.wait_records(5).len(), 5, "nor is it forwarded twice");
}

#[test]
fn a_failing_contact_point_is_tried_until_it_works() {
    let webhook = Webhook::start();
    webhook.answer_next(&[500, 503, 429]);
    let watchbell = Watchbell::start(&webhook.alerting(), &lasting_rules());
    watchbell.send(&burst("checkout"));
    webhook.wait_alert("ErrorBurst", "firing");
    let deliveries = webhook.deliveries();
    assert_eq!(deliveries.len(), 4, "three failures and a success");
    let keys: BTreeSet<_> =
        deliveries.iter().map(|delivery| delivery.headers["idempotency-key"].to_str().unwrap()).collect();
    assert_eq!(keys.len(), 1, "it is one page");
}

#[test]
fn a_refusal_is_not_repeated() {
    let webhook = Webhook::start();
    webhook.answer_next(&[400]);
    let watchbell = Watchbell::start(&webhook.alerting(), &lasting_rules());
    watchbell.send(&burst("checkout"));
    until("the refusal is counted", || {
        watchbell.metric("watchbell_outbox_lost_total", &["hook"]).filter(|failed| *failed >= 1.0)
    });
    watchbell.send(&burst("payment"));
    webhook.wait_alert("ErrorBurst", "firing");
    assert_eq!(webhook.deliveries().len(), 2, "the refused page is not sent again");
}

#[test]
fn a_dead_and_a_slow_contact_point_delay_no_other() {
    let good = Webhook::start();
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "
alerting:
  route:
    receiver: dead
    group_by: [alertname]
    group_wait: 0s
    routes:
      - {{receiver: slow, continue: true}}
      - {{receiver: dead, continue: true}}
      - {{receiver: good}}
  receivers:
    - {{name: dead, webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]}}
    - {{name: slow, webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]}}
    - {{name: good, webhook_configs: [{{url: '{}'}}]}}
",
        free_port(),
        slow.local_addr().unwrap().port(),
        good.url()
    );
    let watchbell = Watchbell::start(&config, &lasting_rules());
    watchbell.send(&burst("checkout"));
    good.wait_alert("ErrorBurst", "firing");
    drop(slow);
}

/// A dead exporter and one that never answers: requests are acknowledged, and pages leave.
#[test]
fn a_dead_and_a_slow_exporter_delay_neither_ingestion_nor_pages() {
    let webhook = Webhook::start();
    let sink = Sink::start();
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "exporters:\n  otlp_http/dead: {{endpoint: 'http://127.0.0.1:{}'}}\n  otlp_http/slow: {{endpoint: 'http://{}'}}\n  \
         otlp_grpc: {{endpoint: 'http://127.0.0.1:{}'}}\n",
        free_port(),
        slow.local_addr().unwrap(),
        sink.grpc
    );
    let watchbell = Watchbell::start(&(config + &webhook.alerting()), &lasting_rules());
    for n in 0..200 {
        watchbell.send(&otlp::logs("checkout", (0..50).map(|m| otlp::info(&format!("fine {n} {m}")))));
    }
    watchbell.send(&burst("checkout"));
    webhook.wait_alert("ErrorBurst", "firing");
    assert_eq!(sink.wait_records(10_005).len(), 10_005);
}

#[test]
fn a_restart_keeps_what_fires_and_pages_nobody_again() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), &lasting_rules());
    watchbell.send(&burst("checkout"));
    webhook.wait_alert("ErrorBurst", "firing");
    let before = watchbell.wait_alert("ErrorBurst", "firing");

    let ports = watchbell.ports();
    let watchbell = Watchbell::start_in(watchbell.server.kill(), ports);
    let after = watchbell.wait_alert("ErrorBurst", "firing");
    assert_eq!(before["activeAt"], after["activeAt"]);
    watchbell.send(&burst("payment"));
    webhook.wait("the page of another group", |body| body["groupLabels"]["service_name"] == "payment");
    let checkout = |body: &Value| body["groupLabels"]["service_name"] == "checkout";
    assert_eq!(webhook.deliveries().iter().filter(|page| checkout(&page.body)).count(), 1);
}

#[test]
fn sigterm_drains() {
    let sink = Sink::start();
    let mut watchbell = Watchbell::start(&sink.exporter(), "groups: []\n");
    for n in 0..20 {
        watchbell.send(&otlp::logs("checkout", (0..50).map(|m| otlp::info(&format!("fine {n} {m}")))));
    }
    assert_eq!(watchbell.server.terminate(), Some(0), "{}", watchbell.server.log());
    assert_eq!(sink.wait_records(1000).len(), 1000);
}

#[test]
fn a_reload_takes_new_rules_and_refuses_bad_ones() {
    let watchbell = Watchbell::start("", &lasting_rules());
    watchbell.send(&burst("checkout"));
    let before = watchbell.wait_alert("ErrorBurst", "firing");
    let rules = watchbell.server.path().join("rules.yaml");
    let reload = || http::post(&watchbell.api_url("/-/reload"), "text/plain", "").unwrap();

    std::fs::write(&rules, lasting_rules().replace("count_over_time", "cuont_over_time")).unwrap();
    let refused = reload();
    assert!(!refused.status.is_success(), "{}", refused.text());
    assert!(refused.text().contains("cuont_over_time"), "{}", refused.text());
    assert_eq!(watchbell.wait_alert("ErrorBurst", "firing")["activeAt"], before["activeAt"]);

    let more = lasting_rules()
        + "      - alert: AnyError\n        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 0\n";
    std::fs::write(&rules, more).unwrap();
    watchbell.server.signal("HUP");
    until("the new rule is there", || {
        http::get_json(&watchbell.api_url("/api/v1/rules")).to_string().contains("AnyError").then_some(())
    });
    watchbell.send(&burst("payment"));
    watchbell.wait_alert("AnyError", "firing");
    let alerts = http::get_json(&watchbell.api_url("/api/v1/alerts"));
    assert!(
        alerts.to_string().contains(before["activeAt"].as_str().unwrap()),
        "the old rule's state is kept: {alerts}"
    );
}

/// A message in retry keeps to its contact point when a reload puts another before it, which has a page of its own.
#[test]
fn a_page_in_retry_finds_its_way_over_a_reload() {
    let (webhook, slack) = (Webhook::start(), Webhook::start());
    webhook.answer_next(&[503; 1000]);
    let watchbell = Watchbell::start(&webhook.alerting(), &lasting_rules());
    watchbell.send(&burst("checkout"));
    until("the page is in retry", || (!webhook.deliveries().is_empty()).then_some(()));
    let config = watchbell.server.path().join("config.yaml");
    let both = format!("slack_configs: [{{api_url: '{}', send_resolved: true}}]\n      webhook_configs", slack.url());
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap().replace("webhook_configs", &both)).unwrap();
    let reloaded = http::post(&watchbell.api_url("/-/reload"), "text/plain", "").unwrap();
    assert!(reloaded.status.is_success(), "{}", reloaded.text());
    webhook.answer_next(&[]);
    let page = webhook.wait_alert("ErrorBurst", "firing");
    assert_eq!(page.headers["idempotency-key"], webhook.deliveries()[0].headers["idempotency-key"]);
    slack.wait("Slack is told", |body| body["attachments"][0]["title"].to_string().contains("ErrorBurst"));
    assert_eq!(slack.deliveries().len(), 1, "of its own page alone");
}

#[test]
fn wrong_configs_are_refused_with_their_place() {
    for (config, complaints) in [
        ("recievers: {}\n", &["config.yaml", "recievers", "receivers"][..]),
        ("api: {endpoint: 1}\napi: {}\n", &["api"]),
        ("service: {pipelines: {}}\n", &["service", "every receiver feeds every exporter"]),
        ("processors: {batch: {}}\n", &["processors"]),
        ("exporters: {nonsense: {}}\n", &["nonsense"]),
        ("exporters: {otlp_grpc: {endpont: 'http://a'}}\n", &["endpont", "endpoint"]),
        ("alerting: {route: {receiver: nobody}, receivers: []}\n", &["nobody"]),
        ("alerting: {route: {receiver: '${env:NOT_SET_ANYWHERE}'}, receivers: []}\n", &["NOT_SET_ANYWHERE"]),
        ("data_dir: [\n", &["config.yaml"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.yaml"), config).unwrap();
        for arguments in [&["check", "--config", "config.yaml"][..], &["run", "--config", "config.yaml"]] {
            let (success, text) = run(arguments, dir.path());
            assert!(!success, "{config} was taken");
            assert!(complaints.iter().all(|complaint| text.contains(complaint)), "{config}: {text}");
        }
    }
}

#[test]
fn wrong_rules_are_refused_with_their_places_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "groups:\n  - name: a\n    rules:\n      - alert: A\n        expr: 'sum(cuont_over_time({a=\"b\"}[1m])) > 1'\n      \
                 - alert: B\n        expr: 'sum(count_over_time({a=\"b\"}[1m]) > 1'\n        fro: 1m\n";
    std::fs::write(dir.path().join("rules.yaml"), rules).unwrap();
    let (success, text) = run(&["check", "rules.yaml"], dir.path());
    assert!(!success, "{text}");
    for complaint in ["rules.yaml:5:", "cuont_over_time", "count_over_time", "rules.yaml:8:", "fro"] {
        assert!(text.contains(complaint), "no `{complaint}` in {text}");
    }
}

#[test]
fn a_token_keeps_strangers_out() {
    let [grpc, http] = [free_port(), free_port()];
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}', auth: {{bearer_token: hunter2}}}}, \
         http: {{endpoint: '127.0.0.1:{http}', auth: {{bearer_token: hunter2}}}}}}}}}}\napi: {{endpoint: '127.0.0.1:{}'}}\n",
        free_port()
    );
    let api = config.rsplit(':').next().unwrap().trim_end_matches(['}', '\'', '\n']).parse().unwrap();
    std::fs::write(dir.path().join("config.yaml"), config).unwrap();
    let watchbell = Watchbell::start_in(dir, [grpc, http, api]);
    let request = otlp::logs("checkout", [otlp::error("x")]);
    for port in [grpc, http] {
        let response = otlp::send(port, &request).unwrap();
        assert_eq!(response.status, 401, "{}", response.text());
        let with_token = ::http::Request::post(format!("http://127.0.0.1:{port}/v1/logs"))
            .header("content-type", "application/json")
            .header("authorization", "Bearer hunter2")
            .body(request.to_string().into())
            .unwrap();
        assert_eq!(http::send(with_token).unwrap().status, 200);
    }
    assert!(!watchbell.server.log().contains("hunter2"));
}

#[test]
fn the_examples_rules_pass_their_own_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rules");
    let (is_success, told) = run(&["test", "errors.yaml", "detect.yaml", "losses.yaml"], &folder);
    assert!(is_success && told.contains("3 passed, 0 failed"), "{told}");
}
