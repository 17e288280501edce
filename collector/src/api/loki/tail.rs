//! `tail`: a websocket that is told of records as they come in.
//!
//! A thread, which gives way to all others as a query's does, follows the log and writes messages; they wait in a short queue for the
//! client. Of a message that finds it full the next one that does not tells the entries, as `dropped_entries`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::answer::{Answer, Names, Stream};
use watchbell_rules::query::batches::{Batch, Scanned};
use watchbell_rules::query::{Direction, Limits, Query, When};
use watchbell_rules::time::Timestamp;

use super::metrics::Metrics;
use super::parameters::{CATEGORIZE_LABELS, Parameters};
use super::scan::Scan;
use super::work::{Counted, Stop};
use super::{Failure, Loki};
use crate::priority::give_way;
use crate::wal::{Frame, FrameKind, Log, Position, Progress};

/// `/loki/api/v1/tail`: `query`, `start`, `since`, `limit`, `delay_for`.
pub(super) async fn tail(
    State(loki): State<Loki>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let tail = Tail::new(&loki, &asked)?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let place = Arc::clone(&loki.tails).try_acquire_owned().map_err(|_| Failure {
        status: StatusCode::TOO_MANY_REQUESTS,
        message: format!("{} clients follow the log, the maximum (`tails_max`)", loki.config.tails_max),
    })?;
    Ok(upgrade.on_upgrade(|socket| talk(socket, tail, place)))
}

/// What a client is told.
enum Told {
    Message(String),
    /// Nothing more, and why.
    End(String),
}

