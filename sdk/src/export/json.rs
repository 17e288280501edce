//! OTLP/JSON, for collectors that take nothing else: a request is written out of the protobuf that it is, an answer is read into it.

use bytes::Bytes;
use http::StatusCode;
use watchbell_proto::otlp::service::{ExportResponse, Status};
use watchbell_proto::otlp::{self, to_json::to_json};

use crate::config::Signal;

/// The request as JSON.
pub(super) fn request(signal: Signal, message: &[u8]) -> Bytes {
    to_json(kind(signal), message).into()
}

/// The answer as protobuf; one that is no JSON says nothing, as one that is no protobuf.
pub(super) fn answer(signal: Signal, status: StatusCode, body: &[u8]) -> Vec<u8> {
    if status.is_success() {
        return ExportResponse::from_json(kind(signal), body)
            .map(|response| response.to_protobuf())
            .unwrap_or_default();
    }
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|status| Some(status.get("message")?.as_str()?.to_owned()));
    Status::new(0, message.unwrap_or_default()).to_protobuf()
}

fn kind(signal: Signal) -> otlp::Signal {
    match signal {
        Signal::Logs => otlp::Signal::Logs,
        Signal::Traces => otlp::Signal::Traces,
        Signal::Metrics => otlp::Signal::Metrics,
    }
}
