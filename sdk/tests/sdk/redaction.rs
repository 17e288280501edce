//! A canary that never leaves: not by any door, not by any way out.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{Span, Status, Tracer, TracerProvider};
use opentelemetry::{KeyValue, StringValue, Value as OtelValue};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tracing::dispatcher::with_default;
use watchbell::redact::{Redaction, Secret};
use watchbell::sink::{Format, Sink};

use crate::builder_with;
use crate::receiver::Receiver;

const DEADLINE: Duration = Duration::from_secs(120);
const CANARY: &str = "tweety-7c1a";
const CARD: &str = "4111 1111 1111 1111";
const CARD_NUMBER: i64 = 4_111_111_111_111_111;

/// Says the canary wherever something can be said.
fn say_it(guard: &watchbell::Guard) {
    let error = std::io::Error::other(CANARY);
    let error = &error as &(dyn std::error::Error + 'static);
    let _context =
        watchbell::context!(session.token = CANARY, card = CARD, paid = CARD_NUMBER, pin = Secret::new(CANARY)).enter();
    let _span = tracing::info_span!("request", password = CANARY, said = CARD, paid = CARD_NUMBER).entered();
    tracing::info!(password = CANARY, user.Password = ?CANARY, api_key_id = %CANARY, cookie = CANARY.as_bytes(), secret = error, "by key");
    tracing::info!(request.body = CANARY, fine = 17, "dropped");
    tracing::info!(said = CARD, ?CARD, "paid with {CARD}, again {CARD}");
    let (unsigned, wide, float) = (CARD_NUMBER as u64, CARD_NUMBER as u128, CARD_NUMBER as f64);
    tracing::info!(CARD_NUMBER, unsigned, wide, float, "by number");
    tracing::info!(pin = ?Secret::new(CANARY), shown = %Secret::new(CANARY), "by type");
    let logger = guard.logger_provider().unwrap().logger("appender");
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Error);
    record.set_body(AnyValue::ListAny(Box::new(vec![CARD.into(), AnyValue::Int(CARD_NUMBER)])));
    record.add_attribute("password", CANARY);
    record.add_attribute("nested", AnyValue::Map(Box::new([("said".into(), CARD.into())].into())));
    logger.emit(record);
    let mut span = guard.tracer_provider().unwrap().tracer("test").start("by the API");
    span.set_attribute(KeyValue::new("user.password", CANARY));
    span.set_attribute(KeyValue::new("said", OtelValue::Array(vec![StringValue::from(CARD)].into())));
    span.set_attribute(KeyValue::new("paid", OtelValue::Array(vec![1, CARD_NUMBER].into())));
    span.set_attribute(KeyValue::new("as float", CARD_NUMBER as f64));
    span.add_event(
        "event",
        vec![KeyValue::new("request.body", CANARY), KeyValue::new("said", CARD), KeyValue::new("paid", CARD_NUMBER)],
    );
    span.add_event(format!("{CARD} tried"), vec![]);
    span.set_status(Status::error(format!("{CARD} declined")));
    span.end();
}

#[test]
fn a_canary_never_leaves() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        let path = |name: &str| folder.path().join(name);
        let told = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let callback = {
            let told = std::sync::Arc::clone(&told);
            Sink::callback("callback", move |record| *told.lock().unwrap() += &format!("{record:?}\n"))
        };
        let formats = [Format::Pretty, Format::Json, Format::Ecs, Format::Gelf, Format::Logfmt, Format::OtlpJson];
        let mut builder = builder_with(&receiver, &[]).redact(Redaction::usual().drop_key("request.body"));
        for (i, format) in formats.into_iter().enumerate() {
            let sink = Sink::file(path(&format!("{i}.log"))).format(format);
            builder = builder.sink(if i % 2 == 0 { sink } else { sink.in_call() });
        }
        let builder = builder.sink(callback).sink(Sink::journald_at(path("socket").to_str().unwrap()));
        let (dispatch, guard) = crate::pipeline_of(builder);
        with_default(&dispatch, || say_it(&guard));
        guard.flush(DEADLINE).unwrap();
        let mut out = told.lock().unwrap().clone();
        for entry in fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some())
        {
            out += &fs::read_to_string(entry).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let mut datagram = vec![0; 64 * 1024];
        while let Ok(len) = socket.recv(&mut datagram) {
            out += &String::from_utf8_lossy(&datagram[..len]);
        }
        let logs = receiver.logs();
        out += &format!("{:?}", logs.iter().map(|log| &log.record).collect::<Vec<_>>());
        out += &format!("{:?}", receiver.spans());
        for secret in [CANARY, CARD, "4111111111111111", "116, 119, 101, 101, 116, 121"] {
            let found = out.find(secret).map(|at| out[at.saturating_sub(200)..].chars().take(300).collect::<String>());
            assert_eq!(found, None, "{secret}");
        }
        assert!(out.matches("[redacted]").count() > 50);
        assert!(!out.contains("request.body"));
        let with_body = |text: &str| {
            let body = Some(Value::StringValue(text.to_owned()));
            logs.iter().find(|log| log.record.body.as_ref().map(|body| &body.value) == Some(&body)).cloned()
        };
        assert!(with_body("dropped").unwrap().attribute("fine").is_some());
        assert!(with_body("paid with [redacted], again [redacted]").is_some());
        assert!(guard.sinks().iter().all(|sink| sink.written == 6 && sink.failed == 0), "{:?}", guard.sinks());
    }
}

