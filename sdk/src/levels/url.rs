//! Levels that an HTTP server is asked for, again and again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::Context;

use super::Shared;
use super::watch::Source;
use crate::config::{Access, Protocol, without_query};
use crate::encode::ErrorChain;
use crate::tell;
use crate::tls::{Connector, Tls};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the longest answer that is read (64 KiB).
const ANSWER_BYTES: usize = 64 * 1024;

/// Least time between two questions.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Starts a thread that asks until the end; what is in the way is told.
pub(super) fn start(uri: Uri, interval: Duration, Access { headers, tls }: Access, levels: &Arc<Shared>) {
    let (levels, end) = (Arc::downgrade(levels), Arc::clone(&levels.end));
    let started = client(&uri, tls).and_then(|client| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let poll = Poll {
            client,
            headers,
            last: None,
            source: Source::new(without_query(&uri.to_string()).to_owned()),
            uri: uri.clone(),
        };
        let run = move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(async {
                tokio::select! {
                    () = poll.run(interval.max(INTERVAL_MIN), &levels) => {}
                    () = end.told() => {}
                }
            });
            runtime.shutdown_background(); // the name of the server may be looked up still
        };
        let thread = std::thread::Builder::new().name("watchbell-levels".to_owned()).spawn(run);
        thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    });
    if let Err(error) = started {
        tell::warn(format_args!("the levels are not asked for at `{}`: {error}", without_query(&uri.to_string())));
    }
}

fn client(uri: &Uri, tls: Tls) -> Result<Client<Connector, Empty<Bytes>>, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(TIMEOUT));
    let connector = tls.connector(uri, http, Protocol::HttpProtobuf)?;
    Ok(Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).build(connector))
}

struct Poll {
    client: Client<Connector, Empty<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    /// The last answer with levels, and its `ETag`.
    last: Option<(String, HeaderValue)>,
    source: Source,
}

impl Poll {
    async fn run(mut self, interval: Duration, levels: &Weak<Shared>) {
        loop {
            let asked = tokio::time::timeout(TIMEOUT, self.ask()).await;
            self.source.take(asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}"))), levels);
            tokio::time::sleep(interval).await;
        }
    }

    /// What the server says: the text of the levels, empty where it has none.
    async fn ask(&mut self) -> Result<String, String> {
        let reason = |error: &(dyn std::error::Error + 'static)| ErrorChain(error).to_string();
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let ours = HeaderValue::from_static(concat!("watchbell-rust/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, ours);
        if let Some((_, tag)) = &self.last {
            request.headers_mut().insert(IF_NONE_MATCH, tag.clone());
        }
        let (head, body) = self.client.request(request).await.map_err(|error| reason(&error))?.into_parts();
        match (head.status, &self.last) {
            (StatusCode::OK, _) => {}
            (StatusCode::NO_CONTENT, _) => return Ok(String::new()),
            (StatusCode::NOT_MODIFIED, Some((text, _))) => return Ok(text.clone()),
            (status, _) => return Err(format!("the server answers {status}")),
        }
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| reason(&*error))?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is not UTF-8".to_owned())?;
        self.last = head.headers.get(ETAG).map(|tag| (text.clone(), tag.clone()));
        Ok(text)
    }
}
