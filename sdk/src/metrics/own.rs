//! The ledger as metrics, by OpenTelemetry's names for an SDK's own: `otel.sdk.*`. A signal that has emitted nothing is not told of: a service
//! that says nothing has nothing to send, and nothing to wait for when it ends.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use crate::config::Signal;
use crate::ledger::{Account, TakenOver};
use crate::limits::cut_texts;
use crate::pipeline::Pipeline;
use crate::sink::SinkAccount;

/// Observes the account of each signal.
pub(super) fn observe(pipeline: &Arc<Pipeline>, meter: &Meter) {
    observe_signal(pipeline, meter, Signal::Logs, "log", "{log_record}");
    observe_signal(pipeline, meter, Signal::Traces, "span", "{span}");
    observe_signal(pipeline, meter, Signal::Metrics, "metric_data_point", "{data_point}");
    observe_sinks(pipeline, meter);
    let of_withheld = Arc::clone(pipeline);
    meter
        .u64_observable_counter("watchbell.log.withheld")
        .with_description("Log records that were not made, by watchbell.reason: limit, sample, repeat, pressure.")
        .with_unit("{log_record}")
        .with_callback(move |out| {
            let reasons = of_withheld.restraint.withheld().by_reason();
            for (reason, count) in reasons.into_iter().filter(|(_, count)| *count > 0) {
                out.observe(count, &[KeyValue::new("watchbell.reason", reason)]);
            }
        })
        .build();
    meter
        .u64_observable_counter("watchbell.sdk.texts.cut")
        .with_description("Texts that were cut at 64 KiB, or at the length that an attribute may have.")
        .with_unit("{text}")
        .with_callback(|out| {
            Some(cut_texts()).filter(|count| *count > 0).into_iter().for_each(|count| out.observe(count, &[]))
        })
        .build();
    let redaction = pipeline.redaction.clone();
    meter
        .u64_observable_counter("watchbell.sdk.redaction.faults")
        .with_description("Texts that were masked whole, since a finder of the service's own failed over them.")
        .with_unit("{text}")
        .with_callback(move |out| {
            let faults = redaction.as_ref().map_or(0, |redaction| redaction.faults());
            (faults > 0).then(|| out.observe(faults, &[]));
        })
        .build();
    let account = account(pipeline, Signal::Logs);
    meter
        .u64_observable_counter("otel.sdk.log.created")
        .with_description("Log records that were made.")
        .with_unit("{log_record}")
        .with_callback(move |out| account().iter().for_each(|account| out.observe(account.emitted, &[])))
        .build();
}

fn observe_signal(pipeline: &Arc<Pipeline>, meter: &Meter, signal: Signal, noun: &str, unit: &'static str) {
    if signal != Signal::Metrics {
        let account = account(pipeline, signal);
        meter
            .u64_observable_counter(format!("otel.sdk.processor.{noun}.processed"))
            .with_description("What was processed, by error.type: without one it was handed to the exporter.")
            .with_unit(unit)
            .with_callback(move |out| account().iter().for_each(|account| processed(out, account)))
            .build();
    }
    let of_exported = account(pipeline, signal);
    meter
        .u64_observable_counter(format!("otel.sdk.exporter.{noun}.exported"))
        .with_description("What was exported, by error.type: without one the collector took it.")
        .with_unit(unit)
        .with_callback(move |out| of_exported().iter().for_each(|account| exported(out, account)))
        .build();
    let of_spooled = account(pipeline, signal);
    meter
        .i64_observable_up_down_counter(format!("watchbell.sdk.{noun}.spooled"))
        .with_description("What is on disk until the collector is back.")
        .with_unit(unit)
        .with_callback(move |out| {
            of_spooled().iter().for_each(|account| out.observe(account.spooled as i64, &[]));
        })
        .build();
    let of_unmapped = account(pipeline, signal);
    meter
        .u64_observable_counter(format!("watchbell.sdk.{noun}.unmapped"))
        .with_description("What was in memory alone for want of room in the mapped file.")
        .with_unit(unit)
        .with_callback(move |out| {
            let unmapped = of_unmapped().map_or(0, |account| account.unmapped);
            (unmapped > 0).then(|| out.observe(unmapped, &[]));
        })
        .build();
    let of_taken_over = Arc::clone(pipeline);
    meter
        .i64_observable_up_down_counter(format!("watchbell.sdk.{noun}.taken_over"))
        .with_description(
            "What earlier processes left on disk, by watchbell.end: delivered, refused, dropped, waiting.",
        )
        .with_unit(unit)
        .with_callback(move |out| taken_over(out, &of_taken_over.lane(signal).account().taken_over))
        .build();
    let of_inflight = account(pipeline, signal);
    let inflight = |account: &Account| account.in_flight as i64;
    meter
        .i64_observable_up_down_counter(format!("otel.sdk.exporter.{noun}.inflight"))
        .with_description("What waits for the collector, or is on its way.")
        .with_unit(unit)
        .with_callback(move |out| {
            of_inflight().iter().for_each(|account| out.observe(inflight(account), &[component("exporter")]));
        })
        .build();
}