/// In the thread of the export, of a sink, and of the service.
#[test]
fn a_finder_that_panics_masks_the_text_and_ends_no_thread() {
    for is_mapped in [false, cfg!(target_os = "linux")] {
        let (receiver, folder) = (Receiver::http(), tempfile::tempdir().unwrap());
        let find = |text: &str| Some(0..text.find(':').unwrap());
        let mut builder = builder_with(&receiver, &[]).redact(Redaction::new().found_by(find));
        builder = builder.sink(Sink::callback("queued", |_| {})).sink(Sink::callback("in call", |_| {}).in_call());
        if is_mapped {
            builder = builder.spool(watchbell::spool::Spool::in_dir(folder.path()).mapped());
        }
        let (dispatch, guard) = crate::pipeline_of(builder);
        for _ in 0..2 {
            with_default(&dispatch, || {
                let _span = tracing::info_span!("GET:/cart", user = "ada").entered();
                tracing::info!("paid by ada");
                tracing::info!("user:ada");
            });
            guard.flush(DEADLINE).unwrap();
        }
        let mut bodies: Vec<_> = receiver.logs().iter().map(crate::receiver::Received::body).collect();
        bodies.sort();
        assert_eq!(bodies, ["[redacted]", "[redacted]", "[redacted]:ada", "[redacted]:ada"]);
        assert_eq!(receiver.span("[redacted]:/cart").attributes.iter().filter(|user| user.key == "user").count(), 1);
        assert!(guard.sinks().iter().all(|sink| (sink.written, sink.failed) == (4, 0)), "{:?}", guard.sinks());
        receiver.metric("watchbell.sdk.redaction.faults");
        let ledger = guard.shutdown(DEADLINE);
        assert_eq!((ledger.logs.delivered, ledger.traces.delivered), (4, 2), "{ledger}");
    }
}

/// It is the service's thread that ends a span.
#[test]
fn no_more_of_a_span_is_looked_at_than_is_sent() {
    const SENT: usize = 64 * 1024;
    let receiver = Receiver::http();
    let longest = std::sync::Arc::new(AtomicUsize::new(0));
    let find = {
        let longest = std::sync::Arc::clone(&longest);
        move |text: &str| {
            longest.fetch_max(text.len(), Ordering::Relaxed);
            None
        }
    };
    let (_, guard) = crate::pipeline_of(builder_with(&receiver, &[]).redact(Redaction::usual().found_by(find)));
    let long = |secret: &str| "a ".repeat(SENT / 2 - 5) + secret + &" b".repeat(SENT);
    let mut span = guard.tracer_provider().unwrap().tracer("test").start(long("n") + CARD);
    span.set_attribute(KeyValue::new("text", long("no secret")));
    span.set_attribute(KeyValue::new("secret at the cut", long(CARD)));
    span.set_attribute(KeyValue::new("texts", OtelValue::Array(vec![StringValue::from(long(CARD))].into())));
    span.add_event(long(CARD), vec![]);
    span.set_status(Status::error(long(CARD)));
    span.end();
    guard.flush(DEADLINE).unwrap();
    assert!(longest.load(Ordering::Relaxed) <= SENT + 4 * 1024, "{longest:?}");
    let spans = receiver.spans();
    assert!(spans[0].name.len() == SENT && spans[0].events[0].name.len() == SENT);
    assert!(!format!("{spans:?}").contains("4111"));
}
