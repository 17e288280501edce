//! Wherever a secret is and whatever is around it, nothing of it is left; and what was taken out once is not taken out again.
#![no_main]

#[path = "../../tests/sdk/model.rs"]
#[allow(dead_code)]
mod model;

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use model::Input;
use watchbell::Guard;
use watchbell::fuzzing::{be_silent, encoded, scrubbed};
use watchbell::logs::Logger;
use watchbell::opentelemetry::logs::{AnyValue, LogRecord, Logger as _, LoggerProvider};
use watchbell::redact::{Redaction, Values};
use watchbell::sink::Sink;

const CANARY: &str = "AKIAsw33tyCANARYsw33ty";

/// Secrets, each with what must not be seen of it.
const SECRETS: [(&str, &str); 9] = [
    ("4111111111111111", "411111"),
    ("5500-0000-0000-0004", "5500"),
    ("Bearer sw33ty.CANARY-17", "sw33ty"),
    ("basic sw33tyCANARY=", "sw33ty"),
    ("Bearer 4111111111111111.sw33ty", "sw33ty"),
    ("ghp_sw33tyCANARYsw33tyCANARYsw33ty0", "sw33ty"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sw33ty", "sw33ty"),
    ("-----BEGIN RSA PRIVATE KEY-----\nsw33ty\n-----END RSA PRIVATE KEY-----", "sw33ty"),
    ("sw33ty@mail.example.com", "sw33ty"),
];

/// Names whose values are secret.
const KEYS: [&str; 6] =
    ["password", "user.API-Key", "http.request.header.authorization", "old_passwd_1", "access_token", "dropped"];

static REDACTION: LazyLock<Redaction> = LazyLock::new(|| Redaction::usual().values(Values::Emails).drop_key("dropped"));

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static LOGGER: LazyLock<(Logger, Guard)> = LazyLock::new(|| {
    let sink = Sink::callback("fuzz", |record| WRITTEN.lock().unwrap().extend_from_slice(encoded(record)));
    let off = ["OTEL_LOGS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"].map(|name| (name, "none"));
    let builder = watchbell::builder().variables(off).redact(REDACTION.clone()).sink(sink.in_call());
    let (_, guard) = builder.layer::<tracing_subscriber::Registry>().expect("a layer");
    let logger = guard.logger_provider().expect("logs go to the sink").logger("fuzz");
    be_silent();
    (logger, guard)
});

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (before, after) = (repeated(&mut input), repeated(&mut input));
    let (secret, hidden) = SECRETS[input.below(SECRETS.len())];
    let text = format!("{before}|{secret}|{after}");
    let shown = scrubbed(&REDACTION, &text);
    if !before.contains(hidden) && !after.contains(hidden) {
        assert!(!shown.contains(hidden), "{shown:?}");
    }
    assert_eq!(scrubbed(&REDACTION, &shown), shown);

    let key = KEYS[input.below(KEYS.len())];
    let (logger, _) = &*LOGGER;
    let mut record = logger.create_log_record();
    record.set_body(within(&mut input, key));
    record.add_attribute("said", within(&mut input, key));
    record.add_attribute(key, value(&mut input));
    record.add_attribute("text", text);
    logger.emit(record);
    let written = std::mem::take(&mut *WRITTEN.lock().unwrap());
    assert!(!written.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
});

/// A text once, as a rule; or again and again, so that what is looked at more than once takes a time that the fuzzer tells of.
fn repeated(input: &mut Input<'_>) -> String {
    let text = input.text();
    let times = if input.below(16) == 0 { (16_usize * 1024).checked_div(text.len()).unwrap_or(0) } else { 1 };
    text.repeat(times.max(1))
}

/// The secret behind that key, somewhere in a value.
fn within(input: &mut Input<'_>, key: &'static str) -> AnyValue {
    let entry =
        |value: AnyValue| AnyValue::Map(Box::new([(key.into(), value), ("beside".into(), CANARY.into())].into()));
    (0..input.below(40)).fold(entry(value(input)), |within, level| match level % 3 {
        0 => AnyValue::ListAny(Box::new(vec![1.into(), within])),
        _ => AnyValue::Map(Box::new([("within".into(), within), ("beside".into(), "é".into())].into())),
    })
}

/// A secret of any kind.
fn value(input: &mut Input<'_>) -> AnyValue {
    let text = || format!("sw33ty {CANARY}");
    match input.below(4) {
        0 => AnyValue::Bytes(Box::new(text().into_bytes())),
        1 => AnyValue::ListAny(Box::new(vec![text().into(), 1.into()])),
        2 => AnyValue::Map(Box::new([("in".into(), text().into())].into())),
        _ => text().into(),
    }
}