/// None of it counts as emitted, so that it has a metric of its own.
fn taken_over(out: &dyn AsyncInstrument<i64>, taken_over: &TakenOver) {
    let TakenOver { delivered, refused, dropped, waiting, .. } = *taken_over;
    let ends = [("delivered", delivered), ("refused", refused), ("dropped", dropped), ("waiting", waiting)];
    for (end, count) in ends.into_iter().filter(|_| taken_over.found > 0) {
        out.observe(count as i64, &[KeyValue::new("watchbell.end", end)]);
    }
}

/// What became of log records at each sink.
fn observe_sinks(pipeline: &Arc<Pipeline>, meter: &Meter) {
    if pipeline.sinks.is_none() {
        return;
    }
    let of_processed = Arc::clone(pipeline);
    meter
        .u64_observable_counter("watchbell.sdk.sink.log.processed")
        .with_description("Log records that came to a sink, by error.type: without one they were written.")
        .with_unit("{log_record}")
        .with_callback(move |out| each_sink(&of_processed, |sink| sink_processed(out, sink)))
        .build();
    let of_withheld = Arc::clone(pipeline);
    meter
        .u64_observable_counter("watchbell.sdk.sink.log.withheld")
        .with_description("Log records that a sink's filter left out.")
        .with_unit("{log_record}")
        .with_callback(move |out| {
            each_sink(&of_withheld, |sink| observe_sink(out, sink, &[(sink.withheld, None)]));
        })
        .build();
}

fn each_sink(pipeline: &Pipeline, observe: impl Fn(&SinkAccount)) {
    pipeline.sinks.iter().flat_map(|sinks| sinks.accounts(None)).for_each(|sink| observe(&sink));
}

fn sink_processed(out: &dyn AsyncInstrument<u64>, sink: &SinkAccount) {
    let counts = [
        (sink.written, None),
        (sink.failed, Some("write_failed")),
        (sink.dropped - sink.dropped_after_shutdown - sink.dropped_reentrant, Some("queue_full")),
        (sink.dropped_after_shutdown, Some("already_shutdown")),
        (sink.dropped_reentrant, Some("reentrant")),
    ];
    observe_sink(out, sink, &counts);
}

/// A count is told from its first record on.
fn observe_sink(out: &dyn AsyncInstrument<u64>, sink: &SinkAccount, counts: &[(u64, Option<&'static str>)]) {
    for (count, error) in counts.iter().filter(|(count, _)| *count > 0) {
        let name = KeyValue::new("otel.component.name", sink.name.clone());
        let error = error.map(|error| KeyValue::new("error.type", error));
        let attributes: Vec<_> = [component("sink"), name].into_iter().chain(error).collect();
        out.observe(*count, &attributes);
    }
}

/// The account of a signal that has emitted something.
fn account(pipeline: &Arc<Pipeline>, signal: Signal) -> impl Fn() -> Option<Account> + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move || Some(pipeline.lane(signal).account()).filter(|account| account.emitted > 0)
}

fn processed(out: &dyn AsyncInstrument<u64>, account: &Account) {
    let dropped = account.dropped_buffer_full + account.dropped_after_shutdown + account.dropped_reentrant;
    observe_by_error(
        out,
        "processor",
        &[
            (account.emitted - dropped, None),
            (account.dropped_buffer_full, Some("queue_full")),
            (account.dropped_after_shutdown, Some("already_shutdown")),
            (account.dropped_reentrant, Some("reentrant")),
        ],
    );
}

fn exported(out: &dyn AsyncInstrument<u64>, account: &Account) {
    observe_by_error(
        out,
        "exporter",
        &[
            (account.delivered, None),
            (account.refused, Some("rejected")),
            (account.dropped_at_export_timeout + account.dropped_at_deadline, Some("timeout")),
            (account.dropped_spool_full, Some("spool_full")),
            (account.dropped_spool_damaged, Some("spool_damaged")),
        ],
    );
}

/// A reason is told from its first record on.
fn observe_by_error(out: &dyn AsyncInstrument<u64>, kind: &'static str, counts: &[(u64, Option<&'static str>)]) {
    for (count, error) in counts.iter().filter(|(count, error)| *count > 0 || error.is_none()) {
        let error = error.map(|error| KeyValue::new("error.type", error));
        let attributes: Vec<_> = [component(kind)].into_iter().chain(error).collect();
        out.observe(*count, &attributes);
    }
}

fn component(kind: &'static str) -> KeyValue {
    KeyValue::new(
        "otel.component.type",
        match kind {
            "exporter" => "watchbell_exporter",
            "sink" => "watchbell_sink",
            _ => "watchbell_processor",
        },
    )
}
