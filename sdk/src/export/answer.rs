//! What a collector's answer means, as the OTLP specification says.

use std::time::{Duration, SystemTime};

use crate::config::percent_decode;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use watchbell_proto::wire::{Fields, Value};

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It was taken, but for `rejected` records.
    Accepted { rejected: u64, message: String },
    /// It will never be taken.
    Refused { reason: String },
    /// It should be sent again, `after` some time if the collector says so, which `is_away` if nothing came of it.
    Retry { after: Option<Duration>, reason: String, is_away: bool },
}

impl Answer {
    /// A failure below HTTP.
    pub(super) fn unreachable(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into(), is_away: true }
    }

    /// The answer of OTLP/HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_success() {
            return accepted(body);
        }
        let message = Status::parse(body).message;
        let reason = format!("{status}{}{message}", if message.is_empty() { "" } else { ": " });
        match status.as_u16() {
            429 | 502 | 503 | 504 => Self::Retry { after: retry_after(headers), reason, is_away: false },
            _ => Self::Refused { reason },
        }
    }

    /// The answer of OTLP/gRPC: `trailers` are the trailers, or the headers where there are no others.
    pub(super) fn of_grpc(trailers: &HeaderMap, message: &[u8]) -> Self {
        let text = |name| trailers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let Some(code) = text("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
            return Self::unreachable("the answer has no `grpc-status`: is this a gRPC endpoint?");
        };
        let details = text("grpc-status-details-bin").and_then(|encoded| base64_decode(encoded.as_bytes()));
        let after = Status::parse(&details.unwrap_or_default()).retry_after;
        let told = percent_decode(text("grpc-message").unwrap_or_default()).unwrap_or_default();
        let reason = format!("gRPC status {code}: {told}");
        match code {
            0 => accepted(message),
            // cancelled, deadline exceeded, aborted, out of range, unavailable, data loss
            1 | 4 | 10 | 11 | 14 | 15 => Self::Retry { after, reason, is_away: false },
            8 if after.is_some() => Self::Retry { after, reason, is_away: false }, // resource exhausted, but recovering
            _ => Self::Refused { reason },
        }
    }
}

