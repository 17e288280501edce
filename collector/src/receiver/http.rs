//! OTLP/HTTP: protobuf and JSON by POST.

use http::{Method, Request, Response};
use hyper::body::Incoming;
use watchbell_proto::otlp::Signal;

use super::answer::{Accepted, Body, Format, Refusal};
use super::connection::{Call, Port, Transport};
use super::decompress::Encoding;
use super::loki;

/// Answers one request.
pub(super) async fn answer(port: &Port, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == loki::PATH {
        return loki::answer(port, request).await;
    }
    let signal = signal(request.uri().path());
    let mut call = port.call(Transport::Http, request.version(), signal);
    let format = Format::parse(request.headers().get(http::header::CONTENT_TYPE));
    let outcome = take(port, &mut call, signal, format.clone(), request).await;
    call.finish(&outcome);
    match (outcome, signal) {
        (Ok(accepted), Some(signal)) => accepted.to_http(signal, format.unwrap_or(Format::Json)),
        (Ok(_), None) => Refusal::NotFound(String::new()).to_http(Format::Json),
        // Whoever names no type that we know is likely to be a person with curl.
        (Err(refusal), _) => refusal.to_http(format.unwrap_or(Format::Json)),
    }
}

async fn take(
    port: &Port,
    call: &mut Call,
    signal: Option<Signal>,
    format: Result<Format, Refusal>,
    request: Request<Incoming>,
) -> Result<Accepted, Refusal> {
    let (head, body) = request.into_parts();
    let signal = signal.ok_or_else(|| Refusal::NotFound(head.uri.path().to_owned()));
    let checked = port.admit(&head.headers).and(signal).and_then(|signal| {
        if head.method != Method::POST {
            return Err(Refusal::MethodNotAllowed);
        }
        Ok((signal, format?, Encoding::parse(head.headers.get(http::header::CONTENT_ENCODING))?))
    });
    let (signal, format, encoding) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            call.discard(body).await;
            return Err(refusal);
        }
    };
    let body = call.read(body, port.bytes_max).await?;
    let body = call.decompress(encoding, body, port.bytes_max)?;
    let request = match format {
        Format::Protobuf => body,
        Format::Json => call.transcode(signal, &body, port.bytes_max)?,
    };
    port.intake.take(signal, request).await
}

fn signal(path: &str) -> Option<Signal> {
    match path {
        "/v1/logs" => Some(Signal::Logs),
        "/v1/traces" => Some(Signal::Traces),
        "/v1/metrics" => Some(Signal::Metrics),
        _ => None,
    }
}
