//! The load: OTLP/gRPC and OTLP/HTTP clients that send batches as fast as they are answered, or at a pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::Result;
use crate::batch::Batch;

/// How a batch travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    Http,
}

/// A client with one connection.
#[derive(Clone)]
pub(crate) struct Sender {
    transport: Transport,
    client: Client<HttpConnector, Full<Bytes>>,
    uri: String,
}

impl Sender {
    pub(crate) fn new(transport: Transport, address: &str) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        let path = match transport {
            Transport::Grpc => {
                builder
                    .http2_only(true)
                    .http2_initial_stream_window_size(4 << 20)
                    .http2_initial_connection_window_size(8 << 20);
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
            }
            Transport::Http => "/v1/logs",
        };
        let mut connector = HttpConnector::new();
        // Else the kernel holds a small request back until the one before is acknowledged, for up to 40 ms.
        connector.set_nodelay(true);
        Self { transport, client: builder.build(connector), uri: format!("http://{address}{path}") }
    }

    /// Sends a request; tells whether it was taken.
    pub(crate) async fn send(&self, request: Vec<u8>) -> Result<bool> {
        let (content_type, body) = match self.transport {
            Transport::Grpc => ("application/grpc", framed(&request)),
            Transport::Http => ("application/x-protobuf", request),
        };
        let mut builder = http::Request::post(&self.uri).header("content-type", content_type);
        if self.transport == Transport::Grpc {
            builder = builder.header("te", "trailers");
        }
        let answer = self.client.request(builder.body(Full::from(body))?).await?;
        let (head, body) = answer.into_parts();
        let collected = body.collect().await?;
        let grpc_status = collected.trailers().or(Some(&head.headers)).and_then(|headers| headers.get("grpc-status"));
        Ok(match self.transport {
            Transport::Grpc => grpc_status.is_some_and(|status| status == "0"),
            Transport::Http => head.status.is_success(),
        })
    }
}

/// gRPC's five bytes before a message: not compressed, and its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) taken_records: u64,
    pub(crate) refused_records: u64,
    pub(crate) seconds: f64,
    /// Sorted, in seconds.
    pub(crate) answers: Vec<f64>,
}

impl Report {
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        quantile(&self.answers, q)
    }
}

/// The `q`-quantile of sorted values.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n => sorted[((n - 1) as f64 * q).round() as usize],
    }
}

/// Sends batches from `clients` clients for a time, at `records_per_second` altogether (0: as fast as they are answered).
pub(crate) async fn run(
    transport: Transport,
    address: &str,
    clients: usize,
    records_per_second: u64,
    duration: Duration,
    batch_records: u64,
) -> Result<Report> {
    let start = Instant::now();
    let refused = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (sender, refused) = (Sender::new(transport, address), Arc::clone(&refused));
        let batch = Batch::new(client, batch_records);
        let pace = (records_per_second > 0)
            .then(|| Duration::from_secs_f64(batch_records as f64 * clients as f64 / records_per_second as f64));
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            let mut next = Instant::now();
            while start.elapsed() < duration {
                if let Some(pace) = pace {
                    tokio::time::sleep_until(next.into()).await;
                    next += pace;
                }
                let request = batch.stamped(now_nanos());
                let sent = Instant::now();
                match sender.send(request).await {
                    Ok(true) => answers.push(sent.elapsed().as_secs_f64()),
                    Ok(false) | Err(_) => {
                        refused.fetch_add(batch.records, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            answers
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await?);
    }
    answers.sort_by(f64::total_cmp);
    Ok(Report {
        taken_records: answers.len() as u64 * batch_records,
        refused_records: refused.load(Ordering::Relaxed),
        seconds: start.elapsed().as_secs_f64(),
        answers,
    })
}

/// Wall-clock time.
pub(crate) fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
