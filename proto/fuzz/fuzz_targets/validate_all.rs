//! The check takes what prost takes, of all signals; what is joined and cut stays legal. The first byte chooses the signal and limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use watchbell_proto::otlp::{Limits, Signal, admit, merge_repeated, validate};
use watchbell_proto::wire::DecodeErrorKind;

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    match first % 3 {
        0 => check::<ExportLogsServiceRequest>(Signal::Logs, bytes, *first),
        1 => check::<ExportTraceServiceRequest>(Signal::Traces, bytes, *first),
        _ => check::<ExportMetricsServiceRequest>(Signal::Metrics, bytes, *first),
    }
});

fn check<M: Message + Default>(signal: Signal, bytes: &[u8], first: u8) {
    let expected = M::decode(bytes);
    match validate(signal, bytes, &Limits::NONE) {
        Ok(_) => {
            if let Ok(merged) = merge_repeated(signal, bytes) {
                assert_eq!(expected.expect("ours").encode_to_vec(), by_prost::<M>(&merged));
            }
        }
        Err(error) => assert!(expected.is_err() || error.kind == DecodeErrorKind::WireType, "{error}"),
    }
    let attributes_max = usize::from(first / 64);
    let limits = Limits {
        record_bytes_max: usize::from(first),
        attributes_per_record_max: attributes_max,
        attributes_per_resource_max: attributes_max,
    };
    if let Ok(admitted) = admit(signal, bytes.to_vec().into(), &limits) {
        M::decode(&admitted.bytes[..]).expect("what is left is legal");
        assert_eq!((admitted.walked.records_over_limit, admitted.walked.shared_over_limit), (0, false));
    }
}

fn by_prost<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    M::decode(bytes).expect("joined messages are legal").encode_to_vec()
}