/// Reads `Export*ServiceResponse { partial_success { rejected_*, error_message } }`.
fn accepted(response: &[u8]) -> Answer {
    let (mut rejected, mut message) = (0, String::new());
    for (number, value) in messages(response, 1).flat_map(Fields::new) {
        match (number, value) {
            (1, Value::Varint(count)) => rejected = count,
            (2, Value::Bytes(text)) => message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    Answer::Accepted { rejected, message }
}

/// What matters here of a `google.rpc.Status`.
#[derive(Default)]
struct Status {
    message: String,
    retry_after: Option<Duration>,
}

impl Status {
    fn parse(bytes: &[u8]) -> Self {
        let message = messages(bytes, 2).last().map(|text| String::from_utf8_lossy(text).into_owned());
        let retry_info =
            messages(bytes, 3).find(|any| messages(any, 1).any(|url| url.ends_with(b"google.rpc.RetryInfo")));
        let delay = retry_info.and_then(|any| messages(any, 2).last()).and_then(|info| messages(info, 1).last());
        Self { message: message.unwrap_or_default(), retry_after: delay.map(duration) }
    }
}

/// Reads a `google.protobuf.Duration`.
fn duration(bytes: &[u8]) -> Duration {
    let part = |wanted| {
        Fields::new(bytes).find_map(|field| match field {
            (number, Value::Varint(value)) if number == wanted => Some(value as i64),
            _ => None,
        })
    };
    let seconds = part(1).unwrap_or(0).max(0) as u64;
    let nanos = part(2).unwrap_or(0).clamp(0, 999_999_999) as u32;
    Duration::new(seconds, nanos)
}

fn messages(bytes: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(bytes).filter_map(move |field| match field {
        (number, Value::Bytes(content)) if number == wanted => Some(content),
        _ => None,
    })
}

/// `Retry-After` in seconds, or as a date (RFC 9110, 10.2.3), counted from the time that it is where the answer comes from.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let date = |text| httpdate::parse_http_date(text).ok();
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(date).unwrap_or_else(SystemTime::now);
    Some(date(after)?.duration_since(now).unwrap_or_default()) // one that has passed is now
}

/// Base64 with or without padding, as gRPC metadata has it.
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for byte in text.iter().filter(|byte| **byte != b'=') {
        let value =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|c| c == byte)?;
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn http_statuses() {
        let answer = |status: u16, retry_after: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match Answer::of_http(status, &headers(&[("retry-after", retry_after)]), b"") {
                Answer::Accepted { .. } => "accepted".to_owned(),
                Answer::Refused { .. } => "refused".to_owned(),
                Answer::Retry { after, .. } => format!("retry {after:?}"),
            }
        };
        assert_eq!(answer(200, ""), "accepted");
        assert_eq!(answer(202, ""), "accepted");
        for status in [400, 401, 403, 404, 413, 415, 500, 501] {
            assert_eq!(answer(status, "1"), "refused", "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(answer(status, "7"), "retry Some(7s)", "{status}");
            assert_eq!(answer(status, "soon"), "retry None", "{status}");
        }
    }

    #[test]
    fn a_retry_may_be_dated() {
        let after = |retry_after, date: Option<&str>| {
            let mut headers = headers(&[("retry-after", retry_after)]);
            date.map(|date| headers.insert(DATE, date.parse().unwrap()));
            super::retry_after(&headers)
        };
        let date = Some("Wed, 21 Oct 2026 07:27:30 GMT");
        for same in ["Wed, 21 Oct 2026 07:28:00 GMT", "Wednesday, 21-Oct-26 07:28:00 GMT", "Wed Oct 21 07:28:00 2026"] {
            assert_eq!(after(same, date), Some(Duration::from_secs(30)), "{same}");
        }
        assert_eq!(after("Wed, 21 Oct 2026 07:27:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(after("Wed, 21 Oct 2026 07:28 GMT", date), None);
        let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        let left = after(&in_an_hour, None).unwrap();
        assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    }

    #[test]
    fn grpc_statuses() {
        let answer = |code: u32| match Answer::of_grpc(&headers(&[("grpc-status", &code.to_string())]), b"") {
            Answer::Accepted { .. } => "accepted",
            Answer::Refused { .. } => "refused",
            Answer::Retry { .. } => "retry",
        };
        let retried: Vec<_> = (0..=16).filter(|code| answer(*code) == "retry").collect();
        assert_eq!(answer(0), "accepted");
        assert_eq!(retried, [1, 4, 10, 11, 14, 15], "resource exhausted (8) is not retried without `RetryInfo`");
    }

    #[test]
    fn retry_info_is_read() {
        // Status { code: 8, details: [Any(RetryInfo { retry_delay: 2.5 s })] }
        let details = "CAgaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIAhCAyrXuAQ";
        let trailers =
            headers(&[("grpc-status", "8"), ("grpc-message", "too%20much"), ("grpc-status-details-bin", details)]);
        let (after, reason) = (Some(Duration::from_millis(2500)), "gRPC status 8: too much".to_owned());
        let wanted = Answer::Retry { after, reason, is_away: false };
        assert_eq!(Answer::of_grpc(&trailers, b""), wanted);
    }

    #[test]
    fn partial_success_is_read() {
        let response = [&[0x0A, 0x0A, 0x08, 0x03, 0x12, 0x06][..], b"no way"].concat();
        let wanted = Answer::Accepted { rejected: 3, message: "no way".to_owned() };
        assert_eq!(Answer::of_http(StatusCode::OK, &HeaderMap::new(), &response), wanted);
    }

    #[test]
    fn answers_that_are_no_protobuf_do_no_harm() {
        for body in [&b"<html>"[..], &[0xFF; 40], &[0x0A, 0xFF], &[]] {
            assert!(matches!(
                Answer::of_http(StatusCode::OK, &HeaderMap::new(), body),
                Answer::Accepted { rejected: 0, .. }
            ));
            assert!(matches!(
                Answer::of_http(StatusCode::BAD_REQUEST, &HeaderMap::new(), body),
                Answer::Refused { .. }
            ));
        }
        assert!(matches!(Answer::of_grpc(&HeaderMap::new(), b""), Answer::Retry { .. }));
    }

    #[test]
    fn base64_of_grpc_metadata() {
        assert_eq!(base64_decode(b"aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64_decode(b"aGVsbG8h").as_deref(), Some(&b"hello!"[..]));
        assert_eq!(base64_decode(b"aA==").as_deref(), Some(&b"h"[..]));
        assert_eq!(base64_decode(b"a b"), None);
    }
}
