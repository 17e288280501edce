//! Each integration against a small server that answers as it is told.

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use watchbell_rules::alerting::notification::NotifyReason;
use watchbell_rules::labels::Labels;
use watchbell_rules::record::EvidenceRecord;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{Alert, AlertState, Transition};

use super::alertmanager::{self, Feed};
use super::*;
use crate::clock::{Clock, ManualClock};

#[derive(Debug)]
struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

const NOON: i64 = 1_795_521_600_000_000_000; // 2026-11-24T12:00:00Z

fn at(millis: i64) -> Timestamp {
    Timestamp(NOON + millis * 1_000_000)
}

fn tools() -> Tools {
    Tools {
        clock: Arc::new(StoppedClock(at(1_004))),
        origin: Origin {
            external_url: "https://watchbell.example".into(),
            links: Arc::new(Links::new([("trace", "https://tempo.example/trace/{{ .TraceID }}")]).unwrap()),
        },
        external_labels: Arc::new(BTreeMap::from([("cluster".to_owned(), "eu".to_owned())])),
        stdout: stdout::Writer::start(std::io::sink(), &stdout::Metrics::default()).unwrap(),
    }
}

fn record(millis: i64, body: &str, trace_id: &str) -> EvidenceRecord {
    EvidenceRecord {
        time: at(millis),
        severity_number: 17,
        severity: "ERROR".into(),
        body: body.into(),
        attributes: vec![("order_id".into(), "17".into()), ("upstream".into(), "payment gateway".into())],
        trace_id: trace_id.into(),
        span_id: "00f067aa0ba902b7".into(),
    }
}

fn alert(resolved_at: Option<Timestamp>) -> Alert {
    Alert {
        group: "checkout".into(),
        expr: "sum by (service_name) (count_over_time({service_name=~\".+\"} | severity_number >= 17 [1m])) > 20"
            .into(),
        labels: Labels::new([("alertname", "ErrorBurst"), ("service_name", "checkout"), ("severity", "page")]),
        annotations: Labels::new([("summary", "checkout: 21 errors in <a> minute"), ("runbook", "https://wiki/burst")]),
        value: 21.0,
        bound: Some((">".into(), 20.0)),
        active_at: at(900),
        fired_at: Some(at(1_000)),
        resolved_at,
        samples: vec![
            record(950, "payment failed: upstream 503", "4bf92f3577b34da6a3ce929d0e0e4736"),
            record(999, "timeout\n\x1b[2J", ""),
        ],
        ..Alert::default()
    }
}

fn notification(resolved_at: Option<Timestamp>) -> Arc<Notification> {
    let alert = alert(resolved_at);
    Arc::new(Notification {
        key: "00c0ffee-1".into(),
        group_key: r#"{}:{alertname="ErrorBurst"}"#.into(),
        contact_point: "team".into(),
        integration: "webhook[0]".into(),
        reason: NotifyReason::FirstNotification,
        due: at(1_000),
        group_labels: Labels::new([("alertname", "ErrorBurst")]),
        common_labels: alert.labels.clone(),
        common_annotations: alert.annotations.clone(),
        alerts: vec![Arc::new(alert)],
        told_before: Default::default(),
    })
}

/// A request as the server got it.
struct Got {
    head: String,
    body: Json,
}

/// A server that answers one request after the other with these, each `status line and headers`, then `body`.
async fn server(answers: &'static [(&'static str, &'static str)]) -> (String, tokio::sync::mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        for (head, body) in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            sender.send(read_request(&mut stream).await).await.unwrap();
            let answer =
                format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, receiver)
}

async fn read_request(stream: &mut BufReader<tokio::net::TcpStream>) -> Got {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).await.unwrap();
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Got { head, body: serde_json::from_slice(&body).unwrap() }
}

fn notifiers(yaml: &str) -> Notifiers {
    let config: AlertingConfig = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}"));
    Notifiers::new(Some(&config), &tools()).unwrap_or_else(|error| panic!("{error}"))
}

async fn send(notifiers: &Notifiers, notification: &Arc<Notification>) -> Result<(), DeliveryError> {
    notifiers.send(notification.clone()).await
}

