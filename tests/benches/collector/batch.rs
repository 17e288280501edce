//! The load's batches: encoded once, stamped anew before each send.

use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;

/// An export request of `records` records of about 300 bytes each.
#[derive(Clone)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where the records' `time_unix_nano` stand.
    stamps: Vec<usize>,
    pub(crate) records: u64,
}

impl Batch {
    /// A batch of service `service-<n>`; no record of it crosses a bound.
    pub(crate) fn new(service: usize, records: u64) -> Self {
        Self::with_record(service, records, |_, _| {})
    }

    /// The same, and `change` may add to each record.
    pub(crate) fn with_record(
        service: usize,
        records: u64,
        change: impl Fn(u64, &mut encode::LogRecordWriter<'_>),
    ) -> Self {
        let name = format!("service-{service}");
        let resource = encode::resource([
            ("service.name", AnyValue::String(&name)),
            ("service.namespace", AnyValue::String("shop")),
            ("host.name", AnyValue::String("ip-10-0-3-17")),
        ]);
        let scope = encode::scope("shop::checkout", "1.4.2");
        let mut bytes = Vec::new();
        encode::put_resource_logs(&mut bytes, &resource, |out| {
            encode::put_scope_logs(out, &scope, |out| {
                for i in 0..records {
                    encode::put_log_record(out, |record| {
                        record.time_unix_nano(MARK);
                        write_record(i, record);
                        change(i, record);
                    });
                }
            });
        });
        let stamps = positions(&bytes, &MARK.to_le_bytes());
        assert_eq!(stamps.len() as u64, records, "the mark stands once in each record");
        Self { bytes, stamps, records }
    }

    /// The request with all records stamped `nanos`.
    pub(crate) fn stamped(&self, nanos: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for at in &self.stamps {
            bytes[*at..at + 8].copy_from_slice(&nanos.to_le_bytes());
        }
        bytes
    }
}

fn write_record(i: u64, record: &mut encode::LogRecordWriter<'_>) {
    let severity = if i.is_multiple_of(50) { (13, "WARN") } else { (9, "INFO") };
    record.severity_number(severity.0);
    record.severity_text(severity.1);
    record.body_fmt(format_args!(
        "order {} accepted, {} items reserved in warehouse {}, customer notified in {} ms",
        100_000 + i,
        i % 7 + 1,
        i % 13,
        i % 190 + 3
    ));
    record.attribute("order.id", &AnyValue::Int(100_000 + i as i64));
    record.attribute("http.route", &AnyValue::String("/api/v2/orders/{id}/confirm"));
    record.attribute("http.response.status_code", &AnyValue::Int(200));
    record.attribute("duration_ms", &AnyValue::Double(12.5 + i as f64));
    let trace = (0x1234_5678_9abc_def0_u128 << 64 | u128::from(i)).to_be_bytes();
    record.trace_context(&trace, &i.wrapping_add(1).to_be_bytes());
}

fn positions(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    bytes.windows(pattern.len()).enumerate().filter(|(_, window)| *window == pattern).map(|(at, _)| at).collect()
}

/// A time that no other field happens to spell.
const MARK: u64 = 0xf1e2_d3c4_b5a6_9788;
