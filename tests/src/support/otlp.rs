//! OTLP/JSON requests, as a client would send them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{self, Response};

/// A log request of one service.
pub(crate) fn logs(service: &str, records: impl IntoIterator<Item = Value>) -> Value {
    json!({"resourceLogs": [{
        "resource": {"attributes": [attribute("service.name", service)]},
        "scopeLogs": [{"scope": {"name": "tests"}, "logRecords": records.into_iter().collect::<Vec<_>>()}],
    }]})
}

/// A record of severity ERROR, stamped now, in the trace [`TRACE_ID`].
pub(crate) fn error(body: &str) -> Value {
    json!({
        "timeUnixNano": now_nanos().to_string(),
        "severityNumber": 17,
        "severityText": "ERROR",
        "body": {"stringValue": body},
        "attributes": [attribute("user.id", "42")],
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
    })
}

/// As [`error`], of severity INFO.
pub(crate) fn info(body: &str) -> Value {
    let mut record = error(body);
    record["severityNumber"] = 9.into();
    record["severityText"] = "INFO".into();
    record
}

pub(crate) fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

pub(crate) fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Posts a log request to the collector's HTTP port; `None` where nobody answers.
pub(crate) fn send(port: u16, request: &Value) -> Option<Response> {
    http::post(&format!("http://127.0.0.1:{port}/v1/logs"), "application/json", request.to_string())
}

/// The trace that all records are in, the clients' under `foreign/` too.
pub(crate) const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const SPAN_ID: &str = "00f067aa0ba902b7";