async fn send_to(integration: &str, notifiers: &Notifiers, notification: &Notification) -> Result<(), DeliveryError> {
    send(notifiers, &Arc::new(Notification { integration: integration.into(), ..notification.clone() })).await
}

#[tokio::test]
async fn a_webhook_gets_alertmanagers_payload_with_the_records() {
    let (url, mut requests) = server(&[("200 OK", ""), ("204 No Content", "")]).await;
    let notifiers = notifiers(&format!(
        "{{route: {{receiver: team}}, receivers: [{{name: team, webhook_configs: [{{url: '{url}', http_config: \
         {{authorization: {{credentials: s3cret}}}}}}]}}]}}"
    ));
    assert_eq!(send(&notifiers, &notification(None)).await, Ok(()));
    let got = requests.recv().await.unwrap();
    assert!(got.head.contains("idempotency-key: 00c0ffee-1\r\n"), "{}", got.head);
    assert!(got.head.contains("authorization: bearer s3cret\r\n"), "{}", got.head);
    assert_eq!(got.body["version"], "4");
    assert_eq!(got.body["status"], "firing");
    assert_eq!(got.body["groupKey"], r#"{}:{alertname="ErrorBurst"}"#);
    assert_eq!(got.body["externalURL"], "https://watchbell.example");
    assert_eq!(got.body["commonLabels"]["severity"], "page");
    let alert = &got.body["alerts"][0];
    assert_eq!(alert["startsAt"], "2026-11-24T12:00:01Z");
    assert_eq!(alert["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(alert["value"], 21.0);
    let sample = &alert["samples"][0];
    assert_eq!(sample["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(sample["links"]["trace"], "https://tempo.example/trace/4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(sample["attributes"]["order_id"], "17");

    assert_eq!(send(&notifiers, &notification(Some(at(60_000)))).await, Ok(()));
    let resolved = requests.recv().await.unwrap().body;
    assert_eq!(
        (&resolved["status"], &resolved["alerts"][0]["endsAt"]),
        (&json!("resolved"), &json!("2026-11-24T12:01:00Z"))
    );
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_never_will() {
    let answers = &[
        ("500 Oops", "try  later"),
        ("429 Too Many Requests\r\nretry-after: 7", ""),
        ("400 Bad Request", "no such channel"),
    ];
    let (url, _requests) = server(answers).await;
    let notifiers = notifiers(&format!(
        "{{route: {{receiver: team}}, receivers: [{{name: team, webhook_configs: [{{url: '{url}'}}]}}]}}"
    ));
    let notification = notification(None);
    let passing = |reason: &str, after| Err(DeliveryError::Retryable { reason: reason.into(), after });
    assert_eq!(send(&notifiers, &notification).await, passing("500 Internal Server Error: try later", None));
    let after = Some(Duration::from_secs(7));
    assert_eq!(send(&notifiers, &notification).await, passing("429 Too Many Requests: ", after));
    let refused = DeliveryError::Permanent("400 Bad Request: no such channel".into());
    assert_eq!(send(&notifiers, &notification).await, Err(refused));
    assert!(
        matches!(send(&notifiers, &notification).await, Err(DeliveryError::Retryable { .. })),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_message_keeps_to_its_integration_when_others_come_and_go() {
    let (url, mut requests) = server(&[("200 OK", "")]).await;
    let webhook = format!("webhook_configs: [{{url: '{url}'}}]");
    let with = |integrations: &str| {
        notifiers(&format!("{{route: {{receiver: team}}, receivers: [{{name: team, {integrations}}}]}}"))
    };
    let more = with(&format!("slack_configs: [{{api_url: 'http://127.0.0.1:1'}}], {webhook}, stdout_configs: [{{}}]"));
    assert_eq!(send(&more, &notification(None)).await, Ok(()));
    assert_eq!(requests.recv().await.unwrap().body["version"], "4");

    let fewer = with("stdout_configs: [{}]");
    let gone = DeliveryError::Permanent("the config has no `webhook[0]` of `team` any more".into());
    assert_eq!(send(&fewer, &notification(None)).await, Err(gone));
}

#[test]
fn contact_points_are_used_under_the_policy_they_came_with() {
    let named =
        |name: &str| Arc::new(notifiers(&format!("{{route: {{receiver: {name}}}, receivers: [{{name: {name}}}]}}")));
    let (old, new) = (named("old"), named("new"));
    let (sender, latest) = watch::channel(Arc::clone(&old));
    let mut current = CurrentNotifiers::new(latest);
    let mut is_new = |policy| Arc::ptr_eq(&current.under(policy), &new);
    assert!(!is_new(new.policy()), "there are no others");
    sender.send_replace(Arc::clone(&new));
    assert!(!is_new(old.policy()), "the new policy is in the log, but not folded yet");
    assert!(is_new(new.policy()));
    assert!(is_new(old.policy()), "folded again after a disk failure: the new policy comes again");
    sender.send_replace(Arc::clone(&old));
    assert!(!is_new(old.policy()), "the reload failed");
}

#[tokio::test]
async fn slack_gets_an_attachment_and_may_refuse_with_200() {
    let (url, mut requests) =
        server(&[("200 OK", "ok"), ("200 OK", r#"{"ok":false,"error":"channel_not_found"}"#)]).await;
    let notifiers = notifiers(&format!(
        "{{global: {{slack_api_url: '{url}'}}, route: {{receiver: team}}, receivers: [{{name: team, slack_configs: \
         [{{channel: '#{{{{ .CommonLabels.service_name }}}}', send_resolved: true}}]}}]}}"
    ));
    assert_eq!(send_to("slack[0]", &notifiers, &notification(None)).await, Ok(()));
    let message = requests.recv().await.unwrap().body;
    assert_eq!(message["channel"], "#checkout");
    let attachment = &message["attachments"][0];
    assert_eq!(attachment["color"], "danger");
    let text = attachment["text"].as_str().unwrap();
    let evidence = [
        "payment failed: upstream 503",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "https://tempo.example/trace/4bf92f",
        "order_id=17",
    ];
    for part in evidence {
        assert!(text.contains(part), "{part} in {text}");
    }
    let refused = DeliveryError::Permanent("Slack refused it: channel_not_found".into());
    assert_eq!(send_to("slack[0]", &notifiers, &notification(None)).await, Err(refused));
}

#[tokio::test]
async fn slack_gets_all_that_alertmanagers_config_can_say() {
    let (url, mut requests) = server(&[("200 OK", "ok")]).await;
    let notifiers = notifiers(&format!(
        r#"
route: {{receiver: team}}
receivers:
  - name: team
    slack_configs:
      - app_token: xoxb
        app_url: '{url}'
        channel: '#c'
        username: ''
        icon_emoji: ':bell:'
        link_names: true
        message_text: 'hi {{{{ .CommonLabels.service_name }}}}'
        pretext: above
        text: '{{{{ .Status }}}}'
        title: t
        title_link: ''
        color: red
        fallback: f
        footer: '{{{{ .Receiver }}}}'
        short_fields: true
        fields: [{{title: team, value: '{{{{ .Receiver }}}}'}}, {{title: a, value: b, short: false}}]
        actions: [{{type: button, text: go, url: 'http://go', name: left out}}, {{type: button, text: ack, name: ack, confirm: {{text: 'sure?'}}}}]
        mrkdwn_in: [text]
"#
    ));
    assert_eq!(send_to("slack[0]", &notifiers, &notification(None)).await, Ok(()));
    let got = requests.recv().await.unwrap();
    assert!(got.head.contains("authorization: bearer xoxb\r\n"), "{}", got.head);
    let expected = json!({
        "channel": "#c", "icon_emoji": ":bell:", "link_names": true, "text": "hi checkout",
        "attachments": [{
            "pretext": "above", "text": "firing", "title": "t", "color": "red", "fallback": "f", "footer": "team", "mrkdwn_in": ["text"],
            "fields": [{"title": "team", "value": "team", "short": true}, {"title": "a", "value": "b", "short": false}],
            "actions": [
                {"type": "button", "text": "go", "url": "http://go"},
                {"type": "button", "text": "ack", "name": "ack", "value": "", "confirm": {"text": "sure?"}},
            ],
        }],
    });
    let mut body = got.body;
    let value = body["attachments"][0]["actions"][1].as_object_mut().unwrap().entry("value").or_insert("".into());
    assert_eq!(value, "");
    assert_eq!(body, expected);
}

#[tokio::test]
async fn pagerduty_gets_images_and_links() {
    let (url, mut requests) = server(&[("202 Accepted", "{}")]).await;
    let notifiers = notifiers(&format!(
        "{{route: {{receiver: team}}, receivers: [{{name: team, pagerduty_configs: [{{routing_key: k, url: '{url}', \
         images: [{{src: 'http://{{{{ .Receiver }}}}.png', alt: x}}, {{src: '{{{{ .CommonLabels.missing }}}}'}}], \
         links: [{{href: 'http://{{{{ .Receiver }}}}', text: runbook}}]}}]}}]}}"
    ));
    assert_eq!(send_to("pagerduty[0]", &notifiers, &notification(None)).await, Ok(()));
    let event = requests.recv().await.unwrap().body;
    assert_eq!(event["images"], json!([{"src": "http://team.png", "alt": "x"}]));
    assert_eq!(event["links"][0], json!({"href": "http://team", "text": "runbook"}));
    assert_eq!(event["links"].as_array().unwrap().len(), 2, "the records' trace stands behind: {event}");
}

/// It takes 512 KB: records are left out before alerts.
#[tokio::test]
async fn pagerduty_gets_what_it_takes_of_a_large_page() {
    let (url, mut requests) = server(&[("202 Accepted", "{}"), ("202 Accepted", "{}")]).await;
    let notifiers = notifiers(&format!(
        "{{route: {{receiver: team}}, receivers: [{{name: team, pagerduty_configs: [{{routing_key: k3y, url: '{url}'}}]}}]}}"
    ));
    for (alerts, records, text, shown_alerts) in [(100, 20, "\"x\"".repeat(400), 100), (20_000, 0, String::new(), 500)]
    {
        let one = alert(None);
        let record = EvidenceRecord { body: text, ..one.samples[0].clone() };
        let one = Arc::new(Alert { samples: vec![record; records], ..one });
        let page = Notification { alerts: vec![one; alerts], ..(*notification(None)).clone() };
        assert_eq!(send_to("pagerduty[0]", &notifiers, &Arc::new(page)).await, Ok(()));
        let event = requests.recv().await.unwrap().body;
        let bytes = event.to_string().len();
        assert!((200_000..512_000).contains(&bytes), "{bytes}");
        let shown = event["payload"]["custom_details"]["alerts"].as_str().unwrap().matches("FIRING").count();
        assert!(shown >= shown_alerts, "{shown}");
    }
}

#[tokio::test]
async fn pagerduty_opens_and_closes_one_incident() {
    let (url, mut requests) = server(&[("202 Accepted", "{}"), ("202 Accepted", "{}")]).await;
    let notifiers = notifiers(&format!(
        "{{route: {{receiver: team}}, receivers: [{{name: team, pagerduty_configs: [{{routing_key: k3y, url: '{url}'}}]}}]}}"
    ));
    assert_eq!(send_to("pagerduty[0]", &notifiers, &notification(None)).await, Ok(()));
    assert_eq!(send_to("pagerduty[0]", &notifiers, &notification(Some(at(60_000)))).await, Ok(()));
    let (opened, closed) = (requests.recv().await.unwrap().body, requests.recv().await.unwrap().body);
    assert_eq!((&opened["event_action"], &closed["event_action"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!(opened["dedup_key"], closed["dedup_key"]);
    assert_eq!(opened["routing_key"], "k3y");
    assert!(opened["payload"]["summary"].as_str().unwrap().starts_with("[FIRING:1] ErrorBurst"), "{opened}");
    assert_eq!(
        (&opened["payload"]["severity"], &opened["links"][0]["href"]),
        (&json!("error"), &json!("https://tempo.example/trace/4bf92f3577b34da6a3ce929d0e0e4736"))
    );
    assert!(opened["payload"]["custom_details"].to_string().contains("payment failed: upstream 503"), "{opened}");
}

/// On one thread: a send that blocked it would never come to its timeout.
#[tokio::test]
async fn a_page_that_a_full_pipe_does_not_take_is_tried_again() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdout = stdout::Writer::start(writer, &stdout::Metrics::default()).unwrap();
    let tools = Tools { stdout, ..tools() };
    let config = stdout::Config { timeout: Duration::from_millis(20), ..stdout::Config::default() };
    let blocked = stdout::Stdout::new(&config, &tools);
    let patient = stdout::Stdout::new(&stdout::Config { timeout: Duration::from_secs(120), ..config }, &tools);
    let page = |name: &str| {
        let alert = Alert { annotations: Labels::new([("summary", "x".repeat(1 << 20) + name)]), ..alert(None) };
        Arc::new(Notification { alerts: vec![Arc::new(alert)], ..(*notification(None)).clone() })
    };
    for name in ["FIRST", "SECOND"] {
        let result = blocked.send(page(name)).await;
        assert!(matches!(result, Err(DeliveryError::Retryable { .. })), "{result:?}");
    }
    let third = tokio::spawn(patient.send(page("THIRD")));
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        text
    });
    assert_eq!(third.await.unwrap(), Ok(()));
    drop((blocked, patient, tools));
    let printed = tokio::task::spawn_blocking(|| reading.join().unwrap()).await.unwrap();
    let names = ["FIRST", "SECOND", "THIRD"].map(|name| printed.contains(name));
    assert_eq!(names, [true, false, true], "the second waited in vain and is not printed late");
}

#[tokio::test]
async fn a_mail_has_text_html_and_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mailbox = tokio::spawn(async move { take_mail(listener).await });
    let notifiers = notifiers(&format!(
        "{{global: {{smtp_smarthost: '{address}', smtp_from: 'Watchbell <bell@example.org>', smtp_require_tls: false}}, \
         route: {{receiver: team}}, receivers: [{{name: team, email_configs: [{{to: 'a@example.org, B <b@example.org>', \
         headers: {{X-Team: '{{{{ .Receiver }}}}'}}}}]}}]}}"
    ));
    assert_eq!(send_to("email[0]", &notifiers, &notification(None)).await, Ok(()));
    let (commands, mail) = mailbox.await.unwrap();
    assert!(commands.contains("RCPT TO:<a@example.org>") && commands.contains("RCPT TO:<b@example.org>"), "{commands}");
    for part in ["Message-ID: <00c0ffee-1@watchbell>", "X-Team: team", "text/plain", "text/html", "From: "] {
        assert!(mail.contains(part), "{part} in {mail}");
    }
    let subjects = mail.lines().filter(|line| line.starts_with("Subject: ")).count();
    assert_eq!(subjects, 1);
    assert!(mail.contains("&lt;a&gt;"), "what the rule says is escaped in HTML: {mail}");
}

/// Takes one mail as a server without any extension does; gives the commands and the mail.
async fn take_mail(listener: TcpListener) -> (String, String) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut commands, mut mail) = (String::new(), String::new());
    stream.write_all(b"220 ready\r\n").await.unwrap();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return (commands, mail);
        }
        commands.push_str(&line);
        let answer: &[u8] = match line.trim_end() {
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer).await.unwrap();
        if line.trim_end() == "DATA" {
            while !mail.ends_with("\r\n.\r\n") {
                stream.read_line(&mut mail).await.unwrap();
            }
            stream.write_all(b"250 taken\r\n").await.unwrap();
        }
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let yaml = r#"
route: {receiver: team}
receivers:
  - name: team
    email_configs: [{to: a@example.org, from: nobody, smarthost: 'x:25'}, {from: a@example.org, smarthost: 'x:25'},
      {to: a@example.org, from: a@example.org, smarthost: 'x:25', tls_config: {cert_file: /no/such.pem}},
      {to: a@example.org, from: a@example.org, smarthost: 'x:25', tls_config: {cert_file: /no/such.pem, key_file: /no/such.key}}]
    slack_configs: [{}, {api_url: 'http://x', title: '{{ .Nope'}]
    webhook_configs: [{url: 'http://x', http_config: {tls_config: {ca_file: /no/such.pem}}}]
    pagerduty_configs: [{}]
"#;
    let config: AlertingConfig = serde_saphyr::from_str(yaml).unwrap();
    let error = Notifiers::new(Some(&config), &tools()).err().unwrap();
    let errors: Vec<&str> = error.lines().collect();
    let starts = [
        "receiver `team`: email_configs[0]: `from`: `nobody` is no mail address",
        "receiver `team`: email_configs[1]: `to`: `` is no mail address",
        "receiver `team`: email_configs[2]: `tls_config`: `cert_file` and `key_file` go together",
        "receiver `team`: email_configs[3]: cannot use `/no/such.pem`: ",
        "receiver `team`: slack_configs[0]: `api_url` or `api_url_file` is needed",
        "receiver `team`: slack_configs[1]: `title` is no template: unclosed action",
        "receiver `team`: pagerduty_configs[0]: `routing_key` or `routing_key_file` is needed",
        "receiver `team`: webhook_configs[0]: cannot read certificates from `/no/such.pem`",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for (error, start) in errors.iter().zip(starts) {
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn an_unsupported_key_is_told_with_its_line() {
    let error = |yaml: &str| serde_saphyr::from_str::<AlertingConfig>(yaml).unwrap_err().to_string();
    let inhibit = error("route: {receiver: a}\nreceivers: []\ninhibit_rules:\n  - {}\n");
    assert!(inhibit.contains("line 4") && inhibit.contains("not supported:"), "{inhibit}");
    for (key, place) in [
        ("opsgenie_configs: []", "line 4"),
        ("webhook_configs: [{url: 'http://x', http_config: {proxy_url: 'http://y'}}]", "line 4"),
        ("slack_configs: [{update_message: true}]", "line 4"),
        ("pagerduty_configs: [{service_key: x}]", "line 4"),
        ("email_configs: [{to: a, auth_secret: x}]", "line 4"),
    ] {
        let refused = error(&format!("route: {{receiver: a}}\nreceivers:\n  - name: a\n    {key}\n"));
        assert!(refused.contains(place) && refused.contains("not supported:"), "{refused}");
    }
}

#[tokio::test]
async fn an_alertmanager_is_told_of_what_fires_and_what_is_over() {
    let (url, mut requests) = server(&[("200 OK", ""), ("200 OK", "")]).await;
    let config: alertmanager::Config =
        serde_saphyr::from_str(&format!("url: {}", url.trim_end_matches("/hook"))).unwrap();
    let feed = Arc::new(Feed::new(&config, &tools(), &alertmanager::Metrics::default()).unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(Arc::clone(&feed).run(stopped));
    let change = |from, to, resolved_at| {
        feed.handle_transition(&Transition {
            from,
            to,
            alert: Arc::new(alert(resolved_at)),
            at: at(1_000),
            cause: None,
        });
    };
    change(AlertState::Inactive, AlertState::Pending, None);
    change(AlertState::Pending, AlertState::Firing, None);
    let got = requests.recv().await.unwrap();
    assert!(got.head.starts_with("post /api/v2/alerts "), "{}", got.head);
    assert_eq!(got.body.as_array().unwrap().len(), 1);
    assert_eq!(
        (&got.body[0]["labels"]["service_name"], &got.body[0]["labels"]["cluster"]),
        (&json!("checkout"), &json!("eu"))
    );
    assert_eq!(got.body[0]["endsAt"], "2026-11-24T12:04:01.004Z");
    change(AlertState::Firing, AlertState::Inactive, Some(at(70_000)));
    let got = requests.recv().await.unwrap();
    assert_eq!(got.body[0]["endsAt"], "2026-11-24T12:01:10Z");
    stop.send_replace(true);
    running.await.unwrap();
}

fn feed(config: &str, clock: Arc<ManualClock>) -> (Feed, alertmanager::Metrics) {
    let metrics = alertmanager::Metrics::default();
    let config: alertmanager::Config = serde_saphyr::from_str(config).unwrap();
    (Feed::new(&config, &Tools { clock, ..tools() }, &metrics).unwrap(), metrics)
}

fn change(name: &str, resolved_at: Option<Timestamp>) -> Transition {
    let alert = Alert { labels: Labels::new([("alertname", name)]), ..alert(resolved_at) };
    let states = (AlertState::Inactive, AlertState::Firing);
    let (from, to) = if resolved_at.is_some() { (states.1, states.0) } else { states };
    Transition { from, to, alert: Arc::new(alert), at: at(1_000), cause: None }
}

fn due(feed: &Feed, clock: &ManualClock) -> Vec<String> {
    let due = feed.due_alerts(clock.monotonic());
    due.iter().map(|alert| alert.labels.get("alertname").unwrap().to_owned()).collect()
}

#[test]
fn an_alertmanager_hears_after_a_replay_how_things_stand() {
    let clock = ManualClock::at(at(3_600_000));
    let (feed, _) = feed("url: http://127.0.0.1:1", clock.clone());
    feed.hold();
    feed.handle_transition(&change("old", None));
    feed.handle_transition(&change("old", Some(at(2_000))));
    feed.handle_transition(&change("recent", Some(at(3_000_000))));
    feed.handle_transition(&change("firing", Some(at(3_500_000))));
    feed.handle_transition(&change("firing", None));
    assert_eq!(due(&feed, &clock), Vec::<String>::new());
    feed.release();
    let stand = feed.due_alerts(clock.monotonic());
    assert_eq!(due(&feed, &clock), ["firing", "recent"], "what was resolved an hour ago is forgotten");
    assert_eq!(stand.iter().map(|alert| alert.resolved_at.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn what_is_resolved_is_kept_for_a_quarter_of_an_hour_and_told_again() {
    let clock = ManualClock::at(at(1_000));
    let (feed, metrics) = feed("url: http://127.0.0.1:1", clock.clone());
    feed.handle_transition(&change("a", Some(at(1_000))));
    feed.handle_transition(&change("b", Some(at(1_000))));
    let told = feed.due_alerts(clock.monotonic());
    feed.told(&told[..1], clock.monotonic());
    assert_eq!(due(&feed, &clock), ["b"]);
    clock.advance(Duration::from_secs(899));
    assert_eq!(due(&feed, &clock), ["a", "b"]);
    clock.advance(Duration::from_secs(1));
    assert_eq!((due(&feed, &clock).len(), metrics.dropped("http://127.0.0.1:1")), (0, 1), "`b` was never told");
}

#[test]
fn an_alertmanager_is_told_of_as_many_alerts_as_the_limit_says() {
    let clock = ManualClock::at(at(1_000));
    let (feed, metrics) = feed("{url: 'http://127.0.0.1:1', alerts_max: 2}", clock.clone());
    for (name, resolved_at) in [("a", None), ("b", Some(at(900))), ("c", None), ("d", None), ("a", None)] {
        feed.handle_transition(&change(name, resolved_at));
    }
    assert_eq!((due(&feed, &clock), metrics.dropped("http://127.0.0.1:1")), (vec!["a".into(), "c".into()], 2));
}

#[test]
fn files_bring_templates_that_replace_ours() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.tmpl");
    std::fs::write(&file, "{{ define \"slack.default.title\" }}mine{{ end }}").unwrap();
    let library = message::library(&[format!("{}/*.tmpl", folder.path().display())]).unwrap();
    let data = message::data(&notification(None), &tools().origin, at(0));
    let expand = |text| {
        let template = message::parse(&library, "title", text).unwrap();
        message::expand(&template, &data, at(0), watchbell_rules::template::Escape::None).unwrap()
    };
    assert_eq!(expand("{{ template \"slack.default.title\" . }}"), "mine");
    assert_eq!(expand("{{ template \"email.default.subject\" . }}"), "[FIRING: 1] ErrorBurst · checkout");
    std::fs::write(&file, "\n{{ nope }}").unwrap();
    let error = message::library(&[file.display().to_string()]).unwrap_err();
    assert!(error.ends_with("own.tmpl`, line 2: function `nope` is not defined"), "{error}");
}
