//! A blocking HTTP client for loopback.

use ::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{DEADLINE, RUNTIME};

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }
}

/// The answer to a GET; `None` where nobody answers.
pub(crate) fn get(url: &str) -> Option<Response> {
    send(Request::get(url).body(Full::default()).unwrap())
}

/// The JSON that a GET is answered with.
#[track_caller]
pub(crate) fn get_json(url: &str) -> serde_json::Value {
    get(url).unwrap_or_else(|| panic!("{url} does not answer")).json()
}

/// The answer to a POST; `None` where nobody answers.
pub(crate) fn post(url: &str, content_type: &str, body: impl Into<Bytes>) -> Option<Response> {
    send(Request::post(url).header("content-type", content_type).body(Full::new(body.into())).unwrap())
}

/// Any request over HTTP/1.1.
pub(crate) fn send(request: Request<Full<Bytes>>) -> Option<Response> {
    RUNTIME.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = tokio::time::timeout(DEADLINE, client.request(request)).await.ok()?.ok()?.into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect()).await.ok()?.ok()?.to_bytes();
        Some(Response { status: head.status, headers: head.headers, body })
    })
}

/// `text` for use in a query.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