async fn talk(mut socket: WebSocket, tail: Tail, place: OwnedSemaphorePermit) {
    let (tell, mut told) = mpsc::channel(TAIL_MESSAGES_MAX);
    let runtime = tokio::runtime::Handle::current();
    let thread = move || {
        let _place = (place, Counted::new(&tail.loki.workshop.metrics().tails));
        give_way();
        tail.run(&tell, &runtime);
    };
    if let Err(error) = std::thread::Builder::new().name("tail".to_owned()).spawn(thread) {
        tracing::warn!(%error, "no thread for a tail");
        return;
    }
    let mut ping = tokio::time::interval(PING_INTERVAL);
    loop {
        let sent = tokio::select! {
            told = told.recv() => match told {
                Some(Told::Message(text)) => socket.send(Message::Text(text.into())).await,
                Some(Told::End(reason)) => {
                    let frame = CloseFrame { code: close_code::ERROR, reason: cut(&reason).into() };
                    let _ = socket.send(Message::Close(Some(frame))).await;
                    return;
                }
                None => return,
            },
            _ = ping.tick() => socket.send(Message::Ping(Vec::new().into())).await,
            heard = socket.recv() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => Ok(()),
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A close frame has room for little.
fn cut(reason: &str) -> &str {
    let end = (0..=reason.len().min(CLOSE_REASON_BYTES_MAX)).rev().find(|at| reason.is_char_boundary(*at));
    &reason[..end.unwrap_or(0)]
}

/// A client's wish to follow the log.
struct Tail {
    loki: Loki,
    text: String,
    limits: Limits,
    start: Timestamp,
    /// Records are told this long after they came, so that late ones come in their order.
    delay: Duration,
}

impl Tail {
    fn new(loki: &Loki, asked: &Parameters) -> Result<Self, Failure> {
        let (start, _) = asked.bounds(loki.clock.now())?;
        let delay = match asked.get("delay_for") {
            "" => 0,
            text => text.parse().ok().filter(|seconds| *seconds <= DELAY_SECONDS_MAX).ok_or_else(|| {
                Failure::bad_request(format!("`delay_for`: `{text}`: write whole seconds up to {DELAY_SECONDS_MAX}"))
            })?,
        };
        let limits = Limits {
            limit: asked.limit("limit", Limits::default().limit)?,
            categorize: asked.categorize,
            query_memory_bytes_max: loki.config.query_memory_bytes_max,
            ..Limits::default()
        };
        let tail = Self {
            loki: loki.clone(),
            text: asked.get("query").to_owned(),
            limits,
            start,
            delay: Duration::from_secs(delay),
        };
        if limits.limit > loki.config.entries_max {
            return Err(Failure::bad_request(format!(
                "`limit` {} is over {}, the maximum (`entries_max`)",
                limits.limit, loki.config.entries_max
            )));
        }
        match tail.following()?.is_log() {
            true => Ok(tail),
            false => Err(Failure::bad_request("to follow the log is for lines, and this expression yields numbers")),
        }
    }

    /// What every record that comes in is given to.
    fn following(&self) -> Result<Query, Failure> {
        let limits = Limits { limit: usize::MAX, direction: Direction::Forward, ..self.limits };
        Ok(Query::new(&self.text, When::Range { start: self.start, end: Timestamp::MAX, step: STEP }, limits)?)
    }

    fn run(&self, tell: &mpsc::Sender<Told>, runtime: &tokio::runtime::Handle) {
        if let Err(failure) = self.follow(tell, runtime) {
            // The client may be gone.
            let _ = tell.blocking_send(Told::End(failure.message));
        }
    }

    fn follow(&self, tell: &mpsc::Sender<Told>, runtime: &tokio::runtime::Handle) -> Result<(), Failure> {
        let log = self.loki.source.log();
        let mut progress = log.progress();
        let mut from = log.end();
        let metrics = self.loki.workshop.metrics();
        let mut teller = Teller { tell, metrics, categorize: self.limits.categorize, dropped: Vec::new() };
        if !teller.tell(self.history(&*log, from)?) {
            return Ok(());
        }
        let mut query = self.following()?;
        loop {
            progress.borrow_and_update();
            if log.oldest() > from && log.end() > from {
                return Err(Failure::bad_request("the log has let go of records before they could be told"));
            }
            let frames = log.read(from, READ_BYTES_MAX)?;
            let due = self.due(&*log, &frames);
            for frame in &frames[..due] {
                from = frame.next;
                self.add(&mut query, frame)?;
            }
            if !teller.tell(query.take_streams()) {
                return Ok(());
            }
            let is_early = due < frames.len();
            if (is_early || frames.is_empty()) && !runtime.block_on(wait(tell, &mut progress, is_early)) {
                return Ok(());
            }
        }
    }

    /// The last records that are there already.
    fn history(&self, log: &dyn Log, until: Position) -> Result<Vec<Stream>, Failure> {
        let end = self.loki.clock.now();
        if self.start >= end {
            return Ok(Vec::new());
        }
        let (labels, stop) = (self.loki.source.labels(), Stop::default());
        let mut query = Query::new(&self.text, When::Range { start: self.start, end, step: STEP }, self.limits)?;
        let metrics = self.loki.workshop.metrics();
        let mut scan = Scan::new(log, &labels, &stop, metrics, self.loki.config.query_bytes_max).until(until);
        scan.query(&mut query)?;
        let Answer::Streams(mut streams) = query.answer()? else { return Ok(Vec::new()) };
        // Of one time, the one that came first comes first.
        streams.iter_mut().for_each(|stream| stream.entries.reverse());
        Ok(streams)
    }

    /// How many of the frames came long enough ago.
    fn due(&self, log: &dyn Log, frames: &[Frame]) -> usize {
        if self.delay.is_zero() {
            return frames.len();
        }
        let until = log.now() - self.delay;
        frames.iter().take_while(|frame| frame.received <= until).count()
    }

    fn add(&self, query: &mut Query, frame: &Frame) -> Result<(), Failure> {
        if frame.kind == FrameKind::Batch {
            let request = LogsRequest::new(&frame.payload);
            let batch = Batch { request, received: frame.received, position: frame.position.0 };
            query.add_batch(&batch, &self.loki.source.labels(), &mut Scanned::default(), &|| false)?;
        }
        Ok(())
    }
}

/// Until something came in, or for a while where something is there that is to be told later; `false` when the client is gone.
async fn wait(tell: &mpsc::Sender<Told>, progress: &mut watch::Receiver<Progress>, is_early: bool) -> bool {
    if is_early {
        tokio::time::sleep(EARLY_PAUSE).await;
        return !tell.is_closed();
    }
    tokio::select! {
        () = tell.closed() => false,
        changed = progress.changed() => changed.is_ok(),
    }
}

/// Puts messages into the client's queue, and keeps what did not fit in mind.
struct Teller<'a> {
    tell: &'a mpsc::Sender<Told>,
    metrics: &'a Metrics,
    categorize: bool,
    dropped: Vec<(Timestamp, Labels)>,
}

impl Teller<'_> {
    /// `false` when the client is gone.
    fn tell(&mut self, streams: Vec<Stream>) -> bool {
        if streams.is_empty() {
            return !self.tell.is_closed();
        }
        let place = match self.tell.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Closed(())) => return false,
            Err(mpsc::error::TrySendError::Full(())) => {
                let entries = streams
                    .iter()
                    .flat_map(|stream| stream.entries.iter().map(|entry| (entry.time, stream.labels.clone())));
                self.metrics.tail_dropped.inc_by(entries.clone().count() as u64);
                let room = DROPPED_ENTRIES_MAX - self.dropped.len();
                self.dropped.extend(entries.take(room));
                return true;
            }
        };
        let dropped = self
            .dropped
            .iter()
            .map(|(time, labels)| Dropped { timestamp: time.nanos().to_string(), labels: Names(labels) });
        let response = TailResponse {
            streams: by_time(streams),
            dropped_entries: dropped.collect(),
            encoding_flags: self.categorize.then_some([CATEGORIZE_LABELS]),
        };
        place.send(Told::Message(serde_json::to_string(&response).expect("it has string keys alone")));
        self.dropped.clear();
        true
    }
}

/// A stream for each entry, in the order of their times: clients show entries in the order in which they come.
fn by_time(streams: Vec<Stream>) -> Vec<Stream> {
    let alone = |Stream { labels, entries }| {
        entries.into_iter().map(move |entry| Stream { labels: labels.clone(), entries: vec![entry] })
    };
    let mut entries: Vec<Stream> = streams.into_iter().flat_map(alone).collect();
    entries.sort_by_key(|stream| stream.entries[0].time);
    entries
}

#[derive(Serialize)]
struct TailResponse<'a> {
    streams: Vec<Stream>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropped_entries: Vec<Dropped<'a>>,
    #[serde(rename = "encodingFlags", skip_serializing_if = "Option::is_none")]
    encoding_flags: Option<[&'static str; 1]>,
}

#[derive(Serialize)]
struct Dropped<'a> {
    timestamp: String,
    labels: Names<'a>,
}

/// Messages that wait for one client; what finds no room is dropped, and told.
const TAIL_MESSAGES_MAX: usize = 64;
/// Dropped entries that are told to a client one by one.
const DROPPED_ENTRIES_MAX: usize = 1000;
/// As in Loki.
const DELAY_SECONDS_MAX: u64 = 5;
/// What a websocket takes as the reason of its end.
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Payload that is read at once.
const READ_BYTES_MAX: usize = 1 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(10);
const EARLY_PAUSE: Duration = Duration::from_millis(200);
/// A log query has no steps.
const STEP: Duration = Duration::from_secs(1);
