//! OTLP/gRPC, spoken on HTTP/2 directly: unary calls of one message need no more than a five-byte prefix, and so the
//! message's bytes reach the log as they came.

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use watchbell_proto::otlp::Signal;

use super::answer::{Accepted, Body, Refusal, grpc_message};
use super::connection::{Call, Port, Transport};
use super::decompress::Encoding;

/// Whether a request is gRPC's.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers one call.
pub(super) async fn answer(port: &Port, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == HEALTH_CHECK {
        return health(port);
    }
    let signal = signal(request.uri().path());
    let mut call = port.call(Transport::Grpc, request.version(), signal);
    let outcome = take(port, &mut call, signal, request).await;
    call.finish(&outcome);
    outcome.map_or_else(|refusal| refusal.to_grpc(), |accepted| accepted.to_grpc())
}

async fn take(
    port: &Port,
    call: &mut Call,
    signal: Option<Signal>,
    request: Request<Incoming>,
) -> Result<Accepted, Refusal> {
    port.admit(request.headers())?;
    let signal = signal.ok_or_else(|| Refusal::NotFound(request.uri().path().to_owned()))?;
    if request.method() != Method::POST {
        return Err(Refusal::MethodNotAllowed);
    }
    if request.version() != Version::HTTP_2 {
        return Err(Refusal::UnsupportedMediaType("application/grpc over HTTP/1.1".to_owned()));
    }
    let encoding = Encoding::parse(request.headers().get("grpc-encoding"))?;
    let body = call.read(request.into_body(), port.bytes_max + PREFIX_BYTES).await?;
    let (message, compressed) = message(body)?;
    let encoding = match (compressed, encoding) {
        (false, _) => Encoding::Identity,
        (true, Encoding::Identity) => {
            return Err(Refusal::Malformed(
                "the message is marked compressed, but `grpc-encoding` names no way".into(),
            ));
        }
        (true, encoding) => encoding,
    };
    let message = call.decompress(encoding, message, port.bytes_max)?;
    port.intake.take(signal, message).await
}

/// The one message of a unary call and whether it is compressed.
fn message(mut body: Bytes) -> Result<(Bytes, bool), Refusal> {
    if body.len() < PREFIX_BYTES {
        return Err(Refusal::Malformed("the call holds no gRPC message".into()));
    }
    let (flag, len) = (body.get_u8(), body.get_u32() as usize);
    if flag > 1 {
        return Err(Refusal::Malformed(format!("{flag} is no compressed-flag of a gRPC message")));
    }
    if body.len() != len {
        return Err(Refusal::Malformed(format!(
            "the gRPC message should have {len} bytes, {} came; a call is one message",
            body.len()
        )));
    }
    Ok((body, flag == 1))
}

fn signal(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        _ => None,
    }
}

/// `grpc.health.v1`: what a probe of the port asks. `SERVING` or, while draining, `NOT_SERVING`.
fn health(port: &Port) -> Response<Body> {
    grpc_message(if port.is_draining() { &[8, 2] } else { &[8, 1] })
}

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
