//! Reading a log request of 512 records with eight attributes each: our check and views beside prost, in bytes a second.
//! `cargo bench -p watchbell-proto`; the ratio is what counts, not the figures.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_proto::otlp::{Limits, Signal, encode, json, validate};

fn decode(criterion: &mut Criterion) {
    let request = request();
    let mut group = criterion.benchmark_group("logs");
    group.throughput(Throughput::Bytes(request.len() as u64));
    group.bench_function("prost decode", |bencher| {
        bencher.iter(|| ExportLogsServiceRequest::decode(black_box(&request[..])).unwrap());
    });
    group.bench_function("validate", |bencher| {
        bencher.iter(|| validate(Signal::Logs, black_box(&request), &Limits::default()).unwrap());
    });
    group.bench_function("views, each record", |bencher| {
        bencher.iter(|| {
            LogsRequest::new(black_box(&request)).records().map(|(_, _, record)| record.severity_number).sum::<i32>()
        });
    });
    group.bench_function("views, each record's body and one attribute", |bencher| {
        bencher.iter(|| {
            let records = LogsRequest::new(black_box(&request)).records();
            let lengths = records.map(|(_, _, record)| {
                let body = record.body().and_then(|body| body.as_str()).map_or(0, str::len);
                let attribute =
                    record.attributes().get("attribute.5").and_then(|value| value.as_str()).map_or(0, str::len);
                body + attribute
            });
            lengths.sum::<usize>()
        });
    });
    group.bench_function("views, every string", |bencher| {
        bencher.iter(|| {
            LogsRequest::new(black_box(&request)).records().map(|(_, _, record)| read_all(&record)).sum::<usize>()
        });
    });
    group.finish();
    from_json(criterion, &request);
}

fn read_all(record: &watchbell_proto::otlp::logs::LogRecord<'_>) -> usize {
    let len = |value: Option<AnyValue<'_>>| value.and_then(|value| value.as_str()).map_or(0, str::len);
    let attributes = record.attributes().map(|attribute| attribute.key().len() + len(Some(attribute.value())));
    record.severity_text().len() + len(record.body()) + attributes.sum::<usize>()
}

fn from_json(criterion: &mut Criterion, request: &[u8]) {
    let json = serde_json::to_vec(&ExportLogsServiceRequest::decode(request).unwrap()).unwrap();
    let mut group = criterion.benchmark_group("logs in JSON");
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("to protobuf", |bencher| {
        bencher.iter(|| json::to_protobuf(Signal::Logs, black_box(&json), usize::MAX).unwrap());
    });
    group.bench_function("serde into prost's types", |bencher| {
        bencher.iter(|| serde_json::from_slice::<ExportLogsServiceRequest>(black_box(&json)).unwrap());
    });
    group.finish();
}

/// 512 records of about 420 bytes.
fn request() -> Vec<u8> {
    let resource = encode::resource([("service.name", AnyValue::String("checkout"))]);
    let mut request = Vec::new();
    encode::put_resource_logs(&mut request, &resource, |out| {
        encode::put_scope_logs(out, &encode::scope("checkout::payment", ""), |out| {
            for i in 0..512 {
                encode::put_log_record(out, |record| put_record(record, i));
            }
        });
    });
    request
}

fn put_record(record: &mut encode::LogRecordWriter<'_>, i: u64) {
    record.time_unix_nano(1_700_000_000_000_000_000 + i);
    record.observed_time_unix_nano(1_700_000_000_000_000_000 + i);
    record.severity_number(9);
    record.severity_text("INFO");
    record.body_fmt(format_args!(
        "request {i} of user {} took {} ms and was answered with a page of results",
        i * 7,
        i % 90
    ));
    for attribute in 0..8 {
        record.attribute_fmt(&format!("attribute.{attribute}"), format_args!("value {attribute} of {i}"));
    }
    record.trace_context(&[7; 16], &[9; 8]);
}

criterion_group!(benches, decode);
criterion_main!(benches);
