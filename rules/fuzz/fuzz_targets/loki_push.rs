//! Any body of Loki's push API becomes an OTLP request that stands the check at the door, with every entry, or is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_rules::loki_push;
use watchbell_rules::query::records::{self, Format};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pushed) = loki_push::from_protobuf(bytes) {
        entries(&pushed);
    }
    if let Ok(pushed) = loki_push::from_json(bytes) {
        let read = records::parse(bytes, Format::LokiPush, &Default::default()).expect("what is pushed can be queried");
        assert_eq!(entries(&pushed) as u64 + pushed.refused, read.len() as u64);
    }
});

fn entries(pushed: &loki_push::Pushed) -> usize {
    LogsRequest::validate(&pushed.request).expect("the door takes it").records().count()
}
