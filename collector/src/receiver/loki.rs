//! Loki's push API: Snappy-compressed protobuf, or JSON. A request becomes the OTLP request that says the same (see [`loki_push`]) and goes
//! the way of all others, through the same limits.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use watchbell_proto::otlp::Signal;
use watchbell_proto::snappy::{self, DecompressError};
use watchbell_rules::loki_push::{self, Pushed};

use super::answer::{Accepted, Body, Refusal};
use super::connection::{Call, Port, RequestBody, Transport};
use super::decompress::Encoding;
use super::off_the_event_loop;

/// Where logs are pushed to.
pub(super) const PATH: &str = "/loki/api/v1/push";

/// Answers one request.
pub(super) async fn answer(port: &Port, request: Request<impl RequestBody>) -> Response<Body> {
    let mut call = port.call(Transport::Loki, request.version(), Some(Signal::Logs));
    let outcome = take(port, &mut call, request).await;
    call.finish(&outcome);
    outcome.map_or_else(|refusal| refusal.to_loki(), |accepted| accepted.to_loki())
}

async fn take(port: &Port, call: &mut Call, request: Request<impl RequestBody>) -> Result<Accepted, Refusal> {
    let (head, body) = request.into_parts();
    let checked = port.admit(&head.headers).and_then(|()| match head.method {
        Method::POST => encoding(&head.headers),
        _ => Err(Refusal::MethodNotAllowed),
    });
    let encoding = match checked {
        Ok(encoding) => encoding,
        Err(refusal) => {
            call.discard(body).await;
            return Err(refusal);
        }
    };
    let body = call.read(body, port.bytes_max).await?;
    let body = call.decompress(encoding, body, port.bytes_max)?;
    let pushed = match is_json(&head.headers) {
        true => from_json(call, &body)?,
        false => {
            from_protobuf(call, &body, port.bytes_max).map_err(|refusal| type_meant(refusal, &head.headers, &body))?
        }
    };
    drop(body);
    if pushed.request.len() > port.bytes_max {
        return Err(Refusal::TooLarge { bytes_max: port.bytes_max });
    }
    if pushed.request.is_empty() && pushed.refused == 0 {
        return Err(Refusal::NoEntries);
    }
    let mut accepted = port.intake.take(Signal::Logs, pushed.request.into()).await?;
    if pushed.refused > 0 {
        let (cut, reason) = accepted.rejected.unwrap_or_else(|| (0, pushed.reason.unwrap_or_default()));
        accepted.rejected = Some((cut + pushed.refused, reason));
    }
    Ok(accepted)
}

fn from_json(call: &mut Call, json: &[u8]) -> Result<Pushed, Refusal> {
    // The entries lie beside the text, and the request beside both.
    call.hold.grow(2 * json.len())?;
    let pushed = off_the_event_loop(json.len(), || loki_push::from_json(json));
    pushed.map_err(|error| Refusal::Malformed(error.to_string()))
}

fn from_protobuf(call: &mut Call, compressed: &[u8], bytes_max: usize) -> Result<Pushed, Refusal> {
    let message = off_the_event_loop(compressed.len(), || snappy::decompress(compressed, bytes_max));
    let message = Bytes::from(message.map_err(|error| match error {
        DecompressError::TooLarge { bytes_max } => Refusal::TooLarge { bytes_max },
        DecompressError::Corrupt(_) => Refusal::Malformed(format!("the body is no push request: {error}")),
    })?);
    call.hold.grow(2 * message.len())?;
    let pushed = off_the_event_loop(message.len(), || loki_push::from_protobuf(&message));
    pushed.map_err(|error| Refusal::Malformed(error.to_string()))
}

/// What cannot be read as protobuf and looks like JSON was sent without its type, as curl does.
fn type_meant(refusal: Refusal, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let is_malformed = matches!(refusal, Refusal::Malformed(_));
    if !is_malformed || !body.trim_ascii_start().starts_with(b"{") {
        return refusal;
    }
    let named = headers.get(CONTENT_TYPE).map(|value| format!("is `{}`", String::from_utf8_lossy(value.as_bytes())));
    let named = named.unwrap_or_else(|| "is missing".to_owned());
    Refusal::Malformed(format!(
        "the body looks like JSON, and its content type {named}: send `Content-Type: application/json` (curl: `-H 'Content-Type: application/json'`)"
    ))
}

/// Anything else is protobuf, also where no type is named.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Clients also name the compression that is inside of the protobuf form.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        Some(b"snappy") => Ok(Encoding::Identity),
        Some(b"deflate") => Ok(Encoding::Deflate),
        _ => Encoding::parse(headers.get(CONTENT_ENCODING)),
    }
}
