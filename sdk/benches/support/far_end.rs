//! An OTLP receiver, gRPC and HTTP on one port, that counts records and keeps none.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use watchbell_proto::otlp::logs::LogsRequest;

/// Compression flag and length before a gRPC message.
const GRPC_PREFIX: usize = 5;

pub(crate) struct FarEnd {
    endpoint: String,
    records: Arc<AtomicU64>,
}

impl FarEnd {
    /// Listens on a free port, in a thread of its own for as long as the process runs.
    pub(crate) fn start() -> Self {
        let records = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&records);
        let (address, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                address.send(listener.local_addr().expect("an address")).expect("a waiting thread");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    tokio::spawn(serve(stream, Arc::clone(&counted)));
                }
            });
        });
        Self { endpoint: format!("http://{}", receiver.recv().expect("an address")), records }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How many have come so far.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

async fn serve(stream: tokio::net::TcpStream, records: Arc<AtomicU64>) {
    let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&records)));
    // A client that cuts its connection off ends that connection and no more.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, records: Arc<AtomicU64>) -> Result<Answer, Infallible> {
    let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::new(Full::default().boxed_unsync()));
    };
    let body = body.to_bytes();
    let message = &body[if is_grpc { GRPC_PREFIX } else { 0 }..];
    records.fetch_add(LogsRequest::new(message).records().count() as u64, Ordering::Relaxed);
    if !is_grpc {
        return Ok(Response::new(Full::default().boxed_unsync()));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let empty = Full::from(&[0_u8; GRPC_PREFIX][..]);
    let mut response = Response::new(empty.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
