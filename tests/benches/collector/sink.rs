//! The far end: takes OTLP/gRPC and webhooks on one port, counts bytes, and notes when a page's first byte came.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::Result;

#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) bytes: AtomicU64,
    /// Value of the label `page` of each page, and when its request began to come in.
    pub(crate) pages: Mutex<HashMap<String, Instant>>,
}

impl Sink {
    /// Listens on a free port; gives its address.
    pub(crate) async fn start() -> Result<(Arc<Self>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let sink = Arc::new(Self::default());
        let served = Arc::clone(&sink);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = Arc::clone(&served);
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&sink), request));
                    // A connection that the collector cuts off is the end of that connection and no more.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok((sink, address))
    }
}

async fn answer(
    sink: Arc<Sink>,
    request: Request<Incoming>,
) -> std::result::Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let arrived = Instant::now();
    let is_page = request.uri().path() == "/page";
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    sink.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    if is_page {
        note_page(&sink, &body, arrived);
        return Ok(Response::new(Full::from("").boxed_unsync()));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(&[0u8, 0, 0, 0, 0][..]).with_trailers(async { Some(Ok(trailers)) }).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn note_page(sink: &Sink, body: &[u8], arrived: Instant) {
    let Ok(page) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let mut pages = sink.pages.lock().unwrap_or_else(PoisonError::into_inner);
    for alert in page["alerts"].as_array().into_iter().flatten() {
        if let (Some("firing"), Some(name)) = (alert["status"].as_str(), alert["labels"]["page"].as_str()) {
            pages.entry(name.to_owned()).or_insert(arrived);
        }
    }
}
