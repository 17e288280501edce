//! Whatever comes as JSON is refused or becomes a legal request. The first byte chooses the signal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_proto::otlp::{Limits, Signal, json, validate};

fuzz_target!(|input: &[u8]| {
    let Some((first, text)) = input.split_first() else { return };
    let signal = Signal::ALL[usize::from(first % 3)];
    if let Ok(bytes) = json::to_protobuf(signal, text, usize::MAX) {
        validate(signal, &bytes, &Limits::NONE).expect("a legal request");
    }
});
