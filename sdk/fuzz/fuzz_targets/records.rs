//! Whatever is logged, by whichever door and under whatever limits, prost reads in the record what a naive model says of it.
#![no_main]

#[path = "../../tests/sdk/model.rs"]
mod model;

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use model::{Input, Limits};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use tracing_subscriber::layer::SubscriberExt;
use watchbell::Guard;
use watchbell::logs::Logger;
use watchbell::opentelemetry::logs::LoggerProvider;
use watchbell::sink::Sink;

struct Rig {
    limits: Limits,
    dispatch: tracing::Dispatch,
    logger: Logger,
    _guard: Guard,
}

/// What the rigs' sinks have taken.
static RECORDS: Mutex<Vec<LogRecord>> = Mutex::new(Vec::new());

/// Sets the logger of the `log` crate.
static PROCESS: LazyLock<Guard> = LazyLock::new(|| watchbell::builder().variables(off()).init().expect("the only one"));

static RIGS: LazyLock<Vec<Rig>> = LazyLock::new(|| Limits::INTERESTING.map(rig).into());

// The first byte chooses the limits.
fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&PROCESS);
    let mut input = Input(bytes);
    let rig = &RIGS[input.below(RIGS.len())];
    let expected =
        tracing::dispatcher::with_default(&rig.dispatch, || model::log(&mut input, rig.limits, &rig.logger, true));
    let found = std::mem::take(&mut *RECORDS.lock().unwrap());
    assert_eq!(found.len(), expected.len());
    expected.into_iter().zip(found).for_each(|(expected, found)| expected.check(found, rig.limits));
});

fn rig(limits: Limits) -> Rig {
    let sink = Sink::callback("fuzz", |record| {
        let record = LogRecord::decode(watchbell::fuzzing::encoded(record)).expect("what prost reads");
        RECORDS.lock().unwrap().push(record);
    });
    let builder = watchbell::builder().variables(off().into_iter().chain(limits.variables())).sink(sink.in_call());
    let (layer, guard) = builder.layer().expect("a layer");
    let logger = guard.logger_provider().expect("logs go to the sink").logger("model");
    watchbell::fuzzing::be_silent();
    Rig { limits, dispatch: tracing::Dispatch::new(tracing_subscriber::registry().with(layer)), logger, _guard: guard }
}

fn off() -> [(&'static str, String); 3] {
    ["OTEL_LOGS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"].map(|name| (name, "none".to_owned()))
}
